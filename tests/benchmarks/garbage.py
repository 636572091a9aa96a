"""Objects in cycles that calls leave behind: they would hold arguments and errors until the collector comes.

A call that fails is the one to look at: an error that a frame keeps in a variable holds that frame, and all around it.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable

from resilient import bulkhead, circuit_breaker, degrade, retry, timeout

from . import loops
from .candidates import OURS, Decorator, acases, cases, stack
from .harness import Row
from .memory import Run, in_loop

CALLS = 100
LIMIT = 50  # of all these calls; one that leaves any leaves some each time


def broken(x: int) -> int:
    raise loops.Trouble


async def abroken(x: int) -> int:
    raise loops.Trouble


def late(x: int) -> int:
    time.sleep(0.005)
    return x


async def alate(x: int) -> int:
    await asyncio.sleep(0.005)
    return x


FAILING: dict[str, Callable[[], Decorator]] = {
    "breaker, failure": lambda: circuit_breaker(failure_threshold=1_000_000),
    "bulkhead, failure": lambda: bulkhead(max_concurrent=100),
    "degrade, fallback": lambda: degrade(fallback=0),
    "degrade, all fallbacks failed": lambda: degrade(fallback=[broken, broken]),
    "degrade, retry, breaker, bulkhead, fallback": lambda: stack(
        degrade(fallback=0),
        retry(max_attempts=2, base_delay=0),
        circuit_breaker(failure_threshold=1_000_000),
        bulkhead(max_concurrent=100),
    ),
    "retry, attempts exhausted": lambda: retry(max_attempts=2, base_delay=0),
    "timeout, failure": lambda: timeout(30),
}


def never_good() -> Decorator:
    return retry(max_attempts=2, base_delay=0, retry_on_result=lambda result: True)


def full() -> loops.Sync:
    """Calls itself through the same bulkhead, in which there is room for one."""
    policy: Decorator = bulkhead(max_concurrent=1, max_wait=0)
    inner: loops.Sync = policy(loops.bare())

    def outer(x: int) -> int:
        result: int = inner(x)
        return result

    guarded: loops.Sync = policy(outer)
    return guarded


def afull() -> loops.Async:
    policy: Decorator = bulkhead(max_concurrent=1, max_wait=0)
    inner: loops.Async = policy(loops.abare())

    async def outer(x: int) -> int:
        result: int = await inner(x)
        return result

    guarded: loops.Async = policy(outer)
    return guarded


def runs() -> dict[str, Run]:
    """The timed calls, and calls that fail in every way there is."""
    guarded = {pattern: make()(broken) for pattern, make in FAILING.items()}
    guarded |= {
        "retry, results exhausted": never_good()(loops.bare()),
        "bulkhead, full": full(),
        "timeout, expired": timeout(0.001)(late),
    }
    failing = {pattern: loops.rejected(function, Exception) for pattern, function in guarded.items()}
    timed: dict[str, Run] = {case.pattern: case.loop for case in cases(OURS)}
    return timed | failing


async def aruns() -> dict[str, loops.AsyncLoop]:
    guarded = {pattern: make()(abroken) for pattern, make in FAILING.items()}
    guarded |= {
        "retry, results exhausted": never_good()(loops.abare()),
        "bulkhead, full": afull(),
        "timeout, expired": timeout(0.001)(alate),
    }
    failing = {pattern: loops.arejected(function, Exception) for pattern, function in guarded.items()}
    return {case.pattern: case.loop for case in await acases(OURS)} | failing


def garbage(run: Run) -> int:
    """Objects that only the garbage collector could free after these calls."""
    run(CALLS)
    gc.collect()
    gc.disable()
    try:
        run(CALLS)
        time.sleep(0.05)  # for abandoned threads to end
        return gc.collect()
    finally:
        gc.enable()


def measure(library: str) -> list[Row]:
    """A row for sync calls and one for async calls, and one more for each kind that is over the limit."""
    with asyncio.Runner() as runner:
        left = {
            "garbage, sync": {name: garbage(run) for name, run in runs().items()},
            "garbage, async": {name: garbage(in_loop(runner, loop)) for name, loop in runner.run(aruns()).items()},
        }
    rows = []
    for mode, counts in left.items():
        worst = [name for name, count in counts.items() if count > LIMIT]
        for name in worst or [""]:
            shown = f"{mode}: {name}" if name else mode
            count = counts[name] if name else max(counts.values())
            rows.append(Row("memory", shown, library, f"{CALLS:,} calls", count, LIMIT, unit="objects"))
    return rows
