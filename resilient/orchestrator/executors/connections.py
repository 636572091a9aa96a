"""Connections to databases, in all the ways in which a step may name one."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard
from urllib.parse import unquote

from resilient.errors import ConfigurationError
from resilient.orchestrator.executors.calls import found
from resilient.orchestrator.executors.failures import ActionFailedError
from resilient.orchestrator.executors.parameters import Parameters, is_named, kind_of

if TYPE_CHECKING:
    from sqlite3 import Connection

    from resilient.orchestrator.executors.sqlite_connections import HomeFiles

_EXPECTED = 'a connection, a function that opens one, "package.module:function", or the path of a SQLite file'
_SQLITE = "sqlite:///"
#: Seconds that SQLite waits for whoever else has locked the file.
_BUSY = 5.0


class Openers:
    """The ways to connections that the steps of one orchestrator name."""

    def __init__(self) -> None:
        self._made: HomeFiles | None = None

    def judge(self, given: Parameters, name: str) -> None:
        """Note what is wrong with the way to a connection."""
        value = given.raw(name)
        if value is None:
            given.note(name, _EXPECTED, "none")
        elif isinstance(value, str):
            if not given.unknown(value) and not (is_named(value) or _is_path(value)):
                given.note(name, _EXPECTED, "another text")
        elif _is_sqlite(value):
            said = self._homes().problem(value)
            if said:
                given.note(name, *said)
        elif not isinstance(value, os.PathLike) and not callable(value) and not hasattr(value, "cursor"):
            given.note(name, _EXPECTED, kind_of(value))

    @contextlib.contextmanager
    def opened(self, way: Any) -> Iterator[Any]:
        """A connection, closed at the end if it was opened here; nothing that was written in it is kept then."""
        if _is_sqlite(way):
            way = self._homes().file_of(way) or way
        if not isinstance(way, (str, os.PathLike)) and hasattr(way, "cursor"):
            yield way
            return
        connection = _open(way)
        try:
            yield connection
        finally:
            with contextlib.suppress(Exception):
                connection.rollback()
            connection.close()

    def _homes(self) -> HomeFiles:
        from resilient.orchestrator.executors.sqlite_connections import HomeFiles

        if self._made is None:
            self._made = HomeFiles()
        return self._made


def _is_sqlite(value: Any) -> TypeGuard[Connection]:
    module: Any = sys.modules.get("sqlite3")  # whoever has such a connection has imported it
    return module is not None and isinstance(value, module.Connection)


def _is_path(text: str) -> bool:
    """Whether a text names a SQLite file. URLs of other kinds, `host=...` and `:memory:` do not."""
    if text.startswith(_SQLITE):
        return True
    return bool(text) and "://" not in text and "=" not in text and "\0" not in text and not text.startswith(":")


def _open(way: Any) -> Any:
    if isinstance(way, str) and way.startswith(_SQLITE):
        return _sqlite(unquote(way.removeprefix(_SQLITE)))
    if isinstance(way, os.PathLike) or (isinstance(way, str) and not is_named(way)):
        return _sqlite(os.fsdecode(way))
    factory: Callable[[], Any] = found(way) if isinstance(way, str) else way
    if not callable(factory):
        raise ConfigurationError(
            f"connection={way}: expected a function that opens a connection, got {kind_of(factory)}"
        )
    connection = factory()
    if not hasattr(connection, "cursor"):
        raise ConfigurationError(
            f"connection: expected a function that returns a connection, got {kind_of(connection)}"
        )
    return connection


def _sqlite(path: str) -> Any:
    """Open a SQLite file for reading; it is not made where it is missing."""
    import sqlite3

    file = Path(path).absolute()
    if not file.is_file():
        raise ActionFailedError(f"{path}: there is no such database file")
    return sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=_BUSY, check_same_thread=False)


def interrupt(connection: Any) -> None:
    """Tell a connection that nobody waits for its query any more, if its driver has a way to."""
    for name in ("interrupt", "cancel"):
        stop = getattr(connection, name, None)
        if callable(stop):
            with contextlib.suppress(Exception):
                stop()
            return
