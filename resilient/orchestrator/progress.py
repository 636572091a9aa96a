"""How far an execution has come, as it follows from its records, and what is to be done next.

Pure: it is told the time, and neither reads nor writes anything. After a crash the same records lead to the same
state, in which whatever was under way is in doubt.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from resilient.orchestrator.line import Line
from resilient.orchestrator.model import ExecutionStatus as Status
from resilient.orchestrator.model import RecoveryPlan, RecoveryStep, StepResult, seconds_of
from resilient.orchestrator.records import Kind, Record
from resilient.orchestrator.steps import Phase, StepState, Undo, UndoPhase


class Begin(NamedTuple):
    """Make an attempt at a step, or at its rollback."""

    step_id: str
    attempt: int
    undo: bool = False


class Ask(NamedTuple):
    """Wait for a person: `question` is approve, rerun or undo."""

    step_id: str
    question: str


class Stop(NamedTuple):
    """End an attempt that is under way; `why` is timeout, expired or cancelled."""

    step_id: str
    why: str
    undo: bool = False


class Fail(NamedTuple):
    """Note that a step has failed without an attempt that could say so; `why` is deadline, died or stopped."""

    step_id: str
    why: str
    undo: bool = False


class Expire(NamedTuple):
    """Note that the plan's time is over."""


class TurnBack(NamedTuple):
    """Begin to undo these steps, in this order."""

    targets: tuple[str, ...]


class End(NamedTuple):
    """Note the end."""

    status: Status


Move = Begin | Ask | Stop | Fail | Expire | TurnBack | End


class Cause(NamedTuple):
    """Why no further steps are started: `kind` is failed, timeout, expired, rejected, doubt or cancelled."""

    kind: str
    step_id: str | None
    rollback: bool


class Progress:
    """One execution. `apply` the records in order; `moves` says what to do now, `due` when to ask again."""

    def __init__(self, plan: RecoveryPlan) -> None:
        self.plan = plan
        self.steps = {step.id: StepState(step) for step in plan.steps}
        self.started_at: float | None = None
        self.ended: Record | None = None
        self.cause: Cause | None = None
        self.cancelled: Record | None = None
        self.hurry = False  # what is under way is stopped, too
        self.targets: tuple[str, ...] | None = None  # what is to be undone, in order; None while not turned back
        self.applied = 0
        self.results: dict[str, StepResult] = {}  # of the steps that have ended
        self._line = Line(plan)
        self._active: dict[str, StepState] = {}  # begun, and not ended
        self._undone = 0  # how many of the targets are done with
        self._ways_back = {step.id: step for step in plan.rollback_steps}
        self.halted = False  # somebody has stopped the way back

    # What has happened

    def apply(self, record: Record) -> None:
        """Take a record in."""
        # Counted here: a record is taken in before the journal has numbered it.
        self.applied += 1
        record = record._replace(number=self.applied)
        state = self.steps.get(record.step_id) if record.step_id is not None else None
        if state is not None:
            self._take_in(state, record)
        match record.kind:
            case Kind.STARTED:
                self.started_at = record.at
            case Kind.RESUMED:
                for one in self.steps.values():
                    one.resumed(record.elapsed)
            case Kind.ERROR | Kind.ANSWERED if state is not None:
                self._note_failure(state, record)
            case Kind.CANCEL:
                self.hurry = True
                self.halted = self.halted or (self.targets is not None and not record.data.get("rollback", True))
                self.cancelled = self.cancelled or record
                self._stop_because("cancelled", None, rollback=bool(record.data.get("rollback", True)))
            case Kind.EXPIRED:
                self.hurry = True
                self._stop_because("expired", None, rollback=True)
            case Kind.ROLLBACK:
                self.targets = tuple(record.data["targets"])
                for step_id in self.targets:
                    self.steps[step_id].undo = Undo()
            case Kind.ENDED:
                self.ended = record
            case _:
                pass

    def _take_in(self, state: StepState, record: Record) -> None:
        """Let a step take in a record, and note where it stands now, so that nobody has to look at all of them."""
        step_id = state.step.id
        state.apply(record)
        if state.settled:
            if self._active.pop(step_id, None) is not None:
                self._line.ended(step_id)
            self.results[step_id] = state.result()
        elif state.phase is not Phase.WAITING:
            self._active[step_id] = state
            self._line.begun(step_id)

    def _note_failure(self, state: StepState, record: Record) -> None:
        step = state.step
        if state.phase is not Phase.FAILED or self.targets is not None:
            return
        if state.must_undo:
            self._stop_because("doubt", step.id, rollback=True)
        elif step.critical and step.on_failure != "continue":
            kind = "timeout" if state.timed_out else "failed"
            self._stop_because(kind, step.id, rollback=step.on_failure == "rollback")

    def _stop_because(self, kind: str, step_id: str | None, *, rollback: bool) -> None:
        if self.cause is None:
            self.cause = Cause(kind, step_id, rollback)

    # What is to be done

    def moves(self, elapsed: float, undoable: Iterable[str]) -> list[Move]:
        """What to do at `elapsed` seconds since the beginning; `undoable` are the steps that can be undone at all."""
        if self.ended is not None:
            return []
        if self.targets is not None:
            return list(self._backward(elapsed))
        found = [*self._expiry(elapsed), *self._overdue(elapsed)]
        if found:
            return found
        found = list(self._forward(elapsed) if self.cause is None else self._winding_down())
        if found or any(one.busy for one in self._active.values()):
            return found
        if self.cause is None:
            return [] if self._active or self._line.left else [End(self._forward_end())]
        return [TurnBack(self._targets(undoable))] if self.cause.rollback else [End(self.end_status())]

    def _expiry(self, elapsed: float) -> Iterator[Move]:
        limit = seconds_of(self.plan.timeout)
        if limit is not None and elapsed >= limit and not self.hurry:
            yield Expire()

    def _overdue(self, elapsed: float) -> Iterator[Move]:
        for step_id, state in self._active.items():
            if state.overdue(elapsed):
                yield Stop(step_id, "timeout") if state.phase is Phase.RUNNING else Fail(step_id, "deadline")

    def _forward(self, elapsed: float) -> Iterator[Move]:
        gone = [Fail(one.step.id, "died") for one in self._active.values() if one.is_to_be_undone]
        if gone:
            yield from gone  # and nothing else: everything is about to be undone
            return
        free = self.plan.max_parallel - sum(state.holds_place for state in self._active.values())
        for step_id, state in self._active.items():
            if state.phase is Phase.PAUSED and elapsed >= state.due:
                yield Begin(step_id, state.attempt + 1)
            elif state.phase is Phase.DOUBT:
                move = self._resolve(state)
                if not isinstance(move, Begin):
                    yield move
                elif free > 0:
                    free -= 1
                    yield move
        for step_id in self._line.approvals:
            yield Ask(step_id, "approve")
        for step_id in islice(self._line.ready, max(0, free)):
            yield Begin(step_id, 1)

    def _resolve(self, state: StepState) -> Move:
        """What becomes of a step that was under way when its process died."""
        if state.may_rerun or state.step.in_doubt == "rerun":
            return Begin(state.step.id, state.attempt)
        return Ask(state.step.id, "rerun")

    def _winding_down(self) -> Iterator[Move]:
        """Nothing new is started: what can be ended at once is, and what is under way only if there is a hurry."""
        for step_id, state in self._active.items():
            if state.phase in (Phase.PAUSED, Phase.DOUBT, Phase.ASKING):
                yield Fail(step_id, "stopped")
            elif state.phase is Phase.RUNNING and self.hurry and not state.stopping:
                yield Stop(step_id, "cancelled" if self.cancelled is not None else "expired")

    def _targets(self, undoable: Iterable[str]) -> tuple[str, ...]:
        """What is to be undone: first what is in doubt, then what completed last."""
        can = set(undoable)
        happened = [one for one in self.steps.values() if one.step.id in can and one.to_undo]
        happened.sort(key=lambda one: (one.phase is Phase.DONE, -one.order))
        return tuple(one.step.id for one in happened)

    def _backward(self, elapsed: float) -> Iterator[Move]:
        state = self._in_line()
        if state is None or state.undo is None:
            yield End(self.end_status())
        else:
            yield from self._undoing(state, state.undo, elapsed)

    def _in_line(self) -> StepState | None:
        """The step that is being undone, or is the next: it is one after the other."""
        targets = self.targets or ()
        while self._undone < len(targets):
            state = self.steps[targets[self._undone]]
            if state.undo is not None and not state.undo.over:
                return state
            self._undone += 1
        return None

    def _undoing(self, state: StepState, undo: Undo, elapsed: float) -> Iterator[Move]:
        step_id = state.step.id
        if undo.phase is UndoPhase.RUNNING:
            if undo.overdue(elapsed, self.way_back(state.step)):
                yield Stop(step_id, "timeout", undo=True)
            elif self.halted and not undo.stopping:
                yield Stop(step_id, "cancelled", undo=True)
        elif self.halted:
            yield Fail(step_id, "stopped", undo=True)
        elif undo.phase is UndoPhase.PAUSED:
            if elapsed >= undo.due:
                yield Begin(step_id, undo.attempt + 1, undo=True)
        elif undo.phase is UndoPhase.DOUBT:
            yield Begin(step_id, undo.attempt, undo=True)
        elif undo.phase is UndoPhase.WAITING:
            yield Ask(step_id, "undo") if state.asks_before_undo else Begin(step_id, 1, undo=True)

    def way_back(self, step: RecoveryStep) -> RecoveryStep:
        """The step that undoes a step, or the step itself where its executor does."""
        return step if step.rollback_step_id is None else self._ways_back[step.rollback_step_id]

    def due(self) -> float | None:
        """When, in seconds since the beginning, something is to be done even if nothing happens until then."""
        times: list[float] = []
        limit = seconds_of(self.plan.timeout)
        if limit is not None and self.targets is None and not self.hurry:
            times.append(limit)
        undoing = self._in_line()
        if undoing is not None:
            times += undoing.undo_times(self.way_back(undoing.step))
        for state in self._active.values():
            times += state.times()
        return min(times, default=None)

    # Where it stands

    @property
    def blocked(self) -> bool:
        """Whether nothing goes on until a person decides."""
        undoing = self._in_line()
        concerned = [*self._active.values(), *([] if undoing is None else [undoing])]
        return any(one.is_asking for one in concerned) and not any(one.at_work for one in concerned)

    def status(self) -> Status:
        """Where the whole execution stands."""
        if self.ended is not None:
            return Status(self.ended.data["status"])
        if self.started_at is None:
            return Status.PENDING
        if any(one.is_asking for one in self.steps.values()) and (self.cause is None or self.targets is not None):
            return Status.WAITING_APPROVAL
        return Status.RUNNING if self.targets is None else Status.ROLLING_BACK

    def _forward_end(self) -> Status:
        return Status.COMPLETED if self.first_failure() is None else Status.FAILED

    def first_failure(self) -> StepState | None:
        """The first critical step that failed, of those that let the others go on."""
        failed = [one for one in self.steps.values() if one.phase is Phase.FAILED and one.step.critical]
        return min(failed, key=lambda one: one.order, default=None)

    def end_status(self) -> Status:
        """How an execution ends that was stopped."""
        assert self.cause is not None
        if any(one.undo is not None and one.undo.phase is UndoPhase.FAILED for one in self.steps.values()):
            return Status.ROLLBACK_FAILED
        if self.cause.kind == "cancelled":
            return Status.CANCELLED
        return Status.ROLLED_BACK if self.cause.rollback else Status.FAILED


def replayed(plan: RecoveryPlan, records: Iterable[Record]) -> Progress:
    """The state that these records lead to."""
    progress = Progress(plan)
    for record in records:
        progress.apply(record)
    return progress
