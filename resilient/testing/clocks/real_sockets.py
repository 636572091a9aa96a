"""Refusing real sockets where they would be wrong."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_METHODS = ("bind", "connect", "connect_ex", "sendto")
_lock = threading.Lock()
_reasons: list[str] = []
_found: dict[str, Any] = {}

#: How often one was refused since the process began; who compares sees whether it happened meanwhile.
refusals = 0


@contextmanager
def forbidden(reason: str) -> Iterator[None]:
    """Raise RuntimeError, with the reason, for whoever uses a real socket inside the block."""
    # Not by an audit hook: that can never be taken away, slows the whole process, and lets threads that begin under
    # coverage meet in `sys.settrace`, which Python 3.11 refuses.
    with _lock:
        if not _reasons:
            _put()
        _reasons.append(reason)
    try:
        yield
    finally:
        with _lock:
            _reasons.remove(reason)
            if not _reasons:
                _take_away()


def _put() -> None:
    for name in _METHODS:
        _found[name] = socket.socket.__dict__.get(name)
        setattr(socket.socket, name, _refusing(f"socket.{name}", getattr(socket.socket, name)))
    _found["getaddrinfo"] = socket.getaddrinfo
    socket.getaddrinfo = _refusing("socket.getaddrinfo", socket.getaddrinfo)


def _take_away() -> None:
    for name in _METHODS:
        found = _found.pop(name)
        if found is None:  # inherited
            delattr(socket.socket, name)
        else:
            setattr(socket.socket, name, found)
    socket.getaddrinfo = _found.pop("getaddrinfo")


def _refusing(event: str, real: Callable[..., Any]) -> Callable[..., Any]:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        global refusals  # noqa: PLW0603 - a count
        reason = _reasons[-1:]
        if not reason:  # the block has ended meanwhile
            return real(*args, **kwargs)
        refusals += 1
        raise RuntimeError(f"{event}: {reason[0]}; use FaultProxy and real time for what has a network in it")

    return refuse
