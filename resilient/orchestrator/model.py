"""Plans and what becomes of them: the plain data that everybody else here passes around.

Values are not judged here: validation wants to report everything that is wrong with a plan, not the first thing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from enum import Enum, StrEnum
from importlib import import_module
from typing import Any


class RecoveryStepType(StrEnum):
    """What a step does. Any other name is a custom type, for which an executor is to be registered."""

    DATABASE_RESTORE = "database_restore"
    SERVICE_RESTART = "service_restart"
    CACHE_CLEAR = "cache_clear"
    CONFIGURATION_UPDATE = "configuration_update"
    DATA_VALIDATION = "data_validation"
    HEALTH_CHECK = "health_check"
    APPROVAL = "approval"
    CUSTOM = "custom"


class ExecutionStatus(Enum):
    """How far an execution has come, or one of its steps."""

    PENDING = "pending"
    RUNNING = "running"
    WAITING_APPROVAL = "waiting_approval"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    ROLLING_BACK = "rolling_back"
    ROLLED_BACK = "rolled_back"
    ROLLBACK_FAILED = "rollback_failed"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self in _ENDED


_ENDED = frozenset(
    {
        ExecutionStatus.COMPLETED,
        ExecutionStatus.FAILED,
        ExecutionStatus.CANCELLED,
        ExecutionStatus.ROLLED_BACK,
        ExecutionStatus.ROLLBACK_FAILED,
    }
)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a step is tried: `max_attempts` in all, the first one included.

    The waits are those of `@retry`: `base_delay * backoff_multiplier ** (n - 1)` seconds after failed attempt n, at
    most `max_delay`, spread as `jitter` says. An error's `retry_after` is honoured, and an error whose
    `is_retryable()` is False is not tried again.
    """

    max_attempts: int = 1
    base_delay: float | timedelta = 0.1
    backoff_multiplier: float = 2.0
    max_delay: float | timedelta | None = None
    jitter: bool | float | str = False


@dataclass(frozen=True, slots=True)
class RecoveryStep:
    """One step of a plan.

    `parameters` are for the executor, and may refer to `${parameters.name}` and `${steps.other.output.key}`.
    `timeout` limits the whole step in seconds, its retries included (None: no limit but the plan's); of an approval
    it is the deadline.
    `rollback_step_id` names the rollback step that undoes it; without, the executor's own `rollback` does.
    `on_failure`: "rollback" undoes everything done so far, "stop" leaves it as it is, "continue" goes on with the
    other steps, and the execution fails at its end.
    A step that is not `critical` may fail: everything goes on as if it had not.
    `in_doubt` is for a step of which nobody knows whether it happened, as its process died or it was stopped half-way:
    "rerun" runs it again (with the same idempotency key), "rollback" undoes it with all the others, "ask" waits for
    `approve` (run it again, or leave it as it is where all is being undone) or `reject` (undo it).
    """

    id: str
    name: str
    step_type: RecoveryStepType | str
    parameters: Mapping[str, Any] = field(default_factory=dict, repr=False)
    timeout: float | timedelta | None = 300.0
    retry_policy: RetryPolicy = RetryPolicy()
    rollback_step_id: str | None = None
    on_failure: str = "rollback"
    critical: bool = True
    in_doubt: str = "rerun"

    def __post_init__(self) -> None:
        put = object.__setattr__
        if isinstance(self.step_type, str):
            put(self, "step_type", step_type(self.step_type))
        if isinstance(self.parameters, Mapping):
            put(self, "parameters", dict(self.parameters))

    @property
    def type_name(self) -> str:
        """The name of the step's type, shipped or custom."""
        return str(self.step_type)

    @property
    def is_approval(self) -> bool:
        """Whether a person decides this step."""
        return self.step_type is RecoveryStepType.APPROVAL


@dataclass(frozen=True, slots=True)
class RecoveryPlan:
    """Steps towards a working system again, and the way back.

    `dependencies` maps a step's id to the ids of those that must be done before it; steps that wait for nobody run
    side by side, at most `max_parallel` at once.
    `rollback_steps` run only to undo the steps that name them. `timeout` limits the whole in seconds, the rollback not
    counted.
    """

    id: str
    name: str
    steps: tuple[RecoveryStep, ...]
    description: str = ""
    rollback_steps: tuple[RecoveryStep, ...] = ()
    dependencies: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    timeout: float | None = None
    max_parallel: int = 4

    # Sequences and mappings of any kind are taken, and kept in one.
    def __init__(
        self,
        id: str,
        name: str,
        steps: Iterable[RecoveryStep],
        description: str = "",
        rollback_steps: Iterable[RecoveryStep] = (),
        dependencies: Mapping[str, Iterable[str]] | None = None,
        timeout: float | timedelta | None = None,
        max_parallel: int = 4,
    ) -> None:
        put = object.__setattr__
        put(self, "id", id)
        put(self, "name", name)
        put(self, "steps", _as_tuple(steps))
        put(self, "description", description)
        put(self, "rollback_steps", _as_tuple(rollback_steps))
        put(self, "dependencies", _as_dependencies(dependencies))
        put(self, "timeout", timeout)
        put(self, "max_parallel", max_parallel)

    def step(self, step_id: str) -> RecoveryStep:
        """The step of this id; KeyError if there is none."""
        return _named(self.steps, step_id)

    def rollback_step(self, step_id: str) -> RecoveryStep:
        """The rollback step of this id; KeyError if there is none."""
        return _named(self.rollback_steps, step_id)

    def needs(self, step_id: str) -> tuple[str, ...]:
        """The ids of the steps that must be done before this one."""
        return self.dependencies.get(step_id, ())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> RecoveryPlan:
        """The plan in a file; the suffix says the format (.toml, .yaml, .yml, .json).

        Raises PlanInvalidError with everything that is wrong in the file, and where.
        """
        # By name, here and below: those modules import this one.
        files: Any = import_module("resilient.orchestrator.files")
        plan: RecoveryPlan = files.load(path)
        return plan

    def dump(self, path: str | os.PathLike[str]) -> None:
        """Write the plan to a file that `load` reads; the suffix says the format.

        Raises PlanInvalidError for parameters that no file can hold, such as functions.
        """
        import_module("resilient.orchestrator.writing").dump(self, path)


def step_type(name: str) -> RecoveryStepType | str:
    """The shipped type of this name, or the name itself."""
    try:
        return RecoveryStepType(name)
    except ValueError:
        return name


def live_parameters(step: RecoveryStep) -> dict[str, Any]:
    """The parameters that are themselves what the step works on: the cache that is to be cleared.

    They are handed on as they are. Nobody looks into them for references, copies them, or writes down what they hold.
    """
    if step.step_type is not RecoveryStepType.CACHE_CLEAR or not isinstance(step.parameters, Mapping):
        return {}
    target = step.parameters.get("target")
    return {} if target is None or isinstance(target, (str, int, float)) else {"target": target}


def plain_parameters(step: RecoveryStep) -> dict[str, Any]:
    """The parameters that tell the step what to do: all but the live ones."""
    live = live_parameters(step)
    return {name: value for name, value in step.parameters.items() if name not in live}


def seconds_of(value: Any) -> float | None:
    """A checked duration as seconds; None where there is no limit."""
    return value.total_seconds() if isinstance(value, timedelta) else None if value is None else float(value)


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, Iterable) and not isinstance(value, (str, Mapping)) else value


def _as_dependencies(value: Any) -> Any:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        return value
    return {key: _as_tuple(needed) for key, needed in value.items()}


def _named(steps: Iterable[RecoveryStep], step_id: str) -> RecoveryStep:
    for step in steps:
        if step.id == step_id:
            return step
    raise KeyError(step_id)


@dataclass(frozen=True, slots=True)
class StepResult:
    """What became of one step. `result["key"]` is short for `result.output["key"]`.

    `attempts` counts those that began, a repetition after a crash not counted. `in_doubt`: it was stopped half-way, so
    nobody knows whether it happened. The times are UTC.
    """

    step_id: str
    status: ExecutionStatus
    started_at: datetime | None = None
    completed_at: datetime | None = None
    attempts: int = 0
    error_message: str | None = None
    output: Any = None
    in_doubt: bool = False
    rollback_attempts: int = 0
    rollback_started_at: datetime | None = None
    rollback_completed_at: datetime | None = None
    rollback_error: str | None = None

    def __getitem__(self, key: Any) -> Any:
        return self.output[key]


@dataclass(frozen=True, slots=True)
class RecoveryExecution:
    """A picture of one execution of a plan. Steps that never began are not in `step_results`; the times are UTC.

    `trigger` names the breaker whose opening started it, empty where a person did. `reason` says why it was cancelled.
    `waiting_for` are the steps that wait for `approve` or `reject`.
    """

    execution_id: str
    plan_id: str
    status: ExecutionStatus
    started_at: datetime | None = None
    completed_at: datetime | None = None
    step_results: Mapping[str, StepResult] = field(default_factory=dict)
    error_message: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict, repr=False)
    trigger: str = ""
    reason: str | None = None
    waiting_for: tuple[str, ...] = ()

    @property
    def rollback_errors(self) -> dict[str, str]:
        """What could not be undone, by step id."""
        results = self.step_results.items()
        return {step_id: one.rollback_error for step_id, one in results if one.rollback_error is not None}

    def to_dict(self) -> dict[str, Any]:
        """The same as plain JSON-ready values."""
        return {one.name: _plain(getattr(self, one.name)) for one in fields(self)}


def _plain(value: Any) -> Any:
    if isinstance(value, StepResult):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, ExecutionStatus):
        return value.value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(one) for one in value]
    return value


class _Copies(Mapping[str, StepResult]):
    """Results that may be changed without changing what the engine knows; each is copied when it is asked for."""

    __slots__ = ("_copied", "_results")

    def __init__(self, results: Mapping[str, StepResult]) -> None:
        self._results = results
        self._copied: dict[str, StepResult] = {}

    def __getitem__(self, step_id: str) -> StepResult:
        found = self._copied.get(step_id)
        if found is None:
            result = self._results[step_id]
            found = self._copied[step_id] = replace(result, output=deepcopy(result.output))
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._results)

    def __len__(self) -> int:
        return len(self._results)

    def __repr__(self) -> str:
        return repr(dict(self))


class RecoveryContext:
    """What an executor is told beside its step.

    `idempotency_key` is the same for every attempt at a step (`execution:step`, of a rollback
    `execution:step:rollback`), also after a crash: hand it to services that take one.
    `step_results` are those of the steps that have ended. `attempt` counts from 1.
    """

    __slots__ = (
        "_stopped",
        "attempt",
        "execution_id",
        "idempotency_key",
        "parameters",
        "plan_id",
        "step_id",
        "step_results",
    )

    def __init__(
        self,
        execution_id: str,
        plan_id: str,
        parameters: Mapping[str, Any] | None = None,
        step_results: Mapping[str, StepResult] | None = None,
        *,
        step_id: str = "",
        idempotency_key: str | None = None,
        attempt: int = 1,
    ) -> None:
        self.execution_id = execution_id
        self.plan_id = plan_id
        self.step_id = step_id
        self.idempotency_key = f"{execution_id}:{step_id}" if idempotency_key is None else idempotency_key
        self.attempt = attempt
        # A copy, as executors may do with it what they like.
        self.parameters = deepcopy(dict(parameters or {}))
        self.step_results: Mapping[str, StepResult] = _Copies(dict(step_results or {}))
        self._stopped: Callable[[], bool] = lambda: False

    def watch(self, stopped: Callable[[], bool]) -> None:
        """Let `cancelled` say what this says."""
        self._stopped = stopped

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for this attempt any more: its time is over, or the execution was cancelled.

        Async executors are cancelled; a sync one cannot be, and should ask here in its loops.
        """
        return self._stopped()

    def __repr__(self) -> str:
        return f"<RecoveryContext {self.idempotency_key}, attempt {self.attempt}>"
