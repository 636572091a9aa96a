"""The options of `@retry`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from resilient import _checks as check
from resilient._checks import ErrorFilter
from resilient.events import RetryScheduled
from resilient.retry import backoff as wait
from resilient.retry.budget import RetryBudget


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class RetryConfig(check.Options):
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
