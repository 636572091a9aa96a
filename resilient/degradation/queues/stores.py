"""Where durable queues keep their calls: huey's storages, behind the few steps that are needed of them."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib import import_module
from typing import Any

from resilient._checks import bad
from resilient.errors import ConfigurationError

_FORK_PATIENCE = 5.0


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


def _ids(items: Iterable[Any]) -> list[str]:
    return [bytes(item).decode() for item in items]


class SqliteStore(Store):
    """In a file; everything is on the disk before a step returns."""

    def __init__(self, path: str | os.PathLike[str], name: str) -> None:
        make = huey_storage("queue", "huey").SqliteStorage
        try:
            storage = make(name, filename=os.fspath(path), fsync=True, journal_mode="wal", timeout=30)
        except Exception as error:
            raise bad("path", os.fspath(path), f"cannot be used as an SQLite file ({error})") from error
        storage.lock = threading.RLock()  # re-entrant, for `before_fork`
        super().__init__(storage)

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

    def __init__(self, url: str, name: str) -> None:
        storages = huey_storage("redis", "redis")
        # Other characters would be left out, and two queues might become one.
        plain = re.sub(r"[^A-Za-z0-9]", lambda found: f"_{ord(found[0]):x}_", name)
        super().__init__(storages.RedisStorage(plain, blocking=False, url=url))

    def swap(self, key: str, old: bytes, new: bytes) -> bool:
        """Replace a value if it is still the old one; whether that was so."""
        return bool(self.storage.conn.eval(_SWAP, 1, self.storage.result_key, key, old, new))

    def keys(self) -> list[str]:
        """All keys."""
        return _ids(self.storage.conn.hkeys(self.storage.result_key))

    def close(self) -> None:
        """Close the connections; the next use opens new ones."""
        self.storage.pool.disconnect()
