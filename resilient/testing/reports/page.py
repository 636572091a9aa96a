"""A report as one HTML page, which needs nothing else: no script, no font, no network."""

from __future__ import annotations

from resilient.drawing.markup import Markup, join, line, tag
from resilient.testing.recovery.report import TestReport
from resilient.testing.reports import style
from resilient.testing.reports.lanes import CROSS
from resilient.testing.reports.section import badge, figures, section, table
from resilient.testing.reports.texts import NOTHING, count, percent, score, seconds, when


def write(report: TestReport) -> str:
    """The page: the verdict, figures, and a section with a timeline for each scenario."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=style.policy()),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", f"Recovery tests: {report.passed} of {report.total} passed"),
        tag("style", Markup(style.CSS)),
    )
    sections = [section(number, result) for number, result in enumerate(report.results, 1)]
    content = tag("main", _top(report), _overview(report), *sections, class_="page")
    return f"<!DOCTYPE html>\n{tag('html', head, tag('body', CROSS, content), lang='en')}\n"


def _verdict(report: TestReport) -> str:
    if not report.total:
        return "No scenario has run."
    if report.ok:
        return "The scenario passed." if report.total == 1 else f"All {report.total} scenarios passed."
    counted = {"failed": report.failed, "took too long": report.timed_out, "could not be judged": report.inconclusive}
    said = ", ".join(f"{number} {what}" for what, number in counted.items() if number)
    return f"{report.passed} of {count(report.total, 'scenario')} passed: {said}."


def _top(report: TestReport) -> Markup:
    started = min((one.started_at for one in report.results), default=None)
    average = report.average_success_rate if report.total else None
    return tag(
        "header",
        tag("h1", "Recovery tests"),
        tag("p", _verdict(report), class_="verdict"),
        None if started is None else tag("p", f"Started {when(started)}", class_="when"),
        figures(
            {
                "Passed": f"{report.passed:,}",
                "Failed": f"{report.failed:,}",
                "Timeout": f"{report.timed_out:,}",
                "Inconclusive": f"{report.inconclusive:,}",
                "Pass rate": percent(report.pass_rate) if report.total else NOTHING,
                "Resilience score": f"{score(report.resilience_score)} of 100",
                "Average recovery": seconds(report.average_recovery_time),
                "Average success": percent(average),
            }
        ),
    )


def _overview(report: TestReport) -> Markup | None:
    if report.total < 2:
        return None
    rows = [
        [
            tag("a", line(one.scenario_name, 120), href=f"#scenario-{number}"),
            badge(one.status),
            percent(one.success_rate) if one.operations else NOTHING,
            seconds(one.recovery_time),
            score(one.score),
        ]
        for number, one in enumerate(report.results, 1)
    ]
    head = ["Scenario", "Verdict", "Succeeded", "Recovery", "Score"]
    content = table("Overview", head, rows, wide=(0,), numbers=(2, 3, 4))
    return tag("section", join(tag("h2", "Overview"), content), class_="card")
