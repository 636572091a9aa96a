"""Bulkhead: never more than `max_concurrent` inside, a fair queue, and waiters that leave no trace."""

import asyncio
import contextlib
import threading
import time

import pytest

from resilient import (
    BulkheadFullError,
    ConfigurationError,
    bulkhead,
)

from .helpers import Failing, Taken, aeventually, crowd, eventually, idle, outcome, run

# The limit


@pytest.mark.parametrize("places", [1, 3])
def test_never_more_than_the_limit_inside(places):
    """Threads, tasks and two event loops together are never more than `max_concurrent` inside, and all get in."""
    bulk = bulkhead("b", max_concurrent=places)
    lock, now, peak = threading.Lock(), [0], [0]

    def move(step):
        with lock:
            now[0] += step
            peak[0] = max(peak[0], now[0])

    def body():
        move(1)
        time.sleep(0.001)
        move(-1)

    async def abody():
        move(1)
        await asyncio.sleep(0.001)
        move(-1)

    def guarded():
        for _ in range(5):
            bulk.call(body)

    async def aguarded():
        for _ in range(5):
            await bulk.acall(abody)

    assert crowd(guarded, aguarded, threads=6, loops=2, tasks=10) == [None] * 26
    assert peak[0] == places
    assert idle(bulk, places)


def test_the_limit_is_reached(face):
    """All places can be taken at the same time."""
    bulk = bulkhead("b", max_concurrent=5, max_wait=0)
    with Taken(bulk, 4):
        assert bulk.available_permits == 1
        assert face.via(bulk, face.function(Failing(None))) == "ok"
    assert idle(bulk, 5)


def test_full_bulkhead_rejects_at_once_without_waiting(face):
    """With `max_wait=0` a call that finds no place is refused at once and not made."""
    bulk, body = bulkhead("b", max_concurrent=1, max_wait=0), Failing(None)
    with Taken(bulk):
        error = outcome(face.via, bulk, face.function(body))
    assert isinstance(error, BulkheadFullError)
    assert (error.name, error.is_retryable(), body.calls) == ("b", True, 0)
    assert idle(bulk, 1)


def test_waiting_ends_after_max_wait(face):
    """A call waits `max_wait` for a place, then is refused and leaves no trace."""
    bulk = bulkhead("b", max_concurrent=1, max_wait=0.05)
    with Taken(bulk):
        started = time.monotonic()
        error = outcome(face.via, bulk, face.function(Failing(None)))
        assert time.monotonic() - started >= 0.045
        assert isinstance(error, BulkheadFullError)
        assert (bulk.active_requests, bulk.queue_length) == (1, 0)
    assert idle(bulk, 1)
    assert face.via(bulk, face.function(Failing(None))) == "ok"


def test_waiting_ends_with_a_place(face):
    """A call that waits gets the place as soon as it is free."""
    bulk = bulkhead("b", max_concurrent=1)
    with Taken(bulk) as taken:
        threading.Timer(0.03, taken.inside.release.set).start()
        assert face.via(bulk, face.function(Failing(None))) == "ok"
    assert idle(bulk, 1)


def test_max_queue_bounds_the_waiters(face):
    """With `max_queue` waiters in line the next call is refused at once."""
    bulk = bulkhead("b", max_concurrent=1, max_queue=1)
    with Taken(bulk) as taken:
        waiter = threading.Thread(target=bulk.call, args=(Failing(None),), daemon=True)
        waiter.start()
        eventually(lambda: bulk.queue_length == 1)
        assert isinstance(outcome(face.via, bulk, face.function(Failing(None))), BulkheadFullError)
        assert bulk.queue_length == 1
        taken.leave()
        waiter.join(5)
    assert idle(bulk, 1)


def test_max_queue_zero_never_waits(face):
    """`max_queue=0` lets nobody wait, whatever `max_wait` says."""
    bulk = bulkhead("b", max_concurrent=1, max_queue=0, max_wait=30)
    with Taken(bulk):
        assert isinstance(outcome(face.via, bulk, face.function(Failing(None))), BulkheadFullError)


@pytest.mark.parametrize("error", [ConnectionError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_every_end_gives_the_place_back(error):
    """However a call ends, its place is free afterwards."""
    bulk = bulkhead("b", max_concurrent=1, max_wait=0)
    raised = error()
    for _ in range(3):
        assert outcome(bulk.call, Failing(raised)) is raised
    assert idle(bulk, 1)


def test_block_takes_a_place(face):
    """`with bulkhead:` holds a place for the block, also when the block raises."""
    bulk = bulkhead("b", max_concurrent=1, max_wait=0)
    assert face.block(bulk, lambda: (bulk.active_requests, bulk.available_permits)) == (1, 0)
    with pytest.raises(ConnectionError):
        face.block(bulk, Failing())
    with Taken(bulk), pytest.raises(BulkheadFullError):
        face.block(bulk, Failing(None))
    assert idle(bulk, 1)


def test_metrics(face):
    """The numbers of a bulkhead are readable as properties and as a frozen snapshot."""
    bulk = bulkhead("b", max_concurrent=2, max_wait=0)
    with Taken(bulk, 2):
        outcome(face.via, bulk, face.function(Failing(None)))
        metrics = bulk.get_metrics()
        assert (bulk.active_requests, bulk.available_permits, bulk.queue_length) == (2, 0, 0)
    assert (metrics.active_requests, metrics.available_permits, metrics.queue_length) == (2, 0, 0)
    with pytest.raises(AttributeError):
        metrics.active_requests = 0


@pytest.mark.parametrize("options", [{"max_concurrent": 0}, {"max_wait": -1}, {"max_queue": -1}])
def test_bad_values_are_refused(options):
    """A value that makes no sense raises ConfigurationError."""
    with pytest.raises(ConfigurationError):
        bulkhead("b", **options)


# The queue


def test_threads_are_served_in_order():
    """Waiting threads get the place in the order in which they came."""
    bulk, served = bulkhead("b", max_concurrent=1), []
    threads = []
    with Taken(bulk) as taken:
        for number in range(8):
            threads.append(threading.Thread(target=bulk.call, args=(served.append, number), daemon=True))
            threads[-1].start()
            eventually(lambda count=number + 1: bulk.queue_length == count)
        taken.leave()
        for thread in threads:
            thread.join(5)
    assert served == list(range(8))


def test_tasks_are_served_in_order():
    """Waiting tasks get the place in the order in which they came."""
    bulk, served = bulkhead("b", max_concurrent=1), []

    async def body(number):
        await asyncio.sleep(0)
        served.append(number)

    async def go():
        async with bulk:
            tasks = []
            for number in range(20):
                tasks.append(asyncio.ensure_future(bulk.acall(body, number)))
                await aeventually(lambda count=number + 1: bulk.queue_length == count)
        await asyncio.gather(*tasks)

    run(go())
    assert served == list(range(20))


def test_threads_and_tasks_stand_in_one_line():
    """Threads and tasks of two loops wait in one line, first come first served."""
    bulk, served = bulkhead("b", max_concurrent=1), []

    async def body(number):
        served.append(number)

    def wait_sync(number):
        bulk.call(served.append, number)

    def wait_async(number):
        run(bulk.acall(body, number))

    threads = []
    with Taken(bulk) as taken:
        for number in range(8):
            target = wait_async if number % 2 else wait_sync
            threads.append(threading.Thread(target=target, args=(number,), daemon=True))
            threads[-1].start()
            eventually(lambda count=number + 1: bulk.queue_length == count)
        taken.leave()
        for thread in threads:
            thread.join(5)
    assert served == list(range(8))
    assert idle(bulk, 1)


def test_newcomers_do_not_overtake():
    """A call that comes while others wait stands behind them, although a place just became free."""
    bulk, served = bulkhead("b", max_concurrent=1), []

    async def body(name):
        served.append(name)

    async def go():
        async with bulk:
            waiter = asyncio.ensure_future(bulk.acall(body, "waiter"))
            await aeventually(lambda: bulk.queue_length == 1)
        await bulk.acall(body, "newcomer")
        await waiter

    run(go())
    assert served == ["waiter", "newcomer"]


def test_cancelled_waiter_leaves_no_trace():
    """A waiter that is cancelled is out of the line, and the next one gets the place."""
    bulk = bulkhead("b", max_concurrent=1)

    async def go():
        async with bulk:
            waiters = [asyncio.ensure_future(bulk.acall(asyncio.sleep, 0)) for _ in range(3)]
            await aeventually(lambda: bulk.queue_length == 3)
            waiters[1].cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiters[1]
            assert bulk.queue_length == 2
        await asyncio.gather(waiters[0], waiters[2])

    run(go())
    assert idle(bulk, 1)


@pytest.mark.parametrize("first", ["cancel", "release"])
def test_waiter_cancelled_while_being_served_hands_on(first):
    """A waiter cancelled in the very moment it is given the place hands the place to the next."""
    bulk = bulkhead("b", max_concurrent=1)

    async def go():
        await bulk.__aenter__()
        waiters = [asyncio.ensure_future(bulk.acall(asyncio.sleep, 0, number)) for number in range(3)]
        await aeventually(lambda: bulk.queue_length == 3)
        if first == "cancel":
            waiters[0].cancel()
            await bulk.__aexit__(None, None, None)
        else:
            await bulk.__aexit__(None, None, None)
            waiters[0].cancel()
        results = await asyncio.gather(*waiters, return_exceptions=True)
        assert isinstance(results[0], asyncio.CancelledError)
        assert results[1:] == [1, 2]

    run(go())
    assert idle(bulk, 1)


def test_waiter_timed_out_by_its_caller_leaves_no_trace():
    """A waiter under `asyncio.timeout`, again and again, leaves neither a place nor a line entry behind."""
    bulk = bulkhead("b", max_concurrent=1)

    async def go():
        async with bulk:
            for _ in range(20):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.002):
                        await bulk.acall(asyncio.sleep, 0)
        assert idle(bulk, 1)

    run(go())


def test_races_of_timeouts_and_releases_lose_no_place():
    """Hundreds of waits that end about when a place becomes free lose no place and admit nobody twice."""
    bulk = bulkhead("b", max_concurrent=2, max_wait=0.003)

    def guarded():
        for _ in range(15):
            outcome(bulk.call, time.sleep, 0.002)

    async def aguarded():
        for _ in range(15):
            with contextlib.suppress(BulkheadFullError):
                await bulk.acall(asyncio.sleep, 0.002)

    crowd(guarded, aguarded, threads=6, loops=2, tasks=4)
    assert idle(bulk, 2)
    assert [bulk.call(int), bulk.call(int)] == [0, 0]
