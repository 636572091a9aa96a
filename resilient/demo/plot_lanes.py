"""The parts of the demo's picture, one below the other over the same seconds; each returns where it ends."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from resilient.demo.outcome import Phase
from resilient.demo.report import MEANINGS
from resilient.demo.traffic import Second
from resilient.drawing.axes import nice, ticks
from resilient.drawing.markup import line, squeezed
from resilient.drawing.sheet import CHARACTER, NARROW, Sheet, box, path

HEIGHT, BAND = 200, 26
#: States of a breaker, and the pattern that each is filled with.
STATES = {"closed": "", "half_open": "dotted", "open": "rising", "isolated": "crossed", "disabled": "falling"}


class Stretch(NamedTuple):
    """A breaker's state from `start` to `end`, in seconds since the traffic began."""

    start: float
    end: float
    state: str


class Axis(NamedTuple):
    """Where seconds lie, from 0 to `end`."""

    end: float
    left: float
    right: float

    def x(self, at: float) -> float:
        """The place of a moment; what lies outside is put at the edge."""
        return self.left + (self.right - self.left) * min(1.0, max(0.0, at / self.end))


def word(state: str) -> str:
    """A state as people write it."""
    return state.replace("_", "-")


def fill(kind: str) -> str:
    """What an outcome or a state is filled with: a colour for the usual ones, a pattern for the others."""
    plain = kind == "ok" or not STATES.get(kind, "pattern")
    return f"var(--{kind})" if plain else f"url(#demo-{kind})"


def phases(sheet: Sheet, every: Sequence[Phase], axis: Axis, y: float) -> float:
    """The phases of the story, by name where there is room."""
    for phase in every:
        left, right = axis.x(phase.starts), axis.x(phase.ends)
        title = f"{line(phase.text, 200)} ({phase.starts:.1f} to {phase.ends:.1f} s)"
        sheet.shapes.append(box(left, right, y, BAND, title, class_="phase"))
        name = squeezed(line(phase.name), 40)
        sheet.within(left, right, y + BAND - 8, name, "lane")
    return y + BAND


def labels(sheet: Sheet, marks: Sequence[tuple[float, str]], axis: Axis, y: float) -> float:
    """The words of marks, on the side of the mark where there is room, and below each other where they would meet."""
    taken: list[tuple[float, float]] = []
    for at, what in marks:
        said = f"{what} {at:.1f} s"
        x, wide = axis.x(at), len(said) * NARROW
        is_right = x + wide > axis.right
        span = (x - wide, x) if is_right else (x, x + wide)
        if any(span[0] < right and left < span[1] for left, right in taken):
            y += 22
        taken.append(span)
        sheet.text(x, y - 4, said, "mark", "end" if is_right else "start")
    return y + 6


def marks(sheet: Sheet, every: Sequence[tuple[float, str]], axis: Axis, span: tuple[float, float]) -> None:
    """A line at each mark, and between the first and the last a shade: the service was down."""
    top, bottom = span
    places = [axis.x(at) for at, _ in every]
    sheet.behind.append(box(places[0], places[-1], top, bottom - top, class_="down"))
    for x in places:
        sheet.shapes.append(path(f"M{x:.2f},{top:.1f}V{bottom:.1f}", "event"))


def bars(sheet: Sheet, seconds: Sequence[Second], axis: Axis, top: float) -> float:
    """A bar for each second: its outcomes one upon the other, and the load as a line over all of them."""
    most = nice(max((one.total for one in seconds), default=0))
    bottom = top + HEIGHT
    for tick in (one for one in ticks(most, 5) if one == int(one)):
        y = bottom - HEIGHT * tick / most
        sheet.behind.append(path(f"M{axis.left},{y:.2f}H{axis.right}", "grid"))
        sheet.text(axis.left - 8, y + 5, f"{tick:,.0f}", "soft", "end")
    steps = []
    for number, second in enumerate(seconds):
        left, right = axis.x(number), axis.x(number + 1)
        y = bottom - HEIGHT * second.total / most
        steps.append(f"{left:.2f},{y:.2f}H{right:.2f}")
        _bar(sheet, number, second, (left, right), (bottom, HEIGHT / most))
        sheet.within(left, right, y - 6, str(second.total), "total")
    if steps:
        sheet.shapes.append(path(f"M{'V'.join(_joined(steps))}", "load"))
    return bottom


def _joined(steps: Sequence[str]) -> list[str]:
    """The first step from its corner, each other one from the height of the one before."""
    return [steps[0], *(one.partition(",")[2] for one in steps[1:])]


def _bar(sheet: Sheet, number: int, second: Second, across: tuple[float, float], scale: tuple[float, float]) -> None:
    y, tall = scale
    left, right = across
    gap = 1.0 if right - left > 6 else 0.0
    for kind in MEANINGS:
        if count := getattr(second, kind):
            y -= count * tall
            title = f"second {number}: {count} {kind}"
            sheet.shapes.append(box(left + gap, right - gap, y, count * tall, title, class_=kind, fill=fill(kind)))


def key(sheet: Sheet, used: Collection[str], axis: Axis, y: float) -> float:
    """Which fill is which state, for the states that there were."""
    if not used:
        return y
    sheet.text(axis.left, y + 12, "breaker:", "soft")
    x = axis.left + 9 * CHARACTER
    for state in (one for one in STATES if one in used):
        sheet.shapes.append(box(x, x + 14, y, 14, class_=f"key {state}", fill=fill(state)))
        sheet.text(x + 20, y + 12, word(state), "soft")
        x += 20 + (len(state) + 1) * CHARACTER
    return y + 14


def band(sheet: Sheet, name: str, states: Sequence[Stretch], axis: Axis, y: float) -> float:
    """A breaker's states, in words where there is room; short ones lie on top, so that none is lost."""
    sheet.text(axis.left, y + 20, squeezed(line(name), 48), "lane")
    top = y + 28
    for one in sorted(states, key=lambda one: one.start - one.end):
        left, right = axis.x(one.start), axis.x(one.end)
        left, right = min(left, axis.right - 2), max(right, min(left, axis.right - 2) + 2)
        title = f"{word(one.state)} from {one.start:.2f} to {one.end:.2f} s"
        sheet.shapes.append(box(left, right, top, BAND, title, class_=f"state {one.state}", fill=fill(one.state)))
        sheet.within(left, right, top + BAND - 8, word(one.state))
    return top + BAND


def times(sheet: Sheet, axis: Axis, y: float) -> float:
    """The seconds below everything."""
    for at in ticks(axis.end, 10):
        x = axis.x(at)
        sheet.shapes.append(path(f"M{x:.2f},{y - 6:.1f}v6", "tick"))
        # The last one would be cut off by the edge.
        anchor = "end" if x > axis.right - 12 else "middle"
        sheet.text(x + 20 if anchor == "end" else x, y + 20, f"{at:.10g} s", "soft", anchor)
    return y + 22
