"""A plain function that returns coroutines used to go unguarded, or wrong, after a first call without a coroutine."""

import asyncio

import pytest

from resilient import (
    BulkheadFullError,
    CircuitOpenError,
    Pipeline,
    bulkhead,
    circuit_breaker,
    degrade,
    retry,
    timeout,
)

from .helpers import aoutcome, outcome, run


def opened(**options):
    breaker = circuit_breaker(failure_threshold=1, recovery_timeout=10, half_open_calls=1, **options)
    outcome(breaker.call, lambda: 1 / 0)
    return breaker


def failing_sync_then_async():
    calls = []

    async def fail():
        raise ConnectionError("later")

    def connect():
        calls.append(1)
        if len(calls) == 1:
            raise ConnectionError("at once")
        return fail()

    return connect, calls


def test_first_call_answered_by_a_fallback():
    """A fallback's answer says nothing about the function: its coroutines are guarded when they come."""
    connect, calls = failing_sync_then_async()
    guarded = degrade(fallback="spare")(connect)

    async def go():
        return guarded(), await guarded(), await guarded()

    assert run(go()) == ("spare", "spare", "spare")
    assert len(calls) == 3


def test_first_call_answered_by_a_fallback_around_others():
    """The same with other policies in the chain, which count and retry what the coroutines raise."""
    connect, calls = failing_sync_then_async()
    breaker = circuit_breaker(failure_threshold=100)
    guarded = degrade(fallback="spare")(retry(base_delay=0, max_attempts=1)(breaker(connect)))

    async def go():
        return guarded(), await guarded(), await guarded()

    assert run(go()) == ("spare", "spare", "spare")
    assert breaker.get_metrics().failure_count == len(calls) == 3


def test_first_call_answered_from_the_cache():
    """What a cache answers says nothing about the function either."""
    connect, _ = failing_sync_then_async()
    guarded = degrade(fallback="spare", cache={"all": "cached"}, key=lambda: "all")(connect)

    async def go():
        return guarded(), await guarded()

    assert run(go()) == ("cached", "cached")


def test_first_call_rejected_by_a_breaker(time):
    """A rejected call says nothing about the function: afterwards its coroutines are awaited and counted."""
    breaker = opened()

    async def answer(value):
        return value

    guarded = breaker(lambda: answer("ok"))

    async def go():
        rejected = outcome(guarded)
        if asyncio.iscoroutine(rejected):
            rejected = await aoutcome(lambda: rejected)
        time.now += 11
        return type(rejected), await guarded(), await guarded()

    assert run(go()) == (CircuitOpenError, "ok", "ok")
    assert breaker.get_metrics().success_count == 2


def test_first_call_rejected_and_answered_by_a_fallback(time):
    """After a rejection that a fallback has answered, failing coroutines are retried, counted and answered."""
    breaker, calls = opened(), []

    async def fail(when):
        calls.append(when)
        raise ConnectionError(when)

    guarded = degrade(fallback="spare")(breaker(retry(base_delay=0)(lambda: fail("later"))))

    async def go():
        first = guarded()
        if asyncio.iscoroutine(first):
            first = await first
        time.now += 11
        return first, await guarded()

    assert run(go()) == ("spare", "spare")
    assert len(calls) == 3
    assert breaker.get_metrics().failure_count == 2


@pytest.mark.parametrize(
    "make",
    [
        lambda: retry(base_delay=0),
        circuit_breaker,
        bulkhead,
        lambda: timeout(5),
        lambda: degrade(fallback="hidden"),
        lambda: Pipeline(degrade(fallback="hidden"), retry(base_delay=0), circuit_breaker(), bulkhead(), timeout(5)),
    ],
    ids=["retry", "circuit_breaker", "bulkhead", "timeout", "degrade", "pipeline"],
)
def test_call_of_a_function_that_returns_a_coroutine(make):
    """`policy.call` raises TypeError for it after one call, whatever the policy does about errors."""
    calls, policy = [], make()

    async def answer(value):
        return value

    def asked(value=1):
        calls.append(value)
        return answer(value)

    with pytest.raises(TypeError, match="acall"):
        policy.call(asked)
    with pytest.raises(TypeError, match="acall"):
        policy.call(lambda: asked(1))
    assert len(calls) == 2


def test_call_of_a_function_that_returns_a_coroutine_and_a_breaker():
    """That misunderstanding is no failure of the service."""
    breaker = circuit_breaker(failure_threshold=1)

    async def answer(value):
        return value

    with pytest.raises(TypeError):
        breaker.call(lambda: answer("ok"))
    assert breaker.state.name == "CLOSED"
    assert breaker.get_metrics().failure_count == 0


def test_first_call_behind_a_full_bulkhead():
    """The first call of a lambda waits for its place without stopping the event loop."""
    bulk = bulkhead(max_concurrent=1, max_wait=0.15)

    async def answer(value):
        return value

    guarded = bulk(lambda: answer("ok"))

    async def go():
        ticked = asyncio.Event()

        async def hold():
            async with bulk:
                await ticked.wait()

        async def tick():
            for _ in range(5):
                await asyncio.sleep(0.001)
            ticked.set()

        async def ask():
            return await guarded()

        holder = asyncio.create_task(hold())
        await asyncio.sleep(0)
        asked = asyncio.create_task(ask())
        ticker = asyncio.create_task(tick())
        try:
            return await asked
        finally:
            ticked.set()
            await asyncio.gather(holder, ticker)

    assert run(go()) == "ok"
    assert run(go()) == "ok"
    assert bulk.available_permits == 1


def test_first_call_behind_a_bulkhead_that_stays_full():
    """When no place becomes free in time, the first call is turned away, and the loop has gone on meanwhile."""
    bulk = bulkhead(max_concurrent=1, max_wait=0.05)

    async def answer(value):
        return value

    guarded = bulk(lambda: answer("ok"))

    async def go():
        ticks = []

        async def tick():
            while True:
                await asyncio.sleep(0.001)
                ticks.append(1)

        async def ask():
            return await guarded()

        ticker = asyncio.create_task(tick())
        async with bulk:
            refused = await aoutcome(ask)
        ticker.cancel()
        return type(refused), len(ticks) > 2

    assert run(go()) == (BulkheadFullError, True)
