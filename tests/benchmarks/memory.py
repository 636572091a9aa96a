"""Bytes that a decorated function takes, and bytes that calls leave behind."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Callable
from types import FunctionType
from typing import Any

from resilient import bulkhead, circuit_breaker, degrade, retry, timeout

from . import loops
from .candidates import Decorator, five, four, stack
from .harness import Row

Run = Callable[[int], object]
DECORATED_LIMIT = 3 * 1024
GROWTH_LIMIT = 4 * 1024  # of all calls together, what the measuring itself may stir up
POLICIES: dict[str, Callable[[], Decorator]] = {
    "retry": lambda: retry(max_attempts=3),
    "breaker": lambda: circuit_breaker(failure_threshold=5),
    "bulkhead": lambda: bulkhead(max_concurrent=100),
    "timeout": lambda: timeout(30),
    "degrade": lambda: degrade(fallback=0),
}


def patient() -> Decorator:
    """Four policies that see failures: retries without a pause, and a windowed breaker that never opens."""
    return stack(
        degrade(fallback=0),
        retry(max_attempts=3, base_delay=0, jitter=False),
        circuit_breaker(window_size=100, failure_rate_threshold=0.9),
        bulkhead(max_concurrent=100),
    )


def fresh(count: int) -> list[Any]:
    """Functions with a name and code of their own each, as a program has them."""
    code = loops.bare().__code__
    names = [f"function_{number}" for number in range(count)]
    return [FunctionType(code.replace(co_name=name, co_qualname=name), {"__name__": "benchmark"}) for name in names]


def held() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def decorated(make: Callable[[], Decorator], count: int) -> float:
    """Bytes for each function decorated with its own policy and called once, the function itself not counted."""
    for function in fresh(50):
        make()(function)(1)
    functions = fresh(count)
    tracemalloc.start()
    try:
        before = held()
        for number in range(count):
            functions[number] = make()(functions[number])
            functions[number](1)
        return (held() - before) / count
    finally:
        tracemalloc.stop()


def growth(run: Callable[[int], object], calls: int) -> int:
    """Bytes more after so many calls than before them."""
    tracemalloc.start()
    try:
        run(10_000)
        before = held()
        run(calls)
        return held() - before
    finally:
        tracemalloc.stop()


def measure(library: str, count: int, calls: int, wanted: Callable[[str], bool]) -> list[Row]:
    """A row for each policy, and one for each kind of long run."""
    rows = []
    for name, make in POLICIES.items():
        if wanted(f"memory/{name}/{library}"):
            size = decorated(make, count)
            rows.append(Row("memory", name, library, "a function", size, DECORATED_LIMIT, unit="B"))
    with asyncio.Runner() as runner:  # one loop for warming up and measuring: what belongs to a loop is not growth
        rows += [
            Row("memory", name, library, f"{calls:,} calls", growth(run, calls), GROWTH_LIMIT, unit="B")
            for name, run in _long_runs(runner).items()
            if wanted(f"memory/{name}/{library}")
        ]
    return rows


def _long_runs(runner: asyncio.Runner) -> dict[str, Run]:
    success, failures, suspending = four()(loops.bare()), patient()(loops.flaky(period=20)), five()(loops.asuspends())
    return {
        "growth, four policies, success": loops.call(success),
        "growth, four policies, failures among": loops.call(failures),
        "growth, five policies, async": in_loop(runner, loops.acall(suspending)),
    }


def in_loop(runner: asyncio.Runner, loop: loops.AsyncLoop) -> Run:
    async def main(calls: int) -> float:
        return await loop(calls)

    return lambda calls: runner.run(main(calls))
