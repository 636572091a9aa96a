"""The recovery test framework: runs scenarios, one after the other, and reports what they showed."""

from __future__ import annotations

from collections.abc import Iterable

from resilient import _checks as check
from resilient.errors import UnknownNameError
from resilient.testing.recovery.attempts import Attempts, check_surroundings, unable
from resilient.testing.recovery.collector import RecoveryMetricsCollector
from resilient.testing.recovery.configs import check_seed
from resilient.testing.recovery.report import TestReport
from resilient.testing.recovery.result import RecoveryTestResult
from resilient.testing.recovery.scenario import RecoveryTestScenario


class RecoveryTestFramework:
    """Runs recovery tests: baseline, fault, observation, recovery, each measured, and a verdict.

        framework = RecoveryTestFramework()
        framework.add_scenario(RecoveryTestScenario(...))
        report = framework.run_all_tests()
        report.assert_ok()

    `metrics_collector` listens; without one, the registry in use and its events. `seed` goes before those of the
    faults. Where the environment variable RESILIENT_ENV says production, running raises InjectionRefusedError, unless
    `allow_in_production`.
    """

    def __init__(
        self,
        metrics_collector: RecoveryMetricsCollector | None = None,
        *,
        seed: int | str | None = None,
        allow_in_production: bool = False,
    ) -> None:
        if metrics_collector is not None and not isinstance(metrics_collector, RecoveryMetricsCollector):
            raise TypeError(f"metrics_collector={metrics_collector!r}: must be a RecoveryMetricsCollector")
        self.metrics_collector = RecoveryMetricsCollector() if metrics_collector is None else metrics_collector
        check_seed(seed)
        self.seed = seed
        self.allow_in_production = check.flag("allow_in_production", allow_in_production)
        self._scenarios: dict[str, RecoveryTestScenario] = {}
        self._results: list[RecoveryTestResult] = []

    @property
    def scenarios(self) -> tuple[RecoveryTestScenario, ...]:
        """What is to run, in the order in which it was added."""
        return tuple(self._scenarios.values())

    def add_scenario(self, scenario: RecoveryTestScenario) -> None:
        """Add one; its id must be new, or ConfigurationError is raised."""
        if not isinstance(scenario, RecoveryTestScenario):
            raise TypeError(f"scenario={scenario!r}: must be a RecoveryTestScenario")
        if scenario.id in self._scenarios:
            raise check.bad("id", scenario.id, "is the id of another scenario already")
        self._scenarios[scenario.id] = scenario

    def get_test_results(self) -> list[RecoveryTestResult]:
        """The results so far."""
        return list(self._results)

    # Running

    def run_all_tests(self, *, seed: int | str | None = None) -> TestReport:
        """Run all, one after the other; what fails does not keep the next from running.

        `seed` goes before those of the faults. Async workloads get an event loop of their own; within one, use
        `arun_all_tests`.
        """
        return self.run_test_scenarios(self.scenarios, seed=seed)

    async def arun_all_tests(self, *, seed: int | str | None = None) -> TestReport:
        """The same within an event loop."""
        return await self.arun_test_scenarios(self.scenarios, seed=seed)

    def run_test_scenarios(
        self, scenarios: Iterable[RecoveryTestScenario | str], *, seed: int | str | None = None
    ) -> TestReport:
        """Run some, given themselves or by their ids; one that cannot be run, by its target, say, is INCONCLUSIVE."""
        check_surroundings(self.allow_in_production)
        results = []
        for one in [self._found(given) for given in scenarios]:
            try:
                results.append(self.run_test_scenario(one, seed=seed))
            except Exception as error:
                results.append(self._kept(unable(one, error)))
        return TestReport(results)

    async def arun_test_scenarios(
        self, scenarios: Iterable[RecoveryTestScenario | str], *, seed: int | str | None = None
    ) -> TestReport:
        """The same within an event loop."""
        check_surroundings(self.allow_in_production)
        results = []
        for one in [self._found(given) for given in scenarios]:
            try:
                results.append(await self.arun_test_scenario(one, seed=seed))
            except Exception as error:
                results.append(self._kept(unable(one, error)))
        return TestReport(results)

    def run_test_scenario(
        self, scenario: RecoveryTestScenario | str, *, seed: int | str | None = None
    ) -> RecoveryTestResult:
        """Run one, given itself or by its id; raises what keeps it from running, such as UnknownNameError."""
        chosen = self._found(scenario)
        for attempt in self._attempts(chosen, seed):
            with attempt:
                attempt.run()
        return self._kept(attempt.result)

    async def arun_test_scenario(
        self, scenario: RecoveryTestScenario | str, *, seed: int | str | None = None
    ) -> RecoveryTestResult:
        """The same within an event loop."""
        chosen = self._found(scenario)
        for attempt in self._attempts(chosen, seed):
            with attempt:
                await attempt.arun()
        return self._kept(attempt.result)

    run = run_test_scenario
    arun = arun_test_scenario

    def _attempts(self, scenario: RecoveryTestScenario, seed: int | str | None) -> Attempts:
        chosen = self.seed if seed is None else seed
        allowed = self.allow_in_production
        return Attempts(scenario, chosen, self.metrics_collector, allow_in_production=allowed)

    def _found(self, scenario: RecoveryTestScenario | str) -> RecoveryTestScenario:
        if isinstance(scenario, RecoveryTestScenario):
            return scenario
        if scenario not in self._scenarios:
            known = ", ".join(self._scenarios) or "none"
            raise UnknownNameError(f"scenario={scenario!r}: no scenario has this id (known: {known})")
        return self._scenarios[scenario]

    def _kept(self, result: RecoveryTestResult) -> RecoveryTestResult:
        self._results.append(result)
        return result
