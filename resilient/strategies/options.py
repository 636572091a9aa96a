"""How an option of a strategy is described: once, for Python, for files, and for the schema of files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import Field, field, fields
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar, cast

from resilient._checks import ErrorFilter

T = TypeVar("T")

#: Errors as an option takes them: types or a predicate in code, dotted names in a file.
Errors: TypeAlias = "ErrorFilter | str | list[str] | tuple[type[BaseException] | str, ...]"
#: The same as a file can write them.
WRITTEN_ERRORS: Any = str | list[str]
JITTER: Any = bool | float | Literal["full", "equal", "decorrelated"]
BACKOFF: Any = Literal["exponential", "linear", "fibonacci"]
METHOD: Any = Literal["thread", "signal", "cooperative"]
_SAME: Any = object()


class About(NamedTuple):
    """What is known of an option beside its default.

    text: what it is for, and its unit. written: its type in a file, None where a file cannot say it.
    shown: its default as a file would write it, `...` for none. limits: bounds, in the words of JSON Schema.
    """

    text: str
    written: Any
    shown: Any
    limits: Mapping[str, float]


def option(default: T, text: str, written: Any = None, *, shown: Any = _SAME, **limits: float) -> T:
    """A field of settings with a default and its description."""
    told = default if shown is _SAME else shown
    # `LeftOut` is a number of its own kind, which a file knows nothing of.
    about = About(text, written, float(told) if isinstance(told, float) else told, MappingProxyType(limits))
    made: Any = field(default=default, metadata={"about": about})
    return made  # type: ignore[no-any-return]  # a field, which the dataclass puts the default in place of


def about(one: Field[Any]) -> About:
    """The description of a field made by `option`."""
    return cast(About, one.metadata["about"])


def values(settings: Any) -> Iterator[tuple[str, Any]]:
    """The options of settings with their values, in the order of their definition."""
    return ((one.name, getattr(settings, one.name)) for one in fields(settings))


def names(settings: Any) -> tuple[str, ...]:
    """The names of the options of settings, or of a class of them."""
    return tuple(one.name for one in fields(settings))
