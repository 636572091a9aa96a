"""Copies of exceptions, for those who get an error that others get too."""

from __future__ import annotations

from collections.abc import Container
from typing import Any, TypeVar

E = TypeVar("E", bound=BaseException)


def copied(error: E, without: Container[str] = ()) -> E | None:
    """A copy of an exception with all it has but its traceback, and these attributes; None where none can be made.

    Made without calling `__init__`, which may want other arguments, or do more than to remember them.
    """
    try:
        kind = type(error)
        copy = kind.__new__(kind, *error.args)
        copy.args = error.args
        made: Any = error.__reduce__()
        state = made[2] if len(made) > 2 and isinstance(made[2], dict) else {}
        for name, value in {**state, **vars(error), **_slots(error)}.items():
            if name not in without:
                setattr(copy, name, list(value) if name == "__notes__" else value)
        copy.__cause__, copy.__context__ = error.__cause__, error.__context__
        copy.__suppress_context__ = error.__suppress_context__
        return copy if type(copy) is kind and str(copy) == str(error) else None
    except Exception:
        return None


def _slots(error: BaseException) -> dict[str, Any]:
    names = [name for kind in type(error).__mro__ for name in _names(getattr(kind, "__slots__", ()))]
    return {name: getattr(error, name) for name in names if not name.startswith("__") and hasattr(error, name)}


def _names(slots: Any) -> tuple[str, ...]:
    return (slots,) if isinstance(slots, str) else tuple(slots)
