"""Changing values in TOML, JSON and `.env` text, so that everything else stays as it was written."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import PurePath
from typing import Any

from resilient.orchestrator.executors import env_files, json_text
from resilient.orchestrator.executors.failures import ActionFailedError

EXTRA = "pip install resilient-toolkit[orchestrator]"

#: What to put where: the keys that lead there, and the value.
Changes = list[tuple[tuple[str, ...], Any]]

_PART = re.compile(r'"([^"]*)"|([^."]+)')


def format_of(path: str) -> str | None:
    """The format that the name of a file stands for."""
    file = PurePath(path)
    if file.name == ".env" or file.name.startswith(".env.") or file.suffix.lower() == ".env":
        return "env"
    return {".toml": "toml", ".json": "json"}.get(file.suffix.lower())


def missing(kind: str) -> str | None:
    """What is not installed that a format needs."""
    return "tomlkit" if kind == "toml" and find_spec("tomlkit") is None else None


def keys_of(dotted: str) -> tuple[str, ...] | None:
    """The keys in `server.port` or `server."a.b"`; None where it is none of these."""
    parts, place = [], 0
    while True:
        found = _PART.match(dotted, place)
        if found is None:
            return None
        parts.append(found[2] if found[1] is None else found[1])
        place = found.end()
        if place == len(dotted):
            return tuple(parts)
        if dotted[place] != ".":
            return None
        place += 1


def changes_of(table: Mapping[str, Any], outer: tuple[str, ...] = ()) -> Changes:
    """A table of values as single changes; a table in it reaches into the one of that name, {} puts an empty one."""
    found: Changes = []
    for key, value in table.items():
        # Only what the user wrote as `set` has dots that lead further in: those of a table below are its own.
        keys = outer + ((keys_of(key) or (key,)) if not outer else (key,))
        if isinstance(value, Mapping) and value:
            found += changes_of(value, keys)
        else:
            found.append((keys, value))
    return found


def dotted(keys: Iterable[str]) -> str:
    """Keys as one writes them."""
    return ".".join(f'"{key}"' if "." in key else key for key in keys)


def changed(kind: str, text: str, changes: Changes) -> str:
    """The text with the changes; ActionFailedError where it is not of the format, or a change does not fit it."""
    return _FORMATS[kind](text, changes)


# TOML -----------------------------------------------------------------------------------------------


def _toml(text: str, changes: Changes) -> str:
    import tomllib

    tomlkit: Any = import_module("tomlkit")
    try:
        expected = tomllib.loads(text)
        document = tomlkit.parse(text)
    except ValueError as error:  # both have their own kinds of it
        raise ActionFailedError(f"is not valid TOML: {error}") from None
    for keys, value in changes:
        _put(expected, keys, value, dict)
        _put(document, keys, value, tomlkit.table)
    written = str(tomlkit.dumps(document))
    if not _same(written, expected):
        raise ActionFailedError("cannot be changed without changing more of it; write its tables in the usual way")
    return written


def _same(written: str, expected: Mapping[str, Any]) -> bool:
    """Whether the text says what it is to say, and nothing else has changed in it."""
    import tomllib

    def plain(value: Any) -> str:
        return json.dumps(value, sort_keys=True, default=repr)

    try:
        return plain(tomllib.loads(written)) == plain(expected)
    except ValueError:
        return False


# JSON -----------------------------------------------------------------------------------------------


def _json(text: str, changes: Changes) -> str:
    try:
        content = json.loads(text, object_pairs_hook=_table) if text.strip() else {}
    except ValueError as error:
        raise ActionFailedError(f"is not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise ActionFailedError("is JSON, but no table of keys and values")
    written = text if text.strip() else "{}" if text else "{}\n"
    for keys, value in changes:
        _put(content, keys, value, dict)
        written = json_text.put(written, keys, value)
    if json.dumps(json.loads(written)) != json.dumps(content):
        raise ActionFailedError("cannot be changed without changing more of it")
    return written


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError("it has the same key twice in one table")
    return table


# .env -----------------------------------------------------------------------------------------------


def _env(text: str, changes: Changes) -> str:
    return env_files.changed(text, {keys[0]: value for keys, value in changes})


def _put(table: Any, keys: tuple[str, ...], value: Any, new: Callable[[], Any]) -> None:
    for depth, key in enumerate(keys[:-1]):
        if key not in table:
            table[key] = new()
        table = table[key]
        if not isinstance(table, Mapping):
            raise ActionFailedError(f"{dotted(keys[: depth + 1])} is no table in the file, so nothing can be set in it")
    if isinstance(table.get(keys[-1]), Mapping) and not isinstance(value, Mapping):
        raise ActionFailedError(f"{dotted(keys)} is a table in the file; set values in it, one by one")
    if isinstance(value, Mapping) and isinstance(table.get(keys[-1]), Mapping):
        return  # an empty table in the place of one: there is nothing to put into it
    table[keys[-1]] = new() if isinstance(value, Mapping) else value


_FORMATS: dict[str, Callable[[str, Changes], str]] = {"toml": _toml, "json": _json, "env": _env}
FORMATS = tuple(_FORMATS)
