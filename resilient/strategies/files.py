"""Strategies from a file: TOML, JSON, YAML, or the table [tool.resilient] of a pyproject.toml."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from resilient.errors import ConfigurationError, UnknownNameError
from resilient.strategies import models
from resilient.strategies.config import RecoveryStrategyConfig
from resilient.strategies.parsing import read
from resilient.strategies.problems import Problem, key_text, listed, misplaced, shown
from resilient.strategies.tables import frozen
from resilient.strategies.validation import SECTIONS, problems


class Strategies(Mapping[str, RecoveryStrategyConfig]):
    """The strategies of a file by name, read-only. A name that is not there is an UnknownNameError with those that are.

    `path` is the file, `prefix` the keys that lead to the strategies in it; `written` holds, by strategy and section,
    the options as they stand there.
    """

    def __init__(
        self,
        path: Path,
        prefix: tuple[str, ...],
        strategies: Mapping[str, RecoveryStrategyConfig],
        written: Mapping[str, Mapping[str, Any]],
    ) -> None:
        self.path = path
        self.prefix = prefix
        self.written: Mapping[str, Mapping[str, Any]] = frozen(written, 3)
        self._strategies = dict(strategies)

    def __getitem__(self, name: str) -> RecoveryStrategyConfig:
        try:
            return self._strategies[name]
        except KeyError:
            known = ", ".join(map(repr, sorted(self._strategies))) or "none"
        raise UnknownNameError(f"{self.path}: no strategy is named {shown(name)}; known: {known}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._strategies)

    def __len__(self) -> int:
        return len(self._strategies)

    def __repr__(self) -> str:
        return f"<strategies of {self.path}: {', '.join(self) or 'none'}>"


def load(path: str | os.PathLike[str]) -> Strategies:
    """The strategies of a file by name, each with its name; the suffix says the format (.toml, .json, .yaml, .yml).

    The top-level keys are the names: `[payments.retry]`. In a `pyproject.toml` they are under `[tool.resilient]`.
    A section left out has its defaults, `bulkhead = false` switches a pattern off, `preset = "database"` (or
    "external_api", "cache") is what the sections are merged over. Exception types are written by name, which imports
    their modules.

    Raises ConfigurationError with every problem in the file, where each is, and what is allowed.
    """
    return load_for(path, lambda name: False)


def load_for(path: str | os.PathLike[str], live: Callable[[str], bool]) -> Strategies:
    """As `load` does it, but where policies of a name are `live`, options need not agree with those left out.

    What is left out is not what a new strategy would have, but what these policies have.
    """
    prefix, content = read(path)
    content = {name: _with_whole_numbers(table) for name, table in content.items()}
    found = [one.under(*prefix) for one in _problems(content, live)]
    if found:
        raise ConfigurationError(listed(str(path), found))
    content.pop(models.SCHEMA_KEY, None)
    # Copies, as callers get the fallbacks of a strategy for answers, and may do with them what they like.
    try:
        strategies = {name: _strategy(name, deepcopy(table)) for name, table in content.items()}
    except RecursionError:
        raise ConfigurationError(f"{path}: is nested too deeply") from None
    return Strategies(Path(path), prefix, strategies, content)


def _with_whole_numbers(table: Any) -> Any:
    """A strategy with 3 in the place of 3.0 where a whole number is wanted: to a JSON Schema they are the same."""
    if not isinstance(table, Mapping):
        return table
    return {section: _whole(section, options) for section, options in table.items()}


def _whole(section: Any, options: Any) -> Any:
    if section not in SECTIONS or not isinstance(options, Mapping):
        return options
    integers = models.integer_options(section)
    return {
        key: int(value) if key in integers and isinstance(value, float) and value.is_integer() else value
        for key, value in options.items()
    }


def _problems(content: Mapping[Any, Any], live: Callable[[str], bool]) -> list[Problem]:
    """All problems, in the order of the file; where both have something to say, the rooms say it better."""
    order = {key_text(name): number for number, name in enumerate(content)}
    content, strange = models.sound_keys(content)
    where = content.pop(models.SCHEMA_KEY, "")
    if not isinstance(where, str):
        strange.append(misplaced((models.SCHEMA_KEY,), where, "must be a string that says where the schema is"))
    structural = [*strange, *models.structural_problems(content)]
    astray = {one.path for one in structural if one.text.startswith(":") or len(one.path) < 3}
    found = [one for one in structural if one.path in astray]
    for name, table in content.items():
        sound = _without(table, (name,), astray)
        if isinstance(sound, Mapping):
            said = problems(_strategy(name, sound), sound, live=live(name))
            found += (one.under(name) for one in said)
    objected = {one.path for one in found}
    found += (one for one in structural if one.path not in objected)
    return sorted(found, key=lambda one: order.get(one.path[0], 0) if one.path else 0)


def _without(value: Any, path: tuple[str, ...], astray: set[tuple[str, ...]]) -> Any:
    """A table without what is in the wrong place, so that the rest can be looked at."""
    if path in astray:
        return None
    if not isinstance(value, Mapping) or len(path) > 2:
        return value
    inside = {key: (*path, key) for key in value}
    return {key: _without(value[key], place, astray) for key, place in inside.items() if place not in astray}


def _strategy(name: str, table: Mapping[str, Any]) -> RecoveryStrategyConfig:
    sections = {section: table[section] for section in SECTIONS if section in table}
    preset = table.get("preset")
    base = RecoveryStrategyConfig() if preset is None else models.PRESETS[preset]()
    return base.replace(**sections, name=name)
