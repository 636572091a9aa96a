"""What the orchestrator raises; every error of an execution carries its `execution_id`.

RecoveryError
├── PlanInvalidError            the plan cannot work; `problems` lists everything that is wrong with it
│   ├── CircularDependencyError only because steps wait for each other; `cycle` is the way round
│   └── NoExecutorError         only because nothing is registered for its types of steps
├── PlanNotFoundError           no plan of that id is registered (also a LookupError)
├── ExecutionNotFoundError      the journal has no such execution (also a LookupError)
├── PlanLockedError             another recovery of the same plan is under way
├── StepFailedError             a step ended the execution, and what was done is undone if it could be
├── StepTimeoutError            a step, or the whole plan, took too long (also a TimeoutError)
├── ExecutionCancelledError     somebody cancelled it
├── RollbackFailedError         something that was done could not be undone; `errors` has every reason
└── JournalError                the journal cannot be read or written
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from resilient.errors import ResilienceError


class Holder(NamedTuple):
    """Which process runs a recovery: its machine and its process number."""

    host: str
    pid: int

    def __str__(self) -> str:
        return f"{self.host}, process {self.pid}"


class RecoveryError(ResilienceError):
    """Base of the orchestrator's errors. Ids that do not apply are None."""

    execution_id: str | None = None
    plan_id: str | None = None
    step_id: str | None = None

    def concerning(
        self, execution_id: str | None = None, plan_id: str | None = None, step_id: str | None = None
    ) -> None:
        """Note what this error is about."""
        self.execution_id = execution_id or self.execution_id
        self.plan_id = plan_id or self.plan_id
        self.step_id = step_id or self.step_id


class PlanInvalidError(RecoveryError, ValueError):
    """A plan that cannot work; `problems` are sentences, each with the place it speaks of."""

    def __init__(self, problems: Iterable[str], heading: str = "the plan is invalid") -> None:
        self.problems = tuple(problems)
        self.heading = heading
        super().__init__(self.problems, heading)

    def __str__(self) -> str:
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        return "\n  ".join([f"{self.heading}: {count}", *self.problems])


class CircularDependencyError(PlanInvalidError):
    """Steps that wait for each other; `cycle` begins and ends with the same step."""

    def __init__(
        self, cycle: Iterable[str], problems: Iterable[str] = (), heading: str = "the plan is invalid"
    ) -> None:
        self.cycle = tuple(cycle)
        super().__init__(tuple(problems) or (f"dependencies: cycle: {' -> '.join(self.cycle)}",), heading)
        self.args = (self.cycle, self.problems, heading)


class NoExecutorError(PlanInvalidError):
    """Nothing is registered to carry out a type of step."""


class PlanNotFoundError(RecoveryError, LookupError):
    """No plan of this id is registered."""


class ExecutionNotFoundError(RecoveryError, LookupError):
    """The journal knows no execution of this id, or the execution has no such step."""


class PlanLockedError(RecoveryError):
    """Another recovery of the plan is under way: `holder` runs it (host and pid), `since` then.

    Where its process is gone, `resume_pending()` continues it as soon as its lease has ended.
    """

    retryable = True

    def __init__(self, plan_id: str, holder: Holder, since: datetime, execution_id: str | None = None) -> None:
        super().__init__(plan_id, holder, since, execution_id)
        self.plan_id = plan_id
        self.holder = holder
        self.since = since
        self.execution_id = execution_id

    def __str__(self) -> str:
        which = f" as execution {self.execution_id}" if self.execution_id else ""
        since = self.since.isoformat(timespec="seconds")
        return f"plan {self.plan_id!r} is being carried out{which} by {self.holder} since {since}"


class StepFailedError(RecoveryError):
    """A step failed for good; its own exception is the `__cause__`, where it was raised in this process."""


class StepTimeoutError(RecoveryError, TimeoutError):
    """A step, or the plan as a whole (`step_id` is None), did not end within `limit` seconds."""

    def __init__(self, message: str, limit: float | None = None) -> None:
        # TimeoutError is an OSError, which would take two arguments for errno and strerror.
        self.args = (message, limit)
        self.message = message
        self.limit = limit

    def __str__(self) -> str:
        return self.message


class ExecutionCancelledError(RecoveryError):
    """The execution was cancelled; the message says why."""


class RollbackFailedError(RecoveryError):
    """Something that was done could not be undone; `errors` maps step ids to what went wrong with each."""

    def __init__(self, message: str, errors: dict[str, str] | None = None) -> None:
        super().__init__(message, errors)
        self.message = message
        self.errors = dict(errors or {})

    def __str__(self) -> str:
        return self.message


class JournalError(RecoveryError):
    """The journal cannot be read or written; the message says which file. `transient`: trying again may help."""

    transient = False
