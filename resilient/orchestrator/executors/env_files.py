"""Files of `KEY=value` lines: values are changed in their places, everything else stays as it is.

Values are quoted as a POSIX shell reads them, which is also how systemd and the usual loaders do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LINE = re.compile(r"(\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*)(.*)", re.DOTALL)
_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+,=-]*")
_COMMENT = re.compile(r"\s+#.*", re.DOTALL)
_ESCAPED = re.compile(r'[\\"$`]')


class _Line(NamedTuple):
    """An assignment: what is before the value, its key, the value, and what is behind it; other lines have no key."""

    before: str
    key: str | None = None
    value: str = ""
    after: str = ""


def changed(text: str, values: Mapping[str, Any]) -> str:
    """The text with these values. A key that is there several times gets its value in each place; new ones go last."""
    lines = list(_lines(text))
    left = dict(values)
    written = []
    for line in lines:
        value = line.value
        if line.key is not None and line.key in values:
            value = quoted(values[line.key])
            left.pop(line.key, None)
        written.append(f"{line.before}{value}{line.after}")
    end = "\r\n" if "\r\n" in text else "\n"
    whole = "".join(written)
    if left and whole and not whole.endswith("\n"):
        whole += end
    return whole + "".join(f"{key}={quoted(value)}{end}" for key, value in left.items())


def quoted(value: Any) -> str:
    """A value as it stands behind the `=`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    if _PLAIN.fullmatch(text):
        return text
    if "'" not in text:
        return f"'{text}'"
    return '"' + _ESCAPED.sub(lambda found: f"\\{found[0]}", text) + '"'


def _lines(text: str) -> Iterator[_Line]:
    """The lines of a file; one whose quoted value goes on in the next ones is a single line."""
    rest = re.findall(r"[^\n]*\n|[^\n]+", text)
    while rest:
        found = _LINE.fullmatch(rest[0])
        if found is None:
            yield _Line(rest.pop(0))
            continue
        before, key, tail = found.groups()
        if tail[:1] not in {"'", '"'}:
            rest.pop(0)
            yield _Line(before, key, *_split(tail))
            continue
        yield _quoted_line(before, key, tail, rest)


def _quoted_line(before: str, key: str, tail: str, rest: list[str]) -> _Line:
    """Takes off `rest` all lines up to the one with the closing quote."""
    end = _closing(tail, 0)
    taken = 1
    while end is None and taken < len(rest):
        tail += rest[taken]
        taken += 1
        end = _closing(tail, 0)
    if end is None:  # a quote that never closes is a character like any other
        return _Line(before, key, *_split(_LINE.fullmatch(rest.pop(0))[3]))  # type: ignore[index]
    del rest[:taken]
    return _Line(before, key, *_split(tail))


def _closing(tail: str, start: int) -> int | None:
    """Behind which character what is quoted from `start` on ends."""
    quote, place = tail[start], start + 1
    while place < len(tail):
        if tail[place] == "\\" and quote == '"':
            place += 1
        elif tail[place] == quote:
            return place + 1
        place += 1
    return None


def _split(tail: str) -> tuple[str, str]:
    """A value, with all its parts in quotes or without, and the comment or line end behind it."""
    place = end = 0
    while place < len(tail):
        if _COMMENT.match(tail, place):
            break
        closed = _closing(tail, place) if tail[place] in "'\"" else None
        place = closed or place + (2 if tail[place] == "\\" else 1)
        if not tail[:place][-1].isspace():
            end = place
    return tail[:end], tail[end:]
