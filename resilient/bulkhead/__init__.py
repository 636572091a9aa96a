"""Bulkhead: at most so many calls at once, the rest wait in order or are turned away."""

from __future__ import annotations

from typing import Any, overload

from resilient import _checks as check
from resilient._checks import Seconds
from resilient._registry import registry
from resilient.bulkhead.config import BulkheadConfig
from resilient.bulkhead.policy import Bulkhead, BulkheadMetrics
from resilient.circuit_breaker import CircuitBreaker
from resilient.policy import F

__all__ = ["Bulkhead", "BulkheadConfig", "BulkheadMetrics", "bulkhead"]


@overload
def bulkhead(fn: F, /) -> F: ...
@overload
def bulkhead(
    fn_or_name: str | None = None,
    /,
    *,
    max_concurrent: int = 100,
    max_wait: Seconds | None = 30.0,
    max_queue: int | None = None,
    circuit_breaker: CircuitBreaker | str | None = None,
    name: str | None = None,
) -> Bulkhead: ...
def bulkhead(
    fn_or_name: Any = None,
    /,
    *,
    max_concurrent: int = 100,
    max_wait: Any = 30.0,
    max_queue: int | None = None,
    circuit_breaker: Any = None,
    name: str | None = None,
) -> Any:
    """Let at most `max_concurrent` calls in at once, over all threads, tasks and event loops together.

    Use bare, with a name, with options, as `policy.call`, or as `with policy:` / `async with policy:`. Those who wait
    get in first come, first served. A sync call that a timeout has abandoned keeps its place until it really ends.

    Args:
        max_concurrent: places.
        max_wait: seconds or timedelta to wait for one; 0 for not at all, None for as long as it takes.
        max_queue: how many may wait at once; None for any number.
        circuit_breaker: a breaker policy, or the name of a registered one, that guards the same calls; while it is
            open nobody waits.
        name: for the registry, the same as the first argument; automatic if left out.

    Raises:
        BulkheadFullError: (at the call) the queue is full, or no place became free in time.
        BulkheadClosedError: (at the call) the bulkhead was closed.
        ConfigurationError: an option has an impossible value, or the name is taken by another configuration.
    """
    fn, name = check.function_or_name(fn_or_name, name)
    config = BulkheadConfig(max_concurrent, max_wait, max_queue, circuit_breaker)
    policy = registry.obtain("bulkhead", name, config, lambda: Bulkhead(config, name))
    return policy if fn is None else policy(fn)
