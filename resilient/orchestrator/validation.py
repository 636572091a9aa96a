"""Whether a plan can work: everything that is wrong with it at once, each with its place, in reading order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from resilient.orchestrator import topology
from resilient.orchestrator.errors import CircularDependencyError, NoExecutorError, PlanInvalidError
from resilient.orchestrator.executor import Adapted
from resilient.orchestrator.model import RecoveryPlan, RecoveryStep, plain_parameters
from resilient.orchestrator.references import RESULT_FIELDS, Fault, Reference, Where, place, scan
from resilient.orchestrator.rules import PLAN, STEP, Problem, broken, broken_retry, in_seconds, is_limit, kind, shown
from resilient.strategies.problems import kind_of

_MOST_NAMES, _LONGEST_NAME = 12, 60
_DEFAULT_DEADLINE = RecoveryStep("", "", "").timeout

Executors = Callable[[str], "Adapted | None"]


def problems(
    plan: RecoveryPlan, executor: Executors | None = None, *, registered: Iterable[str] | None = None
) -> list[str]:
    """Sentences about everything that is wrong with a plan, each beginning with its place; empty where nothing is.

    `executor` answers who carries out a type of steps; without, nobody is asked about types and their parameters.
    `registered` are the types it knows, for the remedy.
    """
    return [str(one) for one in judged(plan, executor, registered)]


def check(
    plan: RecoveryPlan,
    executor: Executors | None = None,
    source: str | None = None,
    *,
    registered: Iterable[str] | None = None,
) -> None:
    """Raise PlanInvalidError with all `problems` of a plan; `source` is the name of its file, in front of each.

    CircularDependencyError where steps that wait for each other are all that is wrong, NoExecutorError where missing
    executors are.
    """
    plan_id = getattr(plan, "id", None)
    name = repr(plan_id[:_LONGEST_NAME]) if isinstance(plan_id, str) else shown(plan_id)
    refuse(judged(plan, executor, registered), source or f"plan {name}", source)


def refuse(found: Sequence[Problem], what: str, source: str | None = None) -> None:
    """Raise the error that fits these problems, if there are any."""
    if not found:
        return
    heading = f"{what} is invalid"
    lines = [f"{source}: {one}" if source else str(one) for one in found]
    if all(one.cycle for one in found):
        first = next(one.cycle for one in found if one.where == ("dependencies",))
        raise CircularDependencyError(first, lines, heading)
    raise (NoExecutorError if all(one.executor for one in found) else PlanInvalidError)(lines, heading)


def judged(
    plan: RecoveryPlan, executor: Executors | None = None, registered: Iterable[str] | None = None
) -> list[Problem]:
    """The same as `problems`, with paths."""
    given: object = plan
    if not isinstance(given, RecoveryPlan):
        return [Problem((), f"expected a RecoveryPlan, got {kind(given)}")]
    return list(_Judge(given, executor, registered).all())


class _Judge:
    """One look at one plan."""

    def __init__(self, plan: RecoveryPlan, executor: Executors | None, registered: Iterable[str] | None) -> None:
        self.plan: Any = plan  # its fields may hold anything
        self.executor = executor
        self.registered = None if registered is None else sorted(map(str, registered))
        self.steps = _ids(plan.steps)
        self.rollback_steps = _ids(plan.rollback_steps)
        self.needs = _sound_needs(plan.dependencies)
        self.cycles = topology.cycles(self.steps, self.needs)
        self.first_place: dict[str, Where] = {}
        steps: Any = plan.steps
        named: list[Any] = [step.rollback_step_id for step in _sound(steps)]
        self.used = {one for one in named if isinstance(one, str)}

    def all(self) -> Iterator[Problem]:
        yield from broken(PLAN, self.plan, ())
        if not isinstance(self.plan.steps, tuple) or not self.plan.steps:
            got = "none" if self.plan.steps == () else shown(self.plan.steps)
            yield Problem(("steps",), f"expected at least one step, got {got}")
        yield from self._group("steps", self.plan.steps)
        if not isinstance(self.plan.rollback_steps, tuple):
            yield Problem(("rollback_steps",), f"expected a list of steps, got {shown(self.plan.rollback_steps)}")
        yield from self._group("rollback_steps", self.plan.rollback_steps)
        yield from self._dependencies()

    def _group(self, group: str, steps: Any) -> Iterator[Problem]:
        for number, step in enumerate(steps if isinstance(steps, tuple) else ()):
            where = (group, number)
            if not isinstance(step, RecoveryStep):
                yield Problem(where, f"expected a step (a RecoveryStep, in a file a table), got {shown(step)}")
                continue
            yield from broken(STEP, step, where)
            yield from self._twice(step, where)
            yield from broken_retry(step.retry_policy, (*where, "retry_policy"))
            yield from self._as_rollback(step, where) if group == "rollback_steps" else self._as_step(step, where)
            yield from self._parameters(step, where, group == "rollback_steps")

    def _twice(self, step: Any, where: Where) -> Iterator[Problem]:
        if isinstance(step.id, str) and self.first_place.setdefault(step.id, where) != where:
            first = place(self.first_place[step.id])
            yield Problem((*where, "id"), f"expected an id of its own, got {shown(step.id)}, which {first} has too")

    def _as_step(self, step: Any, where: Where) -> Iterator[Problem]:
        named = step.rollback_step_id
        if named is not None and not (isinstance(named, str) and named in self.rollback_steps):
            known = _listed(self.rollback_steps, "this plan has none")
            yield Problem(
                (*where, "rollback_step_id"), f"expected the id of a rollback step ({known}), got {shown(named)}"
            )
        if step.is_approval:
            yield from self._unreachable(step, where)

    def _as_rollback(self, step: Any, where: Where) -> Iterator[Problem]:
        if step.rollback_step_id is not None:
            yield Problem((*where, "rollback_step_id"), "expected nothing: a rollback step is not rolled back itself")
        if step.is_approval:
            yield Problem(
                (*where, "step_type"), "an approval cannot be reached here: it undoes nothing; put it in steps"
            )
        if isinstance(step.id, str) and step.id in self.rollback_steps and step.id not in self.used:
            text = f"no step has {shown(step.id)} for its rollback_step_id, so that it would never run"
            yield Problem((*where, "id"), text)

    def _unreachable(self, step: Any, where: Where) -> Iterator[Problem]:
        above = topology.above(self.needs, step.id) if isinstance(step.id, str) else frozenset()
        for way in self.cycles:
            if not above.isdisjoint(way):
                text = f"the approval cannot be reached: it waits for the cycle {' -> '.join(way)}"
                yield Problem(where, text, cycle=way)
        for one in sorted(above - self.steps.keys()):
            yield Problem(where, f"the approval cannot be reached: it waits for {shown(one)}, which is no step")
        limits = step.timeout, self.plan.timeout
        if step.timeout == _DEFAULT_DEADLINE or None in limits or not all(map(is_limit, limits)):
            return
        deadline, whole = map(in_seconds, limits)
        if deadline is not None and whole is not None and deadline > whole:
            text = f"expected at most the plan's timeout ({whole!r}), which ends the wait before, got {deadline!r}"
            yield Problem((*where, "timeout"), text)

    def _parameters(self, step: Any, where: Where, is_rollback: bool) -> Iterator[Problem]:
        where = (*where, "parameters")
        if not isinstance(step.parameters, dict):
            yield Problem(where, f"expected a table, got {kind(step.parameters)}")
            return
        strange = [key for key in step.parameters if not isinstance(key, str)]
        if strange:
            yield Problem(where, f"expected text for every key, got {shown(strange[0])}")
            return
        for one in scan(plain_parameters(step)):
            if isinstance(one, Fault):
                yield Problem((*where, *one.where), one.text)
            elif one.root == "steps" and (said := self._reference(step, one, is_rollback)):
                yield Problem((*where, *one.where), f"{one.text}: {said}")
        yield from self._by_executor(step, where)

    def _reference(self, step: Any, one: Reference, is_rollback: bool) -> str:
        """What is wrong with a reference to another step's result; empty if nothing."""
        step_id, field, *deeper = (*one.keys, "")[: max(2, len(one.keys))]
        if step_id == step.id:
            return "a step cannot refer to itself"
        if step_id not in self.steps:
            return f"there is no step {shown(step_id)}; steps: {_listed(self.steps, 'none')}"
        if not is_rollback and isinstance(step.id, str) and not self._before(step_id, step.id):
            return f"step {shown(step_id)} may not have run by then; add it to dependencies.{step.id}"
        if field not in RESULT_FIELDS or (deeper and field != "output"):
            return f"expected output (and keys in it), status or attempts after ${{steps.{step_id}."
        return ""

    def _before(self, earlier: str, later: str) -> bool:
        return earlier in self.needs.get(later, ()) or earlier in topology.above(self.needs, later)

    def _by_executor(self, step: Any, where: Where) -> Iterator[Problem]:
        """What the executor of a step has to say."""
        if (
            self.executor is None
            or step.is_approval
            or not isinstance(step.step_type, str)
            or not step.type_name.strip()
        ):
            return
        try:
            executor = self.executor(step.type_name)
            said = [] if executor is None else [(_keys(name), str(text)) for name, text in executor.problems(step)]
        except Exception as error:
            yield Problem(where, f"cannot be checked, as the executor's problems() failed: {kind_of(error)}")
            return
        if executor is None:
            yield Problem((*where[:-1], "step_type"), self._no_executor(step.type_name), executor=True)
        yield from (Problem((*where, *keys), text) for keys, text in said)

    def _no_executor(self, type_name: str) -> str:
        if self.registered is None:
            remedy = f"call register_step_executor({shown(type_name)}, ...)"
        else:
            remedy = f"registered: {_listed(self.registered, 'none')}"
        return f"no executor is registered for {shown(type_name)}; {remedy}"

    def _dependencies(self) -> Iterator[Problem]:
        if not isinstance(self.plan.dependencies, Mapping):
            yield Problem(("dependencies",), f"expected a table, got {shown(self.plan.dependencies)}")
            return
        for step_id, needed in self.plan.dependencies.items():
            where = ("dependencies", step_id if isinstance(step_id, str) else shown(step_id))
            if not isinstance(step_id, str) or step_id not in self.steps:
                yield Problem(where, self._no_step(step_id))
            if not isinstance(needed, tuple):
                yield Problem(where, f"expected a list of ids of steps, got {shown(needed)}")
                continue
            seen: set[str] = set()
            for number, one in enumerate(needed):
                if not isinstance(one, str) or one not in self.steps:
                    yield Problem((*where, number), self._no_step(one))
                elif one in seen:
                    yield Problem((*where, number), f"expected each step once, got {shown(one)} again")
                else:
                    seen.add(one)
        for way in self.cycles:
            yield Problem(("dependencies",), f"cycle: {' -> '.join(way)}", cycle=way)

    def _no_step(self, step_id: Any) -> str:
        if isinstance(step_id, str) and step_id in self.rollback_steps:
            return f"{shown(step_id)} is a rollback step: it runs only to undo, waits for nobody, and nobody for it"
        return f"there is no step {shown(step_id)}; steps: {_listed(self.steps, 'none')}"


def _ids(steps: Any) -> dict[str, RecoveryStep]:
    """Those that are steps, and have an id."""
    return {one.id: one for one in _sound(steps) if isinstance(one.id, str)}


def _sound(steps: Any) -> list[Any]:
    """Those that are steps, whatever their fields hold."""
    return [one for one in steps if isinstance(one, RecoveryStep)] if isinstance(steps, tuple) else []


def _sound_needs(dependencies: Any) -> dict[str, list[str]]:
    if not isinstance(dependencies, Mapping):
        return {}
    return {
        step: [one for one in needed if isinstance(one, str)]
        for step, needed in dependencies.items()
        if isinstance(step, str) and isinstance(needed, tuple)
    }


def _keys(name: Any) -> tuple[str, ...]:
    return tuple(name.split(".")) if isinstance(name, str) and name else ()


def _listed(names: Iterable[str], none: str) -> str:
    known = list(names)
    more = f" and {len(known) - _MOST_NAMES} more" if len(known) > _MOST_NAMES else ""
    return (", ".join(known[:_MOST_NAMES]) or none) + more
