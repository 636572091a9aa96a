"""The counters of the last two minutes, sample by sample, in as little memory as can be."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

#: Samples that are kept; at one in two seconds, two minutes.
KEPT = 60
#: What rates are taken over, in seconds.
MINUTE = 60.0


class Rates(NamedTuple):
    """Calls per second and the share that did not go well, over the last `seconds`; None where nothing is known."""

    calls_per_second: float | None
    bad_per_second: float
    bad_share: float | None
    seconds: float


class Times:
    """When each sample was taken, in monotonic seconds; samples are numbered from 1."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=KEPT + 1)
        self.number = 0

    def add(self, now: float) -> int:
        """Note a sample, and return its number."""
        self._times.append(now)
        self.number += 1
        return self.number

    @property
    def first(self) -> int:
        """The number of the oldest sample that is kept."""
        return self.number - len(self._times) + 1

    @property
    def last(self) -> float:
        """When the latest sample was taken."""
        return self._times[-1]

    def at(self, number: int) -> float:
        """When a sample was taken."""
        return self._times[number - self.first]

    def is_recent(self, number: int) -> bool:
        """Whether a sample was taken during the minute before the latest one."""
        return number >= self.first and self.last - self.at(number) < MINUTE

    def numbered(self) -> Iterable[tuple[int, float]]:
        """Each sample's number, and when it was taken."""
        return enumerate(self._times, self.first)

    def since(self, seconds: float) -> int:
        """The number of the oldest sample that is not older than so many seconds."""
        oldest = self.last - seconds
        return next(number for number, at in self.numbered() if at >= oldest)


class Track:
    """The counters of one policy: a triple (sample, calls, bad) for each sample in which they had changed."""

    __slots__ = ("_numbers", "worse")

    def __init__(self, number: int, calls: int, bad: int) -> None:
        self._numbers = array("q", (number, calls, bad))
        #: The sample in which `bad` last rose, 0 for none.
        self.worse = 0

    def add(self, number: int, calls: int, bad: int, first: int) -> None:
        """Note what the counters say; what is older than sample `first` is forgotten, but for one that it begins at."""
        numbers = self._numbers
        if calls == numbers[-2] and bad == numbers[-1]:
            return
        if calls < numbers[-2] or bad < numbers[-1]:
            del numbers[:]  # another policy of this name, or one that was reset
        elif bad > numbers[-1]:
            self.worse = number
        numbers.extend((number, calls, bad))
        while len(numbers) > 3 and numbers[3] <= first:
            del numbers[:3]

    def _reading(self, number: int) -> tuple[int, int]:
        """The counters as they were at a sample."""
        numbers = self._numbers
        for place in range(len(numbers) - 3, -1, -3):
            if numbers[place] <= number:
                return numbers[place + 1], numbers[place + 2]
        return numbers[1], numbers[2]

    def rates(self, times: Times, *, counts_calls: bool = True) -> Rates:
        """What has happened during the last minute, or since it is known."""
        begin = max(times.since(MINUTE), self._numbers[0] if self._numbers[0] > times.first else 0)
        seconds = times.last - times.at(begin)
        (calls, bad), (calls_then, bad_then) = (self._numbers[-2], self._numbers[-1]), self._reading(begin)
        calls, bad = calls - calls_then, bad - bad_then
        if seconds <= 0:
            return Rates(None, 0.0, None, 0.0)
        if not counts_calls:
            return Rates(None, bad / seconds, None, seconds)
        return Rates(calls / seconds, bad / seconds, bad / calls if calls else None, seconds)

    def points(self, times: Times) -> list[tuple[float, float, float]]:
        """For each sample but the first: when it was, and calls and bad ones per second since the one before."""
        found = []
        before, (calls_before, bad_before) = times.at(times.first), self._reading(times.first)
        later = [tuple(self._numbers[place : place + 3]) for place in range(0, len(self._numbers), 3)]
        place, calls, bad = 0, calls_before, bad_before
        for number, at in times.numbered():
            while place < len(later) and later[place][0] <= number:
                _, calls, bad = later[place]
                place += 1
            if number > times.first:
                step = max(at - before, 1e-9)
                found.append((at, (calls - calls_before) / step, (bad - bad_before) / step))
            before, calls_before, bad_before = at, calls, bad
        return found
