"""The patterns that are timed, their limits, and resilient itself as the first library that has them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from resilient import (
    CachedDegradation,
    CircuitOpenError,
    DegradationManager,
    SmartTimeout,
    bulkhead,
    circuit_breaker,
    degrade,
    retry,
    timeout,
)

from . import loops
from .harness import Case

Decorator = Callable[[Any], Any]
Limits = Mapping[str, float | None]

SYNC_LIMITS: dict[str, Limits] = {
    "retry": {"W": 0.52},
    "breaker, consecutive": {"W": 0.52},
    "breaker, window of 100 calls": {"W": 0.56},
    "bulkhead": {"W": 0.57},
    "degrade": {"W": 0.49},
    "degrade, with a manager": {"W": 1.20},
    "degrade, fresh answer in its cache": {"W": 1.50},
    "degrade, retry, breaker, bulkhead": {"W": 0.94},
    "method with retry": {"W": 0.80},
    "breaker, open: rejection": {"W": 1.90},
    "retry, two failures, then success": {"W": 4.00},
    "timeout in a thread": {"W": None, "thread pool": 1.00},
}
ASYNC_LIMITS: dict[str, Limits] = {
    "retry": {"W": 0.70},
    "breaker, consecutive": {"W": 0.72},
    "bulkhead": {"W": 0.75},
    "degrade": {"W": 0.70},
    "degrade, with a manager": {"W": 1.20},
    "degrade, fresh answer in its cache": {"W": 1.50},
    "degrade, retry, breaker, bulkhead": {"W": 1.40},
    "degrade, retry, breaker, bulkhead, timeout": {"W": 2.75},
    "timeout, no suspension": {"W": 1.75, "asyncio.timeout": 1.00},
    "timeout, adaptive": {"W": None, "timeout(30), and W": 1.00},
    "timeout, one suspension": {"W": 5.60, "asyncio.timeout, suspending": 1.00},
    "breaker, open: rejection": {"W": 2.00},
    "retry, two failures, then success": {"W": None},
}


@dataclass(frozen=True)
class Library:
    """Decorators by pattern; a pattern that a library lacks is absent."""

    name: str
    rejection: type[Exception]
    sync: Mapping[str, Callable[[], Decorator]]
    asynchronous: Mapping[str, Callable[[], Decorator]]


def stack(*decorators: Decorator) -> Decorator:
    """One decorator from several, outermost first."""

    def decorate(function: Any) -> Any:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


def four() -> Decorator:
    return stack(
        degrade(fallback=0),
        retry(max_attempts=3),
        circuit_breaker(failure_threshold=5),
        bulkhead(max_concurrent=100),
    )


def five() -> Decorator:
    return stack(four(), timeout(30))


BOTH: dict[str, Callable[[], Decorator]] = {
    "retry": lambda: retry(max_attempts=3),
    "breaker, consecutive": lambda: circuit_breaker(failure_threshold=5),
    "bulkhead": lambda: bulkhead(max_concurrent=100),
    "degrade": lambda: degrade(fallback=0),
    "degrade, with a manager": lambda: degrade(fallback=0, manager=DegradationManager(), service="service"),
    "degrade, fresh answer in its cache": lambda: degrade(fallback=0, cache=CachedDegradation(cache_ttl=3600)),
    "degrade, retry, breaker, bulkhead": four,
    "breaker, open: rejection": lambda: circuit_breaker(failure_threshold=1, recovery_timeout=3600),
    "retry, two failures, then success": lambda: retry(max_attempts=3, base_delay=0, jitter=False),
}
OURS = Library(
    "resilient",
    CircuitOpenError,
    sync=BOTH
    | {
        "breaker, window of 100 calls": lambda: circuit_breaker(window_size=100, failure_rate_threshold=0.5),
        "method with retry": lambda: retry(max_attempts=3),
        "timeout in a thread": lambda: timeout(30),
    },
    asynchronous=BOTH
    | {
        "degrade, retry, breaker, bulkhead, timeout": five,
        "timeout, no suspension": lambda: timeout(30),
        "timeout, adaptive": lambda: timeout(SmartTimeout(base_timeout=10)),
        "timeout, one suspension": lambda: timeout(30),
    },
)
YARDSTICKS: dict[str, Callable[[], Decorator]] = {
    "bare call": stack,
    "closure that does nothing": lambda: loops.closure,
    "wrapt decorator that does nothing": lambda: loops.noop,
}
BASELINE = Library("baseline", Exception, sync=YARDSTICKS, asynchronous=YARDSTICKS)


def _limits(table: Mapping[str, Limits], library: Library, pattern: str) -> Limits:
    """Only resilient is judged; the others are compared with W."""
    return table[pattern] if library is OURS else {"W": None}


def _ordered(
    table: Mapping[str, Limits], makers: Mapping[str, Callable[[], Decorator]]
) -> list[tuple[str, Callable[[], Decorator]]]:
    """The makers in the order of the table of limits."""
    order = [*table, *(pattern for pattern in makers if pattern not in table)]
    return [(pattern, makers[pattern]) for pattern in order if pattern in makers]


def cases(library: Library) -> list[Case[float]]:
    """The sync patterns of the library, decorated and ready to run."""
    found: list[Case[float]] = []
    for pattern, make in _ordered(SYNC_LIMITS, library.sync):
        loop: loops.Loop
        answer: Callable[[], Any]
        expected: object = 1
        if pattern == "method with retry":
            instance: Any = type("Service", (), {"method": make()(own_method())})()
            loop, answer = loops.method(instance), partial(instance.method, 1)
        elif pattern == "breaker, open: rejection":
            guarded = make()(loops.fragile())
            for x in (1, -1):  # a success, then the failure that opens the breaker
                _outcome(guarded, x, library.rejection)
            loop, expected = loops.rejected(guarded, library.rejection), library.rejection
            answer = partial(_outcome, guarded, 1, library.rejection)
        else:
            subject = loops.flaky() if pattern == "retry, two failures, then success" else loops.bare()
            guarded = make()(subject)
            loop, answer = loops.call(guarded), partial(guarded, 1)
            if pattern == "timeout in a thread":
                loop = loops.on_one_cpu(loop)
        found.append(
            Case("sync", pattern, library.name, loop, answer, expected, _limits(SYNC_LIMITS, library, pattern))
        )
    return found


async def acases(library: Library) -> list[Case[Awaitable[float]]]:
    """The async patterns; awaited inside the loop that will run them."""
    found: list[Case[Awaitable[float]]] = []
    for pattern, make in _ordered(ASYNC_LIMITS, library.asynchronous):
        loop: loops.AsyncLoop
        answer: Callable[[], Any]
        expected: object = 1
        if pattern == "breaker, open: rejection":
            guarded = make()(loops.afragile())
            for x in (1, -1):
                await _aoutcome(guarded, x, library.rejection)
            loop, expected = loops.arejected(guarded, library.rejection), library.rejection
            answer = partial(_aoutcome, guarded, 1, library.rejection)
        else:
            subject = {
                "retry, two failures, then success": loops.aflaky,
                "timeout, one suspension": loops.asuspends,
            }.get(pattern, loops.abare)()
            guarded = make()(subject)
            loop, answer = loops.acall(guarded), partial(guarded, 1)
        found.append(
            Case("async", pattern, library.name, loop, answer, expected, _limits(ASYNC_LIMITS, library, pattern))
        )
    return found


def own_method() -> Callable[[Any, int], int]:
    def method(self: Any, x: int) -> int:
        return x

    return loops.own_code(method)


def _outcome(function: loops.Sync, x: int, rejection: type[Exception]) -> object:
    """What the call returns, or the type of what it raises."""
    try:
        return function(x)
    except (loops.Trouble, rejection) as error:
        return type(error)


async def _aoutcome(function: loops.Async, x: int, rejection: type[Exception]) -> object:
    try:
        return await function(x)
    except (loops.Trouble, rejection) as error:
        return type(error)
