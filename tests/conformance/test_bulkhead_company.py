"""Bulkhead in company: event loops, closing, a breaker inside, a timeout around."""

import asyncio
import threading

import pytest

from resilient import (
    BulkheadClosedError,
    BulkheadFullError,
    CallTimeoutError,
    CircuitOpenError,
    Pipeline,
    bulkhead,
    circuit_breaker,
    timeout,
)

from .helpers import Failing, Inside, Taken, aeventually, eventually, idle, in_threads, outcome, revived, run
from .kinds import ASYNC

# Loops


def test_second_event_loop():
    """A bulkhead used in one `asyncio.run` works in the next, also when the first ended with a waiter in line."""
    bulk = bulkhead("b", max_concurrent=1)

    async def leave_a_waiter():
        async with bulk:
            waiter = asyncio.ensure_future(bulk.acall(asyncio.sleep, 0))
            await aeventually(lambda: bulk.queue_length == 1)
            assert not waiter.done()

    for _ in range(3):
        run(leave_a_waiter())
        assert idle(bulk, 1)
    assert ASYNC.together(lambda: bulk.acall(asyncio.sleep, 0.001, "ok"), 5) == ["ok"] * 5


def test_waiter_of_a_closed_loop_is_passed_over():
    """A waiter whose event loop was closed under it does not swallow the place it is given."""
    bulk, loop = bulkhead("b", max_concurrent=1), asyncio.new_event_loop()
    loop.set_exception_handler(lambda loop, context: None)
    bulk.__enter__()
    waiter = loop.create_task(bulk.acall(asyncio.sleep, 0))
    loop.run_until_complete(aeventually(lambda: bulk.queue_length == 1))
    loop.close()
    bulk.__exit__(None, None, None)
    assert idle(bulk, 1)
    assert bulk.call(int) == 0
    assert not waiter.done()


def test_made_without_a_loop():
    """A bulkhead is made where no event loop exists, in any thread, and used in a loop later."""
    bulk = in_threads(1, lambda index: bulkhead("b", max_concurrent=1))[0]
    assert ASYNC.together(lambda: bulk.acall(asyncio.sleep, 0, 1), 3) == [1] * 3


# Closing


def test_closed_bulkhead_refuses(face):
    """After `close()` every call is refused with an error that is not retryable."""
    bulk, body = bulkhead("b"), Failing(None)
    bulk.close()
    error = outcome(face.via, bulk, face.function(body))
    assert isinstance(error, BulkheadClosedError)
    assert (error.name, error.is_retryable(), body.calls) == ("b", False, 0)
    clone = revived(error)
    assert (type(clone), clone.name) == (BulkheadClosedError, "b")


def test_closing_ends_the_waiting(face):
    """`close()` ends every waiting with BulkheadClosedError; who is inside finishes."""
    bulk = bulkhead("b", max_concurrent=1)
    with Taken(bulk) as taken:
        results = []
        waiter = threading.Thread(
            target=lambda: results.append(outcome(face.via, bulk, face.function(Failing(None)))), daemon=True
        )
        waiter.start()
        eventually(lambda: bulk.queue_length == 1)
        bulk.close()
        waiter.join(2)
        assert isinstance(results[0], BulkheadClosedError)
        assert taken.inside.now == 1
    assert (bulk.active_requests, bulk.queue_length) == (0, 0)


# With a breaker


@pytest.mark.parametrize("by", ["policy", "name"])
def test_built_in_breaker_guards_the_same_calls(face, by):
    """`circuit_breaker=` as policy or registered name: its failures open it, and then no call is made."""
    breaker = circuit_breaker("c", failure_threshold=2)
    bulk, body = bulkhead("b", circuit_breaker=breaker if by == "policy" else "c"), Failing()
    for _ in range(2):
        assert isinstance(outcome(face.via, bulk, face.function(body)), ConnectionError)
    error = outcome(face.via, bulk, face.function(body))
    assert isinstance(error, CircuitOpenError)
    assert (error.is_retryable(), body.calls, breaker.state.name) == (True, 2, "OPEN")
    assert idle(bulk, 100)


def test_full_bulkhead_is_no_failure_of_the_breaker(face):
    """A call refused for want of a place says nothing about the health of what the breaker guards."""
    breaker = circuit_breaker("c", failure_threshold=1)
    bulk = bulkhead("b", max_concurrent=1, max_wait=0, circuit_breaker=breaker)
    with Taken(bulk):
        assert isinstance(outcome(face.via, bulk, face.function(Failing(None))), BulkheadFullError)
    assert (breaker.state.name, breaker.get_metrics().failure_count) == ("CLOSED", 0)


# With a timeout


@pytest.mark.parametrize("order", ["bulkhead outside", "timeout outside"])
def test_abandoned_call_keeps_its_place(order):
    """A sync call whose timeout gave up on it keeps its place until it really ends."""
    bulk, inside = bulkhead("b", max_concurrent=1, max_wait=0), Inside()
    policies = [bulk, timeout(0.05)]
    guarded = Pipeline(*policies if order == "bulkhead outside" else reversed(policies))(inside.enter)
    with pytest.raises(CallTimeoutError):
        guarded()
    assert inside.now == 1
    assert bulk.active_requests == 1
    assert isinstance(outcome(bulk.call, Failing(None)), BulkheadFullError)
    inside.release.set()
    eventually(lambda: idle(bulk, 1))
    assert inside.peak == 1
