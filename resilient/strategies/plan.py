"""What a file of strategies means for the policies that are live now, and how to make it so."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from resilient._checks import differing
from resilient._registry import registry
from resilient.degradation.manager import DegradationManager
from resilient.policy import Policy
from resilient.strategies.building import KINDS, live_policies
from resilient.strategies.problems import Problem, dotted
from resilient.strategies.validation import ANSWERS, HEALTH
from resilient.wrapping import Kind, chain

Options = Mapping[str, Any]

#: The policies that may refuse a function because of their options. Trying them out on a copy touches no state; the
#: others share theirs with a copy, and guard whatever they have guarded before.
_CHOOSY = ("retry", "timeout", "degrade")


class Step(NamedTuple):
    """One change that is possible: of a policy, or of a degradation's manager."""

    kind: str
    name: str
    before: Options
    after: Options
    target: Any


class Plan:
    """What a file means for what is live now; the caller has the registry's lock."""

    def __init__(self, written: Mapping[str, Options]) -> None:
        self.steps: list[Step] = []
        self.problems: list[Problem] = []
        self.unmatched: list[str] = []
        self.left: list[str] = []
        shelves = live_policies()
        for name, table in written.items():
            live = {kind: shelf[name] for kind, shelf in shelves.items() if name in shelf}
            if not live:
                self.unmatched.append(name)
                continue
            for section, options in table.items():
                if section in KINDS:
                    self._section(name, section, options, live.get(KINDS[section]))

    def _section(self, name: str, section: str, written: Any, policy: Any) -> None:
        if policy is None or written is False:
            self.left.append(dotted((name, section)))
            return
        if section == "degradation":
            self._manager(name, {key: written[key] for key in HEALTH if key in written}, policy.config.manager)
        ours = {theirs: mine for mine, theirs in _live_options(section, policy).items() if mine in written}
        followed = {theirs: written[mine] for theirs, mine in ours.items()}
        step = self._step((name, section), followed, policy)
        if step is not None:
            self._try(step, (name, section), ours)
        known = {*_live_options(section, policy), *(HEALTH if section == "degradation" else ())}
        self.left += [dotted((name, section, key)) for key in written if key not in known]

    def _manager(self, name: str, health: Options, manager: Any) -> None:
        if isinstance(manager, DegradationManager):
            self._step((name, "degradation"), health, manager)
        else:
            self.left += [dotted((name, "degradation", key)) for key in health]

    def _step(self, path: tuple[str, str], options: Options, target: Any) -> Step | None:
        """Note a change of these options, if any differs from what is live."""
        config = target.config
        try:
            changed = differing(config, dataclasses.replace(config, **options), options)
        except Exception as error:
            self.problems.append(Problem(path, f": does not fit what is live: {error}"))
            return None
        if not changed:
            return None
        before = {key: getattr(config, key) for key in changed}
        self.steps.append(Step(KINDS[path[1]], path[0], before, changed, target))
        return self.steps[-1]

    def _try(self, step: Step, path: tuple[str, str], ours: Mapping[str, str]) -> None:
        """Note a problem where a function that the policy guards would refuse the change."""
        if step.kind not in _CHOOSY:
            return
        for option in step.after:
            error = _refusal(step.target, {option: step.after[option]})
            if error is not None:
                self.problems.append(Problem((*path, ours[option]), f": does not fit what is live: {error}"))


def _refusal(policy: Policy, changes: Options) -> Exception | None:
    """What a function guarded by this policy would say to the change."""
    probe = copy.copy(policy)
    try:
        probe.apply(dataclasses.replace(policy.config, **changes))
        for guarded in registry._live():
            if policy in guarded.policies:
                policies = tuple(probe if one is policy else one for one in guarded.policies)
                chain(_uncalled, guarded.settled or Kind.SYNC, policies, guarded.__wrapped__)
    except Exception as error:
        return error
    return None


def _uncalled(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    raise AssertionError("a chain that is tried out is never called")


def apply(steps: Iterable[Step]) -> None:
    """Make all changes, or none of them; the caller has the registry's lock."""
    managers = [step for step in steps if isinstance(step.target, DegradationManager)]
    policies = {step.target: dict(step.after) for step in steps if not isinstance(step.target, DegradationManager)}
    begun: list[Step] = []
    try:
        for step in managers:
            begun.append(step)
            _set(step.target, step.after)
        registry.change(policies)
    except BaseException:
        for step in reversed(begun):
            _set_back(step)
        raise


def settle(steps: Iterable[Step]) -> None:
    """Let the managers judge by what has changed, and tell of what comes of it: without a lock, as others listen."""
    for step in steps:
        if isinstance(step.target, DegradationManager):
            step.target.settle()


def _set(manager: DegradationManager, options: Options) -> None:
    # Not `configure`, which tells subscribers at once.
    with manager.lock:
        manager.apply(dataclasses.replace(manager.config, **options))


def _set_back(step: Step) -> None:
    """Take back what still is as the step has set it; others may change a manager without the registry's lock."""
    with step.target.lock:
        now = step.target.config
        ours = {key: old for key, old in step.before.items() if getattr(now, key) == step.after[key]}
        step.target.apply(dataclasses.replace(now, **ours))


def _live_options(section: str, policy: Any) -> dict[str, str]:
    """The options of a section that its live policy has, and what they are called there."""
    if section == "timeout":
        return {"total": "limit", "method": "method", "max_abandoned": "max_abandoned"}
    return {name: name for name in (ANSWERS if section == "degradation" else policy.config.names())}
