"""Scenarios in files: TOML, YAML and JSON, read with everything that is wrong told at once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resilient.errors import ConfigurationError
from resilient.strategies import parsing
from resilient.strategies.problems import kind_of, listed
from resilient.testing.files.fields import refuse_too_much
from resilient.testing.files.kinds import Problem, Problems, shown
from resilient.testing.files.schema import SCHEMA_KEY, scenario_schema
from resilient.testing.files.tables import build
from resilient.testing.recovery.scenario import RecoveryTestScenario

__all__ = ["load_scenarios", "scenario_from", "scenario_schema", "scenarios_from"]


def load_scenarios(path: str | os.PathLike[str]) -> tuple[RecoveryTestScenario, ...]:
    """The scenarios of a file, in its order; the suffix says the format (.toml, .yaml, .yml, .json).

    Each `[[scenarios]]` has the keys of `RecoveryTestScenario`, or `ready` and `function` for one of
    `resilient.testing.scenarios`, or an `experiment` of Chaos Toolkit. Durations are seconds. Code is named as
    "package.module:name", and its modules are imported. Each scenario has its table as `.source`.

    Raises ConfigurationError with everything that is wrong in the file, each with the keys that lead there.
    """
    file = Path(path)
    try:
        content = parsing.content_of(file)
        refuse_too_much(content)
    except ConfigurationError as error:
        raise ConfigurationError(f"{file}: {error}") from None
    return scenarios_from(content, str(file))


def scenarios_from(content: Any, heading: str) -> tuple[RecoveryTestScenario, ...]:
    """The scenarios of what a file holds; `heading` names it in messages. Raises as `load_scenarios` does."""
    problems = Problems()
    tables = _tables(content, problems)
    found = [build(one, ("scenarios", number), problems) for number, one in enumerate(tables)]
    _refuse_twins(tables, problems)
    if problems:
        raise ConfigurationError(listed(heading, _ordered(problems)))
    return tuple(one for one in found if one is not None)


def scenario_from(source: Mapping[str, Any]) -> RecoveryTestScenario:
    """The scenario of one table of a file, such as the `source` of another. Raises as `load_scenarios` does."""
    problems = Problems()
    found = build(source, (), problems)
    if found is None:
        raise ConfigurationError(listed("the scenario", problems))
    return found


def _tables(content: Any, problems: Problems) -> list[Any]:
    if not isinstance(content, Mapping):
        problems.add((), f"expected a table with a list of scenarios, got {kind_of(content)}")
        return []
    for key in content:
        if key not in (SCHEMA_KEY, "scenarios"):
            problems.unknown((), key, (SCHEMA_KEY, "scenarios"))
    if not isinstance(content.get(SCHEMA_KEY, ""), str):
        problems.strange((SCHEMA_KEY,), "text that says where the schema is", content[SCHEMA_KEY])
    tables = content.get("scenarios")
    if not isinstance(tables, list) or not tables:
        got = "nothing" if "scenarios" not in content else "an empty list" if tables == [] else kind_of(tables)
        problems.add(("scenarios",), f"expected a list of tables, [[scenarios]], got {got}")
        return []
    return tables


def _ordered(problems: list[Problem]) -> list[Problem]:
    """In the order of the scenarios; problems of the file as a whole first."""

    def position(problem: Problem) -> int:
        number = problem.where[1] if len(problem.where) > 1 else -1
        return number if isinstance(number, int) else -1

    return sorted(problems, key=position)


def _refuse_twins(tables: list[Any], problems: Problems) -> None:
    seen: dict[str, int] = {}
    for number, one in enumerate(tables):
        key = one.get("id") if isinstance(one, Mapping) else None
        if not isinstance(key, str):
            continue
        if key in seen:
            problems.add(("scenarios", number, "id"), f"{shown(key)} is the id of scenarios[{seen[key]}] already")
        seen.setdefault(key, number)
