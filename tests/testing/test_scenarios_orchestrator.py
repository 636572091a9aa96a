"""The ready scenario in which the orchestrator brings something dead back."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from resilient import circuit_breaker
from resilient.errors import ConfigurationError
from resilient.orchestrator import RecoveryOrchestrator, RecoveryPlan, RecoveryStep
from resilient.testing import RecoveryTestResult, TestStatus, faults
from resilient.testing.scenarios import orchestrator_recovers

QUICK: dict[str, Any] = {"baseline": 0.15, "outage": 0.15, "max_recovery_time": 2.0, "load": 100}
PLAN = RecoveryPlan("restart", "Start it again", [RecoveryStep("start", "Start it", "start")])


class Service:
    """Something that can be killed, and started."""

    def __init__(self) -> None:
        self.alive = True

    def ask(self) -> str:
        """An answer, or an error of the network."""
        if not self.alive:
            raise ConnectionRefusedError
        return "well"

    async def aask(self) -> str:
        """The same, async."""
        return self.ask()

    def kill(self) -> None:
        """Let it be dead."""
        self.alive = False

    def start(self, *step: Any) -> None:
        """Let it live."""
        self.alive = True


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def orchestrator(service: Service) -> RecoveryOrchestrator:
    made = RecoveryOrchestrator()
    made.register_step_executor("start", service.start)
    return made


def observed(result: RecoveryTestResult, name: str) -> tuple[bool | None, str]:
    """What one of the checks saw."""
    (found,) = [one for one in result.checks if one.name == name]
    return found.passed, found.observed


@pytest.mark.parametrize("method", ["ask", "aask"])
def test_a_plan_brings_it_back(service: Service, orchestrator: RecoveryOrchestrator, method: str) -> None:
    """It dies, the plan starts it, and the recovery time is measured."""
    fn = getattr(service, method)
    result = orchestrator_recovers(fn, kill=service.kill, plan=PLAN, orchestrator=orchestrator, **QUICK).run()

    assert result.passed, result.explain()
    assert result.recovery_time is not None
    assert observed(result, "plan") == (True, "restart: execution completed")


def test_a_plan_by_its_id(service: Service, orchestrator: RecoveryOrchestrator) -> None:
    """A plan that the orchestrator knows is found by its id, and gets the parameters."""
    seen = []
    orchestrator.register_step_executor("start", lambda step, context: service.start(seen.append(step.parameters)))
    step = RecoveryStep("start", "Start it", "start", {"host": "${parameters.host}"})
    orchestrator.register_plan(RecoveryPlan("restart", "Start it again", [step]))
    scenario = orchestrator_recovers(
        service.ask,
        kill=service.kill,
        plan="restart",
        orchestrator=orchestrator,
        parameters={"host": "db2"},
        **QUICK,
    )

    assert scenario.run().passed
    assert [dict(one) for one in seen] == [{"host": "db2"}]


def test_a_plan_in_a_file(service: Service, tmp_path: Any, orchestrator: RecoveryOrchestrator) -> None:
    """A plan is loaded from its file."""
    file = tmp_path / "plan.toml"
    file.write_text('id = "p"\nname = "P"\n[[steps]]\nid = "s"\nname = "S"\nstep_type = "start"\n', "utf-8")

    orchestrator_recovers(service.ask, kill=service.kill, plan=file, orchestrator=orchestrator, **QUICK).assert_ok()


def test_a_breaker_starts_the_plan(service: Service, orchestrator: RecoveryOrchestrator) -> None:
    """Without a plan, the orchestrator starts one by itself, when the breaker opens."""
    fn = circuit_breaker("service", failure_threshold=2, recovery_timeout=0.05)(service.ask)
    orchestrator.register_plan(PLAN)
    with orchestrator.on_open("service", plan="restart"):
        result = orchestrator_recovers(fn, kill=service.kill, orchestrator=orchestrator, **QUICK).run()

    assert result.passed, result.explain()


def test_nobody_starts_a_plan(service: Service, orchestrator: RecoveryOrchestrator) -> None:
    """Where nothing starts a plan, it stays dead, and the scenario fails."""
    quick = QUICK | {"max_recovery_time": 0.3}
    result = orchestrator_recovers(service.ask, kill=service.kill, orchestrator=orchestrator, **quick).run()

    assert result.status is TestStatus.FAILED
    assert observed(result, "plan") == (False, "no plan has ended")
    assert observed(result, "recovery time")[0] is False


def test_a_plan_that_fails(service: Service, orchestrator: RecoveryOrchestrator) -> None:
    """A plan that fails brings nothing back."""

    def fail(step: Any, context: Any) -> None:
        raise OSError("no such program")

    orchestrator.register_step_executor("start", fail)
    quick = QUICK | {"max_recovery_time": 0.3}
    result = orchestrator_recovers(service.ask, kill=service.kill, plan=PLAN, orchestrator=orchestrator, **quick).run()

    assert result.status is TestStatus.FAILED
    assert observed(result, "plan")[0] is False


@pytest.mark.parametrize("is_given", [True, False])
def test_plans_of_others_do_not_count(is_given: bool, service: Service, orchestrator: RecoveryOrchestrator) -> None:
    """What another orchestrator completes meanwhile proves nothing, be it a plan of the same id."""

    def fail(step: Any, context: Any) -> None:
        raise OSError("no such program")

    orchestrator.register_step_executor("start", fail)
    other = RecoveryOrchestrator()
    other.register_step_executor("start", service.start)
    other.register_plan(PLAN)
    quick = QUICK | {"outage": 0.5}

    def kill() -> None:
        service.kill()
        threading.Timer(0.3, lambda: other.execute_plan("restart")).start()

    plan = PLAN if is_given else None
    result = orchestrator_recovers(service.ask, kill=kill, plan=plan, orchestrator=orchestrator, **quick).run()

    assert result.status is TestStatus.FAILED, result.explain()
    assert observed(result, "plan")[0] is False


def test_what_never_died_was_not_recovered(service: Service, orchestrator: RecoveryOrchestrator) -> None:
    """A plan that completes proves nothing where the service never failed, or had come back by itself."""
    result = orchestrator_recovers(service.ask, kill=lambda: None, plan=PLAN, orchestrator=orchestrator, **QUICK).run()
    assert result.status is TestStatus.FAILED
    assert observed(result, "dead")[0] is False

    failures = iter([1, 2])

    def ask() -> str:
        if not service.alive and next(failures, None):
            raise ConnectionRefusedError
        return "well"

    result = orchestrator_recovers(ask, kill=service.kill, plan=PLAN, orchestrator=orchestrator, **QUICK).run()
    assert result.status is TestStatus.FAILED
    assert "but not the last one before the plan" in observed(result, "dead")[1]


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"kill": 1}, TypeError, "kill=1"),
        ({"plan": 1}, TypeError, "plan=1"),
        ({"orchestrator": 1}, TypeError, "orchestrator=1"),
        ({}, ConfigurationError, "plan=None"),
        ({"plan": "unknown"}, ConfigurationError, "plan='unknown'.*known: none"),
        ({"plan": PLAN, "fault": faults.NetworkFailure()}, ConfigurationError, "fault="),
        ({"plan": PLAN, "virtual_time": True}, ConfigurationError, "virtual_time=True"),
    ],
)
def test_what_cannot_be_meant(service: Service, options: dict[str, Any], error: type[Exception], text: str) -> None:
    """Wrong options raise when the scenario is made."""
    with pytest.raises(error, match=text):
        orchestrator_recovers(service.ask, **{"kill": service.kill, **options})
