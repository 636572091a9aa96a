"""A journal in a SQLite file: what is written is on the disk before anything is done about it."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from resilient.orchestrator.errors import ExecutionNotFoundError, Holder, JournalError, PlanLockedError
from resilient.orchestrator.forks import Survivor, tell_of_forks
from resilient.orchestrator.journal import Expiry, LeaseLostError, expiry
from resilient.orchestrator.records import Kind, Lease, Pending, Record, Signal, moment

#: In the header of the file, so that a file of somebody else is known before SQLite opens it: "RSLJ".
APPLICATION_ID = 0x52534C4A
VERSION = 1
PATIENCE = 30.0  # seconds to wait for another process that writes

_MAGIC = b"SQLite format 3\0"
_SCHEMA = """
create table executions (
    id text primary key, plan_id text not null, number integer not null, ended integer not null default 0
);
create index executions_by_plan on executions (plan_id, number);
create index executions_unfinished on executions (number) where ended = 0;
create table journal (
    number integer primary key autoincrement, execution_id text not null, token integer not null, kind text not null,
    step_id text, at real not null, elapsed real not null, data text not null
);
create index journal_by_execution on journal (execution_id, number);
create table signals (
    number integer primary key autoincrement, execution_id text not null, kind text not null, step_id text,
    at real not null, data text not null
);
create index signals_by_execution on signals (execution_id, number);
create table leases (
    plan_id text primary key, execution_id text not null, token integer not null, host text not null,
    pid integer not null, since real not null, boot text not null, monotonic real not null, wall real not null
);
create trigger journal_stays before update on journal begin select raise(abort, 'rows are only added'); end;
create trigger journal_remains before delete on journal begin select raise(abort, 'rows are only added'); end;
create trigger signals_stay before update on signals begin select raise(abort, 'rows are only added'); end;
create trigger signals_remain before delete on signals begin select raise(abort, 'rows are only added'); end;
"""

_PASSING = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM)
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_FORK_PATIENCE = 5.0  # seconds that a fork waits for a write to end

#: Connections that a fork has copied in use: closing one in the child could end the locks of the parent.
_left_alone: list[sqlite3.Connection] = []


class SqliteJournal(Survivor):
    """Keeps executions in a SQLite file, which several processes of one machine may use at the same time.

    Rows are only ever added, in WAL mode with `synchronous=FULL`: what was written survives a power failure.
    The parameters of executions and the outputs of steps are in the file as they are: keep secrets out of both.
    `create=False` refuses a path where there is no journal yet.
    Raises JournalError for a file that is damaged or is not a journal, and leaves such a file as it is.
    """

    def __init__(self, path: str | os.PathLike[str], *, create: bool = True) -> None:
        name: Any = os.fspath(path)
        if not isinstance(name, str) or not name.strip() or name == ":memory:" or "\0" in name:
            raise JournalError(f"path={name!r}: must be the name of a file; in memory there is MemoryJournal()")
        self.path = Path(name).absolute()
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._opened = self._signals = 0
        self._place = (0, 0)
        self._writes = False
        self._check_file(create)
        with self._session():
            pass
        tell_of_forks(self)

    # Opening

    def _check_file(self, create: bool) -> None:
        """Refuse what is not a journal before SQLite has touched it."""
        try:
            with self.path.open("rb") as file:
                header = file.read(100)
        except FileNotFoundError:
            if not create:
                raise JournalError(f"{self.path}: there is no journal") from None
            self._create()
            return
        except OSError as error:
            raise JournalError(f"{self.path}: cannot be read: {error.strerror or error}") from None
        if not header:
            return  # made by hand; the tables are made when it is opened
        if header[:16] != _MAGIC:
            raise JournalError(f"{self.path}: is not a journal of recoveries; it was left as it is")
        if int.from_bytes(header[68:72], "big") != APPLICATION_ID:
            raise JournalError(f"{self.path}: is a SQLite database of something else; it was left as it is")
        version = int.from_bytes(header[60:64], "big")
        if version != VERSION:
            raise JournalError(
                f"{self.path}: has version {version} of the journal, and this package reads {VERSION}; left as it is"
            )
        self._check_pages()

    def _create(self) -> None:
        """Make the file under another name first, so that whoever finds it finds all of it."""
        if not self.path.parent.is_dir():
            raise JournalError(f"{self.path}: cannot be made, as {self.path.parent} is not a directory")
        draft = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex}")
        try:
            self._open(draft).close()
            _publish(draft, self.path)
        except (OSError, sqlite3.Error) as error:
            raise JournalError(f"{self.path}: cannot be made: {error}") from None
        finally:
            for rest in ("", "-wal", "-shm", "-journal"):
                Path(f"{draft}{rest}").unlink(missing_ok=True)

    def _check_pages(self) -> None:
        """Refuse a damaged file, which must not be written to any further."""
        log = Path(f"{self.path}-wal")
        # Where nobody has it open, it is looked at without the files that SQLite would put beside it.
        found = "" if log.exists() else self._damage("immutable=1")
        if log.exists():
            found = self._damage("mode=ro")
        if found:
            raise JournalError(f"{self.path}: is damaged ({found}); it was left as it is")

    def _damage(self, how: str) -> str:
        """What is wrong with the pages of the file; empty if nothing."""
        try:
            with closing(sqlite3.connect(f"{self.path.as_uri()}?{how}", uri=True, timeout=PATIENCE)) as connection:
                found: str = connection.execute("pragma quick_check(1)").fetchone()[0]
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED:
                return str(error)
            raise JournalError(f"{self.path}: cannot be used: {error}") from None
        return "" if found == "ok" else found

    def _open(self, path: Path) -> sqlite3.Connection:
        # Autocommit: transactions are begun by hand, so that they take the write lock at once.
        connection = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("pragma synchronous = full")
            self._make_tables(connection)
            connection.execute("pragma journal_mode = wal")
        except BaseException:
            connection.close()
            raise
        return connection

    def _make_tables(self, connection: sqlite3.Connection) -> None:
        if connection.execute("pragma application_id").fetchone()[0] == APPLICATION_ID:
            return
        connection.execute("begin exclusive")
        # Somebody else may have made them while we waited.
        if connection.execute("pragma application_id").fetchone()[0] != APPLICATION_ID:
            for statement in _statements(_SCHEMA):
                connection.execute(statement)
            connection.execute(f"pragma application_id = {APPLICATION_ID}")
            connection.execute(f"pragma user_version = {VERSION}")
        connection.execute("commit")

    @contextmanager
    def _session(self) -> Iterator[sqlite3.Connection]:
        """The connection, for one thread at a time; what goes wrong is told with the file's name."""
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = self._open(self.path)
                    found = os.stat(self.path)
                    self._place = found.st_dev, found.st_ino
                    self._opened += 1
                yield self._connection
            except UnicodeEncodeError as error:  # half a character: nothing here can be called that
                raise self._not_found(error.object) from None
            except (sqlite3.Error, OSError) as error:
                failure = JournalError(f"{self.path}: {error}")
                failure.transient = getattr(error, "sqlite_errorcode", 0) & 0xFF in _PASSING
                raise failure from error

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """All of it or nothing, with nobody else writing."""
        with self._session() as connection:
            if self._writes:
                # A signal handler, or the garbage collector, in the middle of it: what it wrote would get lost.
                raise JournalError(f"{self.path}: this thread is writing to it already; leave it to another thread")
            self._writes = True
            try:
                if connection.in_transaction:  # Ctrl-C came at the worst moment
                    connection.execute("rollback")
                connection.execute("begin immediate")
                yield connection
                self._check_place()
                connection.execute("commit")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("rollback")
                raise
            finally:
                self._writes = False

    def _check_place(self) -> None:
        """Refuse to write to a file that is not there any more: nobody would ever read it."""
        try:
            found = os.stat(self.path)
        except OSError:
            found = None
        if found is None or (found.st_dev, found.st_ino) != self._place:
            self.close()
            raise JournalError(f"{self.path}: was moved, deleted or replaced while it was in use")

    # Leases

    def begin(
        self, execution_id: str, plan_id: str, holder: Holder, seconds: float, records: Sequence[Record]
    ) -> Lease:
        """See `Journal`."""
        with self._writing() as db:
            unfinished = db.execute("select id from executions where plan_id = ? and ended = 0", (plan_id,)).fetchone()
            if unfinished is not None:
                raise self._locked(db, plan_id, unfinished[0])
            row = db.execute("select token from leases where plan_id = ?", (plan_id,)).fetchone()
            lease = Lease(plan_id, execution_id, 1 if row is None else row[0] + 1, holder, seconds)
            self._grant(db, lease)
            number = self._insert(db, lease, records)
            db.execute("insert into executions values (?, ?, ?, 0)", (execution_id, plan_id, number))
        return lease

    def _locked(self, db: sqlite3.Connection, plan_id: str, execution_id: str) -> PlanLockedError:
        query = "select host, pid, since from leases where plan_id = ?"
        host, pid, since = self._one(db, query, plan_id)
        return PlanLockedError(plan_id, Holder(host, pid), moment(since), execution_id)

    def _one(self, db: sqlite3.Connection, query: str, plan_id: str) -> tuple[Any, ...]:
        row: tuple[Any, ...] | None = db.execute(query, (plan_id,)).fetchone()
        if row is None:
            raise JournalError(f"{self.path}: has no lease of plan {plan_id!r}, as somebody else has changed it")
        return row

    def take_over(self, execution_id: str, holder: Holder, seconds: float) -> Lease | None:
        """See `Journal`."""
        with self._writing() as db:
            row = db.execute("select plan_id, ended from executions where id = ?", (execution_id,)).fetchone()
            if row is None:
                raise self._not_found(execution_id)
            plan_id, ended = row
            query = "select token, boot, monotonic, wall from leases where plan_id = ?"
            token, *until = self._one(db, query, plan_id)
            if ended or not Expiry(*until).is_over():
                return None
            lease = Lease(plan_id, execution_id, token + 1, holder, seconds)
            self._grant(db, lease)
        return lease

    def _grant(self, db: sqlite3.Connection, lease: Lease) -> None:
        values = (lease.plan_id, lease.execution_id, lease.token, *lease.holder, time.time(), *expiry(lease.seconds))
        db.execute("insert or replace into leases values (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)

    def renew(self, lease: Lease) -> bool:
        """See `Journal`."""
        return self._prolong(lease, expiry(lease.seconds))

    def release(self, lease: Lease) -> None:
        """See `Journal`."""
        self._prolong(lease, Expiry("", 0.0, 0.0))

    def _prolong(self, lease: Lease, until: Expiry) -> bool:
        with self._writing() as db:
            query = "update leases set boot = ?, monotonic = ?, wall = ? where plan_id = ? and token = ?"
            return db.execute(query, (*until, lease.plan_id, lease.token)).rowcount == 1

    # Rows

    def append(self, lease: Lease, records: Sequence[Record], seen: int | None = None) -> bool:
        """See `Journal`."""
        with self._writing() as db:
            self._check_token(db, lease)
            if seen is not None and self._has_signal(db, lease.execution_id, seen):
                return False
            self._insert(db, lease, records)
        return True

    def end(self, lease: Lease, records: Sequence[Record], seen: int) -> bool:
        """See `Journal`."""
        with self._writing() as db:
            self._check_token(db, lease)
            if self._has_signal(db, lease.execution_id, seen):
                return False
            self._insert(db, lease, records)
            db.execute("update executions set ended = 1 where id = ?", (lease.execution_id,))
            db.execute("update leases set boot = '', monotonic = 0, wall = 0 where plan_id = ?", (lease.plan_id,))
        return True

    def _has_signal(self, db: sqlite3.Connection, execution_id: str, after: int) -> bool:
        query = "select 1 from signals where execution_id = ? and number > ? limit 1"
        return db.execute(query, (execution_id, after)).fetchone() is not None

    def _check_token(self, db: sqlite3.Connection, lease: Lease) -> None:
        """The fence: in the transaction that writes, so that no process writes that was taken over meanwhile."""
        query = "select token, host, pid, since from leases where plan_id = ?"
        token, host, pid, since = self._one(db, query, lease.plan_id)
        if token != lease.token:
            raise LeaseLostError(lease.plan_id, Holder(host, pid), since)

    def _insert(self, db: sqlite3.Connection, lease: Lease, records: Sequence[Record]) -> int:
        """Add rows, and return the number of the last."""
        query = (
            "insert into journal (execution_id, token, kind, step_id, at, elapsed, data) values (?, ?, ?, ?, ?, ?, ?)"
        )
        number = 0
        for one in records:
            data = json.dumps(one.data, separators=(",", ":"))
            row = (lease.execution_id, lease.token, one.kind.value, one.step_id, one.at, one.elapsed, data)
            number = db.execute(query, row).lastrowid or 0
        return number

    def records(self, execution_id: str) -> list[Record]:
        """See `Journal`."""
        query = "select kind, step_id, at, data, number, elapsed from journal where execution_id = ? order by number"
        with self._session() as db:
            rows = db.execute(query, (execution_id,)).fetchall()
        if not rows:
            raise self._not_found(execution_id)
        return [
            Record(one.kind, one.step_id, one.at, elapsed, one.data, one.number) for one, elapsed in self._read(rows)
        ]

    # Signals

    def signal(self, execution_id: str, signal: Signal, seen: int | None = None) -> bool:
        """See `Journal`."""
        with self._writing() as db:
            row = db.execute("select ended from executions where id = ?", (execution_id,)).fetchone()
            if row is None:
                raise self._not_found(execution_id)
            same = (execution_id, seen, signal.kind.value, signal.step_id)
            query = "select 1 from signals where execution_id = ? and number > ? and kind = ? and step_id is ? limit 1"
            if row[0] or (seen is not None and db.execute(query, same).fetchone() is not None):
                return False
            query = "insert into signals (execution_id, kind, step_id, at, data) values (?, ?, ?, ?, ?)"
            values: tuple[Any, ...] = (execution_id, signal.kind.value, signal.step_id, signal.at)
            db.execute(query, (*values, json.dumps(signal.data)))
        self._signals += 1
        return True

    def signals(self, execution_id: str, after: int) -> list[Signal]:
        """See `Journal`."""
        query = (
            "select kind, step_id, at, data, number from signals where execution_id = ? and number > ? order by number"
        )
        with self._session() as db:
            rows = db.execute(query, (execution_id, after)).fetchall()
        return [one for one, _ in self._read((*row, 0.0) for row in rows)]

    def _read(self, rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Signal, float]]:
        """Rows as they were written; JournalError for one that somebody else has changed."""
        for kind, step_id, at, data, number, elapsed in rows:
            try:
                found = Signal(Kind(kind), step_id, float(at), json.loads(data), number)
                if not isinstance(found.data, dict):
                    raise TypeError("its data is no table")
                yield found, float(elapsed)
            except (ValueError, TypeError) as error:
                raise JournalError(f"{self.path}: row {number} cannot be read ({error})") from None

    # Looking

    def unfinished(self) -> list[Pending]:
        """See `Journal`."""
        with self._session() as db:
            rows = db.execute("select id, plan_id from executions where ended = 0 order by number").fetchall()
        return [Pending(*row) for row in rows]

    def latest(self, plan_id: str | None, limit: int, before: str | None) -> list[str]:
        """See `Journal`."""
        with self._session() as db:
            number = None
            if before is not None:
                row = db.execute("select number from executions where id = ?", (before,)).fetchone()
                if row is None:
                    raise self._not_found(before)
                number = row[0]
            query = (
                "select id from executions where (:plan is null or plan_id = :plan) "
                "and (:number is null or number < :number) order by number desc limit :limit"
            )
            rows = db.execute(query, {"plan": plan_id, "number": number, "limit": limit}).fetchall()
        return [row[0] for row in rows]

    def changes(self) -> object:
        """See `Journal`."""
        with self._session() as db:
            # The first changes only by what others write, as this connection sees it; the others by what is done here.
            return db.execute("pragma data_version").fetchone()[0], self._opened, self._signals

    def _not_found(self, execution_id: str) -> ExecutionNotFoundError:
        return ExecutionNotFoundError(f"no execution {execution_id!r} is in {self.path}")

    # Leaving

    def close(self) -> None:
        """Close the file; using the journal opens it again."""
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def before_fork(self) -> bool:
        """Close the file, and let nobody open it: a child would inherit SQLite's book of locks without the locks."""
        if not self._lock.acquire(timeout=_FORK_PATIENCE):
            return False
        self.close()
        return True

    def after_fork_in_parent(self) -> None:
        """Let threads go on, which open the file again."""
        self._lock.release()

    def after_fork(self) -> None:
        """Open the file anew in a forked child, when it is needed."""
        self._lock = threading.RLock()
        self._writes = False
        connection, self._connection = self._connection, None
        if connection is not None:
            _left_alone.append(connection)

    def __repr__(self) -> str:
        return f"SqliteJournal({str(self.path)!r})"


def _publish(draft: Path, path: Path) -> None:
    """Give a finished file its name, unless somebody else was quicker."""
    try:
        os.link(draft, path)
    except FileExistsError:
        return
    except OSError:  # a file system without links
        if not path.exists():
            os.replace(draft, path)


def _statements(script: str) -> Iterator[str]:
    """The statements of a script; `executescript` would commit the transaction it is to be part of."""
    text = ""
    for line in script.splitlines(keepends=True):
        text += line
        if sqlite3.complete_statement(text):
            yield text
            text = ""
