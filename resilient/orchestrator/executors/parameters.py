"""Reading a step's parameters: what is wrong is collected, so that all of it is reported at once.

Parameters may be secrets, so a message shows a value only where it can be none, such as a number of seconds.
"""

from __future__ import annotations

import json
import math
import os
import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Generic, TypeVar

from resilient.errors import ConfigurationError
from resilient.orchestrator.executor import StepExecutor
from resilient.orchestrator.model import RecoveryStep

S = TypeVar("S")

_NAMED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_DIGITS = re.compile(r"[0-9]{1,18}(\.[0-9]{1,18})?")
_LONGEST = 40


class ShippedExecutor(StepExecutor, Generic[S]):
    """Base of the shipped executors: `read` turns parameters into settings, before anything runs and when it runs."""

    #: The parameters there are.
    allowed: tuple[str, ...] = ()

    @abstractmethod
    def read(self, given: Parameters) -> S:
        """The settings in the parameters; what is wrong is noted in `given`, and then the settings mean nothing."""

    def problems(self, step: RecoveryStep) -> list[tuple[str, str]]:
        """What is wrong with a step's parameters; those with a `${...}` reference are not known yet."""
        given = Parameters(step.parameters, self.allowed, resolved=False)
        self.read(given)
        return given.problems

    def settings(self, step: RecoveryStep) -> S:
        """The settings of a step that is about to run; ConfigurationError with everything that is wrong."""
        given = Parameters(step.parameters, self.allowed, resolved=True)
        settings = self.read(given)
        if given.problems:
            said = "; ".join(f"{path}: {text}" if path else text for path, text in given.problems)
            raise ConfigurationError(f"parameters of {step.type_name} step {step.id!r}: {said}")
        return settings


class Parameters:
    """The parameters of one step. The methods return the value, or the default after noting what is wrong with it."""

    def __init__(self, values: Any, allowed: Sequence[str], *, resolved: bool) -> None:
        self.problems: list[tuple[str, str]] = []
        self._resolved = resolved
        if not isinstance(values, Mapping):
            self.note("", f"a table of {', '.join(allowed)}", kind_of(values))
            values = {}
        self._values = values
        for name in values:
            if name not in allowed:
                self.note(str(name), f"one of {', '.join(allowed)}", json.dumps(str(name)[:_LONGEST]))

    def note(self, path: str, expected: str, got: str) -> None:
        """Note a problem."""
        self.problems.append((path, f"expected {expected}, got {got}"))

    def has(self, name: str) -> bool:
        """Whether the parameter was given; None is the same as leaving it out."""
        return self._values.get(name) is not None

    def raw(self, name: str) -> Any:
        """The value as it was given, None where it was not."""
        return self._values.get(name)

    def unknown(self, value: Any) -> bool:
        """Whether the value has a reference in it, so that nobody can judge it yet."""
        return not self._resolved and has_reference(value)

    def one_of(self, *names: str, called: str | None = None) -> str | None:
        """Which of several parameters was given, None where it is not exactly one."""
        given = [name for name in names if self.has(name)]
        if len(given) == 1:
            return given[0]
        expected = f"exactly one of {called or ', '.join(names)}"
        self.note(given[1] if given else names[0], expected, " and ".join(given) or "none")
        return None

    def text(self, name: str, expected: str = "a text", default: Any = None, *, required: bool = False) -> Any:
        """A text that is not empty."""
        value = self.raw(name)
        if value is None:
            if required:
                self.note(name, expected, "none")
            return default
        if self.unknown(value):
            return default
        if isinstance(value, str) and value and "\0" not in value:
            return value
        self.note(name, expected, _strange(value))
        return default

    def path(self, name: str, *, required: bool = False) -> Any:
        """A path as text, `~` and all, as it was given."""
        value = self.raw(name)
        if isinstance(value, os.PathLike):
            plain = os.fspath(value)
            return os.fsdecode(plain)
        return self.text(name, "the path of a file or directory", required=required)

    def seconds(self, name: str, default: float | None, *, zero: bool = False) -> Any:
        """A number of seconds or a timedelta."""
        value = self.raw(name)
        if value is None or self.unknown(value):
            return default
        number = value.total_seconds() if isinstance(value, timedelta) else self._counted(value)
        if is_number(number) and math.isfinite(number) and (number > 0 or (zero and number == 0)):
            return float(number)
        self.note(name, "a number of seconds, 0 or more" if zero else "a positive number of seconds", shown(value))
        return default

    def count(self, name: str, default: Any, *, least: int = 1, most: int | None = None) -> Any:
        """A whole number."""
        value = self.raw(name)
        if value is None or self.unknown(value):
            return default
        value = self._counted(value)
        if (
            isinstance(value, int)
            and not isinstance(value, bool)
            and least <= value
            and (most is None or value <= most)
        ):
            return value
        bound = f"of at least {least}" if most is None else f"from {least} to {most}"
        self.note(name, f"a whole number {bound}", shown(value))
        return default

    def _counted(self, value: Any) -> Any:
        """A number for a text of digits in a step that runs: a reference has brought it from a command line."""
        if not self._resolved or not isinstance(value, str) or not _DIGITS.fullmatch(value):
            return value
        return float(value) if "." in value else int(value)

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self.raw(name)
        if value is None or self.unknown(value):
            return default
        if isinstance(value, bool):
            return value
        self.note(name, "true or false", shown(value))
        return default

    def words(self, name: str, example: str) -> list[str]:
        """A command: a list of texts, in which whole numbers are taken too. A plain text would need a shell."""
        value = self.raw(name)
        if value is None:
            return []
        expected = f"a list of texts such as {example}"
        if isinstance(value, str) or not isinstance(value, Sequence):
            hint = " (no shell takes it apart; write each word by itself)" if isinstance(value, str) else ""
            # Also with a reference in it: no word list can come from a text around one.
            if not (self.unknown(value) and _is_only_reference(value)):
                self.note(name, expected, kind_of(value) + hint)
            return []
        if not value:
            self.note(name, expected, "an empty list")
        return [self._word(f"{name}[{place}]", word) for place, word in enumerate(value)]

    def _word(self, path: str, word: Any) -> str:
        if isinstance(word, os.PathLike):
            word = os.fsdecode(os.fspath(word))
        if isinstance(word, int) and not isinstance(word, bool):
            word = str(word)
        if not isinstance(word, str) or "\0" in word:
            self.note(path, "a text", _strange(word))
            return ""
        return word

    def table(self, name: str, expected: str, *, required: bool = False) -> Mapping[str, Any]:
        """A table with texts as keys."""
        value = self.raw(name)
        if value is None:
            if required:
                self.note(name, expected, "none")
            return {}
        if isinstance(value, Mapping):
            for key in value:
                if not isinstance(key, str) or not key:
                    self.note(name, "texts as keys", _strange(key))
            return value
        if not self.unknown(value):
            self.note(name, expected, kind_of(value))
        return {}

    def named(self, name: str, what: str) -> Any:
        """An object itself, or a text "package.module:name" that says where to find it."""
        value = self.raw(name)
        if isinstance(value, str) and not self.unknown(value) and not is_named(value):
            self.note(name, f'{what} or "package.module:name" that names one', "a text without such a form")
        return value


def is_named(text: str) -> bool:
    """Whether a text has the form "package.module:name"."""
    return _NAMED.fullmatch(text) is not None


def has_reference(value: Any) -> bool:
    """Whether there is a `${...}` in a value, or in what it holds."""
    if isinstance(value, str):
        return "${" in value
    if isinstance(value, Mapping):
        return any(has_reference(part) for pair in value.items() for part in pair)
    return isinstance(value, (list, tuple)) and any(map(has_reference, value))


def _is_only_reference(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"\$\{[^}]*\}", value) is not None


def is_number(value: Any) -> bool:
    """Whether it is a number, which true and false are not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def shown(value: Any) -> str:
    """A plain setting as a file would write it, shortened; anything larger by its kind."""
    if isinstance(value, str):
        return json.dumps(value if len(value) <= _LONGEST else f"{value[:_LONGEST]}...", ensure_ascii=False)
    if isinstance(value, bool):
        return "true" if value else "false"
    if is_number(value) and (isinstance(value, float) or value.bit_length() <= 64):
        return repr(value)
    return str(value) if isinstance(value, timedelta) else kind_of(value)


def kind_of(value: Any) -> str:
    """What kind of value it is, without the value."""
    for kinds, words in _KINDS:
        if isinstance(value, kinds):
            return words
    return "nothing" if value is None else f"an object of type {type(value).__name__}"


_KINDS: tuple[tuple[Any, str], ...] = (
    (str, "a text"),
    (bool, "true or false"),
    ((int, float), "a number"),
    (Mapping, "a table"),
    ((list, tuple), "a list"),
)


def _strange(value: Any) -> str:
    if isinstance(value, str):
        return "a text with a null character" if value else "an empty text"
    return kind_of(value)
