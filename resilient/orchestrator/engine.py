"""What stands behind `execute_plan`: a small protocol, so that plans can be carried out by another engine one day."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from resilient.orchestrator.events import RecoveryEvent
from resilient.orchestrator.executor import Adapted
from resilient.orchestrator.model import RecoveryExecution, RecoveryPlan


class Host(Protocol):
    """What an engine asks of the orchestrator it works for."""

    def executor(self, type_name: str) -> Adapted | None:
        """Who carries out steps of this type."""
        ...

    def plan(self, plan_id: str) -> RecoveryPlan | None:
        """The plan registered under this id."""
        ...

    def publish(self, event: RecoveryEvent) -> None:
        """Tell subscribers; never waits for them, never raises."""
        ...


class Order(NamedTuple):
    """A plan to be carried out. `home` is the event loop in which async executors run (None: the engine's own)."""

    execution_id: str
    plan: RecoveryPlan
    parameters: Mapping[str, Any]
    trigger: str = ""
    home: asyncio.AbstractEventLoop | None = None


class Answer(NamedTuple):
    """What a person decided about a step that waits for approval."""

    step_id: str
    approved: bool
    by: str
    note: str = ""


class JournalEntry(NamedTuple):
    """One line of the story of an execution, for people: what, when, about which step, and who, why, how."""

    number: int
    what: str
    step_id: str | None
    at: datetime
    data: Mapping[str, Any]


class Engine(Protocol):
    """Carries out plans. Methods may block, are called from any thread, and raise the orchestrator's errors."""

    def attach(self, host: Host) -> None:
        """Say who is asked for executors and told of events; called once, before anything else."""
        ...

    def submit(self, order: Order, done: Callable[[BaseException | None], object]) -> None:
        """Begin to carry out a plan, and return; PlanLockedError where it is being carried out already.

        `done` is called once, from any thread, when it has ended or this process does not follow it any further: with
        the exception behind that, where there is one.
        """
        ...

    def wait(self, execution_id: str, timeout: float | None = None, *, or_blocked: bool = False) -> RecoveryExecution:
        """The execution when it has ended, or as it is after `timeout` seconds.

        `or_blocked`: also when nothing goes on until a person decides.
        """
        ...

    def cancel(self, execution_id: str, *, reason: str, by: str, rollback: bool) -> bool:
        """Ask for an end; False where there has been one already."""
        ...

    def signal(self, execution_id: str, answer: Answer) -> None:
        """Hand over what a person decided; RecoveryError where the step does not wait for it."""
        ...

    def resume_pending(self) -> list[str]:
        """Take over executions whose process is gone, and return their ids."""
        ...

    def history(self, plan_id: str | None, limit: int, before: str | None) -> Sequence[RecoveryExecution]:
        """The latest executions, newest first, from before the one of that id."""
        ...

    def status(self, execution_id: str) -> RecoveryExecution:
        """One execution as it is now; ExecutionNotFoundError where there is none."""
        ...

    def plan_of(self, execution_id: str) -> RecoveryPlan:
        """The plan as it was when the execution began."""
        ...

    def entries(self, execution_id: str) -> Sequence[JournalEntry]:
        """The whole story of an execution, oldest first."""
        ...

    def close(self, *, leaving: bool = False) -> None:
        """Let go of everything under way, so that another process may resume it, and of the journal.

        Where a sync step is still at work, that is when its lease has ended; at once if this process is `leaving`.
        """
        ...
