"""The tables of a scenario file: their keys, what each may be, and the scenario that becomes of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from resilient.errors import ConfigurationError
from resilient.testing.files import kinds as kinds
from resilient.testing.files.faults import FAULTS
from resilient.testing.files.fields import REQUIRED, Field, made, plain, read_fields, table
from resilient.testing.files.kinds import BAD, Kind, Problems, Where
from resilient.testing.files.ready import OPTIONS, READY, ready_scenario
from resilient.testing.recovery.expectations import ExpectedRecoveryBehavior, Probe, RecoveryMode, SuccessCriteria
from resilient.testing.recovery.scenario import RecoveryTestScenario

CRITERIA = {
    "success_rate_threshold": Field(kinds.SHARE, "The share of operations that succeed, at least."),
    "response_time_threshold": Field(kinds.SECONDS, "Seconds that operations take on average, at most."),
    "data_consistency_required": Field(kinds.FLAG, "Whether the checker has to say yes.", False),
    "tolerance": Field(
        kinds.SHARE, "How far below the threshold the 95 % interval may reach for the observed rate to count.", 0.1
    ),
    "baseline_threshold": Field(kinds.SHARE, "The share that has to succeed before the fault.", 0.95),
}
EXPECTED = {
    "recovery_mode": Field(
        kinds.choice({one.value: one for one in RecoveryMode}),
        "Who makes it well again: the system itself, the function recover, or that one where the system has not.",
        "automatic",
    ),
    "max_recovery_time": Field(kinds.SECONDS, "Seconds from the end of the fault, at most.", 60.0),
    "success_criteria": Field(
        table("What is required of the whole run.", CRITERIA, SuccessCriteria), "What is required of the whole run."
    ),
}
_EXPECTED = table("How the system is to recover.", EXPECTED, ExpectedRecoveryBehavior)


def _read_probes(value: Any, where: Where, problems: Problems) -> Any:
    if not isinstance(value, list):
        return problems.strange(where, "a list of paths", value)
    found = [kinds.CODE.read(one, (*where, number), problems) for number, one in enumerate(value)]
    for number, one in enumerate(found):
        if one is not BAD and not isinstance(one, Probe):
            problems.strange((*where, number), "the path of a Probe", one)
    return tuple(found)


_PROBES = Kind({"type": "array", "items": kinds.CODE.schema}, _read_probes)
_TIME = kinds.choice({True: True, False: False, "auto": None}, 'true, false or "auto"')

_TITLES = {
    "id": Field(kinds.IDENTIFIER, "What the scenario is asked for by; no other in the file has it.", REQUIRED),
    "name": Field(kinds.NAME, "What people read. Left out: the id."),
    "description": Field(kinds.TEXT, "What it is for.", ""),
}
_WEIGHT = {"weight": Field(kinds.WEIGHT, "Its share in the resilience score of the report.", 1.0)}
COURSE = {
    "expected_recovery": Field(_EXPECTED, "How the system is to recover."),
    "timeout": Field(kinds.POSITIVE_SECONDS, "Seconds the whole scenario may take.", 60.0),
    "checker": Field(
        kinds.FUNCTION, "The path of a function of the history of operations, which says whether they fit."
    ),
    "load": Field(kinds.PER_SECOND, "Calls of the workload per second. Left out: as fast as it returns."),
    "concurrency": Field(kinds.COUNT, "How many threads or tasks call the workload.", 1),
    "baseline": Field(
        kinds.POSITIVE_SECONDS, "Seconds before the fault. Left out: 1, or a fifth of the timeout if that is less."
    ),
    "fault": Field(kinds.POSITIVE_SECONDS, "Seconds of the fault phase. Left out: what the faults need."),
    "observe": Field(kinds.POSITIVE_SECONDS, "Seconds after the fault. Left out: until it has recovered."),
    "steady_probes": Field(kinds.COUNT, "How many operations in a row have to succeed for it to be well again.", 3),
    "recover": Field(kinds.FUNCTION, "The path of a function that makes it well, where the recovery mode says so."),
    "probes": Field(_PROBES, "Paths of Probe objects: further requirements.", []),
    "virtual_time": Field(
        _TIME, 'true: in a virtual clock; "auto": in one unless the workload uses real sockets.', False
    ),
    **_WEIGHT,
}
SCENARIO = {
    **_TITLES,
    "workload": Field(kinds.FUNCTION, "The path of a function without arguments: one operation.", REQUIRED),
    "error_injection": Field(FAULTS, "One fault, or a list of them.", REQUIRED),
    **COURSE,
}


READY_SCENARIO = {
    **_TITLES,
    "ready": Field(
        kinds.choice({one: one for one in READY}),
        "The function of resilient.testing.scenarios that makes it.",
        REQUIRED,
    ),
    "function": Field(kinds.FUNCTION, "The path of the function that it is for."),
    "options": Field(
        OPTIONS,
        'The options of the ready scenario; { import = "package.module:name" } stands for code.',
        {},
    ),
    **_WEIGHT,
}


def _read_experiment(value: Any, where: Where, problems: Problems) -> Any:
    if not isinstance(value, Mapping):
        return problems.strange(where, "a table", value)
    try:
        return import_module("resilient.testing.chaostoolkit_experiment").Experiment(value)
    except ConfigurationError as error:
        return problems.add(where, str(error))


EXPERIMENT_SCENARIO = {
    **_TITLES,
    "experiment": Field(
        Kind({"type": "object"}, _read_experiment),
        "An experiment of Chaos Toolkit: its hypothesis is the workload, its method and rollbacks are the fault.",
        REQUIRED,
    ),
    **COURSE,
}


def build(given: Any, where: Where, problems: Problems) -> RecoveryTestScenario | None:
    """The scenario of a table; None where it has problems, which are noted."""
    before = len(problems)
    source = plain(given, where, problems)
    if len(problems) > before:
        return None
    chosen = source if isinstance(source, Mapping) else {}
    fields, make = next((one for key, one in _FORMS.items() if key in chosen), (SCENARIO, _scenario))
    found = made(make, read_fields(source, fields, where, problems), where, problems)
    return None if found is BAD else dataclasses.replace(found, source=source)


def _scenario(**values: Any) -> RecoveryTestScenario:
    titles = {"name": values["id"], "description": "", "expected_recovery": ExpectedRecoveryBehavior()}
    return RecoveryTestScenario(**{**titles, **values})


def _experiment_scenario(*, experiment: Any, **values: Any) -> RecoveryTestScenario:
    return _scenario(workload=experiment.workload, error_injection=experiment.fault, **values)


_FORMS: dict[str, tuple[Mapping[str, Field], Callable[..., Any]]] = {
    "ready": (READY_SCENARIO, ready_scenario),
    "experiment": (EXPERIMENT_SCENARIO, _experiment_scenario),
}
