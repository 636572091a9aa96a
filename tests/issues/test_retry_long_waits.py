"""A wait beyond what the clock can sleep used to raise OverflowError in place of the service's error."""

import asyncio
import datetime
import threading
import time

import pytest

from resilient import ConfigurationError, bulkhead, circuit_breaker, retry, timeout

from .helpers import aoutcome, outcome, run


class BusyError(Exception):
    """A service that says when to come again."""

    def __init__(self, retry_after):
        self.retry_after = retry_after


@pytest.fixture
def sleeps(monkeypatch):
    """Record every sleep in place of it; refuse what the real one would."""
    recorded, yield_to_loop = [], asyncio.sleep

    def sleep(seconds):
        if not 0 <= seconds <= threading.TIMEOUT_MAX:
            raise OverflowError(seconds)
        recorded.append(seconds)

    async def asleep(seconds):
        sleep(seconds)
        await yield_to_loop(0)

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(asyncio, "sleep", asleep)
    return recorded


LONG = [1e10, 1.7e12, 1e300, 10**400, 10**10, datetime.timedelta.max]


@pytest.mark.parametrize("asked", LONG, ids=lambda asked: str(asked)[:12])
def test_long_retry_after(asked, sleeps):
    """However long the service asks to wait, its own error arrives in the end."""

    @retry(max_attempts=2)
    def work():
        raise BusyError(asked)

    @retry(max_attempts=2)
    async def awork():
        raise BusyError(asked)

    assert isinstance(outcome(work), BusyError)
    assert isinstance(run(aoutcome(awork)), BusyError)
    assert len(sleeps) == 2


@pytest.mark.parametrize("asked", LONG, ids=lambda asked: str(asked)[:12])
def test_long_retry_after_in_a_short_time(asked, sleeps):
    """With `max_elapsed` the wait is what that leaves."""

    @retry(max_attempts=2, max_elapsed=5)
    def work():
        raise BusyError(asked)

    assert isinstance(outcome(work), BusyError)
    assert len(sleeps) == 1
    assert sleeps[0] <= 5


@pytest.mark.parametrize(
    "given", [float("nan"), float("inf"), -(10**400), -1, 0, "soon"], ids=lambda given: str(given)[:9]
)
def test_impossible_retry_after(given, sleeps):
    """What is no time to wait is passed over."""

    @retry(max_attempts=2, base_delay=0.5, jitter=False)
    def work():
        raise BusyError(given)

    assert isinstance(outcome(work), BusyError)
    assert sleeps == [0.5]


@pytest.mark.parametrize(
    "define",
    [
        lambda seconds: retry(base_delay=seconds, max_delay=seconds),
        lambda seconds: retry(max_delay=seconds),
        lambda seconds: retry(max_elapsed=seconds),
        lambda seconds: circuit_breaker(recovery_timeout=seconds),
        lambda seconds: bulkhead(max_wait=seconds),
        timeout,
    ],
    ids=["base_delay", "max_delay", "max_elapsed", "recovery_timeout", "max_wait", "timeout"],
)
@pytest.mark.parametrize("seconds", [1e10, 10**400, datetime.timedelta.max], ids=["1e10", "10**400", "timedelta"])
def test_long_option(define, seconds):
    """An option beyond what can be waited is refused where it is written."""
    with pytest.raises(ConfigurationError):
        define(seconds)


def test_longest_option(sleeps):
    """The longest that can be waited is taken."""

    @retry(max_attempts=3, base_delay=threading.TIMEOUT_MAX, max_delay=threading.TIMEOUT_MAX)
    def work():
        raise ConnectionError

    assert isinstance(outcome(work), ConnectionError)
    assert len(sleeps) == 2
