"""The orchestrator: something dead is alive again, by a recovery plan."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Unpack

from resilient import _checks as check
from resilient.orchestrator import RecoveryError, RecoveryOrchestrator, RecoveryPlan
from resilient.testing.recovery.configs import ErrorInjectionConfig, ErrorInjectionType
from resilient.testing.recovery.expectations import ExpectedRecoveryBehavior, Probe, RecoveryMode
from resilient.testing.recovery.result import RecoveryTestResult, TimelineEvent
from resilient.testing.recovery.scenario import RecoveryTestScenario
from resilient.testing.scenarios.seen import window
from resilient.testing.scenarios.settings import LOAD, Options, Settings
from resilient.testing.scenarios.subject import Subject

#: The last events of an execution that end it.
_ENDS = {"execution_completed", "execution_failed", "execution_cancelled", "rollback_completed", "rollback_failed"}


def orchestrator_recovers(
    fn: Any,
    *,
    kill: Callable[[], Any],
    plan: RecoveryPlan | str | os.PathLike[str] | None = None,
    orchestrator: RecoveryOrchestrator | None = None,
    parameters: Mapping[str, Any] | None = None,
    **options: Unpack[Options],
) -> RecoveryTestScenario:
    """After `kill()`, `fn` fails until a recovery plan has brought back what it needs.

    `plan`: a RecoveryPlan, the path of its file, or the id of one that `orchestrator` knows; it is started, with
    `parameters`, when `outage` seconds (0.5) have passed. None: the orchestrator starts one by itself, as with
    `on_open`; `outage` is then how long the breaker may take to open. `orchestrator`: the one that has the executors;
    one of its own by default. `max_recovery_time`: 30 s. All of this happens in real time.
    For the other options see `resilient.testing.scenarios`; `fault` is `kill`, and cannot be given.
    """
    settings = Settings(**options)
    _check(settings, kill, plan, orchestrator)
    subject = Subject(fn, settings.args, settings.kwargs)
    start = None if plan is None else _Start(plan, orchestrator, parameters)
    carried = _Carried(orchestrator if start is None else start.orchestrator, None if start is None else start.plan_id)
    recovery = 30.0 if settings.max_recovery_time is None else settings.max_recovery_time
    outage, baseline = settings.outage or 0.5, settings.baseline or 0.5
    mode = RecoveryMode.AUTOMATIC if start is None else RecoveryMode.MANUAL
    return RecoveryTestScenario(
        id=settings.id or f"orchestrator-recovers:{subject.name}",
        name="Orchestrator recovers a dead service",
        description="What the function needs is killed, and a recovery plan brings it back.",
        workload=subject.workload(),
        error_injection=ErrorInjectionConfig(
            ErrorInjectionType.CUSTOM, parameters={"begin": kill}, during=(0.0, outage), seed=settings.seed
        ),
        expected_recovery=ExpectedRecoveryBehavior(mode, recovery),
        timeout=settings.timeout or 2 * (baseline + outage + recovery) + 60,
        load=settings.load or LOAD,
        concurrency=settings.concurrency or 1,
        baseline=baseline,
        fault=outage,
        recover=start,
        probes=(
            Probe("dead", "the function fails after kill(), until the plan has begun", carried.dead, 5.0),
            Probe("plan", "a recovery plan was carried out, and completed", carried.completed, 10.0),
        ),
        virtual_time=False,
        weight=settings.weight,
    )


class _Start:
    """Carries a plan out, when called."""

    def __init__(self, plan: Any, orchestrator: RecoveryOrchestrator | None, parameters: Any) -> None:
        self.orchestrator = RecoveryOrchestrator() if orchestrator is None else orchestrator
        self._parameters = parameters
        self.plan_id = self._known(plan)

    def _known(self, plan: Any) -> str:
        if isinstance(plan, str) and plan in self.orchestrator.plans:
            return plan
        if isinstance(plan, str) and not Path(plan).suffix:
            known = ", ".join(self.orchestrator.plans) or "none"
            raise check.bad(
                "plan", plan, f"must be the id of a registered plan (known: {known}), or the path of a file"
            )
        loaded = plan if isinstance(plan, RecoveryPlan) else RecoveryPlan.load(Path(plan))
        self.orchestrator.register_plan(loaded)
        return loaded.id

    def __call__(self) -> None:
        self.orchestrator.execute_plan(self.plan_id, self._parameters)


def _check(settings: Settings, kill: Any, plan: Any, orchestrator: Any) -> None:
    if not callable(kill):
        raise TypeError(f"kill={kill!r}: must be a function that breaks what fn needs")
    if plan is not None and not isinstance(plan, (RecoveryPlan, str, os.PathLike)):
        raise TypeError(f"plan={plan!r}: must be a RecoveryPlan, the path of its file, or its id")
    if orchestrator is not None and not isinstance(orchestrator, RecoveryOrchestrator):
        raise TypeError(f"orchestrator={orchestrator!r}: must be a RecoveryOrchestrator")
    if plan is None and orchestrator is None:
        raise check.bad("plan", None, "give a plan, or the orchestrator that starts one by itself")
    if settings.fault is not None:
        raise check.bad("fault", settings.fault, "leave it out: the fault is kill()")
    if settings.virtual_time:
        raise check.bad("virtual_time", True, "leave it out: recovery plans act in real time")


class _Carried:
    """The executions that count: of this orchestrator, after `kill()`, and of this plan, or of any where it is None."""

    def __init__(self, orchestrator: RecoveryOrchestrator | None, plan_id: str | None) -> None:
        self._orchestrator = orchestrator
        self._plan_id = plan_id

    def dead(self, result: RecoveryTestResult) -> tuple[bool | None, str]:
        """Whether it failed between `kill()` and the plan."""
        start, end = window(result)
        begun = min((one.at for one in self._reported(result)), default=end)
        # What was under way when it died may still have been answered.
        after = [one for one in result.operations if one.started > start and one.ended < max(begun, start)]
        failed = sum(not one.ok for one in after)
        text = f"{failed} of {len(after)} operations failed after kill()"
        if not after:
            return None, text
        last = after[-1]
        return failed > 0 and not last.ok, text + ("" if not last.ok else ", but not the last one before the plan")

    def completed(self, result: RecoveryTestResult) -> tuple[bool | None, str]:
        """Whether an execution completed."""
        ends = [one for one in self._reported(result) if one.data.get("event_type") in _ENDS]
        text = ", ".join(f"{one.name}: {str(one.data['event_type']).replace('_', ' ')}" for one in ends)
        completed = any(one.data["event_type"] == "execution_completed" for one in ends)
        return completed, text or "no plan has ended"

    def _reported(self, result: RecoveryTestResult) -> list[TimelineEvent]:
        start, _ = window(result)
        found = [one for one in result.events if one.kind == "RecoveryReported" and one.at >= start]
        return [one for one in found if self._plan_id in (None, one.name) and self._is_own(one)]

    def _is_own(self, event: TimelineEvent) -> bool:
        if self._orchestrator is None:
            return False
        try:
            self._orchestrator.get_execution_status(str(event.data.get("execution_id")))
        except RecoveryError:
            return False
        return True
