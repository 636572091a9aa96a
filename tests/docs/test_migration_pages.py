"""The migration pages: what stands side by side does the same, and every option of the other library has a row.

That the examples run is the matter of test_examples.py, as on all pages.
"""

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest

import resilient

from . import pages


@dataclass(frozen=True)
class Library:
    """A library that people move from: where its options are, and what its rejection is called here."""

    name: str
    options: tuple[str, ...]
    rejection: str = ""

    @property
    def page(self) -> Path:
        return pages.DOCS / "how-to" / f"migrate-from-{self.name}.md"

    def signatures(self) -> dict[str, list[str]]:
        """The parameters of each callable that takes options, without those that are no options."""
        return {name: self._parameters(name) for name in self.options}

    def _parameters(self, path: str) -> list[str]:
        found: Callable[..., object] = import_module(self.name)
        for part in path.split("."):
            found = getattr(found, part)
        named = [each for each in inspect.signature(found).parameters.values() if each.kind is not each.VAR_KEYWORD]
        return [each.name for each in named if each.name not in {"self", "wait_gen", "exception", "predicate"}]


LIBRARIES = [
    Library("tenacity", ("BaseRetrying.__init__",)),
    Library("stamina", ("retry", "retry_context")),
    Library("backoff", ("on_exception", "on_predicate")),
    Library("pybreaker", ("CircuitBreaker.__init__",), "CircuitBreakerError"),
    Library("circuitbreaker", ("circuit",), "CircuitBreakerError"),
]
EACH = pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.name)

#: What options belong to, as the pages name them; an option of one of them may stand on the right of a table.
OURS = ("retry", "circuit_breaker", "bulkhead", "degrade")


def rows(page: Path) -> list[tuple[str, str]]:
    """The table of options: the other library's cells, and ours."""
    section = re.split(r"^## ", pages.read(page)[1], flags=re.MULTILINE)
    (options,) = [part for part in section if part.startswith("Options\n")]
    lines = [line.replace("\\|", "/").strip("|").split("|") for line in options.splitlines() if line.startswith("|")]
    # stamina's has a column of defaults behind each.
    half = len(lines[0]) // 2
    return [(" ".join(line[:half]), " ".join(line[half:])) for line in lines[2:]]


def pairs(library: Library) -> list[tuple[pages.Block, pages.Block]]:
    """The blocks that the page announces by "Before:" and "After:"."""
    lines = library.page.read_text(encoding="utf-8").splitlines()
    announced: dict[str, list[pages.Block]] = {"Before:": [], "After:": []}
    for block in pages.read(library.page)[0]:
        # The line of the fence, and an empty one, stand between.
        word = lines[block.line - 4]
        if word in announced:
            announced[word].append(block)
    return list(zip(announced["Before:"], announced["After:"], strict=True))


@EACH
def test_both_sides_print_the_same(library: Library) -> None:
    """What stands under "Before:" and "After:" prints the same, but for the name of the rejection."""
    found = pairs(library)

    assert len(found) >= 3
    for before, after in found:
        assert before.output is not None
        assert after.output is not None
        expected = before.output.replace(library.rejection, "CircuitOpenError") if library.rejection else before.output
        assert after.output == expected, after.id


@EACH
def test_sides_are_not_mixed_up(library: Library) -> None:
    """What stands under "After:" uses nothing of the other library."""
    module = re.compile(rf"\b(import|from) {library.name}\b|\b{library.name}\.")

    for before, after in pairs(library):
        assert not module.search(after.text), after.id
        assert "resilient" not in before.text, before.id


@EACH
def test_every_option_of_theirs_has_a_row(library: Library) -> None:
    """Each option that the other library takes is named on the left of the table."""
    left = " ".join(cell for cell, _ in rows(library.page))

    for called, options in library.signatures().items():
        missing = [option for option in options if not re.search(rf"\b{option}", left)]
        assert not missing, called


@EACH
def test_every_option_of_ours_exists(library: Library) -> None:
    """What the right of the table writes as an option is one."""
    known = {option for name in OURS for option in inspect.signature(getattr(resilient, name)).parameters}
    named = {option for _, cell in rows(library.page) for option in re.findall(r"[`(, ](\w+)=", cell)}

    assert named
    assert named <= known


@EACH
def test_says_what_was_tried(library: Library) -> None:
    """The page names the version of the other library that it was written against."""
    assert re.search(rf"was tried with {library.name} \d+(\.\d+)+\.$", pages.read(library.page)[1], re.MULTILINE)


@EACH
def test_says_how_to_have_both(library: Library) -> None:
    """The page ends with how to move step by step, and runs a program that has both libraries."""
    _, _, steps = library.page.read_text(encoding="utf-8").partition("\n## Move step by step\n")

    assert "\n## " not in steps
    assert "```python" in steps
    assert library.name in steps
