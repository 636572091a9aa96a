"""`resilient plan status | history | approve | reject | cancel`: what the journal knows, and what is left in it."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from resilient.cli.plan_events import waiting_lines
from resilient.cli.plan_output import CommandError, width_of
from resilient.cli.plan_sources import journal_at, person
from resilient.cli.plan_text import WIDTH, command, document, history_lines, in_words, status_lines
from resilient.orchestrator import RecoveryOrchestrator
from resilient.orchestrator.engine import JournalEntry


def status(arguments: argparse.Namespace) -> int:
    """Show one execution."""
    with RecoveryOrchestrator(journal_at(arguments.journal)) as orchestrator:
        execution = orchestrator.get_execution_status(arguments.execution)
        if arguments.json:
            _print_json(document(execution))
            return 0
        width = width_of(sys.stdout) or WIDTH
        now = datetime.now(UTC)
        plan = orchestrator.plan_of(arguments.execution)
        lines = status_lines(plan, execution, now, width)
        entries = orchestrator.entries(arguments.execution)
        if execution.waiting_for:
            lines += ["", *waiting_lines(execution, entries, arguments.journal)]
        if not execution.status.ended:
            lines += ["", *(_left_behind(entries, arguments.journal) or _carried_out(entries))]
    _print(lines)
    return 0


def history(arguments: argparse.Namespace) -> int:
    """List executions."""
    with RecoveryOrchestrator(journal_at(arguments.journal)) as orchestrator:
        found = orchestrator.history(arguments.plan_id, limit=arguments.limit, before=arguments.before)
    if arguments.json:
        _print_json([document(one) for one in found])
        return 0
    if not found:
        _print(["no executions"])
        return 0
    _print(history_lines(found, datetime.now(UTC)))
    if len(found) == arguments.limit:
        words = ("history", *([arguments.plan_id] if arguments.plan_id else []), "--before", found[-1].execution_id)
        _print(["", f"older ones: {command(*words, journal=arguments.journal)}"])
    return 0


def approve(arguments: argparse.Namespace) -> int:
    """Let a step go on that waits for a decision."""
    return _decide(arguments, approved=True)


def reject(arguments: argparse.Namespace) -> int:
    """Refuse a step that waits for a decision."""
    return _decide(arguments, approved=False)


def _decide(arguments: argparse.Namespace, *, approved: bool) -> int:
    by = person(arguments.by)
    with RecoveryOrchestrator(journal_at(arguments.journal)) as orchestrator:
        decide = orchestrator.approve if approved else orchestrator.reject
        decide(arguments.execution, arguments.step, by=by, note=arguments.note)
        word = "approved" if approved else "rejected"
        left = _left_behind(orchestrator.entries(arguments.execution), arguments.journal)
    _print([f"{arguments.step} of {arguments.execution}: {word} by {by}", *left])
    return 0


def cancel(arguments: argparse.Namespace) -> int:
    """Ask for the end of an execution."""
    by = person(arguments.by)
    rollback = not arguments.no_rollback
    with RecoveryOrchestrator(journal_at(arguments.journal)) as orchestrator:
        # Asked first, so that an unknown id is told as such.
        execution = orchestrator.get_execution_status(arguments.execution)
        if not orchestrator.cancel_execution(arguments.execution, arguments.reason, by=by, rollback=rollback):
            execution = orchestrator.get_execution_status(arguments.execution)
            raise CommandError(f"{execution.execution_id} has ended already: {in_words(execution.status)}")
        left = _left_behind(orchestrator.entries(arguments.execution), arguments.journal)
    what = "and to undo what was done" if rollback else "and to leave what was done as it is"
    look = command("status", arguments.execution, journal=arguments.journal)
    _print([f"{arguments.execution}: asked to stop by {by}, {what}", *(left or [f"see {look}"])])
    return 0


def _holder(entries: Sequence[JournalEntry]) -> tuple[str, int] | None:
    """The machine and process that took it on last."""
    holders = [one.data["holder"] for one in entries if one.data.get("holder")]
    return (str(holders[-1][0]), int(holders[-1][1])) if holders else None


def _carried_out(entries: Sequence[JournalEntry]) -> list[str]:
    holder = _holder(entries)
    return [] if holder is None else [f"carried out by {holder[0]}, process {holder[1]}"]


def _left_behind(entries: Sequence[JournalEntry], journal: str) -> list[str]:
    """What to do where nobody carries it out any more, as far as can be told from here."""
    holder = _holder(entries)
    if holder is None or holder[0] != platform.node() or _is_alive(holder[1]):
        return []
    return [
        f"process {holder[1]}, which carried it out, is gone; go on with",
        f"  {command('resume', journal=journal)}",
    ]


def _is_alive(pid: int) -> bool:
    if os.name != "posix":
        return True  # a signal would end it there
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _print_json(value: object) -> None:
    _print([json.dumps(value, indent=2)])


def _print(lines: Sequence[str]) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
