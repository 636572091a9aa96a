"""Retry: make a failed call again, a bounded number of times, with growing and scattered waits."""

from __future__ import annotations

import logging
import math
import random
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple, overload

from resilient import _checks as check
from resilient import backoff as wait
from resilient._checks import ErrorFilter, Seconds
from resilient._registry import registry
from resilient.budget import RetryBudget
from resilient.clock import CLOCK
from resilient.deadlines import DUE
from resilient.errors import RetriesExhaustedError, is_retryable
from resilient.events import HUB, RetryExhausted, RetryScheduled, RetrySucceeded, RetrySuppressed
from resilient.generators import Layer, arelay, relay
from resilient.policy import F, Policy, warn_if_loop_blocked
from resilient.wrapping import Site

_log = logging.getLogger("resilient.retry")
_top = logging.getLogger("resilient")
_root = logging.getLogger()

#: Set on an exception when a retry gives it up: the number of that event. Every retried call notes the latest number
#: when it begins, so a higher one on its error says: given up by a retry further in, during this call.
_MARK = "_resilient_exhausted"


class _Exhausted:
    __slots__ = ("latest", "lock")

    def __init__(self) -> None:
        self.latest = 0
        self.lock = threading.Lock()


_exhausted = _Exhausted()


@dataclass(frozen=True, slots=True)
class RetryConfig:
    """The options of `@retry`, checked and in their internal form."""

    max_attempts: int | None = 3
    on: ErrorFilter = Exception
    give_up_on: ErrorFilter = ()
    retry_on_result: Callable[[Any], object] | None = None
    backoff: Any = "exponential"
    base_delay: float = 0.1
    max_delay: float = 30.0
    multiplier: float = 2.0
    jitter: Any = True
    max_elapsed: float | None = None
    stop: Callable[[Any], object] | None = None
    budget: RetryBudget | None = None
    retry_exhausted: bool = False
    on_retry: Callable[[RetryScheduled], object] | None = None

    def __post_init__(self) -> None:
        put = object.__setattr__
        check.count("max_attempts", self.max_attempts, none="no limit")
        check.error_filter("on", self.on)
        check.error_filter("give_up_on", self.give_up_on, empty=True)
        check.callable_or_none("retry_on_result", self.retry_on_result)
        wait.check_backoff(self.backoff)
        put(self, "base_delay", check.seconds("base_delay", self.base_delay))
        put(self, "max_delay", check.seconds("max_delay", self.max_delay))
        if self.base_delay > self.max_delay:
            raise check.bad("base_delay", self.base_delay, f"must not exceed max_delay={self.max_delay!r}")
        put(self, "multiplier", check.number("multiplier", self.multiplier, least=1))
        put(self, "jitter", wait.check_jitter(self.jitter))
        put(self, "max_elapsed", check.optional_seconds("max_elapsed", self.max_elapsed))
        check.callable_or_none("stop", self.stop)
        if self.budget is not None and not isinstance(self.budget, RetryBudget):
            raise TypeError(f"budget={self.budget!r}: must be a RetryBudget")
        check.flag("retry_exhausted", self.retry_exhausted)
        check.callable_or_none("on_retry", self.on_retry)


class RetryMetrics(NamedTuple):
    """The numbers of a retry: calls that succeeded or failed, attempts made again, calls given up as exhausted."""

    calls: int
    succeeded: int
    failed: int
    retries: int
    exhausted: int


class _Tally:
    __slots__ = ("exhausted", "failed", "retries", "succeeded")

    def __init__(self) -> None:
        self.succeeded = self.failed = self.retries = self.exhausted = 0


class _Run:
    """One call that has failed at least once: counts its attempts and decides what comes next."""

    __slots__ = ("attempt", "entered", "last", "left", "policy", "previous", "started")

    def __init__(self, policy: RetryPolicy, entered: int) -> None:
        self.policy = policy
        self.entered = entered
        self.attempt = 0
        self.previous = 0.0
        self.last = False
        self.left: float | None = None
        self.started = CLOCK.monotonic() if policy.timed else 0.0

    def failed(self, error: Exception | None, result: object = None) -> float | None:
        """Seconds until the next attempt; None when there is none, and the error goes to the caller.

        One function, as it is what a flaky service makes every caller wait for. Raises RetriesExhaustedError where
        a result was the reason.
        """
        policy = self.policy
        attempt = self.attempt = self.attempt + 1
        if error is not None:
            types = policy.types
            plainly = types is not None and isinstance(error, types) and _exhausted.latest == self.entered
            if (not plainly or hasattr(error, "is_retryable")) and not self._is_ours(error):
                policy.tally.failed += 1
                return None
        limit = policy.max_attempts
        if limit is not None and attempt >= limit:
            self._give_up(error, result, "attempts")
            return None
        state = None
        if policy.asks:
            state = wait.tenacity_state(attempt, self.started, CLOCK.monotonic(), error, result)
        delay = getattr(error, "retry_after", None)
        if delay is None or (delay := wait.asked_delay(delay)) is None:
            delay = policy.delay(attempt, self.previous, state) if policy.waits else 0.0
        if policy.limited or DUE.get() is not None:
            reason = self._refused(delay, state)
            if reason:
                self._give_up(error, result, reason)
                return None
            if self.left is not None and delay > self.left:
                delay = self.left
        self.previous = delay
        policy.tally.retries += 1
        # Where nothing is logged at all, three looks at the loggers spare the question.
        if (
            policy.on_retry is not None
            or RetryScheduled in HUB.by_type
            or _root.handlers
            or _log.handlers
            or len(_top.handlers) > 1
        ):
            self._announce(delay, error, result)
        return delay

    def _is_ours(self, error: Exception) -> bool:
        """Whether this error is one to retry."""
        policy = self.policy
        if policy.types is not None:
            if not isinstance(error, policy.types):
                return False
        elif not policy.handles(error) or policy.gives_up(error):
            return False
        if getattr(error, "is_retryable", None) is not None and not is_retryable(error):
            return False
        if _exhausted.latest == self.entered or policy.config.retry_exhausted:
            return True
        if not _given_up_inside(error, self.entered):
            return True
        if HUB.wants(RetrySuppressed):
            HUB.publish(RetrySuppressed(policy.name, error))
        return False

    def succeeded(self) -> None:
        """Tell that the call succeeded after all."""
        if self.attempt and RetrySucceeded in HUB.by_type:
            HUB.publish(RetrySucceeded(self.policy.name, self.attempt + 1))

    def _refused(self, delay: float, state: Any) -> str:
        """What forbids another attempt after this delay, if anything does: a stop, the time, or the budget."""
        config = self.policy.config
        if config.stop is not None and state is not None:
            state.upcoming_sleep = delay
            if config.stop(state):
                return "stop"
        reason = self._out_of_time(delay)
        if not reason and config.budget is not None and not config.budget.take():
            return "budget"
        return reason

    def _out_of_time(self, delay: float) -> str:
        """Which limit leaves no time for another attempt, if one does; `left` is what the limits leave."""
        limit, due = self.policy.config.max_elapsed, DUE.get()
        if self.last:
            return "elapsed"
        if limit is None and due is None:
            return ""
        now, self.left = CLOCK.monotonic(), math.inf
        for end, reason in ((None if limit is None else self.started + limit, "elapsed"), (due, "deadline")):
            if end is not None and end <= now:
                return reason
            if end is not None:
                self.left = min(self.left, end - now)
        self.last = delay >= self.left  # a clipped sleep is followed by one last attempt
        return ""

    def _announce(self, delay: float, error: Exception | None, result: object) -> None:
        if self.policy.on_retry is None and not HUB.wants(RetryScheduled):
            return
        on_retry = self.policy.on_retry
        event = RetryScheduled(self.policy.name, self.attempt, delay, error, result)
        if on_retry is not None:
            try:
                on_retry(event)
            except Exception:
                _log.exception("on_retry of %s failed", self.policy.name, extra={"event": "on_retry_failed"})
        HUB.publish(event)

    def _give_up(self, error: Exception | None, result: object, reason: str) -> None:
        """Count and tell the end of it, and mark the error for retries further out."""
        policy = self.policy
        policy.tally.failed += 1
        policy.tally.exhausted += 1
        if HUB.wants(RetryExhausted):
            HUB.publish(RetryExhausted(policy.name, self.attempt, error, reason))
        if error is None:
            exhausted = RetriesExhaustedError(policy.name, self.attempt, result)
            _mark(exhausted)
            raise exhausted
        _mark(error)


def _given_up_inside(error: BaseException, entered: int) -> bool:
    """Whether a retry further in has given up on this error, or on the one it was raised `from`."""
    cause: BaseException | None = error
    for _ in range(8):  # a chain of causes may be a ring
        if cause is None:
            return False
        if getattr(cause, _MARK, 0) > entered:
            return True
        cause = cause.__cause__
    return False


def _mark(error: BaseException) -> None:
    with _exhausted.lock:
        _exhausted.latest += 1
        number = _exhausted.latest
    try:
        object.__setattr__(error, _MARK, number)
    except (AttributeError, TypeError):
        _log.debug("%s takes no attributes, so an outer retry cannot see that it was given up", type(error).__name__)


def _after_fork() -> None:
    _exhausted.lock = threading.Lock()


registry.fork_hooks.append(_after_fork)


class RetryPolicy(Policy):
    """Retries calls; made by `retry(...)`."""

    kind = "retry"
    config: RetryConfig

    def __init__(self, config: RetryConfig, name: str | None) -> None:
        super().__init__(config, name)
        self.tally = _Tally()
        self.apply(config)

    def apply(self, config: RetryConfig) -> None:
        """Take over a configuration."""
        self.config = config
        self.handles = check.matcher(config.on)
        self.gives_up = check.matcher(config.give_up_on)
        #: What to retry, where that is simply a matter of type.
        self.types = config.on if isinstance(config.on, (type, tuple)) and config.give_up_on == () else None
        self.max_attempts = config.max_attempts
        self.on_retry = config.on_retry
        #: Whether anything but the number of attempts can end the retries.
        self.limited = config.stop is not None or config.max_elapsed is not None or config.budget is not None
        #: Whether there is anything to wait for: growth from nothing is nothing.
        self.waits = config.base_delay > 0 or not isinstance(config.backoff, str)
        #: Whether a tenacity strategy wants to look at each failed attempt.
        self.asks = config.stop is not None or wait.is_tenacity_wait(config.backoff)
        self.timed = self.asks or config.max_elapsed is not None
        self.delay = wait.delay_rule(
            config.backoff,
            config.base_delay,
            config.multiplier,
            config.max_delay,
            config.jitter,
            random.random,
        )

    def sync_layer(self, call: Layer, site: Site) -> Layer:
        """Call until it succeeds or is given up."""
        tally, timed, budget, poor = self.tally, self.timed, self.config.budget, self.config.retry_on_result

        def retry(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if budget is not None:
                budget.calls += 1
            entered = _exhausted.latest
            run = _Run(self, entered) if timed else None
            while True:
                try:
                    result = call(args, kwargs)
                except Exception as error:
                    if run is None:
                        run = _Run(self, entered)
                    delay = run.failed(error)
                    if delay is None:
                        raise
                else:
                    if poor is None or not poor(result):
                        tally.succeeded += 1
                        if run is not None:
                            run.succeeded()
                        return result
                    if run is None:
                        run = _Run(self, entered)
                    delay = run.failed(None, result)
                    result = None
                if delay:  # out here, where the exception is forgotten; and sleep(0) would cost a system call
                    warn_if_loop_blocked(f"retry {self.name} sleeps")
                    CLOCK.sleep(delay)

        return retry

    def async_layer(self, call: Layer, site: Site) -> Layer:
        """Call until it succeeds or is given up."""
        tally, timed, budget, poor = self.tally, self.timed, self.config.budget, self.config.retry_on_result

        async def retry(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if budget is not None:
                budget.calls += 1
            entered = _exhausted.latest
            run = _Run(self, entered) if timed else None
            while True:
                try:
                    result = await call(args, kwargs)
                except Exception as error:
                    if run is None:
                        run = _Run(self, entered)
                    delay = run.failed(error)
                    if delay is None:
                        raise
                else:
                    if poor is None or not poor(result):
                        tally.succeeded += 1
                        if run is not None:
                            run.succeeded()
                        return result
                    if run is None:
                        run = _Run(self, entered)
                    delay = run.failed(None, result)
                    result = None
                if delay:  # out here, where the exception is forgotten
                    await CLOCK.asleep(delay)

        return retry

    def generator_layer(self, call: Layer, site: Site) -> Layer:
        """Start the stream again until it has delivered its first item."""
        self._refuse_results()
        return relay(lambda opening: self.sync_layer(opening, site), call)

    def async_generator_layer(self, call: Layer, site: Site) -> Layer:
        """Start the stream again until it has delivered its first item."""
        self._refuse_results()
        return arelay(lambda opening: self.async_layer(opening, site), call)

    def longest_delay(self, attempt: int) -> float:
        """The longest computed wait after failed attempt number `attempt`, in seconds."""
        config = self.config
        return wait.longest(
            config.backoff,
            attempt,
            config.base_delay,
            config.multiplier,
            config.max_delay,
            config.jitter,
        )

    def accepts(self, error: Exception) -> bool:
        """Whether such an error is one to retry, as long as attempts are left."""
        return self.handles(error) and not self.gives_up(error) and is_retryable(error)

    def attempts(self) -> Attempts:
        """Guard a block: `for attempt in policy.attempts(): with attempt: ...`, or `async for`."""
        return Attempts(self)

    def get_metrics(self) -> RetryMetrics:
        """The numbers of now."""
        tally = self.tally
        total = tally.succeeded + tally.failed
        return RetryMetrics(total, tally.succeeded, tally.failed, tally.retries, tally.exhausted)

    def _refuse_results(self) -> None:
        if self.config.retry_on_result is not None:
            raise TypeError("retry_on_result= looks at a result, and a generator function has none; leave it out")


class Attempt:
    """One try of a block; `number` counts from 1. Set `result` for `retry_on_result` to look at."""

    __slots__ = ("_loop", "number", "result")

    def __init__(self, loop: _Loop, number: int) -> None:
        self._loop = loop
        self.number = number
        self.result: object = None

    def __enter__(self) -> Attempt:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> bool:
        return self._loop.ended(self, error)

    def __repr__(self) -> str:
        return f"<attempt {self.number}>"


class _Loop:
    """One passage through the loop form. Not a generator: one that is left early would have to be closed."""

    __slots__ = ("_delay", "_done", "_number", "_policy", "_run")

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._number = 0
        self._done = True
        self._delay: float | None = 0.0

    def __iter__(self) -> _Loop:
        return self

    def __next__(self) -> Attempt:
        delay = self._next_delay()
        if delay is None:
            raise StopIteration
        if delay > 0:
            warn_if_loop_blocked(f"retry {self._policy.name} sleeps")
            CLOCK.sleep(delay)
        return self._attempt()

    def __aiter__(self) -> _Loop:
        return self

    async def __anext__(self) -> Attempt:
        delay = self._next_delay()
        if delay is None:
            raise StopAsyncIteration
        if delay > 0:
            await CLOCK.asleep(delay)
        return self._attempt()

    def _next_delay(self) -> float | None:
        if not self._done:
            raise RuntimeError("the body of the retry loop must be inside `with attempt:`")
        return self._delay

    def _attempt(self) -> Attempt:
        budget = self._policy.config.budget
        if self._number == 0:
            self._run = _Run(self._policy, _exhausted.latest)
            if budget is not None:
                budget.calls += 1
        self._number += 1
        self._done = False
        return Attempt(self, self._number)

    def ended(self, attempt: Attempt, error: BaseException | None) -> bool:
        """Decide what follows an attempt; True swallows the error, as another one comes."""
        policy, self._delay, self._done = self._policy, None, True
        if registry.off or (error is not None and not isinstance(error, Exception)):
            return False
        if error is not None:
            self._delay = self._run.failed(error)
        elif policy.config.retry_on_result is not None and policy.config.retry_on_result(attempt.result):
            self._delay = self._run.failed(None, attempt.result)
        else:
            policy.tally.succeeded += 1
            self._run.succeeded()
        return self._delay is not None


class Attempts:
    """The loop form of a retry: yields an `Attempt` until one ends well or the last has failed."""

    __slots__ = ("_policy",)

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy

    def __iter__(self) -> Iterator[Attempt]:
        return _Loop(self._policy)

    def __aiter__(self) -> AsyncIterator[Attempt]:
        return _Loop(self._policy)


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
