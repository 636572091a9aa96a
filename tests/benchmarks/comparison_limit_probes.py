"""What is asked of bulkheads and timeouts."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
import time

from .comparison_libraries import Parts
from .comparison_tools import probe

SECTION = "Bulkhead and timeout"


@probe(SECTION, "One place is one place, over threads, tasks and event loops together", "bulkhead")
def together(parts: Parts) -> bool:
    guard, lock = parts.bulkhead(), threading.Lock()
    inside, most = 0, 0

    def enter(change: int) -> None:
        nonlocal inside, most
        with lock:
            inside += change
            most = max(most, inside)

    @guard
    def work() -> None:
        enter(1)
        time.sleep(0.05)
        enter(-1)

    @guard
    async def awork() -> None:
        enter(1)
        await asyncio.sleep(0.05)
        enter(-1)

    targets = [work, work, lambda: asyncio.run(awork()), lambda: asyncio.run(awork())]
    threads = [threading.Thread(target=target, daemon=True) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    return most == 1


@probe(SECTION, "Who stops waiting for a place leaves no trace", "bulkhead")
async def cancelled_waiter(parts: Parts) -> bool:
    entered = 0

    @parts.bulkhead()
    async def work(seconds: float) -> None:
        nonlocal entered
        entered += 1
        await asyncio.sleep(seconds)

    first, waiter = asyncio.ensure_future(work(0.05)), asyncio.ensure_future(work(0))
    await asyncio.sleep(0.01)
    waiter.cancel()
    await asyncio.wait([first, waiter])
    await work(0)
    await work(0)
    return entered == 3


@probe(SECTION, "A `TimeoutError` of the function's own arrives as it is", "timeout")
def own_timeout_error(parts: Parts) -> bool:
    error = TimeoutError("of the function")

    @parts.timeout(5)
    def work() -> None:
        raise error

    try:
        work()
    except Exception as caught:  # noqa: BLE001 - whatever arrives is what is looked at
        return caught is error
    return False


@probe(SECTION, "What the limit raises has a type of its own, which is a `TimeoutError` too", "timeout")
async def own_type(parts: Parts) -> bool:
    @parts.timeout(0.02)
    async def work() -> None:
        await asyncio.sleep(5)

    try:
        await work()
    except TimeoutError as error:
        return type(error) is not TimeoutError
    return False


@probe(SECTION, "Context variables reach the thread of a sync call", "timeout")
def context_variables(parts: Parts) -> bool:
    request = contextvars.ContextVar("request", default="")
    request.set("42")

    @parts.timeout(5)
    def work() -> str:
        return request.get()

    return bool(work() == "42")


@probe(SECTION, "A thread that ran out of time is not interrupted at a random point", "timeout")
def not_interrupted(parts: Parts) -> bool:
    interrupted, ended, stop = threading.Event(), threading.Event(), threading.Event()

    @parts.timeout(0.02)
    def work() -> None:
        try:
            while not stop.is_set():
                time.sleep(0.001)
        except BaseException:  # noqa: BLE001 - whatever was injected
            interrupted.set()
        ended.set()

    with contextlib.suppress(TimeoutError):
        work()
    interrupted.wait(0.2)
    stop.set()
    ended.wait(5)
    return not interrupted.is_set()


@probe(SECTION, "Eight calls that hang do not keep out a ninth, without an option for it", "timeout")
def not_starved(parts: Parts) -> bool:
    release = threading.Event()

    @parts.timeout(0.05)
    def work(hang: bool) -> str:
        if hang:
            # In one long wait of C code, as a socket without a limit has it.
            release.wait(10)
        return "done"

    for _ in range(8):
        with contextlib.suppress(TimeoutError):
            work(True)
    try:
        return bool(work(False) == "done")
    except TimeoutError:
        return False
    finally:
        release.set()
