"""The measuring itself: cases and references in shuffled, interleaved rounds, compared pair by pair.

It knows no library and reads no clock: a loop is anything that runs n times and tells how many seconds that took.
`rounds` is a generator that yields the next loop to run and is sent the time; `measure` and `ameasure` drive it.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Case(Generic[T]):
    """One library doing one thing."""

    section: str
    pattern: str
    library: str
    loop: Callable[[int], T]
    answer: Callable[[], Any]  # one call outside the timing, to see that the thing timed is the right one
    expected: object
    limits: Mapping[str, float | None]  # reference -> highest allowed ratio to it; None: told, not judged

    @property
    def id(self) -> str:
        return f"{self.section}/{self.pattern}/{self.library}"


@dataclass(frozen=True)
class Row:
    """One figure of the report."""

    section: str
    pattern: str
    library: str
    against: str
    value: float
    limit: float | None = None
    unit: str = "x"
    at_least: bool = False
    low: float | None = None
    high: float | None = None
    absolute: float | None = None
    absolute_unit: str = "ns"

    @property
    def over(self) -> bool:
        """Is the value on the wrong side of its limit?"""
        if self.limit is None:
            return False
        return self.value < self.limit if self.at_least else self.value > self.limit


@dataclass(frozen=True)
class Effort:
    """How long to measure."""

    rounds: int
    seconds: float  # of one sample


def paired(samples: Sequence[float], references: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile of the ratios sample / reference of the same round."""
    ratios = [sample / reference for sample, reference in zip(samples, references, strict=True)]
    if len(ratios) == 1:
        return ratios[0], ratios[0], ratios[0]
    low, _, high = quantiles(ratios, n=4, method="inclusive")
    return low, median(ratios), high


def repetitions(loop: Callable[[int], T], seconds: float) -> Generator[tuple[Callable[[int], T], int], float, int]:
    """How many repetitions of the loop fill a sample; also warms it up.

    The best of three runs counts: a first call, or one that the machine has interrupted, says nothing about the rest.
    """
    count = 1
    while True:
        elapsed = float("inf")
        for _ in range(3):
            elapsed = min(elapsed, (yield loop, count))
        if elapsed >= seconds / 4:
            return max(1, round(count * seconds / elapsed))
        count *= 2


def rounds(
    cases: Sequence[Case[T]], references: Mapping[str, Callable[[int], T]], effort: Effort, rng: random.Random
) -> Generator[tuple[Callable[[int], T], int], float, list[Row]]:
    """Every round runs all pairs of a case and a reference, in a new order, the reference right beside its case."""
    pairs = [(case, name) for case in cases for name in case.limits]
    counts: dict[Callable[[int], T], int] = {}
    for loop in [*references.values(), *(case.loop for case in cases)]:
        counts[loop] = yield from repetitions(loop, effort.seconds)
    samples: dict[tuple[str, str], list[float]] = {(case.id, name): [] for case, name in pairs}
    beside: dict[tuple[str, str], list[float]] = {key: [] for key in samples}
    for _ in range(effort.rounds):
        for case, name in rng.sample(pairs, len(pairs)):
            reference = references[name]
            turns = [(reference, beside), (case.loop, samples)]
            for loop, readings in rng.sample(turns, 2):
                elapsed = yield loop, counts[loop]
                readings[case.id, name].append(elapsed / counts[loop] * 1e9)
    return [_row(case, name, samples[case.id, name], beside[case.id, name]) for case, name in pairs]


def _row(case: Case[T], name: str, samples: Sequence[float], references: Sequence[float]) -> Row:
    low, middle, high = paired(samples, references)
    return Row(
        case.section,
        case.pattern,
        case.library,
        name,
        middle,
        case.limits[name],
        low=low,
        high=high,
        absolute=median(samples),
    )


def measure(
    cases: Sequence[Case[float]], references: Mapping[str, Callable[[int], float]], effort: Effort, rng: random.Random
) -> list[Row]:
    """Run the rounds with plain functions."""
    schedule = rounds(cases, references, effort, rng)
    try:
        loop, count = next(schedule)
        while True:
            loop, count = schedule.send(loop(count))
    except StopIteration as done:
        rows: list[Row] = done.value
        return rows


async def ameasure(
    cases: Sequence[Case[Awaitable[float]]],
    references: Mapping[str, Callable[[int], Awaitable[float]]],
    effort: Effort,
    rng: random.Random,
) -> list[Row]:
    """Run the rounds with coroutine functions, all inside the running loop."""
    schedule = rounds(cases, references, effort, rng)
    try:
        loop, count = next(schedule)
        while True:
            loop, count = schedule.send(await loop(count))
    except StopIteration as done:
        rows: list[Row] = done.value
        return rows
