"""Follows executions to their ends: shows what happens, and what Ctrl-C does meanwhile."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from types import FrameType, TracebackType
from typing import Any, NamedTuple

from resilient.cli.plan_events import waiting_lines
from resilient.cli.plan_progress import Progress
from resilient.cli.plan_text import in_words
from resilient.orchestrator import (
    ExecutionStatus,
    PlanLockedError,
    RecoveryError,
    RecoveryEvent,
    RecoveryExecution,
    RecoveryOrchestrator,
)

INTERRUPTED = 130
_TICK = 0.05  # seconds between two looks at whether Ctrl-C was pressed
# Some parents hand on the Ctrl-C that the terminal has sent to us as well.
_SAME_PRESS = 0.3
_PATIENCE = 0.3  # seconds that leaving at once may take


class _Done(NamedTuple):
    execution_id: str
    execution: RecoveryExecution | None
    error: Exception | None


class Follower:
    """Executions of this process, until they have ended or this process has let go of them."""

    def __init__(self, orchestrator: RecoveryOrchestrator, progress: Progress, journal: str) -> None:
        self._orchestrator = orchestrator
        self._progress = progress
        self._journal = journal
        self._items: SimpleQueue[RecoveryEvent | _Done] = SimpleQueue()
        self._open: set[str] = set()
        self.ended: list[RecoveryExecution] = []
        self.lost: list[str] = []
        # Before the first execution begins, so that none of its events is missed.
        self._unsubscribe = orchestrator.subscribe(self._items.put)

    @property
    def open(self) -> frozenset[str]:
        """The executions that are still followed."""
        return frozenset(self._open)

    def add(self, execution_id: str) -> None:
        """Follow one more."""
        self._open.add(execution_id)
        self._progress.begin(execution_id, self._orchestrator.plan_of(execution_id))
        threading.Thread(target=self._wait, args=(execution_id,), name="resilient-plan-wait", daemon=True).start()

    def tell_what_waits(self, execution_id: str) -> None:
        """Say what an execution waits for that was asked before this process came."""
        execution = self._orchestrator.get_execution_status(execution_id)
        for line in waiting_lines(execution, self._orchestrator.entries(execution_id), self._journal):
            self._progress.say(line)

    def _wait(self, execution_id: str) -> None:
        try:
            try:
                execution = self._orchestrator.wait_for(execution_id)
            except PlanLockedError:  # it was taken over, and how far the other one has come is what matters
                execution = self._orchestrator.get_execution_status(execution_id)
        except Exception as error:  # noqa: BLE001 - told by the thread that prints
            self._items.put(_Done(execution_id, None, error))
        else:
            self._items.put(_Done(execution_id, execution, None))

    def go_on(self) -> None:
        """Show what has happened, or wait a moment for something to happen."""
        try:
            item = self._items.get(timeout=_TICK)
        except Empty:
            self._tick()
            return
        while True:
            self._take(item)
            try:
                item = self._items.get_nowait()
            except Empty:
                break
        self._tick()

    def _tick(self) -> None:
        try:
            self._progress.tick(self._orchestrator.get_execution_status)
        except RecoveryError:  # a journal that cannot be read just now; the one who waits tells of it
            return

    def _take(self, item: RecoveryEvent | _Done) -> None:
        if isinstance(item, RecoveryEvent):
            if item.execution_id in self._open:
                self._progress.event(item)
            return
        self._open.discard(item.execution_id)
        if item.execution is not None and item.execution.status.ended:
            self.ended.append(item.execution)
            self._progress.end(item.execution)
            return
        now = "unknown" if item.execution is None else in_words(item.execution.status)
        why = f": {item.error}" if item.error is not None else ""
        self.lost.append(item.execution_id)
        self._progress.say(f"{item.execution_id} is not carried out by this process any more (it is {now}){why}")

    def cancel(self) -> None:
        """Ask for the end of everything that is followed."""
        if not self._open:
            return
        self._progress.say("Ctrl-C: cancelled, what was done is being undone; Ctrl-C again leaves at once")
        for execution_id in self._open:
            self._orchestrator.cancel_execution(execution_id, "Ctrl-C")

    def __enter__(self) -> Follower:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._unsubscribe()
        self._progress.close()

    @property
    def code(self) -> int:
        """The exit code: the worst of all ends."""
        codes = [exit_code(one.status) for one in self.ended]
        return max([*codes, 1] if self.lost else codes, default=0)


def exit_code(status: ExecutionStatus) -> int:
    """0 completed, 2 something could not be undone, 1 everything else."""
    return {ExecutionStatus.COMPLETED: 0, ExecutionStatus.ROLLBACK_FAILED: 2}.get(status, 1)


class Interrupts:
    """Counts Ctrl-C instead of raising KeyboardInterrupt; the second one ends the process at once.

    `leave` is called then, in a thread of its own, and may take a moment.
    """

    def __init__(self, farewell: str, leave: Callable[[], object]) -> None:
        self.count = 0
        self._farewell = farewell
        self._leave = leave
        self._last = float("-inf")
        self._before: Any = None

    def __enter__(self) -> Interrupts:
        is_main = threading.current_thread() is threading.main_thread()
        # Ignored already where a shell has put this into the background.
        if is_main and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            self._before = signal.signal(signal.SIGINT, self._on_interrupt)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _on_interrupt(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if now - self._last < _SAME_PRESS:
            return
        self._last = now
        self.count += 1
        if self.count > 1:
            # This thread may be anywhere, with any lock: nothing that takes one may be called in it.
            leaving = threading.Thread(target=self._leave, daemon=True)
            leaving.start()
            leaving.join(_PATIENCE)
            os.write(sys.__stderr__.fileno() if sys.__stderr__ is not None else 2, f"{self._farewell}\n".encode())
            os._exit(INTERRUPTED)


def follow(follower: Follower, interrupts: Interrupts, meanwhile: Callable[[], bool] = lambda: False) -> None:
    """Follow until everything has ended; `meanwhile` is asked again and again whether there may be more to come."""
    is_cancelled = False
    while (not is_cancelled and meanwhile()) or follower.open:
        follower.go_on()
        if interrupts.count and not is_cancelled:
            is_cancelled = True
            follower.cancel()
