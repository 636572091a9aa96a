"""A durable queue whose process is killed loses nothing, and says what may have run twice."""

import logging
import os
import signal
import time

import pytest

from resilient import registry
from resilient.degradation.events import QueuedCallRepeated
from resilient.degradation.queues import QueuedCall, SqliteQueue

from .queue_helpers import WAIT, eventually, finished, jobs, process

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="processes cannot be killed here")


@pytest.fixture
def place(tmp_path):
    """Return the paths of a queue and of the log of what has run."""
    return tmp_path / "calls.db", tmp_path / "log"


@pytest.fixture
def successor(place):
    """Return a function that opens the queue of the process that died."""
    opened = []

    def open_queue(**options):
        opened.append(SqliteQueue(place[0], **jobs.OPTIONS | options))
        return opened[-1]

    yield open_queue
    for queue in opened:
        assert queue.stop(WAIT)


def killed(place, function, how):
    """Let a process queue a call and be killed; return the call's id."""
    out, code, err = finished(process("main", *place, function, "x", how))
    assert code == -signal.SIGKILL, err
    return out


def test_killed_before_it_ran(place, successor):
    """A call that was only queued is made once by the next process."""
    key = killed(place, "quick", "before")
    queue = successor()
    receipt = queue.receipt(key)
    assert (receipt.status, receipt.attempts, jobs.notes(place[1])) == ("queued", 0, [])
    queue.start()
    assert receipt.result(WAIT) == "did x"
    assert (receipt.repeated, receipt.attempts, jobs.notes(place[1])) == (0, 1, ["x"])


def test_killed_while_it_ran(place, successor, caplog):
    """A call whose process died while making it is made again, which event, log and receipt say."""
    caplog.set_level(logging.WARNING, "resilient.queue")
    key = killed(place, "fatal", "during")
    told = []
    with registry.subscribe(told.append, QueuedCallRepeated):
        queue = successor()
        queue.start()
        receipt = queue.receipt(key)
        assert receipt.result(WAIT) == "did x"
    assert (receipt.repeated, receipt.attempts, jobs.notes(place[1])) == (1, 2, ["x", "x"])
    assert [(event.id, event.call, event.attempt) for event in told] == [(key, "queue_jobs.fatal", 1)]
    assert "may have run before" in caplog.text


def test_killed_between_attempts(place, successor):
    """A call that waits for its next attempt keeps waiting, and is not said to be repeated."""
    key = killed(place, "flaky", "between")
    queue = successor()
    receipt = queue.receipt(key)
    assert (receipt.status, receipt.attempts) == ("queued", 1)
    due = queue._ledger.state(key).due
    assert 20 < due - time.time() < 40
    state = queue._ledger.live.get(key)
    soon = queue._ledger.state(key)
    object.__setattr__(soon, "due", time.time())
    assert queue._ledger.live.swap(key, state, soon.packed())
    queue._ledger.live.storage.flush_schedule()
    queue.start()
    assert receipt.result(WAIT) == "did x"
    assert (receipt.repeated, receipt.attempts, jobs.notes(place[1])) == (0, 2, ["x", "x"])


def test_killed_after_it_ran(place, successor):
    """An outcome is there for the next process."""
    key = killed(place, "quick", "work")
    receipt = successor().receipt(key)
    assert (receipt.result(0), receipt.status, receipt.attempts) == ("did x", "succeeded", 1)


@pytest.mark.parametrize("step", range(1, 19))
def test_killed_at_every_step(place, successor, step):
    """Whatever write to the storage comes next: once `put` has returned the call is made; more than once is said."""
    key = killed(place, "flaky", str(step))
    told = []
    with registry.subscribe(told.append, QueuedCallRepeated):
        queue = successor()
        queue.start()
        if key:
            assert queue.receipt(key).result(WAIT) == "did x"
        eventually(lambda: not len(queue))
    ran = jobs.notes(place[1])
    if key or ran:
        assert len(ran) in (2, 3)
    if len(ran) == 3:
        assert told
    assert queue.stop(WAIT)
    assert queue._ledger.live.listed() == set()


def test_silent_process(place, successor):
    """A process that gives no sign of life for the lease has its call taken over; the first outcome counts."""
    child = process("main", *place, "slow", "x", "silent")
    key = child.stdout.readline().strip()
    eventually(lambda: jobs.notes(place[1]))
    os.kill(child.pid, signal.SIGSTOP)
    try:
        queue = successor(lease=0.3)
        queue.start()
        receipt = queue.receipt(key)
        assert receipt.result(WAIT) == os.getpid()
        assert receipt.repeated == 1
    finally:
        os.kill(child.pid, signal.SIGKILL)
        finished(child)


def test_two_processes(place):
    """Two processes that share a file make each call once, none at the same time, and both read the outcomes."""
    queue = SqliteQueue(place[0], **jobs.OPTIONS)
    queue.stop()
    children = [process("serve", place[0], 16) for _ in range(2)]
    try:
        assert [child.stdout.readline().strip() for child in children] == ["ready", "ready"]
        receipts = [queue.put(QueuedCall.of(jobs.slow, (str(place[1]), str(number)))) for number in range(16)]
        makers = [receipt.result(WAIT) for receipt in receipts]
    finally:
        ends = [finished(child) for child in children]
    assert [end[1:] for end in ends] == [(0, ""), (0, "")]
    assert set(makers) == {child.pid for child in children}
    begun = [line.split()[1] for line in jobs.notes(place[1]) if line.startswith("begin")]
    assert sorted(begun, key=int) == [str(number) for number in range(16)]
    assert {receipt.attempts for receipt in receipts} == {1}
    assert queue.stop(WAIT)
