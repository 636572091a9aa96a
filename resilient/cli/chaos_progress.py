"""How scenarios are shown while they run: lines, or, on a terminal with rich, a table that lives."""

from __future__ import annotations

from typing import Protocol, TextIO

from resilient.cli.plan_output import Output, width_of
from resilient.cli.plan_text import plain, wrapped
from resilient.testing.recovery.collector import RecoveryMetricsCollector
from resilient.testing.recovery.report import TestReport
from resilient.testing.recovery.result import Operation, RecoveryTestResult
from resilient.testing.recovery.scenario import RecoveryTestScenario


class Progress(Protocol):
    """Shows scenarios as they run."""

    def begin(self, scenario: RecoveryTestScenario) -> None:
        """A scenario begins."""
        ...

    def operation(self, scenario_id: str, ok: bool) -> None:
        """An operation has ended; called by several threads at once."""
        ...

    def end(self, result: RecoveryTestResult) -> None:
        """A scenario has ended."""
        ...

    def broken(self, scenario: RecoveryTestScenario, why: str) -> None:
        """A scenario could not be run."""
        ...

    def close(self) -> None:
        """There is nothing more to come."""
        ...


class Lines:
    """Some lines for each scenario."""

    def __init__(self, out: TextIO) -> None:
        self.out = Output(out)
        self._width = width_of(out)

    def begin(self, scenario: RecoveryTestScenario) -> None:
        """See `Progress`."""
        self.write(f"running {scenario.id}: {plain(scenario.name)}")

    def operation(self, scenario_id: str, ok: bool) -> None:
        """See `Progress`."""

    def end(self, result: RecoveryTestResult) -> None:
        """See `Progress`."""
        for line in result.explain().splitlines():
            self.write(_harmless(line))

    def broken(self, scenario: RecoveryTestScenario, why: str) -> None:
        """See `Progress`."""
        self.write(f"{scenario.id}: could not be run: {plain(why)}")

    def close(self) -> None:
        """See `Progress`."""

    def write(self, line: str) -> None:
        """Write a line, broken where the terminal ends."""
        # A command is there to be copied.
        whole = self._width is None or "the same again: " in line
        for one in [line] if whole else wrapped(line, self._width or 80, 4):
            self.out.write(one)


class Quiet(Lines):
    """Only what did not pass."""

    def begin(self, scenario: RecoveryTestScenario) -> None:
        """See `Progress`."""

    def end(self, result: RecoveryTestResult) -> None:
        """See `Progress`."""
        if not result.passed:
            super().end(result)


class Watching(RecoveryMetricsCollector):
    """The collector of a run that is shown."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self._progress = progress

    def record_operation(self, scenario_id: str, operation: Operation) -> None:
        """Count it, and show it."""
        super().record_operation(scenario_id, operation)
        self._progress.operation(scenario_id, operation.ok)


def summed(report: TestReport, broken: int, cut: int = 0) -> str:
    """One line about all of them: how each ended, and the score."""
    counts = [
        (report.passed, "passed"),
        (report.failed, "failed"),
        (report.timed_out, "timed out"),
        (report.inconclusive, "inconclusive"),
        (broken, "could not be run"),
        (cut, "not run to the end"),
    ]
    text = ", ".join(f"{count} {word}" for count, word in counts if count)
    total = report.total + broken + cut
    whole = "1 scenario" if total == 1 else f"{total} scenarios"
    return f"{whole}: {text or 'none'}; resilience score {report.resilience_score:.0f} of 100"


def _harmless(line: str) -> str:
    """A line of somebody else's text, its indent kept."""
    return f"{'':{len(line) - len(line.lstrip(' '))}}{plain(line)}"
