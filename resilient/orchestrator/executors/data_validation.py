"""The executor of `data_validation` steps: asks a function or a database whether the data are as they should be."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from resilient.orchestrator.executors import connections, expectations
from resilient.orchestrator.executors.calls import call, resolved
from resilient.orchestrator.executors.failures import ActionFailedError, ActionStoppedError, reason
from resilient.orchestrator.executors.parameters import Parameters, ShippedExecutor, kind_of
from resilient.orchestrator.model import RecoveryContext, RecoveryStep

_BATCH = 500
_NOTHING: Any = object()


class DataValidation(NamedTuple):
    """A function, or a query with its arguments and the way to a connection; and what is expected."""

    function: Any
    query: str
    arguments: Any
    connection: Any
    expect: Any


class DataValidationExecutor(ShippedExecutor[DataValidation]):
    """Asks a function, or a query on a DB-API connection, and compares the answer with what is expected.

    A function without `expect` has to return something true, and so has an `expect` that is a function itself.
    Nothing is written, so there is nothing to undo: a connection that was opened here is rolled back and closed.
    Output: `rows` of a query (as many as were read), and the first `value`.
    """

    allowed = ("callable", "query", "arguments", "connection", "expect")

    def __init__(self) -> None:
        self._openers = connections.Openers()

    def read(self, given: Parameters) -> DataValidation:
        """The settings in the parameters."""
        kind = given.one_of("callable", "query")
        function = given.named("callable", "a function")
        if function is not None and not isinstance(function, str) and not callable(function):
            given.note("callable", 'a function, or "package.module:function"', kind_of(function))
        query = given.text("query", "a query in SQL", "")
        arguments = given.raw("arguments")
        if not (arguments is None or isinstance(arguments, (list, tuple, Mapping)) or given.unknown(arguments)):
            given.note("arguments", "a list or a table of what the query asks for", kind_of(arguments))
        if kind == "query":
            self._openers.judge(given, "connection")
            if not given.has("expect"):
                given.note(
                    "expect", "what the query is to give: a value, a list of rows, a table, or a function", "none"
                )
        elif kind == "callable":
            for name in ("connection", "arguments"):
                if given.has(name):
                    given.note(name, "none without query", "one")
        expectations.judge(given, "expect")
        expect = given.raw("expect") if given.has("expect") else _NOTHING
        return DataValidation(function, query, arguments, given.raw("connection"), expect)

    def execute(self, step: RecoveryStep, context: RecoveryContext) -> dict[str, Any]:
        """Ask, and compare; ActionFailedError with what was expected and what came."""
        wanted = self.settings(step)
        if wanted.function is not None:
            return _ask(wanted, context)
        return _query(wanted, step, context, self._openers)


def _ask(wanted: DataValidation, context: RecoveryContext) -> dict[str, Any]:
    value = call(resolved(wanted.function), context)
    name = wanted.function if isinstance(wanted.function, str) else getattr(wanted.function, "__qualname__", "callable")
    if callable(wanted.expect):
        said = _refused(wanted.expect, value, context)
    elif wanted.expect is not _NOTHING:
        said = expectations.value_difference(wanted.expect, value)
    elif value:
        said = None
    else:
        hint = "; return True where the data are as they should be" if value is None else ""
        said = f"expected something true, got {expectations.brief(value)}{hint}"
    if said:
        raise ActionFailedError(f"{name}: {said}")
    return {"value": _plain(value)}


def _query(
    wanted: DataValidation, step: RecoveryStep, context: RecoveryContext, openers: connections.Openers
) -> dict[str, Any]:
    under_way: list[Any] = []

    def work() -> tuple[list[Any], int]:
        with openers.opened(wanted.connection) as connection:
            under_way.append(connection)
            return _rows(connection, wanted, context)

    def stop() -> None:
        for connection in under_way:
            connections.interrupt(connection)

    try:
        rows, count = call(work, context, on_stop=stop)
    except (ActionFailedError, ActionStoppedError, ValueError, TypeError):
        raise
    except Exception as error:  # each driver has its own errors
        raise ActionFailedError(f"the query of step {step.id!r} failed: {reason(error)}") from error
    if callable(wanted.expect):
        said = _refused(wanted.expect, expectations.answer(rows), context)
    else:
        said = expectations.difference(wanted.expect, rows, count)
    if said:
        raise ActionFailedError(f"the query of step {step.id!r}: {said}")
    first = list(rows[0].values() if isinstance(rows[0], Mapping) else rows[0]) if rows else []
    return {"rows": count, "value": _plain(first[0]) if first else None}


def _refused(expect: Callable[[Any], Any], value: Any, context: RecoveryContext) -> str | None:
    """What to say where a function that judges the answer does not find it right."""
    if call(lambda: expect(value), context):
        return None
    name = getattr(expect, "__qualname__", "expect")
    return f"expected {name}() to return something true for {expectations.brief(value)}"


def _rows(connection: Any, wanted: DataValidation, context: RecoveryContext) -> tuple[list[Any], int]:
    """As many rows as it takes to judge them, of which few are kept, and how many there were."""
    cursor = connection.cursor()
    try:
        if wanted.arguments is None:
            cursor.execute(wanted.query)
        else:
            cursor.execute(wanted.query, wanted.arguments)
        if cursor.description is None:
            raise ActionFailedError("the query gives no rows; expected one that selects something")
        limit = expectations.wanted_rows(wanted.expect)
        kept: list[Any] = []
        count = 0
        while (limit is None or count < limit) and not context.cancelled:
            batch = cursor.fetchmany(_BATCH if limit is None else min(_BATCH, limit - count))
            if not batch:
                break
            count += len(batch)
            kept += batch if limit is not None else batch[: max(0, 1 - len(kept))]
        return kept, count
    finally:
        cursor.close()


def _plain(value: Any) -> Any:
    """A value that a journal can hold."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, int) and value.bit_length() > 1024:
        return f"a number of {value.bit_length()} bits"
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)[:200]
