"""What ends a call whose limit has passed: one timer for all calls in a loop, or SIGALRM."""

from __future__ import annotations

import asyncio
import itertools
import signal
import threading
import weakref
from collections.abc import Callable
from types import FrameType
from typing import Any, NamedTuple

from resilient.clock import CLOCK

#: The async calls under a limit by a number of their own: their task, and when they are due. One that is missing when
#: it ends has been cancelled by us.
Calls = dict[int, tuple[asyncio.Task[Any], float]]
next_number = itertools.count().__next__


class LoopTimer:
    """The running calls of one policy in one event loop, and one timer for them all: equal limits expire in order.

    Holds no reference to the loop, so that a loop that is done with can go.
    """

    __slots__ = ("__weakref__", "armed", "calls")

    def __init__(self) -> None:
        self.calls: Calls = {}
        self.armed = False

    def fire(self) -> None:
        """Cancel what is due, and set the timer for the next."""
        self.armed = False
        loop = asyncio.get_running_loop()
        now = loop.time()
        for number, (task, due) in list(self.calls.items()):
            if due > now:
                self.armed = True
                loop.call_at(due, self.fire)
                return
            del self.calls[number]
            task.cancel()


class LoopTimers:
    """The timers of one policy, a `LoopTimer` for each event loop; the latest is found without a dictionary."""

    __slots__ = ("_all", "_lock", "latest", "loop")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: weakref.WeakKeyDictionary[Any, LoopTimer] = weakref.WeakKeyDictionary()
        self.loop: Callable[[], Any] = lambda: None
        self.latest = LoopTimer()

    def of(self, loop: asyncio.AbstractEventLoop) -> LoopTimer:
        """The timer of a loop, which becomes the latest."""
        with self._lock:
            timer = self._all.get(loop)
            if timer is None:
                timer = self._all[loop] = LoopTimer()
            self.loop, self.latest = weakref.ref(loop), timer
        return timer


class Running(NamedTuple):
    """A block under its limit."""

    calls: Calls
    number: int
    task: asyncio.Task[Any]
    cancelling: int
    limit: float


class AlarmRang(BaseException):
    """Raised by our signal handler in the main thread; not an Exception, so that user code does not swallow it."""

    def __init__(self, alarm: Alarm) -> None:
        self.alarm = alarm


class Alarm:
    """SIGALRM for one call, put back as it was afterwards, also when another alarm is under way around it."""

    __slots__ = ("_handler", "_interval", "_outer", "_set_at", "armed", "limit")

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.armed = False
        self._handler: Any = None

    def start(self) -> None:
        """Let it ring after the limit, unless the alarm around it rings first."""
        self._set_at = CLOCK.monotonic()
        self._outer, self._interval = signal.getitimer(signal.ITIMER_REAL)
        if self._outer and self._outer <= self.limit:
            return
        self.armed = True
        self._handler = signal.signal(signal.SIGALRM, self._ring)
        signal.setitimer(signal.ITIMER_REAL, self.limit)

    def stop(self) -> None:
        """Put back what was there before."""
        if self._handler is None:
            return
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._handler)
        if self._outer:
            left = self._outer - (CLOCK.monotonic() - self._set_at)
            signal.setitimer(signal.ITIMER_REAL, max(left, 1e-6), self._interval)

    def _ring(self, number: int, frame: FrameType | None) -> None:
        if self.armed:
            self.armed = False
            raise AlarmRang(self)
