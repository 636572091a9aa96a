"""What is asked of circuit breakers about results: what counts, what arrives, and what can be guarded."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

from .comparison_breaker_probes import LONG, SECTION, Guarded, guarded_coroutine
from .comparison_libraries import Harmless, Parts
from .comparison_tools import Later, probe


@probe(SECTION, "KeyboardInterrupt arrives itself, and says nothing about health", "breaker")
def interruption(parts: Parts) -> bool:
    guarded = Guarded(parts, LONG)

    def interrupt() -> None:
        raise KeyboardInterrupt

    guarded.fail()
    guarded.fail()
    try:
        guarded.call(interrupt)
    except BaseException as error:  # noqa: BLE001 - whatever arrives is what is looked at
        if not isinstance(error, KeyboardInterrupt):
            return False
    return guarded.fail() and not guarded.fail()


@probe(SECTION, "An excluded error neither counts nor starts the count again", "breaker")
def excluded(parts: Parts) -> bool:
    guarded = Guarded(parts, LONG)
    guarded.fail()
    guarded.fail()
    guarded.fail(Harmless())
    return guarded.fail() and not guarded.fail()


@probe(SECTION, "The call that opens it raises its own exception, without an option for it", "breaker")
def own_exception(parts: Parts) -> bool:
    guarded, error = Guarded(parts, LONG), ConnectionError("down")

    def fail() -> None:
        raise error

    guarded.fail()
    guarded.fail()
    try:
        guarded.call(fail)
    except Exception as caught:  # noqa: BLE001 - whatever arrives is what is looked at
        return caught is error
    return False


@probe(SECTION, "A rejection carries the seconds to wait", "breaker")
def seconds_to_wait(parts: Parts) -> bool:
    guarded = Guarded(parts, LONG)
    guarded.trip()
    try:
        guarded.call(lambda: None)
    except guarded.rejection as error:
        public = (getattr(error, name) for name in dir(error) if not name.startswith("_"))
        return any(isinstance(value, int | float) and 0 < value <= LONG for value in public)
    return False


@probe(SECTION, "A `with` block is refused while it is open", "block")
def block(parts: Parts) -> bool:
    assert parts.rejection is not None
    assert parts.block is not None
    block = parts.block(LONG)
    for _ in range(3):
        with contextlib.suppress(Exception), block():
            raise ConnectionError
    try:
        with block():
            return False
    except parts.rejection:
        return True


@probe(SECTION, "A coroutine function is guarded, or refused", "breaker")
async def coroutine_function(parts: Parts) -> bool:
    calls = 0

    async def fail() -> None:
        nonlocal calls
        calls += 1
        raise ConnectionError

    try:
        call = guarded_coroutine(parts, LONG)
    except TypeError:
        return True
    for _ in range(5):
        with contextlib.suppress(Exception):
            await call(fail)
    return calls == 3


@probe(SECTION, "An async generator is guarded for its whole iteration, or refused", "breaker")
async def async_generator(parts: Parts) -> bool:
    starts = 0

    async def stream() -> AsyncIterator[int]:
        nonlocal starts
        starts += 1
        yield 1
        raise ConnectionError

    assert parts.breaker is not None
    try:
        guarded = parts.breaker(LONG)(stream)
    except TypeError:
        return True
    for _ in range(5):
        with contextlib.suppress(Exception):
            async for _item in guarded():
                pass
    return starts == 3


@probe(SECTION, "Through that guard, `asend` reaches the async generator", "breaker")
async def asend(parts: Parts) -> bool | None:
    if not await async_generator(parts):
        return None

    async def echo() -> Any:
        received = None
        while received != "end":
            received = yield received

    assert parts.breaker is not None
    stream = parts.breaker(LONG)(echo)()
    await stream.asend(None)
    reached = await stream.asend("hello") == "hello"
    await stream.aclose()
    return reached


@probe(SECTION, "Setting the clock forward does not end the open period", "breaker")
def clock_set_forward(parts: Parts) -> bool:
    guarded = Guarded(parts, LONG)
    guarded.trip()
    with Later(parts.name) as later:
        later.begin()
        return not guarded.fail()


@probe(SECTION, "Opens on a share of failures, also when none follow one another", "by_rate")
def by_rate(parts: Parts) -> bool:
    assert parts.by_rate is not None
    made = 0

    @parts.by_rate()
    def call(fails: bool) -> None:
        nonlocal made
        made += 1
        if fails:
            raise ConnectionError

    for number in range(14):
        with contextlib.suppress(Exception):
            call(number % 2 == 1)
    return made == 10


@probe(SECTION, "Opens when calls are slow", "by_slowness")
def by_slowness(parts: Parts) -> bool:
    assert parts.by_slowness is not None
    made = 0

    @parts.by_slowness()
    def call() -> None:
        nonlocal made
        made += 1
        time.sleep(0.015)

    for _ in range(8):
        with contextlib.suppress(Exception):
            call()
    return made == 5
