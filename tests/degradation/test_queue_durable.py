"""What durable queues promise besides surviving: outcomes to be read anywhere, and clear errors."""

import asyncio
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import warnings
from dataclasses import replace

import pytest

from resilient import ConfigurationError, registry
from resilient.degradation.events import CallQueued, QueuedCallEnded, QueuedCallFailed
from resilient.degradation.queues import (
    CallQueue,
    DurableQueue,
    QueuedCall,
    QueueFullError,
    RedisQueue,
    SqliteQueue,
    stores,
)
from resilient.errors import CallTimeoutError, ResilienceError, UnknownNameError

from .queue_helpers import WAIT, eventually, finished, jobs, process


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory):
    """Start a Redis server of our own on a free port of this machine."""
    server = shutil.which("redis-server")
    if server is None:
        if os.environ.get("RESILIENT_REQUIRE_SERVERS"):
            pytest.fail("redis-server is not on PATH, and RESILIENT_REQUIRE_SERVERS is set")
        pytest.skip("redis-server is not on PATH")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path_factory.mktemp("redis"))]
    running = subprocess.Popen([server, *options], stdout=subprocess.DEVNULL)  # noqa: S603 - a server of our own

    def answers():
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    try:
        eventually(answers)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        running.terminate()
        running.wait(WAIT)


@pytest.fixture(params=["sqlite", "redis"])
def make(request, tmp_path):
    """Return a function that opens the same durable queue each time; all are stopped at the end."""
    url = request.getfixturevalue("redis_url") if request.param == "redis" else None
    name = f"queue-{os.urandom(4).hex()}.{request.param}"
    opened = []

    def open_queue(start=True, **options):
        options = {"name": name} | jobs.OPTIONS | options
        queue = SqliteQueue(tmp_path / "calls.db", **options) if url is None else RedisQueue(url, **options)
        opened.append(queue)
        if not start:
            queue.stop()
        return queue

    yield open_queue
    for queue in opened:
        assert queue.stop(WAIT)


@pytest.fixture
def log(tmp_path):
    """Return the path where jobs note that they run."""
    return str(tmp_path / "log")


def test_success_after_failures(make, log):
    """A call is made until it succeeds; receipt, events and length tell of it."""
    queue, told = make(), []
    with registry.subscribe(told.append):
        receipt = queue.put(QueuedCall.of(jobs.flaky, (log, "x")))
        assert receipt.result(WAIT) == "did x"
    assert (receipt.status, receipt.attempts, receipt.repeated, len(queue)) == ("succeeded", 2, 0, 0)
    assert [type(event) for event in told] == [CallQueued, QueuedCallFailed, QueuedCallEnded]
    assert {(event.name, event.id, event.call) for event in told} == {(queue.name, receipt.id, "queue_jobs.flaky")}
    assert isinstance(queue, CallQueue)
    assert queue


def test_outcome_elsewhere(make, log):
    """A queue opened later reads the outcome by the receipt's id, without making calls itself."""
    key = make().put(QueuedCall.of(jobs.quick, (log, "x")))
    key.result(WAIT)
    other = make(start=False).receipt(key.id)
    assert (other.result(0), other.status, other.attempts) == ("did x", "succeeded", 1)
    with pytest.raises(UnknownNameError, match="no queued call has the id 'nothing'"):
        make(start=False).receipt("nothing")


def test_receipt_follows_another_queue(make, log):
    """A receipt learns of a call that another process makes: waiting in a thread or a loop, or being asked."""
    reader, gate = make(start=False), make(start=False)
    receipt = reader.put(QueuedCall.of(jobs.quick, (log, "x")))
    assert reader.receipt(receipt.id) is receipt
    with pytest.raises(CallTimeoutError):
        receipt.result(0.05)
    assert receipt.status == "queued"
    threading.Timer(0.05, gate.start).start()

    async def wait():
        return await asyncio.wait_for(awaited(), WAIT)

    async def awaited():
        return await receipt

    assert asyncio.run(wait()) == receipt.result(0) == "did x"
    assert receipt.status == "succeeded"


def test_given_up(make):
    """A call that is given up raises its last error, here and in another process."""
    receipt = make(give_up_after=0.1).put(QueuedCall.of(divmod, (1, 0)))
    with pytest.raises(ZeroDivisionError):
        receipt.result(WAIT)
    assert receipt.attempts >= 1
    with pytest.raises(ZeroDivisionError) as caught:
        make(start=False).receipt(receipt.id).result(0)
    assert "failed here" in caught.value.__notes__[0]


def test_given_up_while_nobody_worked(make, log):
    """A call that nobody could make before it was to be given up is made once; one that failed before is not."""
    queue = make(start=False, give_up_after=0)
    receipts = [queue.put(QueuedCall.of(jobs.quick, (log, tag))) for tag in "xy"]
    for attempts, receipt in enumerate(receipts):
        state = queue._ledger.live.get(receipt.id)
        late = replace(queue._ledger.state(receipt.id), deadline=time.time() - 60, attempts=attempts)
        assert queue._ledger.live.swap(receipt.id, state, late.packed())
    queue.start()
    assert receipts[0].result(WAIT) == "did x"
    with pytest.raises(CallTimeoutError, match="given up"):
        receipts[1].result(WAIT)
    assert (jobs.notes(log), receipts[1].attempts) == (["x"], 1)


def test_full(make, log):
    """One call too many is refused then and there."""
    queue = make(start=False, max_size=2)
    receipts = [queue.put(QueuedCall.of(jobs.quick, (log, "x"))) for _ in range(2)]
    with pytest.raises(QueueFullError):
        queue.put(QueuedCall.of(jobs.quick, (log, "x")))
    assert len(queue) == 2
    queue.start()
    assert [receipt.result(WAIT) for receipt in receipts] == ["did x"] * 2


def test_what_cannot_be_pickled(make, log):
    """Such a call is refused at the caller, naming what cannot be pickled and no values, and nothing is queued."""
    queue = make(start=False)
    for call, what in [
        (QueuedCall.of(lambda: 1), "the function"),
        (QueuedCall.of(jobs.quick, (log, threading.Lock())), r"argument 2 \(a lock\)"),
        (QueuedCall.of(jobs.quick, (log,), {"tag": threading.Lock()}), r"argument tag \(a lock\)"),
    ]:
        with pytest.raises(ConfigurationError, match=f"{what} cannot be pickled.*MemoryQueue") as caught:
            queue.put(call)
        assert log not in str(caught.value)
    assert len(queue) == len(queue._ledger.calls) == 0
    assert queue._ledger.live.listed() == set()


def test_answers_that_cannot_be_pickled(make, log):
    """This process has such an answer or error itself, another one a clear error."""
    queue, other = make(give_up_after=0), make(start=False)
    receipt = queue.put(QueuedCall.of(jobs.unpicklable, (log,)))
    assert receipt.result(WAIT)() == log
    with pytest.raises(ConfigurationError, match="succeeded, but its answer, a function, cannot be pickled"):
        other.receipt(receipt.id).result(0)
    receipt = queue.put(QueuedCall.of(jobs.strange))
    with pytest.raises(jobs.StrangeError):
        receipt.result(WAIT)
    with pytest.raises(ResilienceError, match="StrangeError: 1"):
        other.receipt(receipt.id).result(0)


def test_function_that_is_gone(make, log, monkeypatch):
    """A call whose function has been renamed ends as failed, saying so."""
    queue = make(start=False, give_up_after=0.1)
    receipt = queue.put(QueuedCall.of(jobs.quick, (log, "x")))
    monkeypatch.delattr(jobs, "quick")
    queue.start()
    with pytest.raises(ConfigurationError, match=r"queue_jobs\.quick cannot be made any more.*quick"):
        receipt.result(WAIT)
    assert (receipt.status, len(queue)) == ("failed", 0)


def test_async(make, log):
    """An async function runs in the loop it was queued from, or in the worker's."""

    async def main():
        return await make().put(QueuedCall.of(jobs.aquick, (log, "x")))

    assert asyncio.run(main()) == "did x"
    assert make().put(QueuedCall.of(jobs.aquick, (log, "y"))).result(WAIT) == "did y"


def test_many_at_once(make, log):
    """Several workers of several queues make each call once."""
    queues = [make(workers=2), make(workers=2)]
    receipts = [queues[number % 2].put(QueuedCall.of(jobs.quick, (log, str(number)))) for number in range(30)]
    assert [receipt.result(WAIT) for receipt in receipts] == [f"did {number}" for number in range(30)]
    assert sorted(jobs.notes(log), key=int) == [str(number) for number in range(30)]


def test_outcomes_are_forgotten(make, log):
    """An outcome is removed after `result_ttl`, which a receipt that comes too late says."""
    queue = make(result_ttl=0.05)
    receipt = queue.put(QueuedCall.of(jobs.quick, (log, "x")))
    late = make(start=False)._new_receipt(receipt.id, "late")
    receipt.result(WAIT)
    time.sleep(0.06)
    queue._next_sweep = 0.0
    eventually(lambda: not len(queue._ledger.done))
    with pytest.raises(UnknownNameError):
        make(start=False).receipt(receipt.id)
    with pytest.raises(UnknownNameError, match="forgotten"):
        late.result(WAIT)


def test_leftovers(make, log):
    """What a process left half done is cleared up: payloads nobody knows, outcomes that nothing would remove."""
    queue = make(start=False)
    ledger = queue._ledger
    ledger.calls.put("0" * 32, b"old")
    young = f"{int(time.time() * 1e6):014x}" + "0" * 18
    ledger.calls.put(young, b"young")
    ledger.done.put("1" * 32, b"outcome")
    queue.start()
    queue.put(QueuedCall.of(jobs.quick, (log, "x"))).result(WAIT)
    assert ledger.calls.keys() == [young]
    assert "1" * 32 in ledger.done.listed()


def test_storage_trouble(make, log, monkeypatch, caplog):
    """Errors of the storage are logged, and the work goes on when they are over."""
    monkeypatch.setattr(sys.modules["resilient.degradation.queues.durable"], "_TROUBLE", 0.01)
    queue = make()
    original, left = queue._ledger.done.add, [2]

    def add(*args):
        if left[0]:
            left[0] -= 1
            raise OSError("the disk is full")
        return original(*args)

    queue._ledger.done.add = add
    assert queue.put(QueuedCall.of(jobs.quick, (log, "x"))).result(WAIT) == "did x"
    assert jobs.notes(log) == ["x"]
    assert caplog.text.count("the disk is full") >= 2


def test_stop_twice(make, log):
    """Stopping is quick, and may be done twice; a call under way is waited for only so long."""
    queue = make()
    receipt = queue.put(QueuedCall.of(time.sleep, (0.2,)))
    eventually(lambda: receipt.status == "running")
    assert not queue.stop(0.01)
    assert queue.stop(WAIT)
    begun = time.monotonic()
    assert queue.stop()
    assert time.monotonic() - begun < 1
    assert receipt.result(WAIT) is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_fork(make, log):
    """Forked children work with connections and locks of their own, whatever the parent's threads were at."""
    queue = make(workers=2)
    receipts = [queue.put(QueuedCall.of(jobs.quick, (log, f"p{number}"))) for number in range(40)]
    children = [forked(queue, log, f"c{number}") for number in range(8)]
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 8
    assert [receipt.result(WAIT) for receipt in receipts] == [f"did p{number}" for number in range(40)]
    assert sorted(jobs.notes(log)) == sorted([f"p{n}" for n in range(40)] + [f"c{n}" for n in range(8)])


def forked(queue, log, tag):
    """Fork a child that makes one call of its own, while a lock of the queue is held; return its number."""
    with queue._changed, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child:
        return child
    signal.alarm(int(WAIT))  # a child that hangs must not keep the test waiting
    code = 1
    try:
        assert queue.put(QueuedCall.of(jobs.quick, (log, tag))).result(WAIT) == f"did {tag}"
        assert queue.stop(WAIT)
        code = 0
    finally:
        os._exit(code)


def test_interpreter_exit(tmp_path):
    """The interpreter ends promptly although a call runs, and the next one finds the call."""
    code = f"""
import time, queue_jobs
from resilient.degradation.queues import QueuedCall, SqliteQueue
receipt = SqliteQueue({str(tmp_path / "calls.db")!r}).put(QueuedCall.of(time.sleep, (60,)))
while receipt.status != "running": time.sleep(0.01)
print(receipt.id)
"""
    begun = time.monotonic()
    key, code, err = finished(process(code=code))
    assert (code, err) == (0, "")
    assert time.monotonic() - begun < 10
    queue = SqliteQueue(tmp_path / "calls.db")
    queue.stop()
    assert queue.receipt(key).status == "running"


@pytest.mark.parametrize("path", ["", ":memory:"])
def test_bad_paths(path, tmp_path):
    """A queue in a file needs a file."""
    with pytest.raises(ConfigurationError, match=r"^path="):
        SqliteQueue(path)
    with pytest.raises(ConfigurationError, match="cannot be used as an SQLite file"):
        SqliteQueue(tmp_path / "no such folder" / "calls.db")


def test_missing_packages(monkeypatch, tmp_path):
    """Without huey or redis, the error says what to install."""
    monkeypatch.setitem(sys.modules, "huey", None)
    with pytest.raises(ConfigurationError, match=r"needs huey: pip install 'resilient-toolkit\[queue\]'"):
        SqliteQueue(tmp_path / "calls.db")
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ConfigurationError, match=r"needs redis: pip install 'resilient-toolkit\[redis\]'"):
        RedisQueue("redis://localhost")


def test_summer_time(monkeypatch):
    """Moments on the schedule are exact also in the hour that the clocks show twice, in a storage that uses mktime."""
    if not hasattr(time, "tzset"):
        pytest.skip("the time zone cannot be set here")
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        for when in (1761437700.25, 1761441300.25):  # 02:15 and 02:15 an hour later, on 26 October 2025
            moment = stores._moment(when)
            assert time.mktime(moment.timetuple()) + moment.microsecond * 1e-6 == when == moment.timestamp()
    finally:
        monkeypatch.undo()
        time.tzset()


def test_options(tmp_path):
    """Options that cannot work are refused by name; the file is durable in earnest."""
    for option in ("lease", "poll_interval", "result_ttl", "max_size"):
        with pytest.raises(ConfigurationError, match=f"^{option}=0"):
            SqliteQueue(tmp_path / "calls.db", **{option: 0})
    queue = SqliteQueue(tmp_path / "calls.db")
    assert queue._ledger.live.storage.conn.execute("pragma synchronous").fetchone() == (2,)
    assert isinstance(queue, DurableQueue)
    queue.stop()
    with sqlite3.connect(tmp_path / "calls.db") as connection:
        assert connection.execute("pragma journal_mode").fetchone() == ("wal",)
    connection.close()
