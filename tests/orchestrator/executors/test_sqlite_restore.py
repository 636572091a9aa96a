"""Steps of `database_restore` between SQLite files, whole and damaged ones, also while others have them open."""

import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing

import pytest

from resilient.orchestrator.executors import ActionFailedError, ActionStoppedError, DatabaseRestoreExecutor

from .helpers import Stop, context, names, step

restoring = DatabaseRestoreExecutor()


def make(path, *values, wal=False, page=4096, rows=1):
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA page_size = {page}")
        if wal:
            connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE things (value, filler)")
        connection.execute("BEGIN")
        for value in values:
            connection.executemany("INSERT INTO things VALUES (?, ?)", [(value, "x" * 500)] * rows)
        connection.execute("COMMIT")
    return path


def values(path):
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True)) as connection:
        return [row[0] for row in connection.execute("SELECT DISTINCT value FROM things ORDER BY value")]


@pytest.fixture
def source(tmp_path):
    (tmp_path / "backups").mkdir()
    return make(tmp_path / "backups" / "good.db", "good")


@pytest.fixture
def target(tmp_path):
    (tmp_path / "live").mkdir()
    return make(tmp_path / "live" / "app.db", "old", "older")


def restore(source, target, told=None, **parameters):
    return restoring.execute(step("database_restore", source=source, target=target, **parameters), told or context())


def undo(source, target, run="run-1"):
    told = step("database_restore", source=source, target=target)
    return restoring.rollback(told, context(run, undoing=True))


@pytest.mark.parametrize("to_wal", [True, False])
@pytest.mark.parametrize("from_wal", [True, False])
def test_restore(tmp_path, from_wal, to_wal):
    """The target has what the source has, rollback brings the old content back, and nothing stays beside it."""
    source = make(tmp_path / "good.db", "good", wal=from_wal)
    (tmp_path / "live").mkdir()
    target = make(tmp_path / "live" / "app.db", "old", wal=to_wal)
    target.chmod(0o640)
    found = restore(source, target)
    assert values(target) == ["good"]
    assert (found["target"], found["method"]) == (str(target), "online")
    assert stat.S_IMODE(os.stat(found["backup"]).st_mode) == 0o640
    assert undo(source, target) == {"target": str(target), "restored": True}
    assert values(target) == ["old"]
    assert names(target.parent) == ["app.db"]
    assert [name for name in names(tmp_path) if not name.startswith("good.db")] == ["live"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert not undo(source, target)["restored"]


def test_repetition(source, target):
    """A repetition with the same key keeps the state from before the first attempt."""
    first = restore(source, target)
    assert restore(source, target) == first
    undo(source, target)
    assert values(target) == ["old", "older"]


def test_rollback_without_execute(source, target):
    """Rollback of a step that never ran does nothing."""
    assert not undo(source, target)["restored"]
    assert values(target) == ["old", "older"]


def test_missing_target(source, tmp_path):
    """A target that is not there is made, and taken away again."""
    target = tmp_path / "new.db"
    assert restore(source, target) == {"target": str(target), "backup": None, "method": "replaced"}
    assert restore(source, target)["backup"] is None
    assert values(target) == ["good"]
    assert undo(source, target)["restored"]
    assert names(tmp_path) == ["backups"]
    with pytest.raises(ActionFailedError, match="there is no directory"):
        restore(source, tmp_path / "gone" / "new.db")


def test_live_source(source, target):
    """The other way round it makes a backup of a database that is in use, log included."""
    with closing(sqlite3.connect(target, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("INSERT INTO things VALUES ('new', '')")
        restore(target, source)
        assert values(source) == ["good"] or values(source) == ["new", "old", "older"]
    assert values(source) == ["new", "old", "older"]
    assert names(source.parent)[-1] == "good.db"


def spoil(file, begin, size):
    content = bytearray(file.read_bytes())
    content[begin : begin + size] = os.urandom(size)
    file.write_bytes(content)


@pytest.mark.parametrize("begin", [0, 4096])
def test_damaged_target(source, tmp_path, begin):
    """A damaged target, be it the header or a page, becomes whole, and comes back byte for byte with its log."""
    target = make(tmp_path / "app.db", "old", rows=200)
    spoil(target, begin, 2000)
    target.chmod(0o600)
    log = tmp_path / "app.db-wal"
    log.write_bytes(b"the rest of a log")
    before = target.read_bytes()
    found = restore(source, target)
    assert found["method"] == ("replaced" if begin == 0 else "online")
    assert values(target) == ["good"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    restore(source, target)
    assert undo(source, target)["restored"]
    assert target.read_bytes() == before
    assert log.read_bytes() == b"the rest of a log"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert names(tmp_path) == ["app.db", "app.db-wal", "backups"]


@pytest.mark.parametrize("content", [b"", b"hello", b"x" * 5000])
def test_target_that_is_no_database(source, target, content):
    """What is no database at all is replaced, and comes back byte for byte, or for an empty file as good as that."""
    target.write_bytes(content)
    restore(source, target)
    assert values(target) == ["good"]
    undo(source, target)
    if content:
        assert target.read_bytes() == content
    else:
        with closing(sqlite3.connect(target)) as connection:
            assert connection.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,)


@pytest.mark.parametrize("how", ["missing", "empty", "header", "page", "text", "directory"])
def test_bad_source(source, target, how):
    """A source that is not whole is refused before the target is touched or anything is kept."""
    if how == "missing":
        source.unlink()
    elif how == "directory":
        source = source.parent
    elif how == "page":
        source.unlink()
        make(source, "good", rows=200)
        spoil(source, 8192, 3000)
    else:
        source.write_bytes({"empty": b"", "header": os.urandom(8192), "text": b"CREATE TABLE x (y);"}[how])
    before = target.read_bytes()
    with pytest.raises(ActionFailedError, match=r"source=.*: (there is no such file|is empty|is no whole SQLite)"):
        restore(source, target)
    assert target.read_bytes() == before
    assert names(target.parent) == ["app.db"]


def test_same_file(target, tmp_path):
    """A file is not restored onto itself, also not by another name."""
    (tmp_path / "link.db").symlink_to(target)
    os.link(target, tmp_path / "twin.db")
    for name in ("link.db", "twin.db"):
        with pytest.raises(ActionFailedError, match="are the same file"):
            restore(tmp_path / name, target)


READER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
print([row[0] for row in connection.execute("SELECT DISTINCT value FROM things ORDER BY value")], flush=True)
for line in sys.stdin:
    if line == "lock\\n":
        connection.execute("BEGIN IMMEDIATE")
    if line == "free\\n":
        connection.execute("ROLLBACK")
    print([row[0] for row in connection.execute("SELECT DISTINCT value FROM things ORDER BY value")], flush=True)
"""


class Other:
    """Another process that has a database open."""

    def __init__(self, path):
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", READER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.sees()

    def sees(self):
        return self._process.stdout.readline().strip()

    def told(self, what):
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        return self.sees()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


@pytest.mark.parametrize("wal", [True, False])
def test_target_in_use(source, tmp_path, wal):
    """A process that has the target open sees the new content, and after the rollback the old one again."""
    target = make(tmp_path / "app.db", "old", wal=wal)
    with Other(target) as other:
        restore(source, target)
        assert other.told("look") == "['good']"
        undo(source, target)
        assert other.told("look") == "['old']"


def test_locked_target(source, target):
    """A target that stays locked fails the step after the time for it, and is as it was."""
    with Other(target) as other:
        other.told("lock")
        with pytest.raises(ActionFailedError, match=r"somebody else has locked the database for 0\.1 s") as caught:
            restore(source, target, busy_timeout=0.1)
        assert caught.value.is_retryable()
        stop = Stop()
        with pytest.raises(ActionStoppedError):
            restore(source, target, context(stopped=stop), busy_timeout=30)
        assert stop.ago < 0.3
        assert other.told("free") == "['old', 'older']"
        restore(source, target)
        assert other.told("look") == "['good']"


def test_other_page_size(tmp_path):
    """Pages of another size need nobody else who uses the write-ahead log; it is there again afterwards."""
    source = make(tmp_path / "good.db", "good", page=1024)
    target = make(tmp_path / "app.db", "old", wal=True)
    with Other(target) as other:
        with pytest.raises(ActionFailedError, match="its pages have another size"):
            restore(source, target)
        assert other.told("look") == "['old']"
    restore(source, target)
    with closing(sqlite3.connect(target)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA page_size").fetchone() == (1024,)
    undo(source, target)
    assert values(target) == ["old"]


def test_backup_dir(source, target, tmp_path):
    """The state from before can be kept in another directory."""
    keep = tmp_path / "keep"
    keep.mkdir()
    found = restore(source, target, backup_dir=keep)
    assert os.path.dirname(found["backup"]) == str(keep)
    assert names(target.parent) == ["app.db"]
    told = step("database_restore", source=source, target=target, backup_dir=keep)
    assert restoring.rollback(told, context(undoing=True))["restored"]
    assert values(target) == ["old", "older"]
    assert names(keep) == []


KILLED = """
import os, sys
from resilient.orchestrator.executors import DatabaseRestoreExecutor, keeping, sqlite_files
from resilient.orchestrator.model import RecoveryContext, RecoveryStep
source, target, place = sys.argv[1:]
real_put = keeping.put
def die(*_):
    os.kill(os.getpid(), 9)
def put(file, to):
    if place == "before keeping":
        die()
    real_put(file, to)
    if place == "after keeping":
        die()
keeping.put = sqlite_files.put = put
told = RecoveryContext("run-1", "plan", step_id="work")
if place == "amid restoring":
    sqlite_files._STEP_PAGES = 5
    def patience(to, *_):
        def look(status, remaining, total):
            if str(to) == os.path.realpath(target) and remaining < total - 10:
                die()
        return look
    sqlite_files._patience = patience
step = RecoveryStep("work", "Work", "database_restore", {"source": source, "target": target})
DatabaseRestoreExecutor().execute(step, told)
"""


@pytest.mark.parametrize("place", ["before keeping", "after keeping", "amid restoring"])
@pytest.mark.parametrize("wal", [True, False])
def test_killed(tmp_path, place, wal):
    """Killed anywhere, the target is whole; a repetition restores it, and rollback brings back the first state."""
    (tmp_path / "live").mkdir()
    source = make(tmp_path / "good.db", "good", rows=1000)
    target = make(tmp_path / "live" / "app.db", "old", rows=500, wal=wal)
    ended = subprocess.run([sys.executable, "-c", KILLED, source, target, place], check=False)  # noqa: S603
    assert ended.returncode == -9
    assert values(target) == ["old"]
    restore(source, target)
    assert values(target) == ["good"]
    undo(source, target)
    assert values(target) == ["old"]
    assert names(target.parent) == ["app.db"]


def test_rollback_after_kill(tmp_path):
    """Rollback straight after a kill amid the restore leaves the first state, too."""
    source = make(tmp_path / "good.db", "good", rows=1000)
    target = make(tmp_path / "app.db", "old", rows=500)
    subprocess.run([sys.executable, "-c", KILLED, source, target, "amid restoring"], check=False)  # noqa: S603
    assert undo(source, target)["restored"]
    assert values(target) == ["old"]
    assert names(tmp_path) == ["app.db", "good.db"]


@pytest.mark.parametrize("looks", range(0, 12, 2))
def test_stopped(tmp_path, looks):
    """A step that is stopped leaves the target as it was, wherever it is stopped."""
    source = make(tmp_path / "good.db", "good", rows=9000)
    target = make(tmp_path / "app.db", "old", rows=4500)
    left = [looks]

    def stopped():
        left[0] -= 1
        return left[0] < 0

    try:
        restore(source, target, context(stopped=stopped))
    except ActionStoppedError:
        assert values(target) == ["old"]
    else:
        assert left[0] >= 0
        assert values(target) == ["good"]
    undo(source, target)
    assert values(target) == ["old"]


def test_new_target_is_as_private_as_the_source(source, tmp_path):
    """Where there was no target, nobody may read the new one who may not read the source; and it can be written."""
    for mode, expected in ((0o600, 0o600), (0o440, 0o640)):
        source.chmod(mode)
        target = tmp_path / f"{mode}.db"
        restore(source, target)
        assert stat.S_IMODE(target.stat().st_mode) == expected


def test_urls_of_files(source, target):
    """A SQLite file may be given as a URL; a database in memory is refused, as it ends with the step."""
    executor = DatabaseRestoreExecutor()
    work = step("database_restore", source=f"sqlite:///{source}", target=f"sqlite:///{target}")
    assert executor.problems(work) == []
    assert executor.execute(work, context())["target"] == str(target)
    assert values(target) == ["good"]
    [(name, said)] = executor.problems(step("database_restore", source=str(source), target=":memory:"))
    assert name == "target"
    assert "in memory" in said


def test_source_where_nothing_can_be_written(tmp_path, target, monkeypatch):
    """A backup with a write-ahead log is restored from a folder nobody can write to, and nothing is made there."""
    folder = tmp_path / "backups"
    folder.mkdir()
    make(folder / "good.db", "good", wal=True)
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, *how: str(path) != str(folder) and real(path, *how))
    restore(folder / "good.db", target)
    assert values(target) == ["good"]
    assert names(folder) == ["good.db"]
