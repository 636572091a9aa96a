"""`resilient plan ...`: runs one command of the group, and turns what is expected to go wrong into a sentence."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib import import_module

from resilient.cli.plan_output import CommandError, sentence, show_anything, tell
from resilient.cli.plan_text import command
from resilient.cli.plan_values import INVALID
from resilient.orchestrator import PlanInvalidError, PlanLockedError, RecoveryError

_MODULES = {
    "plan_files": ("validate", "graph", "schema"),
    "plan_run": ("run", "resume"),
    "plan_journal": ("status", "history", "approve", "reject", "cancel"),
}


def run_plan(arguments: argparse.Namespace) -> int:
    """Run the chosen command and return its exit code."""
    show_anything()
    action: str = arguments.action
    try:
        return _command(action)(arguments)
    except (RecoveryError, CommandError) as error:
        if isinstance(error, PlanLockedError):
            error.add_note(f"if that process is gone: {command('resume', journal=arguments.journal)}")
        tell(f"resilient plan {action}: {sentence(error)}")
        if isinstance(error, CommandError):
            return error.code
        return INVALID if isinstance(error, PlanInvalidError) else 1


def _command(action: str) -> Callable[[argparse.Namespace], int]:
    module = next(name for name, actions in _MODULES.items() if action in actions)
    found: Callable[[argparse.Namespace], int] = getattr(import_module(f"resilient.cli.{module}"), action)
    return found
