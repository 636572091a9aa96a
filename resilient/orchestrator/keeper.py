"""The thread that keeps the leases of this process alive, and looks for what other processes ask of its executions."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from resilient.events import log_failure
from resilient.orchestrator.journal import Journal
from resilient.orchestrator.real_time import monotonic
from resilient.orchestrator.run import Fenced, Look, Run

_log = logging.getLogger("resilient.orchestrator")

GLANCE = 0.05  # seconds between two looks at whether the journal has changed


class Keeper:
    """Renews each lease three times within its length; the thread ends when there is nothing to look after."""

    def __init__(self, journal: Journal, lease: float, runs: Callable[[], list[Run]]) -> None:
        self._journal = journal
        self._lease = lease
        self._runs = runs
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()

    def watch(self) -> None:
        """See to it that the thread runs."""
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(target=self._work, name="resilient-lease-keeper", daemon=True)
                thread.start()  # it may fail, and is tried again then
                self._thread = thread

    def ended(self, timeout: float) -> None:
        """Wait until the thread has ended, which it does when nothing is left to look after."""
        self._wake.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def dismiss(self) -> None:
        """Let the thread look at once whether it is still needed."""
        self._wake.set()

    def _work(self) -> None:
        step = min(GLANCE, self._lease / 6)
        renewed, seen = monotonic(), None
        while True:
            runs = self._runs()
            if not runs:
                with self._lock:
                    # Asked again under the lock: a run may have come since.
                    if not self._runs():
                        self._thread = None
                        return
                continue
            seen = self._look(runs, seen)
            if monotonic() - renewed >= self._lease / 3:
                renewed = monotonic()
                self._renew(runs)
            self._wake.wait(step)
            self._wake.clear()

    def _look(self, runs: list[Run], seen: object) -> object:
        try:
            now = self._journal.changes()
        except Exception:
            text = "the journal cannot be asked for changes"
            log_failure(_log, "orchestrator.journal_unreadable", text, kind="recovery")
            return seen
        if now != seen:
            for run in runs:
                run.post(Look())
        return now

    def _renew(self, runs: list[Run]) -> None:
        for run in runs:
            try:
                kept = self._journal.renew(run.lease)
            except Exception:
                # Not the end: the lease may hold until the journal can be written again, and every write is fenced.
                text, plan = "the lease of %s was not renewed", run.lease.plan_id
                log_failure(_log, "orchestrator.lease_not_renewed", text, plan, kind="recovery", policy=plan)
                continue
            if not kept:
                run.post(Fenced())
