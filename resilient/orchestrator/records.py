"""The rows of a journal: what happened in an execution, in order. Everything known about it follows from them."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple

from resilient.orchestrator.errors import Holder


class Kind(StrEnum):
    """What a row says."""

    SUBMITTED = "submitted"
    STARTED = "started"
    RESUMED = "resumed"
    ATTEMPT = "attempt"  # the intent, written before the attempt
    DONE = "done"
    ERROR = "error"
    ASKED = "asked"
    ANSWERED = "answered"
    CANCEL = "cancel"
    EXPIRED = "expired"
    ROLLBACK = "rollback"
    UNDO = "undo"  # the intent, written before the attempt at a rollback
    UNDONE = "undone"
    UNDO_ERROR = "undo_error"
    ENDED = "ended"


class Record(NamedTuple):
    """One row. `at` is the time of day, `elapsed` the seconds since the execution began; `number` counts rows."""

    kind: Kind
    step_id: str | None
    at: float
    elapsed: float
    data: dict[str, Any]
    number: int = 0


class Signal(NamedTuple):
    """What somebody outside asks of an execution: `kind` is CANCEL or ANSWERED."""

    kind: Kind
    step_id: str | None
    at: float
    data: dict[str, Any]
    number: int = 0


class Lease(NamedTuple):
    """The right to carry out a plan. Whoever takes it over gets a higher `token`, and the writes of this one fail."""

    plan_id: str
    execution_id: str
    token: int
    holder: Holder
    seconds: float


class Pending(NamedTuple):
    """An execution that has not ended."""

    execution_id: str
    plan_id: str


def moment(at: float) -> datetime:
    """A time of day as an aware datetime."""
    return datetime.fromtimestamp(at, UTC)
