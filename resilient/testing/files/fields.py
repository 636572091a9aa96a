"""Tables in scenario files: fields with their kinds, read and described by the same declaration."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from resilient.errors import ConfigurationError
from resilient.strategies.problems import kind_of
from resilient.testing.files.kinds import BAD, Kind, Problems, Where

REQUIRED: Any = object()

#: How many lists and tables may lie within each other.
DEEPEST = 100
_MOST_VALUES = 1_000_000


class Field(NamedTuple):
    """One key of a table. `default` is what a file would have in its place; None: nothing."""

    kind: Kind
    description: str
    default: Any = None


def closed(description: str, fields: Mapping[str, Field]) -> dict[str, Any]:
    """The JSON Schema of a table with these keys and no others."""
    made: dict[str, Any] = {"description": description, "type": "object"}
    if required := [name for name, one in fields.items() if one.default is REQUIRED]:
        made["required"] = required
    made["additionalProperties"] = False
    made["properties"] = {
        name: {
            "description": one.description,
            **one.kind.schema,
            **({} if one.default in (None, REQUIRED) else {"default": one.default}),
        }
        for name, one in fields.items()
    }
    return made


def read_fields(given: Any, fields: Mapping[str, Field], where: Where, problems: Problems) -> Any:
    """The values of a table by name, or BAD; what is left out is left out."""
    if not isinstance(given, Mapping):
        return problems.strange(where, "a table", given)
    before = len(problems)
    for key in given:
        if key not in fields:
            problems.unknown(where, key, fields)
    for name, one in fields.items():
        if one.default is REQUIRED and name not in given:
            problems.add((*where, name), "is missing")
    values = {
        name: one.kind.read(given[name], (*where, name), problems) for name, one in fields.items() if name in given
    }
    return values if len(problems) == before else BAD


def made(make: Callable[..., Any], values: Any, where: Where, problems: Problems) -> Any:
    """What `make` makes of the values; what it objects to is a problem of the table."""
    if values is BAD:
        return BAD
    try:
        return make(**values)
    except (ConfigurationError, TypeError) as error:
        return problems.add(where, str(error))


def table(description: str, fields: Mapping[str, Field], make: Callable[..., Any]) -> Kind:
    """The kind of a table with these keys, of which `make` makes something."""

    def read(value: Any, where: Where, problems: Problems) -> Any:
        return made(make, read_fields(value, fields, where, problems), where, problems)

    return Kind(closed(description, fields), read)


def refuse_too_much(content: Any, deepest: int | None = None) -> None:
    """Raise ConfigurationError for a file that a few lines make endless: YAML lets a value stand in many places.

    With `deepest`, also for one with more than so many lists and tables within each other.
    """
    count, waiting = 1, [(content, 1)]
    while waiting:
        value, depth = waiting.pop()
        inside = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
        count += len(inside)
        if count > _MOST_VALUES:
            raise ConfigurationError(f"expected at most {_MOST_VALUES:,} values, each counted wherever it stands")
        if deepest is not None and depth > deepest:
            raise ConfigurationError(f"expected at most {deepest} lists and tables within each other")
        waiting += [(one, depth + 1) for one in inside if isinstance(one, (list, Mapping))]


def plain(value: Any, where: Where, problems: Problems) -> Any:
    """A copy of what JSON has a form for; anything else is a problem."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else problems.unfit(where, "a finite number", value)
    if len(where) > DEEPEST:
        return problems.add(where[:3], f"expected at most {DEEPEST} lists and tables within each other")
    if isinstance(value, list):
        return [plain(one, (*where, number), problems) for number, one in enumerate(value)]
    if isinstance(value, Mapping):
        if all(isinstance(key, str) for key in value):
            return {key: plain(one, (*where, key), problems) for key, one in value.items()}
        return problems.add(where, "expected keys that are text; write them in quotes")
    return problems.add(where, f"expected text, a number, true, false, a list or a table, got {kind_of(value)}")
