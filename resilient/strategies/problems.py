"""What is wrong with a strategy: where, with which value, and what would be right."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable
from typing import Any, NamedTuple

_PLAIN = re.compile(r"[A-Za-z0-9_-]+")
_LONGEST_VALUE, _LONGEST_REMEDY = 80, 300

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 40
_short.maxlevel = 2


class Problem(NamedTuple):
    """One thing that is wrong: the path of keys that leads to it, and the text that follows the path."""

    path: tuple[str, ...]
    text: str

    def __str__(self) -> str:
        return f"{dotted(self.path)}{self.text}"

    def under(self, *outer: str) -> Problem:
        """The same further in: seen from a table that has this one under the key `outer`."""
        return Problem((*outer, *self.path), self.text)


def problem(path: Iterable[str], value: Any, remedy: str) -> Problem:
    """A value that cannot work, shown shortened, with what would."""
    return Problem(tuple(path), f"={shown(value)}: {remedy[:_LONGEST_REMEDY]}")


def misplaced(path: Iterable[str], value: Any, remedy: str) -> Problem:
    """A value in the place of a table. It is not shown: it may be a secret that has strayed here."""
    return Problem(tuple(path), f"={kind_of(value)}: {remedy[:_LONGEST_REMEDY]}")


def unknown(path: Iterable[str], allowed: Iterable[str]) -> Problem:
    """A key that means nothing. Its value is not shown: it may have strayed here."""
    return Problem(tuple(path), f": unknown key; allowed: {', '.join(allowed)}")


def shown(value: Any) -> str:
    """A value in few characters."""
    try:
        text = _short.repr(value)
    except Exception:  # an integer of thousands of digits, a repr that fails
        return kind_of(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def kind_of(value: Any) -> str:
    """A value by its type alone."""
    return f"<{type(value).__name__}>"


def key_text(key: Any) -> str:
    """A key as text, also one that a file should not have."""
    try:
        return str(key)
    except Exception:  # an integer of thousands of digits
        return kind_of(key)


def dotted(path: Iterable[str]) -> str:
    """A path of keys as TOML writes it; keys with dots or blanks in quotes."""
    return ".".join(key if _PLAIN.fullmatch(key) else f'"{key[:80]}"' for key in path)


def listed(heading: str, problems: Iterable[object]) -> str:
    """A message with every problem on a line of its own."""
    lines = [str(one) for one in problems]
    count = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
    return "\n  ".join([f"{heading}: {count}", *lines])
