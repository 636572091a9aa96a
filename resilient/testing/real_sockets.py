"""Refusing real sockets where they would be wrong."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_EVENTS = frozenset({"socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo"})
_reasons: list[str] = []
_hooks: list[object] = []


@contextmanager
def forbidden(reason: str) -> Iterator[None]:
    """Raise RuntimeError, with the reason, for whoever uses a real socket inside the block."""
    if not _hooks:
        # It cannot be taken away again, and does nothing while there is no reason.
        sys.addaudithook(_hook)
        _hooks.append(_hook)
    _reasons.append(reason)
    try:
        yield
    finally:
        _reasons.remove(reason)


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if _reasons and event in _EVENTS:
        raise RuntimeError(f"{event}: {_reasons[-1]}; use FaultProxy and real time for what has a network in it")
