"""Driving a scenario: in threads for a sync workload, in tasks for an async one. The two halves face each other."""

from __future__ import annotations

import asyncio
import inspect
import math
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from types import BuiltinFunctionType
from typing import Any

from resilient.clock import CLOCK
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
        if self._clock is not None:
            # Less than that is nothing to a clock that shows a large number, and the caller would never get on.
            self._clock._wait_until(done, max(seconds, 2 * math.ulp(self._clock.monotonic())))
            return
        seconds = max(seconds, _LEAST)
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
        _hangs(recording, name)


def _hangs(recording: Recording, name: str) -> None:
    recording.timed_out = True
    recording.failed_help(TimeoutError(f"{name} had not returned"))


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
            await _ended(recording, tasks)


async def _adirect(recording: Recording, bell: asyncio.Event) -> None:
    cues = Cues(recording)
    while True:
        bell.clear()
        if recording.is_done or recording.timed_out:
            break
        if recording.course.is_late(recording.now()):
            recording.timed_out = True
            break
        if cues.is_due:
            # In a thread: a proxy may have to wait for this very loop, and the user's own function may block it.
            await _abeside(recording, cues.play, "the beginning or end of a fault")
            continue
        if cues.wants_help():
            await _ahelp(recording)
            continue
        with suppress(TimeoutError):
            await asyncio.wait_for(bell.wait(), max(_LEAST, cues.next_at() - recording.now()))
    if recording.crash is not None:
        raise recording.crash


async def _abeside(recording: Recording, function: Callable[[], object], name: str) -> object:
    """The same from within an event loop, whose own threads would be waited for at its end."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[object] = loop.create_future()

    def call() -> None:
        said: object = None
        try:
            said = function()
        except BaseException as error:
            recording.crash = error
        finally:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(_settle, done, said)

    threading.Thread(target=call, name="resilient-director", daemon=True).start()
    try:
        await asyncio.wait([done], timeout=max(0.0, recording.course.deadline - recording.now()))
    except asyncio.CancelledError:
        # What it breaks has to be mended afterwards, so its end is waited for here, too.
        await asyncio.wait([done], timeout=_PATIENCE)
        raise
    if done.done():
        return done.result()
    _hangs(recording, name)
    return None


def _settle(done: asyncio.Future[object], said: object) -> None:
    if not done.done():
        done.set_result(said)


async def _ahelp(recording: Recording) -> None:
    recover: Any = recording.scenario.recover
    limit = asyncio.timeout(recording.course.deadline - recording.now())
    try:
        is_async = inspect.iscoroutinefunction(recover)
        said = recover() if is_async else await _abeside(recording, _told_only(recording), "recover()")
        if inspect.isawaitable(said):
            async with limit:
                await said
    except Exception as error:
        if limit.expired():
            _hangs(recording, "recover()")
        else:
            recording.failed_help(error)


def _told_only(recording: Recording) -> Callable[[], object]:
    """`recover`, whose errors are told and end nothing."""

    def call() -> object:
        try:
            return recording.scenario.recover()  # type: ignore[misc]  # there is one
        except Exception as error:
            recording.failed_help(error)
            return None

    return call


async def finished_thread(function: Callable[[], Any], give_up: Callable[[], None] | None = None) -> None:
    """Call a function in a thread; a cancellation waits for its end too, which `give_up` hastens."""
    run = asyncio.ensure_future(asyncio.to_thread(function))
    cancelled: asyncio.CancelledError | None = None
    while not run.done():
        try:
            await asyncio.wait([run])
        except asyncio.CancelledError as error:
            # Also a second one: whoever left now would leave the faults in force.
            cancelled = error
            if give_up is not None:
                give_up()
    if cancelled is not None:
        run.cancelled() or run.exception()  # seen, or asyncio would complain
        raise cancelled
    run.result()


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


async def _ended(recording: Recording, tasks: list[asyncio.Task[None]]) -> None:
    if tasks:
        with suppress(asyncio.CancelledError):
            await asyncio.wait(tasks, timeout=_PATIENCE)
    recording.stubborn = sum(not task.done() for task in tasks)


def run_in_own_loop(recording: Recording) -> None:
    """Run an async workload where no loop is running; tasks that do not let themselves be cancelled are left."""
    # With a factory, as the thread's own loop would otherwise be gone afterwards.
    runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
    try:
        runner.run(run_async(recording))
    finally:
        if recording.stubborn:
            runner.get_loop().close()  # the runner would wait for them, for ever
        else:
            runner.close()


def check_real_time() -> None:
    """Raise ConfigurationError where time stands still, as freezegun lets it."""
    if VirtualClock.in_use() is None and not isinstance(time.monotonic, BuiltinFunctionType):
        before = CLOCK.monotonic()
        time.sleep(0.001)
        if CLOCK.monotonic() == before:
            raise ConfigurationError(
                "time stands still here (freezegun?), and the scenario would wait for ever; use virtual_time=True, or "
                "let the frozen time tick"
            )


def check_clock() -> None:
    """Raise ConfigurationError where a clock is in use that nobody would let pass."""
    clock = VirtualClock.in_use()
    if clock is not None and not clock.autojump:
        raise ConfigurationError(
            "a VirtualClock is in use that does not jump by itself, and the scenario would wait for ever; "
            "use VirtualClock(autojump=True), or virtual_time=True without a clock of your own"
        )
