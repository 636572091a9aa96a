"""Cached degradation: fresh answers without a call, older ones when the call fails, and no stampede in between."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
import weakref
from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, overload

from resilient import _checks as check
from resilient._checks import Seconds
from resilient._registry import registry
from resilient.clock import CLOCK
from resilient.degradation import cached_layers, flights
from resilient.degradation.entries import Entry
from resilient.degradation.flights import Flights
from resilient.degradation.threads import in_threads
from resilient.degrade.caches import MISSING, CallKeys, KeyedCache, Notes, check_cache, is_fresh_cache
from resilient.degrade.keys import Unkeyable
from resilient.events import log_note
from resilient.generators import Layer
from resilient.wrapping import Kind, describe, kind_of

if TYPE_CHECKING:
    from resilient.degrade import Degradation
    from resilient.degrade.caches import Place

_log = logging.getLogger("resilient.degradation")

DEFAULT_SIZE = 1024
#: By so many seconds the clocks of machines that share a cache may differ.
SKEW = 2.0
#: From so many keys with fallback data, those that have expired are looked for.
PRUNE_FROM = 128


class CacheMetrics(NamedTuple):
    """The numbers of a `CachedDegradation`.

    cache_hits, cache_misses: calls that met a fresh answer, or none. degradation_events: calls that failed, or were
    not made because the service is spared; of those, fallback_hits found an older answer or fallback data, and
    fallback_misses nothing. cache_hit_rate: hits of all lookups, 0 without any.
    """

    cache_hits: int
    cache_misses: int
    fallback_hits: int
    fallback_misses: int
    degradation_events: int
    cache_hit_rate: float


class PreloadResult(NamedTuple):
    """How many keys `preload_cache` has loaded and how many not, and which."""

    successes: int
    failures: int
    failed_keys: tuple[Any, ...] = ()


class Tally:
    """The counters of a cache."""

    __slots__ = ("events", "fallback_hits", "fallback_misses", "hits", "misses")

    def __init__(self) -> None:
        self.hits = self.misses = self.fallback_hits = self.fallback_misses = self.events = 0


class CachedDegradation:
    """A cache for `@degrade(cache=...)` that knows how old its answers are.

    An answer younger than `cache_ttl` is served without a call. An older one is refreshed by one caller, while others
    get what is there, or wait. After a failed call, an answer up to `cache_ttl + fallback_ttl` old is served, then
    what `set_fallback_data` gave for the key (for `fallback_ttl`), then the decorator's `fallback`.

    cached = CachedDegradation(cache_ttl=60, fallback_ttl=3600)

    @degrade(cache=cached, key=lambda book: book, fallback=[])
    def similar(book): ...

    Answers are kept as pairs of a time and the answer. The time is monotonic in a dict or a cachetools cache, and the
    time of day in any other cache, as that may outlive the process. Functions with equal keys from `key=` share the
    answer; without `key=`, the key has the function in it.

    Args:
        cache: a MutableMapping, or an object with get, set and delete, sync or async; by default a
            `cachetools.FIFOCache` of 1024 answers.
        cache_ttl: seconds or timedelta for which an answer is fresh.
        fallback_ttl: seconds or timedelta for which it may be served after that, when the call fails.
        max_wait: seconds or timedelta after which a caller that waits for another's call makes its own; None for no
            limit.

    Raises:
        ConfigurationError: an option has an impossible value.
        TypeError: the cache is none.
    """

    keeps_ages = True

    def __init__(
        self,
        cache: Any = None,
        cache_ttl: Seconds = 60.0,
        fallback_ttl: Seconds = 3600.0,
        *,
        max_wait: Seconds | None = 30.0,
    ) -> None:
        if cache is None:
            from cachetools import FIFOCache

            # First in is what was refreshed longest ago; and unlike that of an LRUCache, its reading takes no lock.
            cache = FIFOCache(maxsize=DEFAULT_SIZE)
        check_cache(cache)
        if is_fresh_cache(cache):
            raise TypeError(f"cache={cache!r}: is a CachedDegradation itself; give it the cache to use")
        self.cache = cache
        self._cache_ttl = check.seconds("cache_ttl", cache_ttl)
        self._fallback_ttl = check.seconds("fallback_ttl", fallback_ttl)
        self.max_wait = check.optional_seconds("max_wait", max_wait)
        self.store = KeyedCache(cache, ttl=self._cache_ttl + self._fallback_ttl)
        self.flights = Flights()
        self.tally = Tally()
        self._fallback_data: dict[Any, Entry] = {}
        self._prune_at = PRUNE_FROM
        _everyone.add(self)

    @property
    def cache_ttl(self) -> float:
        """For how many seconds an answer is fresh."""
        return self._cache_ttl

    @property
    def fallback_ttl(self) -> float:
        """For how many seconds after that it may be served when the call fails."""
        return self._fallback_ttl

    # By key -------------------------------------------------------------------------------------

    def set_fallback_data(self, key: Hashable, value: Any) -> None:
        """Give what is to be served for a key, for `fallback_ttl` from now, when a call fails and no answer is left."""
        self._fallback_data[key] = Entry(CLOCK.monotonic(), value)
        if len(self._fallback_data) >= self._prune_at:
            for old in [one for one in list(self._fallback_data) if self.fallback_data(one) is MISSING]:
                self._fallback_data.pop(old, None)
            self._prune_at = max(PRUNE_FROM, 2 * len(self._fallback_data))

    def get_data(self, key: Hashable) -> Any:
        """The fresh answer of a key, or else its fallback data; KeyError where there is neither."""
        self._only_sync("get_data", "aget_data")
        return self._data(key, self.fresh(self.store.read(key)))

    async def aget_data(self, key: Hashable) -> Any:
        """The fresh answer of a key, or else its fallback data; KeyError where there is neither."""
        return self._data(key, self.fresh(await self.store.aread(key)))

    def delete(self, key: Hashable) -> None:
        """Forget the answer and the fallback data of a key."""
        self._only_sync("delete", "adelete")
        self._fallback_data.pop(key, None)
        self.flights.discard(key)
        self.store.remove(key)

    async def adelete(self, key: Hashable) -> None:
        """Forget the answer and the fallback data of a key."""
        self._fallback_data.pop(key, None)
        self.flights.discard(key)
        await self.store.aremove(key)

    @overload
    def preload_cache(
        self, keys: Iterable[Any], loader: Callable[[Any], Awaitable[Any]], *, max_concurrent: int = 8
    ) -> Awaitable[PreloadResult]: ...
    @overload
    def preload_cache(
        self, keys: Iterable[Any], loader: Callable[[Any], Any], *, max_concurrent: int = 8
    ) -> PreloadResult: ...
    def preload_cache(self, keys: Iterable[Any], loader: Callable[[Any], Any], *, max_concurrent: int = 8) -> Any:
        """Store `loader(key)` for each key, in at most `max_concurrent` threads at once.

        With an async loader, the result is to be awaited, as that of `apreload_cache`. A key whose loader fails is
        logged and counted; the others go on. A guarded function may be the loader: an answer that a fallback or an
        older cached one gave is not stored, and is a failure; one that is fresh anyway is a success.
        """
        check.count("max_concurrent", max_concurrent)
        wanted = _keys(keys, loader)
        if kind_of(loader) is Kind.ASYNC:
            return self.apreload_cache(wanted, loader, max_concurrent=max_concurrent)
        self._only_sync("preload_cache", "apreload_cache")
        function = getattr(loader, "__wrapped__", loader)

        def load(key: Any) -> bool:
            with Notes(function) as notes:
                answer = loader(key)
            if inspect.iscoroutine(answer):
                answer.close()
                raise TypeError(f"{describe(loader)} returned a coroutine: use `await cached.apreload_cache(...)`")
            if notes.left:
                return notes.old and self.fresh(self.store.read(key)) is not MISSING
            return self.store.write(key, self.entry(answer))

        return _counted(wanted, in_threads(load, wanted, max_concurrent))

    async def apreload_cache(
        self, keys: Iterable[Any], loader: Callable[[Any], Any], *, max_concurrent: int = 8
    ) -> PreloadResult:
        """Store what `loader(key)` gives for each key, at most `max_concurrent` at once; a sync loader in threads."""
        check.count("max_concurrent", max_concurrent)
        wanted = _keys(keys, loader)
        loaded: list[Any] = [False] * len(wanted)
        in_thread = kind_of(loader) is Kind.SYNC
        function = getattr(loader, "__wrapped__", loader)

        async def load(key: Any) -> bool:
            with Notes(function) as notes:
                answer = await asyncio.to_thread(loader, key) if in_thread else loader(key)
                answer = await answer if inspect.isawaitable(answer) else answer
            if notes.left:
                return notes.old and self.fresh(await self.store.aread(key)) is not MISSING
            return await self.store.awrite(key, self.entry(answer))

        async def work(places: Iterator[int]) -> None:
            for place in places:
                try:
                    loaded[place] = await load(wanted[place])
                except asyncio.CancelledError as error:
                    task: Any = asyncio.current_task()
                    if task.cancelling():
                        raise
                    loaded[place] = type(error).__name__  # the loader's own affair
                except Exception as error:
                    loaded[place] = type(error).__name__  # not itself: its traceback has this very list

        places = iter(range(len(wanted)))
        async with asyncio.TaskGroup() as group:
            for _ in range(min(max_concurrent, len(wanted))):
                group.create_task(work(places))
        return _counted(wanted, loaded)

    def get_metrics(self) -> CacheMetrics:
        """The numbers of now."""
        tally = self.tally
        lookups = tally.hits + tally.misses
        rate = tally.hits / lookups if lookups else 0.0
        return CacheMetrics(
            tally.hits, tally.misses, tally.fallback_hits, tally.fallback_misses, tally.events, cache_hit_rate=rate
        )

    # For the layers -----------------------------------------------------------------------------

    def now(self) -> float:
        """The time that ages are measured by."""
        return CLOCK.monotonic() if self.store.in_process else time.time()

    def entry(self, answer: Any) -> tuple[float, Any]:
        """An answer of now, as it is kept: where others may have to read it, without a class of ours."""
        return Entry(self.now(), answer) if self.store.in_process else (self.now(), answer)

    def fresh(self, entry: Any) -> Any:
        """The answer of what the cache had, if it is fresh, else MISSING."""
        return self._younger(entry, self.cache_ttl)

    def stale(self, entry: Any) -> Any:
        """The answer of what the cache had, if it may be served after a failure, else MISSING."""
        return self._younger(entry, self.cache_ttl + self.fallback_ttl)

    def fallback_data(self, key: Hashable) -> Any:
        """What was given for a key, if it may still be served, else MISSING."""
        try:
            entry = self._fallback_data.get(key)
        except Exception:
            return MISSING  # what is no key for a dict has none
        fresh = entry is not None and 0 <= CLOCK.monotonic() - entry.stored_at < self.fallback_ttl
        return entry.answer if entry is not None and fresh else MISSING

    def answers_of(self, function: Any, key: Callable[..., Any] | None) -> CachedAnswers:
        """The answers of one function's calls."""
        return CachedAnswers(self, CallKeys(function, key, self.store))

    def sync_layer(self, policy: Degradation, call: Layer, place: Place) -> Layer:
        """The layer of `@degrade` for a sync function."""
        return cached_layers.sync_layer(self, policy, call, place)

    def async_layer(self, policy: Degradation, call: Layer, place: Place) -> Layer:
        """The layer of `@degrade` for an async function."""
        return cached_layers.async_layer(self, policy, call, place)

    def after_fork(self) -> None:
        """Forget the calls that other threads had under way."""
        self.flights.after_fork()

    def _younger(self, entry: Any, limit: float) -> Any:
        # A cache elsewhere may hold what somebody else has put there.
        try:
            stored_at, answer = entry if isinstance(entry, (tuple, list)) else (None, None)
            # Not far below 0: after the time of day was set back, nobody knows how old the entry is. A little, as
            # other machines may have stored it.
            least = 0.0 if self.store.in_process else -SKEW
            young = type(stored_at) in (int, float) and least <= self.now() - stored_at < limit
        except Exception:
            return MISSING
        return answer if young else MISSING

    def _data(self, key: Hashable, answer: Any) -> Any:
        tally = self.tally
        if answer is not MISSING:
            tally.hits += 1
            return answer
        tally.misses += 1
        answer = self.fallback_data(key)
        if answer is MISSING:
            tally.fallback_misses += 1
            raise KeyError(key)
        tally.fallback_hits += 1
        return answer

    def _only_sync(self, name: str, twin: str) -> None:
        if self.store.is_async:
            raise TypeError(f"cache={self.cache!r} is async: use `await cached.{twin}(...)` in place of {name}")

    def __repr__(self) -> str:
        return f"CachedDegradation(cache_ttl={self.cache_ttl:g}, fallback_ttl={self.fallback_ttl:g})"


class CachedAnswers:
    """The answers of one function in a `CachedDegradation`, by its arguments, as `@degrade` asks for them."""

    __slots__ = ("cached", "keys")

    def __init__(self, cached: CachedDegradation, keys: CallKeys) -> None:
        self.cached = cached
        self.keys = keys

    @property
    def is_async(self) -> bool:
        """Whether the cache is."""
        return self.cached.store.is_async

    def key_to_store(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The key of a call, before it may change its arguments; MISSING where it has none."""
        try:
            key = self.keys(args, kwargs, self.cached.store.on_death)
            hash(key)
        except Exception:  # without a key, or with one that cannot be hashed
            return MISSING
        return key

    def load(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What may be served after a failure, or MISSING."""
        try:
            key = self.keys(args, kwargs)
        except Unkeyable:
            return self._counted(MISSING)
        return self._counted(self._last(key, self.cached.store.read(key)))

    async def aload(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What may be served after a failure, or MISSING."""
        try:
            key = self.keys(args, kwargs)
        except Unkeyable:
            return self._counted(MISSING)
        return self._counted(self._last(key, await self.cached.store.aread(key)))

    def _last(self, key: Any, entry: Any) -> Any:
        answer = self.cached.stale(entry)
        return answer if answer is not MISSING else self.cached.fallback_data(key)

    def _counted(self, answer: Any) -> Any:
        tally = self.cached.tally
        tally.events += 1
        if answer is MISSING:
            tally.fallback_misses += 1
        else:
            tally.fallback_hits += 1
        return answer


def _keys(keys: Iterable[Any], loader: Any) -> list[Any]:
    if not callable(loader):
        raise TypeError(f"loader={loader!r}: must be a callable that takes a key")
    return list(keys)


def _counted(keys: list[Any], loaded: list[Any]) -> PreloadResult:
    """What has become of the keys; for each, True, False, or the name of the error."""
    failed = tuple(key for key, fine in zip(keys, loaded, strict=True) if fine is not True)
    # The keys stay out of the log: they may hold what nobody is to read there.
    kinds = sorted({one for one in loaded if isinstance(one, str)})
    if failed:
        text = "%d of %d keys could not be preloaded (%s)"
        why = ", ".join(kinds) or "not stored"
        numbers = len(failed), len(keys)
        log_note(_log, logging.WARNING, "degradation.preload_failed", text, *numbers, why, kind="degrade")
    return PreloadResult(len(keys) - len(failed), len(failed), failed)


_everyone: weakref.WeakSet[CachedDegradation] = weakref.WeakSet()


def _after_fork() -> None:
    flights.after_fork()
    for cached in list(_everyone):
        cached.after_fork()


registry.fork_hooks.append(_after_fork)
