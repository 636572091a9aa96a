"""Which of many operations are drawn, and how high: a page with 50,000 dots would show no more than one with 2,000."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from resilient.testing.recovery.result import Operation

#: More operations than this are thinned out.
MOST = 2000
_STRETCHES = 240


class Drawn(NamedTuple):
    """The operations that are drawn; `stretch` is how many seconds were thinned out together, None: none were."""

    operations: tuple[Operation, ...]
    stretch: float | None


def chosen(operations: Sequence[Operation], end: float) -> Drawn:
    """All; where there are too many, of each stretch and outcome the first, the last, the fastest and the slowest."""
    seen = tuple(one for one in operations if math.isfinite(one.started) and math.isfinite(one.duration))
    if len(seen) <= MOST:
        return Drawn(seen, None)
    heaps: dict[tuple[int, bool], list[Operation]] = defaultdict(list)
    for one in seen:
        heaps[min(_STRETCHES - 1, int(_STRETCHES * one.ended / end)), one.ok].append(one)
    kept = {id(one): one for heap in heaps.values() for one in _extremes(heap)}
    return Drawn(tuple(sorted(kept.values(), key=lambda one: one.ended)), end / _STRETCHES)


def _extremes(heap: Sequence[Operation]) -> Iterable[Operation]:
    yield min(heap, key=lambda one: one.ended)
    yield max(heap, key=lambda one: one.ended)
    yield min(heap, key=lambda one: one.duration)
    yield max(heap, key=lambda one: one.duration)


class Scale:
    """How high a duration is drawn, from 0 to 1: evenly, or by its logarithm where the slowest would hide the rest."""

    def __init__(self, durations: Iterable[float]) -> None:
        ordered = sorted(one for one in durations if one >= 0)
        self.is_flat = not ordered or ordered[-1] <= 0
        # Some room above the highest, for its label.
        self.most = 1.0 if self.is_flat else 1.12 * ordered[-1]
        middle = ordered[len(ordered) // 2] if ordered else 0.0
        positive = [one for one in ordered if one > 0]
        self.least = max(positive[0] if positive else self.most, self.most / 1e6)
        self.is_logarithmic = 0 < middle < self.most / 20
        if self.is_logarithmic:
            self.least = 10 ** math.floor(math.log10(self.least))

    def height(self, duration: float) -> float:
        """Where it is, from 0 at the bottom to 1 at the top."""
        if self.is_flat:
            return 0.5
        if not self.is_logarithmic:
            return min(1.0, max(0.0, duration / self.most))
        span = math.log10(self.most / self.least)
        return min(1.0, max(0.0, math.log10(max(duration, self.least) / self.least) / span))

    def marks(self) -> list[float]:
        """Durations for the axis, lowest first: a few round ones; none where no call took any time."""
        if self.is_flat:
            return []
        if not self.is_logarithmic:
            return steps(self.most, 3)
        decades = range(math.ceil(math.log10(self.least)), math.floor(math.log10(self.most)) + 1)
        every = max(1, math.ceil(len(decades) / 4))
        return [10.0**power for power in decades[::every]]


def steps(end: float, most: int = 6) -> list[float]:
    """Round moments from 0 to `end`, at most so many of them apart from 0."""
    size = 10.0 ** math.floor(math.log10(end / most))
    step = next(size * factor for factor in (1, 2, 5, 10, 20) if size * factor * most >= end * 0.999)
    return [step * number for number in range(int(end / step * 1.000001) + 1)]


def runs(moments: Iterable[float], end: float, columns: int = 400) -> list[tuple[float, float, int]]:
    """Moments that lie too close to tell apart, as stretches (start, end, how many)."""
    width = end / columns
    found: list[tuple[float, float, int]] = []
    for at in sorted(one for one in moments if math.isfinite(one)):
        if found and at - found[-1][1] <= width:
            found[-1] = (found[-1][0], at, found[-1][2] + 1)
        else:
            found.append((at, at, 1))
    return found


class Stretch(NamedTuple):
    """A breaker's state from one moment to another."""

    state: str
    start: float
    end: float


def stretches(changes: Sequence[tuple[float, str, str]], end: float, columns: int = 300) -> list[Stretch]:
    """What states (moment, old, new) add up to; where they change too often to be seen, "changing"."""
    states = [(0.0, changes[0][1]), *((at, new) for at, _, new in changes)]
    found = [Stretch(state, at, later) for (at, state), (later, _) in pairwise([*states, (end, "")])]
    if len(found) <= columns:
        return found
    merged: list[Stretch] = []
    for one in found:
        if one.end - one.start >= end / columns:
            merged.append(one)
        elif merged and merged[-1].state == "changing":
            merged[-1] = merged[-1]._replace(end=one.end)
        else:
            merged.append(one._replace(state="changing"))
    return merged
