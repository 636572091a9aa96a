"""Connections to databases, in all the ways in which a step may name one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from resilient.errors import ConfigurationError
from resilient.orchestrator.executors.calls import found
from resilient.orchestrator.executors.failures import ActionFailedError
from resilient.orchestrator.executors.parameters import Parameters, is_named, kind_of

_EXPECTED = 'a connection, a function that opens one, "package.module:function", or "sqlite:///file.db"'
_SQLITE = "sqlite:///"
#: Seconds that SQLite waits for whoever else has locked the file.
_BUSY = 5.0


def judge(given: Parameters, name: str) -> None:
    """Note what is wrong with the way to a connection."""
    value = given.raw(name)
    if value is None:
        given.note(name, _EXPECTED, "none")
    elif isinstance(value, str):
        if not given.unknown(value) and not value.startswith(_SQLITE) and not is_named(value):
            given.note(name, _EXPECTED, "another text")
    elif not callable(value) and not hasattr(value, "cursor"):
        given.note(name, _EXPECTED, kind_of(value))


@contextlib.contextmanager
def opened(way: Any) -> Iterator[Any]:
    """A connection, closed at the end if it was opened here; nothing that was written in it is kept then."""
    if not isinstance(way, str) and hasattr(way, "cursor"):
        yield way
        return
    connection = _open(way)
    try:
        yield connection
    finally:
        with contextlib.suppress(Exception):
            connection.rollback()
        connection.close()


def _open(way: Any) -> Any:
    if isinstance(way, str) and way.startswith(_SQLITE):
        return _sqlite(unquote(way.removeprefix(_SQLITE)))
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
