"""Keys for cached answers: which calls are the same call.

1, True and 1.0 are equal to Python and different arguments to a function, so types are part of the key. Objects that
are equal only to themselves are held by weak reference: a key keeps nothing alive, and an object made later at the same
address is another one.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable
from types import MethodType
from typing import Any

Key = tuple[Any, ...]


#: Immutable values that are equal to nothing but the same value, given the type.
_PLAIN = frozenset((str, int, float, bool, bytes, complex, type(None)))


class Unkeyable(Exception):
    """The arguments have no key, so the call is not cached."""


def key_of(args: tuple[Any, ...], kwargs: dict[str, Any], on_death: Callable[[Any], None] | None = None) -> Key:
    """The key of a call's arguments; raises Unkeyable. `on_death` is called with a weak reference that has died."""
    if len(args) == 1 and type(args[0]) in _PLAIN:
        parts: Key = ((type(args[0]), args[0]),)
    else:
        parts = tuple([_part(value, on_death) for value in args])
    if not kwargs:
        return parts
    return (*parts, *((name, _part(value, on_death)) for name, value in sorted(kwargs.items())))


def _part(value: Any, on_death: Callable[[Any], None] | None) -> Hashable:
    kind = type(value)
    if kind in _PLAIN:
        return kind, value
    if isinstance(value, tuple):
        return kind, tuple(_part(part, on_death) for part in value)
    if isinstance(value, frozenset):
        return kind, frozenset(_part(part, on_death) for part in value)
    if isinstance(value, MethodType):
        return kind, _part(value.__self__, on_death), _part(value.__func__, on_death)
    if getattr(kind, "__hash__", None) is None:
        raise Unkeyable
    methods: Any = kind  # a typed comparison of these methods makes no sense to the type checker
    if methods.__eq__ is object.__eq__ and methods.__hash__ is object.__hash__:
        try:
            return weakref.ref(value) if on_death is None else weakref.ref(value, on_death)
        except TypeError:
            raise Unkeyable from None
    try:
        hash(value)
    except Exception:  # whatever it raises, the call is simply not cached
        raise Unkeyable from None
    return kind, value
