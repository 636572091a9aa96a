"""HTML and SVG from Python: whatever is not markup already is escaped, so that nobody can forget it."""

from __future__ import annotations

import html
import re

#: What XML and HTML do not allow, half characters, which no file can hold, and what turns the text after it round.
_FORBIDDEN = re.compile(
    "[^\t\n\r\x20-\x7e\x85\xa0-\u2029\u202f-\u2065\u206a-\ud7ff\ue000-\ufdcf\ufdf0-\ufffd\U00010000-\U0010ffff]"
)
_EMPTY = frozenset({"meta", "br", "circle", "line", "rect", "use", "path", "polyline"})


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


def clean(text: object) -> str:
    """A text without characters that files may not hold; each becomes the replacement character."""
    return _FORBIDDEN.sub("\ufffd", str(text))


def line(text: object, longest: int = 0) -> str:
    """The same in one line, cut after `longest` characters where that is given."""
    return cut(" ".join(clean(text).split()), longest)


def cut(text: str, longest: int) -> str:
    """A text of at most so many characters, its last one saying that there was more; 0: all of it."""
    return text if not longest or len(text) <= longest else f"{text[: longest - 1]}…"


def squeezed(text: str, longest: int) -> str:
    """A text of at most so many characters, cut in the middle: names that begin alike often differ at their ends."""
    if len(text) <= longest:
        return text
    end = longest // 2
    return f"{text[: longest - end - 1]}…{text[-end:]}"


def _escaped(value: object) -> str:
    return value if isinstance(value, Markup) else html.escape(clean(value))
