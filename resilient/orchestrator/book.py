"""The records of one execution on their way: into its progress, into the journal, and then to whoever listens."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from resilient.events import log_note
from resilient.orchestrator import announcements
from resilient.orchestrator.engine import Host
from resilient.orchestrator.errors import JournalError
from resilient.orchestrator.journal import Journal
from resilient.orchestrator.progress import Progress
from resilient.orchestrator.real_time import monotonic
from resilient.orchestrator.records import Kind, Lease, Record, Signal

_log = logging.getLogger("resilient.orchestrator")

JOURNAL_PATIENCE = 20.0  # seconds in which a journal that cannot be written may recover


class Book:
    """Keeps progress and journal of one execution in step; `seen` is the last signal that was looked at."""

    def __init__(
        self, progress: Progress, lease: Lease, journal: Journal, host: Host, *, elapsed: float, seen: int
    ) -> None:
        self._progress = progress
        self._lease = lease
        self._journal = journal
        self._host = host
        self._offset = monotonic() - elapsed
        self._seen = seen
        self._records: list[Record] = []

    def elapsed(self) -> float:
        """Seconds since the execution began."""
        return monotonic() - self._offset

    def put(self, kind: Kind, step_id: str | None, data: dict[str, Any], at: float | None = None) -> None:
        """Take a record into the progress; `commit` writes it."""
        record = self._record(kind, step_id, data, at)
        self._records.append(record)
        self._progress.apply(record)

    def commit(self) -> None:
        """Write what was put, and only then tell of it. Raises LeaseLostError, or JournalError."""
        if self._records:
            self._write(lambda: self._journal.append(self._lease, self._records))
            self._tell()

    def settle(self, kind: Kind, step_id: str | None, data: dict[str, Any]) -> bool:
        """Write a record that is true by being written; False, and nothing happens, where a signal has come first."""
        self.commit()
        record = self._record(kind, step_id, data)
        write = self._journal.end if kind is Kind.ENDED else self._journal.append
        if not self._write(lambda: write(self._lease, [record], self._seen)):
            return False
        self._progress.apply(record)
        self._records.append(record)
        self._tell()
        return True

    def check(self) -> None:
        """Raise LeaseLostError if somebody has taken over."""
        self._journal.append(self._lease, [])

    def signals(self) -> Sequence[Signal]:
        """What somebody outside has asked for since the last look."""
        found = self._journal.signals(self._lease.execution_id, self._seen)
        if found:
            self._seen = found[-1].number
        return found

    def _record(self, kind: Kind, step_id: str | None, data: dict[str, Any], at: float | None = None) -> Record:
        return Record(kind, step_id, time.time() if at is None else at, self.elapsed(), data)

    def _write(self, write: Callable[[], bool]) -> bool:
        """Write to the journal, again and again for a while where it cannot be: a disk may be full for a moment.

        Meanwhile nothing begins. A lease that was lost, and a file that is gone, are no such moment.
        """
        end, pause = monotonic() + JOURNAL_PATIENCE, 0.05
        while True:
            try:
                return write()
            except JournalError as error:
                if not error.transient or monotonic() + pause >= end:
                    raise
                event, plan = "orchestrator.journal_not_written", self._lease.plan_id
                text = "%s; trying again"
                log_note(_log, logging.WARNING, event, text, error, kind="recovery", policy=plan, error=error)
            time.sleep(pause)
            pause = min(pause * 2, 1.0)

    def _tell(self) -> None:
        records, self._records = self._records, []
        for event in announcements.events_of(self._lease, records, self._progress):
            self._host.publish(event)
