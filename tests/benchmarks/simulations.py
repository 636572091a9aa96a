"""What a simulated user call costs, beside an asyncio task that does nothing but wait for its turn."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from time import perf_counter
from typing import Any

from resilient import CircuitOpenError, Pipeline, circuit_breaker, retry, timeout
from resilient.testing.simulation import Simulation, simulate

from .harness import Case, Effort, Row
from .harness import measure as run

SECTION = "testing"
PATTERN = "a simulated user call: retry, breaker, timeout, a third of the time an outage"
AGAINST = "an asyncio task that sleeps for 0 s"
#: Such a call is a task as well, with a timer, three policies, and what is counted of it.
LIMIT = 4.0
LOAD = 500.0


def outage(calls: int) -> Simulation:
    """So many calls, a third of them in an outage."""
    policies = retry(max_attempts=3, give_up_on=CircuitOpenError), circuit_breaker(recovery_timeout=5), timeout(1)
    seconds = calls / LOAD
    return simulate(Pipeline(*policies), (seconds / 3, seconds * 2 / 3), LOAD, seconds, seed=1, interval=seconds / 100)


def simulated(n: int) -> float:
    """Simulate so many calls; the seconds that took."""
    start = perf_counter()
    outage(n)
    return perf_counter() - start


def tasks(n: int) -> float:
    """Run so many tasks, a hundred at a time; the seconds that took."""

    async def wait() -> None:
        await asyncio.sleep(0)

    async def main() -> float:
        start = perf_counter()
        for _ in range(0, n, 100):
            await asyncio.gather(*(wait() for _ in range(100)))
        return perf_counter() - start

    return asyncio.run(main())


def measure(judged: str, quick: bool, rng: random.Random, wanted: Callable[[str], bool]) -> list[Row]:
    """The one row, with the calls of a second."""
    if not wanted(f"{SECTION}/{PATTERN}/{judged}"):
        return []
    case: Case[Any] = Case(SECTION, PATTERN, judged, simulated, lambda: outage(300).calls, 300, {AGAINST: LIMIT})
    effort = Effort(rounds=5, seconds=0.1) if quick else Effort(rounds=15, seconds=0.5)
    rows = run([case], {AGAINST: tasks}, effort, rng)
    return [replace(row, absolute=1e9 / (row.absolute or 1.0), absolute_unit="calls/s") for row in rows]
