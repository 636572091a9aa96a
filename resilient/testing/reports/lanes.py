"""The lanes of a timeline, from top to bottom. What colours say is said by shapes and words too."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

from resilient.drawing.markup import Markup, cut, line, tag
from resilient.testing.recovery.result import FaultRecord, Operation, RecoveryTestResult
from resilient.testing.reports.canvas import Canvas
from resilient.testing.reports.dots import Scale, chosen, runs, steps, stretches
from resilient.testing.reports.texts import count, moment, seconds

MOST_BREAKERS, MOST_FAULTS = 24, 12
#: How high the calls are drawn, in pixels; where none took any time (in virtual time) they lie in one line.
_PLOT, _FLAT = 132.0, 36.0

_WORDS = {"HALF_OPEN": "half-open", "CLOSED": "closed", "OPEN": "open", "ISOLATED": "isolated", "DISABLED": "disabled"}
_TICKS = {
    "retries": "RetryScheduled",
    "retries given up": "RetryExhausted",
    "rejected calls": "CallRejected",
    "timeouts": "CallTimedOut",
    "fallbacks": "FallbackServed",
    "fallbacks that failed": "FallbackFailed",
    "changes of degradation": "DegradationModeChanged",
    "help": "help",
}

Changes = Sequence[tuple[float, str, str]]


def word(state: str) -> str:
    """A breaker's state as people say it."""
    return _WORDS.get(state, state)


def span(start: float | None, end: float | None) -> str:
    """From when to when."""
    if start is None:
        return "never began"
    return f"from {moment(start)}" if end is None else f"from {moment(start)} to {moment(end)}"


def recovered_at(result: RecoveryTestResult) -> float | None:
    """When it had recovered, in seconds since the scenario began."""
    if result.recovery_time is None:
        return None
    moments = [one.at for one in result.events if one.kind == "recovered"]
    moments += [one.start for one in result.phases if one.name == "recovery"]
    return moments[0] if moments and math.isfinite(moments[0]) else None


def changes_of(result: RecoveryTestResult) -> Mapping[str, Changes]:
    """The changes of state of each breaker: moment, old, new."""
    found: dict[str, list[tuple[float, str, str]]] = defaultdict(list)
    for one in result.events:
        if one.kind == "CircuitStateChanged" and math.isfinite(one.at):
            found[one.name].append((one.at, str(one.data.get("old", "")), str(one.data.get("new", ""))))
    return found


def phases(canvas: Canvas, result: RecoveryTestResult) -> None:
    """Labelled bands."""
    top = canvas.down(28)
    for one in result.phases:
        title = f"{one.name}: {span(one.start, one.end)}, {count(one.operations, 'call')}"
        canvas.add(canvas.band(one.start, one.end, top + 2, 24, line(one.name, 60), f"phase {_phase(one.name)}", title))


def _phase(name: str) -> str:
    return name if name in ("baseline", "fault", "observation", "recovery") else "other"


def windows(result: RecoveryTestResult, end: float) -> list[tuple[FaultRecord, float, float]]:
    """The faults that began, and from when to when they were in force."""
    return [
        (one, one.start, end if one.end is None else max(one.start, one.end))
        for one in result.faults
        if one.start is not None and one.start <= end
    ]


def shade(canvas: Canvas, result: RecoveryTestResult, bottom: float) -> None:
    """The times of faults, and the moment of recovery, behind everything."""
    for _, start, end in windows(result, canvas.end)[:MOST_FAULTS]:
        x, width = canvas.x(start), canvas.width(start, end)
        canvas.add(tag("rect", x=x, y=28, width=width, height=f"{bottom - 28:.0f}", class_="shade"))
        canvas.add(canvas.line(start, 28, bottom, "edge"), canvas.line(min(end, canvas.end), 28, bottom, "edge"))

    at = recovered_at(result)
    if at is not None:
        canvas.add(canvas.line(at, 28, bottom, "recovered"))


def faults(canvas: Canvas, result: RecoveryTestResult) -> None:
    """A bar for each fault, under its name."""
    for one in result.faults[:MOST_FAULTS]:
        canvas.heading(f"Fault: {line(one.fault)}", f"on {line(one.target)}")
        top = canvas.down(20)
        hit = f"hit {one.fired:,} of {one.calls:,}"
        found = [window for window in windows(result, canvas.end) if window[0] is one]
        for _, start, end in found:
            title = f"{line(one.fault)} on {line(one.target)}: {span(start, one.end)}, {hit} calls"
            canvas.add(canvas.band(start, end, top, 18, hit, "fault", title))
        if not found:
            canvas.add(tag("text", "never began", x="1%", y=top + 13, class_="note"))
    _left_out(canvas, len(result.faults) - MOST_FAULTS, "fault")


def _left_out(canvas: Canvas, number: int, what: str) -> None:
    if number > 0:
        canvas.add(tag("text", f"and {count(number, f'more {what}')}", x="1%", y=canvas.down(20) + 14, class_="note"))


def marks(canvas: Canvas, result: RecoveryTestResult) -> None:
    """When it recovered, in words, with a line down through all that follows."""
    y = canvas.down(26) + 17
    at = recovered_at(result)
    if at is None:
        canvas.add(canvas.label(canvas.end, y, "✗ not recovered", "mark bad"))
        return
    said = f"✓ recovered after {seconds(result.recovery_time)}" if result.recovery_time else "✓ recovered at once"
    canvas.add(canvas.label(at, y, said, "mark good"))


def calls(canvas: Canvas, result: RecoveryTestResult) -> None:
    """A dot for each call that succeeded, a cross for each that failed, as high as it took long."""
    failed = sum(not one.ok for one in result.operations)
    drawn = chosen(result.operations, canvas.end)
    canvas.heading("Calls", f"{len(result.operations) - failed:,} succeeded ●, {failed:,} failed ✗; higher is slower")
    scale = Scale(one.duration for one in drawn.operations)
    high = _PLOT if scale.marks() else _FLAT
    top = canvas.down(high + 14) + 6
    canvas.add(tag("rect", x="1%", y=top, width="98%", height=high, class_="plot"))
    for duration in scale.marks():
        y = f"{top + high * (1 - scale.height(duration)):.1f}"
        canvas.add(tag("line", x1="1%", x2="99%", y1=y, y2=y, class_="grid"))
    canvas.add(*(_dot(canvas, one, top, high, scale) for one in sorted(drawn.operations, key=lambda one: not one.ok)))
    if not drawn.operations:
        canvas.add(tag("text", "no call ended", x="50%", y=top + high / 2, class_="in note"))
    for duration in scale.marks()[1:] if drawn.operations else []:
        y = f"{top + high * (1 - scale.height(duration)) - 3:.1f}"
        canvas.add(tag("text", seconds(duration), x="1%", dx=3, y=y, class_="tick start halo"))
    if drawn.stretch is not None:
        said = f"{len(drawn.operations):,} of {len(result.operations):,} calls drawn: the extremes of each"
        text = f"{said} {seconds(drawn.stretch)}"
        canvas.add(tag("text", text, x="1%", y=canvas.down(18) + 8, class_="note"))


def _dot(canvas: Canvas, one: Operation, top: float, high: float, scale: Scale) -> Markup:
    y = f"{top + high * (1 - scale.height(one.duration)):.1f}"
    if one.ok:
        return tag("circle", cx=canvas.x(one.ended), cy=y, r=2.5, class_="ok")
    return tag("use", href="#cross", x=canvas.x(one.ended), y=y)


def breakers(canvas: Canvas, result: RecoveryTestResult) -> None:
    """A lane for each breaker that changed: its states, in colours and words."""
    found = changes_of(result)
    for name, changes in list(found.items())[:MOST_BREAKERS]:
        canvas.heading(f"Breaker {line(name)}")
        top = canvas.down(20)
        states = stretches(changes, max(canvas.end, changes[-1][0]))
        # Short ones last, over their neighbours, which would hide them.
        for one in sorted(states, key=lambda one: one.start - one.end):
            title = f"{word(one.state)}: {span(one.start, one.end)}"
            kind = f"state {word(one.state)}" if one.state in _WORDS else "state changing"
            canvas.add(canvas.band(one.start, one.end, top, 18, word(one.state), kind, title))
    _left_out(canvas, len(found) - MOST_BREAKERS, "breaker")


def ticks(canvas: Canvas, result: RecoveryTestResult) -> None:
    """A lane for each kind of thing that policies did, a tick each time."""
    for text, kind in _TICKS.items():
        events = [one for one in result.events if one.kind == kind]
        if not events:
            continue
        names = sorted({one.name for one in events})
        canvas.heading(f"{text.capitalize()}: {len(events):,}", cut(", ".join(map(line, names)), 70))
        top = canvas.down(16)
        canvas.add(tag("line", x1="1%", x2="99%", y1=top + 13, y2=top + 13, class_="grid"))
        for start, end, number in runs((one.at for one in events), canvas.end):
            title = tag("title", f"{span(start, None if number == 1 else end)}: {number:,}")
            x, width = canvas.x(start), canvas.width(start, end)
            canvas.add(tag("rect", title, x=x, y=top + 1, width=width, height=12, class_="did"))


def axis(canvas: Canvas) -> None:
    """Seconds, and fine lines up through all lanes."""
    bottom = canvas.down(38)
    moments = steps(canvas.end, 5)
    digits = max(0, -math.floor(math.log10(moments[1] * 1.000001))) if len(moments) > 1 else 0
    for at in moments:
        x = canvas.x(at)
        side = "start" if at == 0 else "end" if canvas.share(at) > 96 else "middle"
        canvas.add(canvas.line(at, 28, bottom + 4, "grid"))
        canvas.add(tag("text", f"{at:,.{digits}f}", x=x, y=bottom + 17, class_=f"tick {side}"))
    canvas.add(tag("line", x1="1%", x2="99%", y1=bottom, y2=bottom, class_="axis"))
    canvas.add(tag("text", "seconds since the scenario began", x="50%", y=bottom + 33, class_="tick middle"))


#: The cross of a failed call, once for the whole page.
CROSS = tag(
    "svg",
    tag("defs", tag("path", id="cross", d="M-3.5-3.5 3.5 3.5M3.5-3.5-3.5 3.5", class_="failed")),
    class_="defs",
    aria_hidden="true",
)
