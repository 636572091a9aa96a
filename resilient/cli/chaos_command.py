"""`resilient chaos ...`: runs one command of the group, and turns what is expected to go wrong into a sentence."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from types import FrameType
from typing import TYPE_CHECKING

from resilient.cli.codes import INTERRUPTED
from resilient.cli.plan_output import CommandError, sentence, show_anything, tell
from resilient.cli.plan_text import plain
from resilient.errors import ConfigurationError, ResilienceError

if TYPE_CHECKING:
    from resilient.testing import RecoveryTestScenario

#: The threads of a scenario in which functions of the user's begin and end faults, and what they get to finish in.
_DIRECTOR, _PATIENCE = "resilient-director", 30.0

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
    with suppress(FileNotFoundError):  # it may have been deleted, and an absolute path needs none
        if os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())  # for the code that scenarios name
    with _stoppable() as signals:
        try:
            return _run(arguments)
        except KeyboardInterrupt as error:
            is_cut = _is_cut(error)
            if not is_cut and not signals:
                raise
            by = signals[0].name if signals else "Ctrl-C"
            cut = "while a fault was begun or ended; what does that was cut, and may have left something"
            more = f" {cut}" if is_cut else ", nothing is left running"
            tell(f"resilient chaos {arguments.action}: stopped by {by}{more}")
            return 128 + signals[0] if signals else INTERRUPTED


def _run(arguments: argparse.Namespace) -> int:
    action: str = arguments.action
    try:
        return _command(action)(arguments)
    except (ResilienceError, CommandError) as error:
        tell(f"resilient chaos {action}: {sentence(error)}")
        if isinstance(error, CommandError):
            return error.code
        return INVALID if isinstance(error, ConfigurationError) else 1


@contextmanager
def _stoppable() -> Iterator[list[signal.Signals]]:
    """Let what ends a process, or closes its terminal, stop it as Ctrl-C does; gives the list of those that came."""
    came: list[signal.Signals] = []

    def stop(number: int, frame: FrameType | None) -> None:
        came.append(signal.Signals(number))
        # Whoever handles Ctrl-C now, such as an event loop; in the background of a shell nobody does.
        handler = signal.getsignal(signal.SIGINT)
        (handler if callable(handler) else signal.default_int_handler)(signal.SIGINT, frame)

    before = {}
    if threading.current_thread() is threading.main_thread():
        numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
        # One that is ignored (nohup), or has a handler, is somebody else's.
        before = {one: signal.signal(one, stop) for one in numbers if signal.getsignal(one) is signal.SIG_DFL}
    try:
        yield came
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _is_cut(stop: KeyboardInterrupt) -> bool:
    """Whether Ctrl-C has cut what begins or ends a fault; waits for what still does."""
    if isinstance(stop.__context__, KeyboardInterrupt):  # the second, while the first had the faults ended
        return True
    directors = [one for one in threading.enumerate() if one.name == _DIRECTOR]
    try:
        if directors:
            tell(f"waiting {_PATIENCE:g} s at most for what begins or ends a fault; Ctrl-C again cuts it")
        end = time.monotonic() + _PATIENCE
        for one in directors:
            one.join(max(0.0, end - time.monotonic()))
    except KeyboardInterrupt:
        return True
    return any(one.is_alive() for one in directors)


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
        # The ids of a report are somebody else's text.
        raise CommandError(f"{file} has no scenario {names}; it has: {plain(', '.join(known)) or 'none'}", INVALID)


def check_environment(allowed: bool) -> None:
    """Raise CommandError where the environment says production, unless that is allowed."""
    from resilient.testing.guard import VARIABLE, InjectionRefusedError, check_allowed

    try:
        check_allowed(allowed)
    except InjectionRefusedError:
        remedy = "say --allow-in-production if you mean it"
        raise CommandError(f"{VARIABLE}=production: no faults are injected here; {remedy}") from None
