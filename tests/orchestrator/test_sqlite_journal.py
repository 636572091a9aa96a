"""The journal in a file: several processes, forks, full disks, and files that are damaged or somebody else's."""

import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from resilient.orchestrator import sqlite_file
from resilient.orchestrator.errors import ExecutionNotFoundError, Holder, JournalError, PlanLockedError
from resilient.orchestrator.records import Kind, Pending, Record, Signal
from resilient.orchestrator.sqlite_journal import SqliteJournal

ME = Holder("here", 1)


@pytest.fixture
def path(tmp_path):
    """Where the journal is; nothing else is in its folder."""
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder" / "recovery.db"


def record(kind=Kind.STARTED, step_id=None, **data):
    return Record(kind, step_id, 1e9, 0.5, data)


def begin(journal, execution_id="e1", plan_id="plan", seconds=10.0):
    return journal.begin(execution_id, plan_id, ME, seconds, [record(Kind.SUBMITTED, plan={"id": plan_id})])


def end(journal, lease):
    assert journal.end(lease, [record(Kind.ENDED, status="completed")], 0)


def kinds(journal, execution_id="e1"):
    return [one.kind for one in journal.records(execution_id)]


def filled(path, rows=300):
    """A journal of many pages, all of them in the file itself."""
    journal = SqliteJournal(path)
    lease = begin(journal)
    journal.append(lease, [record(Kind.DONE, f"s{row}", output="x" * 200) for row in range(rows)])
    end(journal, lease)
    journal.close()
    assert beside(path) == []
    return path.read_bytes()


def beside(path):
    """What else is in the folder."""
    return sorted(one.name for one in path.parent.iterdir() if one != path)


def refused(path, **options):
    """The message with which a file is refused, that is left as it is, alone in its folder."""
    before, existed = path.read_bytes() if path.is_file() else None, path.exists()
    others = beside(path)
    with pytest.raises(JournalError) as caught:
        SqliteJournal(path, **options)
    assert str(path) in str(caught.value)
    assert path.exists() == existed
    assert before is None or path.read_bytes() == before
    assert beside(path) == others
    return str(caught.value)


# Opening


def test_a_journal_outlives_its_process(path):
    """What was written is there when the file is opened again, by a path of any kind."""
    with_text = SqliteJournal(str(path))
    lease = begin(with_text)
    with_text.append(lease, [record()])
    with_text.close()
    again = SqliteJournal(path, create=False)
    assert kinds(again) == [Kind.SUBMITTED, Kind.STARTED]
    assert again.unfinished() == [Pending("e1", "plan")]
    again.close()
    assert repr(again) == f"SqliteJournal({str(path)!r})"


def test_a_name_that_sqlite_would_read_otherwise_is_a_name(tmp_path):
    """A file may have a name with a space, a question mark or a hash in it, and is opened again by it."""
    for name in ("a b.db", "what?mode=ro.db", "50%25#1.db", "ü.db"):
        for _ in range(2):
            SqliteJournal(tmp_path / name).close()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["50%25#1.db", "a b.db", "what?mode=ro.db", "ü.db"]


def test_a_relative_path_stays_where_it_was(path, monkeypatch):
    """A journal is found again after its process has gone into another folder."""
    monkeypatch.chdir(path.parent)
    journal = SqliteJournal(path.name)
    journal.close()
    monkeypatch.chdir(path.parent.parent)
    begin(journal)
    journal.close()
    assert path.exists()
    assert not (path.parent.parent / path.name).exists()


def test_a_new_journal_appears_whole(path):
    """Making a journal leaves one file, which is in WAL mode and carries the version."""
    SqliteJournal(path).close()
    assert beside(path) == []
    with sqlite3.connect(path) as db:
        assert db.execute("pragma journal_mode").fetchone()[0] == "wal"
        assert db.execute("pragma user_version").fetchone()[0] == sqlite_file.VERSION
    db.close()


def test_every_write_is_synced(path):
    """A connection writes with synchronous=FULL in WAL mode, so a power failure takes nothing that was written."""
    journal = SqliteJournal(path)
    with journal._session() as db:
        assert db.execute("pragma synchronous").fetchone()[0] == 2
        assert db.execute("pragma journal_mode").fetchone()[0] == "wal"
    journal.close()


def test_an_empty_file_becomes_a_journal(path):
    """A file that somebody touched, and which has nothing in it, is taken."""
    path.touch()
    journal = SqliteJournal(path)
    begin(journal)
    journal.close()
    again = SqliteJournal(path, create=False)
    assert kinds(again) == [Kind.SUBMITTED]
    again.close()


@pytest.mark.parametrize("name", ["", "  ", ":memory:", "a\0b", b"bytes.db"], ids=repr)
def test_what_is_no_file_name_is_refused(name):
    """A path that can be no file is refused by name and value, with what would do."""
    with pytest.raises(JournalError, match=r"path=.*: must be the name of a file; in memory there is MemoryJournal"):
        SqliteJournal(name)


@pytest.mark.parametrize("value", [None, 5, object()], ids=["None", "number", "object"])
def test_what_is_no_path_is_refused(value):
    """What is no path at all is a TypeError."""
    with pytest.raises(TypeError):
        SqliteJournal(value)


def test_a_missing_file_is_not_made_when_it_should_be_there(path):
    """With `create=False` a wrong path is an error, and nothing is made."""
    assert "there is no journal" in refused(path, create=False)


def test_a_missing_folder_is_not_made(path):
    """A journal in a folder that does not exist is refused, with the folder's name."""
    lost = path.parent / "lost" / "recovery.db"
    with pytest.raises(JournalError, match=r"lost/recovery.db: cannot be made, as .*lost is not a directory"):
        SqliteJournal(lost)
    assert beside(path) == []


def test_a_directory_is_refused(path):
    """A folder in the place of the file is refused."""
    path.mkdir()
    assert "cannot be read" in refused(path)


# Files of somebody else


@pytest.mark.parametrize(
    "contents",
    [b"Dear diary,\n" * 50, b"x", b"\0" * 4096, b"SQLite format 2\0" + b"\0" * 200],
    ids=["text", "one byte", "zeros", "an older SQLite"],
)
def test_other_files_are_refused(path, contents):
    """A file that is no SQLite database is refused, and left as it is."""
    path.write_bytes(contents)
    assert "is not a journal of recoveries; it was left as it is" in refused(path)


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_other_databases_are_refused(path, mode):
    """A SQLite database of something else is refused without being opened, whatever its journal mode."""
    db = sqlite3.connect(path)
    db.execute(f"pragma journal_mode = {mode}")
    db.execute("create table orders (id integer primary key)")
    db.commit()
    db.close()
    assert "is a SQLite database of something else; it was left as it is" in refused(path)


def test_a_database_in_use_is_refused_and_goes_on(path):
    """A foreign database whose owner has it open keeps its -wal and -shm, and its owner notices nothing."""
    db = sqlite3.connect(path)
    db.execute("pragma journal_mode = wal")
    db.execute("create table orders (id integer primary key)")
    db.commit()
    wal = path.with_name(path.name + "-wal").read_bytes()
    refused(path)
    assert path.with_name(path.name + "-wal").read_bytes() == wal
    db.execute("insert into orders values (1)")
    db.commit()
    assert db.execute("select count(*) from orders").fetchone() == (1,)
    db.close()


def test_a_newer_journal_is_refused(path):
    """A journal that a later version has written is refused with both versions, and left to it."""
    SqliteJournal(path).close()
    db = sqlite3.connect(path)
    db.execute("pragma user_version = 7")
    db.close()
    assert "has version 7 of the journal, and this package reads 1" in refused(path)


# Damage


def damaged_by_cutting(data):
    return data[: len(data) // 2]


def damaged_in_the_header(data):
    return data[:100] + b"\xff" * 400 + data[500:]


def damaged_in_the_middle(data):
    noise = bytes((number * 37 + 11) % 256 for number in range(3 * 4096))
    return data[: 5 * 4096] + noise + data[5 * 4096 + len(noise) :]


def damaged_by_zeros(data):
    return data[:4096] + b"\0" * (len(data) - 4096)


def damaged_to_its_first_bytes(data):
    return data[:120]


@pytest.mark.parametrize(
    "damage",
    [
        damaged_by_cutting,
        damaged_in_the_header,
        damaged_in_the_middle,
        damaged_by_zeros,
        damaged_to_its_first_bytes,
    ],
)
def test_a_damaged_journal_is_refused(path, damage):
    """A journal that was cut off or overwritten is refused as damaged, and not one byte of it is changed."""
    path.write_bytes(damage(filled(path)))
    assert "is damaged" in refused(path)


def test_a_damaged_journal_of_a_dead_process_is_refused(path):
    """What a dead process left beside a damaged file, and may be needed to repair it, is left as it is, too."""
    whole = filled(path)
    program = [sys.executable, "-c", DYING.format(path=sys.path), str(path)]
    subprocess.run(program, check=True)  # noqa: S603
    wal = path.with_name("recovery.db-wal")
    left = wal.read_bytes()
    assert len(left) > 4096
    path.write_bytes(damaged_in_the_middle(whole))
    assert "is damaged" in refused(path)
    assert wal.read_bytes() == left


DYING = """
import os, sys
sys.path[:] = {path!r}
from resilient.orchestrator import Holder, SqliteJournal
from resilient.orchestrator.records import Kind, Record
SqliteJournal(sys.argv[1]).begin("e2", "other", Holder("here", 1), 10.0, [Record(Kind.SUBMITTED, None, 1.0, 0.0, {{}})])
os._exit(0)
"""


def test_what_a_dead_process_wrote_is_there(path):
    """Rows that a process wrote before it died, and which are not in the file itself yet, are found."""
    filled(path)
    subprocess.run([sys.executable, "-c", DYING.format(path=sys.path), str(path)], check=True)  # noqa: S603
    journal = SqliteJournal(path)
    assert journal.latest(None, 1, None) == ["e2"]
    journal.close()
    assert beside(path) == []


def test_a_header_of_few_bytes_is_refused(path):
    """A journal cut off within its header is refused as something else, and left as it is."""
    path.write_bytes(filled(path)[:50])
    refused(path)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("data", '{"output": '),
        ("data", "[1, 2]"),
        ("data", b"\xff\xfe"),
        ("kind", "unheard-of"),
        ("at", "noon"),
        ("elapsed", "long"),
    ],
)
def test_a_damaged_row_is_told(path, column, value):
    """A row that says nothing sensible is reported as such with the file's name, not as an error of something else."""
    journal = SqliteJournal(path)
    begin(journal)
    with journal._session() as db:
        db.execute("drop trigger journal_stays")
        db.execute(f"update journal set {column} = cast(? as text)", (value,))  # noqa: S608
    with pytest.raises(JournalError, match=r"recovery.db: "):
        journal.records("e1")
    journal.close()


@pytest.mark.parametrize(("column", "value"), [("data", "{"), ("kind", "unheard-of")])
def test_a_damaged_signal_is_told(path, column, value):
    """A signal that says nothing sensible is reported with the file's name."""
    journal = SqliteJournal(path)
    begin(journal)
    journal.signal("e1", Signal(Kind.CANCEL, None, 1e9, {}))
    with journal._session() as db:
        db.execute("drop trigger signals_stay")
        db.execute(f"update signals set {column} = ?", (value,))  # noqa: S608
    with pytest.raises(JournalError, match=r"recovery.db: "):
        journal.signals("e1", 0)
    journal.close()


def test_a_file_that_is_taken_away_is_told(path):
    """When the file is replaced by something else under a running journal, its next opening says so."""
    journal = SqliteJournal(path)
    journal.close()
    path.write_bytes(b"Dear diary,\n" * 50)
    with pytest.raises(JournalError, match=r"recovery.db: "):
        begin(journal)
    assert path.read_bytes() == b"Dear diary,\n" * 50


# Only added


@pytest.mark.parametrize("table", ["journal", "signals"])
def test_rows_are_only_added(path, table):
    """No row of the journal can be changed or removed, not even by hand."""
    journal = SqliteJournal(path)
    begin(journal)
    journal.signal("e1", Signal(Kind.CANCEL, None, 1e9, {}))
    journal.close()
    db = sqlite3.connect(path)
    before = db.execute(f"select * from {table}").fetchall()  # noqa: S608
    assert before
    for statement in (f"update {table} set data = '{{}}'", f"delete from {table}"):  # noqa: S608
        with pytest.raises(sqlite3.IntegrityError, match="rows are only added"):
            db.execute(statement)
    assert db.execute(f"select * from {table}").fetchall() == before  # noqa: S608
    db.close()


def test_every_row_carries_its_token(path):
    """Each row has the token of the lease under which it was written, so that it can be told who wrote what."""
    journal = SqliteJournal(path)
    journal.release(begin(journal))
    journal.append(journal.take_over("e1", Holder("there", 2), 10.0), [record(Kind.RESUMED)])
    with journal._session() as db:
        assert db.execute("select kind, token from journal").fetchall() == [("submitted", 1), ("resumed", 2)]
    journal.close()


# Full disks, and files that cannot be written


def test_a_full_disk_loses_nothing(path):
    """What does not fit is refused whole, by the file's name; it goes on when there is room."""
    journal = SqliteJournal(path)
    lease = begin(journal)
    with journal._session() as db:
        pages = db.execute("pragma page_count").fetchone()[0]
        db.execute(f"pragma max_page_count = {pages + 1}")
    with pytest.raises(JournalError, match=r"recovery.db: .*full"):
        journal.append(lease, [record(), record(Kind.DONE, "a", output="x" * 100_000)])
    assert kinds(journal) == [Kind.SUBMITTED]
    with journal._session() as db:
        assert not db.in_transaction
        db.execute("pragma max_page_count = 1000000")
    journal.append(lease, [record(Kind.DONE, "a", output="x" * 100_000)])
    assert kinds(journal) == [Kind.SUBMITTED, Kind.DONE]
    journal.close()


AS_NOBODY = """
import os, sys
sys.path[:] = {path!r}
from pathlib import Path
from resilient.orchestrator import Holder, JournalError, SqliteJournal
Path("/").as_uri()  # whatever is imported when it is used may be out of reach later
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
try:
    SqliteJournal(sys.argv[1]).begin("e2", "other", Holder("here", 1), 10.0, [])
except JournalError as error:
    print(error)
"""


@pytest.mark.parametrize(("mode", "words"), [(0o000, "cannot be read: Permission denied"), (0o444, "readonly")])
def test_without_permission(mode, words):
    """A file that may not be read, or not be written, is refused by its name and left as it is; it is not "damaged"."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recovery.db"
        before = filled(path)
        path.chmod(mode)
        path.parent.chmod(0o555)
        try:
            program = [sys.executable, "-c", AS_NOBODY.format(path=sys.path), str(path)]
            done = subprocess.run(program, capture_output=True, text=True, check=False)  # noqa: S603
        finally:
            path.parent.chmod(0o755)
            path.chmod(0o600)
        assert done.stdout.startswith(f"{path}: "), done.stderr
        assert words in done.stdout
        assert "damaged" not in done.stdout
        assert path.read_bytes() == before


# Several at once


def test_two_connections_see_each_other(path):
    """What one has written the other reads at once, and a lease of one holds for both."""
    one, other = SqliteJournal(path), SqliteJournal(path)
    lease = begin(one)
    assert kinds(other) == [Kind.SUBMITTED]
    with pytest.raises(PlanLockedError) as caught:
        begin(other, "e2")
    assert caught.value.execution_id == "e1"
    assert other.take_over("e1", ME, 10.0) is None
    end(one, lease)
    begin(other, "e2")
    assert one.latest(None, 9, None) == ["e2", "e1"]
    one.close()
    other.close()


def test_closing_one_leaves_the_other(path):
    """A journal can be closed twice, opens itself again, and does not disturb others on the same file."""
    one, other = SqliteJournal(path), SqliteJournal(path)
    lease = begin(one)
    other.close()
    other.close()
    one.append(lease, [record()])
    assert kinds(other) == [Kind.SUBMITTED, Kind.STARTED]
    one.close()
    other.close()
    assert beside(path) == []


RACE = """
import sys, time
sys.path[:] = {path!r}
from pathlib import Path
from resilient.orchestrator import PlanLockedError, SqliteJournal
from resilient.orchestrator.journal import this_process
from resilient.orchestrator.records import Kind, Record
file, number = Path(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
journal = SqliteJournal(file)
won = 0
for turn in range(5):
    try:
        journal.begin(f"e{{turn}}-{{number}}", f"plan{{turn}}", this_process(), 10.0,
                      [Record(Kind.SUBMITTED, None, 1.0, 0.0, {{"by": number}})])
        won += 1
    except PlanLockedError as locked:
        assert locked.holder.pid and locked.execution_id
print(won)
"""


def test_eight_processes_begin_at_once(path):
    """Of eight processes that make the journal and begin the same plans at the same moment, one gets each plan."""
    program = RACE.format(path=sys.path)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    racers = [
        subprocess.Popen([sys.executable, "-c", program, str(path), str(number)], **pipes)  # noqa: S603
        for number in range(8)
    ]
    for racer in racers:
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        racer.stdin.write("\n")
        racer.stdin.flush()
    answers = [racer.communicate(timeout=60) for racer in racers]
    assert [error for _, error in answers] == [""] * 8
    assert sum(int(out) for out, _ in answers) == 5
    journal = SqliteJournal(path, create=False)
    assert sorted(one.plan_id for one in journal.unfinished()) == [f"plan{turn}" for turn in range(5)]
    journal.close()
    assert beside(path) == []


def test_a_slow_writer_is_waited_for(path):
    """While another process writes, a write waits for it instead of failing."""
    journal = SqliteJournal(path)
    lease = begin(journal)
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("begin immediate")
    release = threading.Timer(0.15, other.execute, ["rollback"])
    release.start()
    journal.append(lease, [record()])
    release.join()
    assert kinds(journal) == [Kind.SUBMITTED, Kind.STARTED]
    journal.close()
    other.close()


def test_who_waits_too_long_is_told(path, monkeypatch):
    """A write that another process never lets in ends with the file's name, and nothing is written."""
    monkeypatch.setattr(sqlite_file, "PATIENCE", 0.05)
    journal = SqliteJournal(path)
    lease = begin(journal)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("begin immediate")
    with pytest.raises(JournalError, match=r"recovery.db: database is locked"):
        journal.append(lease, [record()])
    assert kinds(journal) == [Kind.SUBMITTED], "reading does not wait for who writes"
    other.execute("rollback")
    other.close()
    journal.append(lease, [record()])
    journal.close()


# Forks


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


def test_a_forked_child_has_its_own_connection(path):
    """A child reads and writes through a connection of its own, its parent goes on, and each sees the other's rows."""
    journal = SqliteJournal(path)
    lease = begin(journal)

    def in_child():
        assert kinds(journal) == [Kind.SUBMITTED]
        end(journal, begin(journal, "e2", "other"))
        with pytest.raises(PlanLockedError):
            begin(journal, "e3")
        journal.close()

    assert in_fork(in_child) == 0
    assert kinds(journal, "e2") == [Kind.SUBMITTED, Kind.ENDED]
    journal.append(lease, [record()])
    assert kinds(journal) == [Kind.SUBMITTED, Kind.STARTED]
    journal.close()
    db = sqlite3.connect(path)
    assert db.execute("pragma integrity_check").fetchone() == ("ok",)
    db.close()


def test_a_fork_in_the_middle_of_a_write(path, monkeypatch):
    """A child that is born while another thread of its parent writes can write too, and the parent's write holds."""
    monkeypatch.setattr(sqlite_file, "PATIENCE", 2.0)
    journal = SqliteJournal(path)
    lease = begin(journal)
    writing, forked = threading.Event(), threading.Event()

    def write():
        with journal._writing() as db:
            journal._insert(db, lease, [record()])
            writing.set()
            forked.wait(0.2)

    thread = threading.Thread(target=write)
    thread.start()
    writing.wait()
    assert in_fork(lambda: end(journal, begin(journal, "e2", "other"))) == 0
    forked.set()
    thread.join()
    assert kinds(journal) == [Kind.SUBMITTED, Kind.STARTED]
    assert kinds(journal, "e2") == [Kind.SUBMITTED, Kind.ENDED]
    journal.close()


def test_a_child_writes_on_after_its_parent_has_closed(path):
    """What a child writes is kept, also when its parent closed the journal while the child had it open."""
    journal = SqliteJournal(path)
    lease = begin(journal)
    to_child, to_parent = os.pipe(), os.pipe()

    def in_child():
        begin(journal, "c1", "first of child")
        os.write(to_parent[1], b"x")
        os.read(to_child[0], 1)
        begin(journal, "c2", "second of child")

    child = os.fork()
    if child == 0:
        code = 1
        try:
            in_child()
            code = 0
        finally:
            os._exit(code)
    os.read(to_parent[0], 1)
    journal.append(lease, [record()])
    journal.close()
    os.write(to_child[1], b"x")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert sorted(journal.latest(None, 9, None)) == ["c1", "c2", "e1"]
    assert kinds(journal) == [Kind.SUBMITTED, Kind.STARTED]
    journal.close()
    for end_of_pipe in (*to_child, *to_parent):
        os.close(end_of_pipe)


# Asking for what cannot be an id


@pytest.mark.parametrize("name", ["e9", "", "\ud800", "a'b; drop table journal"], ids=ascii)
def test_strange_ids_are_not_found(path, name):
    """Any text is an id that may be looked for, and is not found where it is none."""
    journal = SqliteJournal(path)
    begin(journal)
    for ask in (journal.records, lambda one: journal.latest(None, 5, one), lambda one: journal.take_over(one, ME, 1.0)):
        with pytest.raises(ExecutionNotFoundError):
            ask(name)
    assert kinds(journal) == [Kind.SUBMITTED]
    journal.close()
