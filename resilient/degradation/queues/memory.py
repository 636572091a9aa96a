"""The queue within the process: any call can go there, and what is left when the process ends is lost."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
import uuid
import weakref
from contextlib import suppress

from resilient._checks import Seconds
from resilient._registry import registry
from resilient.clock import CLOCK
from resilient.degradation.events import CallQueued, QueuedCallEnded, QueuedCallFailed, log_given_up
from resilient.degradation.queues.calls import QueuedCall, Runner
from resilient.degradation.queues.protocol import (
    LATE,
    Pace,
    QueuedCallStatus,
    QueueFullError,
    queue_name,
    queued_call,
)
from resilient.degradation.queues.receipts import Receipt, described, final_error
from resilient.degradation.queues.shifts import Shifts
from resilient.errors import ResilienceError
from resilient.events import HUB

IDLE_SECONDS = 10.0
#: The longest wait for a call that is due later: the clock may be another one than the locks', and jump.
SLICE = 0.05

_queues: weakref.WeakSet[MemoryQueue] = weakref.WeakSet()


class _Job:
    __slots__ = ("attempts", "call", "deadline", "error", "receipt")

    def __init__(self, call: QueuedCall, receipt: Receipt, deadline: float) -> None:
        self.call = call
        self.receipt = receipt
        self.deadline = deadline
        self.attempts = 0
        self.error: BaseException | None = None


class MemoryQueue(Shifts):
    """Makes queued calls in daemon threads of this process, which start with the first call and leave when idle.

    A call is tried at once, and then with exponentially growing waits, until it succeeds, or `give_up_after` has
    passed, or its error says that trying again cannot help. It is made without the caller's context variables and
    deadline; an async function runs in the event loop it was called from, or in the worker's own once that has ended.

    Args:
        max_size: so many calls that have not ended at most; one more raises QueueFullError.
        workers: so many calls are made at once.
        give_up_after: no attempt but the first begins later than this, in seconds or as a timedelta; the last one is
            due at that moment, and dropped when it is late by more than five seconds.
        base_delay, max_delay, multiplier: the waits between attempts, ±10 %; an error's `retry_after` goes before.
        name: for events.
    """

    def __init__(
        self,
        max_size: int = 1000,
        workers: int = 1,
        give_up_after: Seconds = 3600.0,
        *,
        base_delay: Seconds = 1.0,
        max_delay: Seconds = 60.0,
        multiplier: float = 2.0,
        name: str = "memory",
    ) -> None:
        self.pace = Pace(max_size, workers, give_up_after, base_delay, max_delay, multiplier)
        self._name = queue_name(name)
        self._forget()
        _queues.add(self)

    def _forget(self) -> None:
        self._begin_shift()
        self._waiting: list[tuple[float, int, _Job]] = []
        self._numbers = itertools.count()
        self._size = 0
        self._receipts: weakref.WeakSet[Receipt] = weakref.WeakSet()

    def put(self, call: QueuedCall, /) -> Receipt:
        """Take a call; raises QueueFullError. While the queue is stopped, calls wait for `start()`."""
        receipt = Receipt(uuid.uuid4().hex, queued_call(call).name)
        now = CLOCK.monotonic()
        with self._changed:
            full = self._size >= self.pace.max_size
            self._size += not full
        if full:
            raise QueueFullError(self.name)
        if HUB.wants(CallQueued):
            HUB.publish(CallQueued(self.name, receipt.id, call.name))
        self._receipts.add(receipt)
        self._wait_until(now, _Job(call, receipt, now + self.pace.give_up_after))
        self._hire()
        return receipt

    def start(self) -> None:
        """Go on making calls after `stop()`; without one there is no need."""
        self._start_shift()

    def stop(self, timeout: Seconds | None = 1.0) -> bool:
        """Make no further calls; whether those under way have ended within `timeout` (None: however long it takes).

        What waits stays there for `start()`. Stopping twice is harmless.
        """
        return self._end_shift(timeout)

    def __len__(self) -> int:
        return self._size

    def __repr__(self) -> str:
        return f"<memory queue {self.name}: {self._size} calls>"

    # Workers ------------------------------------------------------------------------------------

    def _hire(self) -> None:
        """See to it that there are enough workers for what is there."""
        with self._changed:
            while self._shift is not None and self._at_work() < min(self.pace.workers, self._size):
                thread = threading.Thread(
                    target=self._work, args=(self._shift,), name=f"resilient-queue-{self.name}", daemon=True
                )
                thread.start()
                self._threads[thread] = self._shift

    def _at_work(self) -> int:
        return sum(shift is self._shift for shift in self._threads.values())

    def _work(self, shift: object) -> None:
        runner = Runner()
        try:
            while (job := self._next(shift)) is not None:
                self._make_surely(job, runner)
                del job  # an idle worker keeps nothing alive
        finally:
            with self._changed:
                self._threads.pop(threading.current_thread(), None)
            with suppress(Exception):  # what async calls have left in the loop
                runner.close()

    def _next(self, shift: object) -> _Job | None:
        """Wait for a call that is due; None when it is time to leave."""
        idle_until = time.monotonic() + IDLE_SECONDS
        while True:
            now = CLOCK.monotonic()
            with self._changed:
                bored = not self._waiting and time.monotonic() >= idle_until
                if shift is not self._shift or bored:
                    self._threads.pop(threading.current_thread(), None)
                    return None
                if self._waiting and self._waiting[0][0] <= now:
                    return heapq.heappop(self._waiting)[2]
                left = self._waiting[0][0] - now if self._waiting else IDLE_SECONDS
                self._changed.wait(min(left, SLICE if self._waiting else IDLE_SECONDS))

    def _wait_until(self, due: float, job: _Job) -> None:
        with self._changed:
            heapq.heappush(self._waiting, (due, next(self._numbers), job))
            self._changed.notify()

    def _make_surely(self, job: _Job, runner: Runner) -> None:
        try:
            self._make(job, runner)
        except BaseException as error:  # the call's error, or one of its answers, is stranger than foreseen
            self._ended(job, None, ResilienceError(f"{job.call.name} could not be made: {described(error)}"))

    def _make(self, job: _Job, runner: Runner) -> None:
        """Make one attempt."""
        if job.attempts and CLOCK.monotonic() > job.deadline + LATE:
            self._ended(job, None, final_error(job.call.name, job.error or self.pace.too_late(job.call.name)))
            return
        job.attempts += 1
        job.receipt.progress(QueuedCallStatus.RUNNING, job.attempts)
        call = job.call
        try:
            answer = runner.run(call.invoke, call.args, call.kwargs, call.is_async, call.loop())
        except BaseException as error:
            self._failed(job, error)
        else:
            self._ended(job, answer, None)

    def _failed(self, job: _Job, error: BaseException) -> None:
        now = CLOCK.monotonic()
        delay = self.pace.delay(job.attempts, error, job.deadline - now)
        if delay is None:
            self._ended(job, None, final_error(job.call.name, error))
            return
        job.error = error
        job.receipt.progress(QueuedCallStatus.QUEUED, job.attempts)
        if HUB.wants(QueuedCallFailed):
            HUB.publish(QueuedCallFailed(self.name, job.receipt.id, job.call.name, job.attempts, delay, error))
        self._wait_until(now + delay, job)

    def _ended(self, job: _Job, answer: object, error: BaseException | None) -> None:
        with self._changed:
            if job.receipt.done:
                return
            self._size -= 1
        try:
            if HUB.wants(QueuedCallEnded):
                HUB.publish(QueuedCallEnded(self.name, job.receipt.id, job.call.name, job.attempts, error))
            log_given_up(self.name, job.receipt.id, job.call.name, job.attempts, error)
        finally:
            job.receipt.settle(answer, error, job.attempts)

    def after_fork(self) -> None:
        """Begin empty in a forked child: the calls, and their outcomes, have stayed with the parent's threads."""
        receipts = list(self._receipts)
        self._forget()
        for receipt in receipts:
            receipt.after_fork()
            receipt.settle(
                None, ResilienceError(f"{receipt.call} was queued in the parent process, and is made there"), 0
            )


def _after_fork() -> None:
    for queue in list(_queues):
        queue.after_fork()


registry.fork_hooks.append(_after_fork)
