"""Recovery plans that finish, or undo themselves, even when their process dies.

orchestrator = RecoveryOrchestrator(SqliteJournal("recovery.db"))
orchestrator.register_plan(RecoveryPlan.load("db-outage.toml"))
execution_id = orchestrator.execute_plan("db-outage", {"host": "db1"})
orchestrator.get_execution_status(execution_id).status
"""

from __future__ import annotations

from resilient.orchestrator.embedded import EmbeddedEngine
from resilient.orchestrator.engine import Answer, Engine, Host, JournalEntry, Order
from resilient.orchestrator.errors import (
    CircularDependencyError,
    ExecutionCancelledError,
    ExecutionNotFoundError,
    Holder,
    JournalError,
    NoExecutorError,
    PlanInvalidError,
    PlanLockedError,
    PlanNotFoundError,
    RecoveryError,
    RollbackFailedError,
    StepFailedError,
    StepTimeoutError,
)
from resilient.orchestrator.events import RecoveryEvent, RecoveryEventType, RecoveryReported
from resilient.orchestrator.executor import StepExecutor
from resilient.orchestrator.journal import Journal
from resilient.orchestrator.memory_journal import MemoryJournal
from resilient.orchestrator.model import (
    ExecutionStatus,
    RecoveryContext,
    RecoveryExecution,
    RecoveryPlan,
    RecoveryStep,
    RecoveryStepType,
    RetryPolicy,
    StepResult,
)
from resilient.orchestrator.orchestrator import RecoveryOrchestrator
from resilient.orchestrator.sqlite_journal import SqliteJournal
from resilient.orchestrator.subscribers import RecoverySubscription
from resilient.orchestrator.triggers import Trigger

__all__ = [
    "Answer",
    "CircularDependencyError",
    "EmbeddedEngine",
    "Engine",
    "ExecutionCancelledError",
    "ExecutionNotFoundError",
    "ExecutionStatus",
    "Holder",
    "Host",
    "Journal",
    "JournalEntry",
    "JournalError",
    "MemoryJournal",
    "NoExecutorError",
    "Order",
    "PlanInvalidError",
    "PlanLockedError",
    "PlanNotFoundError",
    "RecoveryContext",
    "RecoveryError",
    "RecoveryEvent",
    "RecoveryEventType",
    "RecoveryExecution",
    "RecoveryOrchestrator",
    "RecoveryPlan",
    "RecoveryReported",
    "RecoveryStep",
    "RecoveryStepType",
    "RecoverySubscription",
    "RetryPolicy",
    "RollbackFailedError",
    "SqliteJournal",
    "StepExecutor",
    "StepFailedError",
    "StepResult",
    "StepTimeoutError",
    "Trigger",
]
