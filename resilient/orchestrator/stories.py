"""What records mean to people: the picture of an execution, its story line by line, and the error that ended it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from resilient.orchestrator.engine import JournalEntry
from resilient.orchestrator.errors import (
    ExecutionCancelledError,
    RecoveryError,
    RollbackFailedError,
    StepFailedError,
    StepTimeoutError,
)
from resilient.orchestrator.files import from_dict
from resilient.orchestrator.model import ExecutionStatus as Status
from resilient.orchestrator.model import RecoveryExecution, RecoveryPlan, seconds_of
from resilient.orchestrator.progress import Progress, replayed
from resilient.orchestrator.records import Record, moment
from resilient.orchestrator.steps import Phase


def submission(records: Sequence[Record]) -> Mapping[str, Any]:
    """What was ordered: plan, parameters, trigger and by whom."""
    return records[0].data


def plan_in(records: Sequence[Record]) -> RecoveryPlan:
    """The plan as it was when the execution began."""
    return from_dict(submission(records)["plan"])


def execution_in(execution_id: str, records: Sequence[Record]) -> RecoveryExecution:
    """The picture of an execution, from its records alone."""
    return pictured(execution_id, submission(records), replayed(plan_in(records), records))


def pictured(execution_id: str, ordered: Mapping[str, Any], progress: Progress) -> RecoveryExecution:
    """The picture of an execution."""
    ended = progress.ended
    cancelled = progress.cancelled
    begun = {key: state for key, state in progress.steps.items() if state.started_at is not None}
    return RecoveryExecution(
        execution_id=execution_id,
        plan_id=ordered["plan"]["id"],
        status=progress.status(),
        started_at=None if progress.started_at is None else moment(progress.started_at),
        completed_at=None if ended is None else moment(ended.at),
        step_results={key: state.result() for key, state in begun.items()},
        error_message=None if ended is None else ended.data.get("error"),
        parameters=dict(ordered["parameters"]),
        trigger=ordered.get("trigger", ""),
        reason=None if cancelled is None else cancelled.data.get("reason") or None,
        waiting_for=tuple(key for key, state in progress.steps.items() if state.is_asking),
    )


def entries_in(records: Sequence[Record]) -> list[JournalEntry]:
    """The story of an execution; the plan and the parameters are left out, which may hold secrets."""
    return [
        JournalEntry(
            number,
            one.kind.value,
            one.step_id,
            moment(one.at),
            {key: value for key, value in one.data.items() if key not in ("plan", "parameters")},
        )
        for number, one in enumerate(records, 1)
    ]


def ending(progress: Progress, status: Status) -> dict[str, Any]:
    """What the last record says: how it ended, and why, with everything that went wrong."""
    data: dict[str, Any] = {"status": status.value}
    if status is Status.COMPLETED:
        return data
    cause, failure = progress.cause, progress.first_failure()
    step_id = cause.step_id if cause is not None else None if failure is None else failure.step.id
    kind = cause.kind if cause is not None else "failed"
    data["kind"], data["step_id"] = kind, step_id
    if kind == "timeout" and step_id is not None:
        data["limit"] = seconds_of(progress.steps[step_id].step.timeout)
    if kind == "expired":
        data["limit"] = seconds_of(progress.plan.timeout)
    reasons = [_reason(progress, kind, step_id)]
    for other in progress.steps.values():
        if other.phase is Phase.FAILED and other.step.id != step_id and other.step.critical and not other.stopped:
            reasons.append(f"step {other.step.id!r}: {other.error}")
        if other.undo is not None and other.undo.error is not None:
            reasons.append(f"rollback of {other.step.id!r}: {other.undo.error}")
    data["error"] = "; ".join(reasons)
    return data


def _reason(progress: Progress, kind: str, step_id: str | None) -> str:
    if kind == "cancelled":
        data = progress.cancelled.data if progress.cancelled is not None else {}
        by = f" by {data['by']}" if data.get("by") else ""
        return f"cancelled{by}" + (f": {data['reason']}" if data.get("reason") else "")
    if kind == "expired":
        return f"the plan took longer than its {seconds_of(progress.plan.timeout):g} s"
    error = progress.steps[step_id].error if step_id is not None else None
    return f"step {step_id!r}: {error}"


def error_in(execution: RecoveryExecution, last: Mapping[str, Any]) -> RecoveryError:
    """The error that an execution ended with, which did not complete; `last` is what its last record says."""
    message = f"plan {execution.plan_id!r}: {execution.error_message}"
    kind, error = last.get("kind"), RecoveryError(message)
    if execution.status is Status.ROLLBACK_FAILED:
        error = RollbackFailedError(message, execution.rollback_errors)
    elif kind == "cancelled":
        error = ExecutionCancelledError(message)
    elif kind in ("timeout", "expired"):
        error = StepTimeoutError(message, last.get("limit"))
    else:
        error = StepFailedError(message)
    error.concerning(execution.execution_id, execution.plan_id, last.get("step_id"))
    return error
