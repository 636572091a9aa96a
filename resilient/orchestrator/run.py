"""One execution under way: a thread that asks what is to be done, writes it down, does it, and listens.

    progress says what to do -> records -> the journal has them -> attempts start -> their outcomes -> records -> ...

Nothing begins before the journal has said that it may, so whoever comes after a crash finds everything that may have
happened.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import copy_context
from dataclasses import replace
from queue import Empty, SimpleQueue
from typing import Any

from resilient.deadlines import DUE
from resilient.events import log_failure, log_note
from resilient.orchestrator.attempts import Attempt, Outcome
from resilient.orchestrator.book import Book
from resilient.orchestrator.engine import Host
from resilient.orchestrator.errors import PlanLockedError, RecoveryError
from resilient.orchestrator.executor import Operation
from resilient.orchestrator.journal import Journal, LeaseLostError
from resilient.orchestrator.judging import delay_after, failure_of
from resilient.orchestrator.model import (
    RecoveryContext,
    RecoveryPlan,
    RecoveryStep,
    live_parameters,
    plain_parameters,
    seconds_of,
)
from resilient.orchestrator.progress import Ask, Begin, End, Expire, Fail, Move, Progress, Stop, TurnBack
from resilient.orchestrator.real_time import monotonic
from resilient.orchestrator.records import Kind, Lease, Record, moment
from resilient.orchestrator.references import resolved
from resilient.orchestrator.stories import ending

_log = logging.getLogger("resilient.orchestrator")

GRACE = 1.0  # seconds that a stopped attempt has to end by itself
LONGEST_WAIT = 0.5  # seconds, after which closed event loops are looked for


class Look:
    """Says that there may be new signals."""


class Fenced:
    """Says that the lease could not be renewed."""


class Quit:
    """Says that this process is to let go of the execution; `error` says why. `leaving`: the process ends now."""

    def __init__(self, error: RecoveryError, leaving: bool = False) -> None:
        self.error = error
        self.leaving = leaving


class Run:
    """One execution of a plan in this process, under a lease."""

    def __init__(
        self,
        progress: Progress,
        lease: Lease,
        *,
        journal: Journal,
        host: Host,
        loop: Callable[[], asyncio.AbstractEventLoop],
        home: asyncio.AbstractEventLoop | None,
        ordered: Mapping[str, Any],
        elapsed: float = 0.0,
        seen: int = 0,
        done: Callable[[Run], object],
    ) -> None:
        self.progress = progress
        self.lease = lease
        self.error: BaseException | None = None  # why it failed, or why this process let go of it
        self.causes: dict[str, BaseException] = {}
        self.ended = self.blocked = self.over = False
        self.changed = threading.Condition()
        self._journal = journal
        self._host = host
        self._book = Book(progress, lease, journal, host, elapsed=elapsed, seen=seen)
        self._own_loop = loop
        self._home = home
        self._ordered = ordered
        self._done = done
        self._inbox: SimpleQueue[Outcome | Look | Fenced | Quit] = SimpleQueue()
        self._attempts: dict[tuple[str, bool], Attempt] = {}
        self._launches: list[tuple[Attempt, Operation, RecoveryStep, RecoveryContext]] = []
        self._delays: dict[tuple[str, bool], float] = {}
        self._leaving = False

    def start(self, first: Sequence[Record] = ()) -> None:
        """Go on from where the progress stands, in a thread of its own; `first` is written before anything else."""
        name = f"resilient-recovery-{self.lease.plan_id}"
        context = copy_context()
        # Who starts a recovery may be in a hurry, and the way back may not.
        context.run(DUE.set, None)
        threading.Thread(target=context.run, args=(self._drive, list(first)), name=name, daemon=True).start()

    def post(self, item: Outcome | Look | Fenced | Quit) -> None:
        """Hand something over to the thread."""
        self._inbox.put(item)

    # The thread

    def _drive(self, first: list[Record]) -> None:
        try:
            for record in first:
                self._book.put(record.kind, record.step_id, record.data)
            self._look()
            while not self._go_on():
                self._listen()
        except LeaseLostError as lost:
            self._tell_of_loss(lost)
            since = moment(lost.since)
            self.error = PlanLockedError(self.lease.plan_id, lost.holder, since, self.lease.execution_id)
        except _Letting as letting:
            self.error = letting.why
        except BaseException as error:
            text, event = "execution %s is broken off", "orchestrator.recovery_broken_off"
            which, plan = self.lease.execution_id, self.lease.plan_id
            log_failure(_log, event, text, which, kind="recovery", policy=plan, limited=False, execution_id=which)
            self.error = self._broken_off(error)
        finally:
            self._leave()

    def _broken_off(self, error: BaseException) -> RecoveryError:
        """What callers are told of an error that leaves the execution unfinished."""
        if not isinstance(error, RecoveryError):
            text = f"execution {self.lease.execution_id} was broken off ({type(error).__name__})"
            broken: RecoveryError = RecoveryError(f"{text}; resume_pending() goes on with it")
            broken.__cause__ = error
            error = broken
        error.concerning(self.lease.execution_id, self.lease.plan_id)
        return error

    def _undoable(self) -> Iterator[str]:
        """The steps that can be undone, by what is registered now."""
        for step in self.progress.plan.steps:
            if self._operation(step, undo=True) is not None:
                yield step.id

    def _loop(self) -> asyncio.AbstractEventLoop:
        home = self._home
        return self._own_loop() if home is None or home.is_closed() else home

    def _go_on(self) -> bool:
        """Do everything that can be done now; whether that was the end."""
        while True:
            moves = self.progress.moves(self._book.elapsed(), self._undoable())
            if not moves:
                break
            for move in moves:
                if self._is_decisive(move):
                    self._decide(move)
                    break  # whether it was written or not, there is more to know now
                self._make(move)
            if self.ended:
                return True
        self._commit()
        return False

    @staticmethod
    def _is_decisive(move: Move) -> bool:
        """Whether a signal that has come meanwhile would make it wrong."""
        return isinstance(move, (End, Expire)) or (isinstance(move, Fail) and move.why == "deadline")

    def _listen(self) -> None:
        """Wait until something happens or something is due."""
        try:
            item = self._inbox.get(timeout=self._patience())
        except Empty:
            self._look_after_stopped()
            return
        while True:
            if isinstance(item, Outcome):
                self._take(item)
            elif isinstance(item, Quit):
                self._leaving = item.leaving
                raise _Letting(item.error)
            elif isinstance(item, Fenced):
                self._book.check()
            else:
                self._look()
            try:
                item = self._inbox.get_nowait()
            except Empty:
                break
        self._look_after_stopped()

    def _patience(self) -> float | None:
        due = self.progress.due()
        times = [] if due is None else [due - self._book.elapsed()]
        now = monotonic()
        times += [one.give_up_at - now for one in self._attempts.values() if one.give_up_at is not None]
        if any(one.is_async for one in self._attempts.values()):
            times.append(LONGEST_WAIT)
        return max(0.001, min(*times, threading.TIMEOUT_MAX)) if times else None

    # What is to be done

    def _make(self, move: Move) -> None:
        match move:
            case Begin():
                self._begin(move)
            case Ask(step_id, question):
                self._ask(step_id, question)
            case Stop():
                self._stop(move)
            case Fail():
                self._book.put(Kind.UNDO_ERROR if move.undo else Kind.ERROR, move.step_id, self._failing(move))
            case TurnBack(targets):
                self._book.put(Kind.ROLLBACK, None, {"targets": list(targets)})

    def _begin(self, move: Begin) -> None:
        key = (move.step_id, move.undo)
        step = self.progress.plan.step(move.step_id)
        operation, acting = self._operation(step, undo=move.undo), self._acting(step, undo=move.undo)
        context = self._context(step, move)
        data: dict[str, Any] = {"attempt": move.attempt, "key": context.idempotency_key}
        if not move.undo:
            data["undoable"] = self._operation(step, undo=True) is not None
        self._book.put(Kind.UNDO if move.undo else Kind.ATTEMPT, step.id, data)
        is_async = operation is not None and operation.is_async
        attempt = Attempt(step.id, move.attempt, undo=move.undo, is_async=is_async, post=self.post)
        context.watch(lambda: attempt.stopped)
        self._attempts[key] = attempt
        try:
            if operation is None:
                raise RecoveryError(f"no executor is registered for {acting.type_name!r}")
            told = resolved(plain_parameters(acting), context.parameters, context.step_results)
            # Copies, or a step could change the plan; but what is to be cleared is to be the thing itself.
            acting = replace(acting, parameters={**own(told), **live_parameters(acting)})
        except Exception as error:
            self.post(Outcome(attempt, None, error))
            return
        self._launches.append((attempt, operation, acting, context))

    def _context(self, step: RecoveryStep, move: Begin) -> RecoveryContext:
        key = f"{self.lease.execution_id}:{step.id}" + (":rollback" if move.undo else "")
        return RecoveryContext(
            self.lease.execution_id,
            self.lease.plan_id,
            self._ordered["parameters"],
            self.progress.results,
            step_id=step.id,
            idempotency_key=key,
            attempt=move.attempt,
        )

    def _acting(self, step: RecoveryStep, *, undo: bool) -> RecoveryStep:
        return self.progress.way_back(step) if undo else step

    def _operation(self, step: RecoveryStep, *, undo: bool) -> Operation | None:
        return operation_for(self._host, self.progress.plan, step, undo=undo)

    def _ask(self, step_id: str, question: str) -> None:
        step = self.progress.plan.step(step_id)
        data: dict[str, Any] = {"question": question}
        limit = seconds_of(step.timeout)
        if question == "approve" and limit is not None:
            data["deadline"] = self._book.elapsed() + limit
            data["deadline_at"] = time.time() + limit
        self._book.put(Kind.ASKED, step_id, data)

    def _stop(self, move: Stop) -> None:
        attempt = self._attempts[move.step_id, move.undo]
        state = self.progress.steps[move.step_id]
        if move.undo and state.undo is not None:
            state.undo.stopping = True
        else:
            state.stopping = True
        attempt.stop(move.why)
        # A function cannot be made to end: after a timeout it is left alone at once, and by a cancellation it is given
        # the time to finish, as then it is known what it did.
        patience = GRACE if attempt.is_async or move.why == "cancelled" else 0.0
        attempt.give_up_at = monotonic() + patience
        if not patience:
            self._look_after_stopped()

    def _failing(self, move: Fail) -> dict[str, Any]:
        state = self.progress.steps[move.step_id]
        data: dict[str, Any] = {"final": True, "attempt": state.attempt}
        if move.undo and state.undo is not None:
            data |= {"attempt": state.undo.attempt, "error": state.undo.error or "the rollback was stopped"}
        elif move.why == "deadline":
            data |= {"error": f"no decision within {seconds_of(state.step.timeout):g} s", "timed_out": True}
        elif move.why == "died":
            data |= {"error": state.error, "in_doubt": True, "must_undo": True}
        else:
            data |= {
                "error": state.error or "not decided before the execution was stopped",
                "in_doubt": state.in_doubt,
                "stopped": True,
            }
        return data

    # What has happened

    def _take(self, outcome: Outcome) -> None:
        """Note how an attempt ended."""
        attempt = outcome.attempt
        if self._attempts.pop((attempt.step_id, attempt.undo), None) is None:
            return
        if outcome.error is None and (not attempt.stopped or attempt.why == "cancelled" or attempt.undo):
            kind = Kind.UNDONE if attempt.undo else Kind.DONE
            data = {} if attempt.undo else {"output": outcome.output}
            self._book.put(kind, attempt.step_id, {"attempt": attempt.number, **data})
            return
        if isinstance(outcome.error, asyncio.CancelledError) and not attempt.stopped:
            self._home = None  # it is about to be closed: whatever is to come runs in a loop of our own
        self._note_error(attempt, outcome.error, happened=outcome.error is None or outcome.happened)

    def _note_error(self, attempt: Attempt, error: BaseException | None, *, happened: bool) -> None:
        step = self._acting(self.progress.plan.step(attempt.step_id), undo=attempt.undo)
        delay = None if happened else self._delay(attempt, step, error)
        if attempt.undo and isinstance(error, asyncio.CancelledError) and not attempt.stopped:
            delay = 0.0  # its event loop has gone, and nothing was tried yet
        if error is not None and not attempt.undo and attempt.why not in ("timeout", "expired"):
            self.causes[attempt.step_id] = error
        kind = Kind.UNDO_ERROR if attempt.undo else Kind.ERROR
        self._book.put(kind, attempt.step_id, failure_of(attempt, step, error, delay, happened=happened))

    def _delay(self, attempt: Attempt, step: RecoveryStep, error: BaseException | None) -> float | None:
        """Seconds until the next attempt; None when there is none, or when it would be too late by then."""
        key = (attempt.step_id, attempt.undo)
        delay = delay_after(step.retry_policy, attempt, error, self._delays.get(key, 0.0))
        if delay is None:
            return None
        self._delays[key] = delay
        state = self.progress.steps[attempt.step_id]
        began = state.undo.began if attempt.undo and state.undo is not None else state.began
        limit = seconds_of(step.timeout)
        return None if limit is not None and self._book.elapsed() + delay >= began + limit else delay

    def _look_after_stopped(self) -> None:
        """Give up on attempts that were stopped and do not end, and on those whose event loop was closed."""
        now = monotonic()
        for attempt in list(self._attempts.values()):
            if attempt.is_lost:
                self._take(Outcome(attempt, None, asyncio.CancelledError("its event loop was closed")))
            elif attempt.give_up_at is not None and now >= attempt.give_up_at:
                attempt.abandoned = True
                del self._attempts[attempt.step_id, attempt.undo]
                self._note_error(attempt, None, happened=False)

    def _look(self) -> None:
        """Take in what somebody outside has asked for."""
        for signal in self._book.signals():
            state = self.progress.steps.get(signal.step_id) if signal.step_id is not None else None
            if signal.kind is Kind.ANSWERED and (state is None or not state.is_asking):
                continue  # the second of two answers
            self._book.put(signal.kind, signal.step_id, {**signal.data, "signal": signal.number}, at=signal.at)

    # Writing

    def _commit(self) -> None:
        """Write what is to be written, and only then tell of it and do it."""
        self._book.commit()
        launches, self._launches = self._launches, []
        for attempt, operation, step, context in launches:
            if not attempt.stopped:
                try:
                    attempt.start(operation, step, context, self._loop())
                except Exception as error:  # such as a limit of threads
                    self.post(Outcome(attempt, None, error))
            elif not attempt.abandoned:  # its time was over before it could begin
                self.post(Outcome(attempt, None, asyncio.CancelledError("it was stopped before it began")))
        blocked = self.progress.blocked
        if blocked != self.blocked:
            with self.changed:
                self.blocked = blocked
                self.changed.notify_all()

    def _decide(self, move: Move) -> None:
        """Write something that is settled by being written, unless somebody has asked for something meanwhile."""
        self._commit()
        if isinstance(move, End):
            kind, step_id, data = Kind.ENDED, None, ending(self.progress, move.status)
        elif isinstance(move, Fail):
            kind, step_id, data = Kind.ERROR, move.step_id, self._failing(move)
        else:
            kind, step_id, data = Kind.EXPIRED, None, {"limit": seconds_of(self.progress.plan.timeout)}
        if not self._book.settle(kind, step_id, data):
            self._look()
        elif kind is Kind.ENDED:
            self.error = self.causes.get(data.get("step_id") or "")
            self.ended = True

    def _tell_of_loss(self, lost: LeaseLostError) -> None:
        log_note(
            _log,
            logging.ERROR,
            "orchestrator.lease_lost",
            "%s: %s; this process stops",
            self.lease.execution_id,
            lost,
            kind="recovery",
            policy=self.lease.plan_id,
            limited=False,
            execution_id=self.lease.execution_id,
        )

    def _leave(self) -> None:
        """Let go: whatever is still under way is told to end, and nobody waits for it here."""
        for attempt in self._attempts.values():
            attempt.abandoned = True
            attempt.stop("left")
        # While a step is still at work, nobody is to repeat it: then the lease ends by itself.
        if not self.ended and (self._leaving or all(attempt.over for attempt in self._attempts.values())):
            try:
                self._journal.release(self.lease)
            except Exception:
                text, plan = "the lease of %s ends by itself", self.lease.plan_id
                log_failure(_log, "orchestrator.lease_kept", text, plan, kind="recovery", policy=plan, limited=False)
        self._done(self)
        with self.changed:
            self.over = True
            self.changed.notify_all()


def operation_for(host: Host, plan: RecoveryPlan, step: RecoveryStep, *, undo: bool) -> Operation | None:
    """What carries out a step, or its rollback: a rollback step is executed, otherwise the executor undoes."""
    back = step.rollback_step_id if undo else None
    acting = step if back is None else plan.rollback_step(back)
    executor = host.executor(acting.type_name)
    if executor is None:
        return None
    return executor.rollback if undo and back is None else executor.execute


def own(value: Any) -> Any:
    """A value whose lists and tables are copies; other objects stay themselves."""
    if type(value) is dict:
        return {key: own(one) for key, one in value.items()}
    return type(value)(map(own, value)) if type(value) in (list, tuple) else value


class _Letting(Exception):
    """Ends the thread; the journal has everything that is needed to go on elsewhere."""

    def __init__(self, why: RecoveryError) -> None:
        self.why = why
