"""Virtual time: what was found wrong with it, each defect as the claim that holds now."""

import asyncio
import os
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from freezegun import freeze_time

from resilient import CallTimeoutError, registry, retry, timeout
from resilient.clock import CLOCK
from resilient.testing import VirtualClock, faults, inject, instant
from resilient.testing.clocks import virtual_clock
from resilient.testing.injection import ACTIVE
from resilient.wrapping import STAND_INS


@timeout(0.05)
async def limited(hangs):
    """A call that may hang, under one limit of real time."""
    await asyncio.sleep(3600 if hangs else 0)


def test_timeouts_of_a_loop_after_virtual_time():
    """An async timeout ends a call in real time as late as it says, also where its loop was in virtual time before."""

    async def main():
        for _ in range(3):
            with instant() as clock:
                began = clock.monotonic()
                with pytest.raises(CallTimeoutError):
                    await limited(True)
                assert clock.monotonic() - began == pytest.approx(0.05)
                await asyncio.sleep(100)
                await limited(False)
        began = time.monotonic()
        with pytest.raises(CallTimeoutError):
            await asyncio.wait_for(limited(True), 5)
        assert time.monotonic() - began < 4

    asyncio.run(main())


def test_timers_that_outlive_virtual_time():
    """What a loop was to do 0.05 s later when virtual time ended, it does 0.05 real seconds later."""

    async def main():
        done = asyncio.Event()
        with VirtualClock() as clock:
            await clock.aadvance(1000)
            asyncio.get_running_loop().call_later(0.05, done.set)
        await asyncio.wait_for(done.wait(), 5)

    asyncio.run(main())


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="a POSIX timer")
def test_signal_timeout():
    """timeout(method="signal") ends a call whose virtual time is up, and leaves a real alarm around it alone."""

    @timeout(5, method="signal")
    def call():
        CLOCK.sleep(60)

    rang = []
    before = signal.signal(signal.SIGALRM, lambda *_: rang.append(True))
    signal.setitimer(signal.ITIMER_REAL, 30)
    try:
        with instant(), pytest.raises(CallTimeoutError):
            call()
        time.sleep(0.01)
        left = signal.getitimer(signal.ITIMER_REAL)[0]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert rang == []
    assert left > 10


@pytest.mark.parametrize("turn", range(5))
@pytest.mark.parametrize("kind", ["thread", "loop"])
def test_advance_waits_for_who_has_just_begun(kind, turn):
    """`advance` right after a thread was started finds its waits, however long it works before the first."""

    @retry(max_attempts=3, base_delay=20, jitter=False, on=OSError)
    def call():
        return 1

    @retry(max_attempts=3, base_delay=20, jitter=False, on=OSError)
    async def acall():
        return 1

    def work():
        sum(range(200_000))
        if kind == "thread":
            call()
        else:
            asyncio.run(acall())

    target = call if kind == "thread" else acall
    with VirtualClock() as clock, inject(target, faults.NetworkFailure(), max_count=2):
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        clock.advance(100)
        thread.join(5)
        assert not thread.is_alive()


def test_plain_locks_cost_patience_once():
    """Who waits for a lock that says nothing of it holds up time once, not at each jump."""
    lock = threading.Lock()
    began = time.monotonic()
    with instant() as clock:
        lock.acquire()
        waiting = threading.Thread(target=lambda: lock.acquire() and lock.release(), daemon=True)
        waiting.start()
        for _ in range(20):
            clock.sleep(60)
        lock.release()
        waiting.join(5)
    assert time.monotonic() - began < 8 * virtual_clock.PATIENCE


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_child():
    """A child that is forked while threads wait by a virtual clock can wait by it, too."""
    stop = threading.Event()

    def wait():
        while not stop.is_set():
            CLOCK.sleep(0.01)

    with instant():
        threads = [threading.Thread(target=wait) for _ in range(2)]
        for thread in threads:
            thread.start()
        child = os.fork()
        if child == 0:
            CLOCK.sleep(1)
            os._exit(7)
        end = time.monotonic() + 20
        while (ended := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() < end:
            time.sleep(0.01)
        if ended[0] == 0:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        stop.set()
        for thread in threads:
            thread.join(5)
    assert os.waitstatus_to_exitcode(ended[1]) == 7


def ctrl_c():
    """Ctrl-C comes now."""
    signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("when", ["entering", "leaving"])
def test_a_fault_interrupted_on_the_way(when, monkeypatch):
    """Ctrl-C while a fault is put up or taken down comes when that is done, and leaves no fault behind."""

    @retry(max_attempts=1, name="interrupted")
    def call():
        return 1

    real = registry.recompile
    injection = inject("interrupted", faults.NetworkFailure())
    if when == "leaving":
        injection.__enter__()
    monkeypatch.setattr(registry, "recompile", lambda: (real(), ctrl_c()))
    with pytest.raises(KeyboardInterrupt):
        injection.__enter__() if when == "entering" else injection.remove()
    monkeypatch.undo()
    assert call() == 1
    assert ACTIVE == []
    assert STAND_INS.find is None


@pytest.mark.parametrize("when", ["entering", "leaving"])
def test_a_clock_interrupted_on_the_way(when, monkeypatch):
    """The same for a virtual clock: time, loops and sockets are as they were."""
    real = virtual_clock.forbidden

    @contextmanager
    def forbidden(reason):
        with real(reason):
            if when == "entering":
                ctrl_c()
            yield
            if when == "leaving":
                ctrl_c()

    monkeypatch.setattr(virtual_clock, "forbidden", forbidden)
    before = CLOCK.monotonic, asyncio.base_events.BaseEventLoop.time, socket.getaddrinfo
    with pytest.raises(KeyboardInterrupt), VirtualClock(autojump=True):
        assert when == "leaving"
    assert VirtualClock.in_use() is None
    assert (CLOCK.monotonic, asyncio.base_events.BaseEventLoop.time, socket.getaddrinfo) == before


def test_loops_follow_after_freezegun():
    """A loop whose class freezegun has given a `time` of its own follows the clock all the same."""
    with freeze_time("2026-01-01", real_asyncio=True):
        asyncio.run(asyncio.sleep(0))
    began = time.monotonic()
    with instant():
        asyncio.run(asyncio.sleep(60))
    assert time.monotonic() - began < 30


def test_who_computes_since_before_the_block():
    """A thread that computes since before the block, without a call, works: time waits for it."""

    def crunch():
        count = 0
        while count < 6_000_000:
            count += 1
        return count

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(crunch)
        time.sleep(0.05)
        with instant():
            assert timeout(5)(future.result)() == 6_000_000
