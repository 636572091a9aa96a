"""One way to talk to the caches users bring: mappings, and objects with get, set and delete, sync or async.

A cache that fails is logged and otherwise as good as empty: it never breaks a call.
"""

from __future__ import annotations

import inspect
import logging
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, MutableMapping
from contextvars import ContextVar
from functools import partial
from typing import Any, Final, NamedTuple

from resilient._registry import registry
from resilient.degrade.keys import Unkeyable, key_of
from resilient.events import log_failure
from resilient.generators import Layer
from resilient.wrapping import describe

_log = logging.getLogger("resilient.degrade")

MISSING: Final = object()


class CacheLock:
    """The lock of one cachetools cache: those reorder themselves when read, and leave locking to their users.

    Re-entrant, as an entry that goes may take others with it. `dead` collects weak references that have died, for
    the next one who has the lock.
    """

    __slots__ = ("dead", "lock")

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.dead: deque[Any] = deque()


#: By the cache's identity, as caches are not hashable; with a weak reference that takes the entry away.
_locks: dict[int, tuple[Any, CacheLock]] = {}


def _lock_of(cache: Any) -> CacheLock | None:
    cachetools = sys.modules.get("cachetools")
    if cachetools is None or not isinstance(cache, cachetools.Cache):
        return None
    key = id(cache)
    if key not in _locks:
        _locks.setdefault(key, (weakref.ref(cache, lambda _: _locks.pop(key, None)), CacheLock()))
    return _locks[key][1]


def _after_fork() -> None:
    for _, lock in list(_locks.values()):
        lock.lock = threading.RLock()


registry.fork_hooks.append(_after_fork)


class AnswerCache:
    """Good answers of one function by the arguments of its calls; several functions may share the cache."""

    __slots__ = ("_function", "_key", "_lock", "_mapping", "_on_death", "cache", "is_async")

    def __init__(self, cache: Any, key: Callable[..., Any] | None, function: Any) -> None:
        self.cache = cache
        self._key = key
        self._function = function
        self._mapping = isinstance(cache, MutableMapping)
        self.is_async = not self._mapping and any(
            inspect.iscoroutinefunction(getattr(cache, name)) for name in ("get", "set")
        )
        self._lock = _lock_of(cache)
        self._on_death: Callable[[Any], None] | None = None
        if self._mapping:
            self._on_death = partial(_forget, cache) if self._lock is None else self._lock.dead.append

    def load(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The last good answer of this call, or MISSING."""
        try:
            key = self._key_of(args, kwargs, None)
            if not self._mapping:
                return _or_missing(self.cache.get(key))
            if self._lock is None:
                return self.cache[key]
            with self._lock.lock:
                self._clean_up()
                return self.cache[key]
        except (KeyError, Unkeyable):
            return MISSING
        except Exception:
            return _failed("read", self._function)

    def store(self, args: tuple[Any, ...], kwargs: dict[str, Any], answer: Any) -> None:
        """Remember a good answer."""
        try:
            key = self._key_of(args, kwargs, self._on_death)
            if not self._mapping:
                self.cache.set(key, answer)
            elif self._lock is None:
                self.cache[key] = answer
            else:
                with self._lock.lock:
                    self._clean_up()
                    self.cache[key] = answer
        except Unkeyable:
            return
        except Exception:
            _failed("write", self._function)

    async def aload(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The last good answer of this call, or MISSING."""
        if not self.is_async:
            return self.load(args, kwargs)
        try:
            answer = self.cache.get(self._key_of(args, kwargs, None))
            return _or_missing(await answer if inspect.isawaitable(answer) else answer)
        except (KeyError, Unkeyable):
            return MISSING
        except Exception:
            return _failed("read", self._function)

    async def astore(self, args: tuple[Any, ...], kwargs: dict[str, Any], answer: Any) -> None:
        """Remember a good answer."""
        if not self.is_async:
            self.store(args, kwargs, answer)
            return
        try:
            done = self.cache.set(self._key_of(args, kwargs, None), answer)
            if inspect.isawaitable(done):
                await done
        except Unkeyable:
            return
        except Exception:
            _failed("write", self._function)

    def _clean_up(self) -> None:
        """Forget the dead; the caller has the lock."""
        while self._lock is not None and self._lock.dead:
            _forget(self.cache, self._lock.dead.popleft())

    def _key_of(self, args: tuple[Any, ...], kwargs: dict[str, Any], on_death: Callable[[Any], None] | None) -> Any:
        if self._key is not None:
            return self._key(*args, **kwargs)
        if self._mapping:
            return key_of((self._function, *args), kwargs, on_death)
        # A cache elsewhere outlives the function object, and knows it by name.
        return (describe(self._function), *key_of(args, kwargs))


def _failed(what: str, function: Any = None) -> Any:
    owner = "" if function is None else f" of {describe(function)}"
    log_failure(_log, "cache_failed", "could not %s the cache%s", what, owner)
    return MISSING


def _forget(cache: MutableMapping[Any, Any], dead: Any) -> None:
    """Drop the entries whose key has lost an object."""

    def holds(part: Any) -> bool:
        return part is dead or (isinstance(part, (tuple, frozenset)) and any(map(holds, part)))

    try:
        for key in [key for key in list(cache) if holds(key)]:
            cache.pop(key, None)
    except Exception:
        _failed("clean up")


def check_cache(cache: Any) -> None:
    """Raise TypeError for what is no cache."""
    if isinstance(cache, MutableMapping):
        return
    if not all(callable(getattr(cache, name, None)) for name in ("get", "set", "delete")):
        raise TypeError(f"cache={cache!r}: must be a MutableMapping, or have get, set and delete")


#: Where the fallbacks inside a remembered call leave a note, so that what they answer is not remembered.
_notes: ContextVar[list[None] | None] = ContextVar("resilient_fallback_notes", default=None)


class Place(NamedTuple):
    """Where a degradation stands: its own cache, and whether another one around it in the same chain has a cache."""

    cache: AnswerCache | None
    cached_around: bool

    def tell_the_cache_around(self) -> None:
        """This answer is not the call's own."""
        notes = _notes.get() if self.cached_around else None
        if notes is not None:
            notes.append(None)


def remembering(call: Layer, cache: AnswerCache) -> Layer:
    """Remember good answers."""

    def remember(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        notes: list[None] = []
        token = _notes.set(notes)
        try:
            answer = call(args, kwargs)
        finally:
            _notes.reset(token)
        if not notes:
            cache.store(args, kwargs, answer)
        return answer

    return remember


def aremembering(call: Layer, cache: AnswerCache) -> Layer:
    """Remember good answers."""

    async def remember(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        notes: list[None] = []
        token = _notes.set(notes)
        try:
            answer = await call(args, kwargs)
        finally:
            _notes.reset(token)
        if not notes:
            await cache.astore(args, kwargs, answer)
        return answer

    return remember


def _or_missing(answer: Any) -> Any:
    # get() has no other way to say that there is nothing; an answer that is None is therefore not served from there.
    return MISSING if answer is None else answer
