"""Strategies from a file: TOML, JSON, YAML, or the table [tool.resilient] of a pyproject.toml."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from resilient.errors import ConfigurationError, UnknownNameError
from resilient.strategies import models
from resilient.strategies.config import RecoveryStrategyConfig
from resilient.strategies.parsing import read
from resilient.strategies.problems import Problem, listed, shown
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
        self.written = MappingProxyType(dict(written))
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
    prefix, content = read(path)
    content = {name: table for name, table in content.items() if name != models.SCHEMA_KEY}
    found = [one.under(*prefix) for one in _problems(content)]
    if found:
        raise ConfigurationError(listed(str(path), found))
    strategies = {name: _strategy(name, table) for name, table in content.items()}
    return Strategies(Path(path), prefix, strategies, content)


def _problems(content: Mapping[Any, Any]) -> list[Problem]:
    """All problems, in the order of the file; where both have something to say, the rooms say it better."""
    structural = models.structural_problems(content)
    misplaced = {one.path for one in structural if one.text.startswith(":") or len(one.path) < 3}
    found = [one for one in structural if one.path in misplaced]
    for name, table in content.items():
        sound = _without(table, (str(name),), misplaced)
        if isinstance(name, str) and isinstance(sound, Mapping):
            found += (Problem((name, *one.path), one.text) for one in problems(_strategy(name, sound)))
    objected = {one.path for one in found}
    found += (one for one in structural if one.path not in objected)
    order = {str(name): number for number, name in enumerate(content)}
    return sorted(found, key=lambda one: order.get(one.path[0], 0) if one.path else 0)


def _without(value: Any, path: tuple[str, ...], misplaced: set[tuple[str, ...]]) -> Any:
    """A table without what is in the wrong place, so that the rest can be looked at."""
    if path in misplaced:
        return None
    if not isinstance(value, Mapping) or len(path) > 2:
        return value
    inside = {key: (*path, str(key)) for key in value}
    return {key: _without(value[key], place, misplaced) for key, place in inside.items() if place not in misplaced}


def _strategy(name: str, table: Mapping[str, Any]) -> RecoveryStrategyConfig:
    sections = {section: table[section] for section in SECTIONS if section in table}
    preset = table.get("preset")
    base = RecoveryStrategyConfig() if preset is None else models.PRESETS[preset]()
    return base.replace(**sections, name=name)
