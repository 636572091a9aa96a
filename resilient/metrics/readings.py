"""What each policy says of itself when it is asked: samples, read from the counters that it keeps anyway."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from resilient.circuit_breaker.state import CircuitState
from resilient.degrade.caches import is_fresh_cache
from resilient.meters import Distribution
from resilient.retry.state import REASONS

if TYPE_CHECKING:
    from resilient.bulkhead import Bulkhead
    from resilient.circuit_breaker import CircuitBreaker
    from resilient.degrade import Degradation
    from resilient.retry import RetryPolicy
    from resilient.timeout import Timeout

Value = float | Distribution
#: A metric, the values of its labels but for the name, which comes first, and what was read.
Reading = tuple[str, tuple[str, ...], Value]

STATES = {
    CircuitState.CLOSED: 0,
    CircuitState.OPEN: 1,
    CircuitState.HALF_OPEN: 2,
    CircuitState.ISOLATED: 1,
    CircuitState.DISABLED: 0,
}
_FORCED = (CircuitState.ISOLATED, CircuitState.DISABLED)


def of_retry(policy: RetryPolicy) -> Iterator[Reading]:
    """The readings of a retry."""
    tally = policy.tally
    yield "recovery_retry_latency_seconds", (), policy.latencies()
    yield "recovery_retry_attempts_total", (), tally.attempts
    yield "recovery_retry_success_total", (), tally.succeeded
    yield "recovery_retry_failure_total", (), tally.failed
    yield "recovery_calls_total", ("success",), tally.succeeded
    yield "recovery_calls_total", ("failure",), tally.failed
    for reason, place in REASONS.items():
        # The common one always: to Prometheus, a series that first appears with a value has not risen.
        if tally.reasons[place] or reason == "attempts":
            yield "recovery_retry_exhausted_total", (reason,), tally.reasons[place]
    budget = policy.config.budget
    if budget is not None:
        numbers = budget.get_metrics()
        yield "recovery_retry_budget_tokens", (), numbers.available
        yield "recovery_retry_budget_refusals_total", (), tally.reasons[REASONS["budget"]]


def of_circuit_breaker(policy: CircuitBreaker) -> Iterator[Reading]:
    """The readings of a circuit breaker; an open period that is over ends by being read."""
    numbers = policy.get_metrics()
    successes, failures = policy.totals()
    yield "recovery_circuit_breaker_state", (), STATES[numbers.state]
    yield "recovery_circuit_breaker_failures_total", (), failures
    yield "recovery_circuit_breaker_successes_total", (), successes
    yield "recovery_circuit_breaker_state_changes_total", (), numbers.state_changes
    yield "recovery_circuit_breaker_rejections_total", (), numbers.rejected_count
    yield "recovery_circuit_breaker_failure_rate", (), numbers.failure_rate
    if numbers.state in _FORCED:
        yield "recovery_circuit_breaker_forced", (numbers.state.value,), 1
    yield "recovery_calls_total", ("success",), successes
    yield "recovery_calls_total", ("failure",), failures
    yield "recovery_calls_total", ("rejected",), numbers.rejected_count


def of_bulkhead(policy: Bulkhead) -> Iterator[Reading]:
    """The readings of a bulkhead."""
    numbers = policy.get_metrics()
    yield "recovery_bulkhead_rejections_total", (), numbers.rejected
    yield "recovery_bulkhead_active_connections", (), numbers.active_requests
    yield "recovery_bulkhead_queue_size", (), numbers.queue_length
    yield "recovery_bulkhead_capacity", (), numbers.max_concurrent
    yield "recovery_calls_total", ("admitted",), numbers.admitted
    yield "recovery_calls_total", ("rejected",), numbers.rejected


def of_timeout(policy: Timeout) -> Iterator[Reading]:
    """The readings of a timeout."""
    numbers = policy.get_metrics()
    yield "recovery_timeout_events_total", (), numbers.timed_out
    yield "recovery_timeout_duration_seconds", (), policy.durations()
    yield "recovery_timeout_limit_seconds", (), numbers.limit
    yield "recovery_timeout_abandoned_threads", (), numbers.abandoned
    yield "recovery_calls_total", ("timeout",), numbers.timed_out


def of_degradation(policy: Degradation) -> Iterator[Reading]:
    """The readings of a degradation."""
    numbers = policy.get_metrics()
    otherwise = numbers.served_cached + numbers.served_fallback
    without = otherwise + numbers.failed
    yield "recovery_degradation_events_total", (), otherwise
    yield "recovery_degradation_success_rate", (), otherwise / without if without else float("nan")
    yield "recovery_calls_total", ("success",), numbers.succeeded
    yield "recovery_calls_total", ("cached",), numbers.served_cached
    yield "recovery_calls_total", ("fallback",), numbers.served_fallback
    yield "recovery_calls_total", ("failure",), numbers.failed


def of_cache(cache: Any) -> Iterator[Reading]:
    """The readings of a CachedDegradation, under the name of a degradation that uses it."""
    numbers = cache.get_metrics()
    yield "recovery_cache_requests_total", ("hit",), numbers.cache_hits
    yield "recovery_cache_requests_total", ("miss",), numbers.cache_misses
    yield "recovery_cache_requests_total", ("stale",), numbers.fallback_hits
    yield "recovery_cache_requests_total", ("nothing",), numbers.fallback_misses


def of_manager(manager: Any) -> Iterator[Reading]:
    """The readings of a DegradationManager."""
    numbers = manager.get_metrics()
    yield "recovery_degradation_mode", (), {"normal": 0, "partial": 1, "full": 2}[numbers.mode.value]
    yield "recovery_degradation_mode_changes_total", (), numbers.mode_changes
    spared = sum(health.degraded for health in numbers.services.values())
    yield "recovery_degradation_degraded_services", (), spared
    for mode, durations in manager.mode_durations().items():
        yield "recovery_degradation_mode_duration_seconds", (mode.value,), durations


def cache_of(policy: Any) -> Any:
    """The CachedDegradation of a degradation, if it has one."""
    cache = policy.config.cache
    return cache if is_fresh_cache(cache) else None


OF_KIND: dict[str, Callable[[Any], Iterator[Reading]]] = {
    "retry": of_retry,
    "circuit_breaker": of_circuit_breaker,
    "bulkhead": of_bulkhead,
    "timeout": of_timeout,
    "degrade": of_degradation,
}
