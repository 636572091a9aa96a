"""What a picture is drawn on, and the SVG document that it becomes."""

from __future__ import annotations

import math

from resilient.drawing.markup import Markup, join, tag

#: How wide a character is, at most, on a desk and on a phone, in units of a drawing 800 wide.
CHARACTER, NARROW = 7.6, 11.8
#: Below so many pixels a drawing is on a phone: its texts grow, and those of class `wide` are left out.
PHONE = "@media (max-width: 560px)"


class Sheet:
    """Layers of a drawing: what lies behind, the shapes, and the words, which nothing crosses."""

    def __init__(self) -> None:
        self.behind: list[Markup] = []
        self.shapes: list[Markup] = []
        self.words: list[Markup] = []

    @property
    def drawn(self) -> Markup:
        """All of it."""
        return Markup("\n".join([*self.behind, *self.shapes, *self.words]))

    def text(self, x: float, y: float, said: object, kind: str = "", anchor: str | None = None) -> None:
        """Write a text at a place."""
        self.words.append(tag("text", said, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor, class_=kind or None))

    def within(self, left: float, right: float, y: float, said: str, kind: str = "") -> None:
        """Write a text in the middle between two places, if there is room: everywhere, or on a desk alone."""
        if (len(said) + 1) * CHARACTER <= right - left:
            shown = "in" if (len(said) + 1) * NARROW <= right - left else "in wide"
            self.text((left + right) / 2, y, said, f"{shown} {kind}".strip())


def box(left: float, right: float, top: float, height: float, *title: str, **attributes: object) -> Markup:
    """A rectangle with a title that pointers show."""
    inner = [tag("title", one) for one in title]
    width = max(0.0, right - left)
    place = {"x": f"{left:.2f}", "y": f"{top:.2f}", "width": f"{width:.2f}", "height": f"{height:.2f}"}
    return tag("rect", *inner, **place, **attributes)


def path(d: str, kind: str) -> Markup:
    """A line."""
    return tag("path", d=d, class_=kind)


def document(
    name: str, title: str, description: str, style: Markup, size: tuple[int, float], drawn: Markup, *defs: Markup
) -> str:
    """The whole file, for a drawing of the class `name` and of this width and height; readable aloud."""
    width, height = size[0], math.ceil(size[1])
    root = tag(
        "svg",
        tag("title", title, id=f"{name}-title"),
        tag("desc", description, id=f"{name}-desc"),
        style,
        tag("defs", *defs),
        tag("rect", width=width, height=height, class_="paper", fill="var(--back)"),
        join("\n", drawn, "\n"),
        xmlns="http://www.w3.org/2000/svg",
        class_=name,
        viewBox=f"0 0 {width} {height}",
        width=width,
        height=height,
        role="img",
        aria_labelledby=f"{name}-title {name}-desc",
    )
    return f"{root}\n"
