"""Where `resilient plan` gets things from: the journal, executors of the user's own, parameters, who is typing."""

from __future__ import annotations

import argparse
import getpass
import importlib
import os
import sys
from pathlib import Path
from typing import Any

from resilient.cli.plan_output import CommandError
from resilient.cli.plan_text import plain
from resilient.cli.plan_values import INVALID, parsed_json
from resilient.orchestrator import PlanInvalidError, RecoveryOrchestrator, RecoveryPlan, SqliteJournal
from resilient.orchestrator.files import load
from resilient.orchestrator.references import missing


def journal_at(path: str, *, create: bool = False) -> SqliteJournal:
    """The journal in this file; CommandError where there is none and none is to be made."""
    if not create and not os.path.lexists(path):
        raise CommandError(f"there is no journal {path}; --journal PATH says where it is")
    return SqliteJournal(path, create=create)


def register_executors(orchestrator: RecoveryOrchestrator, module: str | None) -> None:
    """Let the module given by --executors register what it has; CommandError where that cannot be done."""
    if module is None:
        return
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        register = getattr(importlib.import_module(module), "register", None)
    except ModuleNotFoundError as error:
        if error.name is not None and (module == error.name or module.startswith(f"{error.name}.")):
            raise _wrong(module, "there is no such module in this directory or among the installed packages") from None
        raise _wrong(module, f"cannot be imported: {error}") from error
    except (Exception, SystemExit) as error:
        raise _wrong(module, f"cannot be imported: {_named(error)}") from error
    if not callable(register):
        raise _wrong(module, "has no function register(orchestrator); it is called once, to register executors")
    try:
        register(orchestrator)
    except (Exception, SystemExit) as error:
        raise _wrong(module, f"its register(orchestrator) failed: {_named(error)}") from error


def _wrong(module: str, why: str) -> CommandError:
    return CommandError(f"--executors {module}: {why}", INVALID)


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {plain(str(error))}"


def loaded(file: str, orchestrator: RecoveryOrchestrator, executors: str | None) -> RecoveryPlan:
    """The plan in a file; PlanInvalidError, with all there is to say, unless everything that it needs is at hand."""
    registered = orchestrator.executors
    try:
        return load(file, registered.get, registered=registered)
    except PlanInvalidError as error:
        if executors is None and any("no executor" in one for one in error.problems):
            error.add_note("executors for types of your own come from --executors MODULE")
        raise


def parameters_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """The parameters given: those of the file, and in their place those given one by one."""
    given = {} if arguments.parameters is None else _read_parameters(arguments.parameters)
    return given | dict(arguments.parameter)


def _read_parameters(file: str) -> dict[str, Any]:
    where = "the standard input" if file == "-" else file
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text("utf-8-sig")
        found = parsed_json(text)
    except OSError as error:
        raise CommandError(f"--parameters {where}: cannot be read: {error.strerror or error}", INVALID) from None
    except (ValueError, RecursionError) as error:
        raise CommandError(f"--parameters {where}: is not JSON ({error})", INVALID) from None
    if not isinstance(found, dict):
        raise CommandError(f"--parameters {where}: expected an object of names and values", INVALID)
    return found


def require_parameters(plan: RecoveryPlan, given: dict[str, Any], file: str) -> None:
    """Raise PlanInvalidError where a parameter that the plan refers to is not given."""
    problems = [f"{Path(file).name}: {one}" for one in missing(plan, given)]
    if problems:
        error = PlanInvalidError(problems, f"{file} cannot be run")
        error.add_note("parameters are given with --parameter NAME=VALUE")
        raise error


def person(by: str | None) -> str:
    """Who decides: as given, or the login name."""
    if by is None:
        try:
            by = getpass.getuser()
        except (OSError, KeyError, ImportError):
            raise CommandError("this user has no login name; say who you are with --by NAME", INVALID) from None
    if not by.strip():
        raise CommandError("--by needs a name, not an empty text", INVALID)
    return by
