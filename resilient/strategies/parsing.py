"""From a file's bytes to plain tables, whatever its format; a ConfigurationError says what cannot be read."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from resilient.errors import ConfigurationError
from resilient.strategies.problems import kind_of, shown

EXTRA = "pip install resilient-toolkit[config]"


def read(path: str | os.PathLike[str]) -> tuple[tuple[str, ...], Mapping[str, Any]]:
    """The table of strategies in a file, after the keys that lead to it.

    Those of a pyproject.toml are `tool` and `resilient`; of any other file there are none.
    """
    file = Path(path)
    try:
        content = content_of(file)
    except ConfigurationError as error:
        raise ConfigurationError(f"{file}: {error}") from None
    prefix = ("tool", "resilient") if file.name == "pyproject.toml" else ()
    for depth, key in enumerate(prefix):
        content = content.get(key) if isinstance(content, Mapping) else None
        if content is None:
            raise ConfigurationError(f"{file}: has no table [{'.'.join(prefix[: depth + 1])}]")
    if not isinstance(content, Mapping):
        raise ConfigurationError(f"{file}: must be a table of strategies by name, not {kind_of(content)}")
    return prefix, content


def content_of(file: Path) -> Any:
    """What a file holds, by the format that its suffix says; a ConfigurationError that does not name the file."""
    parse = PARSERS.get(file.suffix.lower())
    if parse is None:
        raise ConfigurationError(f"must end in {', '.join(PARSERS)}, to say which format it is")
    try:
        return parse(_text(file))
    except ConfigurationError:
        raise
    except RecursionError:
        raise ConfigurationError("is nested too deeply") from None
    except ValueError as error:  # an integer of thousands of digits
        raise ConfigurationError(f"has a value that cannot be read: {error}") from None


def _text(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ConfigurationError(f"cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"is not UTF-8 (byte {error.start})") from None
    except ValueError as error:  # a path with a null character
        raise ConfigurationError(f"cannot be read: {error}") from None


def _toml(text: str) -> Any:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"is not valid TOML: {error}") from None


def _json(text: str) -> Any:
    def table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        twice = sorted({key for key in keys if keys.count(key) > 1}) if len(set(keys)) < len(keys) else []
        if twice:
            raise ConfigurationError(f"has the same key twice in one table: {', '.join(map(shown, twice))}")
        return dict(pairs)

    try:
        return json.loads(text, object_pairs_hook=table)
    except json.JSONDecodeError as error:
        raise ConfigurationError(f"is not valid JSON: {error}") from None


def _yaml(text: str) -> Any:
    try:
        yaml: Any = import_module("yaml")
    except ImportError:
        raise ConfigurationError(f"reading YAML needs pyyaml, which is not installed: {EXTRA}") from None
    try:
        return _yaml_content(yaml.SafeLoader(text))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = "" if mark is None else f" (line {mark.line + 1}, column {mark.column + 1})"
        # A character that YAML does not allow has its own kind of error, without a problem.
        what = getattr(error, "problem", None) or str(error).partition("\n")[0] or type(error).__name__
        raise ConfigurationError(f"is not valid YAML: {what}{place}") from None
    except ValueError as error:  # a date such as 2024-99-99
        raise (
            error if isinstance(error, ConfigurationError) else ConfigurationError(f"is not valid YAML: {error}")
        ) from None


def _yaml_content(loader: Any) -> Any:
    """As yaml.safe_load does it, but with a look at the keys while they are still as they were written."""
    try:
        node = loader.get_single_node()
        if node is None:
            return {}
        _check_keys(node, set())
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _check_keys(node: Any, seen: set[int]) -> None:
    """Refuse a key that is there twice, and let `on` be a key: to YAML it is another word for true."""
    if id(node) in seen or isinstance(node.value, str):
        return
    seen.add(id(node))
    keys = set()
    for part in node.value:
        for child in part if isinstance(part, tuple) else (part,):
            _check_keys(child, seen)
        if not isinstance(part, tuple) or not isinstance(part[0].value, str):
            continue
        key = part[0]
        if key.tag == "tag:yaml.org,2002:bool":
            key.tag = "tag:yaml.org,2002:str"
        if key.value in keys:
            raise ConfigurationError(
                f"has the same key twice in one table: {shown(key.value)} (line {key.start_mark.line + 1})"
            )
        keys.add(key.value)


#: What makes plain values of a text, by the suffix of its file.
PARSERS: dict[str, Callable[[str], Any]] = {".toml": _toml, ".json": _json, ".yaml": _yaml, ".yml": _yaml}
