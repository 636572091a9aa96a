"""Where a fault happens: at the innermost seam of decorated functions, or in the place of any importable function."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import ExitStack
from importlib import import_module
from types import FunctionType, MethodType, ModuleType
from typing import Any

import wrapt

from resilient._registry import SHELVES, registry
from resilient.errors import ConfigurationError, UnknownNameError
from resilient.wrapping import STAND_INS, Guarded, Kind, describe, kind_of

#: Makes what is called in the place of a function, given it, its name, and what kind it is, if that is known.
Maker = Callable[[Any, str, Kind | None], Any]


class Seam:
    """Faults inside the policies of decorated functions: `matches` says of which."""

    def __init__(self, matches: Callable[[Guarded], bool], make: Maker) -> None:
        self.matches = matches
        self.make = make

    def __enter__(self) -> None:
        _seams.append(self)
        try:
            _refresh()
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *error: object) -> None:
        _seams.remove(self)
        _refresh()


_seams: list[Seam] = []


def _refresh() -> None:
    with registry.lock:
        STAND_INS.find = _stand_in if _seams else None
        registry.recompile()


def _stand_in(guarded: Guarded) -> Any:
    """The function with its faults; the one that was injected first is the innermost."""
    original = fn = guarded.__wrapped__
    for seam in _seams:
        if seam.matches(guarded):
            fn = seam.make(fn, describe(original), guarded.settled or kind_of(original))
    return fn


def enter(target: Any, make: Maker, stack: ExitStack) -> None:
    """Put faults where `target` says, until the stack is closed."""
    if isinstance(target, MethodType) and isinstance(target.__func__, Guarded):
        target = target.__func__
    if isinstance(target, Guarded):
        original = target.__wrapped__
        stack.enter_context(Seam(lambda guarded: guarded.__wrapped__ is original, make))
    elif isinstance(target, str) and _is_policy(target):
        stack.enter_context(Seam(lambda guarded: any(one._name == target for one in guarded.policies), make))
    elif isinstance(target, str):
        _enter_path(target, make, stack)
    elif isinstance(target, FunctionType):
        _enter_path(f"{target.__module__}:{target.__qualname__}", make, stack)
    else:
        raise TypeError(
            f"target={target!r}: must be a decorated function, the name of a policy, or a path such as "
            '"package.module:Class.method"'
        )


def _is_policy(name: str) -> bool:
    return any(name in getattr(registry, shelf) for shelf in SHELVES.values())


def _enter_path(path: str, make: Maker, stack: ExitStack) -> None:
    owner, name, found = _resolved(path)
    function = found.__func__ if isinstance(found, (classmethod, staticmethod)) else found
    if isinstance(function, Guarded):
        enter(function, make, stack)
        return
    if not callable(function):
        raise ConfigurationError(f"target={path!r}: is a {type(function).__name__}, which cannot be called")
    try:
        with registry.lock:
            found = _resolved(path)[2]  # again: another injection may have begun or ended there
            place = next((one for one in _places if one.is_at(owner, name)), None) or _Place(owner, name, found)
            place.add(path, make)
    except (AttributeError, TypeError) as error:
        raise ConfigurationError(f"target={path!r}: cannot be replaced ({error}); inject where it is called") from None
    stack.callback(place.remove, make)


class _Place:
    """An attribute whose function is replaced. Injections of one place may end in any order."""

    def __init__(self, owner: Any, name: str, found: Any) -> None:
        self.owner, self.name, self.found = owner, name, found
        # What a class or an instance has from elsewhere is not to become its own.
        self.own = name in getattr(owner, "__dict__", {})
        self.put: Any = None
        self.makers: list[tuple[str, Maker]] = []

    def is_at(self, owner: Any, name: str) -> bool:
        """Whether this is the place, and what was put there is there still."""
        return self.owner is owner and self.name == name and getattr(owner, "__dict__", {}).get(name) is self.put

    def add(self, path: str, make: Maker) -> None:
        """Put one more stand-in before what is called; the caller has the lock."""
        self.makers.append((path, make))
        try:
            self._refresh()
        except BaseException:
            self.makers.pop()
            raise
        if self not in _places:
            _places.append(self)

    def remove(self, make: Maker) -> None:
        """Take one away, and put back what was found when it was the last."""
        with registry.lock:
            self.makers = [pair for pair in self.makers if pair[1] != make]
            if self.makers:
                self._refresh()
                return
            _places.remove(self)
            if not self.is_at(self.owner, self.name):
                return  # somebody else has put something there meanwhile, and puts back what belongs there
            if self.own:
                setattr(self.owner, self.name, self.found)
            else:
                delattr(self.owner, self.name)

    def _refresh(self) -> None:
        wrapper = type(self.found) if isinstance(self.found, (classmethod, staticmethod)) else None
        fn = original = self.found.__func__ if wrapper else self.found
        for path, make in self.makers:
            fn = make(fn, path, kind_of(original))
        put = wrapper(fn) if wrapper else fn
        setattr(self.owner, self.name, put)
        self.put = put


_places: list[_Place] = []


def _resolved(path: str) -> tuple[Any, str, Any]:
    """The owner, the attribute's name, and what is there, classmethods and staticmethods as they are."""
    module_name, colon, names = path.partition(":")
    if not colon:
        module_name, _, names = path.rpartition(".")
    if not module_name or not names:
        known = ", ".join(sorted({name for shelf in SHELVES.values() for name in getattr(registry, shelf)})) or "none"
        raise UnknownNameError(
            f"target={path!r}: no policy has this name (known: {known}), and it is no path such as "
            '"package.module:Class.method"'
        )
    try:
        owner: Any = import_module(module_name)
        *outer, name = names.split(".")
        for one in outer:
            owner = getattr(owner, one)
        if isinstance(owner, (type, ModuleType)):
            return owner, name, inspect.getattr_static(owner, name)
        return owner, name, getattr(owner, name)  # of an instance: bound to it
    except (ImportError, AttributeError) as error:
        raise UnknownNameError(f"target={path!r}: cannot be found: {error}") from None


def as_called(function: Any) -> Any:
    """What whoever looks the function up calls now: a stand-in, where one was put in its place."""
    return next((one.put for one in _places if one.found is function), function)


def like(function: Any, stand_in: Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]) -> Any:
    """A stand-in that looks like the function, binds like it, and is called as `stand_in(function, args, kwargs)`."""
    return wrapt.FunctionWrapper(function, lambda wrapped, instance, args, kwargs: stand_in(wrapped, args, kwargs))
