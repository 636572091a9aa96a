"""How far one step has come, as it follows from its records."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Any

from resilient.orchestrator.model import ExecutionStatus as Status
from resilient.orchestrator.model import RecoveryStep, StepResult, seconds_of
from resilient.orchestrator.records import Kind, Record, moment


class Phase(Enum):
    """Where a step stands on the way forward."""

    WAITING = "waiting"
    RUNNING = "running"
    PAUSED = "paused"  # an attempt failed, the next is due
    ASKING = "asking"
    DOUBT = "doubt"  # it was under way when its process died
    DONE = "done"
    FAILED = "failed"


class UndoPhase(Enum):
    """Where a step stands on the way back."""

    WAITING = "waiting"
    ASKING = "asking"
    RUNNING = "running"
    PAUSED = "paused"
    DOUBT = "doubt"
    DONE = "done"
    FAILED = "failed"
    SPARED = "spared"  # a person decided to leave it as it is


class Undo:
    """The way back of one step."""

    __slots__ = ("attempt", "began", "completed_at", "due", "error", "phase", "started_at", "stopping")

    def __init__(self) -> None:
        self.phase = UndoPhase.WAITING
        self.attempt = 0
        self.began = self.due = 0.0
        self.started_at: float | None = None
        self.completed_at: float | None = None
        self.error: str | None = None
        self.stopping = False

    @property
    def over(self) -> bool:
        """Whether nothing more is to be done about it."""
        return self.phase in (UndoPhase.DONE, UndoPhase.FAILED, UndoPhase.SPARED)

    def overdue(self, elapsed: float, step: RecoveryStep) -> bool:
        limit = seconds_of(step.timeout)
        return limit is not None and elapsed >= self.began + limit and not self.stopping

    def apply(self, record: Record) -> None:
        data = record.data
        match record.kind:
            case Kind.UNDO:
                if self.phase in (UndoPhase.WAITING, UndoPhase.ASKING) or self.started_at is None:
                    self.started_at, self.began = record.at, record.elapsed
                self.attempt, self.phase, self.stopping = data["attempt"], UndoPhase.RUNNING, False
            case Kind.UNDONE:
                self.phase, self.completed_at, self.error = UndoPhase.DONE, record.at, None
            case Kind.UNDO_ERROR:
                self.error = data["error"]
                self.phase = UndoPhase.FAILED if data["final"] else UndoPhase.PAUSED
                self.due = record.elapsed + data.get("delay", 0.0)
                self.completed_at = record.at if data["final"] else None
            case Kind.ASKED:
                self.phase = UndoPhase.ASKING
            case Kind.ANSWERED:
                # To reject what may have happened is to undo it, on the way forward and on the way back.
                self.phase = UndoPhase.SPARED if data["approved"] else UndoPhase.WAITING
            case _:
                pass


class StepState:
    """One step. `order` is the number of the record by which it ended; `must_undo`: its undoing is decided."""

    def __init__(self, step: RecoveryStep) -> None:
        self.step = step
        self.phase = Phase.WAITING
        self.attempt = 0
        self.began = self.due = 0.0
        self.deadline: float | None = None
        self.order = 0
        self.started_at: float | None = None
        self.completed_at: float | None = None
        self.error: str | None = None
        self.output: Any = None
        self.question = ""
        self.in_doubt = self.happened = self.timed_out = self.may_rerun = self.must_undo = self.stopped = False
        self.stopping = False  # told to end; not from the records, but of the process that runs it
        self.undo: Undo | None = None
        self._undo_allowed = False

    # What has happened

    def apply(self, record: Record) -> None:
        """Take in a record of this step."""
        if self.undo is not None:
            self._apply_backward(self.undo, record)
            return
        data = record.data
        match record.kind:
            case Kind.ATTEMPT:
                if self.started_at is None:
                    self.started_at = record.at
                if self.phase is not Phase.PAUSED:
                    self.began = record.elapsed
                self.attempt, self.phase = data["attempt"], Phase.RUNNING
                self.in_doubt = self.may_rerun = self.stopping = False
            case Kind.DONE:
                self._end(record, Phase.DONE)
                self.output, self.error = data["output"], None
            case Kind.ERROR:
                self._apply_error(record)
            case Kind.ASKED:
                self.phase, self.question, self.deadline = Phase.ASKING, data["question"], data.get("deadline")
                self.started_at = record.at if self.started_at is None else self.started_at
            case Kind.ANSWERED if self.phase is Phase.ASKING:
                self._apply_answer(record)
            case _:
                pass

    def _apply_error(self, record: Record) -> None:
        data = record.data
        self.error = data["error"]
        self.in_doubt = data.get("in_doubt", False)
        self.happened = data.get("happened", False)
        self.timed_out = data.get("timed_out", False)
        self.stopped = data.get("stopped", False)
        self.must_undo = data.get("must_undo", False)
        if data["final"]:
            self._end(record, Phase.FAILED)
        else:
            self.phase, self.due = Phase.PAUSED, record.elapsed + data["delay"]

    def _apply_answer(self, record: Record) -> None:
        data = record.data
        said = f"by {data['by']}" + (f": {data['note']}" if data.get("note") else "")
        if self.question == "rerun":
            if data["approved"]:
                self.phase, self.may_rerun = Phase.DOUBT, True
                return
            self._end(record, Phase.FAILED)
            self.must_undo, self.error = True, f"{self.error or 'in doubt'}; not to be run again, {said}"
            return
        self._end(record, Phase.DONE if data["approved"] else Phase.FAILED)
        if data["approved"]:
            at = moment(record.at).isoformat()
            self.output = {"approved": True, "by": data["by"], "note": data.get("note", ""), "at": at}
        else:
            self.error = f"rejected {said}"

    def _apply_backward(self, undo: Undo, record: Record) -> None:
        undo.apply(record)
        if record.kind is Kind.ANSWERED and not record.data["approved"]:
            self._undo_allowed = True

    def _end(self, record: Record, phase: Phase) -> None:
        self.phase, self.completed_at, self.order = phase, record.at, record.number
        self.stopping = False

    def resumed(self, elapsed: float) -> None:
        """The process that carried this out is gone: what was under way is in doubt."""
        if self.phase is Phase.RUNNING:
            self.phase, self.in_doubt = Phase.DOUBT, True
            self.error = f"its process ended during attempt {self.attempt}"
        self.began, self.stopping = elapsed, False
        if self.undo is not None:
            self.undo.began, self.undo.stopping = elapsed, False
            if self.undo.phase is UndoPhase.RUNNING:
                self.undo.phase = UndoPhase.DOUBT

    # Where it stands

    @property
    def settled(self) -> bool:
        """Whether steps that need this one may run."""
        return self.phase in (Phase.DONE, Phase.FAILED)

    @property
    def open(self) -> bool:
        """Whether it is still to come, or under way."""
        return not self.settled

    @property
    def busy(self) -> bool:
        """Whether an attempt is under way."""
        return self.phase is Phase.RUNNING

    @property
    def holds_place(self) -> bool:
        """Whether it is one of the steps that run side by side."""
        return self.phase in (Phase.RUNNING, Phase.PAUSED)

    @property
    def at_work(self) -> bool:
        """Whether something goes on without anybody's help."""
        undoing = self.undo is not None and self.undo.phase in (UndoPhase.RUNNING, UndoPhase.PAUSED, UndoPhase.DOUBT)
        return self.holds_place or self.phase is Phase.DOUBT or undoing

    @property
    def is_asking(self) -> bool:
        """Whether a person is to decide."""
        return self.phase is Phase.ASKING if self.undo is None else self.undo.phase is UndoPhase.ASKING

    @property
    def is_to_be_undone(self) -> bool:
        """Whether it was under way when its process died, and is to be undone for that."""
        return self.phase is Phase.DOUBT and not self.may_rerun and self.step.in_doubt == "rollback"

    @property
    def to_undo(self) -> bool:
        """Whether it has done something, or may have, that is to be undone."""
        if self.phase is Phase.DONE:
            return True
        if self.phase is not Phase.FAILED:
            return False
        return self.happened or self.must_undo or (self.in_doubt and self.step.in_doubt != "rerun")

    @property
    def asks_before_undo(self) -> bool:
        """Whether a person decides if it is undone."""
        certain = self.phase is Phase.DONE or self.happened or self.must_undo or self._undo_allowed
        return not certain and self.step.in_doubt == "ask"

    def overdue(self, elapsed: float) -> bool:
        """Whether its time is over."""
        end = self._end_of_time()
        return end is not None and elapsed >= end

    def _end_of_time(self) -> float | None:
        if self.phase is Phase.ASKING:
            return self.deadline
        limit = seconds_of(self.step.timeout)
        return None if self.phase is not Phase.RUNNING or self.stopping or limit is None else self.began + limit

    def times(self) -> Iterator[float]:
        """When something is due on the way forward, whatever happens."""
        end = self._end_of_time()
        if end is not None:
            yield end
        if self.phase is Phase.PAUSED:
            yield self.due

    def undo_times(self, way_back: RecoveryStep) -> Iterator[float]:
        """When something is due on the way back, which this step is."""
        undo = self.undo
        if undo is not None and undo.phase is UndoPhase.PAUSED:
            yield undo.due
        elif undo is not None and undo.phase is UndoPhase.RUNNING and not undo.stopping:
            limit = seconds_of(way_back.timeout)
            if limit is not None:
                yield undo.began + limit

    def status(self) -> Status:
        """Where it stands, for people."""
        if self.undo is not None and self.undo.phase is not UndoPhase.SPARED:
            return _BACKWARD[self.undo.phase] or self._forward_status()
        return self._forward_status()

    def _forward_status(self) -> Status:
        return Status.CANCELLED if self.phase is Phase.FAILED and self.stopped else _FORWARD[self.phase]

    def result(self) -> StepResult:
        """The picture of this step."""
        undo = self.undo or Undo()
        return StepResult(
            step_id=self.step.id,
            status=self.status(),
            started_at=_when(self.started_at),
            completed_at=_when(self.completed_at),
            attempts=self.attempt,
            error_message=self.error,
            output=self.output,
            in_doubt=self.in_doubt,
            rollback_attempts=undo.attempt,
            rollback_started_at=_when(undo.started_at),
            rollback_completed_at=_when(undo.completed_at),
            rollback_error=undo.error,
        )


def _when(at: float | None) -> Any:
    return None if at is None else moment(at)


_FORWARD = {
    Phase.WAITING: Status.PENDING,
    Phase.RUNNING: Status.RUNNING,
    Phase.PAUSED: Status.RUNNING,
    Phase.DOUBT: Status.RUNNING,
    Phase.ASKING: Status.WAITING_APPROVAL,
    Phase.DONE: Status.COMPLETED,
    Phase.FAILED: Status.FAILED,
}
#: None: as it was before the way back.
_BACKWARD: dict[UndoPhase, Status | None] = {
    UndoPhase.WAITING: None,
    UndoPhase.ASKING: Status.WAITING_APPROVAL,
    UndoPhase.RUNNING: Status.ROLLING_BACK,
    UndoPhase.PAUSED: Status.ROLLING_BACK,
    UndoPhase.DOUBT: Status.ROLLING_BACK,
    UndoPhase.DONE: Status.ROLLED_BACK,
    UndoPhase.FAILED: Status.ROLLBACK_FAILED,
}
