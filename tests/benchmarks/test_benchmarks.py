"""The benchmark measures the right things, and reckons right. No test here looks at a time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from itertools import cycle
from typing import Any

import pytest

from resilient import BulkheadFullError

from . import garbage, imports, loops, memory, report, rivals, threads
from .__main__ import main
from .candidates import ASYNC_LIMITS, BASELINE, OURS, SYNC_LIMITS, Library, acases, cases
from .harness import Case, Effort, Row, ameasure, measure, paired

RIVALS, VERSIONS = rivals.installed()
EVERY = pytest.mark.parametrize("library", [OURS, BASELINE, *RIVALS], ids=lambda library: library.name)


@EVERY
def test_sync_cases_answer(library: Library) -> None:
    for case in cases(library):
        assert case.answer() == case.expected, case.id
        assert case.answer() == case.expected, case.id


@EVERY
def test_async_cases_answer(library: Library) -> None:
    async def check() -> None:
        for case in await acases(library):
            assert await case.answer() == case.expected, case.id
            assert await case.answer() == case.expected, case.id

    asyncio.run(check())


@EVERY
def test_loops_run(library: Library) -> None:
    async def check() -> None:
        for case in await acases(library):
            assert await case.loop(3) > 0

    for case in cases(library):
        assert case.loop(3) > 0
    asyncio.run(check())


def test_every_limit_is_measured() -> None:
    assert OURS.sync.keys() == SYNC_LIMITS.keys()
    assert OURS.asynchronous.keys() == ASYNC_LIMITS.keys()
    references = {name for limits in SYNC_LIMITS.values() for name in limits}
    assert references == loops.REFERENCES.keys()
    areferences = {name for limits in ASYNC_LIMITS.values() for name in limits}
    assert areferences == loops.AREFERENCES.keys()


def test_every_rival_is_named() -> None:
    assert VERSIONS.keys() == rivals.RIVALS.keys()


def test_subjects_fail_as_told() -> None:
    flaky = loops.flaky(period=5)
    outcomes = []
    for _ in range(10):
        try:
            outcomes.append(flaky(1))
        except loops.Trouble:
            outcomes.append(0)
    assert outcomes == [0, 0, 1, 1, 1] * 2


def test_own_code_is_not_shared() -> None:
    first, second = loops.bare(), loops.bare()
    assert first.__code__ is not second.__code__
    assert first(1) == second(1) == 1


def test_paired_takes_the_median_of_ratios_not_the_ratio_of_medians() -> None:
    low, middle, high = paired([10, 200, 30, 40, 50], [10, 100, 10, 10, 10])
    assert (low, middle, high) == (2, 3, 4)
    assert paired([6], [3]) == (2, 2, 2)


class Weather:
    """A machine that is slow and fast by turns, with a clock that costs nothing."""

    def __init__(self) -> None:
        self.phases = cycle([1, 50, 1, 5, 3])
        self.slowness = 1
        self.runs: list[str] = []

    def loop(self, name: str, cost: float) -> Callable[[int], float]:
        def run(n: int) -> float:
            if len(self.runs) % 2 == 0:
                self.slowness = next(self.phases)
            self.runs.append(name)
            return n * cost * self.slowness

        return run

    def aloop(self, name: str, cost: float) -> Callable[[int], Awaitable[float]]:
        run = self.loop(name, cost)

        async def arun(n: int) -> float:
            return run(n)

        return arun


def fake(loop: Callable[[int], Any], pattern: str, limits: dict[str, float | None]) -> Case[Any]:
    return Case("sync", pattern, "ours", loop, lambda: 1, 1, limits)


SHORT = Effort(rounds=20, seconds=1e-6)  # three runs are enough to reckon the repetitions


def test_measure_compares_within_a_pair() -> None:
    weather = Weather()
    references = {"W": weather.loop("W", 2e-6), "pool": weather.loop("pool", 8e-6)}
    half = fake(weather.loop("half", 1e-6), "half", {"W": 0.4, "pool": 1.0})
    double = fake(weather.loop("double", 4e-6), "double", {"W": None})
    rows = measure([half, double], references, SHORT, random.SystemRandom())
    assert [(row.pattern, row.against) for row in rows] == [("half", "W"), ("half", "pool"), ("double", "W")]
    assert [row.value for row in rows] == pytest.approx([0.5, 0.125, 2.0])
    assert [row.low for row in rows] == pytest.approx([0.5, 0.125, 2.0])
    assert [row.over for row in rows] == [True, False, False]


def test_measure_interleaves() -> None:
    weather = Weather()
    pairs = [fake(weather.loop(name, 1e-6), name, {"W": None}) for name in "abc"]
    measure(pairs, {"W": weather.loop("W", 1e-6)}, SHORT, random.SystemRandom())
    turns = [weather.runs[start : start + 6] for start in range(3 * 4, len(weather.runs), 6)]
    assert len(turns) == SHORT.rounds
    assert all(sorted(turn) == ["W", "W", "W", "a", "b", "c"] for turn in turns)
    assert all("W" in turn[place : place + 2] for turn in turns for place in (0, 2, 4))
    assert len({tuple(turn) for turn in turns}) > 1


def test_ameasure_says_the_same() -> None:
    weather = Weather()
    case = fake(weather.aloop("a", 3e-6), "a", {"W": 1.6})
    rows = asyncio.run(ameasure([case], {"W": weather.aloop("W", 2e-6)}, SHORT, random.SystemRandom()))
    assert rows[0].value == pytest.approx(1.5)


def test_repetitions_fill_a_sample() -> None:
    counts: list[int] = []

    def loop(n: int) -> float:
        counts.append(n)
        hiccup = 1.0 if len(counts) in (1, 5) else 0.0
        return n * 1e-6 + hiccup

    measure([fake(loop, "a", {"W": None})], {"W": Weather().loop("W", 1e-3)}, Effort(2, 1e-4), random.SystemRandom())
    assert counts[::3] == [1, 2, 4, 8, 16, 32, 100]
    assert counts[-2:] == [100, 100]


def test_limits_have_a_side() -> None:
    assert Row("threads", "4 threads", "ours", "1 thread", 0.6, 0.7, at_least=True).over
    assert not Row("threads", "4 threads", "ours", "1 thread", 0.8, 0.7, at_least=True).over
    assert Row("sync", "retry", "ours", "W", 0.6, 0.5).over
    assert not Row("sync", "retry", "ours", "W", 0.6).over


def test_other_sections_run() -> None:
    shared = threads.measure([OURS], "resilient", Effort(1, 0.001))
    assert [row.library for row in shared] == ["resilient", "baseline"]
    assert shared[0].limit == threads.LIMIT
    assert shared[0].value > 0
    imported, wrapt = imports.measure(["resilient"], "resilient", 1, random.SystemRandom())
    assert imported.limit == imports.LIMIT
    assert imported.value > 0
    assert wrapt.library == "wrapt"
    rows = memory.measure("resilient", 20, 100, lambda name: True)
    assert [row.pattern for row in rows[:5]] == ["retry", "breaker", "bulkhead", "timeout", "degrade"]


def test_garbage_is_seen() -> None:
    def cycles(n: int) -> None:
        for _ in range(n):
            ring: list[object] = []
            ring.append(ring)

    assert garbage.garbage(cycles) == garbage.CALLS
    assert garbage.garbage(lambda n: [list[int]() for _ in range(n)]) == 0


def test_failing_calls_fail() -> None:
    assert all(run(3) for run in garbage.runs().values())
    with pytest.raises(BulkheadFullError):
        garbage.full()(1)

    async def check() -> None:
        assert all([await loop(3) for loop in (await garbage.aruns()).values()])
        with pytest.raises(BulkheadFullError):
            await garbage.afull()(1)

    asyncio.run(check())


def test_page_shows_every_row() -> None:
    rows = [
        Row("sync", "retry", "resilient", "W", 0.4, 0.5, low=0.39, high=0.41, absolute=500),
        Row("sync", "retry", "tenacity", "W", 24.0, absolute=31_000),
        Row("sync", report.W, report.BASELINE, "W", 1.0, absolute=1_400),
        Row("memory", "retry", "resilient", "a function", 4000, 3072, unit="B"),
    ]
    setting = report.Setting.here({"wrapt": "2", "nopanic": "missing"}, ["--markdown", "page.md"])
    page = report.page(rows, setting, ["resilient", "tenacity"])
    for text in (
        "0.40",
        "≤ 0.50",
        "0.39 - 0.41",
        "24.0 (31,000)",
        "4,000 B",
        "≤ 3,072 B",
        "**over**",
        "1,400 ns",
        "nopanic missing",
    ):
        assert text in page, text
    assert "python -m tests.benchmarks --markdown page.md" in page


def test_check_fails_only_when_asked(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    row = Row("memory", "retry", "resilient", "a function", 4000, 3072, unit="B")
    monkeypatch.setattr(memory, "measure", lambda *_: [row])
    assert main(["--quick", "--only", "memory/retry"]) == 0
    assert main(["--quick", "--check", "--only", "memory/retry"]) == 1
    assert "over: memory, retry: 4,000 B (a function), limit ≤ 3,072 B" in capsys.readouterr().out
