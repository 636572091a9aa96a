"""Timeouts by kind of operation: how long each try may take, how many tries, and what to do when the last one fails."""

from __future__ import annotations

import asyncio
import enum
import inspect
import math
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple, NoReturn, ParamSpec, TypeVar

from resilient import _checks as check
from resilient._registry import registry
from resilient.clock import CLOCK
from resilient.deadlines import DUE
from resilient.degradation.queues.calls import GuardedCall, PlainCall, QueuedCall, Recipe
from resilient.degradation.queues.memory import MemoryQueue
from resilient.degradation.queues.protocol import CallQueue
from resilient.degradation.queues.receipts import Receipt
from resilient.degrade import Degradation
from resilient.degrade.caches import MISSING, AnswerCache, Notes, Place
from resilient.degrade.fallbacks import Fallback
from resilient.errors import DegradationError, UnknownNameError, is_retryable
from resilient.events import HUB, FallbackFailed, FallbackServed
from resilient.generators import Layer
from resilient.policy import Policy
from resilient.retry.backoff import exponential
from resilient.timeout import Timeout, TimeoutConfig
from resilient.wrapping import Guarded, Kind, Site, describe

P = ParamSpec("P")
R = TypeVar("R")

MOST_RETRIES = 1000


class FallbackStrategy(enum.Enum):
    """What happens when the last try has failed."""

    #: The last error passes.
    IMMEDIATE_ERROR = "immediate_error"
    #: The last good answer of the same call, else the default, else the last error.
    BEST_EFFORT = "best_effort"
    #: The degraded path answers; without one the last error passes.
    GRACEFUL_DEGRADATION = "graceful_degradation"
    #: The call is queued to be made later, and the caller gets a receipt.
    QUEUE_AND_RETRY = "queue_and_retry"


@dataclass(frozen=True, slots=True)
class TimeoutTier:
    """A kind of operation: `max_retries + 1` tries; number n, from 0, has `base_timeout * backoff_multiplier ** n`."""

    operation_type: str
    base_timeout: float
    max_retries: int
    backoff_multiplier: float

    def __post_init__(self) -> None:
        name: Any = self.operation_type
        if not isinstance(name, str) or not name.strip():
            raise check.bad("operation_type", name, "must be a non-empty string")
        object.__setattr__(self, "base_timeout", check.seconds("base_timeout", self.base_timeout, positive=True))
        check.count("max_retries", self.max_retries, least=0)
        if self.max_retries > MOST_RETRIES:
            raise check.bad("max_retries", self.max_retries, f"must be at most {MOST_RETRIES}")
        factor = check.number("backoff_multiplier", self.backoff_multiplier, least=1)
        object.__setattr__(self, "backoff_multiplier", factor)


SHIPPED = (
    TimeoutTier("database_query", 5.0, 2, 2.0),
    TimeoutTier("external_api", 10.0, 3, 1.5),
    TimeoutTier("cache_operation", 0.1, 1, 1.0),
)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class TierConfig(check.Options):
    """A tier as the options of a policy, which `registry.configure("timeout", …)` changes."""

    operation_type: str
    base_timeout: float
    max_retries: int
    backoff_multiplier: float
    method: str = "thread"
    max_abandoned: int = 64

    def __post_init__(self) -> None:
        tier = TimeoutTier(self.operation_type, self.base_timeout, self.max_retries, self.backoff_multiplier)
        object.__setattr__(self, "base_timeout", tier.base_timeout)
        object.__setattr__(self, "backoff_multiplier", tier.backoff_multiplier)
        TimeoutConfig(tier.base_timeout, self.method, self.max_abandoned)

    def limit(self, attempt: int) -> float:
        """The limit of a try, counted from 0, in seconds; no number of tries makes it overflow."""
        return exponential(attempt + 1, self.base_timeout, self.backoff_multiplier, check.LONGEST)

    @property
    def longest(self) -> float:
        """The limit of the last try."""
        return self.limit(self.max_retries)


class TierMetrics(NamedTuple):
    """The numbers of a tiered timeout: calls and how they ended, tries that passed their limits, and tries made again.

    limit: of the first try, in seconds. abandoned: threads still at work on tries that nobody waits for.
    """

    limit: float
    calls: int
    succeeded: int
    timed_out: int
    retried: int
    degraded: int
    queued: int
    failed: int
    abandoned: int


class _Tally:
    __slots__ = ("calls", "degraded", "failed", "queued", "retried", "succeeded")

    def __init__(self) -> None:
        self.calls = self.succeeded = self.retried = self.degraded = self.queued = self.failed = 0


class TieredCall(Policy):
    """One tier around functions; made by `tiers(operation_type)`."""

    kind = "timeout"
    config: TierConfig

    def __init__(self, tiers: TieredTimeout, config: TierConfig, degraded: Callable[..., Any] | None) -> None:
        super().__init__(config, None)
        self._tiers = tiers
        self._degraded = None if degraded is None else Fallback(degraded)
        self._limits: dict[tuple[Any, ...], Timeout] = {}
        self._by_name = True
        self.tally = _Tally()

    @property
    def limit(self) -> float:
        """The limit of the first try in seconds."""
        return self.config.base_timeout

    @property
    def amplification(self) -> float:  # type: ignore[override]
        """The number of tries."""
        return self.config.max_retries + 1

    def bound(self, seconds: float) -> float:
        """The limits of all tries together."""
        return math.fsum(min(seconds, self.config.limit(attempt)) for attempt in range(self.config.max_retries + 1))

    @property
    def abandoned(self) -> int:
        """How many threads still work on tries that nobody waits for."""
        return sum(timeout.abandoned for timeout in list(self._limits.values()))

    def serve_plain_calls(self, name: str) -> None:
        """Take an automatic name, and expect functions as they are, which are not found guarded under their names."""
        self._by_name = False
        self._name = registry.name_automatically(self.kind, name, self)

    # Layers -------------------------------------------------------------------------------------

    def sync_layer(self, call: Layer, site: Site) -> Layer:
        """Try, each time with a longer limit, and follow the strategy when the last try fails."""
        self._refuse_async()
        tally, serve, strategy = self.tally, self._serve, self._tiers.fallback_strategy
        *earlier, last = (timeout.sync_layer(call, site) for timeout in self._timeouts())

        def tries(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            for attempt in earlier:
                try:
                    return attempt(args, kwargs)
                except Exception as error:
                    if not _goes_on(error):
                        raise
                tally.retried += 1
            return last(args, kwargs)

        place = self._place(call, site, False)
        attempts = tries if place.cache is None else _remembering(tries, place.cache)

        def tiered(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            tally.calls += 1
            try:
                result = attempts(args, kwargs)
            except Exception as error:
                answer = serve(strategy, place, error, args, kwargs)
                if answer is MISSING:
                    tally.failed += 1
                    raise
                place.around.tell_the_cache_around()
                return answer
            tally.succeeded += 1
            return result

        return tiered

    def async_layer(self, call: Layer, site: Site) -> Layer:
        """Try, each time with a longer limit, and follow the strategy when the last try fails."""
        tally, serve, strategy = self.tally, self._aserve, self._tiers.fallback_strategy
        *earlier, last = (timeout.async_layer(call, site) for timeout in self._timeouts())

        async def tries(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            for attempt in earlier:
                try:
                    return await attempt(args, kwargs)
                except Exception as error:
                    if not _goes_on(error):
                        raise
                tally.retried += 1
            return await last(args, kwargs)

        place = self._place(call, site, True)
        attempts = tries if place.cache is None else _aremembering(tries, place.cache)

        async def tiered(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            tally.calls += 1
            try:
                result = await attempts(args, kwargs)
            except Exception as error:
                answer = await serve(strategy, place, error, args, kwargs)
                if answer is MISSING:
                    tally.failed += 1
                    raise
                place.around.tell_the_cache_around()
                return answer
            tally.succeeded += 1
            return result

        return tiered

    def _timeouts(self) -> list[Timeout]:
        """A timeout for each try; equal limits share one."""
        config = self.config
        return [self._timeout(config.limit(attempt), config.method) for attempt in range(config.max_retries + 1)]

    def _timeout(self, limit: float, method: str) -> Timeout:
        config = TimeoutConfig(limit, method, self.config.max_abandoned)
        return self._limits.setdefault((limit, method, config.max_abandoned), Timeout(config, self.name))

    def bounded(self, call: Layer, site: Site, is_async: bool) -> Layer:
        """One attempt from a queue: within the limit of the last try."""
        method = self.config.method
        timeout = self._timeout(self.config.longest, "thread" if method == "signal" else method)  # no main thread there
        return timeout.async_layer(call, site) if is_async else timeout.sync_layer(call, site)

    def _place(self, call: Layer, site: Site, is_async: bool) -> _Place:
        strategy = self._tiers.fallback_strategy
        cache = queued = None
        if strategy is FallbackStrategy.BEST_EFFORT:
            cache = AnswerCache(self._tiers.answers, None, site.fn)
        if strategy is FallbackStrategy.QUEUE_AND_RETRY:
            queued = self.bounded(call, Site(site.fn, ()), is_async)
        cached_around = any(isinstance(one, Degradation) and one.config.cache is not None for one in site.outer)
        return _Place(site.fn, is_async, cache, queued, Place(None, cached_around))

    # Strategies ---------------------------------------------------------------------------------

    def _serve(
        self, strategy: FallbackStrategy, place: _Place, error: Exception, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """What the strategy answers with, MISSING when the error is to pass."""
        if strategy is FallbackStrategy.BEST_EFFORT and place.cache is not None:
            return self._best_known(place.cache.load(args, kwargs), error)
        if strategy is FallbackStrategy.QUEUE_AND_RETRY and is_retryable(error):
            return self._queued(self._tiers.queue.put, self._to_queue(place, args, kwargs))
        path = self._path(place, args) if strategy is FallbackStrategy.GRACEFUL_DEGRADATION else None
        if path is None:
            return MISSING
        try:
            answer = path[0](error, path[1], kwargs)
            if inspect.iscoroutine(answer):
                answer.close()
                raise TypeError(f"{self.name}: the degraded path of a sync function returned a coroutine")
        except Exception as failure:
            self._all_failed(error, failure)
        return self._served(answer, error, "fallback")

    async def _aserve(
        self, strategy: FallbackStrategy, place: _Place, error: Exception, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """What the strategy answers with, MISSING when the error is to pass."""
        if strategy is FallbackStrategy.BEST_EFFORT and place.cache is not None:
            return self._best_known(place.cache.load(args, kwargs), error)
        if strategy is FallbackStrategy.QUEUE_AND_RETRY and is_retryable(error):
            queue, call = self._tiers.queue, self._to_queue(place, args, kwargs)
            if isinstance(queue, MemoryQueue):
                return self._queued(queue.put, call)
            return await asyncio.to_thread(self._queued, queue.put, call)  # it writes to a disk or a network
        path = self._path(place, args) if strategy is FallbackStrategy.GRACEFUL_DEGRADATION else None
        if path is None:
            return MISSING
        try:
            answer = path[0](error, path[1], kwargs)
            if inspect.isawaitable(answer):
                answer = await answer
        except Exception as failure:
            self._all_failed(error, failure)
        return self._served(answer, error, "fallback")

    def _best_known(self, answer: Any, error: Exception) -> Any:
        if answer is not MISSING:
            return self._served(answer, error, "cache")
        default = self._tiers.default
        return MISSING if default is MISSING else self._served(default, error, "fallback")

    def _path(self, place: _Place, args: tuple[Any, ...]) -> tuple[Fallback, tuple[Any, ...]] | None:
        """The degraded path and its arguments: the one given, or that of the service whose method failed."""
        if self._degraded is not None:
            return self._degraded, args
        if getattr(place.fn, "__name__", "") == "execute_degraded":
            return None  # it cannot stand in for itself
        service = getattr(place.fn, "__self__", None)
        if service is None and args and _is_method(place.fn, args[0]):
            service, args = args[0], args[1:]
        path = getattr(service, "execute_degraded", None)
        return None if path is None else (Fallback(path), args)

    def _served(self, answer: Any, error: Exception, source: str) -> Any:
        self.tally.degraded += 1
        if HUB.wants(FallbackServed):
            HUB.publish(FallbackServed(self.name, error, source))
        return answer

    def _all_failed(self, error: Exception, failure: Exception) -> NoReturn:
        self.tally.failed += 1
        if HUB.wants(FallbackFailed):
            HUB.publish(FallbackFailed(self.name, failure))
        try:
            raise DegradationError(self.name, (error, failure)) from error
        finally:
            del error, failure  # the traceback has this frame, and the frame would have the errors

    def _to_queue(self, place: _Place, args: tuple[Any, ...], kwargs: dict[str, Any]) -> QueuedCall:
        assert place.queued is not None
        recipe = partial(self._recipe, place)
        return QueuedCall(describe(place.fn), place.queued, recipe, args, kwargs, place.is_async)

    def _recipe(self, place: _Place) -> Recipe:
        if self._by_name:
            return GuardedCall.within(self, place.fn, place.is_async)
        return PlainCall(place.fn, self.config.longest, place.is_async)

    def _queued(self, put: Callable[[QueuedCall], Receipt], call: QueuedCall) -> Receipt:
        try:
            receipt = put(call)
        except BaseException:
            self.tally.failed += 1
            raise
        self.tally.queued += 1
        return receipt

    # Common -------------------------------------------------------------------------------------

    def _refuse_async(self) -> None:
        graceful = self._tiers.fallback_strategy is FallbackStrategy.GRACEFUL_DEGRADATION
        path = self._degraded
        if graceful and path is not None and path.kind in (Kind.ASYNC, Kind.ASYNC_GENERATOR):
            raise TypeError(f"degraded={describe(path.answer)} is async and cannot serve a sync function; make it sync")

    def get_metrics(self) -> TierMetrics:
        """The numbers of now."""
        tally, timeouts = self.tally, list(self._limits.values())
        return TierMetrics(
            limit=self.limit,
            calls=tally.calls,
            succeeded=tally.succeeded,
            timed_out=sum(timeout.get_metrics().timed_out for timeout in timeouts),
            retried=tally.retried,
            degraded=tally.degraded,
            queued=tally.queued,
            failed=tally.failed,
            abandoned=self.abandoned,
        )

    def after_fork(self) -> None:
        """Make the policy usable in a forked child."""
        super().after_fork()
        for timeout in self._limits.values():
            timeout.after_fork()


class _Place(NamedTuple):
    """Where a tier stands: the function, its remembered answers, what a queue makes of it, and a cache around."""

    fn: Any
    is_async: bool
    cache: AnswerCache | None
    queued: Layer | None
    around: Place


def _remembering(call: Layer, cache: AnswerCache) -> Layer:
    """Remember good answers, but not those that a fallback further in has given."""

    def remember(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        key = cache.key(args, kwargs)
        with Notes(everywhere=True) as notes:
            answer = call(args, kwargs)
        if not notes.left:
            cache.store(key, answer)
        return answer

    return remember


def _aremembering(call: Layer, cache: AnswerCache) -> Layer:
    """Remember good answers, but not those that a fallback further in has given."""

    async def remember(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        key = cache.key(args, kwargs)
        with Notes(everywhere=True) as notes:
            answer = await call(args, kwargs)
        if not notes.left:
            cache.store(key, answer)
        return answer

    return remember


def _goes_on(error: Exception) -> bool:
    """Whether another try follows."""
    due = DUE.get()
    return is_retryable(error) and (due is None or CLOCK.monotonic() < due)


def _is_method(fn: Any, owner: Any) -> bool:
    """Whether `fn`, as guarded, is a method of the object."""
    found = inspect.getattr_static(type(owner), getattr(fn, "__name__", ""), None)
    return isinstance(found, Guarded) and found.__wrapped__ is fn


class TieredTimeout:
    """Timeouts by kind of operation, each with its number of tries, and one strategy for when the last try fails.

    `@tiers("external_api")` decorates; `tiers.execute("database_query", fn, *args)` makes one call.
    Every try is a new call of the function, with a limit of its own that grows from try to try; nothing sleeps in
    between. An error whose `is_retryable()` is False ends the tries, and so does a deadline that has passed;
    cancellation passes at once.

    Args:
        fallback_strategy: what happens when the last try fails.
        default: BEST_EFFORT: the answer where there is no good one yet; never remembered as one.
        degraded: GRACEFUL_DEGRADATION: a callable on the call's arguments (and `error=`, if it takes that) for tiers
            that have none of their own. Where there is none at all, the `execute_degraded` of the object that the
            function is a method of.
        queue: QUEUE_AND_RETRY: a CallQueue; by default a MemoryQueue, made when it is needed.
        method: how a sync try is limited, as in `timeout(method=)`.
        max_answers: BEST_EFFORT: so many answers are remembered, the latest used ones.
    """

    def __init__(
        self,
        fallback_strategy: FallbackStrategy = FallbackStrategy.GRACEFUL_DEGRADATION,
        *,
        default: Any = MISSING,
        degraded: Callable[..., Any] | None = None,
        queue: CallQueue | None = None,
        method: str = "thread",
        max_answers: int = 1024,
    ) -> None:
        strategy: Any = fallback_strategy
        if not isinstance(strategy, FallbackStrategy):
            known = ", ".join(one.name for one in FallbackStrategy)
            raise check.bad("fallback_strategy", strategy, f"must be a FallbackStrategy: {known}")
        if queue is not None and not callable(getattr(queue, "put", None)):
            raise TypeError(f"queue={queue!r}: must be a CallQueue, such as MemoryQueue() or SqliteQueue(path)")
        TimeoutConfig(1.0, method)
        self.fallback_strategy = fallback_strategy
        self.default = default
        self.degraded = degraded_path(degraded)
        self.method = method
        self.max_answers: int = check.count("max_answers", max_answers)
        self._queue = queue
        self._answers: Any = None
        self._lock = threading.RLock()
        self._tiers: dict[str, TimeoutTier] = {}
        self._degraded: dict[str, Callable[..., Any] | None] = {}
        self._executors: dict[str, TieredCall] = {}
        for tier in SHIPPED:
            self.add_tier(tier)

    @property
    def tiers(self) -> Mapping[str, TimeoutTier]:
        """The tiers by operation type, read-only."""
        return MappingProxyType(self._tiers)

    @property
    def queue(self) -> CallQueue:
        """Where QUEUE_AND_RETRY puts its calls."""
        with self._lock:
            if self._queue is None:
                self._queue = MemoryQueue()
            return self._queue

    @property
    def answers(self) -> Any:
        """Where BEST_EFFORT keeps good answers."""
        with self._lock:
            if self._answers is None:
                from cachetools import LRUCache

                self._answers = LRUCache(self.max_answers)
            return self._answers

    def add_tier(self, tier: TimeoutTier, *, degraded: Callable[..., Any] | None = None) -> TieredTimeout:
        """Add a tier, or replace the one of the same operation type, also a shipped one; returns itself.

        Functions that are decorated already keep the tier they have.
        """
        given: Any = tier
        if not isinstance(given, TimeoutTier):
            raise TypeError(f"add_tier({given!r}): must be a TimeoutTier")
        path = degraded_path(degraded)
        with self._lock:
            self._degraded[tier.operation_type] = path
            self._tiers = {**self._tiers, tier.operation_type: tier}
            self._executors.pop(tier.operation_type, None)
        return self

    def __call__(self, operation_type: str, /, *, degraded: Callable[..., Any] | None = None) -> TieredCall:
        """A decorator for one kind of operation; raises UnknownNameError for a tier that does not exist."""
        tier = self._tier(operation_type)
        config = TierConfig(
            tier.operation_type, tier.base_timeout, tier.max_retries, tier.backoff_multiplier, self.method
        )
        path = degraded_path(degraded) or self._degraded[operation_type] or self.degraded
        return registry.obtain("timeout", None, config, lambda: TieredCall(self, config, path))

    def execute(self, operation_type: str, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Make one call of a sync function, or of the `execute_full` of a service that can also `execute_degraded`.

        Raises UnknownNameError for a tier that does not exist.
        """
        result: R = self._executor(operation_type).call(_full(fn), *args, **kwargs)
        return result

    async def aexecute(
        self, operation_type: str, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Make one call of an async function, or of the `execute_full` of a service that can `execute_degraded`."""
        result: R = await self._executor(operation_type).acall(_full(fn), *args, **kwargs)
        return result

    def _executor(self, operation_type: str) -> TieredCall:
        """The policy that `execute` makes its calls through: one for each tier."""
        executor = self._executors.get(operation_type)
        if executor is None:
            executor = self(operation_type)
            executor.serve_plain_calls(f"tiers.{operation_type}")
            with self._lock:
                executor = self._executors.setdefault(operation_type, executor)
        return executor

    def _tier(self, operation_type: str) -> TimeoutTier:
        name: Any = operation_type
        tier = self._tiers.get(name) if isinstance(name, str) else None
        if tier is None:
            raise UnknownNameError(
                f"there is no tier {operation_type!r}: known are {', '.join(sorted(self._tiers))}; see add_tier"
            )
        return tier

    def __repr__(self) -> str:
        return f"<tiered timeout {self.fallback_strategy.name}: {', '.join(self._tiers)}>"


def degraded_path(given: Any) -> Callable[..., Any] | None:
    """A degraded path: a callable, or a service with `execute_degraded`."""
    path = getattr(given, "execute_degraded", given)
    return check.callable_or_none("degraded", path)  # type: ignore[no-any-return]


def _full(fn: Any) -> Any:
    """The full path of a service, or the function itself."""
    if hasattr(fn, "execute_full") and hasattr(fn, "execute_degraded"):
        return fn.execute_full
    return fn
