"""Queues that survive the process: in an SQLite file, or on a Redis server. See `DurableQueue`."""

from __future__ import annotations

import logging
import math
import os
import pickle
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from resilient import _checks as check
from resilient._checks import Seconds
from resilient._registry import registry
from resilient.degradation.events import (
    CallQueued,
    QueuedCallEnded,
    QueuedCallFailed,
    QueuedCallRepeated,
    log_given_up,
)
from resilient.degradation.queues.calls import QueuedCall, Runner
from resilient.degradation.queues.ledger import Claim, Ledger, Outcome
from resilient.degradation.queues.protocol import (
    LATE,
    Pace,
    QueuedCallStatus,
    QueueFullError,
    queue_name,
    queued_call,
)
from resilient.degradation.queues.receipts import Receipt, described, final_error, without_frames
from resilient.degradation.queues.shifts import Shifts
from resilient.degradation.queues.stores import RedisStore, SqliteStore, Store
from resilient.errors import ConfigurationError, ResilienceError, UnknownNameError
from resilient.events import HUB, log_failure, log_note

_log = logging.getLogger("resilient.queue")

_TROUBLE = 1.0  # seconds until the storage is tried again after an error
_SHORTEST = 0.05  # seconds; what is to happen more often would do nothing but that
_COUNTED, _COUNTED_FULL = 0.25, 0.05  # seconds that a count of the calls holds

_queues: weakref.WeakSet[DurableQueue] = weakref.WeakSet()
_held: dict[int, list[Store]] = {}


class DurableQueue(Shifts):
    """Makes queued calls in daemon threads, and keeps them, from `put` until their outcome is written down, elsewhere.

    At least once: a call whose process dies while making it is made again, by a later process or another one that
    shares the queue; `QueuedCallRepeated`, a warning in the log, and `receipt.repeated` say so. Processes that share a
    queue never make the same call at the same time, unless one of them gave no sign of life for `lease`.

    The workers start with the first call, or with `start()`, which also takes up what an earlier process has left, and
    go on until `stop()`. Function and arguments are pickled: whoever can write to the file or server can run code.

    Args:
        max_size: about so many calls that have not ended at most, over all processes; then QueueFullError.
        workers: so many calls are made at once by this process.
        give_up_after: no attempt but the first begins later than this after `put`, by the wall clock; the last one is
            due at that moment, and dropped when it is late by more than five seconds.
        base_delay, max_delay, multiplier: the waits between attempts, ±10 %; an error's `retry_after` goes before.
        result_ttl: how long an outcome can be read by `receipt(id)`.
        lease: after so long without a sign of life, a process is held to be dead. One on this machine that has ended
            is known to be dead at once, where the system tells.
        poll_interval: how often to look for calls of other processes.
    """

    def __init__(
        self,
        open_store: Callable[[str], Store],
        *,
        name: str = "resilient",
        max_size: int = 1000,
        workers: int = 1,
        give_up_after: Seconds = 3600.0,
        base_delay: Seconds = 1.0,
        max_delay: Seconds = 60.0,
        multiplier: float = 2.0,
        result_ttl: Seconds = 86400.0,
        lease: Seconds = 30.0,
        poll_interval: Seconds = 0.2,
    ) -> None:
        self._name = queue_name(name)
        self.pace = Pace(max_size, workers, give_up_after, base_delay, max_delay, multiplier)
        self._lease = _interval("lease", lease)
        self._poll = _interval("poll_interval", poll_interval)
        ttl = check.seconds("result_ttl", result_ttl, positive=True)
        # A colon parts the name from what is kept under it.
        plain = self._name.replace("%", "%25").replace(":", "%3A")
        self._ledger = Ledger(lambda part: open_store(plain + part), self._lease, ttl)
        self._begin()
        _queues.add(self)

    def _begin(self) -> None:
        self._begin_shift()
        #: What each worker is busy with.
        self._running: dict[int, str] = {}
        self._receipts: weakref.WeakValueDictionary[str, Receipt] = weakref.WeakValueDictionary()
        self._loops: dict[str, Callable[[], Any]] = {}
        self._next_sweep = 0.0
        self._tidied = False
        # How many calls there were about when they were counted, and those that came and went since.
        self._count = 0
        self._counted_at = -math.inf
        # Not at the end of the interpreter: a thread may have died there with the connection in use.
        self._closing = weakref.finalize(self, self._ledger.close)
        self._closing.atexit = False

    def put(self, call: QueuedCall, /) -> Receipt:
        """Take a call; when this returns, the call is on record.

        Raises QueueFullError, and ConfigurationError where the function or an argument cannot be pickled. While the
        queue is stopped, calls wait for `start()`.
        """
        payload = queued_call(call).pickled()
        if self._is_full():
            raise QueueFullError(self.name)
        receipts: list[Receipt] = []

        def tell(key: str) -> None:
            receipts.append(self._new_receipt(key, call.name))
            if call.is_async:
                self._loops[key] = call.loop
            if HUB.wants(CallQueued):
                HUB.publish(CallQueued(self.name, key, call.name))

        key = self._ledger.put(payload, call.name, self.pace.give_up_after, tell)
        self._count += 1
        try:
            self._ledger.live.push(key)
            self._hire()
        except Exception:  # the call is on record, and a worker will find it there
            _storage_failed(self.name, "%s: could not tell the workers of a call")
        return receipts[0]

    def _is_full(self) -> bool:
        """Whether there are `max_size` calls, by a count that is a moment old."""
        full, now = self._count >= self.pace.max_size, time.monotonic()
        if now - self._counted_at >= (_COUNTED_FULL if full else _COUNTED):
            self._count, self._counted_at = len(self._ledger.live), now
        return self._count >= self.pace.max_size

    def receipt(self, id: str) -> Receipt:
        """A receipt for a call queued by any process, until `result_ttl` after its end; raises UnknownNameError."""
        known = self._receipts.get(id)
        if known is not None:
            return known
        state, outcome = self._ledger.state(id), self._ledger.outcome(id)
        if state is None and outcome is None:
            raise UnknownNameError(f"{self.name}: no queued call has the id {id!r}, or its outcome is forgotten by now")
        receipt = self._new_receipt(id, "a queued call" if state is None else state.call)
        receipt.refresh()
        return receipt

    def start(self) -> None:
        """Make calls, also those that an earlier process has left; starting twice is harmless."""
        self._start_shift()

    def stop(self, timeout: Seconds | None = 1.0) -> bool:
        """Make no further calls; whether those under way have ended within `timeout` (None: however long it takes).

        What waits stays on record. Stopping twice is harmless.
        """
        if not self._end_shift(timeout):
            return False
        self._ledger.close()
        return True

    def __len__(self) -> int:
        return len(self._ledger.live)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    # Receipts -----------------------------------------------------------------------------------

    def _new_receipt(self, key: str, call: str) -> Receipt:
        receipt = self._receipts[key] = Receipt(key, call, self._look)
        return receipt

    def _look(self, receipt: Receipt) -> None:
        """See what has become of a call that perhaps another process makes."""
        if self._is_mine(receipt.id):
            return  # the worker tells the receipt, and has more to tell than can be written down
        outcome = self._ledger.outcome(receipt.id)
        if outcome is None:
            state = self._ledger.state(receipt.id)
            if state is not None:
                status = QueuedCallStatus.QUEUED if state.owner is None else QueuedCallStatus.RUNNING
                receipt.progress(status, state.attempts, state.repeated)
                return
            outcome = self._ledger.outcome(receipt.id)  # it has ended between the two looks
        if outcome is None:
            gone = UnknownNameError(f"{self.name}: the outcome of {receipt.id} is forgotten by now")
            outcome = Outcome(None, gone, 0, 0)
        _settle(receipt, outcome)

    # Workers ------------------------------------------------------------------------------------

    def _hire(self) -> None:
        """See to it that the workers are there."""
        with self._changed:
            if self._shift is not None:
                self._hire_for(self._shift, self._show_life, 1)
                self._hire_for(self._shift, self._work, self.pace.workers)
            self._changed.notify_all()

    def _hire_for(self, shift: object, task: Callable[[object], None], wanted: int) -> None:
        there = sum(thread.is_alive() and job == (shift, task) for thread, job in self._threads.items())
        for _ in range(wanted - there):
            thread = threading.Thread(
                target=self._until_the_shift_ends,
                args=(shift, task),
                name=f"resilient-queue-{self.name}",
                daemon=True,
            )
            thread.start()
            self._threads[thread] = shift, task

    def _until_the_shift_ends(self, shift: object, task: Callable[[object], None]) -> None:
        try:
            task(shift)
        finally:
            with self._changed:
                self._threads.pop(threading.current_thread(), None)

    def _pause(self, shift: object, seconds: float) -> bool:
        """Wait, or be woken; whether to go on."""
        with self._changed:
            if shift is self._shift:
                self._changed.wait(seconds)
            return shift is self._shift

    def _show_life(self, shift: object) -> None:
        """Tell other processes that the calls under way are in good hands, to the end of the last one."""
        number, due = 0, time.monotonic()
        while self._pause(shift, self._lease / 4) or self._running:
            if shift is not self._shift:
                time.sleep(min(0.05, self._lease / 4))  # to leave soon after the last call
            if time.monotonic() < due:
                continue
            number, due = number + 1, time.monotonic() + self._lease / 4
            self._show_life_once(shift, number)

    def _show_life_once(self, shift: object, number: int) -> None:
        try:
            if shift is self._shift:
                self._hire()
            for key in list(self._running.values()):
                self._ledger.beat(key, number)
        except Exception:
            _storage_failed(self.name, "%s: could not write to the storage")

    def _work(self, shift: object) -> None:
        runner = Runner()
        try:
            while shift is self._shift:
                try:
                    idle = not self._turn(shift, runner)
                except BaseException:  # also what a call's module or arguments raise when they are loaded
                    _storage_failed(self.name, "%s: could not work with the storage")
                    self._pause(shift, _TROUBLE)
                else:
                    if idle:
                        self._pause(shift, self._poll)
        finally:
            with suppress(Exception):  # what async calls have left in the loop
                runner.close()

    def _turn(self, shift: object, runner: Runner) -> bool:
        """Make the next call that is due; False if there is none."""
        self._sweep()
        for key in self._ledger.live.due(time.time()):
            self._ledger.live.push(key)
        found = self._ledger.live.pull()
        if found is None:
            return False
        self._running[threading.get_ident()] = found
        try:
            claim = self._ledger.take(found)
            if claim is not None:
                self._make_surely(claim, shift, runner)
        finally:
            del self._running[threading.get_ident()]
        return True

    def _sweep(self) -> None:
        with self._changed:
            now = time.monotonic()
            if now < self._next_sweep:
                return
            self._next_sweep = now + min(5.0, self._lease / 4)
            tidied, self._tidied = self._tidied, True
        if not tidied:
            self._ledger.tidy()
        self._hire()
        if self._ledger.purge():
            self._next_sweep = time.monotonic() + self._poll
        loops = set(self._loops)
        for ended in loops - self._ledger.sweep(self._is_mine):
            self._loops.pop(ended, None)

    def _is_mine(self, key: str) -> bool:
        """Whether one of the workers here is busy with the call."""
        return key in list(self._running.values())

    # One call -----------------------------------------------------------------------------------

    def _make_surely(self, claim: Claim, shift: object, runner: Runner) -> None:
        try:
            self._make(claim, shift, runner)
        except BaseException as error:  # the call's error, or its answer, is stranger than foreseen
            problem = ResilienceError(f"{claim.state.call} could not be made: {described(error)}")
            self._end(claim, shift, None, problem)

    def _make(self, claim: Claim, shift: object, runner: Runner) -> None:
        """Make one attempt, and write down what came of it."""
        state = claim.state
        if state.attempts > 1 and time.time() > state.deadline + LATE:
            self._end(claim, shift, None, self.pace.too_late(state.call), state.attempts - 1)
            return
        self._tell_begin(claim)
        try:
            recipe, is_async, args, kwargs = self._load(claim)
            invoke = recipe.layer()
        except BaseException as error:
            self._unmade(claim, shift, error)
            return
        loop = self._loops.get(claim.id, lambda: None)()
        try:
            answer = runner.run(invoke, args, kwargs, is_async, loop)
        except BaseException as error:
            self._failed(claim, shift, error)
        else:
            self._end(claim, shift, answer, None)

    def _load(self, claim: Claim) -> Any:
        payload = self._ledger.calls.get(claim.id)
        if payload is None:
            raise _GoneError("what was to be called is gone from the storage")
        return pickle.loads(payload)  # noqa: S301 - running what is on the queue is the purpose

    def _tell_begin(self, claim: Claim) -> None:
        state = claim.state
        if state.interrupted and HUB.wants(QueuedCallRepeated):
            HUB.publish(QueuedCallRepeated(self.name, claim.id, state.call, state.attempts - 1))
        receipt = self._receipts.get(claim.id)
        if receipt is not None:
            receipt.progress(QueuedCallStatus.RUNNING, state.attempts, state.repeated)

    def _unmade(self, claim: Claim, shift: object, error: BaseException) -> None:
        """Leave a call that cannot be made here to other processes, with other code, as long as there is time."""
        state, left = claim.state, claim.state.deadline - time.time()
        problem = ConfigurationError(f"the queued call {state.call} cannot be made any more: {described(error)}")
        problem.__cause__ = error
        if left <= 0 or isinstance(error, _GoneError):
            self._end(claim, shift, None, without_frames(problem))
            return
        text = "%s: %s cannot be made by this process, attempt %d (%s)"
        values = self.name, state.call, state.attempts, described(error)
        event, call = "queue.call_not_found", state.call
        log_note(_log, logging.WARNING, event, text, *values, kind="queue", policy=self.name, error=error, call=call)
        self._again(claim, shift, self.pace.wait(state.attempts, left), problem)

    def _failed(self, claim: Claim, shift: object, error: BaseException) -> None:
        state = claim.state
        delay = self.pace.delay(state.attempts, error, state.deadline - time.time())
        if delay is None:
            self._end(claim, shift, None, final_error(state.call, error))
        else:
            self._again(claim, shift, delay, error)

    def _again(self, claim: Claim, shift: object, delay: float, error: BaseException) -> None:
        state, due = claim.state, time.time() + delay
        if HUB.wants(QueuedCallFailed):
            HUB.publish(QueuedCallFailed(self.name, claim.id, state.call, state.attempts, delay, error))
        self._insist(shift, partial(self._ledger.again, claim, due))

    def _end(
        self, claim: Claim, shift: object, answer: Any, error: BaseException | None, attempts: int | None = None
    ) -> None:
        state = claim.state
        mine = Outcome(answer, error, state.attempts if attempts is None else attempts, state.repeated)
        outcome = self._insist(shift, partial(self._ledger.end, claim, mine))
        self._loops.pop(claim.id, None)
        if outcome is None:
            return
        self._count -= 1
        if HUB.wants(QueuedCallEnded):
            HUB.publish(QueuedCallEnded(self.name, claim.id, state.call, mine.attempts, outcome.error))
        log_given_up(self.name, claim.id, state.call, mine.attempts, outcome.error)
        receipt = self._receipts.get(claim.id)
        if receipt is not None:
            _settle(receipt, outcome)

    def _insist(self, shift: object, write: Callable[[], Any]) -> Any:
        """Write to the storage, again and again while that fails; None when the queue is stopped meanwhile."""
        while True:
            try:
                return write()
            except Exception:
                _storage_failed(self.name, "%s: could not write to the storage")
            if not self._pause(shift, _TROUBLE):
                return None

    def after_fork(self) -> None:
        """Begin anew in a forked child; the threads have stayed with the parent, which has closed the connections."""
        self._closing.detach()
        receipts = list(self._receipts.values())
        self._ledger.in_child()
        self._begin()
        for receipt in receipts:
            receipt.after_fork()
            self._receipts[receipt.id] = receipt


class _GoneError(ConfigurationError):
    """A call's function and arguments are not in the storage."""


def _interval(option: str, value: Any) -> float:
    seconds = check.seconds(option, value, positive=True)
    if seconds < _SHORTEST:
        raise check.bad(option, value, f"must be seconds, at least {_SHORTEST:g}")
    return seconds


def _storage_failed(queue: str, text: str) -> None:
    log_failure(_log, "queue.storage_failed", text, queue, kind="queue", policy=queue)


def _settle(receipt: Receipt, outcome: Outcome) -> None:
    receipt.repeated = outcome.repeated
    receipt.settle(outcome.answer, outcome.error, outcome.attempts)


class SqliteQueue(DurableQueue):
    """A durable queue in an SQLite file, for the processes of one machine; needs `resilient-toolkit[queue]`.

    Options as those of `DurableQueue`; queues of different names may share a file.
    """

    def __init__(self, path: str | os.PathLike[str], *, name: str = "resilient", **options: Any) -> None:
        path = os.fsdecode(path)
        if path in ("", ":memory:"):
            raise check.bad("path", path, "must be a file; a MemoryQueue keeps calls in memory")
        #: Absolute: connections are opened whenever they are needed, wherever the process has gone meanwhile.
        self.path = os.path.abspath(path)
        super().__init__(partial(SqliteStore, self.path), name=name, **options)


class RedisQueue(DurableQueue):
    """A durable queue on a Redis server, for any number of machines; needs `resilient-toolkit[redis]`.

    Options as those of `DurableQueue`. What the server may lose when it dies is for its own configuration to say
    (`appendonly yes`, `appendfsync always`).
    """

    def __init__(self, url: str, *, name: str = "resilient", **options: Any) -> None:
        self.url = url
        super().__init__(partial(RedisStore, url), name=name, **options)


def _before_fork() -> None:
    held = _held[threading.get_ident()] = []
    for queue in list(_queues):
        held += [store for store in queue._ledger.stores if store.before_fork()]


def _after_fork_in_parent() -> None:
    for store in _held.pop(threading.get_ident(), ()):
        store.after_fork()


def _after_fork() -> None:
    _held.clear()
    for queue in list(_queues):
        with suppress(Exception):  # the storage is out of reach; the next use will say so
            queue.after_fork()


registry.fork_hooks.append(_after_fork)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent)
