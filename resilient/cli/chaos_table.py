"""Scenarios as a table that lives, on a terminal with rich."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table as Grid
from rich.text import Text

from resilient.cli.chaos_progress import Lines
from resilient.cli.plan_text import plain
from resilient.testing.recovery.result import RecoveryTestResult, TestStatus
from resilient.testing.recovery.scenario import RecoveryTestScenario

_STYLES = {
    TestStatus.PASSED.value: "green",
    TestStatus.FAILED.value: "red",
    TestStatus.TIMEOUT.value: "red",
    TestStatus.INCONCLUSIVE.value: "yellow",
    "could not be run": "bold red",
    "running": "blue",
}


class Table:
    """A row for each scenario; below, when all have ended, what did not pass, in full."""

    def __init__(self, out: TextIO, scenarios: Sequence[RecoveryTestScenario]) -> None:
        self._console = Console(file=out, highlight=False, markup=False, emoji=False)
        self._out = out
        self._rows = {one.id: ["", "", "", ""] for one in scenarios}
        self._counts: Counter[tuple[str, bool]] = Counter()
        self._results: list[RecoveryTestResult] = []
        self._broken: list[tuple[RecoveryTestScenario, str]] = []
        self._lock = threading.Lock()
        # Drawn between scenarios, by hand: a thread that draws would take its time from those that measure.
        self._live = Live(console=self._console, auto_refresh=False)
        self._gone = False

    def begin(self, scenario: RecoveryTestScenario) -> None:
        """See `Progress`."""
        self._rows[scenario.id][0] = "running"
        self._draw()

    def operation(self, scenario_id: str, ok: bool) -> None:
        """See `Progress`."""
        # Not drawn: this is the thread that measures, and the next operation would begin when the table is drawn.
        with self._lock:
            self._counts[scenario_id, ok] += 1

    def end(self, result: RecoveryTestResult) -> None:
        """See `Progress`."""
        self._results.append(result)
        took = "" if result.recovery_time is None else f"{result.recovery_time:.3g} s"
        calls = sum(one.calls for one in result.faults)
        hits = f"{result.fired} of {calls}"
        self._rows[result.scenario_id] = [result.status.value, hits, took, f"{result.score:.0f}"]
        self._draw()

    def broken(self, scenario: RecoveryTestScenario, why: str) -> None:
        """See `Progress`."""
        self._broken.append((scenario, why))
        self._rows[scenario.id][0] = "could not be run"
        self._draw()

    def close(self) -> None:
        """See `Progress`."""
        with self._careful():
            self._live.vertical_overflow = "visible"
            self._live.stop()
        lines = Lines(self._out)
        for scenario, why in self._broken:
            lines.broken(scenario, why)
        for result in self._results:
            if not result.passed:
                lines.write("")
                lines.end(result)

    def _draw(self) -> None:
        with self._lock, self._careful():
            if self._gone:
                return
            if not self._live.is_started:
                self._live.start()
            self._live.update(self._grid(), refresh=True)

    def _grid(self) -> Grid:
        grid = Grid(box=None, padding=(0, 2, 0, 0), show_edge=False)
        for heading in ("scenario", "status", "succeeded", "hit", "recovered after", "score"):
            grid.add_column(heading, no_wrap=heading != "scenario", overflow="fold", header_style="dim")
        for scenario_id, (status, *rest) in self._rows.items():
            good, bad = self._counts[scenario_id, True], self._counts[scenario_id, False]
            succeeded = f"{good} of {good + bad}" if good + bad else ""
            grid.add_row(plain(scenario_id), Text(status, _STYLES.get(status, "dim")), succeeded, *rest)
        return grid

    @contextmanager
    def _careful(self) -> Iterator[None]:
        """A terminal that has gone away must not stop a scenario half-way."""
        try:
            yield
        except (OSError, ValueError):
            self._gone = True
