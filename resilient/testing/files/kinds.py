"""What a value in a scenario file may be: each kind says it once, for the reader of files and for the JSON Schema."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

from resilient._checks import LONGEST
from resilient.errors import ConfigurationError
from resilient.strategies.problems import dotted, key_text, kind_of
from resilient.testing.files.importing import imported

Where: TypeAlias = "tuple[str | int, ...]"

#: In the place of a value that was objected to.
BAD: Any = object()

#: Ids stand on command lines and in file names.
ID = "[A-Za-z0-9_][A-Za-z0-9_.-]*"

_LONGEST_TEXT = 60


class Problem(NamedTuple):
    """One thing that is wrong, and where."""

    where: Where
    text: str

    def __str__(self) -> str:
        return f"{place(self.where)}: {self.text}" if self.where else self.text


def place(where: Where) -> str:
    """A path of keys as people write it: `scenarios[1].error_injection.target`."""
    text = ""
    for part in where:
        text += f"[{part}]" if isinstance(part, int) else f"{'.' if text else ''}{dotted((part,))}"
    return text


class Problems(list[Problem]):
    """What was found to be wrong so far."""

    def add(self, where: Where, text: str) -> Any:
        """Note a problem; returns what stands for the value."""
        self.append(Problem(where, text))
        return BAD

    def unfit(self, where: Where, expected: str, value: Any) -> Any:
        """Note a value of a plain setting, which is shown."""
        return self.add(where, f"expected {expected}, got {shown(value)}")

    def strange(self, where: Where, expected: str, value: Any) -> Any:
        """Note a value that may be a secret, or hold one: only its type is shown."""
        return self.add(where, f"expected {expected}, got {kind_of(value)}")

    def unknown(self, where: Where, key: Any, allowed: Iterable[str]) -> None:
        """Note a key that means nothing. Its value is not shown: it may have strayed here."""
        names = list(allowed)
        near = difflib.get_close_matches(key_text(key), names, 1)
        guess = f"did you mean {near[0]}? " if near else ""
        self.add((*where, key_text(key)), f"unknown key; {guess}allowed: {', '.join(names)}")


class Kind(NamedTuple):
    """A kind of value: its JSON Schema, and what reads it, or notes what is wrong with it and returns BAD."""

    schema: Mapping[str, Any]
    read: Callable[[Any, Where, Problems], Any]


def shown(value: Any) -> str:
    """A value of a plain setting in few characters; lists and tables by their kind alone."""
    if isinstance(value, str):
        return json.dumps(value if len(value) <= _LONGEST_TEXT else f"{value[:_LONGEST_TEXT]}...", ensure_ascii=False)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) or (isinstance(value, int) and abs(value) < 10**30):
        return repr(value)
    return kind_of(value)


def _fitting(schema: Mapping[str, Any], expected: str, fits: Callable[[Any], object]) -> Kind:
    def read(value: Any, where: Where, problems: Problems) -> Any:
        return value if fits(value) else problems.unfit(where, expected, value)

    return Kind(schema, read)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def number(expected: str, least: float, most: float = LONGEST, *, above: bool = False) -> Kind:
    """A number from `least` to `most`; `above`: `least` itself is too little."""

    def fits(value: Any) -> bool:
        return _is_number(value) and least <= value <= most and not (above and value == least)

    lowest = "exclusiveMinimum" if above else "minimum"
    return _fitting({"type": "number", lowest: least, "maximum": most}, expected, fits)


SECONDS = number("seconds, a number of at least 0", 0)
POSITIVE_SECONDS = number("seconds, a number greater than 0", 0, above=True)
PER_SECOND = number("calls per second, a number greater than 0", 0, above=True)
SHARE = number("a share, a number from 0 to 1", 0, 1)
WEIGHT = number("a number of at least 0", 0)
FLAG = _fitting({"type": "boolean"}, "true or false", lambda value: isinstance(value, bool))
TEXT = _fitting({"type": "string"}, "text", lambda value: isinstance(value, str))
NAME = _fitting(
    {"type": "string", "pattern": r"\S"}, "text, not empty", lambda value: isinstance(value, str) and value.strip()
)
IDENTIFIER = _fitting(
    {"type": "string", "pattern": f"^{ID}$"},
    "letters, digits, -, _ and ., not beginning with - or .",
    lambda value: isinstance(value, str) and re.fullmatch(ID, value),
)


def _read_count(value: Any, where: Where, problems: Problems) -> Any:
    # To a JSON Schema 3.0 is a whole number too.
    if not _is_number(value) or value != int(value) or value < 1:
        return problems.unfit(where, "a whole number of at least 1", value)
    return int(value)


def _read_seed(value: Any, where: Where, problems: Problems) -> Any:
    if isinstance(value, str):
        return value
    if _is_number(value) and value == int(value):
        return int(value)
    return problems.unfit(where, "a whole number, or text", value)


def _read_window(value: Any, where: Where, problems: Problems) -> Any:
    if not isinstance(value, list) or len(value) != 2:
        return problems.unfit(where, "two numbers of seconds, [start, end]", value)
    ends = tuple(SECONDS.read(one, (*where, index), problems) for index, one in enumerate(value))
    return BAD if BAD in ends else ends


COUNT = Kind({"type": "integer", "minimum": 1}, _read_count)
SEED = Kind({"type": ["integer", "string"]}, _read_seed)
WINDOW = Kind({"type": "array", "items": SECONDS.schema, "minItems": 2, "maxItems": 2}, _read_window)


def choice(words: Mapping[Any, Any], expected: str = "") -> Kind:
    """One of some words (or true and false), which stand for values."""
    text = expected or f"one of {', '.join(words)}"

    def read(value: Any, where: Where, problems: Problems) -> Any:
        # 1 is not true here.
        if isinstance(value, (str, bool)) and value in words:
            return words[value]
        texts = [one for one in words if isinstance(one, str)]
        near = difflib.get_close_matches(value, texts, 1) if isinstance(value, str) else []
        return problems.unfit(where, f"{text}{f' (did you mean {near[0]}?)' if near else ''}", value)

    return Kind({"enum": list(words)}, read)


def is_path(value: Any) -> bool:
    """Whether a value is written as the path of code."""
    return isinstance(value, str) and re.fullmatch(r"[^\s:]+:[^\s:]+", value) is not None


def _read_code(value: Any, where: Where, problems: Problems) -> Any:
    if not is_path(value):
        return problems.strange(where, 'the path of code, "package.module:name"', value)
    try:
        return imported(value)
    except ConfigurationError as error:
        return problems.add(where, str(error))


def _read_function(value: Any, where: Where, problems: Problems) -> Any:
    found = _read_code(value, where, problems)
    if found is not BAD and not callable(found):
        return problems.add(where, f"{value} is a {type(found).__name__}, which cannot be called")
    return found


_PATH = {"type": "string", "pattern": r"^[^\s:]+:[^\s:]+$"}
#: Whatever has the name that is given.
CODE = Kind(_PATH, _read_code)
FUNCTION = Kind(_PATH, _read_function)

#: `{ import = "package.module:name" }`, where a text would mean itself.
IMPORT: dict[str, Any] = {
    "type": "object",
    "required": ["import"],
    "additionalProperties": False,
    "properties": {"import": _PATH},
}


def either(*kinds: tuple[Callable[[Any], bool], Kind]) -> Kind:
    """The first kind whose condition a value meets; the last one's objections where it meets none."""

    def read(value: Any, where: Where, problems: Problems) -> Any:
        chosen = next((kind for fits, kind in kinds if fits(value)), kinds[-1][1])
        return chosen.read(value, where, problems)

    return Kind({"anyOf": [dict(kind.schema) for _, kind in kinds]}, read)


def is_import(value: Any) -> bool:
    """Whether a value names code, where a text would mean itself."""
    return isinstance(value, Mapping) and "import" in value


def _read_import(value: Any, where: Where, problems: Problems) -> Any:
    for key in value:
        if key != "import":
            problems.unknown(where, key, ("import",))
    return CODE.read(value["import"], (*where, "import"), problems)


IMPORTED = Kind(IMPORT, _read_import)
