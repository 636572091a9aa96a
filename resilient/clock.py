"""The one clock: every policy reads and sleeps through `CLOCK`, so a test can put another behind it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Protocol


class TimeSource(Protocol):
    """What a replacement clock offers; times are monotonic seconds."""

    def monotonic(self) -> float: ...
    def sleep(self, seconds: float, /) -> None: ...
    def asleep(self, seconds: float, /) -> Awaitable[None]: ...


def _monotonic() -> float:
    return time.monotonic()  # looked up on each call, so that freezegun and monkeypatching reach it


def _sleep(seconds: float, /) -> None:
    time.sleep(seconds)


def _asleep(seconds: float, /) -> Awaitable[None]:
    import asyncio

    return asyncio.sleep(seconds)


class Clock:
    """Three callables that can be exchanged together; see `use`."""

    __slots__ = ("asleep", "monotonic", "sleep")

    monotonic: Callable[[], float]
    sleep: Callable[[float], None]
    asleep: Callable[[float], Awaitable[None]]

    def __init__(self) -> None:
        self.monotonic, self.sleep, self.asleep = _monotonic, _sleep, _asleep

    @contextmanager
    def use(self, source: TimeSource) -> Iterator[None]:
        """Let `source` be the time, process-wide, inside the block."""
        before = self.monotonic, self.sleep, self.asleep
        self.monotonic, self.sleep, self.asleep = source.monotonic, source.sleep, source.asleep
        try:
            yield
        finally:
            self.monotonic, self.sleep, self.asleep = before


CLOCK = Clock()
