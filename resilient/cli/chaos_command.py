"""`resilient chaos ...`: runs one command of the group, and turns what is expected to go wrong into a sentence."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from resilient.cli.plan_output import CommandError, sentence, show_anything, tell
from resilient.errors import ConfigurationError, ResilienceError

if TYPE_CHECKING:
    from resilient.testing import RecoveryTestScenario

#: The exit code for wrong arguments and invalid files.
INVALID = 2

_MODULES = {
    "chaos_run": ("run",),
    "chaos_replay": ("replay",),
    "chaos_files": ("list", "schema", "import", "export"),
}


def run_chaos(arguments: argparse.Namespace) -> int:
    """Run the chosen command and return its exit code."""
    show_anything()
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # for the code that scenarios name
    action: str = arguments.action
    try:
        return _command(action)(arguments)
    except (ResilienceError, CommandError) as error:
        tell(f"resilient chaos {action}: {sentence(error)}")
        if isinstance(error, CommandError):
            return error.code
        return INVALID if isinstance(error, ConfigurationError) else 1


def _command(action: str) -> Callable[[argparse.Namespace], int]:
    module = next(name for name, actions in _MODULES.items() if action in actions)
    found: Callable[[argparse.Namespace], int] = getattr(import_module(f"resilient.cli.{module}"), f"{action}_command")
    return found


def chosen(scenarios: Sequence[RecoveryTestScenario], ids: Sequence[str], file: str) -> list[RecoveryTestScenario]:
    """The scenarios with these ids, in their order, or all; CommandError for an id that is not there."""
    known = {one.id: one for one in scenarios}
    refuse_unknown(ids, known, file)
    return [known[one] for one in dict.fromkeys(ids)] if ids else list(scenarios)


def refuse_unknown(ids: Sequence[str], known: Sequence[str] | dict[str, RecoveryTestScenario], file: str) -> None:
    """Raise CommandError for ids that are not known."""
    strange = [one for one in ids if one not in known]
    if strange:
        names = ", ".join(map(repr, strange))
        raise CommandError(f"{file} has no scenario {names}; it has: {', '.join(known) or 'none'}", INVALID)


def check_environment(allowed: bool) -> None:
    """Raise CommandError where the environment says production, unless that is allowed."""
    from resilient.testing.guard import VARIABLE, InjectionRefusedError, check_allowed

    try:
        check_allowed(allowed)
    except InjectionRefusedError:
        remedy = "say --allow-in-production if you mean it"
        raise CommandError(f"{VARIABLE}=production: no faults are injected here; {remedy}") from None
