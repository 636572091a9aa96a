"""Never run: what mypy and pyright make of code that uses `resilient`.

Each `type: ignore` marks a line that has to be wrong; both checkers complain when one is not needed any more.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, assert_type

from resilient import (
    CallTimeoutError,
    CircuitOpenError,
    CircuitState,
    Pipeline,
    ResilienceError,
    RetryBudget,
    bulkhead,
    circuit_breaker,
    deadline,
    degrade,
    registry,
    remaining_time,
    retry,
    timeout,
)
from resilient.bulkhead import Bulkhead
from resilient.circuit_breaker import CircuitBreaker
from resilient.degrade import Degradation
from resilient.events import CircuitStateChanged, RetryScheduled
from resilient.retry import RetryPolicy
from resilient.timeout import Timeout

# Bare forms keep parameters and result.


@retry
def retried(order: int, *, express: bool = False) -> str:
    return f"{order}{express}"


@circuit_breaker
def broken(order: int) -> list[str]:
    return [str(order)]


@bulkhead
def queued(order: int) -> bytes:
    return bytes(order)


@degrade(cache={})
def degraded(order: int) -> dict[str, int]:
    return {"order": order}


assert_type(retried(1), str)
assert_type(retried(1, express=True), str)
assert_type(broken(1), list[str])
assert_type(queued(1), bytes)
assert_type(degraded(1), dict[str, int])
retried("1")  # type: ignore[arg-type]
retried(1, True)  # type: ignore[call-arg]
retried()  # type: ignore[call-arg]
broken(order="1")  # type: ignore[arg-type]

# Called forms do, alone and stacked, sync and async.


def no_answer(order: int, error: Exception) -> str:
    return f"{order}: {error}"


@degrade(fallback="none")
@retry(max_attempts=4, on=(ConnectionError, TimeoutError), base_delay=timedelta(milliseconds=5), jitter="full")
@circuit_breaker("typed", failure_threshold=5, recovery_timeout=30, ignore=ValueError)
@bulkhead("typed", max_concurrent=3, max_wait=None)
@timeout(2)
def stacked(order: int, note: str = "") -> str:
    return note * order


@degrade(fallback=no_answer, on=ConnectionError)
@retry(backoff="fibonacci", budget=RetryBudget(ratio=0.2, min_per_second=10.0))
@circuit_breaker(failure_rate_threshold=0.5, window_size=20)
@bulkhead(max_concurrent=3, circuit_breaker="typed")
@timeout(timedelta(seconds=2), name="typed")
async def astacked(order: int) -> str:
    return str(order)


assert_type(stacked(1), str)
assert_type(stacked(1, note="a"), str)
stacked("1")  # type: ignore[arg-type]
stacked(1, 2)  # type: ignore[arg-type]

# Methods of every sort keep `self`, and their own way of being called.


class Shop:
    @retry(max_attempts=2)
    def charge(self, order: int) -> str:
        return str(order)

    @circuit_breaker("shop")
    async def acharge(self, order: int) -> str:
        return str(order)

    @classmethod
    @retry
    def inside(cls, order: int) -> Shop:
        return cls()

    @retry
    @classmethod
    def outside(cls, order: int) -> Shop:
        return cls()

    @staticmethod
    @bulkhead(max_concurrent=2)
    def static(order: int) -> float:
        return order / 2

    @bulkhead(max_concurrent=2)
    @staticmethod
    def static_outside(order: int) -> float:
        return order / 2

    @property
    @retry
    def total(self) -> int:
        return 1


shop = Shop()
assert_type(shop.charge(1), str)
assert_type(Shop.charge(shop, 1), str)
assert_type(Shop.inside(1), Shop)
assert_type(Shop.outside(1), Shop)
assert_type(Shop.static(1), float)
assert_type(shop.static_outside(1), float)
assert_type(shop.total, int)
shop.charge("1")  # type: ignore[arg-type]
Shop.static("1")  # type: ignore[arg-type]

# Streams stay what they are.


@circuit_breaker("stream")
def numbers(upto: int) -> Iterator[int]:
    yield from range(upto)


@retry
async def anumbers(upto: int) -> AsyncIterator[int]:
    for number in range(upto):
        yield number


@retry
@contextmanager
def opened(path: str) -> Generator[bytes]:
    yield path.encode()


assert_type(numbers(3), Iterator[int])
assert_type(anumbers(3), AsyncIterator[int])
with opened("a") as content:
    assert_type(content, bytes)

# Other callables: partials, lambdas, bound methods, functions that come as values.

assert_type(retry(functools.partial(retried, 1))(), str)
assert_type(retry(shop.charge)(1), str)


def wrap(fn: Callable[[int], Awaitable[str]]) -> Callable[[int], Awaitable[str]]:
    return timeout(1)(fn)


# A policy is an object with a kind of its own, and makes single calls.

assert_type(retry(max_attempts=2), RetryPolicy)
assert_type(retry(), RetryPolicy)
assert_type(circuit_breaker("a"), CircuitBreaker)
assert_type(circuit_breaker(name="a"), CircuitBreaker)
assert_type(bulkhead("a", max_queue=5), Bulkhead)
assert_type(timeout(1, max_abandoned=3), Timeout)
assert_type(degrade(fallback=1), Degradation)

pipeline = Pipeline(degrade(fallback="none"), retry(), circuit_breaker("b"), timeout(1), name="charge")
findings = pipeline.check()
for finding in findings:
    assert_type(str(finding), str)


def plain(order: int, *, note: str) -> str:
    return note * order


async def aplain(order: int, *, note: str) -> str:
    return note * order


for policy in (retry(), circuit_breaker("c"), bulkhead("c"), timeout(1), degrade(fallback=""), pipeline):
    assert_type(policy.call(plain, 1, note="a"), str)
    assert_type(policy(plain)(1, note="a"), str)
    policy.call(plain, "1", note="a")  # type: ignore[arg-type]
    policy.call(plain, 1)  # type: ignore[call-arg]


async def using_async() -> None:
    assert_type(await astacked(1), str)
    assert_type(await shop.acharge(1), str)
    await astacked("1")  # type: ignore[arg-type]
    async for number in anumbers(3):
        assert_type(number, int)

    assert_type(await retry().acall(aplain, 1, note="a"), str)
    assert_type(await pipeline.acall(aplain, 1, note="a"), str)
    await retry().acall(aplain, "1", note="a")  # type: ignore[arg-type]

    async with timeout(1), circuit_breaker("d"), bulkhead("d") as held:
        assert_type(held, Bulkhead)
    async for attempt in retry(max_attempts=3).attempts():
        with attempt:
            assert_type(attempt.number, int)


def using_blocks() -> None:
    with circuit_breaker("e") as breaker, bulkhead("e") as held:
        assert_type(breaker, CircuitBreaker)
        assert_type(held, Bulkhead)
    for attempt in retry(max_attempts=3).attempts():
        with attempt:
            assert_type(attempt.number, int)
    with deadline(timedelta(seconds=2)):
        assert_type(remaining_time(), float | None)


# The registry knows the kinds.

assert_type(registry.circuit_breakers, Mapping[str, CircuitBreaker])
assert_type(registry.bulkheads, Mapping[str, Bulkhead])
assert_type(registry.retries, Mapping[str, RetryPolicy])
assert_type(registry.timeouts, Mapping[str, Timeout])
assert_type(registry.degradations, Mapping[str, Degradation])
assert_type(registry.circuit_breakers["a"].state, CircuitState)
assert_type(registry.snapshot(), dict[str, dict[str, dict[str, Any]]])
registry.configure("circuit_breaker", "a", failure_threshold=10)

metrics = registry.circuit_breakers["a"].get_metrics()
assert_type(metrics.state, CircuitState)
assert_type(metrics.failure_count, int)
assert_type(metrics.success_count, int)
assert_type(metrics.failure_rate, float)
metrics.failure_count = 0  # type: ignore[misc]
assert_type(registry.bulkheads["a"].active_requests, int)
assert_type(registry.bulkheads["a"].available_permits, int)
assert_type(registry.bulkheads["a"].queue_length, int)
assert_type(registry.timeouts["a"].abandoned, int)


# Handlers, errors and their data.


def show(event: CircuitStateChanged) -> None:
    assert_type(event.name, str)
    assert_type(event.old, CircuitState)
    assert_type(event.new, CircuitState)


unsubscribe = registry.subscribe(show, CircuitStateChanged)
unsubscribe()
with registry.subscribe(print, CircuitStateChanged, RetryScheduled), registry.disabled(), registry.scoped():
    pass


def read(error: ResilienceError) -> float | None:
    assert_type(error.is_retryable(), bool)
    if isinstance(error, CallTimeoutError):
        assert_type(error.limit, float)
    return error.retry_after if isinstance(error, CircuitOpenError) else None


# Options are checked too.

retry(max_attempts="3")  # type: ignore[call-overload]
retry(unknown=1)  # type: ignore[call-overload]
timeout()  # type: ignore[call-arg]
timeout("2")  # type: ignore[arg-type]
circuit_breaker(5)  # type: ignore[call-overload]
