"""The breaker as a block, across contexts, threads and clocks, and what it leaves behind."""

import asyncio
import contextlib
import contextvars
import datetime
import gc
import os
import time
import weakref

import pytest

from resilient import CircuitOpenError, circuit_breaker

from .helpers import Failing, Marked, eventually, in_threads, outcome, run, state, tripped

# Blocks


def test_block_is_guarded(clock, face):
    """`with breaker:` counts successes and failures, honours OPEN, and lets the error pass."""
    breaker = circuit_breaker("b", failure_threshold=2, recovery_timeout=60, half_open_calls=1)
    assert face.block(breaker, Failing(None)) == "ok"
    for _ in range(2):
        with pytest.raises(ConnectionError):
            face.block(breaker, Failing())
    body = Failing(None)
    with pytest.raises(CircuitOpenError):
        face.block(breaker, body)
    assert body.calls == 0
    clock.tick(60)
    assert face.block(breaker, body) == "ok"
    metrics = breaker.get_metrics()
    assert (state(breaker), metrics.success_count, metrics.failure_count) == ("CLOSED", 2, 2)


def test_blocks_nest_and_interleave(clock):
    """Blocks of one breaker nest in one thread, overlap in tasks, and each ends its own permit."""
    breaker = tripped(half_open_calls=4)
    clock.tick(60)

    async def block(pause):
        async with breaker:
            await asyncio.sleep(pause)

    async def go():
        await asyncio.gather(block(0.02), block(0.01))

    with breaker, breaker:
        pass
    run(go())
    assert state(breaker) == "CLOSED"
    assert breaker.get_metrics().success_count == 4


def test_block_entered_and_left_in_different_contexts(clock):
    """A block may be entered in one contextvars context and left in another."""
    breaker = tripped(half_open_calls=1)
    clock.tick(60)
    contextvars.copy_context().run(breaker.__enter__)
    assert isinstance(outcome(breaker.call, Failing(None)), CircuitOpenError)
    contextvars.copy_context().run(breaker.__exit__, None, None, None)
    assert state(breaker) == "CLOSED"


def test_block_entered_and_left_in_different_threads(clock):
    """A block may be entered in one thread and left in another, as thread pools do with generators."""
    breaker = tripped(half_open_calls=1)
    clock.tick(60)
    in_threads(1, lambda index: breaker.__enter__())
    assert isinstance(outcome(breaker.call, Failing(None)), CircuitOpenError)
    assert in_threads(1, lambda index: breaker.__exit__(None, None, None)) in ([None], [False])
    assert state(breaker) == "CLOSED"


def test_blocks_from_many_threads_count_exactly(face):
    """Blocks in eight threads at once count each exactly once."""
    breaker = circuit_breaker("b", failure_threshold=10**9)

    def work(index):
        for number in range(20):
            outcome(face.block, breaker, Failing(ConnectionError if number % 2 else None))

    in_threads(8, work)
    metrics = breaker.get_metrics()
    assert (metrics.success_count, metrics.failure_count) == (80, 80)


# Clocks


@pytest.mark.parametrize("step", [3600, -3600])
def test_clock_steps_and_time_zones_change_nothing(monkeypatch, step):
    """The wall clock may jump an hour and the time zone may change: only monotonic time counts."""
    now = [1000.0]
    wall = time.time
    loop_time = time.monotonic
    monkeypatch.setattr(asyncio.BaseEventLoop, "time", lambda self: loop_time())
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    breaker = tripped(half_open_calls=1)
    monkeypatch.setattr(time, "time", lambda: wall() + step)
    monkeypatch.setenv("TZ", "Asia/Tokyo" if os.environ.get("TZ") != "Asia/Tokyo" else "UTC")
    time.tzset()
    try:
        assert state(breaker) == "OPEN"
        now[0] += 59
        assert outcome(breaker.call, Failing(None)).retry_after == pytest.approx(1)
        now[0] += 1
        assert run(breaker.acall(asyncio.sleep, 0)) is None
        assert state(breaker) == "CLOSED"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_freezegun_moves_the_breaker(face):
    """Plain freezegun, without any help, carries a breaker from open to closed."""
    import freezegun

    with freezegun.freeze_time("2026-01-01", real_asyncio=True) as frozen:
        breaker = tripped(half_open_calls=1)
        assert state(breaker) == "OPEN"
        frozen.tick(datetime.timedelta(seconds=61))
        assert face.via(breaker, face.function(Failing(None))) == "ok"
        assert state(breaker) == "CLOSED"


# What stays behind


@pytest.mark.parametrize("way", ["call", "block"])
def test_no_exception_is_kept(face, way):
    """After the call neither the exception nor its frames are alive, although the breaker counted it."""
    breaker = circuit_breaker("b", failure_threshold=2)

    def fail():
        error = Marked()
        references.append(weakref.ref(error))
        raise error

    references = []
    for _ in range(3):
        try:
            if way == "call":
                face.via(breaker, face.function(fail))
            else:
                face.block(breaker, fail)
        except (Marked, CircuitOpenError):
            pass
    gc.collect()
    assert [reference() for reference in references] == [None, None]
    assert state(breaker) == "OPEN"


def test_no_exception_is_kept_under_threads():
    """Failures in eight threads leave no exception alive."""
    breaker, references = circuit_breaker("b", failure_threshold=10**9), []

    def fail():
        error = Marked()
        references.append(weakref.ref(error))
        raise error

    def work(index):
        for _ in range(20):
            with contextlib.suppress(Marked):
                breaker.call(fail)

    in_threads(8, work)
    gc.collect()
    eventually(lambda: not any(reference() for reference in references))
    assert len(references) == 160
