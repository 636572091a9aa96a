"""Histograms that policies fill on the paths where something went wrong, and that the metrics read.

Whatever is only a number is counted by the policies themselves. A histogram takes a call, so none is filled on the way
of a call that simply succeeds.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from typing import NamedTuple

#: Upper bounds of buckets in seconds: for what calls wait, what modes last, and what steps of a recovery take.
CALL_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
MODE_BUCKETS = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)
STEP_BUCKETS = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0)


class Distribution(NamedTuple):
    """How many observations fell into each bucket (the last is for all above the bounds), and their sum in seconds."""

    counts: tuple[int, ...]
    sum: float

    @property
    def number(self) -> int:
        """All observations."""
        return sum(self.counts)


#: Told of every observation: the metric, the values of its labels, and the seconds.
Listener = Callable[[str, tuple[str, ...], float], object]


class Meters:
    """What the process wants measured; `on` since metrics were first installed."""

    __slots__ = ("listeners", "on")

    def __init__(self) -> None:
        #: Whether retries are to time what they add to a call: that takes two readings of the clock.
        self.on = False
        self.listeners: tuple[Listener, ...] = ()


METERS = Meters()


class Histogram:
    """Observations in fixed buckets. Takes no lock: between reading a count and writing it there is no call."""

    __slots__ = ("bounds", "counts", "metric", "total")

    def __init__(self, metric: str, bounds: tuple[float, ...] = CALL_BUCKETS) -> None:
        self.metric = metric
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, seconds: float, *labels: str) -> None:
        """Account for one observation; `labels` are the values of the metric's labels, for those who listen."""
        # First: who listens, and reads the counts besides, must not take this one for another that it was not told of.
        for listener in METERS.listeners:
            listener(self.metric, labels, seconds)
        # The bucket is found before its count is read, and nothing is called in between.
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds

    def distribution(self) -> Distribution:
        """A copy of now."""
        return Distribution(tuple(self.counts), self.total)
