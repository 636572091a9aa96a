"""What a queue of calls is: the call, the receipt's status, the error of a full queue, and the options."""

from __future__ import annotations

import enum
import random
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from resilient import _checks as check
from resilient._checks import Seconds
from resilient.errors import CallTimeoutError, RejectedError, is_retryable
from resilient.retry.backoff import asked_delay, delay_rule

if TYPE_CHECKING:
    from resilient.degradation.queues.calls import QueuedCall
    from resilient.degradation.queues.receipts import Receipt


#: The last attempt, due at the end of `give_up_after`, is still made when it is late by no more than this, in seconds.
LATE = 5.0


class QueuedCallStatus(enum.StrEnum):
    """How far a queued call has come."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class QueueFullError(RejectedError):
    """The queue holds `max_size` calls already; the call was not queued."""

    what = "the queue is full"


@runtime_checkable
class CallQueue(Protocol):
    """Takes calls, makes them later, again and again until one attempt succeeds, and hands back a receipt for each."""

    @property
    def name(self) -> str:
        """What events call the queue."""

    def put(self, call: QueuedCall, /) -> Receipt:
        """Take a call; raises QueueFullError."""

    def start(self) -> None:
        """Begin, or go on, making calls; doing so twice is harmless."""

    def stop(self, timeout: Seconds | None = ...) -> bool:
        """Make no further calls; whether those under way have ended in time. Doing so twice is harmless."""

    def __len__(self) -> int:
        """How many calls have not ended yet."""


class Pace:
    """How often and for how long a queued call is tried, and how many calls a queue holds: its options, checked."""

    __slots__ = ("_rule", "give_up_after", "max_size", "workers")

    def __init__(
        self,
        max_size: int,
        workers: int,
        give_up_after: Seconds,
        base_delay: Seconds,
        max_delay: Seconds,
        multiplier: float,
    ) -> None:
        self.max_size: int = check.count("max_size", max_size)
        self.workers: int = check.count("workers", workers)
        self.give_up_after = check.seconds("give_up_after", give_up_after)
        base = check.seconds("base_delay", base_delay, positive=True)
        cap = check.seconds("max_delay", max_delay, positive=True)
        if cap < base:
            raise check.bad("max_delay", max_delay, f"must not be less than base_delay, which is {base:g}")
        factor = check.number("multiplier", multiplier, least=1)
        self._rule = delay_rule("exponential", base, factor, cap, True, random.random)

    def delay(self, attempts: int, error: BaseException, left: float) -> float | None:
        """Seconds until the next attempt, None to give up; `left` is the time until then.

        A wait that would go beyond is shortened, so that one last attempt follows.
        """
        if left <= 0 or not isinstance(error, Exception) or not _retryable(error):
            return None
        asked = _asked(error)
        return self.wait(attempts, left) if asked is None else min(asked, left)

    def wait(self, attempts: int, left: float) -> float:
        """Seconds until the next attempt, whatever the error was."""
        return min(self._rule(attempts, 0.0, None), left)

    def too_late(self, call: str) -> CallTimeoutError:
        """The error of a call whose last attempt could not begin in time."""
        detail = f"given up: no attempt has succeeded within {self.give_up_after:g} s"
        return CallTimeoutError(call, self.give_up_after, detail)


def _retryable(error: Exception) -> bool:
    try:
        return is_retryable(error)
    except Exception:
        return True  # the question failed, not the call


def _asked(error: Exception) -> float | None:
    try:
        return asked_delay(getattr(error, "retry_after", None))
    except Exception:
        return None


def queued_call(call: Any) -> QueuedCall:
    """What may be put on a queue."""
    from resilient.degradation.queues.calls import QueuedCall

    if not isinstance(call, QueuedCall):
        raise TypeError(f"{type(call).__name__} cannot be queued: put a QueuedCall, such as QueuedCall.of(function)")
    return call


def queue_name(name: Any) -> str:
    """A queue's name: a non-empty string."""
    return check.policy_name(name) or _no_name(name)


def _no_name(name: Any) -> str:
    raise TypeError(f"name={name!r}: must be a string")
