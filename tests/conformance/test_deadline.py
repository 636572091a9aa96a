"""Deadlines: nothing inside outlasts them, nesting only shortens them."""

import asyncio
import datetime
import time

import pytest

from resilient import deadline, remaining_time, retry, timeout

from .helpers import Failing, Inside, outcome, run, slow


def test_deadline_shortens_a_timeout(face):
    """A timeout inside a deadline never outlasts it."""

    def go():
        with deadline(0.05):
            return face.call(timeout(5)(slow(face, 0.2)))

    started = time.monotonic()
    error = outcome(go)
    assert isinstance(error, TimeoutError)
    assert time.monotonic() - started < 0.15


def test_deadline_works_in_async_code():
    """`with deadline(...)` in a coroutine holds for the calls awaited inside, and not for other tasks."""

    async def bounded():
        with deadline(0.03):
            return await timeout(5).acall(asyncio.sleep, 0.2)

    async def free():
        return await timeout(5).acall(asyncio.sleep, 0.06, remaining_time())

    async def go():
        return await asyncio.gather(bounded(), free(), return_exceptions=True)

    error, left = run(go())
    assert isinstance(error, TimeoutError)
    assert left is None


def test_remaining_time_counts_down(clock):
    """`remaining_time()` is None without a deadline, then the seconds left, never below 0."""
    assert remaining_time() is None
    with deadline(datetime.timedelta(seconds=10)):
        assert remaining_time() == pytest.approx(10)
        clock.tick(4)
        assert remaining_time() == pytest.approx(6)
        clock.tick(60)
        assert remaining_time() == 0
    assert remaining_time() is None


def test_nested_deadlines_only_shorten(clock):
    """A longer deadline inside a shorter one changes nothing; a shorter one counts, and ends with its block."""
    with deadline(10):
        with deadline(60):
            assert remaining_time() == pytest.approx(10)
        with deadline(3):
            assert remaining_time() == pytest.approx(3)
        assert remaining_time() == pytest.approx(10)


def test_deadline_reaches_the_worker_thread():
    """A sync function under a timeout sees the deadline of its caller."""
    with deadline(5):
        assert 0 < timeout(2)(remaining_time)() <= 5


def test_deadline_ends_a_retry(face, sleeps):
    """A retry never sleeps past the deadline."""
    body = Failing()
    with deadline(10):
        error = outcome(face.via, retry(max_attempts=100, base_delay=4, backoff="linear"), face.function(body))
    assert isinstance(error, ConnectionError | TimeoutError)
    assert sum(sleeps) <= 10 + 1e-6
    assert body.calls >= 2


def test_deadline_clips_retry_after(face, sleeps):
    """A `retry_after` beyond the deadline is not waited in full."""
    error = ConnectionError("busy")
    error.retry_after = 60
    with deadline(10):
        outcome(face.via, retry(), face.function(Failing(error)))
    assert sum(sleeps) <= 10 + 1e-6


def test_spent_deadline_fails_at_once(face, clock):
    """After the deadline a guarded call is not made any more."""
    body = Failing(None)
    with deadline(1):
        clock.tick(2)
        error = outcome(face.call, timeout(5)(face.function(body)))
    assert (isinstance(error, TimeoutError), body.calls) == (True, 0)


def test_nested_inside_is_measured(face):
    """A deadline inside a guarded function holds in that function only."""
    inside = Inside()
    inside.release.set()
    seen = []

    def body():
        with deadline(0.5):
            inside.enter()
            seen.append(remaining_time())

    face.call(timeout(5)(face.function(body)))
    assert 0 < seen[0] <= 0.5
    assert remaining_time() is None
