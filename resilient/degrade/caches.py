"""One way to talk to the caches users bring: mappings, and objects with get, set and delete, sync or async.

A cache that fails is logged and otherwise as good as empty: it never breaks a call.
"""

from __future__ import annotations

import inspect
import logging
import sys
import threading
import weakref
from collections import UserDict, deque
from collections.abc import Callable, MutableMapping
from contextvars import ContextVar
from functools import partial
from typing import Any, Final, NamedTuple, Protocol

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


def _reads_only(cache: Any) -> bool:
    """Whether reading a cachetools cache changes nothing in it."""
    plain: Any = sys.modules["cachetools"].Cache
    return type(cache).__getitem__ is plain.__getitem__ and type(cache).__missing__ is plain.__missing__


def _after_fork() -> None:
    for _, lock in list(_locks.values()):
        lock.lock = threading.RLock()


registry.fork_hooks.append(_after_fork)


class KeyedCache:
    """A user's cache, read and written by key. What it raises is logged, and taken for an empty cache."""

    __slots__ = ("_extra", "_lock", "_reads_only", "cache", "in_process", "is_async", "is_mapping", "on_death", "owner")

    def __init__(self, cache: Any, owner: Any = None, ttl: float | None = None) -> None:
        """`ttl`: for how many seconds to keep a value; told to a cache whose `set` has such a parameter."""
        self.cache = cache
        #: The function to name in the log.
        self.owner = owner
        self.is_mapping = isinstance(cache, MutableMapping)
        #: Whether it lives and dies with the process, as far as one can know.
        # A UserDict of another class may well be a file.
        self.in_process = (
            isinstance(cache, dict)
            or type(cache) is UserDict
            or ("cachetools" in sys.modules and isinstance(cache, sys.modules["cachetools"].Cache))
        )
        self.is_async = not self.is_mapping and any(
            inspect.iscoroutinefunction(getattr(cache, name)) for name in ("get", "set")
        )
        self._lock = _lock_of(cache)
        # Caches that count or reorder what is read, or drop what has expired, need the lock for reading too.
        self._reads_only = self._lock is not None and _reads_only(cache)
        self._extra = {"ttl": ttl} if ttl is not None and not self.is_mapping and _takes_ttl(cache.set) else {}
        #: What weak references in keys are to call when they die.
        self.on_death: Callable[[Any], None] | None = None
        if self.is_mapping:
            self.on_death = partial(_forget, cache) if self._lock is None else self._lock.dead.append

    def read(self, key: Any) -> Any:
        """The value of this key, or MISSING."""
        try:
            if not self.is_mapping:
                return _or_missing(_not_awaitable(self.cache.get(key)))
            lock = self._lock
            if lock is None or (self._reads_only and not lock.dead):
                return self.cache[key]
            with lock.lock:
                self._clean_up()
                return self.cache[key]
        except KeyError:
            return MISSING
        except Exception:
            return _failed("read", self.owner)

    def write(self, key: Any, value: Any) -> bool:
        """Keep a value; whether that went well."""
        try:
            hash(key)  # some caches are left in disorder by a key that cannot be hashed
            if not self.is_mapping:
                _not_awaitable(self.cache.set(key, value, **self._extra))
            elif self._lock is None:
                self.cache[key] = value
            else:
                with self._lock.lock:
                    self._clean_up()
                    self.cache[key] = value
        except Exception:
            _failed("write", self.owner)
            return False
        return True

    def remove(self, key: Any) -> None:
        """Forget a key."""
        try:
            if not self.is_mapping:
                self.cache.delete(key)
            elif self._lock is None:
                self.cache.pop(key, None)
            else:
                with self._lock.lock:
                    self.cache.pop(key, None)
        except Exception:
            _failed("clean up", self.owner)

    async def aread(self, key: Any) -> Any:
        """The value of this key, or MISSING."""
        if self.is_mapping:
            return self.read(key)
        try:
            value = self.cache.get(key)
            return _or_missing(await value if inspect.isawaitable(value) else value)
        except KeyError:
            return MISSING
        except Exception:
            return _failed("read", self.owner)

    async def awrite(self, key: Any, value: Any) -> bool:
        """Keep a value; whether that went well."""
        if self.is_mapping:
            return self.write(key, value)
        try:
            hash(key)
            done = self.cache.set(key, value, **self._extra)
            if inspect.isawaitable(done):
                await done
        except Exception:
            _failed("write", self.owner)
            return False
        return True

    async def aremove(self, key: Any) -> None:
        """Forget a key."""
        if self.is_mapping:
            self.remove(key)
            return
        try:
            done = self.cache.delete(key)
            if inspect.isawaitable(done):
                await done
        except Exception:
            _failed("clean up", self.owner)

    def _clean_up(self) -> None:
        """Forget the dead; the caller has the lock."""
        while self._lock is not None and self._lock.dead:
            _forget(self.cache, self._lock.dead.popleft())


class CallKeys:
    """Makes the keys of one function's calls: by `key=`, or by function and arguments."""

    __slots__ = ("_function", "_key", "_mourned", "_name", "_weak")

    def __init__(self, function: Any, key: Callable[..., Any] | None, store: KeyedCache) -> None:
        self._function = function
        self._key = key
        # A cache elsewhere outlives the function object, and knows it by name.
        self._name = None if store.is_mapping else describe(function)
        self._weak = self._mourned = ()
        if key is None and store.is_mapping:
            try:
                self._weak, self._mourned = key_of((function,), {}), key_of((function,), {}, store.on_death)
            except Unkeyable:
                self._name = describe(function)

    def __call__(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], on_death: Callable[[Any], None] | None = None
    ) -> Any:
        """The key of a call; raises Unkeyable, also (logged) where `key=` failed."""
        if self._key is not None:
            try:
                return self._key(*args, **kwargs)
            except Exception:
                _failed("make a key for", self._function)
                raise Unkeyable from None
        if self._name is not None:
            return (self._name, *key_of(args, kwargs))
        return (self._weak if on_death is None else self._mourned) + key_of(args, kwargs, on_death)


class AnswerCache:
    """Good answers of one function by the arguments of its calls; several functions may share the cache."""

    __slots__ = ("_keys", "_store", "cache", "is_async")

    def __init__(self, cache: Any, key: Callable[..., Any] | None, function: Any) -> None:
        self.cache = cache
        self._store = KeyedCache(cache, function)
        self.is_async = self._store.is_async
        self._keys = CallKeys(function, key, self._store)

    def key(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The key to store the answer of a call under, before it may change its arguments; MISSING without one."""
        try:
            return self._keys(args, kwargs, self._store.on_death)
        except Unkeyable:
            return MISSING

    def load(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The last good answer of this call, or MISSING."""
        try:
            return self._store.read(self._keys(args, kwargs))
        except Unkeyable:
            return MISSING

    def store(self, key: Any, answer: Any) -> None:
        """Remember a good answer under what `key` has returned."""
        if key is not MISSING:
            self._store.write(key, answer)

    async def aload(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The last good answer of this call, or MISSING."""
        try:
            return await self._store.aread(self._keys(args, kwargs))
        except Unkeyable:
            return MISSING

    async def astore(self, key: Any, answer: Any) -> None:
        """Remember a good answer under what `key` has returned."""
        if key is not MISSING:
            await self._store.awrite(key, answer)


def _failed(what: str, function: Any = None) -> Any:
    name = None if function is None else describe(function)
    text, owner = "could not %s the cache%s", "" if name is None else f" of {name}"
    log_failure(_log, "degrade.cache_failed", text, what, owner, kind="degrade", policy=name)
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


def is_fresh_cache(cache: Any) -> bool:
    """Whether it is a cache that knows how old its answers are, and makes the layers around it itself."""
    return getattr(type(cache), "keeps_ages", False) is True


def check_cache(cache: Any) -> None:
    """Raise TypeError for what is no cache."""
    if isinstance(cache, MutableMapping) or is_fresh_cache(cache):
        return
    if not all(callable(getattr(cache, name, None)) for name in ("get", "set", "delete")):
        raise TypeError(f"cache={cache!r}: must be a MutableMapping, or have get, set and delete")


class Notes:
    """What is told, while a call is made, of answers inside it that are not the call's own.

    left: whether there are any; old: whether one was an answer from a cache, and still fresh.
    """

    __slots__ = ("function", "left", "old", "outer")

    def __init__(self, function: Any = None) -> None:
        #: Whose degradations to hear of, besides those further in in the same chain.
        self.function = function
        self.left = self.old = False
        self.outer: Notes | None = None

    def __enter__(self) -> Notes:
        self.outer = NOTES.get()
        NOTES.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        # Without a token: a coroutine may be closed in another context than it began in.
        if NOTES.get() is self:
            NOTES.set(self.outer)
        self.outer = None


#: What those that are under way in this context leave their notes with.
NOTES: ContextVar[Notes | None] = ContextVar("resilient_fallback_notes", default=None)


class Answers(Protocol):
    """What a degradation needs of its cache, by the arguments of a call."""

    @property
    def is_async(self) -> bool: ...
    def load(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any: ...
    async def aload(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any: ...


class Place(NamedTuple):
    """Where a degradation stands: its own cache, and whether another one around it in the same chain has a cache."""

    cache: Answers | None
    cached_around: bool
    function: Any = None

    def tell_the_cache_around(self) -> None:
        """This answer is not the call's own."""
        notes = NOTES.get()
        if notes is not None and self._is_heard_by(notes):
            notes.left = True

    def tell_of_fresh(self) -> None:
        """This answer is the call's own, but not of now."""
        notes = NOTES.get()
        if notes is not None and self._is_heard_by(notes):
            notes.left = notes.old = True

    def _is_heard_by(self, notes: Notes) -> bool:
        return self.cached_around or (self.function is not None and notes.function is self.function)


def remembering(call: Layer, cache: AnswerCache, place: Place, function: Any = None) -> Layer:
    """Remember good answers, but not those that a fallback further in has given.

    function: whose degradations to hear of, where they cannot know that there is a cache around them.
    """

    def remember(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        key = cache.key(args, kwargs)
        with Notes(function) as notes:
            answer = call(args, kwargs)
        if notes.left:
            place.tell_the_cache_around()
        else:
            cache.store(key, answer)
        return answer

    return remember


def aremembering(call: Layer, cache: AnswerCache, place: Place, function: Any = None) -> Layer:
    """Remember good answers, but not those that a fallback further in has given; see `remembering`."""

    async def remember(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        key = cache.key(args, kwargs)
        with Notes(function) as notes:
            answer = await call(args, kwargs)
        if notes.left:
            place.tell_the_cache_around()
        else:
            await cache.astore(key, answer)
        return answer

    return remember


def _takes_ttl(function: Any) -> bool:
    try:
        return "ttl" in inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False


def _not_awaitable(value: Any) -> Any:
    if inspect.isawaitable(value):
        if inspect.iscoroutine(value):
            value.close()
        raise TypeError("the cache is async, and cannot serve a sync function")
    return value


def _or_missing(answer: Any) -> Any:
    # get() has no other way to say that there is nothing; an answer that is None is therefore not served from there.
    return MISSING if answer is None else answer
