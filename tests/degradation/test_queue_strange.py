"""Queues among calls, errors, processes and files stranger than foreseen: nothing hangs, and nothing is lost."""

import asyncio
import dataclasses
import errno
import gc
import hashlib
import logging
import os
import pickle
import sqlite3
import stat
import sys
import threading
import time
import weakref

import pytest

from resilient import CallTimeoutError, ConfigurationError, deadline
from resilient.clock import CLOCK
from resilient.degradation.queues import MemoryQueue, QueuedCall, RedisQueue, SqliteQueue, owners
from resilient.degradation.queues.ledger import Outcome
from resilient.errors import ResilienceError

from .queue_helpers import WAIT, eventually, finished, jobs, process


@pytest.fixture
def make(tmp_path):
    """Return a function that opens the same SQLite queue each time; all are stopped at the end."""
    opened = []

    def open_queue(start=True, **options):
        opened.append(SqliteQueue(tmp_path / "calls.db", **jobs.OPTIONS | options))
        if not start:
            opened[-1].stop()
        return opened[-1]

    yield open_queue
    for queue in opened:
        assert queue.stop(WAIT)


@pytest.fixture(params=["memory", "sqlite"])
def any_queue(request, make):
    """Return a queue of either kind, with short waits and a short life of calls."""
    options = {"base_delay": 0.01, "max_delay": 0.02, "give_up_after": 0.1}
    queue = make(**options) if request.param == "sqlite" else MemoryQueue(**options)
    yield queue
    assert queue.stop(WAIT)


# Strange errors -------------------------------------------------------------------------------------


def test_errors_that_refuse_attributes(any_queue):
    """A frozen exception, and one whose `retry_after` raises, end their calls, and no worker."""
    for function, kind in ((jobs.frozen, jobs.FrozenError), (jobs.moody, jobs.MoodyError)):
        receipt = any_queue.put(QueuedCall.of(function))
        with pytest.raises(kind):
            receipt.result(WAIT)
        assert receipt.repeated == 0
    assert any_queue.put(QueuedCall.of(divmod, (7, 2))).result(WAIT) == (3, 1)
    assert len(any_queue) == 0


def test_trouble_within_the_queue(any_queue, monkeypatch):
    """Whatever goes wrong in the queue itself, the receipt is settled, and the worker goes on."""
    calls = iter([1])

    def delay(*_):
        if next(calls, None):
            raise LookupError("a defect")

    monkeypatch.setattr(type(any_queue.pace), "delay", delay)
    with pytest.raises(ResilienceError, match="could not be made: LookupError: a defect"):
        any_queue.put(QueuedCall.of(divmod, (1, 0))).result(WAIT)
    assert any_queue.put(QueuedCall.of(divmod, (7, 2))).result(WAIT) == (3, 1)
    assert len(any_queue) == 0


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError])
def test_exits_are_not_passed_on(any_queue, kind):
    """What would end the thread or task of whoever waits is an error that names it."""
    receipt = any_queue.put(QueuedCall.of(jobs.leave, (kind,)))
    with pytest.raises(ResilienceError, match=kind.__name__) as caught:
        receipt.result(WAIT)
    assert type(caught.value.__cause__) is kind

    async def wait():
        await receipt

    with pytest.raises(ResilienceError, match=kind.__name__):
        asyncio.run(wait())


def test_receipt_keeps_no_frames(any_queue):
    """The frames that the error passes through when it is raised are not kept alive by the receipt."""

    class Local:
        pass

    receipt = any_queue.put(QueuedCall.of(divmod, (1, 0)))

    def caller():
        local = Local()
        with pytest.raises(ZeroDivisionError):
            receipt.result(WAIT)
        return weakref.ref(local)

    gone = caller()
    gc.collect()
    assert gone() is None


def test_given_up_is_a_warning(any_queue, caplog):
    """A call that is given up is seen in a log of warnings."""
    caplog.set_level(logging.WARNING, "resilient.queue")
    with pytest.raises(ZeroDivisionError):
        any_queue.put(QueuedCall.of(divmod, (1, 0))).result(WAIT)
    eventually(lambda: [r for r in caplog.records if getattr(r, "event", "") == "queue.call_given_up"])
    assert "is given up" in caplog.text


def test_no_attempt_later_than_it_should_be():
    """Of a call in memory, the first attempt is made however late, and no other one."""

    class Source:
        now = 0.0

        def monotonic(self):
            return self.now

        sleep = staticmethod(time.sleep)
        asleep = staticmethod(asyncio.sleep)

    source, made = Source(), []

    def fail():
        made.append(source.now)
        raise ConnectionError

    with CLOCK.use(source):
        queue = MemoryQueue(give_up_after=10, base_delay=5, max_delay=5)
        queue.stop()
        receipt, late = queue.put(QueuedCall.of(fail)), QueuedCall.of(divmod, (7, 2))
        late = queue.put(late)
        queue.start()
        eventually(lambda: receipt.attempts == 1 and receipt.status == "queued")
        queue.stop()
        second = queue.put(QueuedCall.of(divmod, (9, 2)))
        source.now = 100.0
        queue.start()
        with pytest.raises(ConnectionError):
            receipt.result(WAIT)
        assert (late.result(WAIT), second.result(WAIT), made) == ((3, 1), (4, 1), [0.0])
        assert queue.stop(WAIT)


@pytest.mark.parametrize("value", [5, len, "x", None])
def test_what_is_no_call(any_queue, value):
    """Only a QueuedCall can be put on a queue."""
    with pytest.raises(TypeError, match=r"QueuedCall\.of"):
        any_queue.put(value)


def test_what_cannot_be_called():
    """A call needs a function that does something when it is called."""

    def generator():
        yield

    async def agenerator():
        yield

    for bad in (5, None, generator, agenerator):
        with pytest.raises(TypeError, match="cannot be queued"):
            QueuedCall.of(bad)


# Calls that cannot be loaded ------------------------------------------------------------------------


def test_arguments_that_cannot_be_made_again(make):
    """Such arguments are refused when the call is put, without the text of their own errors."""
    for bad in (jobs.OneWay(1, 2), jobs.ExitWhenLoaded(), jobs.Secretive()):
        with pytest.raises(ConfigurationError, match=rf"argument 1 \(a {type(bad).__name__}\) cannot be") as caught:
            make(start=False).put(QueuedCall.of(id, (bad,)))
        assert "hunter2" not in str(caught.value)


def test_call_that_is_not_there_yet(make, tmp_path, caplog, monkeypatch):
    """A call that a process cannot find is tried again, and made when it is there."""
    queue, original = make(start=False), jobs.quick
    receipt = queue.put(QueuedCall.of(original, (str(tmp_path / "log"), "x")))
    monkeypatch.delattr(jobs, "quick")
    queue.start()
    eventually(lambda: "cannot be made by this process" in caplog.text)
    assert not receipt.done
    monkeypatch.setattr(jobs, "quick", original, raising=False)
    assert receipt.result(WAIT) == "did x"


def test_exit_while_loading(make, monkeypatch):
    """A module that leaves the interpreter when it is imported ends neither the worker nor, at once, the call."""
    queue = make(start=False, give_up_after=0.2)
    original, seen = queue._load, []

    def load(claim):
        if claim.state.call == "builtins.divmod" or seen.append(claim.id):
            return original(claim)
        sys.exit("usage: ...")

    monkeypatch.setattr(queue, "_load", load)
    receipt = queue.put(QueuedCall.of(abs, (1,)))
    queue.start()
    with pytest.raises(ConfigurationError, match="cannot be made any more: SystemExit"):
        receipt.result(WAIT)
    assert len(seen) >= 2
    assert queue.put(QueuedCall.of(divmod, (7, 2))).result(WAIT) == (3, 1)


def test_dead_workers_are_replaced(make, monkeypatch):
    """A worker that is gone is replaced when there is work, though the heartbeat's thread lives."""
    queue = make()
    monkeypatch.setattr(type(queue), "_work", lambda *_: None)
    queue.put(QueuedCall.of(divmod, (7, 2)))
    eventually(lambda: len(queue._threads) == 1)
    monkeypatch.undo()
    assert queue.put(QueuedCall.of(divmod, (7, 2))).result(WAIT) == (3, 1)


# Whose call it is -----------------------------------------------------------------------------------


def claims(make):
    """Return the ledger of a queue with a call, its claim by an owner who stalls, and that of who takes over."""
    queue = make(start=False)
    key = queue.put(QueuedCall.of(divmod, (7, 2))).id
    ledger = queue._ledger
    stale = ledger.take(key)
    freed = dataclasses.replace(stale.state, owner=None)
    assert ledger.live.swap(key, stale.raw, freed.packed())
    return ledger, stale, ledger.take(key)


def test_failure_of_a_stale_owner(make):
    """Who has lost a call cannot say that it failed; who has it can say that it succeeded."""
    ledger, stale, fresh = claims(make)
    assert ledger.end(stale, Outcome(None, ValueError(), 1, 0)) is None
    assert ledger.outcome(stale.id) is None
    assert ledger.end(fresh, Outcome("good", None, 2, 1)).answer == "good"
    assert ledger.end(stale, Outcome(None, ValueError(), 1, 0)) is None
    assert ledger.outcome(stale.id).answer == "good"


def test_success_counts(make):
    """The success of whoever it be replaces a failure, and the first success stays."""
    ledger, stale, fresh = claims(make)
    assert isinstance(ledger.end(fresh, Outcome(None, ValueError(), 2, 1)).error, ValueError)
    assert ledger.end(stale, Outcome("good", None, 1, 0)).answer == "good"
    assert ledger.end(fresh, Outcome("better", None, 2, 1)).answer == "good"
    assert ledger.outcome(stale.id).answer == "good"


def test_liveness_by_the_owners_lease(make, monkeypatch):
    """A process is judged by the lease it has promised, not by that of who asks."""
    monkeypatch.setattr(sys.modules["resilient.degradation.queues.ledger"], "certainly_gone", lambda _: False)
    patient, hasty = make(start=False, lease=30), make(start=False, lease=0.05)
    key = patient.put(QueuedCall.of(divmod, (7, 2))).id
    patient._ledger.take(key)
    for _ in range(3):
        hasty._ledger.sweep(lambda _: False)
        time.sleep(0.06)
    assert hasty._ledger.state(key).owner.lease == 30


def test_owner_of_which_nothing_is_known(monkeypatch):
    """Only a process that is certainly not there is gone, not one that cannot be looked at now."""
    me = owners.new_owner(30)
    assert not me._replace(started="").lease < 0
    if not me.machine:
        pytest.skip("processes cannot be looked at here")
    assert not owners.certainly_gone(me)
    assert not owners.certainly_gone(me._replace(started=""))
    for error, gone in ((errno.EMFILE, False), (errno.EACCES, False), (errno.ENOENT, True), (errno.ESRCH, True)):

        def fail(*_, error=error):
            raise OSError(error, "no")

        monkeypatch.setattr(owners, "_process", fail)
        assert owners.certainly_gone(me) is gone
        assert owners.new_owner(30).started == me.started


# Storage in trouble ---------------------------------------------------------------------------------


def broken(*_, **__):
    """Fail as a storage does."""
    raise sqlite3.OperationalError("disk I/O error")


def test_put_is_true_once_the_call_is_on_record(make, monkeypatch, caplog):
    """Trouble after that is logged, and the call is made."""
    queue = make(lease=1)
    with monkeypatch.context() as patched:
        patched.setattr(queue._ledger.live.storage, "enqueue", broken)
        receipt = queue.put(QueuedCall.of(divmod, (7, 2)))
    assert "could not tell the workers" in caplog.text
    queue.start()
    assert receipt.result(WAIT) == (3, 1)


def test_receipt_while_the_storage_fails(make, monkeypatch, caplog):
    """Trouble of the storage is not the call's: a receipt keeps looking, says so once, and times out."""
    queue = make(start=False, lease=0.4)
    receipt = queue.put(QueuedCall.of(divmod, (7, 2)))
    with monkeypatch.context() as patched:
        patched.setattr(queue._ledger.done.storage, "peek_data", broken)
        with pytest.raises(CallTimeoutError) as caught:
            receipt.result(0.3)
        assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
        assert receipt.status == "queued"
        assert caplog.text.count("could not see what has become of it") == 1
        threading.Timer(0.1, patched.undo).start()
        queue.start()

        async def wait():
            return await receipt

        assert asyncio.run(wait()) == (3, 1)


def test_put_keeps_a_deadline(make, tmp_path):
    """A file that another process keeps locked is waited for no longer than the caller has time."""
    queue = make(start=False)
    queue.put(QueuedCall.of(divmod, (7, 2)))
    other = sqlite3.connect(tmp_path / "calls.db", isolation_level=None)
    other.execute("begin exclusive")
    begun = time.monotonic()
    with deadline(0.2), pytest.raises(sqlite3.OperationalError, match="locked"):
        queue.put(QueuedCall.of(divmod, (7, 2)))
    assert time.monotonic() - begun < 5
    other.rollback()
    other.close()
    queue.put(QueuedCall.of(divmod, (7, 2)))
    assert len(queue) == 2


def test_unreadable_rows(make, caplog):
    """A record that cannot be read is logged once and skipped, and the calls beside it are made."""
    queue = make(start=False, lease=0.2)
    queue._ledger.live.put("0" * 32, b"rubbish")
    queue._ledger.live.push("0" * 32)
    queue._ledger.calls.put("no id of ours", b"rubbish")
    receipt = queue.put(QueuedCall.of(divmod, (7, 2)))
    queue.start()
    assert receipt.result(WAIT) == (3, 1)
    time.sleep(0.2)
    assert caplog.text.count("cannot be read") == 1


def test_concurrent_stops(make):
    """Any number of threads may stop a queue at once."""
    troubles = []

    def stop(queue):
        try:
            queue.stop(WAIT)
        except Exception as error:  # noqa: BLE001 - looked at below
            troubles.append(error)

    for _ in range(20):
        queue = make()
        queue.put(QueuedCall.of(divmod, (7, 2))).result(WAIT)
        threads = [threading.Thread(target=stop, args=(queue,)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT)
    assert troubles == []


def test_few_signs_of_life_after_stop(make, monkeypatch):
    """While a stopped queue waits for its last call, it writes no more often than before."""
    queue, beats = make(lease=30), []
    monkeypatch.setattr(queue._ledger, "beat", lambda *_: beats.append(1))
    receipt = queue.put(QueuedCall.of(time.sleep, (0.5,)))
    eventually(lambda: receipt.status == "running")
    queue.stop(0.01)
    receipt.result(WAIT)
    assert len(beats) <= 1


def test_outcomes_are_forgotten_in_batches(make, monkeypatch):
    """Many outcomes whose time is over are removed in rounds that hold nobody up."""
    monkeypatch.setattr(sys.modules["resilient.degradation.queues.ledger"], "_PURGE_SECONDS", 0)
    ledger = make(start=False)._ledger
    raw = pickle.dumps((1, None, 1, 0))
    for number in range(150):
        ledger.done.put(f"{number:032x}", raw)
        ledger.done.later(f"{number:032x}", time.time() - 10)
    assert ledger.purge()
    assert len(ledger.done) == 50
    assert not ledger.purge()
    assert (len(ledger.done), ledger.done.listed()) == (0, set())


def test_put_counts_seldom(make, monkeypatch):
    """`put` does not count all calls each time."""
    queue, counts = make(start=False), []
    original = type(queue._ledger.live).__len__
    monkeypatch.setattr(type(queue._ledger.live), "__len__", lambda store: counts.append(1) or original(store))
    begun = time.monotonic()
    for _ in range(20):
        queue.put(QueuedCall.of(divmod, (7, 2)))
    assert len(counts) <= 2 + (time.monotonic() - begun) / 0.25


# Files, names and options ---------------------------------------------------------------------------


def test_path_after_chdir(tmp_path, monkeypatch):
    """A relative path means the same file for ever."""
    monkeypatch.chdir(tmp_path)
    queue = SqliteQueue("calls.db", **jobs.OPTIONS)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert queue.put(QueuedCall.of(divmod, (7, 2))).result(WAIT) == (3, 1)
    assert queue.stop(WAIT)
    assert os.listdir() == []


FOREIGN = [
    ["create table customers (a)", "insert into customers values (1)"],
    ["create table task (a, b)"],
    ["create table kv (key text, value text)"],
    ["pragma journal_mode = wal", "create table customers (a)"],
]


@pytest.mark.parametrize("statements", FOREIGN)
def test_foreign_files(statements, tmp_path):
    """A file that is something else's is refused, and stays as it was."""
    path = tmp_path / "foreign.db"
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()
    before = hashlib.sha256(path.read_bytes()).digest()
    with pytest.raises(ConfigurationError, match=r"^path=.*other things than queues"):
        SqliteQueue(path)
    assert hashlib.sha256(path.read_bytes()).digest() == before
    assert os.listdir(tmp_path) == ["foreign.db"]


def test_files_that_are_no_databases(tmp_path):
    """Text is refused and kept, an empty file is taken; a new one is for its owner only."""
    (tmp_path / "text").write_text("hello")
    with pytest.raises(ConfigurationError, match="not a database"):
        SqliteQueue(tmp_path / "text")
    assert (tmp_path / "text").read_text() == "hello"
    (tmp_path / "empty").touch()
    SqliteQueue(tmp_path / "empty").stop()
    SqliteQueue(tmp_path / "empty").stop()
    SqliteQueue(tmp_path / "new").stop()
    if os.name == "posix":
        assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o600


def test_names_with_colons(make):
    """Queues whose names resemble what another one keeps its calls under do not meet."""
    names = ("orders", "orders:calls", "orders:done", "orders%3Acalls")
    queues = [make(start=False, name=name) for name in names]
    receipts = [queues[0].put(QueuedCall.of(divmod, (7, 2)))]
    assert [len(queue) for queue in queues] == [1, 0, 0, 0]
    receipts += [queue.put(QueuedCall.of(divmod, (7, 2))) for queue in queues[1:]]
    for queue in queues:
        queue.start()
    assert [receipt.result(WAIT) for receipt in receipts] == [(3, 1)] * 4


@pytest.mark.parametrize("url", [None, 5, "", "nonsense", "redis://:hunter2@host:port/0"])
def test_bad_urls(url):
    """An address that cannot be one is refused, without telling the password."""
    pytest.importorskip("redis")
    with pytest.raises(ConfigurationError, match=r"^url: ") as caught:
        RedisQueue(url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("option", ["lease", "poll_interval"])
def test_shortest_intervals(option, make):
    """What is to happen all the time is refused."""
    with pytest.raises(ConfigurationError, match=rf"^{option}=0\.01: must be seconds, at least 0\.05"):
        make(**{option: 0.01})


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_fork_while_the_file_is_locked(tmp_path):
    """A forked child connects when it has to: a file that is locked just then does not hold it up."""
    code = f"""
import os, signal, sqlite3, sys, time
from resilient.degradation.queues import SqliteQueue
queue = SqliteQueue({str(tmp_path / "calls.db")!r})
other = sqlite3.connect({str(tmp_path / "calls.db")!r}, isolation_level=None)
other.execute("begin exclusive")
child = os.fork()
if not child:
    signal.alarm(5)
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert finished(process(code=code))[:2] == ("0", 0)
