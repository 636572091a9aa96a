"""Checks of what users pass in: each returns the value in its one internal form, or says what would be right."""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, TypeAlias

from resilient.errors import ConfigurationError

Seconds: TypeAlias = "float | timedelta"
ErrorFilter: TypeAlias = "type[BaseException] | tuple[type[BaseException], ...] | Callable[[Any], object]"


#: The longest wait in seconds that the interpreter's locks and sleeps take.
LONGEST = threading.TIMEOUT_MAX


def differing(old: Any, new: Any, among: Iterable[str]) -> dict[str, Any]:
    """The new values of those options `among` which differ; 1, True and 1.0 are three different values."""

    def key(options: Any, name: str) -> tuple[type, Any]:
        value = getattr(options, name)
        return type(value), value

    return {name: getattr(new, name) for name in among if key(old, name) != key(new, name)}


class Options:
    """Base of the frozen configurations: comparing and showing them, which dataclasses would compile for each anew."""

    __slots__: tuple[str, ...] = ()

    def differences(self, other: Options) -> list[str]:
        """The options in which two configurations differ."""
        return list(differing(self, other, self.names()))

    def names(self) -> tuple[str, ...]:
        """The options' names."""
        return type(self).__slots__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and not self.differences(other)

    __hash__ = None  # type: ignore[assignment]  # equal ones may hold what cannot be hashed

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in self.names())})"


def bad(option: str, value: object, remedy: str) -> ConfigurationError:
    """The error for an option with an impossible value."""
    return ConfigurationError(f"{option}={value!r}: {remedy}")


def seconds(option: str, value: Any, *, positive: bool = False) -> float:
    """A duration as float seconds; zero is allowed unless `positive`."""
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise bad(option, value, "must be seconds (a number) or a datetime.timedelta")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not 0 <= number <= LONGEST or (positive and number == 0):
        bound = "greater than 0" if positive else "0 or more"
        raise bad(option, value, f"must be seconds, {bound} and at most {LONGEST:.0f}")
    return number


def optional_seconds(option: str, value: Any, *, positive: bool = False) -> float | None:
    """Like `seconds`, with None for no limit."""
    return None if value is None else seconds(option, value, positive=positive)


def count(option: str, value: Any, *, least: int = 1, none: str = "") -> Any:
    """A whole number of at least `least`; None passes where `none` says what it means."""
    if value is None and none:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= sys.maxsize:
        allowed = f" or None ({none})" if none else ""
        raise bad(option, value, f"must be a whole number of at least {least} (and at most {sys.maxsize}){allowed}")
    return value


def number(option: str, value: Any, *, least: float) -> float:
    """A finite float of at least `least`."""
    try:
        fine = not isinstance(value, bool) and isinstance(value, (int, float)) and least <= float(value) < math.inf
    except OverflowError:
        fine = False
    if not fine:
        raise bad(option, value, f"must be a finite number of at least {least:g}")
    return float(value)


def share(option: str, value: Any, *, zero: bool = False) -> float | None:
    """A fraction up to 1, or None."""
    if value is None:
        return None
    fine = not isinstance(value, bool) and isinstance(value, (int, float)) and 0 <= value <= 1 and (zero or value > 0)
    if not fine:
        bounds = "from 0 to 1" if zero else "greater than 0 and at most 1"
        raise bad(option, value, f"must be a fraction {bounds}, such as 0.5 for 50 %")
    return float(value)


def error_filter(option: str, value: Any, *, empty: bool = False) -> ErrorFilter:
    """An exception type, a tuple of them, or a predicate on the exception; `empty` allows ()."""
    if isinstance(value, type):
        if issubclass(value, BaseException):
            return value
        raise TypeError(f"{option}={value!r}: must be an exception type, a tuple of them, or a predicate")
    if isinstance(value, tuple):
        if not value and not empty:
            raise bad(option, value, "an empty tuple matches nothing; name at least one exception type")
        for part in value:
            if not (isinstance(part, type) and issubclass(part, BaseException)):
                raise TypeError(f"{option}={value!r}: {part!r} is not an exception type")
        return value
    if callable(value):
        return value  # type: ignore[no-any-return]
    hint = " (the type itself, not its name)" if isinstance(value, str) else ""
    hint = " (a tuple, not a list or set)" if isinstance(value, (list, set, frozenset)) else hint
    raise TypeError(f"{option}={value!r}: must be an exception type, a tuple of them, or a predicate{hint}")


def matcher(chosen: ErrorFilter) -> Callable[[BaseException], bool]:
    """One question for all three forms of an error filter."""
    if chosen == ():
        return _never
    if isinstance(chosen, (type, tuple)):
        return lambda error: isinstance(error, chosen)
    return lambda error: bool(chosen(error))


def _never(error: BaseException) -> bool:
    return False


def callable_or_none(option: str, value: Any) -> Any:
    """A callable, or None."""
    if value is not None and not callable(value):
        raise TypeError(f"{option}={value!r}: must be callable")
    return value


def flag(option: str, value: Any) -> bool:
    """True or False itself."""
    if not isinstance(value, bool):
        raise bad(option, value, "must be True or False")
    return value


def policy_name(value: Any) -> str | None:
    """A policy's name: a non-empty string, or None for an automatic one."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError(f"name={value!r}: must be a string")
    if not value.strip():
        raise bad("name", value, "must not be empty; leave it out for an automatic name")
    return value


def function_or_name(given: Any, name: Any) -> tuple[Any, str | None]:
    """What the first argument of a decorator is: the function to guard, or the policy's name."""
    if not isinstance(given, str):
        return given, policy_name(name)
    if name is not None:
        raise bad("name", name, f"the policy is already named by its first argument, {given!r}")
    return None, policy_name(given)
