"""The decorated functions of the demo: how a caller guards its way to a service that may fail.

Read the decorators from the bottom up, the way an answer travels: an attempt has a time limit, takes one of a
few places, is counted by the breaker, may be repeated, and if all that fails a stand-in answers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from resilient import (
    BulkheadFullError,
    CircuitOpenError,
    CircuitState,
    bulkhead,
    circuit_breaker,
    degrade,
    retry,
    timeout,
)
from resilient.demo.fetch import afetch, fetch
from resilient.demo.settings import Settings

THREADS, TASKS = "inventory threads", "inventory tasks"
BREAKER = "inventory"
PLACES = 6
PROBES = 3
FAILURES = 8


@dataclass(frozen=True, slots=True)
class Answer:
    """How many pieces are in stock; `live` is False when a stand-in had to answer."""

    item: int
    stock: int
    live: bool = True


@dataclass(frozen=True, slots=True)
class Clients:
    """One way to ask for threads, one for tasks; they share breaker and bulkhead, as they share the service."""

    check_stock: Callable[[int], Answer]
    acheck_stock: Callable[[int], Awaitable[Answer]]


def assume_none(item: int) -> Answer:
    """The stand-in: without the service, sell nothing that may not be there."""
    return Answer(item, stock=0, live=False)


def make_clients(settings: Settings, port: int, on_probe: Callable[[], None]) -> Clients:
    """Decorate the two functions that ask the service at `port`; `on_probe` hears of requests sent while half-open."""
    breaker = circuit_breaker(
        BREAKER,
        failure_threshold=FAILURES,
        recovery_timeout=settings.open_period,
        half_open_calls=PROBES,
    )
    places = bulkhead("inventory", max_concurrent=PLACES, max_wait=0.05)
    # Waiting for an open breaker would keep the caller hanging: the stand-in is there to answer at once.
    hopeless = (CircuitOpenError, BulkheadFullError)
    # A full bulkhead is not among these: no stand-in shall hide from a caller that it asks too much.
    unavailable = (CircuitOpenError, OSError)

    @degrade(fallback=assume_none, on=unavailable, name=THREADS)
    @retry(max_attempts=3, base_delay=0.05, on=OSError, give_up_on=hopeless, name=THREADS)
    @breaker
    @places
    @timeout(settings.limit, name=THREADS)
    def check_stock(item: int) -> Answer:
        if breaker.state is CircuitState.HALF_OPEN:
            on_probe()
        # The socket gives up a little later than the caller, so that abandoned threads come to an end.
        document = fetch(port, f"/stock/{item}", patience=2 * settings.limit)
        return Answer(item, int(document["stock"]))

    @degrade(fallback=assume_none, on=unavailable, name=TASKS)
    @retry(max_attempts=3, base_delay=0.05, on=OSError, give_up_on=hopeless, name=TASKS)
    @breaker
    @places
    @timeout(settings.limit, name=TASKS)
    async def acheck_stock(item: int) -> Answer:
        if breaker.state is CircuitState.HALF_OPEN:
            on_probe()
        document = await afetch(port, f"/stock/{item}")
        return Answer(item, int(document["stock"]))

    return Clients(check_stock, acheck_stock)
