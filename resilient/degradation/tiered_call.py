"""One tier around functions: its tries, each with a limit of its own, and what its strategy answers in the end."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from resilient import _checks as check
from resilient._registry import registry
from resilient.clock import CLOCK
from resilient.deadlines import DUE
from resilient.degradation.queues.calls import GuardedCall, PlainCall, Recipe
from resilient.degradation.tiered_strategies import LastResort, Tally
from resilient.degradation.tiers import FallbackStrategy, TierConfig, TierMetrics
from resilient.degrade.caches import MISSING, aremembering, remembering
from resilient.degrade.fallbacks import Fallback
from resilient.errors import is_retryable
from resilient.generators import Layer
from resilient.policy import Policy
from resilient.timeout import Timeout, TimeoutConfig
from resilient.wrapping import Kind, Site, describe

if TYPE_CHECKING:
    from resilient.degradation.tiered import TieredTimeout


class TieredCall(Policy):
    """One tier around functions; made by `tiers(operation_type)`."""

    kind = "timeout"
    config: TierConfig

    def __init__(self, tiers: TieredTimeout, config: TierConfig, degraded: Callable[..., Any] | None) -> None:
        super().__init__(config, None)
        self._tiers = tiers
        self._degraded = None if degraded is None else Fallback(degraded)
        self._limits: dict[tuple[Any, ...], Timeout] = {}
        #: What a policy of plain calls wants to be named; they are not found guarded under their functions' names.
        self._plain: str | None = None
        self.tally = Tally()

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

    @property
    def label(self) -> str:
        """What errors and events call it: its name, without a number where it serves plain calls."""
        return self._plain or self.name

    @property
    def known(self) -> bool:
        """Whether the registry of now has it under its name; a `scoped()` begins and ends with another one."""
        found: Any = registry.timeouts.get(self._name or "")
        return found is self

    def serve_plain_calls(self, name: str) -> None:
        """Take this name, or one like it, in the registry of now; the caller has its lock."""
        held = self._name
        wanted = name if held is None or held in registry.timeouts else held
        self._plain, self._name = name, registry.name_automatically(self.kind, wanted, self)

    # Layers -------------------------------------------------------------------------------------

    def sync_layer(self, call: Layer, site: Site) -> Layer:
        """Try, each time with a longer limit, and follow the strategy when the last try fails."""
        self._refuse_async_path()
        tally, last = self.tally, self.config.max_retries
        layer_of = self._layers(call, site, Kind.SYNC)
        first = layer_of(0)

        def tries(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            attempt, number = first, 0
            while number < last:
                try:
                    return attempt(args, kwargs)
                except Exception as error:
                    if not _goes_on(error):
                        raise
                tally.retried += 1
                number += 1
                attempt = layer_of(number)
            return attempt(args, kwargs)

        resort = self._last_resort(call, site, False)
        around = resort.around
        attempts: Layer = tries
        if resort.cache is not None:
            attempts = remembering(tries, resort.cache, around, around.function)

        def tiered(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            tally.calls += 1
            try:
                result = attempts(args, kwargs)
            except Exception as error:
                answer = resort.answer(error, args, kwargs)
                if answer is MISSING:
                    tally.failed += 1
                    raise
                around.tell_the_cache_around()
                return answer
            tally.succeeded += 1
            return result

        return tiered

    def async_layer(self, call: Layer, site: Site) -> Layer:
        """Try, each time with a longer limit, and follow the strategy when the last try fails."""
        tally, last = self.tally, self.config.max_retries
        layer_of = self._layers(call, site, Kind.ASYNC)
        first = layer_of(0)

        async def tries(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            attempt, number = first, 0
            while number < last:
                try:
                    return await attempt(args, kwargs)
                except Exception as error:
                    if not _goes_on(error):
                        raise
                tally.retried += 1
                number += 1
                attempt = layer_of(number)
            return await attempt(args, kwargs)

        resort = self._last_resort(call, site, True)
        around = resort.around
        attempts: Layer = tries
        if resort.cache is not None:
            attempts = aremembering(tries, resort.cache, around, around.function)

        async def tiered(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            tally.calls += 1
            try:
                result = await attempts(args, kwargs)
            except Exception as error:
                answer = await resort.aanswer(error, args, kwargs)
                if answer is MISSING:
                    tally.failed += 1
                    raise
                around.tell_the_cache_around()
                return answer
            tally.succeeded += 1
            return result

        return tiered

    def _layers(self, call: Layer, site: Site, kind: Kind) -> Callable[[int], Layer]:
        """The layer of each try, counted from 0: made when it is first needed, as most calls need one only."""
        config, made = self.config, dict[float, Layer]()

        def layer_of(number: int) -> Layer:
            limit = config.limit(number)
            layer = made.get(limit)
            if layer is None:
                layer = made[limit] = getattr(self._timeout(config, limit, config.method), kind.value)(call, site)
            return layer

        return layer_of

    def _timeout(self, config: TierConfig, limit: float, method: str) -> Timeout:
        """The timeout of a try; equal limits share one."""
        key = limit, method, config.max_abandoned
        timeout = self._limits.get(key)
        if timeout is None:
            timeout = self._limits.setdefault(key, Timeout(TimeoutConfig(*key), self.label))
        return timeout

    def bounded(self, call: Layer, site: Site, is_async: bool) -> Layer:
        """One attempt from a queue: within the limit of the last try."""
        config = self.config
        method = "thread" if config.method == "signal" else config.method  # a queue's thread is not the main one
        timeout = self._timeout(config, config.longest, method)
        return timeout.async_layer(call, site) if is_async else timeout.sync_layer(call, site)

    def _last_resort(self, call: Layer, site: Site, is_async: bool) -> LastResort:
        queues = self._tiers.fallback_strategy is FallbackStrategy.QUEUE_AND_RETRY
        queued = self.bounded(call, Site(site.fn, ()), is_async) if queues else None
        return LastResort(self, self._tiers, self._degraded, site, queued, is_async)

    def recipe(self, fn: Any, is_async: bool) -> Recipe:
        """How another process makes a call of the function again."""
        if self._plain is None:
            return GuardedCall.within(self, fn, is_async)
        return PlainCall(fn, self.config.longest, is_async)

    def _refuse_async_path(self) -> None:
        graceful = self._tiers.fallback_strategy is FallbackStrategy.GRACEFUL_DEGRADATION
        path = self._degraded
        if graceful and path is not None and path.kind in (Kind.ASYNC, Kind.ASYNC_GENERATOR):
            raise TypeError(f"degraded={describe(path.answer)} is async and cannot serve a sync function; make it sync")

    # Common -------------------------------------------------------------------------------------

    def reconfigure(self, changes: dict[str, Any]) -> None:
        """Change options of the live policy; a bad change raises and changes nothing."""
        tier = self.config.operation_type
        if changes.get("operation_type", tier) != tier:
            remedy = f"this is a tier {tier!r} and stays one; change its numbers, or decorate with another tier"
            raise check.bad("operation_type", changes["operation_type"], remedy)
        super().reconfigure(changes)

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

    def __repr__(self) -> str:
        return f"<{self.kind} {self._plain or self._name or 'unnamed'}, tier {self.config.operation_type}>"


def _goes_on(error: Exception) -> bool:
    """Whether another try follows."""
    due = DUE.get()
    return is_retryable(error) and (due is None or CLOCK.monotonic() < due)
