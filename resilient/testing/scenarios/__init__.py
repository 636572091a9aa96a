"""Ready scenarios: one line each, for your own decorated functions.

    from resilient.testing.scenarios import breaker_opens_and_recovers

    def test_breaker() -> None:
        breaker_opens_and_recovers(charge, args=(7,)).assert_ok()

Each returns a `RecoveryTestScenario`: for a `RecoveryTestFramework`, for `recovery.run` of the pytest plugin, or alone,
where `assert_ok()` prints the verdict with its resilience score. How long things take follows from the configuration of
the function's policies. A function without the policy in question fails its scenario.

All of them take these options:

- `args`, `kwargs`: what the function is called with.
- `fault`: what goes wrong, inside all policies, in the place of the function's own code: a fault of
  `resilient.testing.faults` or an ErrorInjectionType; by default one that the policy acts upon. An ErrorInjectionConfig
  says also where, such as a FaultProxy, and how often.
- `seed`: of the fault; without one, one is made, and shown.
- `load`: calls per second. `concurrency`: how many threads or tasks call.
- `baseline`, `outage`: seconds before the fault, and of the fault. `max_recovery_time`: seconds after it.
- `timeout`: seconds for the whole.
- `virtual_time`: None (default): virtual, unless the function uses real sockets; True or False settle it.
- `weight`: in the resilience score of a report. `id`: in a report, where the same function is tested twice.

What cannot be meant raises ConfigurationError or TypeError.
"""

from __future__ import annotations

from resilient.testing.scenarios.bounding import timeout_bounds_tail
from resilient.testing.scenarios.breaking import breaker_opens_and_recovers
from resilient.testing.scenarios.degrading import degrade_serves_stale
from resilient.testing.scenarios.isolating import bulkhead_isolates
from resilient.testing.scenarios.orchestrating import orchestrator_recovers
from resilient.testing.scenarios.retrying import retry_absorbs_transient_faults, retry_storm_bounded

__all__ = [
    "breaker_opens_and_recovers",
    "bulkhead_isolates",
    "degrade_serves_stale",
    "orchestrator_recovers",
    "retry_absorbs_transient_faults",
    "retry_storm_bounded",
    "timeout_bounds_tail",
]
