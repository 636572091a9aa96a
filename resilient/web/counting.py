"""What the counters of a policy say: calls in all, and those that did not go well; and what it is doing now."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from resilient.circuit_breaker import CircuitState

#: How much a state concerns whoever looks at the page; the first is shown first.
ALARM, WARNING, NOTICE, CALM = range(4)


class Counts(NamedTuple):
    """Calls so far (None where nobody counts them), how many of them did not go well, and the state.

    `recent` is the state where calls did not go well during the last minute, if that makes another one of it.
    """

    calls: int | None
    bad: int
    state: str
    concern: int
    in_flight: int | None
    recent: tuple[str, int] | None = None


_BREAKER = {
    CircuitState.OPEN: ALARM,
    CircuitState.ISOLATED: ALARM,
    CircuitState.HALF_OPEN: WARNING,
    CircuitState.DISABLED: NOTICE,
    CircuitState.CLOSED: CALM,
}


def _circuit_breaker(policy: Any) -> Counts:
    numbers = policy.get_metrics()
    succeeded, failed = policy.totals()
    bad = failed + numbers.rejected_count
    flight = numbers.probes_in_flight if numbers.state is CircuitState.HALF_OPEN else None
    return Counts(succeeded + bad, bad, numbers.state.value, _BREAKER[numbers.state], flight)


def _bulkhead(policy: Any) -> Counts:
    numbers = policy.get_metrics()
    state, concern = "free", CALM
    if numbers.closed:
        state, concern = "shut", NOTICE
    elif numbers.available_permits <= 0:
        state, concern = "full", WARNING
    calls = numbers.admitted + numbers.rejected
    return Counts(calls, numbers.rejected, state, concern, numbers.active_requests, ("rejecting", WARNING))


def _retry(policy: Any) -> Counts:
    numbers = policy.get_metrics()
    return Counts(numbers.calls, numbers.failed, "fine", CALM, None, ("giving up", NOTICE))


def _timeout(policy: Any) -> Counts:
    numbers = policy.get_metrics()
    state, concern = ("stuck", WARNING) if numbers.abandoned else ("fine", CALM)
    return Counts(None, numbers.timed_out, state, concern, numbers.abandoned, ("too slow", NOTICE))


def _degrade(policy: Any) -> Counts:
    numbers = policy.get_metrics()
    bad = numbers.served_cached + numbers.served_fallback + numbers.failed
    return Counts(numbers.succeeded + bad, bad, "fine", CALM, numbers.fallbacks_running, ("degraded", NOTICE))


COUNTS: dict[str, Callable[[Any], Counts]] = {
    "circuit_breaker": _circuit_breaker,
    "bulkhead": _bulkhead,
    "retry": _retry,
    "timeout": _timeout,
    "degrade": _degrade,
}
