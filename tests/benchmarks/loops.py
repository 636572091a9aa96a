"""The timing loops and the functions that are called in them, sync and async side by side.

Each loop and each subject gets code of its own: the interpreter specialises code for what it meets there,
and candidates that share a loop would spoil it for each other.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from importlib import import_module
from itertools import repeat
from time import perf_counter
from types import FunctionType
from typing import Any, TypeVar, cast

from resilient import timeout

wrapt: Any = import_module("wrapt")
F = TypeVar("F", bound=Callable[..., Any])
Loop = Callable[[int], float]
AsyncLoop = Callable[[int], Awaitable[float]]
Sync = Callable[[int], Any]
Async = Callable[[int], Awaitable[Any]]


def own_code(function: F) -> F:
    """The same function with a fresh copy of its code."""
    plain = cast(FunctionType, function)
    copy = FunctionType(
        plain.__code__.replace(), plain.__globals__, plain.__name__, plain.__defaults__, plain.__closure__
    )
    return cast(F, copy)


class Trouble(Exception):
    """What the failing subjects raise."""


# Subjects


def bare() -> Sync:
    def bare(x: int) -> int:
        return x

    return own_code(bare)


def abare() -> Async:
    async def bare(x: int) -> int:
        return x

    return own_code(bare)


def asuspends() -> Async:
    async def suspends(x: int) -> int:
        await asyncio.sleep(0)
        return x

    return own_code(suspends)


def fragile() -> Sync:
    def fragile(x: int) -> int:
        if x < 0:
            raise Trouble
        return x

    return own_code(fragile)


def afragile() -> Async:
    async def fragile(x: int) -> int:
        if x < 0:
            raise Trouble
        return x

    return own_code(fragile)


def flaky(period: int = 3) -> Sync:
    """Fails, except for every third call; with another period, fails on two calls of so many."""
    calls = 0

    def flaky(x: int) -> int:
        nonlocal calls
        calls += 1
        if 0 < calls % period < 3:
            raise Trouble
        return x

    return own_code(flaky)


def aflaky(period: int = 3) -> Async:
    calls = 0

    async def flaky(x: int) -> int:
        nonlocal calls
        calls += 1
        if 0 < calls % period < 3:
            raise Trouble
        return x

    return own_code(flaky)


# Loops


def call(function: Sync) -> Loop:
    def loop(n: int) -> float:
        f = function
        start = perf_counter()
        for _ in repeat(None, n):
            f(1)
        return perf_counter() - start

    return own_code(loop)


def acall(function: Async) -> AsyncLoop:
    async def loop(n: int) -> float:
        f = function
        start = perf_counter()
        for _ in repeat(None, n):
            await f(1)
        return perf_counter() - start

    return own_code(loop)


def method(instance: Any) -> Loop:
    def loop(n: int) -> float:
        o = instance
        start = perf_counter()
        for _ in repeat(None, n):
            o.method(1)
        return perf_counter() - start

    return own_code(loop)


def rejected(function: Sync, error: type[Exception]) -> Loop:
    def loop(n: int) -> float:
        f, expected = function, error
        start = perf_counter()
        for _ in repeat(None, n):
            try:
                f(1)
            except expected:
                continue
        return perf_counter() - start

    return own_code(loop)


def arejected(function: Async, error: type[Exception]) -> AsyncLoop:
    async def loop(n: int) -> float:
        f, expected = function, error
        start = perf_counter()
        for _ in repeat(None, n):
            try:
                await f(1)
            except expected:
                continue
        return perf_counter() - start

    return own_code(loop)


def on_one_cpu(loop: Loop) -> Loop:
    """For loops that hand calls to other threads: where the scheduler happens to put those would decide the time.

    The threads that the loop starts inherit the place and keep it.
    """

    def pinned(n: int) -> float:
        if sys.platform != "linux":
            return loop(n)
        allowed = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(allowed)})
        try:
            return loop(n)
        finally:
            os.sched_setaffinity(0, allowed)

    return pinned


# References


@wrapt.decorator  # type: ignore[untyped-decorator]
def noop(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return wrapped(*args, **kwargs)


def closure(function: Callable[..., Any]) -> Callable[..., Any]:
    """The least that a decorator costs."""

    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return own_code(wrapper)


def pool_call(function: Sync) -> Loop:
    """What people write by hand for a sync timeout."""
    pool = ThreadPoolExecutor()

    def loop(n: int) -> float:
        submit, f = pool.submit, function
        start = perf_counter()
        for _ in repeat(None, n):
            submit(f, 1).result()
        return perf_counter() - start

    return own_code(loop)


def asyncio_timeout(function: Async) -> AsyncLoop:
    async def loop(n: int) -> float:
        f, timeout = function, asyncio.timeout
        start = perf_counter()
        for _ in repeat(None, n):
            async with timeout(30):
                await f(1)
        return perf_counter() - start

    return own_code(loop)


def plain_timeout_and_w() -> AsyncLoop:
    """One call under a fixed limit, and then one that is W: what an adaptive limit may cost at most."""
    guarded: Any = timeout(30)(abare())
    other: Any = noop(bare())

    async def loop(n: int) -> float:
        f, w = guarded, other
        start = perf_counter()
        for _ in repeat(None, n):
            await f(1)
            w(1)
        return perf_counter() - start

    return own_code(loop)


REFERENCES: dict[str, Callable[[], Loop]] = {
    "W": lambda: call(noop(bare())),
    "thread pool": lambda: on_one_cpu(pool_call(bare())),
}
AREFERENCES: dict[str, Callable[[], AsyncLoop]] = {
    "W": lambda: acall(noop(abare())),
    "asyncio.timeout": lambda: asyncio_timeout(abare()),
    "timeout(30), and W": plain_timeout_and_w,
    "asyncio.timeout, suspending": lambda: asyncio_timeout(asuspends()),
}
