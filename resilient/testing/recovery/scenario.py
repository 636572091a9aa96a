"""What a recovery test consists of: a workload, faults for it, and how it is expected to recover."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from resilient.testing.recovery.checking import check_scenario
from resilient.testing.recovery.configs import ErrorInjectionConfig
from resilient.testing.recovery.expectations import ExpectedRecoveryBehavior, Probe

if TYPE_CHECKING:
    from resilient.testing.recovery.result import Operation, RecoveryTestResult


@dataclass(frozen=True)
class RecoveryTestScenario:
    """A workload, the faults it meets, and how it is expected to recover.

    `workload`: one operation, sync or async, without arguments, called again and again through baseline, fault and
    observation; what it raises makes that operation a failure. `error_injection`: one ErrorInjectionConfig or several.
    `timeout`: seconds the whole scenario may take, by its clock. `checker(history)`: whether the operations, a tuple
    of `Operation`, fit together; called once, at the end.

    `load`: calls per second; None: as fast as it returns (in virtual time, where that would be infinitely fast: 50).
    `concurrency`: how many threads or tasks call it. `baseline`, `fault`, `observe`: seconds of each phase.
    `baseline=None`: 1 s, or a fifth of `timeout` if that is less. `fault=None`: until the `during` of the faults is
    over, their `max_count` is reached, or else as long as `baseline=None` would last.
    `observe=None`: until it has recovered, or `max_recovery_time` is over. `steady_probes`: how many operations in a
    row have to succeed before it counts as recovered. `recover`: called, and awaited, where the recovery mode says so.
    `probes`: further requirements. `virtual_time`: True: in a `VirtualClock` of its own; None: in one unless the
    workload uses real sockets; False: in the time there is. `weight`: of the scenario in the report's score.

    Raises ConfigurationError for what cannot be meant.
    """

    id: str
    name: str
    description: str
    workload: Callable[[], Any]
    error_injection: ErrorInjectionConfig | Sequence[ErrorInjectionConfig]
    expected_recovery: ExpectedRecoveryBehavior
    timeout: float = 60.0
    checker: Callable[[tuple[Operation, ...]], bool] | None = None
    _: KW_ONLY
    load: float | None = None
    concurrency: int = 1
    baseline: float | None = None
    fault: float | None = None
    observe: float | None = None
    steady_probes: int = 3
    recover: Callable[[], Any] | None = None
    probes: tuple[Probe, ...] = ()
    virtual_time: bool | None = False
    weight: float = 1.0
    source: Mapping[str, Any] | None = None  # as plain values, where it came from a file

    def __post_init__(self) -> None:
        check_scenario(self)

    @property
    def injections(self) -> tuple[ErrorInjectionConfig, ...]:
        """The faults."""
        given = self.error_injection
        return (given,) if isinstance(given, ErrorInjectionConfig) else tuple(given)

    @property
    def _usual_phase(self) -> float:
        """Seconds of a phase for which nothing says how long it is."""
        return min(1.0, self.timeout / 5)

    def run(self, seed: int | str | None = None) -> RecoveryTestResult:
        """Run it alone; `seed` goes before those of its faults."""
        result: RecoveryTestResult = _framework().run_test_scenario(self, seed=seed)
        return result

    async def arun(self, seed: int | str | None = None) -> RecoveryTestResult:
        """The same within an event loop."""
        result: RecoveryTestResult = await _framework().arun_test_scenario(self, seed=seed)
        return result

    def assert_ok(self, seed: int | str | None = None) -> RecoveryTestResult:
        """Run it alone, print its verdict and resilience score, and raise AssertionError unless it passed."""
        result = self.run(seed)
        print(result.explain())  # noqa: T201 - what a CI's log shows
        result.assert_ok()
        return result


def _framework() -> Any:
    # By name, as the framework knows scenarios.
    return import_module("resilient.testing.recovery.framework").RecoveryTestFramework()
