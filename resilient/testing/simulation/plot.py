"""A simulation as a picture: SVG that needs nothing else, in light and in dark."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from resilient.drawing.axes import nice, ticks
from resilient.drawing.markup import clean, tag
from resilient.drawing.palette import stylesheet
from resilient.testing.simulation.text import amount, recovery

if TYPE_CHECKING:
    from resilient.testing.simulation.result import Interval, Simulation

_WIDTH, _LEFT, _RIGHT, _TOP, _HEIGHT = 960, 64, 24, 96, 260
_ROW, _GAP, _MOST_ROWS = 18, 10, 8
_MOST_POINTS = 400  # more than that is narrower than a pixel or two
_LABEL = 30  # characters of a breaker's name
_STATES = ("closed", "half_open", "open", "isolated", "disabled")

_LIGHT = {
    "outage": "#cf222e",
    "load": "#6e7781",
    "goodput": "#1a7f37",
    "reached": "#0969da",
    "rejected": "#9a6700",
    "mark": "#8250df",
}
_DARK = {
    "outage": "#f85149",
    "load": "#9198a1",
    "goodput": "#3fb950",
    "reached": "#58a6ff",
    "rejected": "#d29922",
    "mark": "#bc8cff",
}
_RULES = """
& .title { font-size: 16px; font-weight: 600 }
& .name { fill: #fff; font-size: 12px; font-weight: 600; paint-order: stroke; stroke: #0009; stroke-width: 3px }
& .line { fill: none; stroke-width: 2; stroke-linejoin: round }
& .reached { stroke-width: 5; stroke-opacity: 0.55 }
"""


class _Point(NamedTuple):
    """One or several intervals: their middle, end and rates."""

    start: float
    end: float
    load: float
    goodput: float
    reached: float
    rejected: float
    last: Interval


_Line = tuple[str, str, Callable[[_Point], float], str]
#: Colour, label, what of a point, and dashes; drawn in this order.
_LINES: tuple[_Line, ...] = (
    ("load", "user calls", lambda one: one.load, "6 4"),
    ("rejected", "turned away", lambda one: one.rejected, "2 3"),
    ("reached", "calls to the dependency", lambda one: one.reached, ""),
    ("goodput", "answered (goodput)", lambda one: one.goodput, ""),
)


def plot(simulation: Simulation) -> str:
    """The picture, as one SVG element."""
    points = _points(simulation.timeline)
    names = sorted({name for one in simulation.timeline for name in one.breakers})
    shown = names[:_MOST_ROWS]
    rows = len(shown) * (_ROW + _GAP) + (34 if shown else 0) + (18 if len(names) > len(shown) else 0)
    height = _TOP + _HEIGHT + 44 + rows
    lines = [one for one in _LINES if one[0] != "rejected" or any(map(one[2], points))]
    top = nice(max([get(one) for one in points for _, _, get, _ in lines], default=1.0))
    canvas = _Canvas(simulation.duration, top)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="resilient-plot" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="{html.escape(clean(_alternative(simulation)))}">',
        stylesheet("resilient-plot", _RULES, _LIGHT, _DARK),
        f'<rect width="{_WIDTH}" height="{height}" fill="var(--back)"/>',
        *_head(simulation, lines),
        *_outage(simulation, canvas),
        *_axes(simulation, canvas),
        *(_line(key, get, dash, points, canvas) for key, _, get, dash in lines),
        *_mark(simulation, canvas),
        *_bands(shown, points, canvas),
    ]
    if len(names) > len(shown):
        parts.append(_text(_LEFT, height - 10, f"and {len(names) - len(shown)} more breakers", "soft"))
    return "\n".join([*parts, "</svg>", ""])


class _Canvas:
    """Where seconds and rates lie."""

    def __init__(self, duration: float, top: float) -> None:
        self.duration, self.top = duration, top

    def x(self, time: float) -> float:
        return _LEFT + time / self.duration * (_WIDTH - _LEFT - _RIGHT)

    def y(self, rate: float) -> float:
        return _TOP + _HEIGHT * (1 - rate / self.top)


def _points(timeline: Sequence[Interval]) -> list[_Point]:
    size = max(1, math.ceil(len(timeline) / _MOST_POINTS))
    return [_point(timeline[place : place + size]) for place in range(0, len(timeline), size)]


def _point(group: Sequence[Interval]) -> _Point:
    start, last = group[0].time, group[-1]
    end = last.time + last.seconds
    rates = (
        sum(getattr(one, name) for one in group) / (end - start)
        for name in ("calls", "successes", "dependency_calls", "rejected")
    )
    load, goodput, reached, rejected = rates
    return _Point(start, end, load, goodput, reached, rejected, last)


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return tag("text", text, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor, class_=kind or None)


def _alternative(one: Simulation) -> str:
    return " ".join(one.explain().split())


def _head(one: Simulation, lines: Sequence[_Line]) -> Iterator[str]:
    yield _text(_LEFT, 26, one.pipeline if len(one.pipeline) < 100 else f"{one.pipeline[:99]}…", "title")
    yield _text(
        _LEFT,
        47,
        f"amplification {one.amplification:.2f} ({one.outage_amplification:.2f} during the outage), "
        f"goodput {amount(one.goodput)} of {amount(one.load)} calls/s, {recovery(one.time_to_recover)}",
        "soft",
    )
    x = float(_LEFT)
    for key, label, _, dash in lines:
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        yield f'<path class="line {key}" d="M{x:.1f},67h22" stroke="var(--{key})"{dashes}/>'
        yield _text(x + 28, 71, label)
        x += 28 + len(label) * 7 + 24


def _outage(one: Simulation, canvas: _Canvas) -> Iterator[str]:
    left, right = canvas.x(one.outage[0]), canvas.x(one.outage[1])
    yield (
        f'<rect x="{left:.1f}" y="{_TOP}" width="{right - left:.1f}" height="{_HEIGHT}" '
        'fill="var(--outage)" fill-opacity="0.12"/>'
    )
    label = f"outage ({one.failure})"
    if right - left > len(label) * 7:
        yield _text((left + right) / 2, _TOP - 6, label, "soft", "middle")
    elif left + len(label) * 7 < _WIDTH:
        yield _text(left, _TOP - 6, label, "soft")
    else:
        yield _text(right, _TOP - 6, label, "soft", "end")


def _axes(one: Simulation, canvas: _Canvas) -> Iterator[str]:
    for rate in ticks(canvas.top, 5):
        y = canvas.y(rate)
        yield f'<path d="M{_LEFT},{y:.1f}H{_WIDTH - _RIGHT}" stroke="var(--grid)"/>'
        yield _text(_LEFT - 8, y + 4, amount(rate), "soft", "end")
    place = f'transform="translate(16,{_TOP + _HEIGHT / 2}) rotate(-90)" text-anchor="middle"'
    yield f'<text {place} class="soft">calls/s</text>'
    for time in ticks(one.duration, 12):
        x = canvas.x(time)
        yield f'<path d="M{x:.1f},{_TOP + _HEIGHT}v5" stroke="var(--soft)"/>'
        yield _text(x, _TOP + _HEIGHT + 20, f"{amount(time)} s", "soft", "middle")


def _line(key: str, get: Callable[[_Point], float], dash: str, points: Sequence[_Point], canvas: _Canvas) -> str:
    places = " ".join(f"{canvas.x((one.start + one.end) / 2):.1f},{canvas.y(get(one)):.1f}" for one in points)
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<polyline class="line {key}" points="{places}" stroke="var(--{key})"{dashes}/>'


def _mark(one: Simulation, canvas: _Canvas) -> Iterator[str]:
    if one.time_to_recover is None:
        return
    x = canvas.x(one.outage[1] + one.time_to_recover)
    end = _TOP + _HEIGHT
    yield f'<path d="M{x:.1f},{_TOP - 4}V{end}" stroke="var(--mark)" stroke-width="1.5" stroke-dasharray="3 3"/>'
    yield f'<path d="M{x - 5:.1f},{_TOP - 4}h10l-5,8z" fill="var(--mark)"/>'
    anchor, shift = ("end", -9) if x > _WIDTH * 0.7 else ("start", 9)
    yield _text(x + shift, _TOP + 16, recovery(one.time_to_recover), "", anchor)


def _bands(names: Sequence[str], points: Sequence[_Point], canvas: _Canvas) -> Iterator[str]:
    """A row for each breaker's name: what share of the breakers of this name is in which state."""
    top = _TOP + _HEIGHT + 44.0
    if not names:
        return
    used = {state for name in names for one in points for state in one.last.breakers.get(name, ())}
    x = float(_LEFT)
    yield _text(x, top + 4, "breakers:", "soft")
    x += 66
    for state in (state for state in _STATES if state in used):
        yield f'<rect x="{x:.1f}" y="{top - 6:.1f}" width="11" height="11" rx="2" fill="var(--{state})"/>'
        yield _text(x + 16, top + 4, state.replace("_", "-"), "soft")
        x += 16 + len(state) * 7 + 18
    for name in names:
        top += _ROW + _GAP
        yield from _band(name, points, canvas, top - 6)


def _band(name: str, points: Sequence[_Point], canvas: _Canvas, top: float) -> Iterator[str]:
    for shares, group in groupby(points, key=lambda one: _shares(one.last, name)):
        stretch = list(group)
        left, right = canvas.x(stretch[0].start), canvas.x(stretch[-1].end)
        y = top
        for state, share in shares:
            tall = share * _ROW
            yield (
                f'<rect x="{left:.1f}" y="{y:.2f}" width="{right - left:.1f}" height="{tall:.2f}" '
                f'fill="var(--{state})" shape-rendering="crispEdges"/>'
            )
            y += tall
    label = name if len(name) <= _LABEL else f"…{name[1 - _LABEL :]}"
    yield _text(_LEFT + 6, top + 13.5, label, "name")


def _shares(one: Interval, name: str) -> tuple[tuple[str, float], ...]:
    counts = one.breakers.get(name, {})
    total = sum(counts.values())
    return tuple((state, counts[state] / total) for state in _STATES if counts.get(state))
