"""Fixtures every conformance test shares: a watchdog, the two faces, frozen time, recorded sleeps."""

import asyncio
import signal
import time

import freezegun
import freezegun.api
import pytest

from .kinds import ASYNC, SYNC

TEST_LIMIT = 20.0


@pytest.fixture(autouse=True)
def _watchdog():
    """Turn a hang of the main thread into a failure."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def bark(signum, frame):
        pytest.fail(f"still running after {TEST_LIMIT} s", pytrace=True)

    previous = signal.signal(signal.SIGALRM, bark)
    signal.setitimer(signal.ITIMER_REAL, TEST_LIMIT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


@pytest.fixture(params=[SYNC, ASYNC], ids=["sync", "async"])
def face(request):
    """Run the test once with a plain function and once with a coroutine function."""
    return request.param


@pytest.fixture
def clock(monkeypatch):
    """Freeze the clock in every thread; `clock.tick(seconds)` moves it. Event loops keep real time."""
    monkeypatch.setattr(freezegun.api, "call_stack_inspection_limit", 0)
    with freezegun.freeze_time("2026-03-01 12:00:00", real_asyncio=True) as frozen:
        yield frozen


@pytest.fixture
def sleeps(clock, monkeypatch):
    """Record every delay asked of `time.sleep` and `asyncio.sleep`, moving the clock instead of waiting."""
    recorded = []
    yield_to_loop = asyncio.sleep

    def record(delay):
        recorded.append(delay)
        clock.tick(delay)

    async def arecord(delay, result=None):
        record(delay)
        await yield_to_loop(0)
        return result

    monkeypatch.setattr(time, "sleep", record)
    monkeypatch.setattr(asyncio, "sleep", arecord)
    return recorded
