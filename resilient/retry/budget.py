"""A budget that keeps retries a small share of the traffic, however many retries share it.

After Finagle's RetryBudget: a ratio of the calls of the last seconds, plus a floor per second for quiet times.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections import deque
from typing import NamedTuple

from resilient._checks import Seconds, number, seconds, share
from resilient._registry import registry
from resilient.clock import CLOCK
from resilient.errors import ConfigurationError

SLICES = 10


class BudgetMetrics(NamedTuple):
    """The numbers of a `RetryBudget`: `available` is how many retries could be scheduled now."""

    calls: int
    granted: int
    refused: int
    available: float


class BudgetState:
    """Pure: how many retries the traffic of the window allows. Not safe for concurrent use.

    The floor is a bucket that fills with `floor` tokens a second and holds one second's worth, at least one token.
    Beyond it, the retries granted within the window stay at most `ratio` times the calls made within it.
    """

    def __init__(self, ratio: float, floor: float, window: float, now: float) -> None:
        self.ratio = ratio
        self.floor = floor
        self.window = window
        self.capacity = max(1.0, floor) if floor else 0.0
        self.tokens = self.capacity
        self.refilled = now
        self.seen = 0
        # Slices of the window: [moment, calls, retries]; running totals make each look O(1) on average.
        self.slices: deque[list[float]] = deque()
        self.calls = 0.0
        self.retries = 0

    def look(self, now: float, calls: int) -> float:
        """Account for `calls` made in total until now; returns how many retries could be granted."""
        elapsed = max(0.0, now - self.refilled)
        self.tokens = min(self.capacity, self.tokens + self.floor * elapsed)
        new, self.seen = calls - self.seen, calls
        self._spread(new, now, elapsed)
        self.refilled = now
        while self.slices and self.slices[0][0] <= now - self.window:
            _, gone, spent = self.slices.popleft()
            self.calls -= gone
            self.retries -= int(spent)
        return self.tokens + max(0.0, self.ratio * self.calls - self.retries)

    def _spread(self, new: int, now: float, elapsed: float) -> None:
        """Put new calls into slices, evenly over the time since the last look: when they came, nobody has noted."""
        width = self.window / SLICES
        span = min(elapsed, self.window)
        parts = max(1, math.ceil(span / width))
        share = new * (span / elapsed if elapsed else 1.0) / parts
        for part in range(1, parts + 1):
            end = now - span + span * part / parts
            if not self.slices or end >= self.slices[-1][0] + width:
                self.slices.append([end, 0.0, 0])
            self.slices[-1][1] += share
        self.calls += share * parts

    def take(self, now: float, calls: int) -> bool:
        """Reserve one retry, if the budget has it."""
        self.look(now, calls)
        if self.tokens >= 1:
            self.tokens -= 1
            return True
        if self.retries + 1 <= self.ratio * self.calls + 1e-9:
            self.retries += 1
            self.slices[-1][2] += 1
            return True
        return False


class RetryBudget:
    """Lets retries through as long as they are at most `ratio` of the calls of the last `window` seconds.

    `min_per_second` retries are always allowed, for quiet times. Share one budget between the retries of one service:
    `retry(budget=budget)`. A retry is paid for when it is scheduled, so sleeping ones count.
    """

    def __init__(self, ratio: float = 0.2, min_per_second: float = 10.0, *, window: Seconds = 10.0) -> None:
        fraction = share("ratio", ratio, zero=True)
        if fraction is None:
            raise ConfigurationError("ratio=None: must be a fraction from 0 to 1")
        self.ratio = fraction
        self.min_per_second = number("min_per_second", min_per_second, least=0)
        self.window = seconds("window", window, positive=True)
        #: Calls made so far; counted by the retries that share the budget.
        self.calls = 0
        self._granted = self._refused = 0
        self._state = BudgetState(self.ratio, self.min_per_second, self.window, CLOCK.monotonic())
        self._lock = threading.RLock()
        _BUDGETS.add(self)

    def take(self) -> bool:
        """Reserve one retry; False when the budget is used up."""
        now = CLOCK.monotonic()
        with self._lock:
            granted = self._state.take(now, self.calls)
            if granted:
                self._granted += 1
            else:
                self._refused += 1
        return granted

    def get_metrics(self) -> BudgetMetrics:
        """The numbers of now."""
        now = CLOCK.monotonic()
        with self._lock:
            return BudgetMetrics(self.calls, self._granted, self._refused, self._state.look(now, self.calls))

    def after_fork(self) -> None:
        """Replace the lock in a forked child."""
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        return f"RetryBudget(ratio={self.ratio:g}, min_per_second={self.min_per_second:g}, window={self.window:g})"


_BUDGETS: weakref.WeakSet[RetryBudget] = weakref.WeakSet()


def _after_fork() -> None:
    for budget in list(_BUDGETS):
        budget.after_fork()


registry.fork_hooks.append(_after_fork)
