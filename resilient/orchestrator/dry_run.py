"""What carrying out a plan would do, told without doing any of it: the order, the limits, and the way back.

Which steps are done when another fails depends on how long each takes. What a step waits for is certainly done by
then, and is undone with certainty; what runs beside it may be done by then, and is told apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from resilient.orchestrator.executor import Adapted
from resilient.orchestrator.model import RecoveryPlan, RecoveryStep, seconds_of
from resilient.orchestrator.rules import in_seconds
from resilient.orchestrator.topology import ancestors, waves

_MOST_WAITS = 10
_IN_DOUBT = {"rollback": "it is undone with the others", "ask": "a person decides whether it runs again"}


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What would become of one step.

    `waits` are the seconds between its attempts, jitter left out, at most the first ten. `undo` names what undoes the
    step: a rollback step's id, "executor", "none", or "unknown" where no executors were given.
    If it fails for good, `undone` are undone, latest first, and of `perhaps_undone` those that are done by then.
    """

    step: RecoveryStep
    needs: tuple[str, ...]
    undo: str
    waits: tuple[float, ...]
    undone: tuple[str, ...]
    perhaps_undone: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DryRun:
    """A plan as it would be carried out: its steps in groups, each group after the ones before it."""

    plan: RecoveryPlan
    groups: tuple[tuple[Foreseen, ...], ...]

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON-ready values; the values of parameters are left out, as they may be secrets."""
        return {
            "plan_id": self.plan.id,
            "name": self.plan.name,
            "timeout": seconds_of(self.plan.timeout),
            "max_parallel": self.plan.max_parallel,
            "groups": [[_as_dict(one) for one in group] for group in self.groups],
        }

    def lines(self) -> list[str]:
        """The same for people."""
        found = _headline(self.plan)
        for number, group in enumerate(self.groups, 1):
            found += ["", f"Group {number}{', side by side' if len(group) > 1 else ''}"]
            for one in group:
                found += [f"  {line}" for line in _story(one)]
        return found


def dry_run(plan: RecoveryPlan, executor: Callable[[str], Adapted | None] | None = None) -> DryRun:
    """What carrying out a valid plan would do; `executor` tells who carries out a type of step, None: not known."""
    groups = waves(plan)
    before = {step.id: ancestors(plan, step.id) for step in plan.steps}
    undo = {step.id: _undo(step, executor) for step in plan.steps}
    latest_first = [one for group in reversed(groups) for one in reversed(group) if undo[one] != "none"]

    def foresee(step: RecoveryStep) -> Foreseen:
        earlier = before[step.id]
        turns_back = step.critical and step.on_failure == "rollback"
        candidates = latest_first if turns_back else []
        undone = [one for one in candidates if one in earlier]
        beside = [one for one in candidates if one != step.id and one not in earlier and step.id not in before[one]]
        return Foreseen(step, plan.needs(step.id), undo[step.id], _waits(step), tuple(undone), tuple(beside))

    return DryRun(plan, tuple(tuple(foresee(plan.step(step_id)) for step_id in group) for group in groups))


def _undo(step: RecoveryStep, executor: Callable[[str], Adapted | None] | None) -> str:
    if step.rollback_step_id is not None:
        return step.rollback_step_id
    if step.is_approval:
        return "none"
    if executor is None:
        return "unknown"
    registered = executor(step.type_name)
    return "none" if registered is None or registered.rollback is None else "executor"


def _waits(step: RecoveryStep) -> tuple[float, ...]:
    policy = step.retry_policy
    longest = float("inf") if policy.max_delay is None else in_seconds(policy.max_delay)
    waits, wait = [], in_seconds(policy.base_delay)
    for _ in range(min(policy.max_attempts - 1, _MOST_WAITS)):
        waits.append(min(wait, longest))
        wait = min(wait * policy.backoff_multiplier, longest)
    return tuple(waits)


def _as_dict(one: Foreseen) -> dict[str, Any]:
    step = one.step
    return {
        "id": step.id,
        "name": step.name,
        "step_type": step.type_name,
        "needs": list(one.needs),
        "max_attempts": step.retry_policy.max_attempts,
        "waits": list(one.waits),
        "timeout": seconds_of(step.timeout),
        "critical": step.critical,
        "on_failure": step.on_failure,
        "in_doubt": step.in_doubt,
        "undo": one.undo,
        "undone": list(one.undone),
        "perhaps_undone": list(one.perhaps_undone),
    }


def _headline(plan: RecoveryPlan) -> list[str]:
    name = f": {plan.name}" if plan.name and plan.name != plan.id else ""
    count = "1 step" if len(plan.steps) == 1 else f"{len(plan.steps)} steps"
    limit = seconds_of(plan.timeout)
    within = "no time limit but those of the steps" if limit is None else f"{limit:g} s for all"
    return [f"{plan.id}{name}", f"{count}, at most {plan.max_parallel} at once, {within}"]


def _story(one: Foreseen) -> list[str]:
    step = one.step
    name = f": {step.name}" if step.name and step.name != step.id else ""
    found = [f"{step.id} ({step.type_name}){name}"]
    if one.needs:
        found.append(f"    after {_listed(one.needs)}")
    found.append(f"    {_effort(one)}")
    if one.undo != "none":
        found.append(f"    undone by {_undone_by(one.undo)}")
    found.append(f"    if it fails: {_failure(one)}")
    if step.in_doubt in _IN_DOUBT:
        found.append(f"    if its process dies half-way: {_IN_DOUBT[step.in_doubt]}")
    return found


def _effort(one: Foreseen) -> str:
    limit = seconds_of(one.step.timeout)
    if one.step.is_approval:
        return "waits for approval without a deadline" if limit is None else f"waits {limit:g} s for approval"
    within = "no time limit" if limit is None else f"{limit:g} s in all"
    if not one.waits:
        return f"1 attempt, {within}"
    shown = ", ".join(f"{wait:g}" for wait in one.waits[:3])
    more = ", ..." if len(one.waits) > 3 else ""
    return f"{one.step.retry_policy.max_attempts} attempts, {shown}{more} s apart, {within}"


def _undone_by(undo: str) -> str:
    if undo == "executor":
        return "its executor"
    return "its executor, if that can" if undo == "unknown" else f"the rollback step {undo}"


def _failure(one: Foreseen) -> str:
    if not one.step.critical:
        return "the plan goes on as if it had not"
    if one.step.on_failure == "stop":
        return "everything ends and stays as it is"
    if one.step.on_failure == "continue":
        return "the others go on, and the execution fails at its end"
    certain, perhaps = ", then ".join(one.undone), ""
    if one.perhaps_undone:
        perhaps = f"{_listed(one.perhaps_undone)} {'as well ' if certain else ''}if done by then"
    if not certain and not perhaps:
        return "there is nothing to undo"
    return f"undoes {', and '.join(part for part in (certain, perhaps) if part)}"


def _listed(ids: tuple[str, ...]) -> str:
    return ids[0] if len(ids) == 1 else f"{', '.join(ids[:-1])} and {ids[-1]}"
