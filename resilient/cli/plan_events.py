"""Events of a recovery, and its end, in a sentence each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from resilient.cli.plan_text import command, duration, in_words, moment, plain
from resilient.cli.plan_values import JOURNAL
from resilient.orchestrator import JournalEntry, RecoveryEvent, RecoveryExecution
from resilient.orchestrator import RecoveryEventType as Type

_PLAIN = {
    Type.EXECUTION_STARTED: "started",
    Type.EXECUTION_RESUMED: "taken over from a process that is gone",
    Type.STEP_ROLLED_BACK: "undone",
}
_QUESTIONS = {
    "approve": "waits for approval",
    "rerun": "was under way when its process died; approve runs it again, reject undoes it",
    "undo": "may have happened; approve leaves it as it is, reject undoes it",
}


def told(event: RecoveryEvent, *, undoing: bool = False) -> str:
    """What happened; empty for what another event, or the verdict, says as well. `undoing`: on the way back."""
    text = _told(event, undoing=undoing)
    return f"{event.step_id}: {text}" if text and event.step_id is not None else text


def _told(event: RecoveryEvent, *, undoing: bool) -> str:
    data = event.data
    match event.event_type:
        case Type.STEP_STARTED:
            return "" if "question" in data else "started"
        case Type.STEP_COMPLETED:
            return "" if "approved" in data else "completed"
        case Type.STEP_FAILED:
            return "" if "approved" in data else f"failed: {_error(data)}"
        case Type.STEP_RETRYING:
            what = "undoing, attempt" if undoing else "attempt"
            return f"{what} {data.get('attempt')} failed: {_error(data)}; again in {data.get('delay', 0.0):.3g} s"
        case Type.APPROVAL_REQUESTED:
            return _question(data)
        case Type.APPROVAL_GRANTED:
            return f"approved{_by_and_why(data, 'note')}"
        case Type.APPROVAL_REJECTED:
            return f"rejected{_by_and_why(data, 'note')}"
        case Type.CANCEL_REQUESTED:
            return f"cancelled{_by_and_why(data, 'reason')}"
        case Type.ROLLBACK_STARTED:
            targets = data.get("targets") or ()
            return f"to be undone: {', then '.join(targets)}" if targets else "there is nothing to undo"
        case Type.STEP_ROLLBACK_STARTED:
            return "being undone"
        case Type.STEP_ROLLBACK_FAILED:
            return f"could not be undone: {_error(data)}"
        case _:
            return _PLAIN.get(event.event_type, "")


def verdict(execution: RecoveryExecution) -> str:
    """How an execution ended, and why."""
    took = duration(execution.started_at, execution.completed_at)
    after = f" after {took}" if took else ""
    why = f": {plain(execution.error_message)}" if execution.error_message else ""
    return f"{in_words(execution.status)}{after}{why}"


def waiting_lines(execution: RecoveryExecution, entries: Iterable[JournalEntry], journal: str = JOURNAL) -> list[str]:
    """What an execution waits for, and what is to be typed to let it go on."""
    asked = {one.step_id: one.data for one in entries if one.what == "asked"}
    found = []
    for step_id in execution.waiting_for:
        found.append(f"{step_id}: {_question(asked.get(step_id, {}))}")
        found += [f"  {typed}" for typed in answers(execution.execution_id, step_id, journal)]
    return found


def answers(execution_id: str, step_id: str, journal: str = JOURNAL) -> list[str]:
    """The commands that decide about a step."""
    return [command(word, execution_id, step_id, journal=journal) for word in ("approve", "reject")]


def _question(data: Mapping[str, Any]) -> str:
    return f"{_QUESTIONS.get(str(data.get('question')), 'waits for a decision')}{_until(data)}"


def _error(data: Mapping[str, Any]) -> str:
    text = plain(str(data.get("error") or "for an unknown reason"))
    return f"{text} (nobody knows whether it happened)" if data.get("in_doubt") else text


def _until(data: Mapping[str, Any]) -> str:
    deadline = data.get("deadline_at")
    if not isinstance(deadline, (int, float)):
        return ""
    return f" until {moment(datetime.fromtimestamp(deadline, UTC))}"


def _by_and_why(data: Mapping[str, Any], key: str) -> str:
    by = f" by {plain(str(data['by']))}" if data.get("by") else ""
    why = f": {plain(str(data[key]))}" if data.get(key) else ""
    return by + why
