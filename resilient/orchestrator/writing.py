"""Writing plans to files: rendered, read back, and put in the place of the old file in one step."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from resilient._files import replace
from resilient.orchestrator.files import EXTRA, as_dict, unusable
from resilient.orchestrator.model import RecoveryPlan
from resilient.orchestrator.references import Where, children
from resilient.orchestrator.rules import Problem
from resilient.orchestrator.validation import check, refuse
from resilient.strategies import parsing

# pyyaml writes these as they are, and takes them for something else as it reads.
_YAML_BREAKS = "\x85\u2028\u2029\ufeff"


def dump(plan: RecoveryPlan, path: str | os.PathLike[str]) -> None:
    """Write a plan to a file that `load` reads; the suffix says the format. The file is replaced in one step.

    What has its default is left out; tuples become lists, and durations numbers of seconds. Writing TOML needs
    tomlkit, YAML pyyaml. Raises PlanInvalidError where the plan is invalid or has values that no such file can hold,
    and OSError where the file cannot be written.
    """
    file = Path(path)
    write = _WRITERS.get(file.suffix.lower())
    if write is None:
        raise unusable(file, f"must end in {', '.join(_WRITERS)}, to say which format it is")
    check(plan)
    data = as_dict(plan)
    if write is _toml:
        text = "expected a value, got None, which TOML has not; write .yaml or .json"
        refuse([Problem(where, text) for where in _nulls(data, ())], f"plan {plan.id!r}")
    try:
        text = write(data)
        content = text.encode()
        same = parsing.PARSERS[file.suffix.lower()](text) == data
    except ImportError as error:
        raise unusable(file, f"writing it needs {error.name}, which is not installed: {EXTRA}") from None
    # Messages of the writers are left out, as they show values.
    except (ValueError, RecursionError, TypeError) as error:
        raise unusable(file, f"cannot hold this plan ({type(error).__name__}); write another format") from None
    if not same:
        raise unusable(file, "cannot hold this plan unchanged; write another format")
    replace(Path(os.path.realpath(file)), content)


def _json(data: dict[str, Any]) -> str:
    return f"{json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)}\n"


def _yaml(data: dict[str, Any]) -> str:
    yaml = import_module("yaml")
    text: str = yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
    if any(one in text for one in _YAML_BREAKS):
        text = yaml.safe_dump(data, sort_keys=False)
    return text


def _toml(data: dict[str, Any]) -> str:
    text: str = import_module("tomlkit").dumps(data)
    return text


def _nulls(value: Any, where: Where) -> list[Where]:
    if value is None:
        return [where]
    return [null for key, one in children(value) or () for null in _nulls(one, (*where, key))]


_WRITERS: dict[str, Callable[[dict[str, Any]], str]] = {".toml": _toml, ".json": _json, ".yaml": _yaml, ".yml": _yaml}
