"""asyncio's event loops under another time: their clock and their selectors are exchanged while it is in use."""

from __future__ import annotations

import asyncio
import math
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from heapq import heapify
from typing import Any

from resilient.timeout import timers

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
            # The very moment of the timer: a sum with what is left until then would be rounded.
            due = None if timeout is None else loop._scheduled[0]._when if loop._scheduled else clock._now + timeout
            if due is not None and due <= clock._now:
                return events
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


def _subclasses(cls: Any) -> Iterator[Any]:
    for one in cls.__subclasses__():
        yield one
        yield from _subclasses(one)


@contextmanager
def follow(clock: Any) -> Iterator[None]:
    """Let all event loops of asyncio follow a clock inside the block."""
    before = _BaseLoop.time
    loops: weakref.WeakKeyDictionary[Any, float] = weakref.WeakKeyDictionary()

    def now(loop: Any) -> float:
        selector = getattr(loop, "_selector", None)
        if selector is not None and not isinstance(selector, Selector):
            loop._selector = Selector(selector, loop, clock)
            loops[loop] = loop._clock_resolution
        # The least that can be told apart, or timers of a moment that is a little later would go off with those of now.
        loop._clock_resolution = math.ulp(clock._now)
        return float(clock._now)

    # freezegun, used with real_asyncio, leaves the method in the class of the loop as well.
    copies = [one for one in _subclasses(_BaseLoop) if one.__dict__.get("time") is before]
    try:
        for one in (_BaseLoop, *copies):
            one.time = now
        yield
    finally:
        for one in (_BaseLoop, *copies):
            one.time = before
        end, seconds = clock._now, clock._now - time.monotonic()
        for loop, resolution in list(loops.items()):
            loop._clock_resolution = resolution
            selector = loop._selector
            if isinstance(selector, Selector):
                loop._selector = selector._real
            _set_back_soon(loop, end, seconds)
            _wake(loop)


def _set_back_soon(loop: Any, end: float, seconds: float) -> None:
    """Let what is to happen in a loop later happen as much later as it would have by the other time."""
    if asyncio._get_running_loop() is loop or not loop.is_running():
        _set_back(loop, -math.inf, seconds)
        return
    with suppress(RuntimeError):  # closed
        # What is set for later than the end was set by the other time; what comes in before that runs was not.
        loop.call_soon_threadsafe(_set_back, loop, end, seconds)


def _set_back(loop: Any, since: float, seconds: float) -> None:
    for handle in loop._scheduled:
        if handle._when > since:
            handle._when -= seconds
    heapify(loop._scheduled)
    timers.set_back(loop, seconds)


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
