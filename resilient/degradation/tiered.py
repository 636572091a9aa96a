"""Timeouts by kind of operation: how long each try may take, how many tries, and what to do when the last one fails."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, ParamSpec, Protocol, TypeAlias, TypeVar, overload

from resilient import _checks as check
from resilient._registry import registry
from resilient.degradation.queues.memory import MemoryQueue
from resilient.degradation.queues.protocol import CallQueue
from resilient.degradation.tiered_call import TieredCall
from resilient.degradation.tiers import SHIPPED, FallbackStrategy, TierConfig, TierMetrics, TimeoutTier
from resilient.degrade.caches import MISSING
from resilient.errors import UnknownNameError
from resilient.timeout import TimeoutConfig

__all__ = ["MISSING", "SHIPPED", "FallbackStrategy", "TierMetrics", "TieredCall", "TieredTimeout", "TimeoutTier"]

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Degradable(Protocol):
    """What has a degraded path."""

    def execute_degraded(self, *args: Any, **kwargs: Any) -> Any:
        """Answer more simply; gets the same arguments, and `error=` too if it has such a parameter."""


class Service(Degradable, Protocol[P, R_co]):
    """What has a full path too."""

    def execute_full(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Do the real thing."""


DegradedPath: TypeAlias = "Callable[..., Any] | Degradable | None"


class TieredTimeout:
    """Timeouts by kind of operation, each with its number of tries, and one strategy for when the last try fails.

    `@tiers("external_api")` decorates; `tiers.execute("database_query", fn, *args)` makes one call.
    Every try is a new call of the function, with a limit of its own that grows from try to try; nothing sleeps in
    between. An error whose `is_retryable()` is False ends the tries, and so does a deadline that has passed;
    cancellation passes at once.

    `default`, `degraded`, `queue` and `max_answers` are used by the strategy that each is listed with, and by no other.

    Args:
        fallback_strategy: what happens when the last try fails.
        default: BEST_EFFORT: the answer where there is no good one yet; never remembered as one.
        degraded: GRACEFUL_DEGRADATION: a callable on the call's arguments (and `error=`, if it takes that), or a
            service with `execute_degraded`, for tiers that have none of their own. Where there is none at all, the
            `execute_degraded` of the object that the function is a method of.
        queue: QUEUE_AND_RETRY: a CallQueue; by default a MemoryQueue, made when it is needed.
        method: how a sync try is limited, as in `timeout(method=)`.
        max_answers: BEST_EFFORT: so many answers are remembered, the latest used ones.
    """

    def __init__(
        self,
        fallback_strategy: FallbackStrategy = FallbackStrategy.GRACEFUL_DEGRADATION,
        *,
        default: Any = MISSING,
        degraded: DegradedPath = None,
        queue: CallQueue | None = None,
        method: str = "thread",
        max_answers: int = 1024,
    ) -> None:
        strategy: Any = fallback_strategy
        if not isinstance(strategy, FallbackStrategy):
            known = ", ".join(one.name for one in FallbackStrategy)
            raise check.bad("fallback_strategy", strategy, f"must be a FallbackStrategy: {known}")
        given: Any = queue
        if isinstance(given, type) or (given is not None and not callable(getattr(given, "put", None))):
            raise TypeError(f"queue={queue!r}: must be a CallQueue, such as MemoryQueue() or SqliteQueue(path)")
        TimeoutConfig(1.0, method)
        self.fallback_strategy = fallback_strategy
        self.default = default
        self.degraded = degraded_path(degraded)
        self.method = method
        self.max_answers: int = check.count("max_answers", max_answers)
        self._queue = queue
        self._answers: Any = None
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
        queue = self._queue
        if queue is None:
            with registry.lock:
                queue = self._queue
                if queue is None:
                    queue = self._queue = MemoryQueue()
        return queue

    @property
    def answers(self) -> Any:
        """Where BEST_EFFORT keeps good answers."""
        if self._answers is None:
            from cachetools import LRUCache

            with registry.lock:
                if self._answers is None:
                    self._answers = LRUCache(self.max_answers)
        return self._answers

    def add_tier(self, tier: TimeoutTier, *, degraded: DegradedPath = None) -> TieredTimeout:
        """Add a tier, or replace the one of the same operation type, also a shipped one; returns itself.

        Functions that are decorated already keep the tier they have.
        """
        given: Any = tier
        if not isinstance(given, TimeoutTier):
            raise TypeError(f"add_tier({given!r}): must be a TimeoutTier")
        path = degraded_path(degraded)
        with registry.lock:
            self._degraded[tier.operation_type] = path
            self._tiers = {**self._tiers, tier.operation_type: tier}
            self._executors.pop(tier.operation_type, None)
        return self

    def __call__(self, operation_type: str, /, *, degraded: DegradedPath = None) -> TieredCall:
        """A decorator for one kind of operation; raises UnknownNameError for a tier that does not exist."""
        tier = self._tier(operation_type)
        config = TierConfig(
            tier.operation_type, tier.base_timeout, tier.max_retries, tier.backoff_multiplier, self.method
        )
        path = degraded_path(degraded) or self._degraded[operation_type] or self.degraded
        return registry.obtain("timeout", None, config, lambda: TieredCall(self, config, path))

    @overload
    def execute(self, operation_type: str, fn: Service[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...

    @overload
    def execute(self, operation_type: str, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...

    def execute(self, operation_type: str, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Make one call of a sync function, or of the `execute_full` of a service that can also `execute_degraded`.

        With QUEUE_AND_RETRY the answer may be a Receipt, which no type says: ask `isinstance(answer, Receipt)`.
        Raises UnknownNameError for a tier that does not exist.
        """
        return self._executor(operation_type).call(_full(fn), *args, **kwargs)

    @overload
    async def aexecute(
        self, operation_type: str, fn: Service[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R: ...

    @overload
    async def aexecute(
        self, operation_type: str, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R: ...

    async def aexecute(self, operation_type: str, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Make one call of an async function, or of the `execute_full` of a service, as `execute` does."""
        return await self._executor(operation_type).acall(_full(fn), *args, **kwargs)

    def _executor(self, operation_type: str) -> TieredCall:
        """The policy that `execute` makes its calls through: one for each tier, which the registry knows."""
        self._tier(operation_type)
        executor = self._executors.get(operation_type)
        if executor is None or not executor.known:
            with registry.lock:
                executor = self._executors.get(operation_type) or self(operation_type)
                if not executor.known:
                    executor.serve_plain_calls(f"tiers.{operation_type}")
                self._executors[operation_type] = executor
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
    full = fn.execute_full if hasattr(fn, "execute_full") and hasattr(fn, "execute_degraded") else fn
    if not callable(full):
        raise TypeError(f"{fn!r} cannot be executed: give a callable, or a service with execute_full, execute_degraded")
    return full
