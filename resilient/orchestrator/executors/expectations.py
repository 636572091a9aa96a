"""What data are expected to be, and how they differ from it.

A scalar is compared with the value (of a query: the first column of the first row), a list with all rows in their
order, and a table says one or more of: `equals`, `min`, `max` of the value, `rows`, `min_rows`, `max_rows`.
A function judges for itself.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import date, time
from decimal import Decimal
from typing import Any

from resilient.orchestrator.executors.parameters import Parameters, is_number, kind_of, shown

_COUNTS = ("rows", "min_rows", "max_rows")
_BOUNDS = ("min", "max")
_WORDS = ("equals", *_BOUNDS, *_COUNTS)
_MOST_SHOWN = 200


def judge(given: Parameters, name: str) -> None:
    """Note what is wrong with an expectation."""
    expect = given.raw(name)
    if not isinstance(expect, Mapping):
        return
    if not expect:
        given.note(name, f"at least one of {', '.join(_WORDS)}", "an empty table")
    for key, value in expect.items():
        if key not in _WORDS:
            given.note(f"{name}.{key}", f"one of {', '.join(_WORDS)}", "another word")
        elif given.unknown(value):
            continue
        elif key in _COUNTS and not (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
            given.note(f"{name}.{key}", "a whole number of at least 0", shown(value))
        elif key in _BOUNDS and not (isinstance(value, (int, float, Decimal, str, date, time))):
            given.note(f"{name}.{key}", "a number, a text or a time", kind_of(value))


def wanted_rows(expect: Any) -> int | None:
    """How many rows are to be read to judge them; None for all of them."""
    if callable(expect):
        return sys.maxsize
    if isinstance(expect, Mapping):
        limits = [expect[key] for key in _COUNTS if key in expect]
        return None if limits else 1
    return len(expect) + 1 if isinstance(expect, (list, tuple)) else 1


def answer(rows: Sequence[Any]) -> Any:
    """What a function is given that judges a query: the only value of the only row, or else all rows as a list."""
    if len(rows) == 1 and len(_row(rows[0])) == 1:
        return _row(rows[0])[0]
    return list(rows)


def difference(expect: Any, rows: Sequence[Any], count: int) -> str | None:
    """How rows differ from what is expected; None where they do not. `count`: how many there are in all."""
    if isinstance(expect, Mapping):
        return _table_difference(expect, rows, count)
    if isinstance(expect, (list, tuple)):
        got = [_row(one) for one in rows]
        if len(got) == len(expect) and all(map(_same_row, expect, got)):
            return None
        return f"expected the rows {brief(list(expect))}, got {brief(got)}"
    return _value_difference({"equals": expect}, rows)


def value_difference(expect: Any, value: Any) -> str | None:
    """How a single value, as a function returns it, differs from what is expected."""
    if isinstance(expect, Mapping):
        many = value if isinstance(value, Sequence) and not isinstance(value, (str, bytes)) else None
        if many is None and any(key in expect for key in _COUNTS):
            return f"expected a list of rows, got {kind_of(value)}"
        counts = {key: expect[key] for key in _COUNTS if key in expect}
        bounds = {key: part for key, part in expect.items() if key not in _COUNTS}
        return _count_difference(counts, len(many or ())) or _value_difference(bounds, [[value]])
    if isinstance(expect, (list, tuple)):
        return None if same(list(expect), value) else f"expected {brief(list(expect))}, got {brief(value)}"
    return _value_difference({"equals": expect}, [[value]])


def _table_difference(expect: Mapping[str, Any], rows: Sequence[Any], count: int) -> str | None:
    bounds = {key: value for key, value in expect.items() if key not in _COUNTS}
    return _count_difference(expect, count) or (_value_difference(bounds, rows) if bounds else None)


def _count_difference(expect: Mapping[str, Any], count: int) -> str | None:
    least, most = expect.get("min_rows", 0), expect.get("max_rows")
    if "rows" in expect and count != expect["rows"]:
        return f"expected {expect['rows']} rows, got {count}"
    if count < least:
        return f"expected at least {least} rows, got {count}"
    return f"expected at most {most} rows, got {count}" if most is not None and count > most else None


def _value_difference(expect: Mapping[str, Any], rows: Sequence[Any]) -> str | None:
    if not expect:
        return None
    if not rows:
        return f"expected {_described(expect)}, got no row"
    row = _row(rows[0])
    if not row:
        return f"expected {_described(expect)}, got a row without columns"
    value = row[0]
    try:
        fine = _is_in(expect, value)
    except (TypeError, ValueError, ArithmeticError):
        fine = False
    return None if fine else f"expected {_described(expect)}, got {brief(value)}"


def _is_in(expect: Mapping[str, Any], value: Any) -> bool:
    return (
        ("equals" not in expect or same(expect["equals"], value))
        and ("min" not in expect or bool(_like(expect["min"], value) <= value))
        and ("max" not in expect or bool(value <= _like(expect["max"], value)))
    )


def same(expect: Any, value: Any) -> bool:
    """Whether a value is what is expected; texts stand for times and the like, which files have no word for."""
    if isinstance(expect, (list, tuple)) or isinstance(value, (list, tuple)):
        both = isinstance(expect, (list, tuple)) and isinstance(value, (list, tuple))
        return both and len(expect) == len(value) and all(map(same, expect, value))
    return bool(_like(expect, value) == value)


def _like(expect: Any, value: Any) -> Any:
    """What is expected, as the kind of value that came."""
    if isinstance(value, Decimal) and isinstance(expect, float):
        return Decimal(str(expect))
    if isinstance(expect, str) and value is not None and not isinstance(value, (str, bytes)) and not is_number(value):
        return type(value).fromisoformat(expect) if isinstance(value, (date, time)) else _from_text(expect, value)
    return expect


def _from_text(expect: str, value: Any) -> Any:
    if isinstance(value, Decimal):
        return Decimal(expect)
    return value if str(value) == expect else expect


def _same_row(expect: Any, row: Any) -> bool:
    return same(list(expect) if isinstance(expect, (list, tuple)) else [expect], list(row))


def _row(row: Any) -> list[Any]:
    """The columns of a row; some drivers have rows that are tables."""
    if isinstance(row, Mapping):
        return list(row.values())
    return list(row)


def _described(expect: Mapping[str, Any]) -> str:
    words = {"equals": "", "min": "at least ", "max": "at most "}
    return " and ".join(f"{word}{brief(expect[key])}" for key, word in words.items() if key in expect)


def brief(value: Any) -> str:
    """A value in few characters."""
    try:
        text = repr(value)
    except Exception:  # whatever a repr that fails raises
        return kind_of(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."
