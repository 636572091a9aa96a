"""What every journal must do, tried on the one in memory and the one in a file; and what only the former does."""

import os
import threading
import time

import pytest

from resilient.errors import ConfigurationError
from resilient.orchestrator import journal as journal_module
from resilient.orchestrator.errors import ExecutionNotFoundError, Holder, PlanLockedError
from resilient.orchestrator.journal import LeaseLostError, this_process
from resilient.orchestrator.memory_journal import MemoryJournal
from resilient.orchestrator.records import Kind, Pending, Record, Signal, moment
from resilient.orchestrator.sqlite_journal import SqliteJournal

ME, OTHER = Holder("here", 1), Holder("there", 2)


class Time:
    """A monotonic clock and a time of day that go on only when told, each by itself."""

    def __init__(self, monkeypatch):
        self.monotonic_now, self.wall_now, self.boot = 1000.0, 1e9, "first boot"
        monkeypatch.setattr("resilient.orchestrator.journal.monotonic", lambda: self.monotonic_now)
        monkeypatch.setattr(time, "time", lambda: self.wall_now)
        monkeypatch.setattr(journal_module, "boot_id", lambda: self.boot)

    def tick(self, seconds):
        self.monotonic_now += seconds
        self.wall_now += seconds

    def reboot(self):
        """The machine starts again: its monotonic clock begins anew, the time of day goes on."""
        self.boot, self.monotonic_now = "second boot", 5.0


@pytest.fixture
def clock(monkeypatch):
    return Time(monkeypatch)


@pytest.fixture(params=["memory", "sqlite"])
def journal(request, tmp_path):
    made = MemoryJournal() if request.param == "memory" else SqliteJournal(tmp_path / "recovery.db")
    yield made
    made.close()


def record(kind=Kind.STARTED, step_id=None, **data):
    return Record(kind, step_id, 1e9, 0.5, data)


def begin(journal, execution_id="e1", plan_id="plan", holder=ME, seconds=10.0):
    return journal.begin(execution_id, plan_id, holder, seconds, [record(Kind.SUBMITTED, plan={"id": plan_id})])


def ended(journal, execution_id, plan_id="plan"):
    lease = begin(journal, execution_id, plan_id)
    assert journal.end(lease, [record(Kind.ENDED, status="completed")], 0)
    return lease


def kinds(journal, execution_id="e1"):
    return [one.kind for one in journal.records(execution_id)]


def cancellation():
    return Signal(Kind.CANCEL, None, 1e9, {"reason": "enough"})


# Rows


def test_rows_come_back_as_they_were_written(journal):
    """Every row comes back in order, with its data, and with numbers that rise."""
    lease = begin(journal)
    written = [
        record(Kind.ATTEMPT, "a", attempt=1, key="e1:a"),
        record(Kind.DONE, "a", output={"n": [1, 2.5, None, True, "ü \ud800 \0 𝄞"], "": {"big": 2**80}}),
    ]
    journal.append(lease, written)
    found = journal.records("e1")
    assert [one._replace(number=0) for one in found[1:]] == written
    assert [one.number for one in found] == sorted({one.number for one in found})


def test_the_first_rows_are_there_with_the_lease(journal):
    """Whoever has a lease has written who ordered what; the token of a plan rises with each lease."""
    assert begin(journal) == ("plan", "e1", 1, ME, 10.0)
    assert journal.records("e1")[0].data == {"plan": {"id": "plan"}}
    assert begin(journal, "e2", "other").token == 1


def test_an_unknown_execution_is_not_found(journal):
    """Whatever is asked about an execution that is not there is answered by an error that names it."""
    for ask in (
        journal.records,
        lambda name: journal.signal(name, cancellation()),
        lambda name: journal.take_over(name, ME, 1.0),
        lambda name: journal.latest(None, 5, name),
    ):
        with pytest.raises(ExecutionNotFoundError, match="'e9'"):
            ask("e9")


# Leases


def test_one_execution_of_a_plan_at_a_time(journal):
    """A second beginning is refused with who and since when, as long as the first has not ended, lease or no lease."""
    lease = begin(journal)
    for _ in range(2):
        with pytest.raises(PlanLockedError) as caught:
            begin(journal, "e2", holder=OTHER)
        assert (caught.value.holder, caught.value.execution_id, caught.value.plan_id) == (ME, "e1", "plan")
        assert abs(caught.value.since.timestamp() - time.time()) < 60
        journal.release(lease)
    with pytest.raises(ExecutionNotFoundError):
        journal.records("e2")
    begin(journal, "e3", "another plan")


def test_a_plan_is_free_after_its_end(journal):
    """When an execution has ended its plan can begin again, with a higher token."""
    first = ended(journal, "e1")
    assert begin(journal, "e2").token > first.token
    assert journal.unfinished() == [Pending("e2", "plan")]


def test_who_was_taken_over_cannot_write(journal, clock):
    """After a takeover every write of the earlier process is refused and says who has it; nothing of it is there."""
    old = begin(journal)
    clock.tick(10.0)
    new = journal.take_over("e1", OTHER, 10.0)
    assert new.token > old.token
    for write in (
        lambda: journal.append(old, [record(Kind.DONE, "a", output=1)]),
        lambda: journal.append(old, []),
        lambda: journal.end(old, [record(Kind.ENDED, status="completed")], 0),
    ):
        with pytest.raises(LeaseLostError) as caught:
            write()
        assert (caught.value.holder, caught.value.plan_id) == (OTHER, "plan")
        assert "there, process 2" in str(caught.value)
    assert not journal.renew(old)
    journal.release(old)
    assert journal.take_over("e1", ME, 10.0) is None, "the release of a lost lease has ended the other's"
    assert kinds(journal) == [Kind.SUBMITTED]
    journal.append(new, [record(Kind.RESUMED)])
    assert kinds(journal) == [Kind.SUBMITTED, Kind.RESUMED]


def test_who_was_taken_over_cannot_write_into_the_next_execution(journal, clock):
    """A process that sleeps through the end of its execution, and the beginning of the next, is still refused."""
    old = begin(journal)
    clock.tick(11.0)
    new = journal.take_over("e1", OTHER, 10.0)
    assert journal.end(new, [record(Kind.ENDED, status="completed")], 0)
    begin(journal, "e2", holder=OTHER)
    with pytest.raises(LeaseLostError):
        journal.append(old, [record()])
    assert not journal.renew(old)


def test_a_lease_ends_by_the_monotonic_clock(journal, clock):
    """Within one boot the monotonic clock decides, to the second, and setting the time of day changes nothing."""
    begin(journal)
    for step in (3600.0, -7200.0, 86400.0 * 400):
        clock.wall_now += step
        assert journal.take_over("e1", OTHER, 10.0) is None
    clock.monotonic_now += 9.9
    assert journal.take_over("e1", OTHER, 10.0) is None
    clock.monotonic_now += 0.1
    clock.wall_now = 0.0
    assert journal.take_over("e1", OTHER, 10.0) is not None


@pytest.mark.parametrize("boot", ["another boot", ""])
def test_a_lease_ends_by_the_time_of_day_where_clocks_cannot_be_compared(journal, clock, boot):
    """After a restart of the machine, or where its boots have no name, the time of day decides."""
    begin(journal)
    clock.boot, clock.monotonic_now = boot, 0.0
    clock.wall_now += 9.9
    assert journal.take_over("e1", OTHER, 10.0) is None
    clock.wall_now += 0.2
    assert journal.take_over("e1", OTHER, 10.0) is not None


def test_a_renewed_lease_lasts_from_then(journal, clock):
    """A heartbeat prolongs a lease by its own length, counted from the heartbeat."""
    lease = begin(journal, seconds=10.0)
    clock.tick(9.0)
    assert journal.renew(lease)
    clock.tick(9.9)
    assert journal.take_over("e1", OTHER, 10.0) is None
    clock.tick(0.2)
    assert journal.take_over("e1", OTHER, 10.0) is not None


def test_a_late_heartbeat_is_good_as_long_as_nobody_has_come(journal, clock):
    """A process that overslept its lease goes on if nobody took over meanwhile, and is then safe again."""
    lease = begin(journal)
    clock.tick(100.0)
    journal.append(lease, [record()])
    assert journal.renew(lease)
    assert journal.take_over("e1", OTHER, 10.0) is None


def test_a_released_lease_is_free_at_once(journal):
    """Who lets go of an execution leaves it to the next one without a wait."""
    lease = begin(journal, seconds=1000.0)
    journal.release(lease)
    assert journal.take_over("e1", OTHER, 10.0).holder == OTHER


def test_what_has_ended_is_not_taken_over(journal, clock):
    """An execution that ended cannot be taken over, however long ago its lease ended."""
    ended(journal, "e1")
    clock.tick(1e6)
    assert journal.take_over("e1", OTHER, 10.0) is None
    assert journal.unfinished() == []


def test_one_of_many_takes_over(journal, clock):
    """Of sixteen threads that take over at the same moment, one gets the lease."""
    begin(journal)
    clock.tick(11.0)
    found, start = [], threading.Barrier(16)

    def take(number):
        start.wait()
        found.append(journal.take_over("e1", Holder("h", number), 10.0))

    threads = [threading.Thread(target=take, args=(number,)) for number in range(16)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sum(one is not None for one in found) == 1


# Signals


def test_signals_wait_for_whoever_looks(journal):
    """Signals come in the order in which they were left, each once, and only to their execution."""
    begin(journal)
    begin(journal, "e2", "other")
    answer = Signal(Kind.ANSWERED, "yes", 2e9, {"approved": True, "by": "ada", "note": "gö"})
    assert journal.signal("e1", cancellation())
    assert journal.signal("e1", answer)
    first, second = journal.signals("e1", 0)
    assert (first._replace(number=0), second._replace(number=0)) == (cancellation(), answer)
    assert journal.signals("e1", first.number) == [second]
    assert journal.signals("e1", second.number) == journal.signals("e2", 0) == []


def test_the_end_waits_for_signals_that_nobody_has_seen(journal):
    """An execution does not end past a signal: the last row is refused, and written once the signal was seen."""
    lease = begin(journal)
    journal.signal("e1", cancellation())
    last = [record(Kind.ENDED, status="completed")]
    assert not journal.end(lease, last, 0)
    assert kinds(journal) == [Kind.SUBMITTED]
    assert journal.unfinished() == [Pending("e1", "plan")]
    assert journal.end(lease, last, journal.signals("e1", 0)[0].number)
    assert kinds(journal) == [Kind.SUBMITTED, Kind.ENDED]


def test_nobody_can_signal_what_has_ended(journal):
    """A signal to an execution that has ended is refused, and not kept."""
    ended(journal, "e1")
    assert not journal.signal("e1", cancellation())
    assert journal.signals("e1", 0) == []


def test_a_signal_or_an_end_comes_first(journal):
    """With signals and the end racing, each signal is either refused, or seen before the end."""
    for round_number in range(20):
        name = f"e{round_number}"
        lease, start, accepted = begin(journal, name), threading.Barrier(3), []

        def leave(name=name, start=start, accepted=accepted):
            start.wait()
            accepted.append(journal.signal(name, cancellation()))

        threads = [threading.Thread(target=leave) for _ in range(2)]
        for one in threads:
            one.start()
        start.wait()
        seen = 0
        while not journal.end(lease, [record(Kind.ENDED, status="completed")], seen):
            seen = journal.signals(name, 0)[-1].number
        for one in threads:
            one.join()
        assert len(journal.signals(name, 0)) == sum(accepted)
        assert all(one.number <= seen for one in journal.signals(name, 0))


def test_a_signal_is_a_change(journal):
    """A signal that another left makes `changes` differ, which is what processes look at."""
    begin(journal)
    other = SqliteJournal(journal.path) if isinstance(journal, SqliteJournal) else journal
    before = journal.changes()
    assert journal.changes() == before
    other.signal("e1", cancellation())
    assert journal.changes() != before
    other.close()


# Looking


def test_pages_follow_each_other(journal):
    """The latest come first, a page ends at its limit, and the next begins after its last; each is there once."""
    for number in range(7):
        ended(journal, f"e{number}", "odd" if number % 2 else "even")
    begin(journal, "e7", "odd")
    assert journal.latest(None, 3, None) == ["e7", "e6", "e5"]
    assert journal.latest(None, 3, "e5") == ["e4", "e3", "e2"]
    assert journal.latest(None, 99, "e2") == ["e1", "e0"]
    assert journal.latest(None, 3, "e0") == []
    assert journal.latest("odd", 2, None) == ["e7", "e5"]
    assert journal.latest("odd", 9, "e4") == ["e3", "e1"]
    assert journal.latest("none", 9, None) == []


def test_what_began_first_is_resumed_first(journal):
    """Unfinished executions are listed oldest first, also when older ones were taken over later."""
    leases = [begin(journal, f"e{number}", f"plan{number}") for number in range(3)]
    journal.release(leases[0])
    journal.take_over("e0", OTHER, 10.0)
    journal.end(leases[1], [record(Kind.ENDED, status="failed")], 0)
    assert journal.unfinished() == [Pending("e0", "plan0"), Pending("e2", "plan2")]


def test_what_is_read_is_a_copy(journal):
    """Whoever changes what a journal gave, or what it was given, changes nothing in it."""
    lease = begin(journal)
    row = record(Kind.DONE, "a", output={"path": "/x", "list": [1]})
    journal.append(lease, [row])
    row.data["output"]["list"].append("written later")
    journal.records("e1")[-1].data["output"]["path"] = "changed by a reader"
    assert journal.records("e1")[-1].data == {"output": {"path": "/x", "list": [1]}}


def test_a_write_is_all_or_nothing(journal):
    """If one of several rows cannot be written, none of them is, and the journal goes on."""
    lease = begin(journal)
    with pytest.raises((TypeError, ValueError, AttributeError)):
        journal.append(lease, [record(), record(Kind.DONE, "a", output=object()), None])
    assert kinds(journal) == [Kind.SUBMITTED]
    journal.append(lease, [record()])
    assert kinds(journal) == [Kind.SUBMITTED, Kind.STARTED]


def test_many_threads_write_whole_rows(journal):
    """Eight threads, each with its own plan, write at once: every row is there, once, in its own order."""

    def write(number):
        lease = begin(journal, f"e{number}", f"plan{number}")
        for row in range(20):
            journal.append(lease, [record(Kind.ATTEMPT, "a", row=row), record(Kind.DONE, "a", row=row)])

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    for number in range(8):
        assert [one.data["row"] for one in journal.records(f"e{number}")[1::2]] == list(range(20))
        assert [one.data["row"] for one in journal.records(f"e{number}")[2::2]] == list(range(20))


# Only in memory


def test_only_the_latest_are_kept():
    """Of finished executions the latest `keep` are kept, and unfinished ones always."""
    journal = MemoryJournal(keep=2)
    begin(journal, "open", "slow plan")
    for number in range(5):
        ended(journal, f"e{number}", f"plan{number}")
    assert journal.latest(None, 99, None) == ["e4", "e3", "open"]
    with pytest.raises(ExecutionNotFoundError):
        journal.records("e2")


def test_what_is_forgotten_leaves_nothing():
    """A thousand finished executions of a thousand plans leave no more behind than `keep` of them."""
    journal = MemoryJournal(keep=3)
    for number in range(1000):
        ended(journal, f"e{number}", f"plan{number}")
    assert len(journal._executions) == len(journal._held) == len(journal._finished) == 3


def test_who_sleeps_until_its_execution_is_forgotten_cannot_write(clock):
    """A process that was taken over is refused in the same way when its execution is not even remembered any more."""
    journal = MemoryJournal(keep=1)
    old = begin(journal)
    clock.tick(11.0)
    new = journal.take_over("e1", OTHER, 10.0)
    journal.end(new, [record(Kind.ENDED, status="completed")], 0)
    ended(journal, "e2", "other plan")
    for write in (lambda: journal.append(old, [record()]), lambda: journal.end(old, [record()], 0)):
        with pytest.raises(LeaseLostError):
            write()
    assert not journal.renew(old)
    journal.release(old)


@pytest.mark.parametrize("value", [0, -1, True, 2.0, "ten", None])
def test_keep_is_a_count(value):
    """What is no count of executions is refused by name and value, with what would do."""
    with pytest.raises(ConfigurationError, match=r"keep=.*: must be a whole number of at least 1"):
        MemoryJournal(keep=value)


def test_a_forked_child_begins_with_what_has_ended():
    """A child may carry out the plan that its parent is in the middle of, knows what ended, and has its own lock."""
    journal = MemoryJournal()
    ended(journal, "e1")
    begin(journal, "e2")

    def in_child():
        assert journal.latest(None, 9, None) == ["e1"]
        assert journal.unfinished() == []
        ended(journal, "e3")

    with journal._lock:
        assert in_fork(in_child) == 0
    assert journal.latest(None, 9, None) == ["e2", "e1"]
    assert journal.unfinished() == [Pending("e2", "plan")]


def in_fork(work):
    """The exit code of a forked child that does this."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_we_are_this_process():
    """The holder of our leases is this process, and the moments of rows are UTC."""
    assert this_process().pid == os.getpid()
    assert moment(0.0).isoformat() == "1970-01-01T00:00:00+00:00"
