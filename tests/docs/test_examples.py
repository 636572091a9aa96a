"""Every example in README.md and docs/ runs, and prints what the page says it prints."""

import contextlib
import doctest
import io
import linecache
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resilient import registry

from . import pages

#: Set up once by a reader, and run for real by the project's own check: examples cannot install themselves.
SETUP = {"python3 -m pip install .", "python3 -m pip install tox", "tox"}

#: What a block may be tagged with; another tag would escape the tests.
LANGUAGES = {"python", "console", "text", "toml"}


class Reader:
    """Reads one page from top to bottom: its blocks share a namespace and a registry of their own."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._page: Path | None = None
        self._printed: dict[str, str] = {}
        self._namespace: dict[str, Any] = {}

    def read(self, wanted: pages.Block) -> str:
        """Run the page up to `wanted`, unless that was done already; return what `wanted` printed."""
        if wanted.page != self._page:
            self.close()
            self._page = wanted.page
            self._stack.enter_context(registry.scoped())
        for block in pages.read(wanted.page)[0]:
            if block.language == "python" and block.id not in self._printed:
                self._printed[block.id] = self._run(block)
            if block == wanted:
                break
        return self._printed[wanted.id]

    def _run(self, block: pages.Block) -> str:
        # Empty lines in front give every traceback the line numbers of the page.
        source = "\n" * (block.line - 1) + block.text
        name = f"<{block.id}>"
        linecache.cache[name] = len(source), None, source.splitlines(keepends=True), name
        code = compile(source, name, "exec")
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, self._namespace)  # noqa: S102 - running the page is the test
        return printed.getvalue()

    def close(self) -> None:
        self._stack.close()
        self._printed = {}
        self._namespace = {"__name__": "shop"}


@pytest.fixture(scope="session")
def reader() -> Iterator[Reader]:
    with contextlib.closing(Reader()) as reader:
        yield reader


def agree(expected: str, got: str) -> None:
    """Equal, where `...` in the page stands for anything."""
    if not doctest.OutputChecker().check_output(expected, got, doctest.ELLIPSIS):
        assert got == expected


@pytest.mark.parametrize("block", pages.blocks("python"), ids=lambda block: block.id)
def test_python(block: pages.Block, reader: Reader) -> None:
    """A python block runs after those above it on its page, and prints what stands in the output block below it."""
    printed = reader.read(block)

    agree(block.output or "", printed)


@pytest.mark.parametrize("block", pages.blocks("console"), ids=lambda block: block.id)
def test_console(block: pages.Block, tmp_path: Path) -> None:
    """A console block runs command by command, each ending well."""
    printed = ""
    for line in block.text.splitlines():
        for command in line.removeprefix("$ ").split(" && "):
            assert line.startswith("$ "), f"{block.id}: what a command prints goes to an output block"
            if command not in SETUP:
                printed += run(command, tmp_path)

    if block.output is not None:
        agree(block.output, printed)


def run(command: str, folder: Path) -> str:
    """Run one command of ours with the interpreter of the tests, outside the source tree."""
    program, *arguments = shlex.split(command)
    if program == "resilient":
        arguments = ["-m", "resilient", *arguments]
    else:
        assert program == "python3", f"{command}: only our own commands are run from pages"
    result = subprocess.run(  # noqa: S603 - a command of our own page
        [sys.executable, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONWARNINGS": "error"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.parametrize("page", pages.PAGES, ids=lambda page: str(page.relative_to(pages.ROOT)))
def test_no_block_escapes(page: Path) -> None:
    """Every fence is one of the kinds that the tests know, and all python ones are run."""
    fences = re.findall(r"^[ >]*(?:`{3,}|~{3,})[ \t]*(\w[^\s`]*)", page.read_text(encoding="utf-8"), re.MULTILINE)
    blocks = pages.read(page)[0]

    assert set(fences) <= LANGUAGES | {"output"}
    assert {block.language for block in blocks} <= LANGUAGES, "every block names its language"
    assert fences.count("python") == sum(block in pages.blocks("python") for block in blocks)
    assert not re.search(r"^\s*>>> ", page.read_text(encoding="utf-8"), re.MULTILINE), "not run"


def test_setup_commands_are_the_check() -> None:
    """The commands that pages cannot run are those that .ci/run and tox run."""
    ci = (pages.ROOT / ".ci" / "run").read_text(encoding="utf-8")
    readme = (pages.ROOT / "README.md").read_text(encoding="utf-8")

    assert "\npython3 -m pip install tox && tox\n" in ci
    assert "$ python3 -m pip install tox && tox\n" in readme
    assert "$ python3 -m pip install . && python3 -m resilient demo\n" in readme
