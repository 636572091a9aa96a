"""A table of steps that is drawn again and again while a recovery goes on. Needs rich."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table as Grid
from rich.text import Text

from resilient.cli.plan_events import answers, told, verdict
from resilient.cli.plan_text import INDENT, Look, in_words, rows, titled, wrapped
from resilient.cli.plan_values import JOURNAL
from resilient.orchestrator import ExecutionStatus, RecoveryEvent, RecoveryEventType, RecoveryExecution, RecoveryPlan

_EVERY = 0.25  # seconds between two drawings when nothing happens
_GLANCE = 1.0  # seconds between two looks at the journal without an event
_STYLES = {
    ExecutionStatus.RUNNING: "blue",
    ExecutionStatus.WAITING_APPROVAL: "yellow",
    ExecutionStatus.COMPLETED: "green",
    ExecutionStatus.FAILED: "red",
    ExecutionStatus.CANCELLED: "dim",
    ExecutionStatus.ROLLING_BACK: "magenta",
    ExecutionStatus.ROLLED_BACK: "magenta",
    ExecutionStatus.ROLLBACK_FAILED: "bold red",
}
_BY_WORDS = {in_words(status): style for status, style in _STYLES.items()}
#: What is worth a line above the table, which shows the rest.
_REMARKABLE = (
    RecoveryEventType.EXECUTION_RESUMED,
    RecoveryEventType.STEP_RETRYING,
    RecoveryEventType.APPROVAL_REQUESTED,
    RecoveryEventType.APPROVAL_GRANTED,
    RecoveryEventType.APPROVAL_REJECTED,
    RecoveryEventType.CANCEL_REQUESTED,
    RecoveryEventType.ROLLBACK_STARTED,
)


class Table:
    """One table for each execution, below what is said apart from it."""

    def __init__(self, out: TextIO, journal: str = JOURNAL) -> None:
        self._console = Console(file=out, highlight=False, markup=False, emoji=False)
        self._out = out
        self._journal = journal
        self._plans: dict[str, RecoveryPlan] = {}
        self._pictures: dict[str, RecoveryExecution] = {}
        self._undoing: set[str] = set()
        self._changed: set[str] = set()
        self._looked = self._drawn = 0.0
        # Drawn by hand: a thread that draws would have to be stopped before a second Ctrl-C may leave.
        self._live = Live(console=self._console, auto_refresh=False)
        self._closed = False

    def begin(self, execution_id: str, plan: RecoveryPlan) -> None:
        """See `Progress`."""
        self._plans[execution_id] = plan
        self._changed.add(execution_id)
        self.say(f"execution {execution_id} of {titled(plan)}")

    def event(self, event: RecoveryEvent) -> None:
        """See `Progress`."""
        self._changed.add(event.execution_id)
        if event.event_type is RecoveryEventType.ROLLBACK_STARTED:
            self._undoing.add(event.execution_id)
        if event.event_type not in _REMARKABLE:
            return
        self.say(f"{event.elapsed:8.2f} s  {told(event, undoing=event.execution_id in self._undoing)}")
        if event.event_type is RecoveryEventType.APPROVAL_REQUESTED and event.step_id is not None:
            for typed in answers(event.execution_id, event.step_id, self._journal):
                with self._careful():
                    # Never wrapped: it is there to be copied.
                    self._console.print(Text(f"{'':{INDENT}}{typed}", "bold"), soft_wrap=True)

    def tick(self, look: Look) -> None:
        """See `Progress`."""
        now = time.monotonic()
        if self._closed or (not self._changed and now - self._drawn < _EVERY):
            return
        self._drawn = now
        if now - self._looked >= _GLANCE:
            self._looked = now
            self._changed |= {key for key in self._plans if not self._has_ended(key)}
        for execution_id in self._changed & self._plans.keys():
            self._pictures[execution_id] = look(execution_id)
        self._changed.clear()
        self._draw()

    def say(self, text: str) -> None:
        """See `Progress`."""
        with self._careful():
            self._print(text)

    def end(self, execution: RecoveryExecution) -> None:
        """See `Progress`."""
        self._pictures[execution.execution_id] = execution
        self._draw()

    def close(self) -> None:
        """See `Progress`."""
        if self._closed:
            return
        self._closed = True
        with self._careful():
            self._live.vertical_overflow = "visible"
            self._live.stop()
        for execution in self._pictures.values():
            if execution.status.ended:
                with self._careful():
                    self._console.print()
                    self._print(f"{self._whose(execution)}{verdict(execution)}", _STYLES.get(execution.status, ""))

    def leave(self) -> None:
        """See `Progress`: the terminal gets its cursor back."""
        with self._careful():
            os.write(self._out.fileno(), b"\x1b[?25h\n")

    def _draw(self) -> None:
        with self._careful():
            if not self._live.is_started:
                self._live.start()
            self._live.update(Group(*self._parts()), refresh=True)

    def _parts(self) -> Iterator[RenderableType]:
        for key, execution in self._pictures.items():
            yield Text(self._whose(execution))
            yield self._grid(self._plans[key], execution)

    def _whose(self, execution: RecoveryExecution) -> str:
        return f"{execution.plan_id}: " if len(self._plans) > 1 else ""

    def _print(self, text: str, style: str = "") -> None:
        self._console.print(Text("\n".join(wrapped(text, self._console.width, INDENT)), style))

    def _grid(self, plan: RecoveryPlan, execution: RecoveryExecution) -> Grid:
        grid = Grid(box=None, padding=(0, 2, 0, 0), show_edge=False)
        for heading in ("step", "status", "attempts", "took"):
            grid.add_column(heading, no_wrap=heading != "step", overflow="fold", header_style="dim")
        grid.add_column("", overflow="fold", ratio=1)
        for one in rows(plan, execution, datetime.now(UTC)):
            style = _BY_WORDS.get(one.status, "dim")
            cells = (one.step_id, one.status, one.attempts, one.took, "\n".join(one.notes))
            grid.add_row(*(Text(cell, style if number == 1 else "") for number, cell in enumerate(cells)))
        return grid

    def _has_ended(self, execution_id: str) -> bool:
        picture = self._pictures.get(execution_id)
        return picture is not None and picture.status.ended

    @contextmanager
    def _careful(self) -> Iterator[None]:
        """A terminal that has gone away must not stop a recovery."""
        try:
            yield
        except (OSError, ValueError):
            self._closed = True
