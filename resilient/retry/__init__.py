"""Retry: make a failed call again, a bounded number of times, with growing and scattered waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, overload

from resilient import _checks as check
from resilient._checks import ErrorFilter, Seconds
from resilient._registry import registry
from resilient.events import RetryScheduled
from resilient.policy import F
from resilient.retry.budget import RetryBudget
from resilient.retry.config import RetryConfig
from resilient.retry.policy import RetryMetrics, RetryPolicy

__all__ = ["RetryConfig", "RetryMetrics", "RetryPolicy", "retry"]


@overload
def retry(fn: F, /) -> F: ...
@overload
def retry(
    fn: None = None,
    /,
    *,
    max_attempts: int | None = 3,
    on: ErrorFilter = Exception,
    give_up_on: ErrorFilter = (),
    retry_on_result: Callable[[Any], object] | None = None,
    backoff: Any = "exponential",
    base_delay: Seconds = 0.1,
    max_delay: Seconds = 30.0,
    multiplier: float = 2.0,
    jitter: bool | float | str = True,
    max_elapsed: Seconds | None = None,
    stop: Callable[[Any], object] | None = None,
    budget: RetryBudget | None = None,
    retry_exhausted: bool = False,
    on_retry: Callable[[RetryScheduled], object] | None = None,
    name: str | None = None,
) -> RetryPolicy: ...
def retry(
    fn: Any = None,
    /,
    *,
    max_attempts: int | None = 3,
    on: ErrorFilter = Exception,
    give_up_on: ErrorFilter = (),
    retry_on_result: Callable[[Any], object] | None = None,
    backoff: Any = "exponential",
    base_delay: Any = 0.1,
    max_delay: Any = 30.0,
    multiplier: float = 2.0,
    jitter: bool | float | str = True,
    max_elapsed: Any = None,
    stop: Callable[[Any], object] | None = None,
    budget: RetryBudget | None = None,
    retry_exhausted: bool = False,
    on_retry: Callable[[RetryScheduled], object] | None = None,
    name: str | None = None,
) -> Any:
    """Make a failed call again. Use bare (`@retry`), with options (`@retry(on=OSError)`), or as a policy object.

    The last exception reaches the caller itself. Cancellation, KeyboardInterrupt, SystemExit and GeneratorExit are
    never retried. A generator function is started again only until its first item.

    Args:
        max_attempts: calls in all, the first included; None for no limit.
        on: what to retry: an exception type, a tuple of types, or a predicate. An exception whose `is_retryable()`
            says False is not retried, whatever is given here.
        give_up_on: what not to retry, in the same forms; wins over `on`.
        retry_on_result: predicate on the result; True means try again. When attempts run out, RetriesExhaustedError.
        backoff: "exponential", "linear", "fibonacci", `callable(attempt) -> seconds` (the first failure is 1), or a
            tenacity wait (which brings its own jitter).
        base_delay, max_delay: seconds or timedelta. No computed wait exceeds `max_delay`. An error's own `retry_after`
            in seconds replaces the computed wait.
        multiplier: growth of the exponential backoff, at least 1.
        jitter: True (±10 %), False, a share such as 0.3, "full", "equal" or "decorrelated".
        max_elapsed: seconds or timedelta from the start of the call after which no further attempt begins; the last
            sleep is clipped to it and followed by one last attempt.
        stop: a tenacity stop, or any callable on tenacity's RetryCallState.
        budget: a RetryBudget, usually shared by all retries towards one service.
        retry_exhausted: retry also what an inner `@retry` has given up on; off, so that attempts do not multiply.
        on_retry: called with a RetryScheduled event before each wait; its errors are logged.
        name: for the registry; automatic if left out. The same name is the same policy.

    Raises:
        ConfigurationError: an option has an impossible value.
        TypeError: an unknown option, or something that cannot be guarded.
    """
    config = RetryConfig(
        max_attempts,
        on,
        give_up_on,
        retry_on_result,
        backoff,
        base_delay,
        max_delay,
        multiplier,
        jitter,
        max_elapsed,
        stop,
        budget,
        retry_exhausted,
        on_retry,
    )
    policy = registry.obtain("retry", check.policy_name(name), config, lambda: RetryPolicy(config, name))
    return policy if fn is None else policy(fn)
