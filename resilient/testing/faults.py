"""What can go wrong, with the errors that real libraries raise when it does.

A fault is given to `inject`, which decides at which calls it happens.
"""

from __future__ import annotations

import builtins
import errno
import logging
import os
import socket
import sqlite3
from collections.abc import Callable
from email.message import Message
from importlib import import_module
from typing import Any
from urllib.error import HTTPError

from resilient import _checks as check
from resilient import errors
from resilient.events import log_failure

_log = logging.getLogger("resilient.testing")

__all__ = [
    "ConfigurationError",
    "CorruptResult",
    "Custom",
    "DatabaseTimeout",
    "Fault",
    "Latency",
    "NetworkFailure",
    "ResourceExhaustion",
    "ServiceUnavailable",
]


class Fault:
    """One thing that can go wrong. A fault of your own overrides what it needs; threads may call it at once."""

    def before(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Called before the call: raise, or return; an awaitable is awaited where the call is async."""
        return None

    def seconds(self) -> float:
        """How long the call takes longer, by the policies' clock."""
        return 0.0

    def after(self, result: Any) -> Any:
        """What the caller gets in the place of the result."""
        return result

    def answer(self, library: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """An answer in the place of the call's, where the called function is one of an HTTP library; else None."""
        return None

    @property
    def label(self) -> str:
        """A name that stays the same from run to run, by which decisions are drawn."""
        return type(self).__name__

    def __repr__(self) -> str:
        return f"faults.{self.label}"


def _one_of(option: str, value: Any, allowed: tuple[str, ...]) -> Any:
    if value not in allowed:
        raise check.bad(option, value, f"must be one of {', '.join(allowed)}")
    return value


def _system(kind: type[OSError], code: int) -> OSError:
    return kind(code, os.strerror(code))


class NetworkFailure(Fault):
    """The network fails: `kind` is refused, reset, dns or blackhole.

    Raises ConnectionRefusedError, ConnectionResetError, socket.gaierror, or, after `patience` seconds (30) in which
    nothing happens, the TimeoutError of the system; all with their errno.
    """

    KINDS = ("refused", "reset", "dns", "blackhole")

    def __init__(self, kind: str = "refused", *, patience: float = 30.0) -> None:
        self.kind = _one_of("kind", kind, self.KINDS)
        self.patience = check.seconds("patience", patience)

    def seconds(self) -> float:
        """The patience of the system, for a blackhole."""
        return self.patience if self.kind == "blackhole" else 0.0

    def before(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Raise the error of this kind."""
        if self.kind == "refused":
            raise _system(ConnectionRefusedError, errno.ECONNREFUSED)
        if self.kind == "reset":
            raise _system(ConnectionResetError, errno.ECONNRESET)
        if self.kind == "dns":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        raise _system(TimeoutError, errno.ETIMEDOUT)

    @property
    def label(self) -> str:
        return f"NetworkFailure({self.kind!r})"


class DatabaseTimeout(Fault):
    """The database does not answer in time: `library` is sqlite3, psycopg or sqlalchemy, whose error is raised.

    sqlite3.OperationalError "database is locked" with its error code; psycopg's QueryCanceled; SQLAlchemy's
    OperationalError around sqlite3's. The library must be installed.
    """

    LIBRARIES = ("sqlite3", "psycopg", "sqlalchemy")

    def __init__(self, library: str = "sqlite3", *, after: float = 0.0) -> None:
        self.library = _one_of("library", library, self.LIBRARIES)
        self._after = check.seconds("after", after)
        self._error()  # a library that is missing is to be told here

    def seconds(self) -> float:
        """How long the database lets the caller wait."""
        return self._after

    def _error(self) -> Exception:
        if self.library == "psycopg":
            module: Any = import_module("psycopg.errors")
            canceled: Exception = module.QueryCanceled("canceling statement due to statement timeout")
            return canceled
        locked = sqlite3.OperationalError("database is locked")
        locked.sqlite_errorcode, locked.sqlite_errorname = sqlite3.SQLITE_BUSY, "SQLITE_BUSY"
        if self.library == "sqlite3":
            return locked
        module = import_module("sqlalchemy.exc")
        wrapped: Exception = module.OperationalError("(injected)", {}, locked)
        return wrapped

    def before(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Raise the library's error."""
        raise self._error()

    @property
    def label(self) -> str:
        return f"DatabaseTimeout({self.library!r})"


def _url(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """What was asked for, as far as the arguments tell."""
    given = (str(one) for one in (kwargs.get("url"), *args) if one is not None)
    return next((one for one in given if "://" in one), "http://injected.invalid/")


class ServiceUnavailable(Fault):
    """The service answers 503, with `retry_after` seconds in its header if given.

    Where the called function is one of requests or httpx, its caller gets such an answer; everywhere else
    urllib.error.HTTPError is raised, as urllib does.
    """

    def __init__(self, retry_after: float | None = None) -> None:
        self.retry_after = check.optional_seconds("retry_after", retry_after)

    def _headers(self) -> dict[str, str]:
        return {} if self.retry_after is None else {"Retry-After": f"{self.retry_after:g}"}

    def answer(self, library: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The 503 of requests or httpx."""
        if library == "requests":
            response: Any = import_module("requests").Response()
            response.status_code, response.reason = 503, "Service Unavailable"
            response.headers.update(self._headers())
            response._content = b"Service Unavailable"
            response.url = _url(args, kwargs)
            return response
        if library == "httpx":
            httpx: Any = import_module("httpx")
            given = (one for one in (*args, *kwargs.values()) if isinstance(one, httpx.Request))
            request = next(given, None) or httpx.Request("GET", _url(args, kwargs))
            return httpx.Response(503, headers=self._headers(), text="Service Unavailable", request=request)
        return None

    def before(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Raise urllib's error."""
        headers = Message()
        for name, value in self._headers().items():
            headers[name] = value
        raise HTTPError("http://injected.invalid/", 503, "Service Unavailable", headers, None)


class ResourceExhaustion(Fault):
    """Something has run out: `resource` is descriptors, memory, disk or pool.

    Raises OSError with EMFILE, MemoryError, OSError with ENOSPC, or BulkheadFullError.
    """

    RESOURCES = ("descriptors", "memory", "disk", "pool")

    def __init__(self, resource: str = "descriptors") -> None:
        self.resource = _one_of("resource", resource, self.RESOURCES)

    def before(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Raise the error of this resource."""
        if self.resource == "descriptors":
            raise _system(OSError, errno.EMFILE)
        if self.resource == "disk":
            raise _system(OSError, errno.ENOSPC)
        if self.resource == "memory":
            raise MemoryError
        raise errors.BulkheadFullError("injected pool")

    @property
    def label(self) -> str:
        return f"ResourceExhaustion({self.resource!r})"


class ConfigurationError(Fault):
    """The configuration is wrong: raises `resilient.ConfigurationError`, a ValueError, with this message."""

    def __init__(self, message: str = "injected: the configuration cannot work") -> None:
        self.message = message

    def before(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Raise it."""
        raise errors.ConfigurationError(self.message)


class Latency(Fault):
    """The call takes so many seconds longer, by the policies' clock; a timeout around it sees that."""

    def __init__(self, seconds: float) -> None:
        self._seconds = check.seconds("seconds", seconds)

    def seconds(self) -> float:
        """How much longer."""
        return self._seconds

    @property
    def label(self) -> str:
        return f"Latency({self._seconds:g})"


class CorruptResult(Fault):
    """The call succeeds, but its caller gets `fn(result)`. It never raises: what `fn` raises is logged as an error."""

    def __init__(self, fn: Callable[[Any], Any]) -> None:
        if not callable(fn):
            raise TypeError(f"fn={fn!r}: must be callable")
        self._change = fn

    def after(self, result: Any) -> Any:
        """The changed result."""
        try:
            return self._change(result)
        except Exception:
            text = "CorruptResult: the function failed, and the result is what it was"
            log_failure(_log, "testing.corrupt_result_failed", text, kind="fault")
            return result


class Custom(Fault):
    """Calls `callable` with the call's arguments before the call; what it raises, the call raises.

    An async one needs an async call.
    """

    def __init__(self, callable: Callable[..., Any]) -> None:
        if not builtins.callable(callable):
            raise TypeError(f"callable={callable!r}: must be callable")
        self._action = callable

    def before(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the action."""
        return self._action(*args, **kwargs)

    @property
    def label(self) -> str:
        return f"Custom({getattr(self._action, '__qualname__', type(self._action).__name__)})"
