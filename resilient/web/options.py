"""Options of live policies as text: which of them can be changed by a form, and what a text means."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from resilient.errors import ConfigurationError

_TEXTUAL = {"int", "float", "str", "bool", "None", "SmartTimeout"}
#: Options of many types, of which some can be written.
_MIXED = {("retry", "backoff"): {"str"}, ("retry", "jitter"): {"bool", "float", "str"}}
_NUMBER = re.compile(r"[+-]?\d{1,30}(\.\d{1,30})?(e[+-]?\d{1,3})?", re.IGNORECASE | re.ASCII)
_WHOLE = re.compile(r"[+-]?\d{1,18}", re.ASCII)
_FLAGS = {"true": True, "false": False}


def textual(policy: Any) -> dict[str, str]:
    """The options of a policy that can be written as text, with their present values."""
    return {
        field.name: shown(getattr(policy.config, field.name))
        for field in dataclasses.fields(policy.config)
        if _kinds(policy.kind, field)
    }


def shown(value: Any) -> str:
    """A value as it would be written in a form."""
    return {None: "none", True: "true", False: "false"}.get(value, str(value)) if _is_word(value) else str(value)


def parsed(policy: Any, name: str, text: str) -> Any:
    """The value that a text means for this option. Raises ConfigurationError for none, TypeError for no option."""
    fields = {field.name: field for field in dataclasses.fields(policy.config)}
    if name not in fields:
        raise TypeError(f"{policy.kind} has no option {name}; by text can be changed: {', '.join(textual(policy))}")
    kinds = _kinds(policy.kind, fields[name])
    if not kinds:
        raise ConfigurationError(f"{name}: cannot be written as text; change it in the code, by registry.configure")
    text = text.strip()
    if "None" in kinds and text.lower() in ("none", ""):
        return None
    if "bool" in kinds and text.lower() in _FLAGS:
        return _FLAGS[text.lower()]
    if "int" in kinds and _WHOLE.fullmatch(text):
        return int(text)
    if "float" in kinds and _NUMBER.fullmatch(text):
        return float(text)
    if "str" in kinds and text:
        return text
    raise ConfigurationError(f"{name}={text!r}: must be {_wanted(kinds)}")


def _is_word(value: Any) -> bool:
    return value is None or isinstance(value, bool)


def _kinds(kind: str, field: dataclasses.Field[Any]) -> set[str]:
    """The names of the types that a text may stand for."""
    mixed = _MIXED.get((kind, field.name))
    if mixed is not None:
        return mixed
    kinds = {part.strip() for part in str(field.type).split("|")}
    return kinds - {"SmartTimeout"} if kinds <= _TEXTUAL else set()


def _wanted(kinds: set[str]) -> str:
    words = {
        "int": "a whole number",
        "float": "a number",
        "bool": "true or false",
        "str": "a word",
        "None": "none",
    }
    return ", or ".join(word for name, word in words.items() if name in kinds)
