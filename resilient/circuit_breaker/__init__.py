"""Circuit breaker: stop calling what keeps failing, and find out with few calls when it is well again."""

from __future__ import annotations

from typing import Any, overload

from resilient import _checks as check
from resilient._checks import ErrorFilter, Seconds
from resilient._registry import registry
from resilient.circuit_breaker.config import CircuitBreakerConfig
from resilient.circuit_breaker.policy import CircuitBreaker, CircuitMetrics
from resilient.circuit_breaker.state import CircuitState
from resilient.policy import F

__all__ = ["CircuitBreaker", "CircuitBreakerConfig", "CircuitMetrics", "CircuitState", "circuit_breaker"]


@overload
def circuit_breaker(fn: F, /) -> F: ...
@overload
def circuit_breaker(
    fn_or_name: str | None = None,
    /,
    *,
    failure_threshold: int = 5,
    recovery_timeout: Seconds = 60.0,
    expected_exception: ErrorFilter = Exception,
    ignore: ErrorFilter = (),
    failure_rate_threshold: float | None = None,
    window_size: int | None = None,
    window_duration: Seconds | None = None,
    minimum_calls: int | None = None,
    slow_call_duration: Seconds | None = None,
    slow_call_rate_threshold: float | None = None,
    half_open_calls: int = 10,
    probe_timeout: Seconds | None = None,
    recovery_multiplier: float = 1.0,
    max_recovery_timeout: Seconds | None = None,
    recovery_jitter: float = 0.0,
    name: str | None = None,
) -> CircuitBreaker: ...
def circuit_breaker(
    fn_or_name: Any = None,
    /,
    *,
    failure_threshold: int = 5,
    recovery_timeout: Any = 60.0,
    expected_exception: ErrorFilter = Exception,
    ignore: ErrorFilter = (),
    failure_rate_threshold: float | None = None,
    window_size: int | None = None,
    window_duration: Any = None,
    minimum_calls: int | None = None,
    slow_call_duration: Any = None,
    slow_call_rate_threshold: float | None = None,
    half_open_calls: int = 10,
    probe_timeout: Any = None,
    recovery_multiplier: float = 1.0,
    max_recovery_timeout: Any = None,
    recovery_jitter: float = 0.0,
    name: str | None = None,
) -> Any:
    """Open the circuit when calls keep failing; then reject calls at once, and later let a few probes find out.

    Use bare (`@circuit_breaker`), with a name (`@circuit_breaker("payments")`), with options, as `policy.call`, or as
    `with policy:` / `async with policy:`. While the circuit is open, calls raise CircuitOpenError with `retry_after`.

    What opens it: `failure_threshold` consecutive failures; with `window_size` or `window_duration`, that many failures
    in the window; with `failure_rate_threshold`, that rate in the window. Slow calls open it by their own rate.

    Args:
        failure_threshold: failures that open the circuit.
        recovery_timeout: seconds or timedelta the circuit stays open before probes are let through.
        expected_exception: what counts as failure: an exception type, a tuple of types, or a predicate. By default
            every Exception but the rejections of policies further in.
        ignore: errors that count neither as failure nor as success, in the same forms; wins.
        failure_rate_threshold: fraction of failures in the window, such as 0.5; the window is 100 calls if not given.
        window_size: look at the last so many calls.
        window_duration: look at the calls of the last seconds (or timedelta).
        minimum_calls: calls in the window before a rate says anything; by default the whole count window, 10 in time.
        slow_call_duration: seconds from which a call counts as slow.
        slow_call_rate_threshold: fraction of slow calls that opens the circuit, 1.0 if only the duration is given.
        half_open_calls: probes in a half-open round, also the most in flight at once. When all of them succeeded the
            circuit closes, when under half did it opens again, otherwise another round follows.
        probe_timeout: seconds after which a hung probe loses its place; None means `recovery_timeout` (60 s if 0).
        recovery_multiplier: growth of the open period with every failed half-open round.
        max_recovery_timeout: upper limit of the open period in seconds.
        recovery_jitter: fraction by which the open period is spread, so that a fleet does not probe in step.
        name: for the registry, the same as the first argument; automatic if left out.

    Raises:
        ConfigurationError: an option has an impossible value, or the name is taken by another configuration.
        TypeError: an unknown option, or something that cannot be guarded.
    """
    fn, name = check.function_or_name(fn_or_name, name)
    config = CircuitBreakerConfig(
        failure_threshold,
        recovery_timeout,
        expected_exception,
        ignore,
        failure_rate_threshold,
        window_size,
        window_duration,
        minimum_calls,
        slow_call_duration,
        slow_call_rate_threshold,
        half_open_calls,
        probe_timeout,
        recovery_multiplier,
        max_recovery_timeout,
        recovery_jitter,
    )
    policy = registry.obtain("circuit_breaker", name, config, lambda: CircuitBreaker(config, name))
    return policy if fn is None else policy(fn)
