"""One retried call: it counts its attempts and decides what comes next. It never sleeps."""

from __future__ import annotations

import logging
import math
import threading
from typing import TYPE_CHECKING, Any

from resilient._registry import registry
from resilient.clock import CLOCK
from resilient.deadlines import DUE
from resilient.errors import RetriesExhaustedError, is_retryable
from resilient.events import (
    HUB,
    UNTOUCHED,
    RetryExhausted,
    RetryScheduled,
    RetrySucceeded,
    RetrySuppressed,
    log_failure,
    log_note,
)
from resilient.meters import METERS
from resilient.retry import backoff as wait

if TYPE_CHECKING:
    from resilient.retry.policy import RetryPolicy


_log = logging.getLogger("resilient.retry")
_top = logging.getLogger("resilient")
_root = logging.getLogger()

#: Set on an exception when a retry gives it up: the number of that event. Every retried call notes the latest number
#: when it begins, so a higher one on its error says: given up by a retry further in, during this call.
_MARK = "_resilient_exhausted"


#: Why a call is given up, by its place in a tally.
REASONS = {"attempts": 0, "stop": 1, "elapsed": 2, "deadline": 3, "budget": 4}


class Exhausted:
    __slots__ = ("latest", "lock")

    def __init__(self) -> None:
        self.latest = 0
        self.lock = threading.RLock()


EXHAUSTED = Exhausted()


class Run:
    """One call that has failed at least once: counts its attempts and decides what comes next."""

    # Defaults of the class, not slots: a run is made for each call that fails, and few of these are ever set.
    attempt = 0
    previous = 0.0
    #: The limit that has cut the last sleep short: one more attempt, and that is it.
    last = ""
    left: float | None = None
    started: float | None = None
    #: When the first attempt had failed, where that is measured.
    retrying_since: float | None = None

    def __init__(self, policy: RetryPolicy, entered: int) -> None:
        self.policy = policy
        self.entered = entered
        if policy.timed:
            self.started = CLOCK.monotonic()

    def failed(self, error: Exception | None, result: object = None) -> float | None:
        """Seconds until the next attempt; None when there is none, and the error goes to the caller.

        One function, as it is what a flaky service makes every caller wait for. Raises RetriesExhaustedError where
        a result was the reason.
        """
        policy = self.policy
        attempt = self.attempt = self.attempt + 1
        if error is not None:
            types = policy.types
            plainly = types is not None and isinstance(error, types) and EXHAUSTED.latest == self.entered
            if (not plainly or hasattr(error, "is_retryable")) and not self._is_ours(error):
                self.measure()
                policy.tally.failed += 1
                return None
        limit = policy.max_attempts
        if limit is not None and attempt >= limit:
            self._give_up(error, result, "attempts")
            return None
        state = None
        try:
            if policy.asks:
                now = CLOCK.monotonic()
                state = wait.tenacity_state(attempt, self._begun(now), now, error, result)
            delay = getattr(error, "retry_after", None)
            if delay is None or (delay := wait.asked_delay(delay)) is None:
                delay = policy.delay(attempt, self.previous, state) if policy.waits else 0.0
        except BaseException:  # what a backoff of the user raises
            policy.tally.interrupted += 1
            raise
        if policy.limited or DUE.get() is not None:
            reason = self._refused(delay, state)
            if reason:
                self._give_up(error, result, reason)
                return None
            if self.left is not None and delay > self.left:
                delay = self.left
        self.previous = delay
        policy.tally.retries += 1
        if METERS.on and attempt == 1:
            self.retrying_since = CLOCK.monotonic()
        # Where nothing is logged at all, three looks at the loggers spare the question.
        if (
            policy.on_retry is not None
            or RetryScheduled in HUB.by_type
            or _root.handlers
            or _log.handlers
            or _top.handlers != UNTOUCHED
        ):
            self._announce(delay, error, result)
        return delay

    def _is_ours(self, error: Exception) -> bool:
        """Whether this error is one to retry."""
        try:
            return self._asked(error)
        except BaseException:  # a predicate's own
            self.policy.tally.interrupted += 1
            raise

    def _asked(self, error: Exception) -> bool:
        policy = self.policy
        if policy.types is not None:
            if not isinstance(error, policy.types):
                return False
        elif not policy.handles(error) or policy.gives_up(error):
            return False
        if getattr(error, "is_retryable", None) is not None and not is_retryable(error):
            return False
        if EXHAUSTED.latest == self.entered or policy.config.retry_exhausted:
            return True
        if not _given_up_inside(error, self.entered):
            return True
        if HUB.wants(RetrySuppressed):
            HUB.publish(RetrySuppressed(policy.name, error))
        return False

    def succeeded(self) -> None:
        """Measure, count and tell that the call succeeded after all."""
        if self.retrying_since is not None:
            self.measure()
        self.policy.tally.succeeded += 1
        if self.attempt and RetrySucceeded in HUB.by_type:
            HUB.publish(RetrySucceeded(self.policy.name, self.attempt + 1))

    def measure(self) -> None:
        """Account for the time that retrying has added to the call."""
        if self.retrying_since is not None:
            seconds = CLOCK.monotonic() - self.retrying_since
            self.policy.latency.observe(max(0.0, seconds), self.policy.name)

    def _refused(self, delay: float, state: Any) -> str:
        """What forbids another attempt after this delay, if anything does: a stop, the time, or the budget."""
        config = self.policy.config
        if config.stop is not None and state is not None:
            state.upcoming_sleep = delay
            try:
                if config.stop(state):
                    return "stop"
            except BaseException:  # the stop's own
                self.policy.tally.interrupted += 1
                raise
        reason = self._out_of_time(delay)
        if not reason and config.budget is not None and not config.budget.take():
            return "budget"
        return reason

    def _out_of_time(self, delay: float) -> str:
        """Which limit leaves no time for another attempt, if one does; `left` is what the limits leave."""
        limit, due = self.policy.config.max_elapsed, DUE.get()
        if self.last:
            return self.last
        if limit is None and due is None:
            return ""
        now, self.left, nearest = CLOCK.monotonic(), math.inf, ""
        for end, reason in ((None if limit is None else self._begun(now) + limit, "elapsed"), (due, "deadline")):
            if end is not None and end <= now:
                return reason
            if end is not None and end - now < self.left:
                self.left, nearest = end - now, reason
        self.last = nearest if delay >= self.left else ""  # a clipped sleep is followed by one last attempt
        return ""

    def _begun(self, now: float) -> float:
        """When the call began; now, for a limit that was set while it was under way."""
        if self.started is None:
            self.started = now
        return self.started

    def _announce(self, delay: float, error: Exception | None, result: object) -> None:
        if self.policy.on_retry is None and not HUB.wants(RetryScheduled):
            return
        on_retry = self.policy.on_retry
        event = RetryScheduled(self.policy.name, self.attempt, delay, error, result)
        if on_retry is not None:
            try:
                on_retry(event)
            except Exception:
                name = self.policy.name
                log_failure(_log, "retry.on_retry_failed", "on_retry of %s failed", name, kind="retry", policy=name)
        HUB.publish(event)

    def _give_up(self, error: Exception | None, result: object, reason: str) -> None:
        """Count and tell the end of it, and mark the error for retries further out."""
        policy = self.policy
        if self.retrying_since is not None:
            self.measure()
        policy.tally.failed += 1
        policy.tally.exhausted += 1
        policy.tally.reasons[REASONS[reason]] += 1
        if HUB.wants(RetryExhausted):
            HUB.publish(RetryExhausted(policy.name, self.attempt, error, reason))
        if error is None:
            exhausted = RetriesExhaustedError(policy.name, self.attempt, result)
            _mark(exhausted, policy.name)
            try:
                raise exhausted
            finally:
                del exhausted  # or the frame would keep it, and it the frame
        _mark(error, policy.name)


def _given_up_inside(error: BaseException, entered: int) -> bool:
    """Whether a retry further in has given up on this error, on the one it came of, or on one in its group."""
    waiting = [error]
    for _ in range(16):  # a chain of causes may be a ring, and a group may be large
        if not waiting:
            return False
        one = waiting.pop()
        if getattr(one, _MARK, 0) > entered:
            return True
        if isinstance(one, BaseExceptionGroup):
            waiting.extend(one.exceptions)
        cause = one.__cause__ if one.__suppress_context__ else one.__context__
        if cause is not None:
            waiting.append(cause)
    return False


def _mark(error: BaseException, policy: str) -> None:
    with EXHAUSTED.lock:
        EXHAUSTED.latest += 1
        number = EXHAUSTED.latest
    try:
        object.__setattr__(error, _MARK, number)
    except (AttributeError, TypeError):
        text = "%s takes no attributes, so an outer retry cannot see that it was given up"
        log_note(_log, logging.DEBUG, "retry.unmarked", text, type(error).__name__, kind="retry", policy=policy)


def _after_fork() -> None:
    EXHAUSTED.lock = threading.RLock()


registry.fork_hooks.append(_after_fork)
