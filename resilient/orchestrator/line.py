"""The steps of a plan that have not begun, and which of them may."""

from __future__ import annotations

from bisect import insort

from resilient.orchestrator.model import RecoveryPlan


class Line:
    """Steps wait here for those they need; `ready` and `approvals` are in the order of the plan."""

    def __init__(self, plan: RecoveryPlan) -> None:
        self._place = {step.id: number for number, step in enumerate(plan.steps)}
        self._approvals = {step.id for step in plan.steps if step.is_approval}
        self._unmet = {step_id: len(set(plan.needs(step_id))) for step_id in self._place}
        self._followers: dict[str, list[str]] = {}
        for step_id in self._place:
            for needed in set(plan.needs(step_id)):
                self._followers.setdefault(needed, []).append(step_id)
        self.left = set(self._place)
        self.ready: list[str] = []
        self.approvals: list[str] = []
        for step_id, unmet in self._unmet.items():
            if not unmet:
                self._admit(step_id)

    def _admit(self, step_id: str) -> None:
        insort(self.approvals if step_id in self._approvals else self.ready, step_id, key=self._place.__getitem__)

    def begun(self, step_id: str) -> None:
        """Note that a step waits no longer."""
        if step_id in self.left:
            self.left.discard(step_id)
            (self.approvals if step_id in self._approvals else self.ready).remove(step_id)

    def ended(self, step_id: str) -> None:
        """Note that a step has ended, for which others may have waited."""
        for follower in self._followers.get(step_id, ()):
            self._unmet[follower] -= 1
            if not self._unmet[follower]:
                self._admit(follower)
