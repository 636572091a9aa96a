"""Colours for light and dark, and patterns for eyes and printers that know no colour."""

from __future__ import annotations

from collections.abc import Mapping

from resilient.drawing.markup import Markup, join, tag

_LIGHT = {
    "ink": "#1f2328",
    "soft": "#59636e",
    "grid": "#d8dee4",
    "back": "#ffffff",
    "closed": "#4ac26b",
    "half_open": "#d4a72c",
    "open": "#e5534b",
    "isolated": "#8250df",
    "disabled": "#8c959f",
}
_DARK = {
    "ink": "#e6edf3",
    "soft": "#9198a1",
    "grid": "#30363d",
    "back": "#0d1117",
    "closed": "#2ea043",
    "half_open": "#bb8009",
    "open": "#da3633",
}
#: What is drawn over a square of 8 by 8 to make a pattern of it.
_PATTERNS = {
    "rising": "M-2,2l4,-4M0,8l8,-8M6,10l4,-4",
    "falling": "M-2,6l4,4M0,0l8,8M6,-2l4,4",
    "crossed": "M0,0l8,8M0,8l8,-8",
    "dotted": "M2,2h2M6,6h2",
}


def stylesheet(name: str, rules: str, light: Mapping[str, str], dark: Mapping[str, str]) -> Markup:
    """The style of a drawing whose class is `name`: colours as variables, more than the usual ones in `light`, `dark`.

    `rules` are CSS, in which `&` stands for the drawing. Colours that `dark` lacks stay as they are in the light.
    """
    text = (
        f"& {{ {_variables(_LIGHT | dict(light))}; font: 13px system-ui, sans-serif }}\n"
        f"@media (prefers-color-scheme: dark) {{ & {{ {_variables(_DARK | dict(dark))} }} }}\n"
        "& text { fill: var(--ink) } & .soft { fill: var(--soft) }\n"
        f"{rules.strip()}\n"
    )
    return tag("style", Markup(text.replace("&", f".{name}")))


def pattern(name: str, kind: str, back: str, lines: str) -> Markup:
    """A pattern to fill shapes with as `url(#name)`: "rising", "falling", "crossed" or "dotted" lines over a colour."""
    square = tag("rect", width=8, height=8, fill=back)
    drawn = tag("path", d=_PATTERNS[kind], stroke=lines, stroke_width=2, fill="none")
    return tag("pattern", join(square, drawn), id=name, width=8, height=8, patternUnits="userSpaceOnUse")


def _variables(colours: Mapping[str, str]) -> str:
    return "; ".join(f"--{name}: {value}" for name, value in colours.items())
