"""Driving a scenario: in threads for a sync workload, in tasks for an async one. The two halves face each other."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from typing import Any

from resilient.errors import ConfigurationError
from resilient.testing.clocks.virtual_clock import VirtualClock
from resilient.testing.recovery.recording import Cues, Recording

#: Real seconds that threads get to end in, once they were told to.
_PATIENCE = 1.0
#: Real seconds that those threads get which the timeout did not find hanging, and the shortest wait.
_MOMENT, _LEAST = 0.1, 1e-6


class IsAsyncError(Exception):
    """The workload, which looked sync, returned a coroutine."""


# Threads


class _Bell:
    """Where threads wait for a time or for each other, by the clock that is in use."""

    def __init__(self) -> None:
        self._clock = VirtualClock.in_use()
        self._changed = threading.Condition()

    def wait(self, seconds: float, done: Callable[[], bool]) -> None:
        """Return when `done()` says so, after so many seconds at the latest."""
        if seconds <= 0:
            return
        # Less than that may be nothing to a clock that shows a large number, and the caller would never get on.
        seconds = max(seconds, _LEAST)
        if self._clock is not None:
            self._clock._wait_until(done, seconds)
            return
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
    while not recording.is_done:
        if course.is_late(recording.now()):
            recording.timed_out = True
            break
        cues.play()
        if cues.wants_help():
            _help(recording, bell)
            continue
        seen = course.fault_end, course.recovered_at
        bell.wait(
            cues.next_at() - recording.now(),
            lambda: recording.is_done or (course.fault_end, course.recovered_at) != seen,  # noqa: B023 - used at once
        )
    if recording.crash is not None:
        raise recording.crash


def _help(recording: Recording, bell: _Bell) -> None:
    """Call `recover`, in a thread: it may hang like everything else, and needs an event loop where it is async."""
    done = threading.Event()

    def call() -> None:
        recover: Any = recording.scenario.recover
        try:
            said = recover()
            if inspect.isawaitable(said):
                asyncio.run(_finished(said))
        except Exception as error:
            recording.failed_help(error)
        except BaseException as error:
            recording.crash = error
        finally:
            done.set()
            bell.ring()

    helper = threading.Thread(target=call, name="resilient-recover", daemon=True)
    helper.start()
    is_done: Callable[[], bool] = lambda: done.is_set() or recording.crash is not None or recording.abandoned  # noqa: E731
    bell.wait(recording.course.deadline - recording.now(), is_done)
    if done.is_set():
        helper.join()
    elif not is_done():
        recording.failed_help(TimeoutError("recover() had not returned"))


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
            except Exception as error:
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
    end = time.monotonic() + (_MOMENT if recording.timed_out else _PATIENCE)
    for thread in threads:
        if thread.ident is not None:
            thread.join(max(0.0, end - time.monotonic()))


# Tasks


async def run_async(recording: Recording) -> None:
    """Run an async workload; what still hangs is cancelled. Raises what crashed the workload."""
    bell = asyncio.Event()
    recording.ring = bell.set
    tasks: list[asyncio.Task[None]] = []
    with ExitStack() as stack:
        recording.enter(stack)
        try:
            tasks += [
                asyncio.create_task(_call_in_task(recording, bell), name=f"resilient-workload-{n}")
                for n in range(recording.scenario.concurrency)
            ]
            await _adirect(recording, bell)
        finally:
            recording.stop()
            for task in tasks:
                task.cancel()
            await _ended(tasks)


async def _adirect(recording: Recording, bell: asyncio.Event) -> None:
    cues = Cues(recording)
    while True:
        bell.clear()
        if recording.is_done:
            break
        if recording.course.is_late(recording.now()):
            recording.timed_out = True
            break
        if cues.is_due:
            # In a thread: a proxy may have to wait for this very loop, and the user's own function may block it.
            await finished_thread(cues.play)
        if cues.wants_help():
            await _ahelp(recording)
            continue
        with suppress(TimeoutError):
            await asyncio.wait_for(bell.wait(), max(_LEAST, cues.next_at() - recording.now()))
    if recording.crash is not None:
        raise recording.crash


async def _ahelp(recording: Recording) -> None:
    recover: Any = recording.scenario.recover

    async def call() -> None:
        said = recover() if inspect.iscoroutinefunction(recover) else await asyncio.to_thread(recover)
        if inspect.isawaitable(said):
            await said

    limit = asyncio.timeout(recording.course.deadline - recording.now())
    try:
        async with limit:
            await call()
    except Exception as error:
        recording.failed_help(TimeoutError("recover() had not returned") if limit.expired() else error)


async def finished_thread(function: Callable[[], Any], give_up: Callable[[], None] | None = None) -> None:
    """Call a function in a thread; a cancellation waits for its end too, which `give_up` hastens."""
    run = asyncio.ensure_future(asyncio.to_thread(function))
    try:
        await asyncio.shield(run)
    finally:
        if not run.done():
            if give_up is not None:
                give_up()
            await asyncio.wait([run])
            run.cancelled() or run.exception()  # seen, or asyncio would complain


async def _call_in_task(recording: Recording, bell: asyncio.Event) -> None:
    workload = recording.workload
    started: float | None = None
    try:
        while not recording.stopped:
            await asyncio.sleep(max(0.0, recording.next_slot(started) - recording.now()))
            number = recording.begin()
            if number is None:
                break
            started = recording.now()
            value: Any = None
            failed: BaseException | None = None
            try:
                value = await workload()
            except Exception as error:
                failed = error
            except asyncio.CancelledError as error:
                if _is_cancelled():
                    raise
                failed = error  # the workload's own
            if recording.note(number, started, value, failed):
                bell.set()
    except asyncio.CancelledError:
        raise
    except BaseException as error:
        recording.crash = error
    finally:
        bell.set()


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _ended(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        with suppress(asyncio.CancelledError):
            await asyncio.wait([task], timeout=_PATIENCE)


def check_clock() -> None:
    """Raise ConfigurationError where a clock is in use that nobody would let pass."""
    clock = VirtualClock.in_use()
    if clock is not None and not clock.autojump:
        raise ConfigurationError(
            "a VirtualClock is in use that does not jump by itself, and the scenario would wait for ever; "
            "use VirtualClock(autojump=True), or virtual_time=True without a clock of your own"
        )
