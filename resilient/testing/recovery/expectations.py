"""How a system is expected to recover, and what is required of the whole run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from resilient import _checks as check

if TYPE_CHECKING:
    from resilient.testing.recovery.result import RecoveryTestResult


class RecoveryMode(Enum):
    """Who makes it well again."""

    #: The system itself.
    AUTOMATIC = "automatic"
    #: Somebody: the scenario's `recover` is called when the fault has ended.
    MANUAL = "manual"
    #: The system, and where it has not by half of `max_recovery_time`, `recover` is called.
    HYBRID = "hybrid"


@dataclass(frozen=True, slots=True)
class SuccessCriteria:
    """What is required of the whole run.

    `success_rate_threshold`: the share of operations that succeed, at least. `response_time_threshold`: seconds that
    operations take on average, at most. None: not required. `data_consistency_required`: the scenario's checker has to
    say yes. `tolerance`: how far below the threshold the 95 % Wilson interval may reach for the observed rate to
    count; where it reaches further there were too few operations to tell, and the result is INCONCLUSIVE.
    `baseline_threshold`: the share that has to succeed before the fault; below it nothing can be said.
    """

    success_rate_threshold: float | None = None
    response_time_threshold: float | None = None
    data_consistency_required: bool = False
    _: KW_ONLY
    tolerance: float = 0.1
    baseline_threshold: float = 0.95

    def __post_init__(self) -> None:
        if self.success_rate_threshold is not None:
            check.share("success_rate_threshold", self.success_rate_threshold, zero=True)
        longest = check.optional_seconds("response_time_threshold", self.response_time_threshold)
        object.__setattr__(self, "response_time_threshold", longest)
        for name in ("tolerance", "baseline_threshold"):
            if check.share(name, getattr(self, name), zero=True) is None:
                raise check.bad(name, None, "must be a fraction from 0 to 1; leave it out for the default")
        if not isinstance(self.data_consistency_required, bool):
            raise check.bad("data_consistency_required", self.data_consistency_required, "must be True or False")


@dataclass(frozen=True, slots=True)
class ExpectedRecoveryBehavior:
    """How it is to recover: by whom, within `max_recovery_time` seconds of the fault's end, and how well."""

    recovery_mode: RecoveryMode = RecoveryMode.AUTOMATIC
    max_recovery_time: float = 60.0
    success_criteria: SuccessCriteria = field(default_factory=SuccessCriteria)

    def __post_init__(self) -> None:
        if not isinstance(self.recovery_mode, RecoveryMode):
            raise check.bad("recovery_mode", self.recovery_mode, "must be a RecoveryMode, such as RecoveryMode.MANUAL")
        if not isinstance(self.success_criteria, SuccessCriteria):
            raise check.bad("success_criteria", self.success_criteria, "must be SuccessCriteria(...)")
        object.__setattr__(self, "max_recovery_time", check.seconds("max_recovery_time", self.max_recovery_time))


@dataclass(frozen=True, slots=True)
class Probe:
    """One more requirement of a scenario: `judge(result)` says what it saw and whether that is enough.

    It is given the result as it stands so far (without checks), and returns (passed, observed); passed is None where
    it cannot tell. `weight` (1 to 10) is its share in the resilience score.
    """

    name: str
    required: str
    judge: Callable[[RecoveryTestResult], tuple[bool | None, str]]
    weight: float = 5.0

    def __post_init__(self) -> None:
        for name in ("name", "required"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name).strip():
                raise check.bad(name, getattr(self, name), "must be a text, not empty")
        if not callable(self.judge):
            raise TypeError(f"judge={self.judge!r}: must be a function of the result")
        check.number("weight", self.weight, least=0)
