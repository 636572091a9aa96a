"""Executions as text: from pictures of them to lines, and nothing else, so that each piece can be tested alone."""

from __future__ import annotations

import json
import re
import shlex
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from resilient.cli.plan_values import JOURNAL
from resilient.orchestrator import ExecutionStatus, RecoveryExecution, RecoveryPlan, RecoveryStep, StepResult

WIDTH = 80
INDENT = 12  # columns before what goes on from the line above
_LONGEST_OUTPUT = 200
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")


#: Gives the picture of an execution.
Look = Callable[[str], RecoveryExecution]


class Row(NamedTuple):
    """One step in a table: its cells, and what is to be said below them."""

    step_id: str
    status: str
    attempts: str
    took: str
    notes: tuple[str, ...]


def rows(plan: RecoveryPlan, execution: RecoveryExecution, now: datetime) -> list[Row]:
    """The steps of a plan, in its order, and how far each has come at `now`."""
    return [_row(step, execution, now) for step in plan.steps]


def _row(step: RecoveryStep, execution: RecoveryExecution, now: datetime) -> Row:
    result = execution.step_results.get(step.id)
    if result is None:
        return Row(step.id, "not begun" if execution.status.ended else "", "", "", ())
    most = step.retry_policy.max_attempts
    attempts = "" if step.is_approval else f"{result.attempts}/{most}"
    end = result.completed_at or (None if execution.status.ended else now)
    took = duration(result.started_at, end)
    return Row(step.id, in_words(result.status), attempts, took, tuple(_notes(step, result)))


def _notes(step: RecoveryStep, result: StepResult) -> Iterator[str]:
    if result.error_message and result.status is not ExecutionStatus.COMPLETED:
        yield f"error: {plain(result.error_message)}"
    if result.in_doubt:
        yield "in doubt: nobody knows whether it happened"
    decided = result.output if step.is_approval and isinstance(result.output, Mapping) else None
    if decided is not None:
        note = f": {plain(str(decided['note']))}" if decided.get("note") else ""
        yield f"approved by {plain(str(decided.get('by')))} at {_at(decided.get('at'))}{note}"
    if result.rollback_error is not None:
        yield f"not undone, {_times(result.rollback_attempts)}: {plain(result.rollback_error)}"
    elif result.status is ExecutionStatus.ROLLED_BACK:
        by = f" by {step.rollback_step_id}" if step.rollback_step_id else ""
        yield f"undone{by} at {moment(result.rollback_completed_at)}"


def _times(attempts: int) -> str:
    return "1 attempt" if attempts == 1 else f"{attempts} attempts"


def status_lines(plan: RecoveryPlan, execution: RecoveryExecution, now: datetime, width: int = WIDTH) -> list[str]:
    """Everything about one execution."""
    lines = [
        f"execution {execution.execution_id}",
        f"  plan     {titled(plan)}",
        f"  status   {in_words(execution.status)}",
    ]
    if execution.started_at is not None:
        lines.append(f"  started  {moment(execution.started_at)}")
    if execution.completed_at is not None:
        took = duration(execution.started_at, execution.completed_at)
        lines.append(f"  ended    {moment(execution.completed_at)}, after {took}")
    if execution.trigger:
        lines.append(f"  trigger  the circuit breaker {plain(execution.trigger)} opened")
    if execution.parameters:
        lines += wrapped(f"  given    {', '.join(sorted(map(plain, execution.parameters)))}", width, indent=11)
    if execution.error_message:
        lines += wrapped(f"  error    {plain(execution.error_message)}", width, indent=11)
    outputs = {key: one.output for key, one in execution.step_results.items() if not plan.step(key).is_approval}
    return [*lines, "", *table(rows(plan, execution, now), width, outputs)]


def table(steps: Sequence[Row], width: int = WIDTH, outputs: Mapping[str, Any] | None = None) -> list[str]:
    """Rows below one another, with what is to be said about each."""
    lines = columns([("step", "status", "attempts", "took"), *(one[:4] for one in steps)])
    found = lines[:1]
    for one, line in zip(steps, lines[1:], strict=True):
        found.append(line)
        notes = list(one.notes)
        output = (outputs or {}).get(one.step_id)
        if output is not None:
            notes.append(f"output: {shortened(json.dumps(output, ensure_ascii=False), _LONGEST_OUTPUT)}")
        for note in notes:
            found += wrapped(f"    {note}", width, indent=6)
    return found


def history_lines(executions: Iterable[RecoveryExecution], now: datetime) -> list[str]:
    """One line for each execution."""
    cells = [("execution", "plan", "status", "started (UTC)", "took")]
    for one in executions:
        took = duration(one.started_at, one.completed_at or now)
        started = "" if one.started_at is None else one.started_at.strftime("%Y-%m-%d %H:%M:%S")
        cells.append((one.execution_id, one.plan_id, in_words(one.status), started, took))
    return columns(cells)


def columns(cells: Sequence[Sequence[str]]) -> list[str]:
    """Cells aligned below one another, two blanks between them."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(cell.ljust(size) for cell, size in zip(row, widths, strict=True)).rstrip() for row in cells]


def command(*words: str, journal: str = JOURNAL) -> str:
    """A command of `resilient plan` as it is to be typed."""
    more = () if journal == JOURNAL else ("--journal", journal)
    return shlex.join(["resilient", "plan", *words, *more])


def document(execution: RecoveryExecution) -> dict[str, Any]:
    """An execution as JSON-ready values; of its parameters only the names, as the values may be secrets."""
    found = execution.to_dict()
    found["parameters"] = sorted(found["parameters"])
    return found


def titled(plan: RecoveryPlan) -> str:
    """A plan's id, and its name where that says more."""
    return plan.id if plan.name in ("", plan.id) else f"{plan.id} ({plain(plan.name)})"


def in_words(status: ExecutionStatus) -> str:
    """A status as people say it."""
    return status.value.replace("_", " ")


def moment(at: datetime | None) -> str:
    """A time of day."""
    return "an unknown time" if at is None else f"{at:%Y-%m-%d %H:%M:%S} UTC"


def _at(text: Any) -> str:
    return moment(datetime.fromisoformat(text)) if isinstance(text, str) else moment(None)


def duration(start: datetime | None, end: datetime | None) -> str:
    """How long it took from one time to another."""
    return "" if start is None or end is None else spent((end - start).total_seconds())


def spent(seconds: float) -> str:
    """A number of seconds, as exactly as people want to know it."""
    seconds = max(0.0, seconds)
    if seconds < 60:
        return f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def plain(text: str) -> str:
    """Text of somebody else on one line, without what would move the cursor or change colours of a terminal."""
    text = _ESCAPES.sub("", text)
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())


def shortened(text: str, longest: int) -> str:
    """Text of at most so many characters."""
    text = plain(text)
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def wrapped(line: str, width: int = WIDTH, indent: int = 4) -> list[str]:
    """A line broken at blanks, where it has any; what follows is indented."""
    return textwrap.wrap(
        line,
        max(width, 40),
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
    )
