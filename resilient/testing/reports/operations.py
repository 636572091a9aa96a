"""Operations in a JSON report: one short row each. Of a value only the type is kept: it may be huge, or secret."""

from __future__ import annotations

from typing import Any

from resilient.drawing.markup import cut
from resilient.errors import ConfigurationError
from resilient.testing.recovery.result import Operation
from resilient.testing.reports.shapes import COUNT, NUMBER, TEXT, Path, Shape, several, wrong

COLUMNS = ("number", "started", "ended", "phase", "value", "error")

_LONGEST = 300


class RecordedValue(str):
    """What a report knows of a value: the name of its type."""

    __slots__ = ()


class RecordedError(Exception):
    """What a report knows of an error: the name of its type (`kind`), and its message."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(kind, message)
        self.kind = kind
        self.message = message

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}" if self.message else self.kind

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RecordedError) and self.args == other.args

    def __hash__(self) -> int:
        return hash(self.args)


def _kept(error: BaseException) -> tuple[str, str]:
    if isinstance(error, RecordedError):
        return error.kind, error.message
    try:
        message = str(error)
    except Exception:  # of somebody else's error
        message = "(its message cannot be shown)"
    return type(error).__name__, cut(message, _LONGEST)


def _value(one: Operation) -> str | None:
    if not one.ok:
        return None
    return str(one.value) if isinstance(one.value, RecordedValue) else type(one.value).__name__


def _write(operations: tuple[Operation, ...]) -> dict[str, Any]:
    errors: dict[tuple[str, str], int] = {}
    rows = []
    for one in operations:
        error = None if one.error is None else errors.setdefault(_kept(one.error), len(errors))
        rows.append([one.number, NUMBER.write(one.started), NUMBER.write(one.ended), one.phase, _value(one), error])
    return {"columns": list(COLUMNS), "errors": [list(one) for one in errors], "rows": rows}


def _read(value: Any, path: Path) -> tuple[Operation, ...]:
    if not isinstance(value, dict) or sorted(value) != ["columns", "errors", "rows"]:
        raise wrong(path, value, "must be an object with columns, errors and rows")
    if value["columns"] != list(COLUMNS):
        raise wrong(f"{path}.columns", value["columns"], f"must be {', '.join(COLUMNS)}")
    errors = [
        _error(pair, f"{path}.errors[{number}]")
        for number, pair in enumerate(_array(value["errors"], f"{path}.errors"))
    ]
    rows = _array(value["rows"], f"{path}.rows")
    return tuple(_row(row, errors, f"{path}.rows[{number}]") for number, row in enumerate(rows))


def _array(value: Any, path: Path) -> list[Any]:
    if not isinstance(value, list):
        raise wrong(path, value, "must be an array")
    return value


def _error(pair: Any, path: Path) -> RecordedError:
    if not isinstance(pair, list) or len(pair) != 2:
        raise wrong(path, pair, "must be an array of two texts, type and message")
    return RecordedError(TEXT.read(pair[0], f"{path}[0]"), TEXT.read(pair[1], f"{path}[1]"))


def _row(row: Any, errors: list[RecordedError], path: Path) -> Operation:
    if not isinstance(row, list) or len(row) != len(COLUMNS):
        raise wrong(path, row, f"must be an array of {len(COLUMNS)}: {', '.join(COLUMNS)}")
    number, started, ended, phase, value, error = row
    if (value is None) == (error is None):
        raise ConfigurationError(f"{path}: must have a value or an error, and not both")
    if error is not None and not 0 <= COUNT.read(error, f"{path}[5]") < len(errors):
        raise ConfigurationError(f"{path}[5]={error}: there are {len(errors)} errors, counted from 0")
    return Operation(
        number=COUNT.read(number, f"{path}[0]"),
        started=NUMBER.read(started, f"{path}[1]"),
        ended=NUMBER.read(ended, f"{path}[2]"),
        phase=TEXT.read(phase, f"{path}[3]"),
        value=None if value is None else RecordedValue(TEXT.read(value, f"{path}[4]")),
        error=None if error is None else errors[error],
    )


_CELLS = [COUNT, NUMBER, NUMBER, TEXT]
_PAIR = {"type": "array", "prefixItems": [TEXT.schema, TEXT.schema], "minItems": 2, "maxItems": 2}
_ROW = {
    "type": "array",
    "prefixItems": [*(one.schema for one in _CELLS), {"type": ["string", "null"]}, {"type": ["integer", "null"]}],
    "minItems": len(COLUMNS),
    "maxItems": len(COLUMNS),
    "description": "Times: seconds since the scenario began; value: the name of its type; error: a place in `errors`.",
}

#: The operations of a result, as a table of rows, and a list of their different errors (type and message).
OPERATIONS = Shape(
    {
        "type": "object",
        "properties": {
            "columns": {"const": list(COLUMNS)},
            "errors": {"type": "array", "items": _PAIR},
            "rows": several(Shape(_ROW, list, _read)).schema,
        },
        "required": ["columns", "errors", "rows"],
        "additionalProperties": False,
    },
    _write,
    _read,
)
