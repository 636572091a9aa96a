"""From records to the events that subscribers get, in the same order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any

from resilient.orchestrator.events import RecoveryEvent
from resilient.orchestrator.events import RecoveryEventType as Type
from resilient.orchestrator.model import ExecutionStatus as Status
from resilient.orchestrator.progress import Progress
from resilient.orchestrator.records import Kind, Lease, Record, moment

_PLAIN = {
    Kind.STARTED: Type.EXECUTION_STARTED,
    Kind.RESUMED: Type.EXECUTION_RESUMED,
    Kind.DONE: Type.STEP_COMPLETED,
    Kind.CANCEL: Type.CANCEL_REQUESTED,
    Kind.ROLLBACK: Type.ROLLBACK_STARTED,
    Kind.UNDONE: Type.STEP_ROLLED_BACK,
}


def events_of(lease: Lease, records: Sequence[Record], progress: Progress) -> Iterator[RecoveryEvent]:
    """What these records, which the journal has, are to subscribers."""
    for record in records:
        for kind, step_id in _kinds(record, progress):
            # A copy: what handlers do with it is not to change what later steps see.
            data = {key: deepcopy(value) for key, value in record.data.items() if key not in ("plan", "parameters")}
            at = moment(record.at)
            yield RecoveryEvent(kind, lease.execution_id, lease.plan_id, step_id, at, data, record.elapsed)


def _kinds(record: Record, progress: Progress) -> Iterator[tuple[Type, str | None]]:
    step_id, data = record.step_id, record.data
    match record.kind:
        case Kind.ATTEMPT if data["attempt"] == 1:
            yield Type.STEP_STARTED, step_id
        case Kind.UNDO if data["attempt"] == 1:
            yield Type.STEP_ROLLBACK_STARTED, step_id
        case Kind.ASKED:
            if data["question"] == "approve":
                yield Type.STEP_STARTED, step_id
            yield Type.APPROVAL_REQUESTED, step_id
        case Kind.ERROR:
            yield (Type.STEP_FAILED if data["final"] else Type.STEP_RETRYING), step_id
        case Kind.UNDO_ERROR:
            yield (Type.STEP_ROLLBACK_FAILED if data["final"] else Type.STEP_RETRYING), step_id
        case Kind.ANSWERED:
            yield (Type.APPROVAL_GRANTED if data["approved"] else Type.APPROVAL_REJECTED), step_id
            yield from _answered(step_id, data, progress)
        case Kind.ENDED:
            yield from _ends(data, progress)
        case _ if record.kind in _PLAIN:
            yield _PLAIN[record.kind], step_id


def _answered(step_id: str | None, data: dict[str, Any], progress: Progress) -> Iterator[tuple[Type, str | None]]:
    """An answer to an approval step is also its end."""
    state = progress.steps.get(step_id or "")
    if state is not None and state.question == "approve" and state.undo is None:
        yield (Type.STEP_COMPLETED if data["approved"] else Type.STEP_FAILED), step_id


def _ends(data: dict[str, Any], progress: Progress) -> Iterator[tuple[Type, str | None]]:
    status = Status(data["status"])
    if progress.targets is not None:
        yield (Type.ROLLBACK_FAILED if status is Status.ROLLBACK_FAILED else Type.ROLLBACK_COMPLETED), None
    if status is Status.COMPLETED:
        yield Type.EXECUTION_COMPLETED, None
    else:
        yield (Type.EXECUTION_CANCELLED if status is Status.CANCELLED else Type.EXECUTION_FAILED), None
