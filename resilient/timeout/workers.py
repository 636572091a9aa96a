"""Threads that make calls with a limit on the wait for them.

A worker takes one call at a time and is never queued for, so a call that hangs keeps its own thread and nobody else's.
Workers are daemons: the interpreter does not wait for abandoned ones.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any

from resilient._registry import registry
from resilient.deadlines import DUE, OwnedDue
from resilient.generators import Layer

IDLE_SECONDS = 10.0
_idle: deque[Worker] = deque()


class AbandonedCall:
    """A call that goes on although nobody waits for its answer any more."""

    __slots__ = ("_listeners", "_lock", "done")

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._listeners: list[Callable[[], object]] = []
        self.done = False

    def when_done(self, listener: Callable[[], object]) -> None:
        """Call `listener` when the call ends; at once if it has."""
        with self._lock:
            if not self.done:
                self._listeners.append(listener)
                return
        listener()

    def end(self) -> None:
        """Tell those who wait for the end."""
        with self._lock:
            self.done = True
            listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener()


class Worker:
    """A daemon thread that makes one call at a time."""

    __slots__ = ("_claim", "_dismissed", "_error", "_result", "_task", "_wanted", "abandoned", "finished")

    def __init__(self) -> None:
        # Locks as gates: the cheapest way to hand something over between two threads.
        self._wanted = threading.Lock()
        self._wanted.acquire()
        self.finished = threading.Lock()
        self.finished.acquire()
        # Whoever pops the one item decides how the call ends: in time, or abandoned.
        self._claim = [None]
        self._task: tuple[Context, float, Layer, tuple[Any, ...], dict[str, Any]] | None = None
        self._result: Any = None
        self._error: BaseException | None = None
        self._dismissed = False
        self.abandoned: AbandonedCall | None = None
        threading.Thread(target=self._work, name="resilient-timeout", daemon=True).start()

    def begin(self, call: Layer, args: tuple[Any, ...], kwargs: dict[str, Any], due: float) -> None:
        """Start a call within a copy of the caller's context, with `due` as its deadline."""
        self._task = copy_context(), due, call, args, kwargs
        self._wanted.release()

    def abandon(self) -> AbandonedCall | None:
        """Stop waiting for the call; None when it has just ended after all, and is to be collected."""
        # A local name: the worker takes its own away as soon as the call has ended.
        abandoned = self.abandoned = AbandonedCall()
        try:
            self._claim.pop()
        except IndexError:
            self.abandoned = None
            self.finished.acquire()
            return None
        return abandoned

    def dismiss(self) -> AbandonedCall | None:
        """Stop waiting, at whatever moment the caller was interrupted; None when the call has ended.

        The worker is not used again, as nobody can know how far the caller had come with it.
        """
        abandoned = self.abandoned = self.abandoned or AbandonedCall()
        self._dismissed = True
        try:
            self._claim.pop()
        except IndexError:
            self._wanted.release()
            return None
        return abandoned

    def collect(self) -> Any:
        """The outcome of the finished call; the worker is free again."""
        result, error = self._result, self._error
        self._result = self._error = None
        self._claim.append(None)
        _idle.append(self)
        if error is None:
            return result
        try:
            raise error
        finally:
            del error  # the traceback has this frame, and the frame would have the error

    def _work(self) -> None:
        while self._wanted.acquire(timeout=IDLE_SECONDS) or self._is_wanted():
            task, self._task = self._task, None
            if task is None:
                return  # dismissed
            context, due, call, args, kwargs = task
            try:
                self._result = context.run(_call_until, due, call, args, kwargs)
            except BaseException as error:
                self._error = error
            del task, context, call, args, kwargs  # an idle worker keeps nothing alive
            try:
                self._claim.pop()
            except IndexError:
                if not self._finish_abandoned():
                    return
            else:
                self.finished.release()

    def _is_wanted(self) -> bool:
        """Whether a call is on its way to this worker after all that time; otherwise it leaves."""
        try:
            _idle.remove(self)
        except ValueError:
            # Somebody has just taken it. If nothing comes of that, they were interrupted right then.
            return self._wanted.acquire(timeout=IDLE_SECONDS)
        return False

    def _finish_abandoned(self) -> bool:
        """Drop the late answer, and tell those who wait for the end; whether to go on working."""
        ended, self.abandoned = self.abandoned, None
        self._result = self._error = None
        if not self._dismissed:
            self._claim.append(None)
            _idle.append(self)
        if ended is not None:
            ended.end()
        return not self._dismissed


def _call_until(due: float, call: Layer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    DUE.set(OwnedDue(due))
    return call(args, kwargs)


def hire() -> Worker:
    """An idle worker, or a new one."""
    try:
        return _idle.pop()
    except IndexError:
        return Worker()


registry.fork_hooks.append(_idle.clear)  # the threads stayed in the parent
