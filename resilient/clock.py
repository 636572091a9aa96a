"""The one clock: every policy reads and sleeps through `CLOCK`, so a test can put another behind it."""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Protocol


class TimeSource(Protocol):
    """What a replacement clock offers; times are monotonic seconds."""

    def monotonic(self) -> float: ...
    def sleep(self, seconds: float, /) -> None: ...
    def asleep(self, seconds: float, /) -> Awaitable[None]: ...


class WaitingTimeSource(TimeSource, Protocol):
    """A clock that also says when a wait for a lock is over (-1: never); without this, such waits take real time."""

    def acquire(self, lock: threading.Lock, seconds: float, /) -> bool: ...


def _monotonic() -> float:
    return time.monotonic()  # looked up on each call, so that freezegun and monkeypatching reach it


def _sleep(seconds: float, /) -> None:
    time.sleep(seconds)


def _acquire(lock: threading.Lock, seconds: float, /) -> bool:
    return lock.acquire(True, seconds)


def _asleep(seconds: float, /) -> Awaitable[None]:
    import asyncio

    return asyncio.sleep(seconds)


class Clock:
    """Four callables that can be exchanged together; see `use`."""

    __slots__ = ("acquire", "asleep", "monotonic", "sleep")

    monotonic: Callable[[], float]
    sleep: Callable[[float], None]
    asleep: Callable[[float], Awaitable[None]]
    acquire: Callable[[threading.Lock, float], bool]

    def __init__(self) -> None:
        self.monotonic, self.sleep, self.asleep, self.acquire = _monotonic, _sleep, _asleep, _acquire

    @contextmanager
    def use(self, source: TimeSource) -> Iterator[None]:
        """Let `source` be the time, process-wide, inside the block."""
        before = self.monotonic, self.sleep, self.asleep, self.acquire
        self.monotonic, self.sleep, self.asleep = source.monotonic, source.sleep, source.asleep
        self.acquire = getattr(source, "acquire", _acquire)
        try:
            yield
        finally:
            self.monotonic, self.sleep, self.asleep, self.acquire = before


CLOCK = Clock()
