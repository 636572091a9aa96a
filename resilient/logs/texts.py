"""What comes from outside, such as the text of an error, in a form that fits into one line of a log."""

from __future__ import annotations

import re

#: How many characters of an error's text are logged.
LONGEST_TEXT = 500

# What starts a new line, moves the cursor, turns the direction of writing, or cannot be encoded.
_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def one_line(text: str) -> str:
    """The text with line breaks and control characters written as escapes, as `repr` would."""
    return _UNFIT.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode("ascii"), text)


def shortened(text: str) -> str:
    """At most `LONGEST_TEXT` characters of a text, before the escapes, in one line."""
    return one_line(text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 1]}…")


def described(error: BaseException) -> str:
    """An error in words: its type, and what it says, as far as it can be had."""
    try:
        text = shortened(str(error))
    except Exception:  # noqa: BLE001 - whatever a `__str__` raises
        text = "its text could not be made"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
