"""Where durable queues keep their calls: huey's storages, behind the few steps that are needed of them."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterable
from contextlib import closing, suppress
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from resilient._checks import bad
from resilient.deadlines import clip
from resilient.errors import ConfigurationError

_FORK_PATIENCE = 5.0
_PATIENCE = 30.0  # seconds to wait for a file that others write to, where no deadline ends sooner


class _Moment(datetime):
    """A moment that stays the same moment where a storage reads it as local time, also when summer time ends."""

    def timetuple(self) -> time.struct_time:
        """The local time, with whether that is summer time."""
        return time.localtime(self.timestamp())


def _moment(when: float) -> _Moment:
    return _Moment.fromtimestamp(when, UTC)


def huey_storage(extra: str, wanted: str) -> Any:
    """The module of huey's storages; ConfigurationError says how to install what is missing."""
    try:
        import_module(wanted)
        return import_module("huey.storage")
    except ImportError as error:
        raise ConfigurationError(
            f"this queue needs {error.name or wanted}: pip install 'resilient-toolkit[{extra}]'"
        ) from error


class Store:
    """A queue, a schedule and a table of bytes under one name; subclasses add what huey's storages lack."""

    def __init__(self, storage: Any) -> None:
        self.storage = storage
        self._empty = import_module("huey.constants").EmptyData

    # The queue and the schedule of ids. Both forget an id as they hand it out.

    def push(self, key: str) -> None:
        """Put an id at the end of the queue."""
        self.storage.enqueue(key.encode())

    def pull(self) -> str | None:
        """Take the first id off the queue."""
        data = self.storage.dequeue()
        return None if data is None else bytes(data).decode()

    def later(self, key: str, when: float) -> None:
        """Put an id on the schedule."""
        self.storage.add_to_schedule(key.encode(), _moment(when))

    def due(self, now: float) -> list[str]:
        """Take all ids off the schedule whose time has come."""
        return _ids(self.storage.read_schedule(_moment(now)))

    def listed(self) -> set[str]:
        """The ids on the queue and on the schedule."""
        return {*_ids(self.storage.enqueued_items()), *_ids(self.storage.scheduled_items())}

    # The table.

    def put(self, key: str, value: bytes) -> None:
        """Set a value."""
        self.storage.put_data(key, value)

    def add(self, key: str, value: bytes) -> bool:
        """Set a value where there is none; whether that was so."""
        return bool(self.storage.put_if_empty(key, value))

    def get(self, key: str) -> bytes | None:
        """The value, or None."""
        value = self.storage.peek_data(key)
        return None if value is self._empty else bytes(value)

    def drop(self, key: str) -> None:
        """Remove a value, if there is one."""
        self.storage.pop_data(key)

    def swap(self, key: str, old: bytes, new: bytes) -> bool:
        """Replace a value if it is still the old one; whether that was so."""
        raise NotImplementedError

    def keys(self) -> list[str]:
        """All keys."""
        raise NotImplementedError

    def forget(self, now: float, most: int) -> int:
        """Remove values whose time on the schedule has come, at most so many, and return how many."""
        raise NotImplementedError

    def __len__(self) -> int:
        return int(self.storage.result_store_size())

    def close(self) -> None:
        """Close the connection; the next use opens a new one."""
        self.storage.close()

    def before_fork(self) -> bool:
        """Let no thread use the connection while the process forks; whether `after_fork` is to be called."""
        return False

    def after_fork(self) -> None:
        """In the parent: let threads go on."""

    def in_child(self) -> None:
        """Begin anew in a forked child, which connects when it has to."""


def _ids(items: Iterable[Any]) -> list[str]:
    return [bytes(item).decode() for item in items]


#: The tables of huey, and their columns.
_TABLES = {
    "kv": {"queue", "key", "value"},
    "schedule": {"id", "queue", "data", "timestamp"},
    "task": {"id", "queue", "data", "priority"},
    "counter": {"queue", "key", "value"},
}


def _check_file(path: str) -> None:
    """Make the file, for its owner only, or see that it is a queue's, without changing it; raises ValueError."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        return
    # Not by opening it: to close it again would take the locks away that other connections of this process hold.
    if not Path(path).stat().st_size:
        return
    tables = _tables(path)
    if tables and any(tables.get(name) != columns for name, columns in _TABLES.items()):
        raise ValueError("it holds other things than queues")


def _tables(path: str) -> dict[str, set[str]]:
    # Even to read, SQLite makes two files beside one in WAL mode, unless it is said that nobody changes it.
    import sqlite3

    sole = "&immutable=1" if not os.path.exists(path + "-wal") else ""
    with closing(sqlite3.connect(f"{Path(path).as_uri()}?mode=ro{sole}", uri=True, timeout=_PATIENCE)) as connection:
        names = [name for (name,) in connection.execute("select name from sqlite_master where type <> 'index'")]
        columns = "select name from pragma_table_info(?)"
        return {name: {column for (column,) in connection.execute(columns, (name,))} for name in names}


class _Lock:
    """huey's lock around a connection, and the wait for the file, no longer than the deadline of who asks allows.

    Re-entrant, for `before_fork` and `close`.
    """

    def __init__(self, storage: Any) -> None:
        self._lock = threading.RLock()
        self._storage = storage

    def __enter__(self) -> None:
        left = clip(_PATIENCE)
        if not self._lock.acquire(timeout=left):
            raise TimeoutError("the connection is in use by another thread")
        try:
            if left != self._storage._timeout:
                self._set_patience(left)
        except BaseException:
            self._lock.release()
            raise

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def _set_patience(self, seconds: float) -> None:
        self._storage._timeout = seconds
        if self._storage._conn is not None:
            self._storage._conn.execute(f"pragma busy_timeout = {int(seconds * 1000)}")

    def acquire(self, timeout: float) -> bool:
        """Take the lock; whether that went."""
        return self._lock.acquire(timeout=timeout)

    def release(self) -> None:
        """Give the lock back."""
        self._lock.release()


#: Connections that forked children have inherited in use: closing them would take the parent's locks away.
_inherited: list[Any] = []


class SqliteStore(Store):
    """In a file; everything is on the disk before a step returns."""

    def __init__(self, path: str, name: str) -> None:
        make = huey_storage("queue", "huey").SqliteStorage
        try:
            _check_file(path)
            storage = make(name, filename=path, fsync=True, journal_mode="wal", timeout=_PATIENCE)
        except Exception as error:
            raise bad("path", path, f"cannot be used as an SQLite file ({error})") from error
        storage.lock = _Lock(storage)
        super().__init__(storage)

    def close(self) -> None:
        """Close the connection; the next use opens a new one."""
        with self.storage.lock:
            self.storage.close()

    def in_child(self) -> None:
        """Begin anew in a forked child, which connects when it has to."""
        if self.storage._conn is not None:
            _inherited.append(self.storage._conn)
        self.storage._conn = None
        self.storage.lock = _Lock(self.storage)

    def before_fork(self) -> bool:
        """Close the connection and let nobody open another one.

        A child that inherits one inherits SQLite's book of locks too, without the locks; or, from a thread that was
        at work, a mutex that nobody ever releases.
        """
        if not self.storage.lock.acquire(timeout=_FORK_PATIENCE):
            return False
        self.storage.close()
        return True

    def after_fork(self) -> None:
        """In the parent: let threads go on."""
        self.storage.lock.release()

    def swap(self, key: str, old: bytes, new: bytes) -> bool:
        """Replace a value if it is still the old one; whether that was so."""
        with self.storage.db(commit=True) as cursor:
            cursor.execute(
                "update kv set value = ? where queue = ? and key = ? and value = ?",
                (new, self.storage.name, key, old),
            )
            return bool(cursor.rowcount == 1)

    def forget(self, now: float, most: int) -> int:
        """Remove values whose time on the schedule has come, at most so many, and return how many."""
        due = "select id, data from schedule where queue = ? and timestamp <= ? order by timestamp limit ?"
        name = self.storage.name
        if not self.storage.sql(due, (name, now, 1), False, True):
            return 0  # found without the exclusive lock
        with self.storage.db(commit=True) as cursor:
            rows = cursor.execute(due, (name, now, most)).fetchall()
            keys = [(name, key) for key in _ids(data for _, data in rows)]
            cursor.executemany("delete from kv where queue = ? and key = ?", keys)
            cursor.executemany("delete from schedule where id = ?", [(row,) for row, _ in rows])
        return len(rows)

    def keys(self) -> list[str]:
        """All keys."""
        return [
            key for (key,) in self.storage.sql("select key from kv where queue = ?", (self.storage.name,), False, True)
        ]


_SWAP = """
if redis.call('hget', KEYS[1], ARGV[1]) == ARGV[2] then
    redis.call('hset', KEYS[1], ARGV[1], ARGV[3])
    return 1
end
return 0
"""


class RedisStore(Store):
    """On a Redis server, which is as durable as its own configuration."""

    def __init__(self, url: Any, name: str) -> None:
        storages = huey_storage("redis", "redis")
        # Other characters would be left out, and two queues might become one.
        plain = re.sub(r"[^A-Za-z0-9]", lambda found: f"_{ord(found[0]):x}_", name)
        # Without the value, which may hold a password.
        remedy = "url: must be an address with a scheme, such as 'redis://localhost:6379/0'"
        if not isinstance(url, str) or not url:
            raise ConfigurationError(remedy)
        try:
            storage = storages.RedisStorage(plain, blocking=False, url=url)
        except Exception as error:
            raise ConfigurationError(f"{remedy} ({type(error).__name__})") from None
        super().__init__(storage)

    def swap(self, key: str, old: bytes, new: bytes) -> bool:
        """Replace a value if it is still the old one; whether that was so."""
        return bool(self.storage.conn.eval(_SWAP, 1, self.storage.result_key, key, old, new))

    def forget(self, now: float, most: int) -> int:
        """Remove values whose time on the schedule has come, at most so many, and return how many."""
        storage = self.storage
        found = storage.conn.zrangebyscore(storage.schedule_key, "-inf", now, start=0, num=most)
        if found:
            both = storage.conn.pipeline()
            both.hdel(storage.result_key, *found)
            both.zrem(storage.schedule_key, *found)
            both.execute()
        return len(found)

    def keys(self) -> list[str]:
        """All keys."""
        return _ids(self.storage.conn.hkeys(self.storage.result_key))

    def close(self) -> None:
        """Close the connections; the next use opens new ones."""
        self.storage.pool.disconnect()
