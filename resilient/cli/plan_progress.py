"""How a recovery is shown while it goes on: a line for each event, or, on a terminal with rich, a table that lives."""

from __future__ import annotations

import importlib.util
import os
from typing import Protocol, TextIO

from resilient.cli.plan_events import answers, told, verdict
from resilient.cli.plan_output import Output, width_of
from resilient.cli.plan_text import INDENT, Look, plain, wrapped
from resilient.cli.plan_values import JOURNAL
from resilient.orchestrator import RecoveryEvent, RecoveryEventType, RecoveryExecution, RecoveryPlan


class Progress(Protocol):
    """Shows executions. Nothing that goes wrong with the output may stop a recovery, so nothing here raises."""

    def begin(self, execution_id: str, plan: RecoveryPlan) -> None:
        """An execution is followed from now on."""
        ...

    def event(self, event: RecoveryEvent) -> None:
        """Something has happened."""
        ...

    def tick(self, look: Look) -> None:
        """A moment has passed; `look` gives the picture of an execution."""
        ...

    def say(self, text: str) -> None:
        """Something is to be told apart from the events."""
        ...

    def end(self, execution: RecoveryExecution) -> None:
        """An execution has ended."""
        ...

    def close(self) -> None:
        """There is nothing more to come."""
        ...

    def leave(self) -> None:
        """The process ends at once; called in a thread of its own."""
        ...


class Lines:
    """A line for each event; where several executions go on, each line begins with its plan."""

    def __init__(self, out: TextIO, journal: str = JOURNAL) -> None:
        self._out = Output(out)
        self._width = width_of(out)
        self._journal = journal
        self._followed: set[str] = set()
        self._undoing: set[str] = set()

    def begin(self, execution_id: str, plan: RecoveryPlan) -> None:
        """See `Progress`."""
        self._followed.add(execution_id)
        self._out.write(f"execution {execution_id} of {plan.id}")

    def event(self, event: RecoveryEvent) -> None:
        """See `Progress`."""
        if event.event_type is RecoveryEventType.ROLLBACK_STARTED:
            self._undoing.add(event.execution_id)
        text = told(event, undoing=event.execution_id in self._undoing)
        if text:
            self._write(f"{event.elapsed:8.2f} s  {self._whose(event.plan_id)}{text}")
        if event.event_type is RecoveryEventType.APPROVAL_REQUESTED and event.step_id is not None:
            for typed in answers(event.execution_id, event.step_id, self._journal):
                # Never wrapped: it is there to be copied.
                self._out.write(f"{'':{INDENT}}{typed}")

    def tick(self, look: Look) -> None:
        """See `Progress`."""

    def say(self, text: str) -> None:
        """See `Progress`."""
        self._write(text)

    def end(self, execution: RecoveryExecution) -> None:
        """See `Progress`."""
        self._write(f"{self._whose(execution.plan_id)}{verdict(execution)}")

    def close(self) -> None:
        """See `Progress`."""

    def leave(self) -> None:
        """See `Progress`."""

    def _whose(self, plan_id: str) -> str:
        return f"{plain(plan_id)}: " if len(self._followed) > 1 else ""

    def _write(self, line: str) -> None:
        for one in [line] if self._width is None else wrapped(line, self._width, INDENT):
            self._out.write(one)


class Quiet(Lines):
    """Only what a person must know, on the side, while the standard output is kept for a document."""

    def event(self, event: RecoveryEvent) -> None:
        """See `Progress`."""
        if event.event_type is RecoveryEventType.APPROVAL_REQUESTED:
            super().event(event)

    def end(self, execution: RecoveryExecution) -> None:
        """See `Progress`."""


def progress_for(out: TextIO, journal: str) -> Progress:
    """What suits the reader: a live table on a terminal where rich is installed, lines everywhere else."""
    capable = width_of(out) is not None and os.environ.get("TERM", "") not in ("", "dumb", "unknown")
    if capable and importlib.util.find_spec("rich") is not None:
        from resilient.cli.plan_table import Table

        return Table(out, journal)
    return Lines(out, journal)
