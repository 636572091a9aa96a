"""To Chaos Toolkit and back: its experiments as scenarios, and scenarios as experiments that its command runs.

The functions from `run_scenario` on are the activities of exported experiments.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from resilient.errors import ConfigurationError
from resilient.strategies import parsing
from resilient.strategies.problems import kind_of
from resilient.testing import injection
from resilient.testing.chaostoolkit_experiment import HYPOTHESIS, Experiment, activities, controlled
from resilient.testing.files.fields import DEEPEST, refuse_too_much
from resilient.testing.files.loading import scenario_from
from resilient.testing.recovery.framework import RecoveryTestFramework
from resilient.testing.recovery.scenario import RecoveryTestScenario

#: Calls per second of an imported hypothesis: its probes ask real systems.
LOAD = 5.0
#: Seconds an imported scenario waits for recovery.
PATIENCE = 60.0
#: Seconds of its fault phase, beside the pauses of its method.
FAULT_PHASE = 1.0

_TRIES = 3
_KEPT = ("title", "description", HYPOTHESIS, "method", "rollbacks", "configuration", "secrets")
_KNOWN = (*_KEPT, "controls", "version")
_HERE = "resilient.testing.chaostoolkit"

_passed: dict[str, bool] = {}


class Imported(NamedTuple):
    """An experiment as a table of a scenario file, and what of it could not be carried over."""

    source: dict[str, Any]
    notes: tuple[str, ...]


# Import


def import_experiment(path: str | os.PathLike[str]) -> Imported:
    """The experiment in a file (.json, .yaml, .yml) as a scenario: hypothesis = workload, method = fault.

    One that `export_experiment` made becomes the scenario that it was made of. Raises ConfigurationError where the
    file cannot be read, the experiment is not valid, or chaostoolkit is not installed.
    """
    file = Path(path)
    try:
        content = parsing.content_of(file)
        refuse_too_much(content, DEEPEST)
        if not isinstance(content, Mapping):
            raise ConfigurationError(f"expected an experiment of Chaos Toolkit, got {kind_of(content)}")
        return _exported(content) or _foreign(content)
    except ConfigurationError as error:
        raise ConfigurationError(f"{file}: {error}") from None


def _exported(content: Mapping[str, Any]) -> Imported | None:
    for one in activities(content)["method"]:
        provider = one.get("provider") if isinstance(one, Mapping) else None
        if isinstance(provider, Mapping) and (provider.get("module"), provider.get("func")) == (_HERE, "run_scenario"):
            arguments = provider.get("arguments")
            source: Any = arguments.get("source") if isinstance(arguments, Mapping) else None
            scenario_from(source)
            seed = arguments.get("seed") if isinstance(arguments, Mapping) else None
            notes = () if seed is None else (f"seed {seed}: a scenario has none as a whole; say --seed where it runs",)
            return Imported(dict(source), notes)
    return None


def _foreign(content: Mapping[str, Any]) -> Imported:
    notes = [f"controls of {one}: left out" for one in controlled(content, activities(content))]
    notes += [f"{key}: left out, it means nothing here" for key in content if key not in _KNOWN]
    experiment = _without_controls({key: content[key] for key in _KEPT if key in content})
    Experiment(experiment)
    pauses = _pauses(experiment, notes)
    notes += _remarks(experiment)
    fault = pauses + FAULT_PHASE
    source = {
        "id": re.sub(r"[^a-z0-9]+", "-", str(content["title"]).lower()).strip("-")[:60] or "experiment",
        "name": content["title"],
        "description": content["description"],
        "timeout": fault + PATIENCE + 30.0,
        "load": LOAD,
        "baseline": 2.0,
        "fault": fault,
        "expected_recovery": {"max_recovery_time": PATIENCE},
        "experiment": experiment,
    }
    return Imported(source, tuple(notes))


def _without_controls(value: Any) -> Any:
    """A copy of an experiment without the controls of it and of its activities."""
    if isinstance(value, list):
        return [_without_controls(one) for one in value]
    if not isinstance(value, Mapping):
        return value
    # What a provider is given is its own business.
    return {
        key: one if key in ("provider", "configuration", "secrets") else _without_controls(one)
        for key, one in value.items()
        if key != "controls"
    }


def _pauses(experiment: Mapping[str, Any], notes: list[str]) -> float:
    """Seconds that the method pauses; what only its configuration says is noted."""
    total = 0.0
    for one in experiment["method"]:
        for when, seconds in (one.get("pauses") or {}).items():
            if isinstance(seconds, (int, float)):
                total += seconds
            else:
                name = one.get("name") or one.get("ref")
                notes.append(f"pause {when} {name!r}: not a number, so add its seconds to `fault` and `timeout`")
    return total


def _remarks(experiment: Mapping[str, Any]) -> list[str]:
    """What is carried out in another way than by Chaos Toolkit."""
    notes = []
    for one in experiment["method"]:
        name = one.get("name") or one.get("ref")
        if one.get("background"):
            notes.append(f"background activity {name!r}: the end of the fault waits for it")
        if one.get("type") == "probe" or "ref" in one:
            notes.append(f"{name!r} in the method: carried out, but its answer is not recorded")
    if not experiment.get("rollbacks"):
        notes.append("no rollbacks: what the method breaks has to mend itself")
    return notes


# Export


def export_experiment(scenario: RecoveryTestScenario, *, seed: int | str | None = None) -> dict[str, Any]:
    """An experiment, ready for `json.dumps`, whose method runs a scenario of a file with the command `chaos`.

    Its hypothesis: the workload succeeds, and the scenario has passed if it has run; so it deviates where the
    scenario does not pass. Where it runs, `resilient` and the code that the scenario names have to be importable.
    Raises ConfigurationError for a scenario that is not from a file.
    """
    if scenario.source is None:
        raise ConfigurationError(f"scenario {scenario.id!r} is not from a file, so no experiment can hold it")
    source = dict(scenario.source)
    probes = [
        _activity("probe", "the-workload-succeeds", "workload_succeeds", {"source": source}, tolerance=True),
        _activity("probe", "the-scenario-has-not-failed", "scenario_passed", {"id": scenario.id}, tolerance=True),
    ]
    return {
        "version": "1.0.0",
        "title": scenario.name,
        "description": scenario.description.strip() or scenario.name,
        "tags": ["resilient"],
        HYPOTHESIS: {"title": "The workload succeeds, and the scenario has not failed.", "probes": probes},
        "method": [_activity("action", "run-the-scenario", "run_scenario", {"source": source, "seed": seed})],
        "rollbacks": [_activity("action", "remove-all-faults", "remove_faults", {})],
        "runtime": {"rollbacks": {"strategy": "always"}},
    }


def _activity(kind: str, name: str, function: str, arguments: dict[str, Any], **more: Any) -> dict[str, Any]:
    provider = {"type": "python", "module": _HERE, "func": function, "arguments": arguments}
    return {"type": kind, "name": name, **more, "provider": provider}


# Activities of exported experiments


def run_scenario(
    source: Mapping[str, Any], seed: int | str | None = None, allow_in_production: bool = False
) -> dict[str, Any]:
    """Run a scenario, given as a table of a scenario file; returns its verdict and numbers.

    Raises AssertionError, which says what was required and seen, unless it passed; InjectionRefusedError where the
    environment says production, unless `allow_in_production`.
    """
    _find_local_code()
    scenario = scenario_from(source)
    _passed[scenario.id] = False
    framework = RecoveryTestFramework(allow_in_production=allow_in_production)
    result = framework.run_test_scenario(scenario, seed=seed)
    _passed[scenario.id] = result.passed
    result.assert_ok()
    return {
        "status": result.status.value,
        "score": result.score,
        "seed": result.seed,
        "fired": result.fired,
        "success_rate": result.success_rate,
        "recovery_time": result.recovery_time,
    }


def workload_succeeds(source: Mapping[str, Any]) -> bool:
    """Whether the workload of a scenario, given as a table of a scenario file, succeeds in one of three calls."""
    _find_local_code()
    workload = scenario_from(source).workload
    return any(_succeeds(workload) for _ in range(_TRIES))


def _succeeds(workload: Any) -> bool:
    try:
        value = workload()
        if inspect.iscoroutine(value):
            asyncio.run(value)
    except Exception:
        return False
    return True


def scenario_passed(id: str) -> bool:
    """Whether the scenario with this id passed when `run_scenario` ran it last in this process; True before that."""
    return _passed.get(id, True)


def remove_faults() -> int:
    """Remove all faults that are in force in this process; returns how many there were."""
    left = list(injection.ACTIVE)
    for one in left:
        one.remove()
    return len(left)


def _find_local_code() -> None:
    # As `resilient chaos` does it: the command `chaos` does not look for modules where it is started.
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
