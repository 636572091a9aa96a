"""Faults in scenario files: what one may be told, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from resilient.errors import ConfigurationError
from resilient.testing import targets
from resilient.testing.files import kinds as kinds
from resilient.testing.files.fields import REQUIRED, Field, table
from resilient.testing.files.importing import imported
from resilient.testing.files.kinds import BAD, Kind, Problems, Where
from resilient.testing.recovery.configs import ErrorInjectionConfig, ErrorInjectionType
from resilient.testing.timing import InjectionTiming

#: Parameters of faults that are functions.
CALLABLES = ("begin", "callable", "end", "fn")


def _read_timing(value: Any, where: Where, problems: Problems) -> Any:
    if value == "immediate":
        return InjectionTiming.IMMEDIATE
    expected = '"immediate", or a table with one of delayed, random and when'
    if not isinstance(value, Mapping) or len(value) != 1:
        return problems.unfit(where, expected, value)
    (name, given), *_ = value.items()
    if name not in _TIMINGS:
        problems.unknown(where, name, _TIMINGS)
        return BAD
    kind, make = _TIMINGS[name]
    found = kind.read(given, (*where, name), problems)
    return BAD if found is BAD else make(found)


_TIMINGS: dict[str, tuple[Kind, Callable[[Any], InjectionTiming]]] = {
    "delayed": (kinds.SECONDS, InjectionTiming.delayed),
    "random": (kinds.SECONDS, InjectionTiming.random),
    "when": (kinds.FUNCTION, InjectionTiming.when),
}
_TIMING = Kind(
    {
        "anyOf": [
            {"enum": ["immediate"]},
            *(
                {"type": "object", "required": [name], "additionalProperties": False, "properties": {name: kind.schema}}
                for name, (kind, _) in _TIMINGS.items()
            ),
        ]
    },
    _read_timing,
)


def _read_parameters(value: Any, where: Where, problems: Problems) -> Any:
    if not isinstance(value, Mapping):
        return problems.strange(where, "a table", value)
    return {
        name: kinds.FUNCTION.read(one, (*where, name), problems) if name in CALLABLES else one
        for name, one in value.items()
    }


_PARAMETERS = Kind({"type": "object", "properties": dict.fromkeys(CALLABLES, kinds.FUNCTION.schema)}, _read_parameters)


def _read_target(value: Any, where: Where, problems: Problems) -> Any:
    found = kinds.NAME.read(value, where, problems)
    # Without a colon it may be the name of a policy that is made later.
    if found is BAD or not kinds.is_path(found) or targets._is_policy(found):
        return found
    try:
        imported(found)
        targets._resolved(found)  # what is called where it is looked up; not what `__getattr__` makes
    except ConfigurationError as error:
        # The import may have made a policy of that name.
        return found if targets._is_policy(found) else problems.add(where, str(error))
    return found


_TARGET = kinds.either((kinds.is_import, kinds.IMPORTED), (lambda _: True, Kind(kinds.NAME.schema, _read_target)))

FAULT = {
    "injection_type": Field(kinds.choice({one.value: one for one in ErrorInjectionType}), "What goes wrong.", REQUIRED),
    "target": Field(
        _TARGET,
        'Where: the name of a policy, the path of a function, or { import = "package.module:name" } for a FaultProxy '
        "that runs. Left out only with the parameters begin and end.",
    ),
    "injection_timing": Field(
        _TIMING,
        "When it begins, counted in seconds from the beginning of the fault phase; when names a predicate.",
        "immediate",
    ),
    "error_rate": Field(kinds.SHARE, "The share of calls that is hit.", 1.0),
    "during": Field(kinds.WINDOW, "Seconds from the beginning of the fault phase, [start, end]."),
    "max_count": Field(kinds.COUNT, "How many calls are hit at most."),
    "parameters": Field(_PARAMETERS, "The fault's own; callable, fn, begin and end are paths of functions.", {}),
    "seed": Field(kinds.SEED, "Decides which calls are hit. Left out: one is made, and shown."),
}
FAULT_KIND = table("One fault.", FAULT, ErrorInjectionConfig)


def _read_faults(value: Any, where: Where, problems: Problems) -> Any:
    if not isinstance(value, list):
        return FAULT_KIND.read(value, where, problems)
    if not value:
        return problems.add(where, "expected at least one table")
    found = [FAULT_KIND.read(one, (*where, number), problems) for number, one in enumerate(value)]
    return BAD if BAD in found else tuple(found)


FAULTS = Kind(
    {"anyOf": [{"$ref": "#/$defs/fault"}, {"type": "array", "items": {"$ref": "#/$defs/fault"}, "minItems": 1}]},
    _read_faults,
)
