"""What several tests of recovery tests begin with: a scenario in virtual time, and calls that are refused."""

from resilient.testing import (
    ErrorInjectionConfig,
    ErrorInjectionType,
    ExpectedRecoveryBehavior,
    RecoveryMode,
    RecoveryTestFramework,
    RecoveryTestScenario,
    SuccessCriteria,
)

REFUSED = ErrorInjectionType.NETWORK_FAILURE


def scenario(workload, injection, *, criteria=None, mode=RecoveryMode.AUTOMATIC, within=60.0, **options):
    """A scenario in virtual time, with a load of 10 calls per second."""
    expected = ExpectedRecoveryBehavior(mode, within, criteria or SuccessCriteria())
    options = {"virtual_time": True, "load": 10, "timeout": 600, **options}
    return RecoveryTestScenario("one", "a scenario", "", workload, injection, expected, **options)


def run(made, **options):
    """Its result."""
    return RecoveryTestFramework().run_test_scenario(made, **options)


def refused(target, **options):
    """Calls of the target are refused."""
    return ErrorInjectionConfig(REFUSED, target, **{"seed": 1, **options})
