"""The page about `resilient.testing` names what the package has: options, defaults, members, faults."""

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from resilient import testing
from resilient.testing import faults

from . import pages
from .test_reference import REFERENCE, words

PAGE = "testing.md"
#: Where the names of the package are described; each page begins with an import of its own.
PAGES = [
    *(REFERENCE / name for name in (PAGE, "recovery-testing.md", "simulation.md", "scenario-files.md")),
    pages.DOCS / "how-to" / "ready-scenarios.md",
]
OPTIONS: dict[str, Any] = {
    "inject": testing.inject,
    "FaultProxy": testing.FaultProxy,
    "add": testing.FaultProxy.add,
    "VirtualClock": testing.VirtualClock,
}
_ASKED_BY_THE_PROXY = {
    "cuts",
    "cuts_after",
    "delay",
    "delays",
    "draws_for",
    "meets",
    "note",
    "number",
    "settings",
    "slows",
}
#: Classes with a table of members, and what of them is no business of a user.
MEMBERS: dict[type[Any], set[str]] = {
    testing.Injection: {"owned"},
    testing.FaultProxy: {"owned"},
    testing.ProxyFault: _ASKED_BY_THE_PROXY,
    testing.VirtualClock: {"acquire", "autojump"},
    faults.Fault: set(),
}
#: What its `__init__` puts into an injection.
ATTRIBUTES = {testing.Injection: vars(testing.inject("json:dumps", faults.Latency(0)))}


def own(function: Any) -> list[inspect.Parameter]:
    """The parameters that a caller gives."""
    return [one for one in inspect.signature(function).parameters.values() if one.name != "self"]


def default(parameter: inspect.Parameter) -> str:
    """A default as the tables show it."""
    if parameter.default is inspect.Parameter.empty:
        return "required"
    return f"`{parameter.default!r}`"


@pytest.mark.parametrize("name", OPTIONS)
def test_options(name: str) -> None:
    """Each option has its row, in order, with its default; no row is left over."""
    documented = {option: row[2] for option, row in words(PAGE, f"option of `{name}`").items()}

    assert list(documented.items()) == [(one.name, default(one)) for one in own(OPTIONS[name])]


@pytest.mark.parametrize("kind", MEMBERS, ids=lambda kind: kind.__name__)
def test_members(kind: type[Any]) -> None:
    """Each public member has its row; no row is left over."""
    heading = f"{'method' if kind is faults.Fault else 'member'} of `{kind.__name__}`"
    shown = [one for cell in words(PAGE, heading) for one in cell.split("`, `")]
    documented = {one.removeprefix("await ").partition("(")[0] for one in shown}
    names = {name for name in (*dir(kind), *ATTRIBUTES.get(kind, {})) if not name.startswith("_")}

    assert documented == names - MEMBERS[kind]


@pytest.mark.parametrize("name", faults.__all__)
def test_faults(name: str) -> None:
    """Each fault has its row, with its parameters and their defaults."""
    shown = words(PAGE, "fault")[name][1].replace('"', "'")

    for one in own(getattr(faults, name).__init__) if name != "Fault" else []:
        expected = f"`{one.name}`, required" if default(one) == "required" else f"`{one.name}={one.default!r}`"
        assert expected in shown


def test_no_fault_is_left_over() -> None:
    """No row of the table is about a fault that there is not."""
    assert set(words(PAGE, "fault")) == set(faults.__all__)


def test_kinds_of_faults() -> None:
    """Each value that a fault chooses from is named in its row."""
    choices = {
        "NetworkFailure": faults.NetworkFailure.KINDS,
        "DatabaseTimeout": faults.DatabaseTimeout.LIBRARIES,
        "ResourceExhaustion": faults.ResourceExhaustion.RESOURCES,
    }

    for name, values in choices.items():
        assert set(re.findall(r'"(\w+)"', words(PAGE, "fault")[name][1])) == set(values)


def test_timings() -> None:
    """Each timing has its row, with its parameter."""
    made = {name for name, value in vars(testing.InjectionTiming).items() if isinstance(value, classmethod)}
    calls = {f"InjectionTiming.{name}({own(getattr(testing.InjectionTiming, name))[0].name})" for name in made}

    assert set(words(PAGE, "timing")) == calls | {"InjectionTiming.IMMEDIATE"}


def test_moment() -> None:
    """Each field of what a condition sees has its row, in order."""
    assert tuple(words(PAGE, "field of `Moment`")) == testing.Moment._fields


@pytest.mark.parametrize("name", testing.__all__)
def test_every_public_name_is_documented(name: str) -> None:
    """What `from resilient.testing import ...` offers is imported and described on one of its pages."""
    described = [page for page in PAGES if page.exists() and re.search(rf"`{name}\b", pages.read(page)[1])]

    assert described != []
    assert any(name in imported(page) for page in PAGES)


def imported(page: Path) -> set[str]:
    """What a page imports first from `resilient.testing`: names, or the module `scenarios` by names of its own."""
    for block in pages.read(page)[0] if page.exists() else ():
        names: set[str] = set()
        for one in ast.parse(block.text).body if block.language == "python" else ():
            if isinstance(one, ast.ImportFrom) and one.module == "resilient.testing":
                names |= {name.name for name in one.names}
            elif isinstance(one, ast.ImportFrom) and one.module == "resilient.testing.scenarios":
                names.add("scenarios")
        if names:
            return names
    return set()
