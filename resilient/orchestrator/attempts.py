"""One attempt at a step: a function in a thread of its own, or a coroutine as a task of an event loop."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from contextvars import copy_context
from typing import Any, NamedTuple

from resilient.events import log_failure, log_note
from resilient.orchestrator.executor import Operation
from resilient.orchestrator.model import RecoveryContext, RecoveryStep
from resilient.orchestrator.references import DEEPEST

CLEANUP = 1.0  # seconds that tasks have for their cleanup when their event loop is closed

_log = logging.getLogger("resilient.orchestrator")


def plain_json(value: Any) -> Any:
    """The value as it is read back from JSON; ValueError or TypeError for one that cannot be written as such."""
    made = json.loads(json.dumps(value, allow_nan=False))
    level, depth = [made], 0
    while level:
        if depth > DEEPEST:
            raise ValueError(f"more than {DEEPEST} lists and tables within each other")
        inside = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, (dict, list))]
        level = [one for values in inside for one in values]
        depth += 1
    return made


class Outcome(NamedTuple):
    """How an attempt ended: by an output in JSON's own types, or by an error."""

    attempt: Attempt
    output: Any
    error: BaseException | None
    happened: bool = False  # it succeeded, but what it returned cannot be kept


class Attempt:
    """One attempt under way. `post` is called with its outcome, in whatever thread it ends."""

    def __init__(
        self, step_id: str, number: int, *, undo: bool, is_async: bool, post: Callable[[Outcome], object]
    ) -> None:
        self.step_id = step_id
        self.number = number
        self.undo = undo
        self.is_async = is_async
        self.stopped = False  # what context.cancelled says
        self.why = ""
        self.give_up_at: float | None = None  # when a stopped attempt is not waited for any longer
        self.abandoned = False
        self.over = False  # it has ended, whoever still wanted to know
        self._post = post
        self._task: asyncio.Task[Any] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(
        self, operation: Operation, step: RecoveryStep, context: RecoveryContext, loop: asyncio.AbstractEventLoop
    ) -> None:
        """Begin, and return at once."""
        if operation.is_async:
            self._start_task(_called(operation, step, context), loop)
            return
        name = f"resilient-step-{self.step_id}"
        work = (operation, step, context, loop)
        threading.Thread(target=copy_context().run, args=(self._work, *work), name=name, daemon=True).start()

    def _work(
        self, operation: Operation, step: RecoveryStep, context: RecoveryContext, loop: asyncio.AbstractEventLoop
    ) -> None:
        try:
            output = operation.call(step, context)
            is_task = inspect.isawaitable(output)
        except BaseException as error:
            self._end(None, error)
            return
        if is_task:  # a plain function that returns a coroutine
            self.is_async = True
            self._start_task(_awaited(output), loop)
        else:
            self._end(output, None)

    def _start_task(self, coroutine: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop) -> None:
        # Not run_coroutine_threadsafe(): its future says "cancelled" while the task is still at its cleanup.
        def create() -> None:
            task = self._task = loop.create_task(coroutine)
            task.add_done_callback(self._collect)
            if self.stopped:
                task.cancel()

        self._loop = loop
        try:
            loop.call_soon_threadsafe(create)
        except RuntimeError as error:  # the loop has just been closed
            coroutine.close()
            self._end(None, error)

    def _collect(self, task: asyncio.Task[Any]) -> None:
        error = asyncio.CancelledError("the task was cancelled") if task.cancelled() else task.exception()
        result = None if error is not None else task.result()
        if isinstance(result, _Raised):
            error, result = result.error, None
        self._end(result, error)

    @property
    def is_lost(self) -> bool:
        """Whether its event loop was closed under it, so that no outcome will ever come."""
        return self._loop is not None and self._loop.is_closed()

    def stop(self, why: str) -> None:
        """Tell it to end: a task is cancelled, a function can ask its context."""
        self.stopped, self.why = True, why
        task, loop = self._task, self._loop
        if task is not None and loop is not None:
            with suppress(RuntimeError):  # the loop is closed, which has ended the task as well
                loop.call_soon_threadsafe(task.cancel)

    def _end(self, output: Any, error: BaseException | None) -> None:
        self.over = True
        happened = False
        if error is None and not self.undo:
            try:
                # As it will be read after a crash, whether there is one or not.
                output = plain_json(output)
            except BaseException as why:  # such as of a dictionary that another thread still fills
                happened, output = True, None
                text = why if isinstance(why, (TypeError, ValueError)) else type(why).__name__
                error = TypeError(f"the output is not JSON-ready ({text}); return plain values")
        if self.abandoned:
            text = "%s: attempt %d, which nobody waited for any longer, has ended"
            event, step = "orchestrator.abandoned_step_ended", self.step_id
            log_note(
                _log, logging.WARNING, event, text, step, self.number, kind="recovery", limited=False, step_id=step
            )
            return
        try:
            self._post(Outcome(self, output, error, happened))
        except Exception:
            text, event = "the outcome of %s was lost", "orchestrator.outcome_lost"
            log_failure(_log, event, text, self.step_id, kind="recovery", limited=False, step_id=self.step_id)


class _Raised(NamedTuple):
    """An error that a task may not raise, as asyncio would let it end the whole event loop."""

    error: BaseException


async def _called(operation: Operation, step: RecoveryStep, context: RecoveryContext) -> Any:
    try:
        return await operation.call(step, context)
    except (SystemExit, KeyboardInterrupt) as error:
        return _Raised(error)


async def _awaited(value: Awaitable[Any]) -> Any:
    try:
        return await value
    except (SystemExit, KeyboardInterrupt) as error:
        return _Raised(error)


class LoopThread:
    """An event loop in a thread of its own, for async executors that nobody has brought a loop for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def get(self) -> asyncio.AbstractEventLoop:
        """The running loop, started when it is first asked for."""
        with self._lock:
            if self._loop is None or self._loop.is_closed():
                ready = threading.Event()
                loop = asyncio.new_event_loop()
                work = (loop, ready)
                thread = threading.Thread(target=_run_loop, args=work, name="resilient-orchestrator-loop", daemon=True)
                try:
                    thread.start()
                except BaseException:  # a limit of threads
                    loop.close()
                    raise
                ready.wait()
                self._loop = loop
                # For those who forget to close their orchestrator; at exit the thread ends by itself.
                weakref.finalize(self, _stop, loop).atexit = False
            return self._loop

    def close(self) -> None:
        """Stop the loop, and its thread."""
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None:
            _stop(loop)


def _stop(loop: asyncio.AbstractEventLoop) -> None:
    with suppress(RuntimeError):  # closed
        loop.call_soon_threadsafe(loop.stop)


def _run_loop(loop: asyncio.AbstractEventLoop, ready: threading.Event) -> None:
    asyncio.set_event_loop(loop)
    loop.call_soon(ready.set)
    try:
        loop.run_forever()
        left = asyncio.all_tasks(loop)
        for task in left:
            if not task.cancelling():  # a second time would end the cleanup that the first has begun
                task.cancel()
        if left:  # they may clean up, but not for ever
            loop.run_until_complete(asyncio.wait(left, timeout=CLEANUP))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()
