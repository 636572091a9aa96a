"""What a file of strategies may contain, as pydantic models made from the settings, and as a JSON Schema.

pydantic is an optional dependency, and imported when a file is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, fields
from functools import cache
from importlib import import_module
from typing import Annotated, Any, Literal

from resilient.errors import ConfigurationError
from resilient.strategies.config import RecoveryStrategyConfig
from resilient.strategies.options import about
from resilient.strategies.parsing import EXTRA
from resilient.strategies.problems import Problem, key_text, misplaced, problem, unknown
from resilient.strategies.validation import SECTIONS

PRESETS = {
    "database": RecoveryStrategyConfig.for_database,
    "external_api": RecoveryStrategyConfig.for_external_api,
    "cache": RecoveryStrategyConfig.for_cache,
}
DIALECT = "https://json-schema.org/draft/2020-12/schema"
#: Editors look for this key in a JSON file.
SCHEMA_KEY = "$schema"
_STRATEGY = "How a kind of service is called safely. A section left out has its defaults, false switches it off."
_PRESET = "A strategy to start from; sections given here are merged over its own."


def schema() -> dict[str, Any]:
    """The JSON Schema of a file of strategies, for editors and other checkers.

    Of a pyproject.toml it describes the table [tool.resilient]. Raises ConfigurationError where pydantic is missing.
    """
    made: dict[str, Any] = _strategies().json_schema()
    return {
        SCHEMA_KEY: DIALECT,
        "title": "Strategies of resilient",
        "description": "Recovery strategies by name. All durations are seconds, all shares are from 0 to 1.",
        "properties": {SCHEMA_KEY: {"type": "string", "description": "Where this schema is."}},
        **made,
    }


def structural_problems(content: Mapping[str, Any]) -> list[Problem]:
    """What is not as the models have it: keys that mean nothing, and values of another type.

    The keys are strings, as `sound_keys` leaves them.
    """
    try:
        _strategies().validate_python(dict(content))
    except _pydantic().ValidationError as error:
        return [_problem(content, one) for one in error.errors(include_url=False, include_context=False)]
    return []


def sound_keys(content: Mapping[Any, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """The tables of a file without keys that are no strings, as YAML has them, and what is to be said of those."""
    found: list[Problem] = []

    def sound(table: Any, path: tuple[str, ...]) -> Any:
        if not isinstance(table, Mapping) or len(path) > 2:
            return table
        found.extend(_strange_key((*path, key_text(key))) for key in table if not isinstance(key, str))
        return {key: sound(inner, (*path, key)) for key, inner in table.items() if isinstance(key, str)}

    return sound(content, ()), found


def _strange_key(path: tuple[str, ...]) -> Problem:
    if len(path) == 1:
        return Problem(path, ": the name of a strategy must be a string; put it in quotes")
    return unknown(path, _allowed(path))


def _allowed(path: tuple[str, ...]) -> tuple[str, ...]:
    """The keys beside the last of this path that mean something."""
    if len(path) == 2:
        return ("preset", *SECTIONS)
    return file_options(path[1]) if path[1] in SECTIONS else ()


def file_options(section: str) -> tuple[str, ...]:
    """The options of a section that a file can write."""
    return tuple(one.name for one in fields(SECTIONS[section]) if about(one).written is not None)


@cache
def integer_options(section: str) -> frozenset[str]:
    """The options of a section that are whole numbers."""
    return frozenset(one.name for one in fields(SECTIONS[section]) if about(one).written in (int, int | None))


def _pydantic() -> Any:
    try:
        return import_module("pydantic")
    except ImportError:
        raise ConfigurationError(f"files of strategies need pydantic, which is not installed: {EXTRA}") from None


@cache
def _strategies() -> Any:
    """The adapter for a whole file."""
    pydantic = _pydantic()
    sections = {section: (_section(section), pydantic.Field(default_factory=dict)) for section in SECTIONS}
    preset = (Literal[tuple(PRESETS)], pydantic.Field(None, description=_PRESET, json_schema_extra=_showing({})))
    strategy = _table("Strategy", _STRATEGY, {"preset": preset, **sections})
    return pydantic.TypeAdapter(dict[str, strategy])  # type: ignore[valid-type]  # made at runtime


def _section(section: str) -> Any:
    """The type of a section: a table of its options, or false."""
    pydantic, kind = _pydantic(), SECTIONS[section]
    options = {one.name: _field(one) for one in fields(kind) if about(one).written is not None}
    table = _table(kind.__name__, (kind.__doc__ or "").partition("\n")[0], options)
    return Annotated[
        Annotated[table, pydantic.Tag("table")] | Annotated[Literal[False], pydantic.Tag("off")],
        pydantic.Discriminator(lambda value: "off" if value is False else "table"),
    ]


def _table(name: str, text: str, columns: Mapping[str, Any]) -> Any:
    pydantic = _pydantic()
    strict = pydantic.ConfigDict(extra="forbid", strict=True, json_schema_extra={"description": text})
    return pydantic.create_model(name, __config__=strict, **columns)


def _field(one: Field[Any]) -> tuple[Any, Any]:
    """An option as pydantic wants it. Its limits are only shown: the rooms are the judges of values."""
    told = about(one)
    default = {} if told.shown is ... else {"default": told.shown}
    shown = _showing({**told.limits, **default})
    return told.written, _pydantic().Field(None, description=told.text, json_schema_extra=shown)


def _showing(extra: Mapping[str, Any]) -> Callable[[dict[str, Any]], None]:
    """What to do with a field's schema: the models' own default, None, is nobody's."""

    def show(made: dict[str, Any]) -> None:
        made.pop("default", None)
        made.update(extra)

    return show


def _problem(content: Mapping[str, Any], error: Mapping[str, Any]) -> Problem:
    """An error of pydantic's in our words, with the path in the file."""
    path = _path(content, error["loc"])
    kind, section = error["type"], path[1] if len(path) > 1 else ""
    if kind == "extra_forbidden":
        return unknown(path, _allowed(path))
    if section == "preset":
        return problem(path, error["input"], f"must be one of {', '.join(PRESETS)}")
    if len(path) == 1:
        return misplaced(path, error["input"], f"must be a table with preset, {', '.join(SECTIONS)}")
    if len(path) == 2:
        return misplaced(
            path, error["input"], f"must be a table of options, or false; options: {', '.join(file_options(section))}"
        )
    return problem(path, error["input"], str(error["msg"]))


def _path(content: Any, places: Iterable[Any]) -> tuple[str, ...]:
    """The keys in the file among the places pydantic names, which has names for the branches of its types, too."""
    path: list[str] = []
    for place in places:
        if isinstance(content, Mapping) and place in content:
            path.append(str(place))
            content = content[place]
    return tuple(path)
