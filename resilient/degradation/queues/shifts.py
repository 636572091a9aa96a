"""The daemon threads of a queue, which work in shifts: `stop` ends one, `start` begins the next."""

from __future__ import annotations

import threading
import time
from typing import Any

from resilient import _checks as check
from resilient._checks import Seconds


class Shifts:
    """What the queues have in common: their name, their threads, and how those begin and end."""

    _name: str

    def _begin_shift(self) -> None:
        """Begin with no threads, also in a forked child."""
        self._changed = threading.Condition()
        self._threads: dict[threading.Thread, Any] = {}
        # Who works in an earlier shift leaves; None while the queue is stopped.
        self._shift: object | None = object()

    @property
    def name(self) -> str:
        """What events call the queue."""
        return self._name

    def _hire(self) -> None:
        """See to it that there are enough workers."""
        raise NotImplementedError

    def _start_shift(self) -> None:
        with self._changed:
            if self._shift is None:
                self._shift = object()
        self._hire()

    def _end_shift(self, timeout: Seconds | None) -> bool:
        """Let nobody begin anything more; whether all have left within so many seconds (None: however long)."""
        limit = check.optional_seconds("timeout", timeout)
        with self._changed:
            self._shift = None
            threads = set(self._threads) - {threading.current_thread()}
            self._changed.notify_all()
        due = None if limit is None else time.monotonic() + limit
        for thread in threads:
            thread.join(None if due is None else max(0.0, due - time.monotonic()))
        return not any(thread.is_alive() for thread in threads)

    def __bool__(self) -> bool:
        # A queue has a length, and an empty one is a queue all the same.
        return True
