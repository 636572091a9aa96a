"""HTML and SVG from Python: whatever is not markup already is escaped, so that nobody can forget it."""

from __future__ import annotations

import html

from resilient.testing.reports.texts import clean

_EMPTY = frozenset({"meta", "br", "circle", "line", "rect", "use", "path"})


class Markup(str):
    """A text that is markup; the only kind that is not escaped."""

    __slots__ = ()


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """An element. Of attributes, `_` in names is `-`, a `_` at the end is left out, and None is no attribute."""
    shown = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_escaped(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _EMPTY and not children:
        return Markup(f"<{name}{shown}/>")
    return Markup(f"<{name}{shown}>{join(*children)}</{name}>")


def join(*children: object) -> Markup:
    """One after the other; None is nothing."""
    return Markup("".join(_escaped(child) for child in children if child is not None))


def _escaped(value: object) -> str:
    return value if isinstance(value, Markup) else html.escape(clean(value))
