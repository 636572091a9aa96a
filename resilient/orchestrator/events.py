"""What an execution tells while it goes on."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any

from resilient.events import Event
from resilient.logs import LINES, Line
from resilient.logs.texts import shortened

_LOG = logging.getLogger("resilient.orchestrator")


class RecoveryEventType(Enum):
    """The kinds of event, in about the order in which they come."""

    EXECUTION_STARTED = "execution_started"
    EXECUTION_RESUMED = "execution_resumed"
    STEP_STARTED = "step_started"
    STEP_RETRYING = "step_retrying"
    STEP_COMPLETED = "step_completed"
    STEP_FAILED = "step_failed"
    APPROVAL_REQUESTED = "approval_requested"
    APPROVAL_GRANTED = "approval_granted"
    APPROVAL_REJECTED = "approval_rejected"
    CANCEL_REQUESTED = "cancel_requested"
    ROLLBACK_STARTED = "rollback_started"
    STEP_ROLLBACK_STARTED = "step_rollback_started"
    STEP_ROLLED_BACK = "step_rolled_back"
    STEP_ROLLBACK_FAILED = "step_rollback_failed"
    ROLLBACK_COMPLETED = "rollback_completed"
    ROLLBACK_FAILED = "rollback_failed"
    EXECUTION_COMPLETED = "execution_completed"
    EXECUTION_FAILED = "execution_failed"
    EXECUTION_CANCELLED = "execution_cancelled"


@dataclass(frozen=True, slots=True)
class RecoveryEvent:
    """One thing that happened. `step_id` is None where it concerns the whole execution.

    `timestamp` is UTC; `elapsed` are the seconds since the execution began, by a clock that nobody sets.
    """

    event_type: RecoveryEventType
    execution_id: str
    plan_id: str
    step_id: str | None
    timestamp: datetime
    data: Mapping[str, Any] = field(default_factory=dict)
    elapsed: float = 0.0


class RecoveryReported(Event):
    """A recovery of plan `name` told something: `event` is the RecoveryEvent."""

    __slots__ = ("event",)

    def __init__(self, name: str, event: RecoveryEvent) -> None:
        self.name = name
        self.event = event

    def fields(self) -> dict[str, Any]:
        """What one looks for in logs. What a step returned is not among it: it may be large, or a secret."""
        event = self.event
        return {
            "name": self.name,
            "event_type": event.event_type.value,
            "execution_id": event.execution_id,
            "step_id": event.step_id,
            "elapsed": event.elapsed,
        }

    def __repr__(self) -> str:
        return f"RecoveryReported(name={self.name!r}, event={self.event!r})"


def _line(reported: Any) -> str:
    event = reported.event
    what = event.event_type.value.replace("_", " ")
    step = f" {event.step_id}" if event.step_id is not None else ""
    error = event.data.get("error")
    why = f": {shortened(str(error))}" if error else ""
    return f"{reported.name}: {what}{step} ({event.execution_id}){why}"


def _name(reported: Any) -> str:
    return f"orchestrator.{reported.event.event_type.value}"


LINES[RecoveryReported] = Line(_LOG, logging.INFO, _line, _name, "recovery")
