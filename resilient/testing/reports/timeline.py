"""The timeline of a scenario as SVG: phases, faults, breakers, calls, and what policies did, over one axis."""

from __future__ import annotations

import math
from collections.abc import Iterator

from resilient.drawing.markup import Markup, line, tag
from resilient.testing.recovery.result import RecoveryTestResult
from resilient.testing.reports import lanes
from resilient.testing.reports.canvas import Canvas
from resilient.testing.reports.texts import count, moment


def draw(result: RecoveryTestResult, name: str) -> Markup:
    """The drawing; `name` makes its ids unique on the page."""
    canvas = Canvas(_end(result))
    lanes.phases(canvas, result)
    lanes.faults(canvas, result)
    lanes.marks(canvas, result)
    lanes.calls(canvas, result)
    lanes.breakers(canvas, result)
    lanes.ticks(canvas, result)
    bottom = canvas.y + 6
    behind = Canvas(canvas.end)
    lanes.shade(behind, result, bottom)
    behind.y = bottom
    lanes.axis(behind)
    return tag(
        "svg",
        tag("title", f"Timeline of {line(result.scenario_name, 200)}", id=f"{name}-title"),
        tag("desc", " ".join(described(result)), id=f"{name}-desc"),
        behind.drawn,
        canvas.drawn,
        role="img",
        aria_labelledby=f"{name}-title {name}-desc",
        class_="timeline",
        width="100%",
        height=f"{behind.y:.0f}",
    )


def described(result: RecoveryTestResult) -> Iterator[str]:
    """The drawing in words."""
    yield f"From 0 to {moment(_end(result))}."
    for phase in result.phases:
        yield f"Phase {phase.name} from {moment(phase.start)} to {moment(phase.end)}."
    for fault in result.faults:
        yield f"{line(fault.fault, 80)}: {lanes.span(fault.start, fault.end)}."
    failed = sum(not one.ok for one in result.operations)
    yield f"{count(len(result.operations), 'call')}, {failed:,} of them failed."
    for breaker, changes in list(lanes.changes_of(result).items())[: lanes.MOST_BREAKERS]:
        opened = sum(new == "OPEN" for _, _, new in changes)
        last = lanes.word(changes[-1][2])
        yield f"Breaker {line(breaker, 80)} opened {count(opened, 'time')}, and is {last} at the end."
    at = lanes.recovered_at(result)
    yield "It did not recover." if at is None else f"It recovered at {moment(at)}."


def _end(result: RecoveryTestResult) -> float:
    moments = [result.duration, *(one.ended for one in result.operations), *(one.end for one in result.phases)]
    end = max((one for one in moments if math.isfinite(one)), default=0.0)
    return end if end > 1e-6 else 0.001
