"""Timeout: a call must answer within its limit; the caller goes on when it does not."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

from resilient import _checks as check
from resilient._registry import registry
from resilient.timeout.config import TimeoutConfig
from resilient.timeout.policy import Timeout, TimeoutMetrics

if TYPE_CHECKING:
    from resilient.timeout.smart import SmartTimeout

__all__ = ["Timeout", "TimeoutConfig", "TimeoutMetrics", "timeout"]


def timeout(
    limit: float | timedelta | SmartTimeout,
    /,
    *,
    method: str = "thread",
    max_abandoned: int = 64,
    name: str | None = None,
) -> Timeout:
    """Raise CallTimeoutError when a call has not ended within `limit`: seconds, a timedelta, or a SmartTimeout.

    Use as a decorator, as `policy.call`, or as `async with timeout(2):`. An async call is cancelled. A sync call runs
    in a worker thread, which carries the caller's context variables, but not its thread-locals; a call that passes its
    limit is abandoned: its thread goes on, is counted in `policy.abandoned`, and its answer is dropped.
    A deadline in force shortens the limit; inside the call, the limit is a deadline itself (sync).

    Args:
        limit: seconds or timedelta (0 fails at once), or a SmartTimeout, which follows the service.
        method: for sync functions: "thread"; "signal" (main thread only, raises inside the call at any point);
            "cooperative" (sets a deadline for what is called, and checks when the call returns).
        max_abandoned: so many abandoned threads at most; then new calls fail at once.
        name: for the registry; automatic if left out.

    Raises:
        CallTimeoutError: (at the call) the limit has passed, or too many abandoned calls have not ended.
        ConfigurationError: an option has an impossible value.
        TypeError: around a generator function or a sync `with` block.
    """
    if callable(limit):
        raise TypeError("timeout needs its limit first: @timeout(2)")
    config = TimeoutConfig(cast(Any, limit), method, max_abandoned)
    policy_name = check.policy_name(name)
    return registry.obtain("timeout", policy_name, config, lambda: Timeout(config, policy_name))
