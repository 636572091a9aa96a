"""What an attempt's end means: whether there is another, after how long, and what the journal says of it."""

from __future__ import annotations

import asyncio
import random
import threading
from typing import Any

from resilient.errors import is_retryable
from resilient.orchestrator.attempts import Attempt
from resilient.orchestrator.model import RecoveryStep, RetryPolicy, seconds_of
from resilient.retry import backoff


def delay_after(policy: RetryPolicy, attempt: Attempt, error: BaseException | None, previous: float) -> float | None:
    """Seconds until the next attempt, by the rules of `@retry`; None when there is none."""
    if attempt.stopped or not isinstance(error, Exception) or attempt.number >= policy.max_attempts:
        return None
    try:
        if not is_retryable(error):
            return None
        asked = backoff.asked_delay(getattr(error, "retry_after", None))
    except BaseException:  # an error that cannot say so of itself
        asked = None
    return _waited(policy, attempt.number, previous) if asked is None else asked


def _waited(policy: RetryPolicy, attempt: int, previous: float) -> float:
    cap = threading.TIMEOUT_MAX if policy.max_delay is None else seconds_of(policy.max_delay) or 0.0
    base = seconds_of(policy.base_delay) or 0.0
    delay = backoff.exponential(attempt, base, policy.backoff_multiplier, cap)
    return backoff.spread(delay, policy.jitter, base, previous, cap, random.random)


def failure_of(
    attempt: Attempt, step: RecoveryStep, error: BaseException | None, delay: float | None, *, happened: bool
) -> dict[str, Any]:
    """What the journal says of an attempt that failed; `happened`: what it was to do was done all the same."""
    data: dict[str, Any] = {"attempt": attempt.number, "error": _reason(attempt, step, error)}
    if error is not None:
        data["type"] = type(error).__name__
    if delay is not None:
        return {**data, "final": False, "delay": delay}
    cut_off = attempt.stopped or isinstance(error, asyncio.CancelledError)
    return {
        **data,
        "final": True,
        "timed_out": attempt.why == "timeout",
        "stopped": attempt.why in ("cancelled", "expired"),
        "in_doubt": cut_off and not happened,
        "happened": happened and not attempt.undo,
        "abandoned": attempt.abandoned,
    }


def _reason(attempt: Attempt, step: RecoveryStep, error: BaseException | None) -> str:
    left = ""
    if attempt.abandoned:
        left = "; it goes on all the same" if attempt.is_async else "; its thread may still be at work"
    if attempt.why == "timeout":
        return f"not done within {seconds_of(step.timeout):g} s{left}"
    if attempt.stopped and (error is None or attempt.abandoned or isinstance(error, asyncio.CancelledError)):
        what = "the plan's time was over" if attempt.why == "expired" else "the execution was cancelled"
        return f"stopped, as {what}{left}"
    try:
        text = str(error)
    except BaseException:
        text = "its message cannot be shown"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
