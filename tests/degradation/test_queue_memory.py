"""The queue in memory: calls are made later, with growing waits, until one attempt succeeds or the call is given up."""

import asyncio
import gc
import os
import signal
import threading
import time
import warnings
import weakref

import pytest

from resilient import CallTimeoutError, ConfigurationError, registry
from resilient.clock import CLOCK
from resilient.degradation.events import CallQueued, QueuedCallEnded, QueuedCallFailed
from resilient.degradation.queues import CallQueue, MemoryQueue, QueuedCall, QueuedCallStatus, QueueFullError
from resilient.errors import RejectedError, ResilienceError

from .queue_helpers import WAIT, eventually, finished, process


@pytest.fixture
def make():
    """Return a function that makes queues with short waits, which are stopped at the end."""
    made = []

    def queue(**options):
        made.append(MemoryQueue(**{"base_delay": 0.01, "max_delay": 0.02} | options))
        return made[-1]

    yield queue
    for one in made:
        assert one.stop(WAIT)


def failing(times, answer="done", error=ConnectionError):
    """Return a function that fails so many times and then answers; `.made` counts."""

    def call():
        call.made += 1
        if call.made <= times:
            raise error(call.made)
        return answer

    call.made = 0
    return call


def test_success_after_failures(make):
    """A call is made until it succeeds, and the receipt has the answer."""
    queue, call, told = make(), failing(3), []
    with registry.subscribe(told.append):
        receipt = queue.put(QueuedCall.of(call))
        assert receipt.result(WAIT) == "done"
    assert (receipt.status, receipt.attempts, call.made, len(queue)) == (QueuedCallStatus.SUCCEEDED, 4, 4, 0)
    assert [type(event) for event in told] == [CallQueued, *[QueuedCallFailed] * 3, QueuedCallEnded]
    assert {(event.name, event.id) for event in told} == {("memory", receipt.id)}
    assert [event.attempt for event in told[1:4]] == [1, 2, 3]
    assert 0 < told[1].delay <= 0.011 < told[3].delay <= 0.02
    assert (told[4].attempts, told[4].error) == (4, None)


def test_given_up(make):
    """After `give_up_after` the receipt raises the last error; the last attempt is made at that moment."""
    queue, call = make(give_up_after=0.1), failing(10**9)
    receipt = queue.put(QueuedCall.of(call))
    with pytest.raises(ConnectionError) as caught:
        receipt.result(WAIT)
    assert (receipt.status, receipt.attempts, caught.value.args) == ("failed", call.made, (call.made,))
    assert call.made >= 2
    assert "raise error" in caught.value.__notes__[0]


def test_given_up_by_another_clock(make):
    """Due times and `give_up_after` follow the injected clock."""

    class Source:
        now = 0.0

        def monotonic(self):
            return self.now

        sleep = staticmethod(time.sleep)
        asleep = staticmethod(asyncio.sleep)

    source, call = Source(), failing(10**9)
    with CLOCK.use(source):
        queue = make(give_up_after=100, base_delay=30, max_delay=60)
        receipt = queue.put(QueuedCall.of(call))
        for made, then in ((1, 70), (2, 100)):
            eventually(lambda made=made: (call.made, receipt.status) == (made, "queued"))
            source.now = then
        with pytest.raises(ConnectionError):
            receipt.result(WAIT)
        assert call.made == 3


def test_not_retryable(make):
    """An error that says so is not tried again."""

    class FinalError(Exception):
        def is_retryable(self):
            return False

    call = failing(5, error=FinalError)
    with pytest.raises(FinalError):
        make().put(QueuedCall.of(call)).result(WAIT)
    assert call.made == 1


def test_retry_after(make):
    """An error's `retry_after` decides the wait."""

    class BusyError(Exception):
        retry_after = 0.05

    told = []
    with registry.subscribe(told.append, QueuedCallFailed):
        make().put(QueuedCall.of(failing(1, error=BusyError))).result(WAIT)
    assert [event.delay for event in told] == [0.05]


def test_exit_from_a_worker(make):
    """SystemExit in a queued call ends that call, not the worker."""
    queue = make()
    with pytest.raises(ResilienceError, match="SystemExit"):
        queue.put(QueuedCall.of(failing(1, error=SystemExit))).result(WAIT)
    assert queue.put(QueuedCall.of(failing(0))).result(WAIT) == "done"


def test_full(make):
    """One call too many is refused then and there; a place becomes free when a call ends."""
    queue, gate = make(max_size=2), threading.Event()
    receipts = [queue.put(QueuedCall.of(gate.wait)) for _ in range(2)]
    with pytest.raises(QueueFullError) as caught:
        queue.put(QueuedCall.of(gate.wait))
    assert isinstance(caught.value, RejectedError)
    assert caught.value.is_retryable()
    assert str(caught.value) == "memory: the queue is full"
    gate.set()
    assert [receipt.result(WAIT) for receipt in receipts] == [True, True]
    assert queue.put(QueuedCall.of(gate.wait)).result(WAIT)


def test_limit_of_an_attempt(make):
    """An attempt that takes too long is abandoned, and the next one follows."""
    gate, made = threading.Event(), []

    def hangs_once():
        made.append(1)
        return len(made) > 1 or gate.wait(WAIT)

    receipt = make().put(QueuedCall.of(hangs_once, limit=0.05))
    assert receipt.result(WAIT) is True
    assert receipt.attempts == 2
    gate.set()


def test_workers(make):
    """So many calls as there are workers are made at once."""
    queue, together = make(workers=3), threading.Barrier(3)
    receipts = [queue.put(QueuedCall.of(together.wait, (WAIT,))) for _ in range(3)]
    assert sorted(receipt.result(WAIT) for receipt in receipts) == [0, 1, 2]


def test_receipt_in_threads_and_loops(make):
    """Threads and tasks of several loops wait for the same receipt."""
    queue, gate, seen = make(), threading.Event(), []
    receipt = queue.put(QueuedCall.of(lambda: gate.wait(WAIT) and "done"))

    async def wait():
        return await asyncio.gather(*(asyncio.wait_for(one(), WAIT) for one in [awaited] * 3))

    async def awaited():
        return await receipt

    bodies = [lambda: seen.append(receipt.result(WAIT))] * 2 + [lambda: seen.extend(asyncio.run(wait()))] * 2
    threads = [threading.Thread(target=body) for body in bodies]
    for thread in threads:
        thread.start()
    gate.set()
    for thread in threads:
        thread.join(WAIT)
    assert seen == ["done"] * 8


def test_no_outcome_in_time(make):
    """A wait that is too short raises CallTimeoutError; a wait in a task that is cancelled harms nobody."""
    gate = threading.Event()
    receipt = make().put(QueuedCall.of(gate.wait, (WAIT,)))
    with pytest.raises(CallTimeoutError, match="has not ended within"):
        receipt.result(0.01)

    async def cancelled():
        async with asyncio.timeout(0.01):
            await receipt

    with pytest.raises(TimeoutError):
        asyncio.run(cancelled())
    assert (receipt.done, receipt._listeners) == (False, [])
    gate.set()
    assert receipt.result(WAIT) is True


def test_blocking_a_loop(make):
    """`result()` inside a running loop warns, as it stops the loop."""
    gate = threading.Event()
    receipt = make().put(QueuedCall.of(gate.wait, (WAIT,)))

    async def block():
        threading.Timer(0.05, gate.set).start()
        return receipt.result(WAIT)

    with pytest.warns(RuntimeWarning, match=r"Receipt\.result"):
        assert asyncio.run(block())


def test_async_in_its_own_loop(make):
    """An async function runs in the loop it was queued from, while that runs."""
    loops = []

    async def call():
        loops.append(asyncio.get_running_loop())
        if len(loops) < 3:
            raise ConnectionError
        return "done"

    async def main():
        assert await make().put(QueuedCall.of(call)) == "done"
        assert set(loops) == {asyncio.get_running_loop()}

    asyncio.run(main())


def test_async_after_its_loop(make):
    """When that loop has ended, an async function runs in the worker's."""
    loops = []

    async def call():
        loops.append(asyncio.get_running_loop())
        if len(loops) == 1:
            await asyncio.sleep(WAIT)
        return "done"

    async def main():
        receipt = make().put(QueuedCall.of(call))
        while not loops:
            await asyncio.sleep(0.001)
        return receipt

    receipt = asyncio.run(main())
    assert receipt.result(WAIT) == "done"
    assert len(set(map(id, loops))) == 2


def test_nothing_is_kept_alive(make):
    """After the end, neither queue nor worker nor receipt keeps the call's arguments or frames."""

    class Argument:
        pass

    def fail(argument):
        raise ValueError

    for function in (id, fail):
        argument = Argument()
        gone = weakref.ref(argument)
        receipt = make(give_up_after=0).put(QueuedCall.of(function, (argument,)))
        del argument
        eventually(lambda receipt=receipt: receipt.done)
        gc.collect()
        eventually(lambda gone=gone: gone() is None)


def test_stop_and_start(make):
    """Stopping is quick and may be done twice; what waits is made after `start()`."""
    queue, call = make(base_delay=0.05, max_delay=0.05), failing(1)
    receipt = queue.put(QueuedCall.of(call))
    eventually(lambda: call.made)
    begun = time.monotonic()
    assert queue.stop()
    assert queue.stop()
    assert time.monotonic() - begun < 1
    late = queue.put(QueuedCall.of(failing(0)))
    time.sleep(0.1)
    assert (receipt.status, late.status, call.made, len(queue)) == ("queued", "queued", 1, 2)
    queue.start()
    queue.start()
    assert (receipt.result(WAIT), late.result(WAIT)) == ("done", "done")


def test_stop_while_a_call_runs(make):
    """Stopping does not wait for a call beyond `timeout`, says so, and a new worker can begin beside it."""
    queue, gate = make(), threading.Event()
    receipt = queue.put(QueuedCall.of(gate.wait, (WAIT,)))
    eventually(lambda: receipt.status == "running")
    assert not queue.stop(0.01)
    queue.start()
    assert queue.put(QueuedCall.of(failing(0))).result(WAIT) == "done"
    gate.set()
    assert receipt.result(WAIT)


def test_stop_from_within(make):
    """A queued call may stop its own queue."""
    queue = make()
    assert queue.put(QueuedCall.of(queue.stop)).result(WAIT) in (True, False)


def test_interpreter_exit():
    """The interpreter ends promptly although calls wait and run, and an async one has a loop open."""
    code = """
import asyncio, time
from resilient.degradation.queues import MemoryQueue, QueuedCall
queue = MemoryQueue(workers=3)
async def hang(): await asyncio.sleep(60)
for call in (time.sleep, hang): queue.put(QueuedCall.of(call, (60,) if call is time.sleep else ()))
queue.put(QueuedCall.of(divmod, (1, 0)))
time.sleep(0.1)
"""
    begun = time.monotonic()
    assert finished(process(code=code)) == ("", 0, "")
    assert time.monotonic() - begun < 10


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_fork(make):
    """A forked child has an empty, working queue; the parent's calls stay with the parent."""
    queue, gate = make(), threading.Event()
    receipt = queue.put(QueuedCall.of(gate.wait, (WAIT,)))
    eventually(lambda: receipt.status == "running")
    with queue._changed, receipt._changed, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        signal.alarm(int(WAIT))  # a child that hangs must not keep the test waiting
        code = 1
        try:
            assert len(queue) == 0
            assert queue.put(QueuedCall.of(divmod, (7, 2))).result(5) == (3, 1)
            with pytest.raises(ResilienceError, match="parent"):
                receipt.result(5)
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    gate.set()
    assert receipt.result(WAIT)


BAD = [
    *(("max_size", value) for value in (0, -1, 1.5, None, True)),
    *(("workers", value) for value in (0, "1", None)),
    *(("give_up_after", value) for value in (-1, None, "1")),
    *(("base_delay", value) for value in (0, -1, None)),
    *(("max_delay", value) for value in (0, 0.001, None)),
    *(("multiplier", value) for value in (0.5, None)),
    ("name", " "),
]


@pytest.mark.parametrize(("option", "value"), BAD)
def test_bad_options(option, value):
    """An option that cannot work is refused by name and value."""
    with pytest.raises(ConfigurationError) as caught:
        MemoryQueue(**{option: value})
    assert str(caught.value).startswith(f"{option}={value!r}: ")
    with pytest.raises(TypeError):
        MemoryQueue(name=3)


def test_protocol(make):
    """A MemoryQueue is a CallQueue, true even when empty, and says what it is."""
    queue = make()
    assert isinstance(queue, CallQueue)
    assert queue
    assert repr(queue) == "<memory queue memory: 0 calls>"
