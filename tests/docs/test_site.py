"""The documentation as a site: built without a warning, with every page and every public name, and no dead link."""

import importlib
import inspect
import os
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from resilient import errors, events

from . import pages

MODULES = [
    "resilient",
    "resilient.degradation",
    "resilient.metrics",
    "resilient.orchestrator",
    "resilient.orchestrator.executors",
    "resilient.strategies",
    "resilient.testing",
    "resilient.testing.faults",
    "resilient.testing.scenarios",
    "resilient.testing.simulation",
    "resilient.web",
]
SOURCES = sorted(page for kind in ("md", "rst") for page in pages.DOCS.rglob(f"*.{kind}"))


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site that tox has built, or one made now."""
    if built := os.environ.get("RESILIENT_SITE"):
        return Path(built)
    folder = tmp_path_factory.mktemp("site")
    made = subprocess.run(  # noqa: S603 - the command of tox.ini
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", pages.DOCS, folder],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    return folder


@dataclass
class Reading(HTMLParser):
    """What a page of the site leads to, what can be led to in it, and its code."""

    links: list[str] = field(default_factory=list)
    sidebar: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)
    code: str = ""
    _inside: str = ""

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.anchors.add(found.get("id", ""))
        if tag == "pre" or found.get("class") == "sidebar-tree":
            self._inside = tag
        for target in filter(None, (found.get("href"), found.get("src"))):
            self.links.append(target)
            if self._inside == "div":
                self.sidebar.append(target)

    def handle_endtag(self, tag: str) -> None:
        if tag == self._inside:
            self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "pre":
            self.code += data


@cache
def read(page: Path) -> Reading:
    reading = Reading()
    reading.feed(page.read_text(encoding="utf-8"))
    return reading


def built(site: Path, source: Path) -> Path:
    return site / source.relative_to(pages.DOCS).with_suffix(".html")


def described(site: Path) -> set[str]:
    """Every name that the pages made from docstrings describe, modules included."""
    anchors = [read(built(site, page)).anchors for page in (pages.DOCS / "reference" / "api").glob("*.rst")]
    return {anchor.removeprefix("module-") for anchor in set().union(*anchors)}


def find(dotted: str) -> object:
    """What a module has under a name; None where what stands before the name is no module."""
    module, _, name = dotted.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError:
        return None


def test_every_page_is_in_the_navigation(site: Path) -> None:
    """The side of the front page leads to every other page."""
    found = {(site / unquote(target)).resolve() for target in read(site / "index.html").sidebar}

    assert {built(site, page).resolve() for page in SOURCES} - found == {(site / "index.html").resolve()}


@pytest.mark.parametrize("page", SOURCES, ids=lambda page: str(page.relative_to(pages.DOCS)))
def test_links(page: Path, site: Path) -> None:
    """Whatever a page of the site leads to inside the site is there, to the anchor."""
    here = built(site, page)
    for target in read(here).links:
        parts = urlsplit(target)
        if parts.scheme or parts.netloc:
            continue
        there = (here.parent / unquote(parts.path)).resolve() if parts.path else here
        assert there.is_file(), target
        if parts.fragment and there.suffix == ".html":
            assert unquote(parts.fragment) in read(there).anchors, target


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_described(module: str, site: Path) -> None:
    """Every name of a public module's `__all__` is described, there or under the module where it is at home."""
    names = described(site)

    assert module in names
    for name in importlib.import_module(module).__all__:
        thing = find(f"{module}.{name}")
        assert any(find(known) is thing for known in names if known.endswith(f".{name}")), name


def test_every_error_and_event_is_described(site: Path) -> None:
    """Errors and events have no `__all__`; all of them are described."""
    kinds = [kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, Exception)]
    kinds += [kind for kind in events.Event.kinds if kind.__module__ == "resilient.events"]

    assert {f"{kind.__module__}.{kind.__name__}" for kind in kinds} <= described(site)


def test_examples_in_docstrings_are_shown_as_code(site: Path) -> None:
    """Lines of Python in a docstring come line by line, also where they are not indented."""
    example = '@circuit_breaker("payments", failure_threshold=5)\ndef charge(order): ...\n\nregistry.circuit_breakers'

    assert example in read(site / "reference" / "api" / "resilient.html").code


def test_nothing_of_the_machine_is_told(site: Path) -> None:
    """No page of the site names a folder of where it was made, or an address in memory."""
    for page in SOURCES:
        text = built(site, page).read_text(encoding="utf-8")
        assert str(pages.ROOT) not in text
        assert " at 0x" not in text
