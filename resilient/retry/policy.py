"""Retry as a policy: layers that call until it succeeds or is given up."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, NamedTuple

from resilient import _checks as check
from resilient.clock import CLOCK
from resilient.errors import is_retryable
from resilient.events import HUB, RetrySucceeded
from resilient.generators import Layer, arelay, relay
from resilient.meters import Distribution, Histogram
from resilient.policy import Policy, warn_if_loop_blocked
from resilient.retry import backoff as wait
from resilient.retry.config import RetryConfig
from resilient.retry.loop import Attempts
from resilient.retry.state import EXHAUSTED, REASONS, Run
from resilient.wrapping import Site


class RetryMetrics(NamedTuple):
    """The numbers of a retry: calls that succeeded or failed, attempts made again, calls given up as exhausted."""

    calls: int
    succeeded: int
    failed: int
    retries: int
    exhausted: int


class Tally:
    """The counters of a retry, which never fall.

    interrupted: calls that were cancelled during an attempt, or whose predicate raised. reasons: calls given up, in the
    order of REASONS. unmeasured: calls that had ended before their times were wanted.
    """

    __slots__ = ("exhausted", "failed", "interrupted", "reasons", "retries", "succeeded", "unmeasured")

    def __init__(self) -> None:
        self.succeeded = self.failed = self.retries = self.exhausted = self.interrupted = self.unmeasured = 0
        self.reasons = [0] * len(REASONS)

    @property
    def attempts(self) -> int:
        """All attempts that have ended, first ones included, but for those of the last moment."""
        # A retry is counted when it is scheduled, and stands for the attempt before it.
        return self.succeeded + self.failed + self.retries + self.interrupted


class RetryPolicy(Policy):
    """Retries calls; made by `retry(...)`."""

    kind = "retry"
    config: RetryConfig

    def __init__(self, config: RetryConfig, name: str | None) -> None:
        super().__init__(config, name)
        self.tally = Tally()
        #: What retrying adds to calls, of those that were retried.
        self.latency = Histogram("recovery_retry_latency_seconds")
        self._plain = 0  # calls without a retry, as counted by the last reading of the latencies
        self.apply(config)

    def apply(self, config: RetryConfig) -> None:
        """Take over a configuration."""
        self.config = config
        self.handles = check.matcher(config.on)
        self.gives_up = check.matcher(config.give_up_on)
        #: What to retry, where that is simply a matter of type.
        self.types: type[BaseException] | tuple[type[BaseException], ...] | None = (
            config.on if isinstance(config.on, (type, tuple)) and config.give_up_on == () else None
        )
        self.max_attempts = config.max_attempts
        self.on_retry = config.on_retry
        self.poor = self._counting(config.retry_on_result)
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
        return self._direct_layer(site.fn) if site.direct else self._outer_layer(call)

    def _outer_layer(self, call: Layer) -> Layer:
        tally, timed, budget, poor = self.tally, self.timed, self.config.budget, self.poor

        def retry(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if budget is not None:
                budget.calls += 1
            entered = EXHAUSTED.latest
            run = Run(self, entered) if timed else None
            while True:
                try:
                    result = call(args, kwargs)
                except Exception as error:
                    if run is None:
                        run = Run(self, entered)
                    delay = run.failed(error)
                    if delay is None:
                        raise
                except BaseException:
                    tally.interrupted += 1
                    raise
                else:
                    if poor is None or not poor(result):
                        if run is None or (run.retrying_since is None and RetrySucceeded not in HUB.by_type):
                            tally.succeeded += 1
                        else:
                            run.succeeded()
                        return result
                    if run is None:
                        run = Run(self, entered)
                    delay = run.failed(None, result)
                    result = None
                if delay:  # out here, where the exception is forgotten; and sleep(0) would cost a system call
                    warn_if_loop_blocked(f"retry {self.name} sleeps")
                    CLOCK.sleep(delay)

        return retry

    def _direct_layer(self, fn: Callable[..., Any]) -> Layer:
        """`_outer_layer` to the letter, but that it calls the function itself.

        The frame of the seam between them would be the dearest part of a failed attempt: with every exception that
        passes, it becomes a frame object and a line of the traceback.
        """
        tally, timed, budget, poor = self.tally, self.timed, self.config.budget, self.poor

        def retry(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if budget is not None:
                budget.calls += 1
            entered = EXHAUSTED.latest
            run = Run(self, entered) if timed else None
            while True:
                try:
                    result = fn(*args, **kwargs)
                except Exception as error:
                    if run is None:
                        run = Run(self, entered)
                    delay = run.failed(error)
                    if delay is None:
                        raise
                except BaseException:
                    tally.interrupted += 1
                    raise
                else:
                    if poor is None or not poor(result):
                        if run is None or (run.retrying_since is None and RetrySucceeded not in HUB.by_type):
                            tally.succeeded += 1
                        else:
                            run.succeeded()
                        return result
                    if run is None:
                        run = Run(self, entered)
                    delay = run.failed(None, result)
                    result = None
                if delay:  # out here, where the exception is forgotten; and sleep(0) would cost a system call
                    warn_if_loop_blocked(f"retry {self.name} sleeps")
                    CLOCK.sleep(delay)

        return retry

    def async_layer(self, call: Layer, site: Site) -> Layer:
        """Call until it succeeds or is given up."""
        tally, timed, budget, poor = self.tally, self.timed, self.config.budget, self.poor

        async def retry(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if budget is not None:
                budget.calls += 1
            entered = EXHAUSTED.latest
            run = Run(self, entered) if timed else None
            while True:
                try:
                    result = await call(args, kwargs)
                except Exception as error:
                    if run is None:
                        run = Run(self, entered)
                    delay = run.failed(error)
                    if delay is None:
                        raise
                except BaseException:
                    tally.interrupted += 1
                    raise
                else:
                    if poor is None or not poor(result):
                        if run is None or (run.retrying_since is None and RetrySucceeded not in HUB.by_type):
                            tally.succeeded += 1
                        else:
                            run.succeeded()
                        return result
                    if run is None:
                        run = Run(self, entered)
                    delay = run.failed(None, result)
                    result = None
                if delay:  # out here, where the exception is forgotten
                    await CLOCK.asleep(delay)

        return retry

    def generator_layer(self, call: Layer, site: Site) -> Layer:
        """Start the stream again until it has delivered its first item."""
        self._refuse_results()
        return relay(lambda opening: self.sync_layer(opening, Site(site.fn, site.outer)), call)

    def async_generator_layer(self, call: Layer, site: Site) -> Layer:
        """Start the stream again until it has delivered its first item."""
        self._refuse_results()
        return arelay(lambda opening: self.async_layer(opening, Site(site.fn, site.outer)), call)

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

    def latencies(self) -> Distribution:
        """What retrying has added to the calls that ended since metrics were installed; 0 for most of them."""
        # A call is measured before it is counted, so here it is the other way round: what is counted has been measured,
        # and the calls that were not retried are never taken for more than they are.
        ended = self.tally.succeeded + self.tally.failed - self.tally.unmeasured
        seen = self.latency.distribution()
        plain = ended - seen.number
        if plain > self._plain:
            self._plain = plain
        first, *others = seen.counts
        return Distribution((first + self._plain, *others), seen.sum)

    def measure_from_now(self) -> None:
        """Leave the calls that have ended so far out of `latencies`."""
        self.tally.unmeasured = self.tally.succeeded + self.tally.failed
        self._plain = 0

    def _counting(self, poor: Callable[[Any], Any] | None) -> Callable[[Any], Any] | None:
        """The predicate, counting the attempt whose result it could not judge."""
        if poor is None:
            return None
        tally = self.tally

        def judged(result: Any) -> Any:
            try:
                return poor(result)
            except BaseException:
                tally.interrupted += 1
                raise

        return judged

    def get_metrics(self) -> RetryMetrics:
        """The numbers of now."""
        tally = self.tally
        total = tally.succeeded + tally.failed
        return RetryMetrics(total, tally.succeeded, tally.failed, tally.retries, tally.exhausted)

    def _refuse_results(self) -> None:
        if self.config.retry_on_result is not None:
            raise TypeError("retry_on_result= looks at a result, and a generator function has none; leave it out")
