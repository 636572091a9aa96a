"""What is asked of circuit breakers about calls at the same time: who gets in, and whose result counts."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

from .comparison_libraries import Parts
from .comparison_tools import probe

SECTION = "Circuit breaker"
SHORT, LONG = 0.05, 60.0


class Guarded:
    """A breaker around a function that does what it is told."""

    def __init__(self, parts: Parts, recovery: float) -> None:
        assert parts.breaker is not None
        assert parts.rejection is not None
        self.rejection = parts.rejection
        policy = parts.breaker(recovery)

        def run(action: Callable[[], Any]) -> Any:
            return action()

        self.call = policy(run)

    def fail(self, error: BaseException | None = None) -> bool:
        """A failing call; whether it was made."""
        made = False

        def action() -> None:
            nonlocal made
            made = True
            raise error or ConnectionError("down")

        with contextlib.suppress(BaseException):
            self.call(action)
        return made

    def trip(self) -> None:
        for _ in range(3):
            self.fail()


async def trip(call: Callable[[Any], Coroutine[Any, Any, Any]]) -> None:
    async def fail() -> None:
        raise ConnectionError("down")

    for _ in range(3):
        with contextlib.suppress(Exception):
            await call(fail)


def guarded_coroutine(parts: Parts, recovery: float) -> Any:
    assert parts.breaker is not None

    async def run(action: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        return await action()

    return parts.breaker(recovery)(run)


@probe(SECTION, "Half-open, at most one of 16 threads gets in", "breaker")
def half_open_threads(parts: Parts) -> bool:
    guarded, lock, together = Guarded(parts, SHORT), threading.Lock(), threading.Barrier(16)
    inside, most = 0, 0

    def probing() -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.1)
        with lock:
            inside -= 1

    def enter() -> None:
        together.wait(5)
        with contextlib.suppress(guarded.rejection):
            guarded.call(probing)

    guarded.trip()
    time.sleep(2 * SHORT)
    threads = [threading.Thread(target=enter, daemon=True) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    return most == 1


@probe(SECTION, "Half-open, at most one of 50 tasks gets in", "breaker", "asyncio")
async def half_open_tasks(parts: Parts) -> bool:
    call = guarded_coroutine(parts, SHORT)
    inside, most = 0, 0

    async def probing() -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0.02)
        inside -= 1

    await trip(call)
    await asyncio.sleep(2 * SHORT)
    await asyncio.gather(*(call(probing) for _ in range(50)), return_exceptions=True)
    return most == 1


@probe(SECTION, "A cancelled probe does not close it, and gives its place back", "breaker", "asyncio")
async def cancelled_probe(parts: Parts) -> bool:
    call = guarded_coroutine(parts, SHORT)
    calls = 0

    async def hang() -> None:
        await asyncio.sleep(10)

    async def fail() -> None:
        nonlocal calls
        calls += 1
        raise ConnectionError

    await trip(call)
    await asyncio.sleep(2 * SHORT)
    task = asyncio.ensure_future(call(hang))
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])
    for _ in range(2):
        with contextlib.suppress(Exception):
            await call(fail)
    # The place is free for one probe; its failure opens the breaker, which a closed one would not do.
    return calls == 1


@probe(SECTION, "A probe that hangs does not keep out the next one for ever", "breaker")
def hanging_probe(parts: Parts) -> bool:
    guarded, release, begun = Guarded(parts, SHORT), threading.Event(), threading.Event()
    asked = threading.Event()

    def hang() -> None:
        begun.set()
        release.wait(5)

    def ask() -> None:
        if guarded.fail():
            asked.set()

    guarded.trip()
    time.sleep(2 * SHORT)
    threads = [threading.Thread(target=guarded.call, args=(hang,), daemon=True)]
    threads[0].start()
    begun.wait(5)
    time.sleep(3 * SHORT)
    threads.append(threading.Thread(target=ask, daemon=True))
    threads[1].start()
    free = asked.wait(0.3)
    release.set()
    for thread in threads:
        thread.join(5)
    return free


@probe(SECTION, "A call that began before it opened does not close it", "breaker")
def late_result(parts: Parts) -> bool:
    guarded, release, begun = Guarded(parts, SHORT), threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        release.wait(5)

    old = threading.Thread(target=guarded.call, args=(slow,), daemon=True)
    old.start()
    begun.wait(5)
    tripping = threading.Thread(target=guarded.trip, daemon=True)
    tripping.start()
    tripping.join(0.3)
    if tripping.is_alive():
        # Others wait until the old call has ended, so none ends late.
        release.set()
        tripping.join(5)
        return True
    time.sleep(2 * SHORT)
    release.set()
    old.join(5)
    return guarded.fail() and not guarded.fail()


@probe(SECTION, "Closed, no call waits for another", "breaker")
def no_waiting(parts: Parts) -> bool:
    guarded, together, met = Guarded(parts, LONG), threading.Barrier(2), []

    def meet() -> None:
        with contextlib.suppress(threading.BrokenBarrierError):
            met.append(together.wait(1))

    threads = [threading.Thread(target=guarded.call, args=(meet,), daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    return len(met) == 2
