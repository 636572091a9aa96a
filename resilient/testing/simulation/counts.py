"""What is counted of a simulation, interval by interval, and what follows from the counts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from resilient.testing.recovery.result import TimelineEvent
from resilient.testing.simulation.result import Interval

#: An interval is as before the outage where this share of the usual answers came, at most so many times slower,
#: and it counts as recovered where this holds for so many intervals at least, up to the end.
STEADY_SHARE = 0.95
STEADY_SLOWER = 2.0
STEADY_INTERVALS = 3


class Bin:
    """What is counted of one interval; `turned` is when calls were first answered after the last that was not."""

    __slots__ = (
        "answered", "breakers", "calls", "degraded", "events", "failures", "reached", "rejected", "successes",
        "time", "took", "turned",
    )  # fmt: skip

    def __init__(self, time: float) -> None:
        self.time = time
        self.calls = self.successes = self.degraded = self.failures = self.rejected = self.reached = self.answered = 0
        self.took = 0.0
        self.turned: float | None = None
        self.breakers: dict[str, dict[str, int]] = {}
        self.events: list[TimelineEvent] = []


class Plan(NamedTuple):
    """Who calls how often; times in seconds."""

    load: float
    clients: int
    duration: float
    interval: float
    outage: tuple[float, float]
    seed: int | str


class Times:
    """How long calls took. To 0.1 ms below a second, to 10 ms above: so there are few numbers, however many calls."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._total = 0.0

    def add(self, took: float) -> None:
        """Count one."""
        key = int(took * 1e4 + 0.5) if took < 1 else int(took * 100 + 0.5) * 100
        self._counts[key] = self._counts.get(key, 0) + 1
        self._total += took

    @property
    def average(self) -> float:
        """Their average; 0 of none."""
        count = sum(self._counts.values())
        return self._total / count if count else 0.0

    def percentile(self, share: float) -> float:
        """The least that at least this share does not exceed; 0 of none."""
        left = math.ceil(share * sum(self._counts.values()))
        for key, count in sorted(self._counts.items()):
            left -= count
            if left <= 0:
                return key / 1e4
        return 0.0


def timeline(bins: Sequence[Bin], duration: float) -> tuple[Interval, ...]:
    """The intervals, frozen."""
    ends = [*(one.time for one in bins[1:]), duration]
    return tuple(
        Interval(
            time=one.time,
            seconds=end - one.time,
            calls=one.calls,
            successes=one.successes,
            degraded=one.degraded,
            failures=one.failures,
            rejected=one.rejected,
            dependency_calls=one.reached,
            breakers=one.breakers,
            events=tuple(one.events),
        )
        for one, end in zip(bins, ends, strict=True)
    )


def time_to_recover(bins: Sequence[Bin], plan: Plan) -> float | None:
    """Seconds from the outage's end until calls were answered as before it, for good; None where they were not."""
    start, end = plan.outage
    share, usual = _before([one for one in bins if one.time + plan.interval <= start + 1e-9])
    if not share:
        return None
    after = [one for one in bins if one.time + plan.interval > end + 1e-9]
    first = len(after)
    while first and _is_steady(after[first - 1], share, usual):
        first -= 1
    if len(after) - first < STEADY_INTERVALS or not any(one.answered for one in after[first:]):
        return None
    if first == 0 and not after[0].failures and not after[0].degraded:
        return 0.0
    # The last bad interval may have turned good before its end.
    turned = after[first - 1].turned if first else None
    turned = after[first].turned if turned is None else turned
    return max(0.0, (after[first].time if turned is None else turned) - end)


def _before(bins: Sequence[Bin]) -> tuple[float, float]:
    """The share of calls that are usually answered, and the seconds that takes."""
    ended = sum(one.successes + one.failures for one in bins)
    answered = sum(one.answered for one in bins)
    if not ended:
        return 1.0, math.inf
    return answered / ended, sum(one.took for one in bins) / answered if answered else math.inf


def _is_steady(one: Bin, share: float, usual: float) -> bool:
    ended = one.successes + one.failures
    if not ended:
        return not one.calls
    in_time = not one.answered or one.took / one.answered <= STEADY_SLOWER * usual + 1e-3
    return one.answered / ended >= STEADY_SHARE * share and in_time
