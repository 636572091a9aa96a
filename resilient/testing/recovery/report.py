"""What all scenarios of a run showed, together; saved as HTML, JSON, JUnit or Markdown."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from pathlib import Path

from resilient import _checks as check
from resilient.testing.recovery.result import RecoveryTestResult, TestStatus


class TestReport:
    """The results of some scenarios. Formats: `to_html`, `to_json`, `to_junit`, `to_markdown`; `save` by file name."""

    __test__ = False  # pytest would take it for a test

    def __init__(self, results: Iterable[RecoveryTestResult]) -> None:
        self.results = tuple(results)

    # Figures

    @property
    def total(self) -> int:
        """How many scenarios ran."""
        return len(self.results)

    def count(self, status: TestStatus) -> int:
        """How many ended like this."""
        return sum(one.status is status for one in self.results)

    @property
    def passed(self) -> int:
        """How many passed."""
        return self.count(TestStatus.PASSED)

    @property
    def failed(self) -> int:
        """How many failed."""
        return self.count(TestStatus.FAILED)

    @property
    def timed_out(self) -> int:
        """How many took longer than they may."""
        return self.count(TestStatus.TIMEOUT)

    @property
    def inconclusive(self) -> int:
        """Of how many nothing can be said."""
        return self.count(TestStatus.INCONCLUSIVE)

    @property
    def pass_rate(self) -> float:
        """The share that passed; 0 of none."""
        return self.passed / self.total if self.total else 0.0

    @property
    def average_recovery_time(self) -> float | None:
        """Seconds from the end of the fault, on average of those that recovered; None if none did."""
        times = [one.recovery_time for one in self.results if one.recovery_time is not None]
        return sum(times) / len(times) if times else None

    @property
    def average_success_rate(self) -> float:
        """The success rates of the scenarios on average; 0 of none."""
        return sum(one.success_rate for one in self.results) / self.total if self.total else 0.0

    @property
    def resilience_score(self) -> float:
        """The scores of the scenarios, weighted, 0 to 100; as LitmusChaos weighs its probes."""
        total = sum(one.weight for one in self.results)
        return sum(one.weight * one.score for one in self.results) / total if total else 0.0

    @property
    def ok(self) -> bool:
        """Whether there were any, and all passed."""
        return self.total > 0 and self.passed == self.total

    def explain(self) -> str:
        """Some lines for a terminal."""
        counted = f"{self.passed} of {self.total} passed, resilience score {self.resilience_score:.0f} of 100"
        return "\n".join([*(one.explain() for one in self.results), counted])

    def assert_ok(self) -> None:
        """Raise AssertionError, which says all of `explain`, unless all passed."""
        if not self.ok:
            raise AssertionError(self.explain())

    # Formats

    def to_html(self) -> str:
        """One page that needs nothing else, with a timeline for each scenario."""
        return self._written("page")

    def to_json(self) -> str:
        """Everything; `TestReport.from_json` reads it again."""
        return self._written("as_json")

    def to_junit(self) -> str:
        """JUnit's XML, as continuous integration reads it."""
        return self._written("junit")

    def to_markdown(self) -> str:
        """Tables, as for a comment below a change."""
        return self._written("markdown")

    @classmethod
    def from_json(cls, text: str) -> TestReport:
        """The report that `to_json` has written; values and errors of operations come back as their texts."""
        read: Callable[[str], Iterable[RecoveryTestResult]] = import_module("resilient.testing.reports.as_json").read
        return cls(read(text))

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write a file: .html, .json, .xml (JUnit) or .md; returns its path. Raises ConfigurationError for others."""
        file = Path(path)
        write = _BY_SUFFIX.get(file.suffix.lower())
        if write is None:
            raise check.bad("path", str(path), f"must end in {', '.join(_BY_SUFFIX)}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(write(self), "utf-8")
        return file

    def _written(self, module: str) -> str:
        write: Callable[[TestReport], str] = import_module(f"resilient.testing.reports.{module}").write
        return write(self)

    def __repr__(self) -> str:
        return f"<TestReport: {self.passed} of {self.total} passed>"


_BY_SUFFIX: Mapping[str, Callable[[TestReport], str]] = {
    ".html": TestReport.to_html,
    ".json": TestReport.to_json,
    ".xml": TestReport.to_junit,
    ".md": TestReport.to_markdown,
}
