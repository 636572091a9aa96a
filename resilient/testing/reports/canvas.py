"""The drawing under all lanes: time runs across in percent of the width, so that texts keep their size on a phone."""

from __future__ import annotations

import math
from collections.abc import Iterable

from resilient.drawing.markup import Markup, join, squeezed, tag

#: Room left and right of the drawing, in percent: what happens at its very ends is seen whole.
_MARGIN = 1.0
#: How wide a character is, and the drawing on a desktop and on a phone, in pixels.
_CHARACTER, _WIDE, _NARROW = 6.9, 900.0, 290.0


class Canvas:
    """Shapes from 0 to `end` seconds; `y` is where the next lane begins, in pixels."""

    def __init__(self, end: float) -> None:
        self.end = end
        self.y = 0.0
        self._shapes: list[Markup] = []

    def add(self, *shapes: Markup | None) -> None:
        """Draw something over what is there."""
        self._shapes += [one for one in shapes if one is not None]

    def down(self, pixels: float) -> float:
        """Where the lane is that begins here; the next one begins so many pixels below."""
        top, self.y = self.y, self.y + pixels
        return top

    @property
    def drawn(self) -> Markup:
        """All shapes."""
        return join(*self._shapes)

    def share(self, at: float) -> float:
        """Where a moment is, in percent of the width."""
        inside = min(self.end, max(0.0, at)) if math.isfinite(at) else self.end
        return _MARGIN + (100 - 2 * _MARGIN) * inside / self.end

    def x(self, at: float) -> str:
        """The same, as an attribute."""
        return f"{self.share(at):.2f}%"

    def width(self, start: float, end: float) -> str:
        """How wide a stretch is."""
        # What is not wide is not drawn at all.
        return f"{max(0.15, self.share(end) - self.share(start)):.2f}%"

    def band(self, start: float, end: float, y: float, height: float, text: str, kind: str, title: str) -> Markup:
        """A stretch with a text in it, where there is room: on all screens, only on wide ones, or on none."""
        x, width = self.x(start), self.width(start, end)
        rect = tag("rect", tag("title", title), x=x, y=y, width=width, height=height, class_=f"band {kind}")
        share = (self.share(end) - self.share(start)) / 100
        needed = (len(text) + 1.5) * _CHARACTER
        if share * _WIDE < needed:
            return rect
        middle = f"{(self.share(start) + self.share(end)) / 2:.2f}%"
        shown = "on-wide" if share * _NARROW < needed else None
        label = tag("text", text, x=middle, y=y + height / 2, class_=" ".join(filter(None, ["in", kind, shown])))
        return join(rect, label)

    def heading(self, text: str, note: str = "") -> None:
        """The name of the lane that follows, and a note for wide screens."""
        y = self.down(22) + 15
        inner = [squeezed(text, 40)]
        spans: Iterable[object] = [tag("tspan", f"  {squeezed(note, 70)}", class_="note beside")] if note else []
        self.add(tag("text", *inner, *spans, x="1%", y=y, class_="lane"))

    def label(self, at: float, y: float, text: str, kind: str) -> Markup:
        """A text beside a moment, on the side where there is room."""
        share = self.share(at)
        is_right = share > 50
        return tag(
            "text",
            text,
            x=f"{share:.2f}%",
            y=y,
            dx=-7 if is_right else 7,
            class_=f"{kind} {'end' if is_right else 'start'}",
        )

    def line(self, at: float, top: float, bottom: float, kind: str) -> Markup:
        """A line from top to bottom at a moment."""
        x = self.x(at)
        return tag("line", x1=x, x2=x, y1=top, y2=bottom, class_=kind)
