"""What a value in a JSON report looks like: how it is written, read, and described, said once for all three."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from resilient.errors import ConfigurationError
from resilient.strategies.problems import kind_of, shown

Path = str

_MOST = 2**63 - 1


class Shape(NamedTuple):
    """One kind of value. `read` is given what the file holds and where, and raises ConfigurationError."""

    schema: dict[str, Any]
    write: Callable[[Any], Any]
    read: Callable[[Any, Path], Any]


def wrong(path: Path, value: Any, remedy: str) -> ConfigurationError:
    """The error for a value that is not what it must be. It is not shown, as it may be anything."""
    return ConfigurationError(f"{path}={kind_of(value)}: {remedy}")


def plain(value: Any) -> Any:
    """A value as JSON can hold it; numbers that are none become null, and objects the names of their types."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    return type(value).__name__


def _typed(schema: dict[str, Any], kinds: tuple[type, ...], remedy: str) -> Shape:
    def read(value: Any, path: Path) -> Any:
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise wrong(path, value, remedy)
        return value

    return Shape(schema, plain, read)


def _read_number(value: Any, path: Path) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise wrong(path, value, "must be a number")
    try:
        float(value)
    except OverflowError:
        raise wrong(path, value, "must be a number that fits into 64 bits") from None
    return value


def _read_count(value: Any, path: Path) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong(path, value, "must be a whole number")
    if abs(value) > _MOST:
        raise wrong(path, value, "must be a whole number that fits into 64 bits")
    return value


TEXT = _typed({"type": "string"}, (str,), "must be a text")
COUNT = Shape({"type": "integer"}, plain, _read_count)
SEED = _typed({"type": ["integer", "string"]}, (int, str), "must be a whole number or a text")
FLAG = _typed({"type": "boolean"}, (bool,), "must be true or false")
TABLE = _typed({"type": "object"}, (dict,), "must be an object")
#: Null is a number that is none, such as an average of nothing.
NUMBER = Shape({"type": ["number", "null"]}, plain, _read_number)


def optional(shape: Shape) -> Shape:
    """The same, or null, which is None."""
    kinds = shape.schema["type"]
    kinds = [kinds] if isinstance(kinds, str) else kinds
    schema = {**shape.schema, "type": sorted({*kinds, "null"})}
    return Shape(
        schema,
        lambda value: None if value is None else shape.write(value),
        lambda value, path: None if value is None else shape.read(value, path),
    )


def choice(kind: type[Any]) -> Shape:
    """One of the values of an Enum."""
    allowed = [one.value for one in kind]

    def read(value: Any, path: Path) -> Any:
        if value not in allowed:
            raise ConfigurationError(f"{path}={shown(value)}: must be one of {', '.join(allowed)}")
        return kind(value)

    return Shape({"enum": allowed}, lambda value: value.value, read)


def several(shape: Shape) -> Shape:
    """An array of such values, which is a tuple."""

    def read(value: Any, path: Path) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise wrong(path, value, "must be an array")
        return tuple(shape.read(part, f"{path}[{index}]") for index, part in enumerate(value))

    return Shape({"type": "array", "items": shape.schema}, lambda value: [shape.write(part) for part in value], read)


def named(shape: Shape) -> Shape:
    """An object with any keys, and such values."""

    def read(value: Any, path: Path) -> dict[str, Any]:
        return {key: shape.read(part, f"{path}.{key}") for key, part in TABLE.read(value, path).items()}

    schema = {"type": "object", "additionalProperties": shape.schema}
    return Shape(schema, lambda value: {str(key): shape.write(part) for key, part in value.items()}, read)


def record(kind: Callable[..., Any], fields: Mapping[str, Shape], derived: Mapping[str, Shape] | None = None) -> Shape:
    """An object with these keys and no others. `derived` ones are written for who reads the file, and not read."""
    extra = dict(derived or {})
    all_of = {**fields, **extra}

    def write(value: Any) -> dict[str, Any]:
        return {name: shape.write(getattr(value, name)) for name, shape in all_of.items()}

    def read(value: Any, path: Path) -> Any:
        table = TABLE.read(value, path)
        for names, what in (([one for one in all_of if one not in table], "lacks"), (_unknown(table, all_of), "has")):
            if names:
                known = "" if what == "lacks" else ", which means nothing here"
                raise ConfigurationError(f"{path}: {what} {', '.join(names[:5])}{known}")
        made = {name: shape.read(table[name], f"{path}.{name}") for name, shape in all_of.items()}
        return kind(**{name: part for name, part in made.items() if name not in extra})

    properties = {name: shape.schema for name, shape in all_of.items()}
    schema = {"type": "object", "properties": properties, "required": list(all_of), "additionalProperties": False}
    return Shape(schema, write, read)


def _unknown(table: Mapping[str, Any], known: Mapping[str, Shape]) -> list[str]:
    return [shown(key) for key in table if key not in known]
