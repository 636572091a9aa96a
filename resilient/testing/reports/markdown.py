"""A report as Markdown: a table of all scenarios, then each of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from resilient.drawing.markup import clean, line
from resilient.testing.recovery.report import TestReport
from resilient.testing.recovery.result import RecoveryTestResult, TestStatus
from resilient.testing.reports.texts import NOTHING, RESULTS, count, moment, percent, score, seconds

_MARKS = {
    TestStatus.PASSED: "✅ passed",
    TestStatus.FAILED: "❌ failed",
    TestStatus.TIMEOUT: "⏱️ timeout",
    TestStatus.INCONCLUSIVE: "❔ inconclusive",
}
_CHECKED = {True: "✅", False: "❌", None: "❔"}

#: What Markdown, GitHub's included, would take for more than a character.
_SPECIAL = re.compile(r"[\\`*_\[\]<>|~&#$!]")
_AT_START = re.compile(r"^(\d*)([-+=.)])")


def write(report: TestReport) -> str:
    """Tables that GitHub, GitLab and others show."""
    parts = ["# Recovery tests", _verdict(report)]
    if report.results:
        parts.append(_overview(report))
    for number, result in enumerate(report.results, 1):
        parts.extend(_section(number, result))
    return "\n\n".join(parts) + "\n"


def escaped(text: object) -> str:
    """Somebody else's text, in one line, as itself: nothing in it is markup."""
    return _AT_START.sub(r"\1\\\2", _SPECIAL.sub(r"\\\g<0>", line(text)))


def fenced(text: str, language: str = "") -> str:
    """A text as a block of code; its fence is longer than any it holds."""
    runs = re.findall(r"`{3,}", text)
    fence = "`" * max(3, *(len(run) + 1 for run in runs), 3)
    return f"{fence}{language}\n{clean(text)}\n{fence}"


def _verdict(report: TestReport) -> str:
    if not report.total:
        return "**No scenario has run.**"
    words = [f"**{report.passed} of {report.total} passed**"]
    others = {"failed": report.failed, "timed out": report.timed_out, "inconclusive": report.inconclusive}
    words += [f"{number} {what}" for what, number in others.items() if number]
    words.append(f"resilience score {score(report.resilience_score)} of 100")
    if report.average_recovery_time is not None:
        words.append(f"recovery after {seconds(report.average_recovery_time)} on average")
    return ", ".join(words) + "."


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _overview(report: TestReport) -> str:
    rows = [
        [
            str(number),
            escaped(one.scenario_name),
            _MARKS[one.status],
            percent(one.success_rate) if one.operations else NOTHING,
            seconds(one.recovery_time),
            score(one.score),
            f"{one.fired:,}",
        ]
        for number, one in enumerate(report.results, 1)
    ]
    return _table(["", "Scenario", "Verdict", "Succeeded", "Recovery", "Score", "Faults"], rows)


def _section(number: int, result: RecoveryTestResult) -> Iterator[str]:
    yield f"## {number}. {escaped(result.scenario_name)}"
    verdict = f"{_MARKS[result.status]}, resilience score {score(result.score)} of 100."
    yield f"{verdict} {escaped(result.description)}".strip()
    if result.reasons:
        yield "\n".join(f"- {escaped(reason)}" for reason in result.reasons)
    if result.checks:
        rows = [
            [
                escaped(one.name),
                f"{_CHECKED[one.passed]} {RESULTS[one.passed]}",
                escaped(one.required),
                escaped(one.observed),
                f"{one.weight:g}",
            ]
            for one in result.checks
        ]
        yield _table(["Check", "Result", "Required", "Seen", "Weight"], rows)
    if result.phases:
        yield _phases(result)
    if result.faults:
        yield "\n".join(
            f"- Fault: {escaped(one.fault)} on {escaped(one.target)}, hit {one.fired:,} of {count(one.calls, 'call')}"
            for one in result.faults
        )
    if result.error_logs:
        yield "Errors:"
        yield fenced("\n".join(result.error_logs))
    yield f"Seed {escaped(result.seed)}; the same again:"
    yield fenced(result.replay, "sh")


def _phases(result: RecoveryTestResult) -> str:
    rows = [
        [
            escaped(one.name),
            f"{moment(one.start)} to {moment(one.end)}",
            f"{one.operations:,}",
            percent(one.success_rate),
            *(seconds(value) if one.operations else NOTHING for value in (one.average, one.p95, one.p99)),
        ]
        for one in result.phases
    ]
    return _table(["Phase", "Time", "Calls", "Succeeded", "Average", "p95", "p99"], rows)
