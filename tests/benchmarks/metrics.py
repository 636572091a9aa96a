"""What metrics cost: those who call, whether they are installed or not, and those who scrape a thousand policies."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from statistics import quantiles
from time import perf_counter
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest

from resilient import bulkhead, circuit_breaker, degrade, registry, retry
from resilient.meters import METERS
from resilient.metrics import install, uninstall

from . import loops
from .candidates import four, stack
from .harness import Case, Effort, Row, ameasure
from .harness import measure as run

SECTION = "metrics"
SYNC = "degrade, retry, breaker, bulkhead: metrics and a subscriber"
ASYNC = "the same with coroutines: metrics and a subscriber"
FAILING = "retry, two failures, then success: metrics"
SCRAPE = "a scrape of 1,000 policies, as text: the fastest"
HELD = "calls beside scrapes of 1,000 policies without a pause: 99.9 % take at most"
WITHOUT = "the same without"
LIMIT = 1.10
POLICIES, LONGEST = 1000, 100.0


@contextmanager
def installed() -> Iterator[CollectorRegistry]:
    """Metrics in a registry of their own."""
    target = CollectorRegistry()
    install(target)
    try:
        yield target
    finally:
        uninstall(target)
        METERS.on = False  # it stays on for good otherwise, and the reference is to be without


def hear(event: object) -> None:
    """The subscriber."""


def watched(loop: loops.Loop, *subscribers: Callable[[Any], object]) -> loops.Loop:
    """The loop while metrics are installed, with subscribers to every event."""

    def on(n: int) -> float:
        with installed(), ExitStack() as stack:
            for subscriber in subscribers:
                stack.enter_context(registry.subscribe(subscriber))
            return loop(n)

    return on


def awatched(loop: loops.AsyncLoop) -> loops.AsyncLoop:
    async def on(n: int) -> float:
        with installed(), registry.subscribe(hear):
            return await loop(n)

    return on


def pair(judged: str, effort: Effort, rng: random.Random) -> list[Row]:
    """A function with metrics and a subscriber beside itself without."""
    guarded = four()(loops.bare())
    loop = loops.call(guarded)
    case = Case(SECTION, SYNC, judged, watched(loop, hear), lambda: guarded(1), 1, {WITHOUT: LIMIT})
    return run([case], {WITHOUT: loop}, effort, rng)


def failing(judged: str, effort: Effort, rng: random.Random) -> list[Row]:
    """A function that fails twice, with metrics beside itself without; no limit, as every failed attempt is timed."""
    guarded = retry(max_attempts=3, base_delay=0, jitter=False)(loops.flaky())
    loop = loops.call(guarded)
    case = Case(SECTION, FAILING, judged, watched(loop), lambda: guarded(1), 1, {WITHOUT: None})
    return run([case], {WITHOUT: loop}, effort, rng)


async def apair(judged: str, effort: Effort, rng: random.Random) -> list[Row]:
    guarded = four()(loops.abare())
    loop = loops.acall(guarded)
    case: Case[Awaitable[float]] = Case(SECTION, ASYNC, judged, awatched(loop), lambda: guarded(1), 1, {WITHOUT: LIMIT})
    return await ameasure([case], {WITHOUT: loop}, effort, rng)


def crowd() -> list[Callable[[int], Any]]:
    """Functions with so many policies in all, each of which has been called and has failed."""
    functions = [
        stack(degrade(fallback=0), retry(max_attempts=3, base_delay=0), circuit_breaker(), bulkhead())(loops.flaky(5))
        for _ in range(POLICIES // 4)
    ]
    for function in functions:
        function(1)
    return functions


def scraped(target: CollectorRegistry, rounds: int) -> tuple[float, float, float]:
    """The fewest milliseconds that a scrape has taken, and the quartiles; others on the machine only add to them."""
    taken = []
    for _ in range(rounds):
        start = perf_counter()
        text = generate_latest(target)
        taken.append((perf_counter() - start) * 1000)
        assert text.count(b"recovery_retry_attempts_total{") == POLICIES // 4
    low, _, high = quantiles(taken, n=4, method="inclusive")
    return min(taken), low, high


def held(target: CollectorRegistry, function: Callable[[int], Any], seconds: float) -> tuple[float, float]:
    """What 99.9 % of calls take at most, and the longest, in microseconds, while another thread scrapes."""
    stop, taken = threading.Event(), []

    def scrape() -> None:
        while not stop.is_set():
            generate_latest(target)

    thread = threading.Thread(target=scrape)
    thread.start()
    end = perf_counter() + seconds
    while (start := perf_counter()) < end:
        function(1)
        taken.append(perf_counter() - start)
    stop.set()
    thread.join()
    taken.sort()
    return taken[int(len(taken) * 0.999)] * 1e6, taken[-1] * 1e6


def of_scrapes(judged: str, effort: Effort, wanted: Callable[[str], bool]) -> list[Row]:
    """How long a scrape takes, and how long it keeps callers waiting."""
    asked = [pattern for pattern in (SCRAPE, HELD) if wanted(f"{SECTION}/{pattern}/{judged}")]
    rows: list[Row] = []
    if not asked:
        return rows
    with registry.scoped(), installed() as target:
        kept = crowd()
        gc.collect()
        if SCRAPE in asked:
            least, low, high = scraped(target, effort.rounds)
            rows.append(Row(SECTION, SCRAPE, judged, "the clock", least, LONGEST, "ms", low=low, high=high))
        if HELD in asked:
            most, longest = held(target, four()(loops.bare()), effort.rounds / 10)
            rows.append(Row(SECTION, HELD, judged, "the clock", most, unit="µs", absolute=longest / 1000,
                            absolute_unit="ms at most"))  # fmt: skip
        kept.clear()
    return rows


def measure(judged: str, effort: Effort, rng: random.Random, wanted: Callable[[str], bool]) -> list[Row]:
    """All rows of the section."""
    rows: list[Row] = []
    if wanted(f"{SECTION}/{SYNC}/{judged}"):
        rows += pair(judged, effort, rng)
    if wanted(f"{SECTION}/{ASYNC}/{judged}"):
        rows += asyncio.run(apair(judged, effort, rng))
    if wanted(f"{SECTION}/{FAILING}/{judged}"):
        rows += failing(judged, effort, rng)
    return rows + of_scrapes(judged, effort, wanted)
