"""What the page says of one scenario."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from resilient.drawing.markup import Markup, clean, cut, join, line, tag
from resilient.testing.recovery.result import RecoveryTestResult, TestStatus
from resilient.testing.reports.lanes import span
from resilient.testing.reports.texts import NOTHING, RESULTS, count, moment, percent, score, seconds, when
from resilient.testing.reports.timeline import draw

_BADGES = {
    TestStatus.PASSED: ("passed", "✓ passed"),
    TestStatus.FAILED: ("failed-run", "✗ failed"),
    TestStatus.TIMEOUT: ("timeout", "! timeout"),
    TestStatus.INCONCLUSIVE: ("inconclusive", "? inconclusive"),
}
_WHY = {
    TestStatus.FAILED: "It failed:",
    TestStatus.TIMEOUT: "It took longer than it may:",
    TestStatus.INCONCLUSIVE: "Nothing can be said of it:",
}
_CHECKED = {True: ("yes", "✓"), False: ("no", "✗"), None: ("maybe", "?")}
_LEGEND = (
    "● a call that succeeded, ✗ one that failed; shaded: a fault is in force; "
    "breakers: green closed, red open, amber half-open; the green line: recovered."
)
_MOST_EVENTS, _LONGEST_LOG = 200, 2000


def section(number: int, result: RecoveryTestResult) -> Markup:
    """One scenario: its verdict, why, the timeline, and the numbers behind it."""
    name = f"scenario-{number}"
    return tag(
        "section",
        tag(
            "div",
            tag("h2", f"{number}. {line(result.scenario_name)}", id=f"{name}-name"),
            badge(result.status),
            class_="head",
        ),
        tag("p", clean(result.description)) if result.description else None,
        _reasons(result),
        _figures(result),
        tag("h3", "Timeline"),
        tag("figure", draw(result, f"{name}-timeline"), tag("figcaption", _LEGEND)),
        *_checks(result),
        *_phases(result),
        *_faults(result),
        *_errors(result),
        tag("h3", "The same again"),
        tag(
            "p",
            "Seed ",
            tag("code", clean(result.seed)),
            f", ran {when(result.started_at)}, id ",
            tag("code", line(result.scenario_id)),
        ),
        tag("pre", tag("code", clean(result.replay))),
        _events(result),
        id=name,
        class_="card",
        aria_labelledby=f"{name}-name",
    )


def badge(status: TestStatus) -> Markup:
    """A status in colour and words."""
    kind, text = _BADGES[status]
    return tag("span", text, class_=f"badge {kind}")


def figures(values: Mapping[str, str]) -> Markup:
    """Names and their values, side by side."""
    pairs = (tag("div", tag("dt", name), tag("dd", value)) for name, value in values.items())
    return tag("dl", *pairs, class_="figures")


def table(
    name: str,
    head: Sequence[str],
    rows: Sequence[Sequence[object]],
    wide: Collection[int] = (),
    numbers: Collection[int] = (),
    stacks: bool = True,
) -> Markup:
    """A table; the first cell of a row is its heading. On a phone rows become blocks if it `stacks`, or it scrolls."""

    def kind(index: int) -> str | None:
        return "number" if index in numbers else "wide" if index in wide else None

    titles = [tag("th", text, scope="col", class_=kind(index)) for index, text in enumerate(head)]
    body = []
    for row in rows:
        cells = (tag("td", cell, class_=kind(n), data_name=head[n]) for n, cell in enumerate(row[1:], 1))
        body.append(tag("tr", tag("th", row[0], scope="row", class_=kind(0)), *cells))
    parts = tag("thead", tag("tr", *titles)), tag("tbody", *body)
    content = tag("table", *parts, class_="stacks" if stacks else None)
    # Who has no mouse scrolls what has the focus.
    return tag("div", content, class_="scroll", tabindex=0, role="region", aria_label=name)


def _reasons(result: RecoveryTestResult) -> Markup:
    if result.passed:
        took = result.recovery_time
        said = (
            ""
            if took is None
            else f" It recovered {f'{seconds(took)} after' if took else 'right at'} the end of the fault."
        )
        return tag(
            "p",
            f"All {count(len(result.checks), 'check')} passed.{said}"
            if len(result.checks) != 1
            else f"Its check passed.{said}",
        )
    reasons = (tag("li", clean(reason)) for reason in result.reasons)
    return join(tag("p", tag("strong", _WHY[result.status])), tag("ul", *reasons, class_="reasons"))


def _figures(result: RecoveryTestResult) -> Markup:
    some = bool(result.operations)
    return figures(
        {
            "Resilience score": f"{score(result.score)} of 100",
            "Calls": f"{len(result.operations):,}",
            "Succeeded": percent(result.success_rate) if some else NOTHING,
            "Recovery": seconds(result.recovery_time),
            "From the fault's start": seconds(result.recovery_time_from_start),
            "Average": seconds(result.average_response_time) if some else NOTHING,
            "p95": seconds(result.p95) if some else NOTHING,
            "p99": seconds(result.p99) if some else NOTHING,
        }
    )


def _checks(result: RecoveryTestResult) -> Sequence[Markup]:
    rows = []
    for one in result.checks:
        kind, mark = _CHECKED[one.passed]
        said = tag("span", f"{mark} {RESULTS[one.passed]}", class_=kind)
        rows.append([line(one.name), said, line(one.required), line(one.observed), f"{one.weight:g}"])
    head = ["Check", "Result", "Required", "Seen", "Weight"]
    return [tag("h3", "Checks"), table("Checks", head, rows, wide=(2, 3), numbers=(4,))] if rows else []


def _phases(result: RecoveryTestResult) -> Sequence[Markup]:
    rows = [
        [
            line(one.name),
            f"{moment(one.start)} to {moment(one.end)}",
            f"{one.operations:,}",
            percent(one.success_rate),
            *(seconds(value) if one.operations else NOTHING for value in (one.average, one.p50, one.p95, one.p99)),
        ]
        for one in result.phases
    ]
    head = ["Phase", "Time", "Calls", "Succeeded", "Average", "p50", "p95", "p99"]
    return [tag("h3", "Phases"), table("Phases", head, rows, numbers=range(1, 8), stacks=False)] if rows else []


def _faults(result: RecoveryTestResult) -> Sequence[Markup]:
    rows = [
        [
            line(one.fault),
            line(one.target),
            percent(one.rate),
            f"{one.fired:,} of {one.calls:,}",
            span(one.start, one.end),
            NOTHING if one.seed is None else line(one.seed),
        ]
        for one in result.faults
    ]
    head = ["Fault", "On", "Rate", "Hit", "In force", "Seed"]
    return [tag("h3", "Faults"), table("Faults", head, rows, wide=(0, 1, 4), numbers=(2, 3))] if rows else []


def _errors(result: RecoveryTestResult) -> Sequence[Markup]:
    if not result.error_logs:
        return []
    text = "\n".join(cut(clean(one), _LONGEST_LOG) for one in result.error_logs)
    return [tag("h3", "Errors"), tag("pre", text)]


def _events(result: RecoveryTestResult) -> Markup | None:
    if not result.events:
        return None
    rows = [
        [moment(one.at), line(one.kind), line(one.name, 200), line(one.text, 300)]
        for one in result.events[:_MOST_EVENTS]
    ]
    more = len(result.events) - _MOST_EVENTS
    note = tag("p", f"{count(more, 'later one')} left out here; the JSON report has them all.", class_="soft")
    said = tag("summary", count(len(result.events), "event"))
    content = table("Events", ["At", "What", "Of", "Details"], rows, wide=(2, 3), numbers=(0,))
    return tag("details", said, content, note if more > 0 else None)
