"""Waiting for the end of an execution, in a thread or in an event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import copy_context
from typing import Any, TypeVar

from resilient.orchestrator.engine import JournalEntry
from resilient.orchestrator.errors import RecoveryError
from resilient.orchestrator.model import RecoveryExecution
from resilient.orchestrator.stories import error_in

T = TypeVar("T")


class Waiter:
    """Waits for one execution; `error` is the exception behind its end, where there is one."""

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._futures: list[asyncio.Future[None]] = []
        self._execution_id: str | None = None
        self._leave: Callable[[str], object] | None = None

    def begun(self, execution_id: str) -> None:
        """Note that the execution is under way; cancels it where nobody waits any more."""
        with self._lock:
            self._execution_id = execution_id
            left = self._leave
        if left is not None:
            left(execution_id)

    def leave(self, cancel: Callable[[str], object]) -> None:
        """Cancel the execution, now or when it has begun, without waiting for that."""
        with self._lock:
            self._leave = cancel
            execution_id = self._execution_id
        if execution_id is not None:
            name = "resilient-orchestrator"
            threading.Thread(target=cancel, args=(execution_id,), name=name, daemon=True).start()

    def done(self, error: BaseException | None) -> None:
        """Called by the engine, from any thread."""
        self.error = error
        with self._lock:
            self._over.set()
            futures, self._futures = self._futures, []
        for future in futures:
            settle(future, None, None)

    def wait(self) -> None:
        """Wait in this thread."""
        self._over.wait()

    async def awaited(self) -> None:
        """Wait in this event loop."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._lock:
            if self._over.is_set():
                return
            self._futures.append(future)
        await future

    def reason(self, execution: RecoveryExecution) -> BaseException:
        """Why this process does not follow an execution that has not ended."""
        if self.error is not None:
            return self.error
        error = RecoveryError(f"execution {execution.execution_id} is not followed here any longer")
        error.concerning(execution.execution_id, execution.plan_id)
        return error


def error_of(execution: RecoveryExecution, entries: Sequence[JournalEntry]) -> RecoveryError:
    """The error with which an execution ended that did not complete."""
    return error_in(execution, entries[-1].data)


def settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    """Give a future its outcome from another thread."""

    def put() -> None:
        if future.done():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    with suppress(RuntimeError):  # the loop is closed, so nobody waits any more
        future.get_loop().call_soon_threadsafe(put)


async def in_thread(work: Callable[[], T]) -> T:
    """What blocks, in a thread of its own: the loop's own pool may be full of those who wait for this."""
    future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def call() -> None:
        try:
            result = work()
        except BaseException as error:
            settle(future, None, error)
        else:
            settle(future, result, None)

    threading.Thread(target=copy_context().run, args=(call,), name="resilient-orchestrator", daemon=True).start()
    return await future
