"""What looks at a manager's services now and then: a task in async programs, a daemon thread in sync ones."""

from __future__ import annotations

import asyncio
import logging
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING

from resilient._checks import LONGEST
from resilient.clock import CLOCK
from resilient.events import log_failure
from resilient.policy import running_loop

if TYPE_CHECKING:
    from resilient.degradation.manager import DegradationManager

_log = logging.getLogger("resilient.degradation")


def _look_failed(name: str) -> None:
    text = "%s: a look at the services failed"
    log_failure(_log, "degradation.monitoring_failed", text, name, kind="manager", policy=name)


class Monitor:
    """One run of monitoring. Holds manager, loop and task weakly, and ends when the manager is gone."""

    def __init__(self, manager: DegradationManager) -> None:
        # A raw lock as the thread's alarm: the garbage collector may set it off anywhere, and it has no lock inside.
        self._alarm = threading.Lock()
        self._alarm.acquire()
        self._manager = weakref.ref(manager, partial(_stop, weakref.ref(self)))
        self._stopped = False
        self._sleeping = False
        self._loop: Callable[[], asyncio.AbstractEventLoop | None] = _nothing
        self._task: Callable[[], asyncio.Task[None] | None] = _nothing
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, in the way that suits the caller."""
        loop = running_loop()
        if loop is not None:
            self._loop = weakref.ref(loop)
            self._begin(loop)
        else:
            # Nothing to clean up at exit: it is a daemon that waits, or looks.
            self._thread = threading.Thread(target=self._run, name="resilient-degradation", daemon=True)
            self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether it still looks."""
        if self._stopped:
            return False
        if self._thread is not None:
            return self._thread.is_alive()
        task, loop = self._task(), self._loop()
        return task is not None and loop is not None and not task.done() and not loop.is_closed()

    @property
    def serves_here(self) -> bool:
        """Whether it looks, and its loop, if it has one, is not a stopped one of the past."""
        loop = self._loop()
        return self.alive and (loop is None or loop is running_loop() or loop.is_running())

    def stop(self) -> None:
        """End it, from any thread."""
        self._stopped = True
        self._ring()
        task = self._task()
        if task is not None:
            self._in_loop(task.cancel)

    def wake(self) -> None:
        """The interval has changed: begin to wait anew."""
        self._ring()
        if self._task() is not None:
            self._in_loop(self._wait_anew)

    def _ring(self) -> None:
        with suppress(RuntimeError):  # it rings already
            self._alarm.release()

    def _in_loop(self, callback: Callable[[], object]) -> None:
        loop = self._loop()
        if loop is None or loop.is_closed():
            return
        if running_loop() is loop:
            callback()
            return
        with suppress(RuntimeError):  # the loop was closed in this very moment, and the task with it
            loop.call_soon_threadsafe(callback)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        # In a context of its own: a deadline around this call is not the monitor's. The loop keeps the task alive.
        task = loop.create_task(self._watch(), name="resilient-degradation", context=Context())
        self._task = weakref.ref(task)

    def _wait_anew(self) -> None:
        task, loop = self._task(), self._loop()
        if self._sleeping and not self._stopped and task is not None and loop is not None:
            task.cancel()
            self._begin(loop)

    def _run(self) -> None:
        interval = self._interval()
        while interval is not None:
            woken = self._alarm.acquire(timeout=interval)
            if self._stopped:
                return
            manager = None if woken else self._manager()
            if manager is not None:
                try:
                    manager.look()
                except Exception:
                    _look_failed(manager.name)
            del manager
            interval = self._interval()

    async def _watch(self) -> None:
        interval = self._interval()
        while interval is not None and not self._stopped:
            self._sleeping = True
            await CLOCK.asleep(interval)
            self._sleeping = False
            manager = self._manager()
            if manager is not None:
                try:
                    await manager.alook()
                except Exception:
                    _look_failed(manager.name)
            del manager
            interval = self._interval()

    def _interval(self) -> float | None:
        manager = self._manager()
        # The longest that a lock can be waited for; an interval may be longer.
        return None if manager is None else min(float(manager.config.monitoring_interval), LONGEST)  # type: ignore[arg-type]


def _nothing() -> None:
    return None


def _stop(monitor: weakref.ref[Monitor], _: object) -> None:
    """End the monitoring of a manager that is gone."""
    found = monitor()
    if found is not None:
        found.stop()
