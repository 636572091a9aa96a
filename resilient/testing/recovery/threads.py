"""Driving a scenario in threads, for a sync workload; `tasks` is its twin."""

from __future__ import annotations

import asyncio
import inspect
import math
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Any

from resilient.testing.clocks.virtual_clock import VirtualClock
from resilient.testing.recovery.recording import Cues, Recording
from resilient.testing.recovery.running import LEAST, PATIENCE, IsAsyncError, hangs

#: Real seconds that those threads get which the timeout did not find hanging.
_MOMENT = 0.1


class _Bell:
    """Where threads wait for a time or for each other, by the clock that is in use."""

    def __init__(self) -> None:
        self._clock = VirtualClock.in_use()
        self._changed = threading.Condition()

    def wait(self, seconds: float, done: Callable[[], bool]) -> None:
        """Return when `done()` says so, after so many seconds at the latest."""
        if seconds <= 0:
            return
        if self._clock is not None:
            # Less than that is nothing to a clock that shows a large number, and the caller would never get on.
            self._clock._wait_until(done, max(seconds, 2 * math.ulp(self._clock.monotonic())))
            return
        seconds = max(seconds, LEAST)
        with self._changed:
            self._changed.wait_for(done, seconds)

    def ring(self) -> None:
        """Let those who wait look."""
        if self._clock is not None:
            self._clock._stir()
            return
        with self._changed:
            self._changed.notify_all()


def run_sync(recording: Recording) -> None:
    """Run a sync workload; returns when it is over, whatever still hangs. Raises what crashed the workload."""
    bell = _Bell()
    recording.ring = bell.ring
    threads = [
        threading.Thread(target=_call_in_thread, args=(recording, bell), name=f"resilient-workload-{n}", daemon=True)
        for n in range(recording.scenario.concurrency)
    ]
    with ExitStack() as stack:
        stack.callback(_end_threads, recording, bell, threads)
        recording.enter(stack)
        for thread in threads:
            thread.start()
        _direct(recording, bell)


def _direct(recording: Recording, bell: _Bell) -> None:
    cues = Cues(recording)
    course = recording.course
    while not recording.is_done and not recording.timed_out:
        if course.is_late(recording.now()):
            recording.timed_out = True
            break
        if cues.is_due:
            _beside(recording, bell, cues.play, "the beginning or end of a fault")
            continue
        if cues.wants_help():
            _beside(recording, bell, lambda: _help(recording), "recover()")
            continue
        seen = course.fault_end, course.recovered_at
        bell.wait(
            cues.next_at() - recording.now(),
            lambda: recording.is_done or (course.fault_end, course.recovered_at) != seen,  # noqa: B023 - used at once
        )
    if recording.crash is not None:
        raise recording.crash


def _beside(recording: Recording, bell: _Bell, function: Callable[[], object], name: str) -> None:
    """Call what may hang in a thread; whoever waits for it goes on when the scenario's time is up."""
    done = threading.Event()

    def call() -> None:
        try:
            function()
        except BaseException as error:
            recording.crash = error
        finally:
            done.set()
            bell.ring()

    helper = threading.Thread(target=call, name="resilient-director", daemon=True)
    helper.start()
    is_over: Callable[[], bool] = lambda: done.is_set() or recording.crash is not None or recording.abandoned  # noqa: E731
    bell.wait(recording.course.deadline - recording.now(), is_over)
    if done.is_set():
        helper.join()
    elif not is_over():
        hangs(recording, name)


def _help(recording: Recording) -> None:
    """Call `recover`; an async one needs an event loop, which the thread has not."""
    recover: Any = recording.scenario.recover
    try:
        said = recover()
        if inspect.isawaitable(said):
            asyncio.run(_finished(said))
    except Exception as error:
        recording.failed_help(error)


async def _finished(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def _call_in_thread(recording: Recording, bell: _Bell) -> None:
    workload = recording.workload
    started: float | None = None
    try:
        while not recording.stopped:
            bell.wait(recording.next_slot(started) - recording.now(), lambda: recording.stopped)
            number = recording.begin()
            if number is None:
                break
            started = recording.now()
            value: Any = None
            failed: BaseException | None = None
            try:
                value = workload()
            except (Exception, asyncio.CancelledError) as error:  # a thread cannot be cancelled: that is the workload's
                failed = error
            if inspect.iscoroutine(value):
                value.close()
                raise IsAsyncError
            if recording.note(number, started, value, failed):
                bell.ring()
    except BaseException as error:
        recording.crash = error
    finally:
        bell.ring()


def _end_threads(recording: Recording, bell: _Bell, threads: list[threading.Thread]) -> None:
    recording.stop()
    bell.ring()
    end = time.monotonic() + (_MOMENT if recording.timed_out else PATIENCE)
    for thread in threads:
        if thread.ident is not None:
            thread.join(max(0.0, end - time.monotonic()))
