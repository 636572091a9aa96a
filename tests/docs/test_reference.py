"""The reference names what the package has: every option with its default, every event, error and number."""

import dataclasses
import inspect
import logging
import re
from pathlib import Path

import pytest

import resilient
from resilient import errors, events, logs

from . import pages

REFERENCE = pages.DOCS / "reference"
DECORATORS = {
    "retry.md": resilient.retry,
    "circuit-breaker.md": resilient.circuit_breaker,
    "bulkhead.md": resilient.bulkhead,
    "timeout.md": resilient.timeout,
    "degrade.md": resilient.degrade,
}
POLICIES = {
    "retry.md": resilient.RetryPolicy,
    "circuit-breaker.md": resilient.CircuitBreaker,
    "bulkhead.md": resilient.Bulkhead,
    "timeout.md": resilient.Timeout,
    "degrade.md": resilient.Degradation,
}


def tables(page: Path) -> list[list[list[str]]]:
    """The tables of a page as rows of cells, the heading first."""
    found: list[list[list[str]]] = [[]]
    for line in pages.read(page)[1].splitlines():
        if line.startswith("|"):
            found[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        elif found[-1]:
            found.append([])
    return [rows for rows in found if rows]


def words(page: str, heading: str) -> dict[str, list[str]]:
    """First cell -> row, of the table whose heading begins with `heading`; code marks left out of the first cell."""
    rows = next(rows for rows in tables(REFERENCE / page) if rows[0][0] == heading)
    return {row[0].strip("`"): row for row in rows[2:]}


def options(decorator: object) -> dict[str, object]:
    """The keyword options of a decorator with their defaults, wherever it keeps them."""
    sources = [inspect.signature(overload) for overload in _overloads(decorator)]
    parameters = max((source.parameters for source in sources), key=len)
    return {
        name: parameter.default for name, parameter in parameters.items() if parameter.kind is parameter.KEYWORD_ONLY
    }


def _overloads(decorator: object) -> list[object]:
    from typing import get_overloads

    return [decorator, *get_overloads(decorator)]  # type: ignore[arg-type]


@pytest.mark.parametrize("page", DECORATORS)
def test_options(page: str) -> None:
    """Each option of a decorator has its row, with its default; no row is left over."""
    documented = words(page, "parameter")
    expected = options(DECORATORS[page])

    assert set(documented) - {"limit"} == set(expected)
    for name, default in expected.items():
        shown = "none" if default is ... else f'`"{default}"`' if isinstance(default, str) else _code(default)
        assert documented[name][2] == shown, name


def _code(default: object) -> str:
    return f"`{default.__name__}`" if isinstance(default, type) else f"`{default!r}`"


@pytest.mark.parametrize("page", POLICIES)
def test_metrics(page: str) -> None:
    """Each number of a policy's metrics has its row."""
    policy = DECORATORS[page](1) if page == "timeout.md" else DECORATORS[page](**_needed(page))
    fields = policy.get_metrics()._fields
    rows = {
        row[0].strip("`") for table in tables(REFERENCE / page) if table[0][0].startswith("field of") for row in table
    }

    assert set(fields) <= rows


def _needed(page: str) -> dict[str, object]:
    return {"fallback": None} if page == "degrade.md" else {}


@pytest.mark.parametrize("page", POLICIES)
def test_configuration_names_are_the_options(page: str) -> None:
    """`registry.configure` takes the names that the reference lists."""
    policy = DECORATORS[page](1) if page == "timeout.md" else DECORATORS[page](**_needed(page))
    names = {field.name for field in dataclasses.fields(policy.config)}

    assert names == set(words(page, "parameter")) - {"name"}


def test_events() -> None:
    """Each event has its row with its fields."""
    kinds = {kind.__name__: kind for kind in events.Event.kinds if kind.__module__ == events.__name__}
    documented = words("events.md", "event")

    assert set(documented) == set(kinds)
    for name, kind in kinds.items():
        assert set(re.findall(r"`(\w+)`", documented[name][1])) == set(kind.__slots__), name


def test_loggers() -> None:
    """Each event that is logged has its row with logger and level; no row is left over."""
    rows = next(rows for rows in tables(REFERENCE / "events.md") if rows[0][:2] == ["event", "logger"])
    documented = {row[0].strip("`"): row for row in rows[2:]}

    assert set(documented) == {kind.__name__ for kind in logs.LINES}
    for kind, line in logs.LINES.items():
        _, logger, level = documented[kind.__name__]
        assert logger == f"`{line.logger.name}`", kind
        assert logging.getLevelName(line.level) in level, kind


def test_errors() -> None:
    """Each error has its row, with its bases and whether it is retryable."""
    kinds = {
        name: kind
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.ResilienceError)
    }
    documented = words("errors.md", "error")

    assert set(documented) == set(kinds)
    for name, kind in kinds.items():
        _, bases, _, data, retryable = documented[name]
        assert re.findall(r"`(\w+)`", bases) == [base.__name__ for base in kind.__bases__], name
        assert retryable == ("yes" if kind.retryable else "no"), name
        assert set(re.findall(r"`(\w+)`", data)) <= set(inspect.signature(kind.__init__).parameters), name


def test_every_public_name_is_documented() -> None:
    """What `from resilient import ...` offers can be found in the reference."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in REFERENCE.glob("*.md"))

    assert [name for name in resilient.__all__ if not re.search(rf"`?\b{name}\b", text)] == []
