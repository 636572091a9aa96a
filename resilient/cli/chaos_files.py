"""`resilient chaos list | schema | import | export`: what can be done with scenarios without running them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from resilient.cli.chaos_command import INVALID, chosen
from resilient.cli.plan_output import CommandError, deliver, tell
from resilient.cli.plan_text import columns, plain
from resilient.strategies import parsing
from resilient.testing import scenarios
from resilient.testing.faults import Fault
from resilient.testing.files.loading import load_scenarios, scenario_schema
from resilient.testing.recovery.configs import FAULTS, ErrorInjectionConfig
from resilient.testing.recovery.scenario import RecoveryTestScenario

_EXTRAS = {"tomlkit": "orchestrator", "yaml": "config"}


def list_command(arguments: argparse.Namespace) -> int:
    """List the scenarios of a file, or what a file can name; ConfigurationError with everything wrong in it."""
    if arguments.file is None:
        return _list_known(arguments)
    found = [_listed(one) for one in load_scenarios(arguments.file)]
    if arguments.json:
        deliver(f"{json.dumps(found, indent=2)}\n", None)
        return 0
    rows = [(one["id"], "; ".join(one["faults"]), plain(one["name"])) for one in found]
    deliver("".join(f"{line}\n" for line in columns([("id", "faults", "name"), *rows])), None)
    return 0


def _list_known(arguments: argparse.Namespace) -> int:
    ready = {name: _said(getattr(scenarios, name)) for name in scenarios.__all__}
    faults = {kind.value: _said(made) for kind, made in FAULTS.items()}
    if arguments.json:
        deliver(f"{json.dumps({'ready': ready, 'faults': faults}, indent=2)}\n", None)
        return 0
    lines = [*columns([("ready scenario", "what for"), *ready.items()]), ""]
    lines += columns([("fault", "what happens"), *faults.items()])
    deliver("".join(f"{line}\n" for line in lines), None)
    return 0


def _said(documented: Any) -> str:
    return (documented.__doc__ or "").strip().partition("\n")[0]


def _listed(scenario: RecoveryTestScenario) -> dict[str, Any]:
    return {
        "id": scenario.id,
        "name": scenario.name,
        "description": scenario.description,
        "faults": [_fault(one) for one in scenario.injections],
        "timeout": scenario.timeout,
    }


def _fault(config: ErrorInjectionConfig) -> str:
    kind = config.injection_type
    text = kind.label if isinstance(kind, Fault) else kind.value
    target = config.target
    if target is None:
        return text
    return f"{text} on {target if isinstance(target, str) else getattr(target, '__qualname__', type(target).__name__)}"


def schema_command(arguments: argparse.Namespace) -> int:
    """Print the JSON Schema of a scenario file."""
    deliver(f"{json.dumps(scenario_schema(), indent=2)}\n", arguments.output)
    return 0


def import_command(arguments: argparse.Namespace) -> int:
    """Turn an experiment into a file of one scenario, and tell what it lacks."""
    from resilient.testing.chaostoolkit import import_experiment

    source, notes = import_experiment(arguments.file)
    _write({"scenarios": [source]}, arguments.output)
    for note in notes:
        tell(f"not carried over as it was: {plain(note)}")
    return 0


def export_command(arguments: argparse.Namespace) -> int:
    """Turn a scenario into an experiment."""
    from resilient.testing.chaostoolkit import export_experiment

    ids = [] if arguments.id is None else [arguments.id]
    scenarios = chosen(load_scenarios(arguments.file), ids, arguments.file)
    if len(scenarios) > 1:
        known = ", ".join(one.id for one in scenarios)
        raise CommandError(f"{arguments.file} has several scenarios; name one of {known}", INVALID)
    if arguments.output is not None and Path(arguments.output).suffix.lower() == ".toml":
        raise CommandError(f"--output {arguments.output}: Chaos Toolkit reads .json, .yaml and .yml", INVALID)
    _write(export_experiment(scenarios[0]), arguments.output)
    return 0


def _write(data: dict[str, Any], output: str | None) -> None:
    """Write a document in the format of its file; CommandError where that cannot hold it."""
    suffix = ".json" if output is None else Path(output).suffix.lower()
    if suffix not in _WRITERS:
        raise CommandError(f"--output {output}: must end in {', '.join(_WRITERS)}", INVALID)
    try:
        text = _WRITERS[suffix](data)
        same = parsing.PARSERS[suffix](text) == data
    except ImportError as error:
        extra = _EXTRAS.get(error.name or "", "all")
        missing = f"writing {suffix} needs {error.name}, which is not installed"
        raise CommandError(f"{missing}: pip install resilient-toolkit[{extra}]") from None
    # What the writers say is left out, as it shows values.
    except (ValueError, TypeError, RecursionError):
        same, text = False, ""
    if not same:
        raise CommandError(f"{suffix} cannot hold this unchanged; write .json")
    deliver(text, output)


def _json(data: dict[str, Any]) -> str:
    return f"{json.dumps(data, indent=2, ensure_ascii=False)}\n"


def _yaml(data: dict[str, Any]) -> str:
    text: str = import_module("yaml").safe_dump(data, sort_keys=False, allow_unicode=True)
    return text


def _toml(data: dict[str, Any]) -> str:
    text: str = import_module("tomlkit").dumps(data)
    return text


_WRITERS: dict[str, Callable[[dict[str, Any]], str]] = {".toml": _toml, ".json": _json, ".yaml": _yaml, ".yml": _yaml}
