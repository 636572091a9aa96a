"""Driving a scenario in tasks, for an async workload; `threads` is its twin."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

from resilient.testing.recovery.recording import Cues, Recording
from resilient.testing.recovery.running import LEAST, PATIENCE, hangs


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
            await asyncio.wait_for(bell.wait(), max(LEAST, cues.next_at() - recording.now()))
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
        await asyncio.wait([done], timeout=PATIENCE)
        raise
    if done.done():
        return done.result()
    hangs(recording, name)
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
            hangs(recording, "recover()")
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


async def finished_thread(function: Callable[[], Any], give_up: Callable[[], None]) -> None:
    """Call a function in a thread; a cancellation waits for its end too, which `give_up` hastens."""
    run = asyncio.ensure_future(asyncio.to_thread(function))
    cancelled: asyncio.CancelledError | None = None
    while not run.done():
        try:
            await asyncio.wait([run])
        except asyncio.CancelledError as error:
            # Also a second one: whoever left now would leave the faults in force.
            cancelled = error
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
            await asyncio.wait(tasks, timeout=PATIENCE)
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
