"""An event loop in which time is a number: where nothing is left to do, it jumps to the next moment."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from asyncio import Future, Handle, TimerHandle
from collections.abc import Awaitable, Callable
from heapq import heapify, heappop, heappush
from typing import Any

from resilient.errors import ConfigurationError

_LONGEST_END = 100_000  # turns of the loop in which cancelled calls have to end


class SimulationLoop(asyncio.BaseEventLoop):
    """Timers and callbacks, and nothing else: no selector, no sockets, no threads, no real waiting."""

    # asyncio's own loop compares timers in Python and asks the selector in each turn; here both would be most of it.

    _ready: Any
    _stopping: bool

    def __init__(self) -> None:
        super().__init__()
        self.set_debug(False)  # the traces of where thousands of futures were made would take all the time
        self.now = 0.0
        self._due: list[tuple[float, int, Any]] = []
        self._number = itertools.count().__next__
        self._cancelled_timers = 0

    def time(self) -> float:
        """The time, in seconds since the simulation began."""
        return self.now

    # What asyncio asks of a loop ---------------------------------------------------------------

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> Handle:  # type: ignore[override]
        """Call it in the next turn."""
        handle = Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Any = None) -> Handle:  # type: ignore[override]
        """Call it in the next turn; a loop that never waits need not be woken."""
        return self.call_soon(callback, *args, context=context)

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> TimerHandle:  # type: ignore[override]
        """Call it so many seconds later."""
        return self.call_at(self.now + delay, callback, *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> TimerHandle:  # type: ignore[override]
        """Call it at this moment."""
        timer: Any = TimerHandle(when, callback, args, self, context)
        timer._scheduled = True
        heappush(self._due, (when, self._number(), timer))
        return timer  # type: ignore[no-any-return]

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        """Call it here and now: what worker threads do takes no time, and always happens in the same order."""
        future: Future[Any] = Future(loop=self)
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    # What the simulation asks -------------------------------------------------------------------

    def pause(self, seconds: float) -> Future[None]:
        """Done after so many seconds."""
        future: Future[None] = Future(loop=self)
        heappush(self._due, (self.now + seconds, self._number(), future))
        return future

    def at(self, when: float, call: Callable[[], object]) -> None:
        """Call a function at this moment; the cheap way, as it cannot be cancelled."""
        heappush(self._due, (when, self._number(), call))

    def cancel_all(self, tasks: set[asyncio.Task[Any]]) -> None:
        """End all tasks; those that will not be cancelled are left where they are."""
        left = asyncio.all_tasks(self) | tasks
        for task in left:
            task.cancel()
        for _ in range(_LONGEST_END):
            if not self._ready:
                break
            self._turn()
        for task in left:
            task._log_destroy_pending = False  # type: ignore[attr-defined]

    def pass_over(self, seconds: float) -> None:
        """Let the loop stand still for so long, as a sync wait in it does."""
        self.now += max(0.0, seconds)

    # Turning --------------------------------------------------------------------------------------

    def _run_once(self) -> None:
        due = self._due
        if not self._ready and due and due[0][0] > self.now:
            self.now = due[0][0]
        while due and due[0][0] <= self.now:
            what = heappop(due)[2]
            kind = what.__class__
            if kind is Future:
                if not what.done():
                    what.set_result(None)
            elif kind is TimerHandle:
                what._scheduled = False
                if what._cancelled:
                    self._cancelled_timers -= 1
                else:
                    self._ready.append(what)
            else:
                what()
        self._turn()

    def _turn(self) -> None:
        ready = self._ready
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle._cancelled:
                continue
            try:
                handle._context.run(handle._callback, *handle._args)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                self.call_exception_handler({"message": f"in {handle!r}", "exception": error, "handle": handle})

    def _timer_handle_cancelled(self, handle: TimerHandle) -> None:
        self._cancelled_timers += 1
        if self._cancelled_timers > 1000 and self._cancelled_timers * 2 > len(self._due):
            self._due[:] = [one for one in self._due if not (one[2].__class__ is TimerHandle and one[2]._cancelled)]
            heapify(self._due)
            self._cancelled_timers = 0

    def _write_to_self(self) -> None:
        """Nobody waits who would have to be woken."""

    def _process_events(self, event_list: Any) -> None:
        """There are none."""


class SimulatedTime:
    """The clock of all policies while a simulation runs; waits of other event loops and threads stay real."""

    def __init__(self, loop: SimulationLoop) -> None:
        self._loop = loop
        self.monotonic = loop.time

    def sleep(self, seconds: float, /) -> None:
        """Let so many seconds pass."""
        if asyncio._get_running_loop() is self._loop:
            self._loop.pass_over(seconds)
        else:
            time.sleep(seconds)

    def asleep(self, seconds: float, /) -> Awaitable[None]:
        """The same for a task of the simulation."""
        if asyncio._get_running_loop() is self._loop:
            return self._loop.pause(seconds)
        return asyncio.sleep(seconds)

    def acquire(self, lock: threading.Lock, seconds: float, /) -> bool:
        """Acquire a lock; nobody can release it while the loop stands still, so the wait is simply over."""
        if asyncio._get_running_loop() is not self._loop:
            return lock.acquire(True, seconds)
        if lock.acquire(False):
            return True
        if seconds < 0:
            raise ConfigurationError("a sync wait without a limit would never end in a simulation: use async policies")
        self._loop.pass_over(seconds)
        return False
