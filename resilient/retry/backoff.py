"""How long to wait between attempts: pure functions of the attempt number and a random draw.

Formulas, for failed attempt n = 1, 2, …: exponential `base * multiplier ** (n - 1)`, linear `base * n`, fibonacci
`base * F(n)`.
Jitter after Marc Brooker, "Exponential Backoff and Jitter" (AWS Architecture Blog, 2015).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeAlias

from resilient._checks import LONGEST, bad
from resilient.errors import ConfigurationError

Jitter: TypeAlias = "bool | float | str"
Draw = Callable[[], float]  # uniform on [0, 1)

CURVES = ("exponential", "linear", "fibonacci")
JITTERS = ("full", "equal", "decorrelated")
_TENTH = 0.1  # jitter=True, as the specification has it: ±10 %


def exponential(attempt: int, base: float, multiplier: float, cap: float) -> float:
    """`base * multiplier ** (attempt - 1)`, at most `cap`, for any attempt number."""
    try:
        return min(cap, base * multiplier ** (attempt - 1))
    except OverflowError:
        return cap if base else 0.0


def linear(attempt: int, base: float, multiplier: float, cap: float) -> float:
    """`base * attempt`, at most `cap`, for any attempt number."""
    try:
        return min(cap, base * attempt)
    except OverflowError:
        return cap if base else 0.0


def fibonacci(attempt: int, base: float, multiplier: float, cap: float) -> float:
    """`base * (1, 1, 2, 3, 5, …)`, at most `cap`, for any attempt number."""
    before, now = 0, 1
    for _ in range(min(attempt, 1476) - 1):  # F(1476) is the last to fit a float
        before, now = now, before + now
        if base * now >= cap:
            return cap
        if not base:
            return 0.0
    return min(cap, base * now)


_CURVES = {"exponential": exponential, "linear": linear, "fibonacci": fibonacci}


def spread(delay: float, kind: Jitter, base: float, previous: float, cap: float, draw: Draw) -> float:
    """The delay with jitter, never above `cap`.

    At the cap the draw stays within what lies below it: clamping afterwards would send everyone off together.
    """
    if kind is False or delay <= 0:
        return delay
    if kind == "full":
        return delay * draw()
    if kind == "equal":
        return delay / 2 + delay / 2 * draw()
    if kind == "decorrelated":
        low, high = min(base, cap), min(cap, max(base, previous * 3))
        return low + (high - low) * draw()
    part = _TENTH if kind is True else float(kind)
    low, high = delay * (1 - part), min(cap, delay * (1 + part))
    return low + (high - low) * draw()


def longest(backoff: Any, attempt: int, base: float, multiplier: float, cap: float, jitter: Jitter) -> float:
    """The longest wait that may be computed for a failed attempt."""
    if not isinstance(backoff, str) or jitter == "decorrelated":
        return cap
    delay = _CURVES[backoff](attempt, base, multiplier, cap)
    if isinstance(jitter, str) or jitter is False:
        return delay
    return min(cap, delay * (1 + (_TENTH if jitter is True else jitter)))


def check_backoff(value: Any) -> Any:
    """A curve's name, a callable on the attempt number, or a tenacity wait."""
    if isinstance(value, str):
        if value not in CURVES:
            raise bad("backoff", value, f"must be one of {', '.join(CURVES)}, callable(attempt), or a tenacity wait")
        return value
    if not callable(value):
        raise TypeError(f"backoff={value!r}: must be one of {', '.join(CURVES)}, callable(attempt), or a tenacity wait")
    return value


def check_jitter(value: Any) -> Any:
    """True, False, a share from 0 to 1, or a jitter's name."""
    if isinstance(value, bool) or (isinstance(value, str) and value in JITTERS):
        return value
    if isinstance(value, (int, float)) and 0 <= value <= 1:
        return float(value) or False
    raise bad("jitter", value, f"must be True (±10 %), False, a share from 0 to 1, or one of {', '.join(JITTERS)}")


def is_tenacity_wait(value: object) -> bool:
    """Whether this is a tenacity wait; tenacity is not imported to find out."""
    tenacity = sys.modules.get("tenacity")
    return tenacity is not None and isinstance(value, tenacity.wait.wait_base)


def tenacity_state(attempt: int, started: float, now: float, error: Exception | None, result: object) -> Any:
    """What tenacity's strategies look at, for one failed attempt."""
    from tenacity import RetryCallState

    # tenacity only stores its retry object; its strategies never look at it.
    state = RetryCallState(retry_object=None, fn=None, args=(), kwargs={})  # type: ignore[arg-type]
    state.attempt_number = attempt
    state.start_time = started
    if error is not None:
        state.set_exception((type(error), error, error.__traceback__))
    else:
        state.set_result(result)
    state.outcome_timestamp = now
    return state


def delay_rule(
    backoff: Any, base: float, multiplier: float, cap: float, jitter: Jitter, draw: Draw
) -> Callable[[int, float, Any], float]:
    """One function `(attempt, previous delay, tenacity state) -> seconds` for all kinds of backoff."""
    if is_tenacity_wait(backoff):

        def by_tenacity(attempt: int, previous: float, state: Any) -> float:
            return min(cap, _checked(backoff, backoff(state)))

        return by_tenacity
    if isinstance(backoff, str):
        curve = _CURVES[backoff]

        def by_curve(attempt: int, previous: float, state: Any) -> float:
            return spread(curve(attempt, base, multiplier, cap), jitter, base, previous, cap, draw)

        return by_curve

    def by_callable(attempt: int, previous: float, state: Any) -> float:
        return spread(min(cap, _checked(backoff, backoff(attempt))), jitter, base, previous, cap, draw)

    return by_callable


def _checked(source: object, value: Any) -> float:
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value) or value < 0:
        raise ConfigurationError(f"backoff={source!r} returned {value!r}: must be 0 or more seconds")
    return value


def asked_delay(value: Any) -> float | None:
    """An error's `retry_after` in seconds, where it is a finite positive number or timedelta."""
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        return None
    return float(min(value, LONGEST))  # beyond that no sleep goes
