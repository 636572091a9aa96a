"""Ready scenarios in files: their options, and the scenario that one of `resilient.testing.scenarios` makes of them."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from resilient.errors import ConfigurationError
from resilient.testing.files import kinds as kinds
from resilient.testing.files.faults import FAULT_KIND
from resilient.testing.files.kinds import Kind, Problems, Where
from resilient.testing.recovery.configs import ErrorInjectionType
from resilient.testing.recovery.scenario import RecoveryTestScenario

#: The functions of `resilient.testing.scenarios`, which make a scenario for a function.
READY = (
    *("retry_absorbs_transient_faults", "breaker_opens_and_recovers", "retry_storm_bounded", "bulkhead_isolates"),
    *("timeout_bounds_tail", "degrade_serves_stale", "orchestrator_recovers"),
)

#: Options that are code, so that a text is the path of it.
_CODE = ("bystander", "kill", "orchestrator")
#: Options that are keys of the scenario beside them.
_BESIDE = ("id", "weight")


def _read_options(value: Any, where: Where, problems: Problems) -> Any:
    if not isinstance(value, Mapping):
        return problems.strange(where, "a table", value)
    return {name: _read_option(name, one, (*where, name), problems) for name, one in value.items()}


def _read_option(name: str, value: Any, where: Where, problems: Problems) -> Any:
    if kinds.is_import(value):
        return kinds.IMPORTED.read(value, where, problems)
    if name in _CODE and isinstance(value, str) and ":" in value:
        return kinds.CODE.read(value, where, problems)
    if name == "fault":
        kind = FAULT_KIND if isinstance(value, Mapping) else _FAULT_WORD
        return kind.read(value, where, problems)
    if name == "virtual_time" and value == "auto":
        return None
    return tuple(value) if name == "args" and isinstance(value, list) else value


_FAULT_WORD = kinds.choice({one.value: one for one in ErrorInjectionType})
OPTIONS = Kind({"type": "object"}, _read_options)


def ready_scenario(
    *, ready: str, function: Any = None, options: Mapping[str, Any] | None = None, **titles: Any
) -> RecoveryTestScenario:
    """The scenario that the function `ready` makes for a function; ConfigurationError where it objects."""
    make = getattr(import_module("resilient.testing.scenarios"), ready)
    given = dict(options or {})
    _refuse_unknown(ready, make, given)
    if function is None:
        raise ConfigurationError(f'{ready} needs a function, function = "package.module:name"')
    found: RecoveryTestScenario = make(function, **given)
    return dataclasses.replace(found, **titles)


def _refuse_unknown(ready: str, make: Callable[..., Any], given: Mapping[str, Any]) -> None:
    common = import_module("resilient.testing.scenarios.settings").Options.__annotations__
    parameters = inspect.signature(make).parameters.values()
    own = [one.name for one in parameters if one.kind is inspect.Parameter.KEYWORD_ONLY]
    known = [one for one in (*own, *common) if one not in _BESIDE]
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            guess = f"did you mean {near[0]}? " if near else ""
            raise ConfigurationError(f"options of {ready}: unknown key {name}; {guess}allowed: {', '.join(known)}")
