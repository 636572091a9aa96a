"""Changing values in JSON text in their places: numbers, order and layout of everything else stay as written."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

_BLANKS = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder(strict=True)


class _Member(NamedTuple):
    """Where a key of an object begins and ends, and where its value does."""

    key: str
    begin: int
    colon: int
    value: int
    end: int


def put(text: str, keys: tuple[str, ...], value: Any) -> str:
    """Valid text whose outermost value is an object, with a value under these keys; objects on the way are made."""
    begin = _blanks(text, 0)
    while True:
        members = _members(text, begin)
        found = next((one for one in members if one.key == keys[0]), None)
        if found is None:
            for key in reversed(keys[1:]):
                value = {key: value}
            return _added(text, begin, members, keys[0], value)
        if len(keys) == 1:
            return _replaced(text, found, value)
        begin, keys = found.value, keys[1:]


def _replaced(text: str, found: _Member, value: Any) -> str:
    old, _ = _DECODER.raw_decode(text, found.value)
    if _plain(old) == _plain(value) or (isinstance(old, Mapping) and isinstance(value, Mapping)):
        return text
    return f"{text[: found.value]}{_rendered(text, value, found.begin)}{text[found.end :]}"


def _added(text: str, begin: int, members: list[_Member], key: str, value: Any) -> str:
    """The text with one more member at the end of the object that begins there."""
    if not members:
        end = _blanks(text, begin + 1) + 1
        return f"{text[:begin]}{_rendered(text, {key: value}, begin)}{text[end:]}"
    last = members[-1]
    colon = text[last.colon : last.value]
    start = text.rfind(",", 0, last.begin) if len(members) > 1 else begin
    before = text[start + 1 : last.begin]
    if not before and colon.endswith(" "):
        before = " "
    new = f",{before}{_rendered(text, key, last.begin)}{colon}{_rendered(text, value, last.begin)}"
    return text[: last.end] + new + text[last.end :]


def _rendered(text: str, value: Any, place: int) -> str:
    """A value as the text would write it at a place: indented where that is in a line of its own."""
    line = text[text.rfind("\n", 0, place) + 1 : place]
    margin = line[: len(line) - len(line.lstrip())]
    found = re.search(r"\n([ \t]+)\S", text)
    unit = found[1] if found else 2 if text.strip() == "{}" else None
    own_line = not line.strip() or text[place] == "{"
    separators = (",", ":") if unit is None and re.search(r'"\s*:\S', text) else None
    written = json.dumps(
        value,
        indent=unit if own_line else None,
        separators=separators,
        ensure_ascii=text.isascii() and "\\u" in text,
        allow_nan=False,
    )
    return written.replace("\n", ("\r\n" if "\r\n" in text else "\n") + margin)


def _members(text: str, begin: int) -> list[_Member]:
    """The members of the object that begins there."""
    found: list[_Member] = []
    place = _blanks(text, begin + 1)
    while text[place] != "}":
        key, key_end = _DECODER.raw_decode(text, place)
        value = _blanks(text, _blanks(text, key_end) + 1)
        _, end = _DECODER.raw_decode(text, value)
        found.append(_Member(key, place, key_end, value, end))
        place = _blanks(text, end)
        if text[place] == ",":
            place = _blanks(text, place + 1)
    return found


def _blanks(text: str, place: int) -> int:
    """Where the next character stands that is no blank."""
    found = _BLANKS.match(text, place)
    return place if found is None else found.end()


def _plain(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
