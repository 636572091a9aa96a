"""A journal in a SQLite file: what is written is on the disk before anything is done about it."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from resilient.orchestrator.errors import ExecutionNotFoundError, Holder, JournalError, PlanLockedError
from resilient.orchestrator.journal import Expiry, LeaseLostError, expiry
from resilient.orchestrator.records import Kind, Lease, Pending, Record, Signal, moment
from resilient.orchestrator.sqlite_file import SqliteFile

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


class SqliteJournal(SqliteFile):
    """Keeps executions in a SQLite file, which several processes of one machine may use at the same time.

    Rows are only ever added, in WAL mode with `synchronous=FULL`: what was written survives a power failure.
    The parameters of executions and the outputs of steps are in the file as they are: keep secrets out of both.
    A new file can be read and written by its owner alone.
    `create=False` refuses a path where there is no journal yet.
    Raises JournalError for a file that is damaged or is not a journal, and leaves such a file as it is.
    """

    schema = _SCHEMA

    def __init__(self, path: str | os.PathLike[str], *, create: bool = True) -> None:
        self._signals = 0
        super().__init__(path, create=create)

    @contextmanager
    def _session(self) -> Iterator[sqlite3.Connection]:
        try:
            with super()._session() as connection:
                yield connection
        except UnicodeEncodeError as error:  # half a character: nothing here can be called that
            raise self._not_found(error.object) from None

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
