"""The executions of an orchestrator, as the page and the snapshot show them: without parameters and outputs."""

from __future__ import annotations

import threading
from typing import Any

from resilient.clock import CLOCK
from resilient.logs.texts import described

#: Executions that are shown, and how old a reading may be, in seconds.
SHOWN, FRESH = 20, 1.0
_MOST_PLANS = 200


class Recoveries:
    """Reads the journal at most once a second, and never twice at once, as it may be slow or locked."""

    def __init__(self, orchestrator: Any) -> None:
        self.orchestrator = orchestrator
        self._lock = threading.Lock()
        self._found: list[dict[str, Any]] = []
        self._plans: dict[str, Any] = {}
        self._read = float("-inf")
        #: Why the last reading failed, "" if it did not.
        self.problem = ""

    def read(self) -> list[dict[str, Any]]:
        """The latest executions, newest first; those of the last reading while another one is under way."""
        if self.orchestrator is None or not self._lock.acquire(blocking=False):
            return self._found
        try:
            if not 0 <= CLOCK.monotonic() - self._read < FRESH:
                self._read = CLOCK.monotonic()
                self._look()
        finally:
            self._lock.release()
        return self._found

    def outdate(self) -> None:
        """Somebody has acted."""
        self._read = float("-inf")

    def _look(self) -> None:
        try:
            self._found = [self._described(one) for one in self.orchestrator.history(limit=SHOWN)]
            self.problem = ""
        except Exception as error:
            self.problem = described(error)

    def _described(self, execution: Any) -> dict[str, Any]:
        full = execution.to_dict()
        results = full.pop("step_results")
        del full["parameters"]  # they may be anything, also a password
        steps = self._steps(execution)
        for step_id in results:
            steps.setdefault(step_id, {"id": step_id, "name": step_id, "type": ""})
        waiting = set(full["waiting_for"])
        listed = [_step(steps[step_id], results.get(step_id), step_id in waiting) for step_id in steps]
        return {**full, "plan_name": self._plan_name(execution), "steps": listed}

    def _steps(self, execution: Any) -> dict[str, dict[str, Any]]:
        plan = self._plan(execution)
        steps = () if plan is None else plan.steps
        return {step.id: {"id": step.id, "name": step.name, "type": step.type_name} for step in steps}

    def _plan_name(self, execution: Any) -> str:
        plan = self._plan(execution)
        return str(execution.plan_id if plan is None else plan.name)

    def _plan(self, execution: Any) -> Any:
        """The plan as it was when the execution began, which does not change any more."""
        key = execution.execution_id
        if key not in self._plans:
            if len(self._plans) >= _MOST_PLANS:
                self._plans.clear()
            try:
                self._plans[key] = self.orchestrator.plan_of(key)
            except Exception:  # it cannot be read; the results have the ids of their steps
                return None
        return self._plans[key]

    def after_fork(self) -> None:
        """Replace the lock in a forked child."""
        self._lock = threading.Lock()


def _step(step: dict[str, Any], result: dict[str, Any] | None, waits: bool) -> dict[str, Any]:
    told = {} if result is None else {key: value for key, value in result.items() if key not in ("step_id", "output")}
    status = "waiting_approval" if waits else told.get("status", "pending")
    return {
        **step,
        "attempts": 0,
        "error_message": None,
        "started_at": None,
        "completed_at": None,
        **told,
        "status": status,
    }
