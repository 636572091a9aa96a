"""Plans as plain data, and in files: TOML, YAML and JSON, read and written.

A file has the names of `RecoveryPlan` and `RecoveryStep` for its keys, durations in seconds, and `timeout = false`
for no limit, as TOML knows no null.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import fields
from datetime import date, time
from pathlib import Path
from typing import Any

from resilient.errors import ConfigurationError
from resilient.orchestrator.errors import PlanInvalidError
from resilient.orchestrator.model import RecoveryPlan, RecoveryStep, RetryPolicy, live_parameters, plain_parameters
from resilient.orchestrator.references import DEEPEST, Where, children, key_part
from resilient.orchestrator.rules import MISSING, Problem, in_seconds, kind, shown
from resilient.orchestrator.validation import Executors, judged, refuse
from resilient.strategies import parsing

EXTRA = "pip install resilient-toolkit[orchestrator]"
SCHEMA_KEY = "$schema"

#: The keys of a file in their order: tables last, as TOML wants them.
PLAN_KEYS = ("id", "name", "description", "timeout", "max_parallel", "dependencies", "steps", "rollback_steps")
STEP_KEYS = (
    *("id", "name", "step_type", "timeout", "rollback_step_id", "on_failure", "critical", "in_doubt"),
    *("parameters", "retry_policy"),
)
RETRY_KEYS = tuple(one.name for one in fields(RetryPolicy))

_READING_ORDER = {name: number for number, name in enumerate(PLAN_KEYS)}
_MOST_VALUES = 100_000
_NAMED = 'name code as "package.module:name"'


def load(
    path: str | os.PathLike[str], executor: Executors | None = None, *, registered: Iterable[str] | None = None
) -> RecoveryPlan:
    """The plan in a file; the suffix says the format (.toml, .yaml, .yml, .json).

    With `executor`, what carries out its steps is asked as well; `registered` are the types there are.

    Raises PlanInvalidError with everything that is wrong in the file, each with the file's name and the keys that lead
    there; also where it cannot be read, or where pyyaml is needed and is not installed.
    """
    file = Path(path)
    plan, found = _built(_content(file), executor, registered)
    found += _lifeless(plan)
    refuse(found, str(file), file.name)
    return plan


def _lifeless(plan: Any) -> list[Problem]:
    """What stands in a file where only an object could be."""
    return [
        Problem((group, number, "parameters", name), f"expected text, got {kind(value)}; {_NAMED}")
        for group, steps in (("steps", plan.steps), ("rollback_steps", plan.rollback_steps))
        for number, step in enumerate(steps if isinstance(steps, tuple) else ())
        if isinstance(step, RecoveryStep)
        for name, value in live_parameters(step).items()
    ]


def from_dict(data: Any, source: str | None = None) -> RecoveryPlan:
    """The plan in plain data, as `as_dict` makes it or a file has it; `source` goes in front of each problem.

    Raises PlanInvalidError with everything that is wrong.
    """
    plan, found = _built(data)
    refuse(found, source or "the plan", source)
    return plan


def _content(file: Path) -> Any:
    """What a file holds, in any format."""
    try:
        return parsing.content_of(file)
    except ConfigurationError as error:
        raise unusable(file, str(error).replace(parsing.EXTRA, EXTRA)) from None


def unusable(file: Path, why: str) -> PlanInvalidError:
    """The error for a file as a whole."""
    return PlanInvalidError([f"{file.name}: {why}"], f"{file} is no plan")


def _built(
    data: Any, executor: Executors | None = None, registered: Iterable[str] | None = None
) -> tuple[RecoveryPlan, list[Problem]]:
    """The plan, whatever its values are, and everything that is wrong with it."""
    found: list[Problem] = []
    if not isinstance(data, Mapping):
        return RecoveryPlan("", "", ()), [Problem((), f"expected a table with id, name and steps, got {kind(data)}")]
    where_schema_is = data.get(SCHEMA_KEY, "")
    if not isinstance(where_schema_is, str):
        found.append(Problem((SCHEMA_KEY,), f"expected text, got {kind(where_schema_is)}"))
    table = _known({key: value for key, value in data.items() if key != SCHEMA_KEY}, PLAN_KEYS, (), found)
    for group in ("steps", "rollback_steps"):
        if isinstance(table.get(group), list):
            table[group] = [_step(one, (group, number), found) for number, one in enumerate(table[group])]
    if "dependencies" in table and table["dependencies"] is None:
        found.append(Problem(("dependencies",), "expected a table, got None"))
    required: dict[str, Any] = dict.fromkeys(("id", "name", "steps"), MISSING)
    plan = RecoveryPlan(**(required | _read(table, "max_parallel")))
    found += judged(plan, executor, registered)
    return plan, sorted(found, key=_position)


def _position(problem: Problem) -> tuple[int, int]:
    padded: tuple[Any, ...] = (*problem.where, "", "")
    first, second, *_ = padded
    return _READING_ORDER.get(str(first), -1), second if isinstance(second, int) else -1


def _known(table: Mapping[Any, Any], keys: tuple[str, ...], where: Where, found: list[Problem]) -> dict[str, Any]:
    """A table without the keys that mean nothing, which are reported."""
    for key in table:
        if key not in keys:
            found.append(Problem((*where, key_part(key)), f"unknown key; allowed: {', '.join(keys)}"))
    return {key: table[key] for key in keys if key in table}


def _read(table: dict[str, Any], whole: str) -> dict[str, Any]:
    """A table with what files write in another way: no limit, and 3.0 for 3."""
    if table.get("timeout") is False:
        table["timeout"] = None
    number = table.get(whole)
    if isinstance(number, float) and number.is_integer():
        table[whole] = int(number)
    return table


def _step(data: Any, where: Where, found: list[Problem]) -> Any:
    """The step in a table, whatever its values are; what is no table is judged later."""
    if not isinstance(data, Mapping):
        return data
    table = _read(_known(data, STEP_KEYS, where, found), "")
    policy = table.get("retry_policy")
    if isinstance(policy, Mapping):
        known = _known(policy, RETRY_KEYS, (*where, "retry_policy"), found)
        table["retry_policy"] = RetryPolicy(**_read(known, "max_attempts"))
    if isinstance(table.get("parameters"), Mapping):
        found += _Plain(None).problems(table["parameters"], (*where, "parameters"))
    required: dict[str, Any] = dict.fromkeys(("id", "name", "step_type"), MISSING)
    return RecoveryStep(**(required | table))


def as_dict(plan: RecoveryPlan, opaque: Callable[[Any], Any] | None = None) -> dict[str, Any]:
    """A checked plan as JSON-ready values, without what has its default; lists in the place of tuples.

    `opaque` is given each parameter of which there is no JSON, such as a function, and answers with what to write.
    Without it, raises PlanInvalidError with all of them.
    """
    plain = _Plain(opaque)
    table = _settings(plan, PLAN_KEYS)
    for group in ("steps", "rollback_steps"):
        if group in table:
            table[group] = [_step_table(one, (group, number), plain) for number, one in enumerate(table[group])]
    if "dependencies" in table:
        table["dependencies"] = {step: list(needed) for step, needed in table["dependencies"].items()}
    refuse(plain.found, f"plan {plan.id!r}")
    return table


def _step_table(step: RecoveryStep, where: Where, plain: _Plain) -> dict[str, Any]:
    table = _settings(step, STEP_KEYS)
    table["step_type"] = step.type_name
    if "parameters" in table:
        table["parameters"] = plain.table(step, (*where, "parameters"))
    if "retry_policy" in table:
        table["retry_policy"] = _settings(step.retry_policy, RETRY_KEYS)
    return table


def _settings(owner: Any, keys: tuple[str, ...]) -> dict[str, Any]:
    """What differs from the defaults, in the order of a file."""
    defaults = {one.name: one.default for one in fields(owner)}
    table = {key: getattr(owner, key) for key in keys}
    for key in ("dependencies", "parameters"):  # these defaults are made anew each time
        if table.get(key) == {}:
            del table[key]
    table = {key: one for key, one in table.items() if defaults[key] is NO_DEFAULT or one != defaults[key]}
    if "timeout" in table:
        table["timeout"] = False if table["timeout"] is None else in_seconds(table["timeout"])
    return table


class _Plain:
    """Makes JSON-ready values of parameters, and collects those of which there are none."""

    def __init__(self, opaque: Callable[[Any], Any] | None) -> None:
        self.found: list[Problem] = []
        self._opaque = opaque
        self._count = 0

    def problems(self, value: Any, where: Where) -> list[Problem]:
        """What of a value is not JSON-ready; keys of the outermost table are not looked at."""
        self._count = 0
        for key, one in children(value) or ():
            self.value(one, (*where, key_part(key)), ())
        return self.found

    def table(self, step: RecoveryStep, where: Where) -> dict[str, Any]:
        """The parameters of one step."""
        self._count = 0
        live = {name: self._live(value, (*where, name)) for name, value in live_parameters(step).items()}
        return {**self.value(plain_parameters(step), where, ()), **live}

    def _live(self, value: Any, where: Where) -> Any:
        # By its type alone: what it holds now says nothing about what it is.
        if self._opaque is not None:
            return self._opaque(value if getattr(value, "__qualname__", None) else type(value))
        self.found.append(Problem(where, f"expected text, got {kind(value)}; {_NAMED}"))
        return None

    def value(self, value: Any, where: Where, above: tuple[int, ...]) -> Any:
        """The value as JSON has it."""
        self._count += 1
        if isinstance(value, str):
            return str.__str__(value)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            return int(value)
        if isinstance(value, float) and math.isfinite(value):
            return float(value)
        inside = children(value)
        is_list = isinstance(value, (list, tuple))
        if inside is None or not (is_list or all(isinstance(key, str) for key, _ in inside)):
            return self._without_json(value, where)
        if len(above) >= DEEPEST or id(value) in above or self._count > _MOST_VALUES:
            return self._boundless(where, id(value) in above)
        new = [(key, self.value(one, (*where, key), (*above, id(value)))) for key, one in inside]
        return [one for _, one in new] if is_list else dict(new)

    def _without_json(self, value: Any, where: Where) -> Any:
        if self._opaque is not None:
            return self._opaque(value)
        got, remedy = kind(value), _NAMED
        if isinstance(value, float):
            got, remedy = shown(value), "write a finite number"
        elif isinstance(value, (date, time)):
            remedy = "write it as text"
        elif isinstance(value, dict):
            got, remedy = f"{got} with keys that are not text", "write the keys as text"
        text = f"expected text, a number, true, false, None, a list or a table, got {got}; {remedy}"
        self.found.append(Problem(where, text))
        return None

    def _boundless(self, where: Where, is_cycle: bool) -> None:
        if self._count > _MOST_VALUES:
            if not any("values in one step" in one.text for one in self.found):
                self.found.append(Problem(where, f"expected at most {_MOST_VALUES} values in one step"))
            return
        bound = (
            "no list or table that contains itself"
            if is_cycle
            else f"at most {DEEPEST} lists and tables within each other"
        )
        self.found.append(Problem(where, f"expected {bound}"))
