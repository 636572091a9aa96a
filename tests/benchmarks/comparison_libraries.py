"""What the comparison asks of a library: its parts, each made the way the library's own documentation makes them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from resilient import (
    CachedDegradation,
    CircuitOpenError,
    RetryBudget,
    bulkhead,
    circuit_breaker,
    deadline,
    degrade,
    retry,
    timeout,
)

Decorator = Callable[[Any], Any]
Block = Callable[[], AbstractContextManager[Any]]


class Harmless(Exception):
    """An error that says nothing about the health of a service: breakers are told to leave it alone."""


class Pause(ConnectionError):
    """An error that asks for a wait of its own, as an HTTP answer with Retry-After does."""

    retry_after = 0.07


@dataclass(frozen=True)
class Parts:
    """The parts of one library; what it lacks is None.

    Where a part takes no argument, the numbers in its comment are what the probes rely on.
    All breakers open after three failures, let in one probe, and close when it succeeds.
    """

    name: str
    asyncio: bool = True
    retry: Callable[[int, float], Decorator] | None = None  # attempts, and a fixed delay in seconds
    retry_anything: Callable[[], Decorator] | None = None  # the widest filter there is, three attempts, no delay
    retry_spread: Callable[[], Decorator] | None = None  # 20 attempts, delays at a cap of 1 s, with jitter
    retry_within: Callable[[float, float], Decorator] | None = None  # seconds in all, and a fixed delay
    retry_when_told: Callable[[], Decorator] | None = None  # waits for what `Pause.retry_after` says
    retry_on_budget: Callable[[], tuple[Decorator, Decorator]] | None = None  # about one retry for ten calls, shared
    breaker: Callable[[float], Decorator] | None = None  # seconds that it stays open; leaves `Harmless` alone
    rejection: type[Exception] | None = None  # of the breaker
    block: Callable[[float], Block] | None = None  # the breaker around a `with` block
    by_rate: Callable[[], Decorator] | None = None  # opens when half of ten calls failed
    by_slowness: Callable[[], Decorator] | None = None  # opens when five calls took 10 ms or longer
    bulkhead: Callable[[], Decorator] | None = None  # one place, and a wait of up to 1 s for it
    timeout: Callable[[float], Decorator] | None = None
    cached: Callable[[Any], Decorator] | None = None  # keeps answers, and answers with this when a call fails
    deadline: Callable[[float], AbstractContextManager[Any]] | None = None
    hedge: Callable[[float], Decorator] | None = None  # sends a second request after so many seconds
    rate_limit: Callable[[], Decorator] | None = None  # two calls a minute, without waiting
    keyed: Callable[[], Decorator] | None = None  # a breaker for each first argument
    stored: Callable[[], tuple[Decorator, Decorator]] | None = None  # two breakers that share a store
    restarted: Callable[[], Decorator] | None = None  # a retry that is to make a whole stream again


def resilient_parts() -> Parts:
    """This project."""

    def budgeted() -> tuple[Decorator, Decorator]:
        budget = RetryBudget(ratio=0.1, min_per_second=0)
        return retry(base_delay=0, budget=budget), retry(base_delay=0, budget=budget)

    def breaker(recovery: float) -> Any:
        return circuit_breaker(failure_threshold=3, recovery_timeout=recovery, half_open_calls=1, ignore=Harmless)

    def block(recovery: float) -> Block:
        policy = breaker(recovery)
        return lambda: policy

    return Parts(
        "resilient",
        retry=lambda attempts, delay: retry(max_attempts=attempts, base_delay=delay, max_delay=1, jitter=False),
        retry_anything=lambda: retry(on=lambda error: True, base_delay=0),
        retry_spread=lambda: retry(max_attempts=20, base_delay=1, max_delay=1),
        retry_within=lambda limit, delay: retry(max_attempts=3, base_delay=delay, jitter=False, max_elapsed=limit),
        retry_when_told=lambda: retry(base_delay=0.001),
        retry_on_budget=budgeted,
        breaker=breaker,
        rejection=CircuitOpenError,
        block=block,
        by_rate=lambda: circuit_breaker(failure_rate_threshold=0.5, window_size=10),
        by_slowness=lambda: circuit_breaker(slow_call_duration=0.01, window_size=5),
        bulkhead=lambda: bulkhead(max_concurrent=1, max_wait=1),
        timeout=timeout,
        cached=lambda value: degrade(cache=CachedDegradation(cache_ttl=60, fallback_ttl=60), fallback=value),
        deadline=deadline,
        restarted=lambda: retry(base_delay=0),
    )
