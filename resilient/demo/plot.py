"""A run of the demo as a picture: SVG that needs nothing else, in light and in dark, and on a phone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from textwrap import wrap

from resilient.demo import plot_lanes as lanes
from resilient.demo.outcome import Outcome
from resilient.demo.plot_lanes import STATES, Axis, Stretch
from resilient.demo.report import MEANINGS
from resilient.demo.traffic import Second
from resilient.drawing.markup import line, tag
from resilient.drawing.palette import pattern, stylesheet
from resilient.drawing.sheet import PHONE, Sheet, document, path

WIDTH, LEFT, RIGHT = 800, 56, 24
_CLASS = "resilient-demo"
_TITLE = "resilient demo: a service is killed and comes back"
_ROW, _LONGEST_LINE, _MOST_LINES, _MOST_BREAKERS = 24, 62, 4, 6

_LIGHT = {"ok": "#2da44e", "fallback": "#e0a100", "rejected": "#d1242f", "failed": "#8250df", "down": "#cf222e"}
_DARK = {"ok": "#2ea043", "fallback": "#d29922", "rejected": "#f85149", "failed": "#a371f7", "down": "#f85149"}
_FILLS = {"fallback": "rising", "rejected": "crossed", "failed": "dotted", **STATES}
_RULES = f"""
& {{ max-width: 100%; height: auto }}
& .title {{ font-size: 17px; font-weight: 600 }} & .lane {{ font-weight: 600 }}
& .in {{ text-anchor: middle; paint-order: stroke; stroke: var(--back); stroke-width: 4px; stroke-linejoin: round }}
& .mark {{ font-weight: 600; paint-order: stroke; stroke: var(--back); stroke-width: 4px; stroke-linejoin: round }}
& .grid {{ stroke: var(--grid) }} & .tick {{ stroke: var(--soft) }}
& .load {{ fill: none; stroke: var(--ink); stroke-width: 2 }}
& .event {{ stroke: var(--ink); stroke-width: 1.5; stroke-dasharray: 4 3 }}
& .down {{ fill: var(--down); fill-opacity: 0.1 }} & .phase {{ fill: var(--grid); stroke: var(--back) }}
{PHONE} {{ & {{ font-size: 20px }} & .title {{ font-size: 24px }} & .wide {{ display: none }} }}
"""


def draw(outcome: Outcome) -> str:
    """The picture as one SVG document: load, outcomes and the breaker's state over the seconds of the run."""
    axis = Axis(_end(outcome), LEFT, WIDTH - RIGHT)
    sheet = Sheet()
    y = _head(sheet, outcome)
    y = _legend(sheet, outcome, y + 12)
    y = lanes.phases(sheet, outcome.phases, axis, y + 14)
    sheet.text(LEFT, y + 26, "calls begun in each second, by outcome", "lane")
    marks = [(outcome.killed_at, "killed"), (outcome.restarted_at, "back")]
    top = lanes.labels(sheet, marks, axis, y + 54)
    y = lanes.bars(sheet, outcome.seconds, axis, top)
    y = _breakers(sheet, outcome, axis, y + 14)
    lanes.marks(sheet, marks, axis, (top, y))
    y = lanes.times(sheet, axis, y + 6)
    style = stylesheet(_CLASS, _RULES, _LIGHT, _DARK)
    fills = [pattern(f"demo-{name}", kind, f"var(--{name})", "var(--back)") for name, kind in _FILLS.items() if kind]
    size = WIDTH, y + 10
    return document(_CLASS, _TITLE, " ".join(_described(outcome)), style, size, sheet.drawn, *fills)


def stretches(outcome: Outcome) -> dict[str, list[Stretch]]:
    """Each breaker's states in the order of time, from the start of the run to its end, by the breaker's name."""
    end = _end(outcome)
    found: dict[str, list[Stretch]] = {}
    for name, facts in outcome.snapshot.get("circuit_breakers", {}).items():
        found[name] = [Stretch(0.0, end, str(facts["state"]))]
    for name in {change.name for change in outcome.transitions}:
        changes = sorted((one for one in outcome.transitions if one.name == name), key=lambda one: one.at)
        times = [0.0, *(max(0.0, one.at) for one in changes), end]
        states = [changes[0].old, *(one.new for one in changes)]
        found[name] = [Stretch(*one) for one in zip(times, times[1:], states, strict=False)]
    return dict(sorted(found.items()))


def _end(outcome: Outcome) -> float:
    """When the last that is known of happened. Calls later than that were made in the time of grace."""
    known = [phase.ends for phase in outcome.phases] + [change.at for change in outcome.transitions]
    end = max([*known, outcome.killed_at, outcome.restarted_at])
    return max(end, len(outcome.seconds)) if len(outcome.seconds) > math.ceil(end) else end or 1.0


def _described(outcome: Outcome) -> Iterator[str]:
    """The picture in words."""
    total = sum(outcome.seconds, Second())
    yield f"{total.total} calls in {_end(outcome):.1f} s:"
    yield ", ".join(f"{getattr(total, kind)} {kind}" for kind in MEANINGS) + "."
    for phase in outcome.phases:
        yield f"Phase {line(phase.name, 80)} from {phase.starts:.1f} to {phase.ends:.1f} s."
    yield f"The service was killed at {outcome.killed_at:.1f} s and was back at {outcome.restarted_at:.1f} s."
    for name, states in list(stretches(outcome).items())[:_MOST_BREAKERS]:
        counted = Counter(lanes.word(one.state) for one in states)
        times = ", ".join(f"{times} x {state}" for state, times in counted.items())
        yield f"Breaker {line(name, 80)}: {times}; {lanes.word(states[-1].state)} at the end."
    yield line(outcome.verdict.text, 400)


def _head(sheet: Sheet, outcome: Outcome) -> float:
    sheet.text(LEFT, 30, _TITLE, "title")
    verdict = wrap(line(outcome.verdict.text, 400), _LONGEST_LINE, max_lines=_MOST_LINES, placeholder="…")
    for number, row in enumerate(verdict, start=1):
        sheet.text(LEFT, 30 + number * _ROW, row, "soft")
    return 30.0 + len(verdict) * _ROW


def _legend(sheet: Sheet, outcome: Outcome, y: float) -> float:
    """What the fills mean, with the sums; of failures only if there were any."""
    total = sum(outcome.seconds, Second())
    kinds = [kind for kind in MEANINGS if kind != "failed" or total.failed]
    words = {kind: (f"{getattr(total, kind):,} {kind}", f": {MEANINGS[kind]}") for kind in kinds}
    words["load"] = (f"{total.total:,} calls", ": the load")
    for number, (kind, (said, meaning)) in enumerate(words.items()):
        x, top = LEFT + number % 2 * 372, y + number // 2 * _ROW
        if kind == "load":
            sheet.shapes.append(path(f"M{x},{top + 7}h14", "load"))
        else:
            sheet.shapes.append(tag("rect", x=x, y=top, width=14, height=14, fill=lanes.fill(kind)))
        sheet.words.append(tag("text", said, tag("tspan", meaning, class_="wide"), x=x + 22, y=f"{top + 12:.1f}"))
    return y + math.ceil(len(words) / 2) * _ROW


def _breakers(sheet: Sheet, outcome: Outcome, axis: Axis, y: float) -> float:
    every = stretches(outcome)
    y = lanes.key(sheet, {one.state for states in every.values() for one in states}, axis, y)
    for name, states in list(every.items())[:_MOST_BREAKERS]:
        y = lanes.band(sheet, name, states, axis, y)
    if len(every) > _MOST_BREAKERS:
        sheet.text(LEFT, y + 20, f"and {len(every) - _MOST_BREAKERS} more breakers", "soft")
        y += _ROW
    return y
