"""What is asked of caches and errors, and of what only others have."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import threading
import time
from collections.abc import Iterator
from typing import Any

from .comparison_libraries import Parts
from .comparison_tools import probe

ANSWERS = "Fallback and cache"
ERRORS = "Errors"
OTHERS = "What others have"


@probe(ANSWERS, "A fallback is not kept as an answer", "cached")
def fallback_not_kept(parts: Parts) -> bool:
    working = False

    @parts.cached("fallback")
    def work(book: str) -> str:
        if not working:
            raise ConnectionError
        return "answer"

    first, working = work("Emma"), True
    return bool(first == "fallback" and work("Emma") == "answer")


@probe(ANSWERS, "f(1), f(True) and f(1.0) are three answers, without an option for it", "cached")
def three_keys(parts: Parts) -> bool:
    @parts.cached("fallback")
    def work(value: object) -> str:
        return repr(value)

    return [work(1), work(True), work(1.0)] == ["1", "True", "1.0"]


@probe(ANSWERS, "Of five threads that ask for the same answer, one makes the call", "cached")
def one_call(parts: Parts) -> bool:
    calls, start = 0, threading.Barrier(5)

    @parts.cached("fallback")
    def work(book: str) -> str:
        nonlocal calls
        calls += 1
        time.sleep(0.1)
        return book

    def ask() -> None:
        start.wait(5)
        work("Emma")

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    return calls == 1


def raised(parts: Parts) -> Iterator[BaseException]:
    """The errors of a library's own that its parts raise."""

    def fail() -> None:
        raise ConnectionError("down")

    def hang() -> None:
        time.sleep(0.05)

    made = []
    if parts.retry:
        made += [parts.retry(2, 0)(fail)]
    if parts.breaker:
        made += [parts.breaker(60)(fail)] * 4
    if parts.timeout:
        made += [parts.timeout(0.01)(hang)]
    for call in made:
        try:
            call()
        except Exception as error:  # noqa: BLE001 - whatever arrives is what is looked at
            if not isinstance(error, ConnectionError):
                yield error


@probe(ERRORS, "The library's own errors survive a trip through pickle")
def pickled(parts: Parts) -> bool | None:
    errors = list(raised(parts))
    if not errors:
        return None
    try:
        copies = [pickle.loads(pickle.dumps(error)) for error in errors]  # noqa: S301 - our own bytes
    except Exception:  # noqa: BLE001 - a failure to pickle has no type of its own
        return False
    return [(type(copy), str(copy)) for copy in copies] == [(type(error), str(error)) for error in errors]


@probe(OTHERS, "A second request is sent when the first is slow, and the faster answer wins", "hedge")
async def hedged(parts: Parts) -> bool:
    calls = 0

    @parts.hedge(0.02)
    async def work() -> int:
        nonlocal calls
        calls += 1
        number = calls
        await asyncio.sleep(5 if number == 1 else 0)
        return number

    return bool(await work() == 2)


@probe(OTHERS, "Calls are limited to so many in a period", "rate_limit")
def rate_limited(parts: Parts) -> bool:
    @parts.rate_limit()
    def work() -> str:
        return "done"

    work()
    work()
    try:
        work()
    except Exception:  # noqa: BLE001 - each library has its own rejection
        return True
    return False


@probe(OTHERS, "One decorator keeps a breaker for each value of an argument", "keyed")
def keyed(parts: Parts) -> bool:
    @parts.keyed()
    def work(key: str, action: Any) -> Any:
        return action()

    def fail() -> None:
        raise ConnectionError

    for _ in range(3):
        with contextlib.suppress(ConnectionError):
            work("a", fail)
    with contextlib.suppress(parts.rejection):
        work("a", lambda: None)
        return False
    return bool(work("b", lambda: "done") == "done")


@probe(OTHERS, "Breakers share their state through a store that can be exchanged", "stored")
def stored(parts: Parts) -> bool:
    def fail() -> None:
        raise ConnectionError

    one, other = (decorate(fail) for decorate in parts.stored())
    for _ in range(3):
        with contextlib.suppress(Exception):
            one()
    try:
        other()
    except parts.rejection:
        return True
    except ConnectionError:
        return False
    return False


@probe(OTHERS, "A generator that fails half-way can be made again from the start", "restarted")
def restarted(parts: Parts) -> bool:
    starts = 0

    @parts.restarted()
    def stream() -> Iterator[int]:
        nonlocal starts
        starts += 1
        yield starts
        if starts == 1:
            raise ConnectionError

    try:
        return list(stream()) == [1, 2]
    except ConnectionError:
        return False


@probe(OTHERS, "A retry that waits works under trio", "retry", "asyncio")
def under_trio(parts: Parts) -> bool:
    import trio

    calls = 0

    @parts.retry(3, 0.001)
    async def work() -> int:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ConnectionError
        return calls

    try:
        return bool(trio.run(work) == 2)
    except (RuntimeError, TypeError):
        return False
