"""Putting things up and taking them down without Ctrl-C in the middle."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

#: Signals whose handlers may raise: Ctrl-C, the alarms of pytest-timeout and the like, and a polite end.
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGALRM", "SIGTERM") if hasattr(signal, name))


class Undisturbed:
    """A block in which signals wait until its end; their handlers are called then. A second one does not wait.

    Only in the main thread, where Python calls handlers; elsewhere nothing has to be done.
    """

    def __init__(self) -> None:
        self._before: list[tuple[int, Callable[[int, FrameType | None], Any]]] = []
        self._noted: list[tuple[int, FrameType | None]] = []

    def __enter__(self) -> Undisturbed:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                handler = signal.getsignal(number)
                if callable(handler):
                    self._before.append((number, handler))
                    signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before:
            signal.signal(number, handler)
        handlers = dict(self._before)
        for number, frame in self._noted:
            handlers[number](number, frame)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if any(one == number for one, _ in self._noted):
            self._noted.clear()
            dict(self._before)[number](number, frame)
        self._noted.append((number, frame))
