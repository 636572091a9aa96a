"""`resilient plan run | resume`: carries out plans in this process, and shows how it goes."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

from resilient.cli.plan_follow import Follower, Interrupts, follow
from resilient.cli.plan_output import tell
from resilient.cli.plan_progress import Progress, Quiet, progress_for
from resilient.cli.plan_sources import journal_at, loaded, parameters_of, register_executors, require_parameters
from resilient.cli.plan_text import command, document
from resilient.cli.plan_values import INVALID
from resilient.orchestrator import PlanInvalidError, RecoveryOrchestrator, RecoveryPlan, SqliteJournal
from resilient.orchestrator.dry_run import dry_run

_GLANCE = 0.5  # seconds between two attempts to take executions over


def run(arguments: argparse.Namespace) -> int:
    """Carry out a plan, or with --dry-run say what that would do."""
    given = parameters_of(arguments)
    if arguments.dry_run:
        return _foretell(given, arguments)
    plan = _sound(arguments)
    require_parameters(plan, given, arguments.file)
    progress = _progress(arguments)
    journal = journal_at(arguments.journal, create=True)
    with RecoveryOrchestrator(journal, lease=arguments.lease) as orchestrator:
        register_executors(orchestrator, arguments.executors)
        orchestrator.register_plan(loaded(arguments.file, orchestrator, arguments.executors))
        with (
            Follower(orchestrator, progress, arguments.journal) as follower,
            _interrupts(orchestrator, progress, arguments) as interrupts,
        ):
            follower.add(orchestrator.start_plan(plan.id, given))
            follow(follower, interrupts)
    if arguments.json:
        for execution in follower.ended:
            sys.stdout.write(f"{json.dumps(document(execution), indent=2)}\n")
    return follower.code


def _sound(arguments: argparse.Namespace) -> RecoveryPlan:
    """The plan as far as it can be judged without its executors, so that nothing is made for one that cannot work."""
    try:
        return RecoveryPlan.load(arguments.file)
    except PlanInvalidError:
        with RecoveryOrchestrator() as orchestrator:  # whatever they have to say comes with the rest
            register_executors(orchestrator, arguments.executors)
            return loaded(arguments.file, orchestrator, arguments.executors)


def _foretell(given: dict[str, Any], arguments: argparse.Namespace) -> int:
    with RecoveryOrchestrator() as orchestrator:
        register_executors(orchestrator, arguments.executors)
        plan = loaded(arguments.file, orchestrator, arguments.executors)
        foreseen = dry_run(plan, orchestrator.executors.get)
    text = json.dumps(foreseen.to_dict(), indent=2) if arguments.json else "\n".join(foreseen.lines())
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
    # Last: the picture is of use to somebody who does not know the parameters yet.
    require_parameters(plan, given, arguments.file)
    return 0


def resume(arguments: argparse.Namespace) -> int:
    """Bring to an end what dead processes have left behind."""
    progress = _progress(arguments)
    journal = journal_at(arguments.journal)
    with RecoveryOrchestrator(journal, lease=arguments.lease) as orchestrator:
        register_executors(orchestrator, arguments.executors)
        with (
            Follower(orchestrator, progress, arguments.journal) as follower,
            _interrupts(orchestrator, progress, arguments) as interrupts,
        ):
            takeover = _Takeover(orchestrator, journal, follower)
            patience = arguments.lease + 1.0 if arguments.wait is None else arguments.wait
            if takeover.try_once() and patience:
                progress.say(f"waiting up to {patience:g} s for {_listed(takeover.others())}")
            follow(follower, interrupts, takeover.until(time.monotonic() + patience))
        others = takeover.others()
    return _after_resuming(follower, takeover, others, arguments)


class _Takeover:
    """Takes over executions as soon as the leases of their dead processes have ended."""

    def __init__(self, orchestrator: RecoveryOrchestrator, journal: SqliteJournal, follower: Follower) -> None:
        self._orchestrator = orchestrator
        self._journal = journal
        self._follower = follower
        self.hindrances: list[str] = []

    def try_once(self) -> bool:
        """Take over what can be; whether others are left that may be taken over later."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            taken = self._orchestrator.resume_pending(wait=False)
        self.hindrances = [str(one.message) for one in caught if issubclass(one.category, RuntimeWarning)]
        for execution_id in taken:
            self._follower.add(execution_id)
            self._follower.tell_what_waits(execution_id)
        return bool(self.others()) and not self.hindrances

    def others(self) -> list[str]:
        """Executions that have not ended, and are not those of this process."""
        return [one.execution_id for one in self._journal.unfinished() if one.execution_id not in self._follower.open]

    def until(self, end: float) -> Callable[[], bool]:
        """Something to be called again and again, which tries now and then until `end`; False when that is over."""
        due = time.monotonic()

        def more_to_come() -> bool:
            nonlocal due
            now = time.monotonic()
            if due == math.inf or now < due:
                return due != math.inf
            due = now + _GLANCE if self.try_once() and now < end else math.inf
            return due != math.inf

        return more_to_come


def _after_resuming(follower: Follower, takeover: _Takeover, others: list[str], arguments: argparse.Namespace) -> int:
    """Say what was left alone, and why; the exit code."""
    for hindrance in takeover.hindrances:
        hint = "" if arguments.executors else "\n(executors of your own come from --executors MODULE)"
        tell(f"resilient plan resume: {hindrance}{hint}")
    if takeover.hindrances:
        return follower.code or INVALID
    if others:
        tell(f"left alone, as a living process has it, or its lease has not ended: {', '.join(others)}")
    elif not follower.ended and not follower.lost:
        tell("there is nothing to resume")
    return follower.code


def _listed(ids: list[str]) -> str:
    leases = "the lease" if len(ids) == 1 else "the leases"
    return f"{leases} of {', '.join(ids)} to end"


def _progress(arguments: argparse.Namespace) -> Progress:
    if arguments.action == "run" and arguments.json:
        return Quiet(sys.stderr, arguments.journal)
    return progress_for(sys.stdout, arguments.journal)


def _interrupts(orchestrator: RecoveryOrchestrator, progress: Progress, arguments: argparse.Namespace) -> Interrupts:
    more = ("--executors", arguments.executors) if arguments.executors else ()
    typed = command("resume", *more, journal=arguments.journal)

    def leave() -> None:
        progress.leave()
        # Its lease is ended, so that nobody has to wait for that.
        orchestrator.close(leaving=True)  # this process ends, and its threads with it

    return Interrupts(f"left at once, half-way; go on with\n  {typed}", leave)
