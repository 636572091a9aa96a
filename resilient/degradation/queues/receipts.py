"""What the caller of a queued call holds in its hand until the call has been made."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any

from resilient import _checks as check
from resilient._checks import Seconds
from resilient.deadlines import deadline
from resilient.degradation.copies import copied
from resilient.degradation.queues.protocol import QueuedCallStatus
from resilient.errors import CallTimeoutError, ResilienceError
from resilient.events import log_failure
from resilient.policy import warn_if_loop_blocked

_FIRST_LOOK, _LAST_LOOK = 0.02, 0.5  # seconds between looks at what other processes have done
_LEAST_LOOK = 0.1  # seconds that a storage has to answer, even if the caller has less

_log = logging.getLogger("resilient.queue")


class Receipt:
    """A call on a queue: `receipt.result(timeout)` in threads, `await receipt` in any event loop.

    It keeps the call's answer or error, and nothing else of the call.
    """

    __slots__ = (
        "__weakref__",
        "_attempts",
        "_changed",
        "_error",
        "_listeners",
        "_look",
        "_status",
        "_trouble",
        "_value",
        "call",
        "id",
        "repeated",
    )

    def __init__(self, id: str, call: str, look: Callable[[Receipt], object] | None = None) -> None:
        #: Identifies the call on its queue, in this process or, on a durable queue, a later one.
        self.id = id
        #: The name of the function.
        self.call = call
        #: How many attempts have been made again because the process making them died: those may have run twice.
        self.repeated = 0
        self._look = look
        self._changed = threading.Condition()
        self._listeners: list[Callable[[], object]] = []
        self._status = QueuedCallStatus.QUEUED
        self._attempts = 0
        self._value: Any = None
        self._error: BaseException | None = None
        #: Why the last look at the queue was in vain.
        self._trouble: Exception | None = None

    @property
    def done(self) -> bool:
        """Whether the call has succeeded or been given up, as far as this process knows."""
        return self._status in (QueuedCallStatus.SUCCEEDED, QueuedCallStatus.FAILED)

    @property
    def status(self) -> QueuedCallStatus:
        """How far the call has come; a durable queue is asked."""
        self.refresh()
        return self._status

    @property
    def attempts(self) -> int:
        """How many attempts have begun; a durable queue is asked."""
        self.refresh()
        return self._attempts

    def result(self, timeout: Seconds | None = None) -> Any:
        """Wait for the call's answer, and return it; a call that was given up raises its last error.

        Raises CallTimeoutError when there is no outcome within `timeout`, in seconds or as a timedelta.
        """
        limit = check.optional_seconds("timeout", timeout)
        if not self.done:
            warn_if_loop_blocked("Receipt.result() waits")
        due = None if limit is None else time.monotonic() + limit
        pause = _FIRST_LOOK
        while not self._wait(pause, due):
            self._refresh_by(due)
            if due is not None and time.monotonic() >= due and not self.done:
                detail = f"the queued call has not ended within {limit:g} s"
                raise CallTimeoutError(self.call, limit or 0.0, detail) from self._trouble
            pause = min(pause * 1.5, _LAST_LOOK)
        return self._outcome()

    def __await__(self) -> Generator[Any, None, Any]:
        return self._aresult().__await__()

    async def _aresult(self) -> Any:
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(ended.set)

        pause = _FIRST_LOOK
        self._listen(wake)
        try:
            while not self.done:
                try:
                    await asyncio.wait_for(ended.wait(), None if self._look is None else pause)
                except TimeoutError:
                    await asyncio.to_thread(self.refresh)
                pause = min(pause * 1.5, _LAST_LOOK)
        finally:
            self._unlisten(wake)
        return self._outcome()

    def _wait(self, pause: float, due: float | None) -> bool:
        """Wait for the end, until it is time to look elsewhere, or to stop; whether the end has come."""
        left = None if due is None else max(0.0, due - time.monotonic())
        if self._look is not None:
            left = pause if left is None else min(pause, left)
        with self._changed:
            return self._changed.wait_for(lambda: self.done, left)

    def _outcome(self) -> Any:
        if self._error is None:
            return self._value
        # A copy: the original, as long as the receipt lives, would keep the frames it passes through.
        raise copied(self._error) or _bare(self._error)

    def _listen(self, listener: Callable[[], object]) -> None:
        with self._changed:
            if not self.done:
                self._listeners.append(listener)
                return
        listener()

    def _unlisten(self, listener: Callable[[], object]) -> None:
        with self._changed, suppress(ValueError):
            self._listeners.remove(listener)

    # For queues ---------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Look what has become of the call, where its queue has to be asked; what cannot be read now is read later."""
        if self._look is None or self.done:
            return
        try:
            self._look(self)
        except Exception as error:
            if self._trouble is None:
                text, call = "%s: could not see what has become of it", self.call
                log_failure(_log, "queue.storage_failed", text, call, kind="queue", call=call)
            self._trouble = error.with_traceback(None)
        else:
            self._trouble = None

    def _refresh_by(self, due: float | None) -> None:
        if due is None:
            self.refresh()
            return
        with deadline(max(_LEAST_LOOK, due - time.monotonic())):
            self.refresh()

    def progress(self, status: QueuedCallStatus, attempts: int, repeated: int = 0) -> None:
        """Note how far the call has come."""
        with self._changed:
            if not self.done:
                self._status, self._attempts, self.repeated = status, attempts, repeated

    def settle(self, value: Any, error: BaseException | None, attempts: int) -> None:
        """Note the outcome, once, and wake everyone who waits for it."""
        with self._changed:
            if self.done:
                return
            self._value, self._error, self._attempts = value, error, attempts
            self._status = QueuedCallStatus.SUCCEEDED if error is None else QueuedCallStatus.FAILED
            self._look = self._trouble = None
            listeners, self._listeners = self._listeners, []
            self._changed.notify_all()
        for listener in listeners:
            listener()

    def after_fork(self) -> None:
        """Make the receipt usable in a forked child."""
        self._changed = threading.Condition()
        self._listeners = []

    def __repr__(self) -> str:
        return f"<receipt {self.id}: {self.call} {self._status.value}>"


def final_error(call: str, error: BaseException) -> BaseException:
    """What a receipt raises for a call that ended with this error, or with what would end whoever waits for it."""
    if isinstance(error, Exception):
        return without_frames(error)
    ended = ResilienceError(f"the queued call {call} ended with {described(error)}")
    ended.__cause__ = error
    return without_frames(ended)


def described(error: BaseException) -> str:
    """An error in words, whatever it is."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return type(error).__name__


def _bare(error: BaseException) -> BaseException:
    # By the base's own method: an exception may refuse that its attributes are set, as a frozen dataclass does.
    return BaseException.with_traceback(error, None)


def without_frames(error: BaseException) -> BaseException:
    """The error without its traceback, whose frames would keep the call's arguments alive; it becomes a note."""
    import traceback

    with suppress(Exception):  # an exception that cannot be printed
        text = "".join(traceback.format_exception(error))
        error.add_note(f"The queued call failed here:\n{text}")
    seen: set[int] = set()
    ahead: list[BaseException | None] = [error]
    while ahead:
        one = ahead.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        _bare(one)
        ahead += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            ahead += one.exceptions
    return error
