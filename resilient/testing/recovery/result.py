"""What a scenario showed: operations, phases, faults, events and checks, all measured, all frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from resilient.testing.recovery.statistics import Interval


class TestStatus(Enum):
    """How a scenario ended."""

    __test__ = False  # pytest would take it for a test

    PASSED = "passed"
    FAILED = "failed"
    TIMEOUT = "timeout"
    #: Nothing can be said: the fault never happened, it was bad before, or there were too few operations.
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Operation:
    """One call of the workload. Times are seconds since the scenario began."""

    number: int
    started: float
    ended: float
    phase: str
    value: Any = None
    error: BaseException | None = None

    @property
    def ok(self) -> bool:
        """Whether it returned."""
        return self.error is None

    @property
    def duration(self) -> float:
        """How long it took, in seconds."""
        return self.ended - self.started


@dataclass(frozen=True, slots=True)
class TimelineEvent:
    """Something a policy, a fault or the framework did, `at` seconds after the scenario began."""

    at: float
    kind: str  # "CircuitStateChanged", "RetryScheduled", ..., "fault begins", "fault ends", "recovered"
    name: str  # of the policy or the target
    text: str
    data: Mapping[str, Any] = field(default_factory=dict)  # plain values only


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of the run with the operations that began in it: "baseline", "fault", "observation", "recovery"."""

    name: str
    start: float
    end: float
    operations: int
    successes: int
    average: float
    p50: float
    p95: float
    p99: float

    @property
    def success_rate(self) -> float | None:
        """The share of operations that succeeded; None without operations."""
        return self.successes / self.operations if self.operations else None


@dataclass(frozen=True, slots=True)
class FaultRecord:
    """One injection of the run: when it was in force, and how often it happened."""

    target: str
    fault: str
    rate: float
    seed: int | str | None
    calls: int
    fired: int
    start: float | None  # seconds since the scenario began; None: it never came to it
    end: float | None


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was required: what of it, what was seen, and whether that is enough."""

    name: str  # "success rate", "recovery time", "response time", "data consistency", or a probe's name
    passed: bool | None  # None: undecided
    required: str
    observed: str
    weight: float = 1.0
    n: int | None = None
    interval: Interval | None = None

    def __str__(self) -> str:
        mark = {True: "ok", False: "FAILED", None: "undecided"}[self.passed]
        return f"{mark}: {self.name}: {self.observed}, required: {self.required}"


@dataclass(frozen=True, slots=True)
class RecoveryTestResult:
    """What one scenario showed. Times are seconds; `started_at` and `completed_at` are Unix times."""

    scenario_id: str
    scenario_name: str
    description: str
    execution_id: str
    status: TestStatus
    reasons: tuple[str, ...]  # why it is not PASSED
    seed: int | str
    replay: str  # the command for the same faults again
    started_at: float
    completed_at: float
    duration: float
    success_rate: float
    success_interval: Interval
    average_response_time: float
    p50: float
    p95: float
    p99: float
    recovery_time: float | None
    recovery_time_from_start: float | None
    data_consistent: bool | None
    checks: tuple[Check, ...]
    phases: tuple[Phase, ...]
    faults: tuple[FaultRecord, ...]
    events: tuple[TimelineEvent, ...]
    operations: tuple[Operation, ...]
    metrics: Mapping[str, float]
    error_logs: tuple[str, ...]
    weight: float = 1.0
    source: Mapping[str, Any] | None = None  # the scenario as plain values, where a file can hold it

    @property
    def passed(self) -> bool:
        """Whether it passed."""
        return self.status is TestStatus.PASSED

    @property
    def fired(self) -> int:
        """How often the faults happened."""
        return sum(one.fired for one in self.faults)

    @property
    def score(self) -> float:
        """The weighted share of checks that passed, 0 to 100; as LitmusChaos weighs its probes. 0 unless conclusive."""
        total = sum(one.weight for one in self.checks)
        if self.status in (TestStatus.INCONCLUSIVE, TestStatus.TIMEOUT) or not total:
            return 0.0
        return 100 * sum(one.weight for one in self.checks if one.passed) / total

    def explain(self) -> str:
        """Some lines: the verdict, each check with its numbers, the seed, and the command for the same again."""
        lines = [f"{self.scenario_name} ({self.scenario_id}): {self.status.value.upper()}"]
        checks = [str(check) for check in self.checks]
        lines += [f"  {reason}" for reason in self.reasons if reason not in checks]
        lines += [f"  {check}" for check in checks]
        lines += [f"  {one.fault} on {one.target}: hit {one.fired} of {one.calls} calls" for one in self.faults]
        lines.append(f"  resilience score {self.score:.0f} of 100, seed {self.seed}, the same again: {self.replay}")
        return "\n".join(lines)

    def assert_ok(self) -> None:
        """Raise AssertionError, which says all of `explain`, unless it passed."""
        if not self.passed:
            raise AssertionError(self.explain())
