"""What ends a call whose limit has passed: one timer for all calls in a loop, or SIGALRM."""

from __future__ import annotations

import asyncio
import itertools
import math
import signal
import threading
import time
import weakref
from collections.abc import Callable
from contextvars import Context
from heapq import heappop, heappush
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from resilient.timeout.smart import SmartTimeout

#: The async calls under a limit by a number of their own: their task, and when they are due. One that is missing when
#: it ends has been cancelled by us.
Calls = dict[int, tuple[asyncio.Task[Any], float]]
next_number = itertools.count().__next__


class LoopTimer:
    """The running calls of one policy in one event loop, and one timer for them all: equal limits expire in order.

    Holds no reference to the loop, so that a loop that is done with can go.
    """

    __slots__ = ("__weakref__", "armed", "calls", "context")

    def __init__(self) -> None:
        # An empty one: a timer would keep its first caller's context variables alive until it goes off.
        self.context = Context()
        self.calls: Calls = {}
        self.armed = False

    def watch(self, loop: asyncio.AbstractEventLoop, number: int, task: asyncio.Task[Any], due: float) -> None:
        """Put a call under the timer; none before it is due later."""
        self.calls[number] = task, due
        if not self.armed:
            loop.call_at(due, self.fire, context=self.context)
            self.armed = True

    def fire(self) -> None:
        """Cancel what is due, and set the timer for the next."""
        self.armed = False
        loop = asyncio.get_running_loop()
        now = loop.time()
        expired, next_due = self._expired(now)
        for number in expired:
            if (call := self.calls.pop(number, None)) is not None:
                call[0].cancel()
        if next_due is not None:
            self.armed = True
            loop.call_at(next_due, self.fire, context=self.context)

    def set_back(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        """The loop's time has gone back so far, and its handles with it, as at the end of a virtual time."""
        for number, (task, due) in list(self.calls.items()):
            self.calls[number] = task, due - seconds

    def _expired(self, now: float) -> tuple[list[int], float | None]:
        """The calls that are due, and when the next one will be; looks at no others, of which there may be many."""
        while True:
            expired: list[int] = []
            try:
                for number, (_, due) in self.calls.items():
                    if due > now:
                        return expired, due
                    expired.append(number)
                return expired, None
            except RuntimeError:  # the garbage collector has ended a call meanwhile
                continue


class VaryingTimer(LoopTimer):
    """The same for calls whose limits differ: the timer is set for the first that is due.

    Most calls have ended when it goes off. Those that have not are then put in order, each once, in a heap.
    """

    __slots__ = ("_heap", "_latest", "set_for")

    def __init__(self) -> None:
        super().__init__()
        self._heap: list[tuple[float, int]] = []
        self._latest = -1
        self.set_for = math.inf

    def watch(self, loop: asyncio.AbstractEventLoop, number: int, task: asyncio.Task[Any], due: float) -> None:
        """Put a call under the timer."""
        self.calls[number] = task, due
        if due < self.set_for:
            self.set(loop, due)

    def set(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        """Let the timer go off then."""
        loop.call_at(due, self.fire_for, due, context=self.context)
        self.set_for = due

    def set_back(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        """As above; the handle that is set does not know the new time."""
        super().set_back(loop, seconds)
        self._heap, self._latest, self.set_for = [], -1, math.inf
        loop.call_soon(self.fire_for, math.inf, context=self.context)

    def fire_for(self, when: float) -> None:
        """Cancel what is due, and set the timer for the next; nothing if it has been set for another time since."""
        if when != self.set_for:
            return  # not cancelled at once, as the handle to do that with would keep the loop alive
        self.set_for = math.inf
        self._sort_in()
        loop = asyncio.get_running_loop()
        now, calls, heap = loop.time(), self.calls, self._heap
        while heap:
            due, number = heap[0]
            if number in calls and due > now:
                self.set(loop, due)
                return
            heappop(heap)
            if number in calls:
                calls.pop(number)[0].cancel()

    def _sort_in(self) -> None:
        """Put the calls that began since the last time into the heap; numbers only grow."""
        before, newest = self._latest, None
        for number, (_, due) in reversed(list(self.calls.items())):
            if number <= before:
                break
            newest = number if newest is None else newest
            heappush(self._heap, (due, number))
        if newest is not None:
            self._latest = newest


class LoopTimers:
    """The timers of one policy, a `LoopTimer` for each event loop; the latest is found without a dictionary."""

    __slots__ = ("__weakref__", "_all", "_lock", "_make", "latest", "loop")

    def __init__(self, make: Callable[[], LoopTimer] = LoopTimer) -> None:
        self._make = make
        self._lock = threading.RLock()
        self._all: weakref.WeakKeyDictionary[Any, LoopTimer] = weakref.WeakKeyDictionary()
        self.loop: Callable[[], Any] = lambda: None
        self.latest = make()
        _everywhere.add(self)

    def at(self, loop: asyncio.AbstractEventLoop) -> LoopTimer | None:
        """The timer of a loop, if it has one."""
        with self._lock:
            return self._all.get(loop)

    def of(self, loop: asyncio.AbstractEventLoop) -> LoopTimer:
        """The timer of a loop, which becomes the latest."""
        with self._lock:
            timer = self._all.get(loop)
            if timer is None:
                timer = self._all[loop] = self._make()
            self.loop, self.latest = weakref.ref(loop), timer
        return timer

    def after_fork(self) -> None:
        """Replace the lock in a forked child."""
        self._lock = threading.RLock()


_everywhere: weakref.WeakSet[LoopTimers] = weakref.WeakSet()


def set_back(loop: asyncio.AbstractEventLoop, seconds: float) -> None:
    """The time of a loop has gone back so far, and its handles with it; called in its thread, or while it stands."""
    for timers in list(_everywhere):
        if (timer := timers.at(loop)) is not None:
            timer.set_back(loop, seconds)


class Running(NamedTuple):
    """A block under its limit."""

    calls: Calls
    number: int
    task: asyncio.Task[Any]
    cancelling: int
    limit: float
    own: float  # the limit without regard for a deadline
    started: float
    smart: SmartTimeout | None


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
        self._set_at = time.monotonic()  # not the policies' clock: the alarm around it is real
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
            left = self._outer - (time.monotonic() - self._set_at)
            signal.setitimer(signal.ITIMER_REAL, max(left, 1e-6), self._interval)

    def _ring(self, number: int, frame: FrameType | None) -> None:
        if self.armed:
            self.armed = False
            raise AlarmRang(self)
