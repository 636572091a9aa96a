"""Does a breaker-guarded function keep its rate when four threads call it?"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from statistics import median
from time import perf_counter

from . import loops
from .candidates import Library
from .harness import Effort, Row, paired

PATTERN = "4 threads on one breaker"
LIMIT = 0.70


def rate(loop: loops.Loop, threads: int, calls: int) -> float:
    """Calls a second of all threads together, from the first start to the last end."""
    barrier = threading.Barrier(threads)
    spans: list[tuple[float, float]] = []

    def work() -> None:
        barrier.wait()
        start = perf_counter()
        loop(calls)
        spans.append((start, perf_counter()))

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return threads * calls / (max(end for _, end in spans) - min(start for start, _ in spans))


def measure(libraries: Sequence[Library], judged: str, effort: Effort) -> list[Row]:
    """The rates of one and of four threads, side by side, several times."""
    guards = {
        library.name: library.sync["breaker, consecutive"]()(loops.bare())
        for library in libraries
        if "breaker, consecutive" in library.sync
    }
    guards["baseline"] = loops.bare()
    timed = {name: loops.call(guard) for name, guard in guards.items()}
    calls = {name: max(1, round(effort.seconds * rate(loop, 1, 10_000))) for name, loop in timed.items()}
    one: dict[str, list[float]] = {name: [] for name in timed}
    four: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(effort.rounds):
        for name, loop in timed.items():
            one[name].append(rate(loop, 1, calls[name]))
            four[name].append(rate(loop, 4, calls[name]))
    rows = []
    for name in timed:
        low, middle, high = paired(four[name], one[name])
        limit = LIMIT if name == judged else None
        rows.append(
            Row(
                "threads",
                PATTERN,
                name,
                "1 thread",
                middle,
                limit,
                at_least=True,
                low=low,
                high=high,
                absolute=median(four[name]) / 1000,
                absolute_unit="calls/ms",
            )
        )
    return rows
