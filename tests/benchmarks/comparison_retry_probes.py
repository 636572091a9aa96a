"""What is asked of the retries and the deadlines."""

from __future__ import annotations

import asyncio
import contextlib
import time
import warnings
from collections.abc import AsyncIterator
from typing import Any

from .comparison_libraries import Parts, Pause
from .comparison_tools import Later, probe, recorded_sleeps

SECTION = "Retry"


@probe(SECTION, "The last exception arrives itself, without an option for it", "retry")
def last_exception(parts: Parts) -> bool:
    error = ConnectionError("down")

    @parts.retry(3, 0)
    def call() -> None:
        raise error

    try:
        call()
    except Exception as caught:  # noqa: BLE001 - whatever arrives is what is looked at
        return caught is error
    return False


@probe(SECTION, "A cancelled task is not retried, however wide the filter", "retry_anything")
async def cancellation(parts: Parts) -> bool:
    calls = 0

    @parts.retry_anything()
    async def call() -> None:
        nonlocal calls
        calls += 1
        await asyncio.sleep(10)

    task = asyncio.ensure_future(call())
    await asyncio.sleep(0.01)
    for _ in range(5):
        task.cancel()
        await asyncio.wait([task], timeout=0.02)
    return calls == 1


@probe(SECTION, "KeyboardInterrupt is not retried, however wide the filter", "retry_anything")
def interruption(parts: Parts) -> bool:
    calls = 0

    @parts.retry_anything()
    def call() -> None:
        nonlocal calls
        calls += 1
        raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        call()
    return calls == 1


@probe(SECTION, "Delays still differ from one another when they have reached their cap", "retry_spread")
def spread_at_the_cap(parts: Parts) -> bool:
    @parts.retry_spread()
    def call() -> None:
        raise ConnectionError

    with recorded_sleeps() as slept, contextlib.suppress(Exception):
        call()
    return len({round(delay, 6) for delay in slept[1:]}) > 1


@probe(SECTION, "A limit on the whole call is not exceeded by sleeping", "retry_within")
def within_the_limit(parts: Parts) -> bool:
    @parts.retry_within(0.1, 1.0)
    def call() -> None:
        raise ConnectionError

    started = time.monotonic()
    with contextlib.suppress(Exception):
        call()
    return time.monotonic() - started < 0.6


@probe(SECTION, "Setting the clock forward during a call does not end it", "retry_within")
def clock_set_forward(parts: Parts) -> bool:
    later, calls = Later(parts.name), 0

    @parts.retry_within(60, 0)
    def call() -> None:
        nonlocal calls
        calls += 1
        later.begin()
        raise ConnectionError

    with later, contextlib.suppress(Exception):
        call()
    return calls == 3


@probe(SECTION, "The error can say how long to wait", "retry_when_told")
def told_by_the_error(parts: Parts) -> bool:
    @parts.retry_when_told()
    def call() -> None:
        raise Pause

    with recorded_sleeps() as slept, contextlib.suppress(Exception):
        call()
    return 0.07 <= slept[0] < 0.5


@probe(SECTION, "A budget bounds the retries of several functions together", "retry_on_budget")
def budget(parts: Parts) -> bool:
    calls = 0

    def fail() -> None:
        nonlocal calls
        calls += 1
        raise ConnectionError

    one, other = (decorate(fail) for decorate in parts.retry_on_budget())
    with recorded_sleeps():
        for each in (one, other) * 20:
            with contextlib.suppress(ConnectionError):
                each()
    return 40 <= calls <= 50


@probe(SECTION, "Three attempts around three attempts make three calls, not nine", "retry")
def nested(parts: Parts) -> bool:
    calls = 0

    @parts.retry(3, 0)
    def inner() -> None:
        nonlocal calls
        calls += 1
        raise ConnectionError

    @parts.retry(3, 0)
    def outer() -> None:
        inner()

    with contextlib.suppress(Exception):
        outer()
    return calls == 3


@probe(SECTION, "A sync retry that sleeps in a running event loop warns", "retry")
async def warns_in_a_loop(parts: Parts) -> bool:
    @parts.retry(2, 0.001)
    def call() -> None:
        raise ConnectionError

    with warnings.catch_warnings(record=True) as warned, contextlib.suppress(Exception):
        warnings.simplefilter("always")
        call()
    return any(issubclass(each.category, RuntimeWarning) for each in warned)


@probe(SECTION, "An object with an async `__call__` is retried", "retry")
async def async_callable_object(parts: Parts) -> bool:
    class Client:
        calls = 0
        __name__ = "client"

        async def __call__(self) -> int:
            self.calls += 1
            if self.calls == 1:
                raise ConnectionError
            return self.calls

    client = Client()
    try:
        return bool(await parts.retry(3, 0)(client)() == 2)
    except ConnectionError:
        return False


@probe(SECTION, "Decorates above `@staticmethod` and `@classmethod` too", "retry")
def above_staticmethod(parts: Parts) -> bool:
    calls = 0

    def work(*arguments: Any) -> int:
        nonlocal calls
        calls += 1
        if calls % 2:
            raise ConnectionError
        return len(arguments)

    try:
        names = {"plain": parts.retry(3, 0)(staticmethod(work)), "bound": parts.retry(3, 0)(classmethod(work))}
        shop: Any = type("Shop", (), names)
        return bool(shop.plain() == 0 and shop.bound() == 1 and shop().plain() == 0)
    except Exception:  # noqa: BLE001 - tenacity puts the TypeError into a RetryError
        return False


@probe(SECTION, "An async generator is retried up to its first item and repeats none, or is refused", "retry")
async def async_generator(parts: Parts) -> bool:
    starts = 0

    async def stream() -> AsyncIterator[int]:
        nonlocal starts
        starts += 1
        if starts == 1:
            raise ConnectionError
        yield 1
        raise ConnectionError

    try:
        guarded = parts.retry(3, 0)(stream)
    except TypeError:
        return True
    items = []
    with contextlib.suppress(Exception):
        async for item in guarded():
            items.append(item)
    return items == [1] and starts == 2


@probe(SECTION, "One time limit holds for everything within a block", "deadline", "retry")
def deadline(parts: Parts) -> bool:
    @parts.retry(3, 1.0)
    def call() -> None:
        raise ConnectionError

    started = time.monotonic()
    with contextlib.suppress(Exception), parts.deadline(0.1):
        for _ in range(3):
            with contextlib.suppress(ConnectionError):
                call()
    return time.monotonic() - started < 0.6
