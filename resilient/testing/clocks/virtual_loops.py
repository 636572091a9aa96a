"""asyncio's event loops under another time: their clock and their selectors are exchanged while it is in use."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

_BaseLoop: Any = asyncio.base_events.BaseEventLoop


class Selector:
    """A loop's selector that asks the clock how long to wait."""

    def __init__(self, real: Any, loop: Any, clock: Any) -> None:
        self._real = real
        self._loop = weakref.ref(loop)
        self._clock = clock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def select(self, timeout: float | None = None) -> Any:
        """What is ready; waits by the clock if nothing is."""
        events = self._real.select(0)
        clock, loop = self._clock, self._loop()
        if events or loop is None or (timeout is not None and timeout <= 0):
            return events
        with clock._changed:
            due = None if timeout is None else clock._now + timeout
            sleeper = clock._lie_down(due, lambda: _wake(loop), lambda: bool(loop._ready))
            if not clock._active or (due is not None and clock._jump_if_alone()):
                clock._sleepers.discard(sleeper)
                return self._real.select(0 if clock._active else timeout)
        try:
            return self._real.select(None)
        finally:
            with clock._changed:
                clock._sleepers.discard(sleeper)


def _wake(loop: Any) -> None:
    with suppress(RuntimeError):  # closed
        loop.call_soon_threadsafe(_nothing)


def _nothing() -> None:
    """Wakes a loop, which then looks at the time."""


@contextmanager
def follow(clock: Any) -> Iterator[None]:
    """Let all event loops of asyncio follow a clock inside the block."""
    before = _BaseLoop.time
    loops: weakref.WeakSet[Any] = weakref.WeakSet()

    def now(loop: Any) -> float:
        selector = getattr(loop, "_selector", None)
        if selector is not None and not isinstance(selector, Selector):
            loop._selector = Selector(selector, loop, clock)
            loops.add(loop)
        return float(clock._now)

    _BaseLoop.time = now
    try:
        yield
    finally:
        _BaseLoop.time = before
        for loop in loops:
            selector = loop._selector
            if isinstance(selector, Selector):
                loop._selector = selector._real
            _wake(loop)


def next_timer(loop: Any, end: float) -> float | None:
    """The moment of the loop's next timer up to `end`."""
    dues = [
        handle.when() for handle in loop._scheduled if not handle.cancelled() and loop.time() < handle.when() <= end
    ]
    return min(dues, default=None)


async def settled(loop: Any) -> None:
    """Return when the loop's other tasks have nothing to do until the time changes."""
    for _ in range(10_000):
        await asyncio.sleep(0)
        if not loop._ready:
            return
