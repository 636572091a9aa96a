"""SQLite connections that are bound to the thread that made them, while steps run in threads of their own."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections import OrderedDict

_MOST = 100
_REMEDY = "one made with check_same_thread=False, or a function that opens one"


class HomeFiles:
    """Which files connections belong to, remembered while a thread looks at them that may."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # With the connections themselves, as they know no weak references and an id alone may be used again.
        self._known: OrderedDict[int, tuple[sqlite3.Connection, str]] = OrderedDict()

    def problem(self, connection: sqlite3.Connection) -> tuple[str, str] | None:
        """What would be expected, and what this is, where no step could use it; None where one can."""
        if not _refuses(connection):
            file = _file_of(connection)
            if file:
                self._remember(connection, file)
            elif _refuses_others(connection):
                return _REMEDY, "a database in memory that only the thread that made it may use"
            return None
        if _is_closed(connection):
            return "an open connection", "a closed one"
        if self.file_of(connection) is None:
            return _REMEDY, "one that only the thread that made it may use, and that is not this one"
        return None

    def file_of(self, connection: sqlite3.Connection) -> str | None:
        """The file to be opened anew, where this thread may not use the connection itself; None where it may."""
        if not _refuses(connection):
            return None
        with self._lock:
            known = self._known.get(id(connection))
        return None if known is None else known[1]

    def _remember(self, connection: sqlite3.Connection, file: str) -> None:
        with self._lock:
            self._known[id(connection)] = (connection, file)
            self._known.move_to_end(id(connection))
            while len(self._known) > _MOST:
                self._known.popitem(last=False)


def _refuses(connection: sqlite3.Connection) -> bool:
    """Whether the connection cannot be used here: it is another thread's, or closed."""
    try:
        connection.cursor().close()
    except sqlite3.ProgrammingError:
        return True
    return False


def _refuses_others(connection: sqlite3.Connection) -> bool:
    answers: list[bool] = []
    other = threading.Thread(target=lambda: answers.append(_refuses(connection)), name="resilient-recovery-look")
    other.start()
    other.join()
    return answers == [True]


def _is_closed(connection: sqlite3.Connection) -> bool:
    """Whether it is closed, which it tells any thread."""
    try:
        _ = connection.total_changes
    except sqlite3.ProgrammingError:
        return True
    return False


def _file_of(connection: sqlite3.Connection) -> str:
    """The path of its database; empty for one in memory."""
    cursor = connection.cursor()
    cursor.row_factory = None  # rows may be anything otherwise
    try:
        found = [row[2] for row in cursor.execute("PRAGMA database_list") if row[0] == 0]
    finally:
        cursor.close()
    return os.fsdecode(found[0]) if found and found[0] else ""
