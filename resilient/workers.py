"""Threads that make calls with a limit on the wait for them.

A worker takes one job at a time and is never queued for, so a call that hangs keeps its own thread and nobody else's.
Workers are daemons: the interpreter does not wait for abandoned ones.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

from resilient._registry import registry
from resilient.deadlines import DUE
from resilient.generators import Layer

IDLE_SECONDS = 10.0
_idle: deque[Worker] = deque()


class Job:
    """One call made by a worker. Whoever takes `claim` first decides: finished, or abandoned."""

    __slots__ = ("_listeners", "_lock", "claim", "done", "error", "result", "run")

    def __init__(self, run: Callable[[], Any]) -> None:
        self.run: Callable[[], Any] | None = run
        self.claim = [None]
        self.result: Any = None
        self.error: BaseException | None = None
        self.done = False
        self._listeners: list[Callable[[], object]] | None = None
        self._lock: threading.Lock | None = None

    def abandon(self) -> bool:
        """Stop waiting for the call; False when it has just ended after all."""
        self._listeners, self._lock = [], threading.Lock()
        try:
            self.claim.pop()
        except IndexError:
            return False
        return True

    def when_done(self, listener: Callable[[], object]) -> None:
        """Call `listener` when an abandoned call ends; at once if it has."""
        assert self._lock is not None and self._listeners is not None
        with self._lock:
            if not self.done:
                self._listeners.append(listener)
                return
        listener()

    def ended_abandoned(self) -> None:
        """Drop the late result and tell those who wait for the end."""
        self.result = self.error = None
        assert self._lock is not None and self._listeners is not None
        with self._lock:
            self.done = True
            listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener()


class Worker:
    """A daemon thread with a place for one job."""

    __slots__ = ("finished", "job", "wanted")

    def __init__(self) -> None:
        # Locks as gates: the cheapest way to hand something over between two threads.
        self.wanted = threading.Lock()
        self.wanted.acquire()
        self.finished = threading.Lock()
        self.finished.acquire()
        self.job: Job | None = None
        threading.Thread(target=self._work, name="resilient-timeout", daemon=True).start()

    def _work(self) -> None:
        while True:
            if not self.wanted.acquire(timeout=IDLE_SECONDS):
                try:
                    _idle.remove(self)
                except ValueError:
                    self.wanted.acquire()  # someone has just taken this worker: their job is on its way
                else:
                    return
            job, self.job = self.job, None
            assert job is not None and job.run is not None
            try:
                job.result = job.run()
            except BaseException as error:
                job.error = error
            job.run = None
            try:
                job.claim.pop()
            except IndexError:
                job.ended_abandoned()
                del job
                _idle.append(self)
            else:
                del job  # before the caller goes on: nothing may keep the result alive
                self.finished.release()


def submit(call: Layer, args: tuple[Any, ...], kwargs: dict[str, Any], due: float | None) -> tuple[Worker, Job]:
    """Start a call in a worker, within a copy of the caller's context and with `due` as its deadline."""
    context = copy_context()

    def run() -> Any:
        if due is not None:
            context.run(DUE.set, due)
        return context.run(call, args, kwargs)

    try:
        worker = _idle.pop()
    except IndexError:
        worker = Worker()
    job = Job(run)
    worker.job = job
    worker.wanted.release()
    return worker, job


def collect(worker: Worker, job: Job) -> Any:
    """The outcome of a finished job; the worker is free again."""
    _idle.append(worker)
    error = job.error
    if error is None:
        return job.result
    job.error = None
    try:
        raise error
    finally:
        del error  # the traceback has this frame, and the frame would have the error


registry.fork_hooks.append(_idle.clear)  # the threads stayed in the parent
