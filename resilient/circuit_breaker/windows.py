"""What a closed circuit remembers of its calls: pure, O(1) per call, and silent about calls that went well.

The window counts calls with a plain counter that the fast path increments without a lock; only calls that failed or
were slow are noted, by their number (count window) or in their slice (time window).
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

SLICES = 10


class Tally(NamedTuple):
    """What a window holds: `calls` in it, how many of them failed and how many were slow."""

    calls: int
    failures: int
    slow: int

    @property
    def failure_rate(self) -> float:
        """Failures per call, 0.0 without calls."""
        return self.failures / self.calls if self.calls else 0.0

    @property
    def slow_rate(self) -> float:
        """Slow calls per call, 0.0 without calls."""
        return self.slow / self.calls if self.calls else 0.0


class CountWindow:
    """The last `size` calls."""

    __slots__ = ("failed", "since", "size", "slow")

    def __init__(self, size: int) -> None:
        self.size = size
        self.since = 0  # calls up to this one are not in it, whatever its size
        self.failed: deque[int] | None = None  # made when first needed: an empty deque is 600 bytes
        self.slow: deque[int] | None = None

    def note(self, number: int, failed: bool, slow: bool) -> None:
        """Remember that call `number` (counted from 1, failures included) failed or was slow."""
        if failed:
            if self.failed is None:
                self.failed = deque(maxlen=self.size)
            self.failed.append(number)
        if slow:
            if self.slow is None:
                self.slow = deque(maxlen=self.size)
            self.slow.append(number)

    def resized(self, size: int, calls: int) -> CountWindow:
        """A window of another size with what this one holds after `calls` calls."""
        other = CountWindow(size)
        other.since = max(self.since, calls - self.size)
        if self.failed is not None:
            other.failed = deque(self.failed, maxlen=size)
        if self.slow is not None:
            other.slow = deque(self.slow, maxlen=size)
        return other

    def tally(self, calls: int) -> Tally:
        """What the window holds after `calls` calls."""
        oldest = calls - self.size
        for numbers in (self.failed, self.slow):
            while numbers and numbers[0] <= oldest:
                numbers.popleft()
        return Tally(min(calls - self.since, self.size), len(self.failed or ()), len(self.slow or ()))


class Slice:
    """A tenth of a time window; `calls` is incremented without a lock."""

    __slots__ = ("calls", "failures", "slow", "until")

    def __init__(self, until: float) -> None:
        self.until = until
        self.calls = self.failures = self.slow = 0


class TimeWindow:
    """The calls of the last `duration` seconds, to a tenth of it."""

    __slots__ = ("duration", "now", "slices")

    def __init__(self, duration: float, now: float) -> None:
        self.duration = duration
        self.now = Slice(now + duration / SLICES)
        self.slices: deque[Slice] = deque([self.now])

    def turn(self, now: float) -> Slice:
        """The slice for calls that end now; drops those that have left the window."""
        if now >= self.now.until:
            self.now = Slice(now + self.duration / SLICES)
            self.slices.append(self.now)
        oldest = now - self.duration
        while self.slices[0].until <= oldest:
            self.slices.popleft()
        return self.now

    def tally(self) -> Tally:
        """What the window holds."""
        parts = self.slices
        return Tally(sum(s.calls for s in parts), sum(s.failures for s in parts), sum(s.slow for s in parts))
