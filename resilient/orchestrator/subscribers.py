"""Who listens to recoveries. Each handler gets every event, in order, and none of them can hold up anything."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import wait
from contextlib import suppress
from types import TracebackType
from typing import Any

from resilient.events import HUB, log_failure, log_note
from resilient.orchestrator.events import RecoveryEvent, RecoveryEventType, RecoveryReported
from resilient.orchestrator.forks import Survivor, tell_of_forks
from resilient.orchestrator.tally import TALLY

_log = logging.getLogger("resilient.orchestrator")

PATIENCE = 1.0  # seconds that the end of an execution waits for handlers
BACKLOG = 10_000  # events that are kept for a handler that hangs
_HUB_BACKLOG = 100_000
IDLE = 1.0  # seconds after which a handler's thread goes


class RecoverySubscription(Survivor):
    """Call it, or leave its `with` block, to stop listening; doing so twice is harmless.

    `dropped` counts the events that a hanging handler was not told, `failures` those at which it raised.
    """

    def __init__(
        self,
        handler: Callable[[RecoveryEvent], Any],
        types: frozenset[RecoveryEventType],
        loop: asyncio.AbstractEventLoop | None,
        leave: Callable[[RecoverySubscription], object],
    ) -> None:
        self.handler = handler
        self.types = types
        self.dropped = self.failures = 0
        self._loop = loop
        self._leave = leave
        self._events: deque[RecoveryEvent] = deque()
        self._reset()

    def _reset(self) -> None:
        self._changed = threading.Condition()
        self._events.clear()
        self._busy = self._alive = self._stuck = False

    def put(self, event: RecoveryEvent) -> None:
        """Take an event for the handler, which gets it in the handler's own thread."""
        if event.event_type not in self.types:
            return
        hangs = False
        with self._changed:
            if len(self._events) >= self._backlog():
                hangs = not self.dropped
                self.dropped += 1
            else:
                self._events.append(event)
                if not self._alive:
                    self._alive = self._start()
                self._changed.notify_all()
        if hangs:
            text, name = "a handler of events hangs; from now on it misses some", "orchestrator.handler_hangs"
            log_note(_log, logging.ERROR, name, text, kind="recovery", policy=event.plan_id, limited=False)

    def _start(self) -> bool:
        try:
            threading.Thread(target=self._work, name="resilient-recovery-events", daemon=True).start()
        except RuntimeError:  # a limit of threads; the next event tries again
            text = "a handler of events has no thread to run in"
            log_failure(_log, "orchestrator.handler_waits", text, kind="recovery")
            return False
        return True

    def _backlog(self) -> int:
        return BACKLOG

    def forget(self) -> None:
        """Drop what the handler has not been told yet."""
        with self._changed:
            self._events.clear()

    def drained(self, timeout: float) -> bool:
        """Wait until the handler has had everything so far; at once for one that was not ready in time before."""
        with self._changed:
            idle = self._changed.wait_for(self._is_idle, 0.0 if self._stuck else timeout)
            self._stuck = not idle
            return idle

    def _is_idle(self) -> bool:
        return not self._events and not self._busy

    def _work(self) -> None:
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                if not self._changed.wait_for(lambda: self._events, IDLE):
                    self._alive = False
                    return
                event = self._events.popleft()
                self._busy = True
            self._handle(event)

    def _handle(self, event: RecoveryEvent) -> None:
        try:
            answer = self.handler(event) if self._loop is None else self._handle_in_loop(event)
            if inspect.isawaitable(answer):
                asyncio.run(_awaited(answer))
        except Exception:
            self.failures += 1
            text, which, plan = "a handler of %s failed", event.event_type.name, event.plan_id
            log_failure(_log, "orchestrator.handler_failed", text, which, kind="recovery", policy=plan)
        except BaseException as error:  # SystemExit and the like end nothing but this call
            self.failures += 1
            text, said = "a handler of %s raised %r", (event.event_type.name, error)
            name, plan = "orchestrator.handler_failed", event.plan_id
            log_note(_log, logging.ERROR, name, text, *said, kind="recovery", policy=plan, error=error)

    def _handle_in_loop(self, event: RecoveryEvent) -> Any:
        """Run an async handler in the loop it was subscribed in, as long as that is there."""
        loop = self._loop
        if loop is None or loop.is_closed():
            return self.handler(event)
        begun: list[bool] = []
        coroutine = _called(self.handler, event, begun)
        try:
            future = asyncio.run_coroutine_threadsafe(coroutine, loop)
            while not loop.is_closed():
                wait((future,), timeout=0.2)
                if future.done():
                    return future.result()
        except RuntimeError:
            if not loop.is_closed():
                raise
        if begun:
            raise RuntimeError("its event loop was closed")
        coroutine.close()
        return self.handler(event)

    def __call__(self) -> None:
        self._leave(self)

    def __enter__(self) -> RecoverySubscription:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self()

    def after_fork(self) -> None:
        """Begin anew in a forked child: the thread is the parent's."""
        self._reset()


async def _awaited(value: Any) -> Any:
    return await value


async def _called(handler: Callable[[RecoveryEvent], Any], event: RecoveryEvent, begun: list[bool]) -> Any:
    begun.append(True)
    return await handler(event)


class _ToTheHub(RecoverySubscription):
    """Hands events on to the process's subscribers and its log, which must not hold up anything either."""

    def _backlog(self) -> int:
        return _HUB_BACKLOG

    def put(self, event: RecoveryEvent) -> None:
        if HUB.wants(RecoveryReported):
            super().put(event)


def _report(event: RecoveryEvent) -> None:
    HUB.publish(RecoveryReported(event.plan_id, event))


class Subscribers:
    """The handlers of one orchestrator."""

    def __init__(self) -> None:
        hub = _ToTheHub(_report, frozenset(RecoveryEventType), None, self._remove)
        tell_of_forks(hub)
        self._all: tuple[RecoverySubscription, ...] = (hub,)
        self._lock = threading.Lock()

    def add(self, handler: Any, types: tuple[Any, ...]) -> RecoverySubscription:
        """Let a handler listen; TypeError for what is none."""
        if not callable(handler):
            raise TypeError(f"subscribe(): handler must be callable, not {handler!r}")
        for kind in types:
            if not isinstance(kind, RecoveryEventType):
                raise TypeError(f"subscribe(): event types are members of RecoveryEventType, not {kind!r}")
        call = getattr(type(handler), "__call__", None)  # noqa: B004  # its kind is asked for
        loop = None
        if inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(call):
            with suppress(RuntimeError):
                loop = asyncio.get_running_loop()
        subscription = RecoverySubscription(handler, frozenset(types or RecoveryEventType), loop, self._remove)
        tell_of_forks(subscription)
        with self._lock:
            self._all = (*self._all, subscription)
        return subscription

    def _remove(self, subscription: RecoverySubscription) -> None:
        with self._lock:
            self._all = tuple(one for one in self._all if one is not subscription)
        subscription.forget()

    def publish(self, event: RecoveryEvent) -> None:
        """Tell everyone; waits for nobody."""
        TALLY.note(event)
        for one in self._all:
            one.put(event)

    def drain(self) -> None:
        """Wait a moment for the handlers, so that who waits for an execution finds its events handled."""
        for one in self._all:
            one.drained(PATIENCE)
