"""The rows as a picture: a bar for each library and pattern, in multiples of W, with our limits as marks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from resilient.drawing.markup import line, squeezed
from resilient.drawing.palette import pattern, stylesheet
from resilient.drawing.sheet import PHONE, Sheet, box, document, path

from .harness import Row
from .report import number

WIDTH, LEFT, RIGHT = 800, 150, 170
_BAR, _ROW, _HEAD, _LONGEST = 13, 19, 28, 16
_CLASS, _TITLE = "resilient-speed", "Time of a guarded call, beside other libraries"
_HEADINGS = {"sync": "Plain functions", "async": "Coroutine functions"}
_UNIT, _SCALE = "in multiples of W; shorter is faster", "logarithmic scale: each line is ten times the one before"
_LIGHT = {"ours": "#0969da", "rival": "#8c959f", "mark": "#bc4c00"}
_DARK = {"ours": "#388bfd", "rival": "#6e7681", "mark": "#f0883e"}
_RULES = f"""
& {{ max-width: 100%; height: auto }}
& .title {{ font-size: 17px; font-weight: 600 }} & .section {{ font-size: 15px; font-weight: 600 }}
& .pattern {{ font-weight: 600 }} & text.ours {{ font-weight: 600 }}
& text {{ paint-order: stroke; stroke: var(--back); stroke-width: 6px; stroke-linejoin: round }}
& .grid {{ stroke: var(--grid) }} & .one {{ stroke: var(--soft); stroke-dasharray: 4 3 }}
& .limit {{ stroke: var(--mark); stroke-width: 3 }} & .over {{ fill: var(--mark); font-weight: 600 }}
{PHONE} {{ & {{ font-size: 18px }} & .title {{ font-size: 22px }} & .section {{ font-size: 20px }}
  & .wide {{ display: none }} }}
"""


class Scale(NamedTuple):
    """A logarithmic axis from 10 ** `least` to 10 ** `most`."""

    least: int
    most: int

    @classmethod
    def over(cls, values: Sequence[float]) -> Scale:
        """The powers of ten that hold all of them."""
        some = [value for value in values if 0 < value < math.inf] or [1.0]
        least = min(0, math.floor(math.log10(min(some))))
        return cls(least, max(least + 1, math.ceil(math.log10(max(some)))))

    def x(self, value: float) -> float:
        """The place of a value; what is not over zero is put at the edge."""
        if value <= 0:
            return LEFT
        share = (min(math.log10(value), self.most) - self.least) / (self.most - self.least)
        return LEFT + (WIDTH - RIGHT - LEFT) * max(0.0, share)


def bars(rows: Iterable[Row], libraries: Sequence[str]) -> dict[str, dict[str, list[Row]]]:
    """Rows that are multiples of W by section and pattern, in the order of `libraries`; the others are left out."""
    found: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        if row.against == "W" and row.section in _HEADINGS and math.isfinite(row.value):
            found.setdefault(row.section, {}).setdefault(row.pattern, []).append(row)
    order = [*libraries]
    for patterns in found.values():
        for group in patterns.values():
            group.sort(key=lambda row: order.index(row.library) if row.library in order else len(order))
    return {section: found[section] for section in _HEADINGS if section in found}


def draw(rows: Sequence[Row], libraries: Sequence[str]) -> str:
    """The picture as an SVG document; the first library is the one that is judged."""
    sections = bars(rows, libraries)
    shown = [row for patterns in sections.values() for group in patterns.values() for row in group]
    scale = Scale.over([row.value for row in shown] + [row.limit for row in shown if row.limit])
    sheet = Sheet()
    sheet.text(16, 30, _TITLE, "title")
    sheet.text(16, 54, _UNIT, "soft")
    sheet.text(16, 78, _SCALE, "soft")
    sheet.shapes.append(path("M18,88v14", "limit"))
    sheet.text(28, 100, "our limit", "soft")
    y = 112.0
    for section, patterns in sections.items():
        y = _section(sheet, _HEADINGS[section], patterns, (scale, libraries[0]), y)
    if not shown:
        sheet.text(16, y + 20, "Nothing was measured against W.", "soft")
        y += 24
    style = stylesheet(_CLASS, _RULES, _LIGHT, _DARK)
    rival = pattern("speed-rival", "rising", "var(--rival)", "var(--back)")
    return document(_CLASS, _TITLE, " ".join(_described(sections)), style, (WIDTH, y + 12), sheet.drawn, rival)


def _section(
    sheet: Sheet, heading: str, patterns: Mapping[str, Sequence[Row]], judged: tuple[Scale, str], y: float
) -> float:
    scale, ours = judged
    sheet.text(16, y + 26, heading, "section")
    top = y + 54
    _ticks(sheet, scale, top - 6)
    y = top
    for name, group in patterns.items():
        sheet.text(16, y + 19, squeezed(line(name), 60), "pattern")
        y += _HEAD
        for row in group:
            _bar(sheet, row, scale, y, is_ours=row.library == ours)
            y += _ROW
    for power in range(scale.least, scale.most + 1):
        kind = "grid" if power else "one"  # W itself
        sheet.behind.append(path(f"M{scale.x(10.0**power):.2f},{top}V{y:.1f}", kind))
    return y + 10


def _ticks(sheet: Sheet, scale: Scale, y: float) -> None:
    for power in range(scale.least, scale.most + 1):
        said = f"{10**power:,} W" if power >= 0 else f"{10.0**power:.{-power}f} W"
        sheet.text(scale.x(10.0**power), y, said, "soft", "middle")


def _bar(sheet: Sheet, row: Row, scale: Scale, y: float, *, is_ours: bool) -> None:
    """The name, the bar, the figure; of ours also the limit, as a mark and in words."""
    end = max(scale.x(row.value), LEFT + 1)
    kind = "ours" if is_ours else "rival"
    fill = "var(--ours)" if is_ours else "url(#speed-rival)"
    title = f"{line(row.pattern)}, {line(row.library)}: {row.value:.3g} W"
    sheet.text(LEFT - 8, y + 12, squeezed(line(row.library), _LONGEST), kind, "end")
    sheet.shapes.append(box(LEFT, end, y, _BAR, title, class_=f"bar {kind}", fill=fill))
    if row.limit is None:
        sheet.text(end + 6, y + 12, number(row.value), kind)
        return
    place = scale.x(row.limit)
    sheet.shapes.append(path(f"M{place:.2f},{y - 2:.1f}v{_BAR + 4}", "limit"))
    said = f"{number(row.value)}, {'over' if row.over else 'limit'} {number(row.limit)}"
    sheet.text(max(end, place) + 6, y + 12, said, "over" if row.over else kind)


def _described(sections: Mapping[str, Mapping[str, Sequence[Row]]]) -> Iterable[str]:
    """The picture in words."""
    yield f"Bars {_UNIT}; {_SCALE}."
    for section, patterns in sections.items():
        yield f"{_HEADINGS[section]}."
        for name, group in patterns.items():
            yield f"{line(name)}: {', '.join(f'{line(row.library)} {number(row.value)}' for row in group)}."
