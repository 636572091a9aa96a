"""What the package logs: one record per event, through stdlib logging, with the event's fields in `extra`.

What happens to every call of an outage is at DEBUG.
Loggers: `resilient.retry`, `resilient.circuit_breaker`, `resilient.timeout`, `resilient.degrade`, `resilient.rejected`
(by breakers and bulkheads) and `resilient.registry`. Nothing is logged for a call that simply succeeds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

from resilient import events
from resilient.circuit_breaker import CircuitState
from resilient.events import HUB, Event

#: Fields that a LogRecord has under another meaning.
_RESERVED = {"name": "policy", "args": "call_args"}

_DEBUG, _INFO, _WARNING, _ERROR = logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR


class Line(NamedTuple):
    """How an event is written: by which logger, at what level at the least, in what words."""

    logger: logging.Logger
    level: int
    text: Callable[[Any], str]


def _error(event: Any) -> str:
    return (
        f"{type(event.error).__name__}: {event.error}"
        if event.error is not None
        else "a result that retry_on_result refuses"
    )


def _line(room: str, level: int, text: Callable[[Any], str]) -> Line:
    return Line(logging.getLogger(f"resilient.{room}"), level, text)


LINES: dict[type[Event], Line] = {
    events.RetryScheduled: _line(
        "retry",
        _WARNING,
        lambda e: f"{e.name}: attempt {e.attempt} failed, next in {e.delay:.3g} s ({_error(e)})",
    ),
    events.RetryExhausted: _line(
        "retry",
        _ERROR,
        lambda e: f"{e.name}: given up after {e.attempts} attempts; limit reached: {e.reason} ({_error(e)})",
    ),
    events.RetrySuppressed: _line(
        "retry",
        _DEBUG,
        lambda e: f"{e.name}: not retried, an inner retry has given up on it already ({_error(e)})",
    ),
    events.CircuitStateChanged: _line(
        "circuit_breaker", _INFO, lambda e: f"{e.name}: {e.old.value} -> {e.new.value} ({e.reason})"
    ),
    events.CallRejected: _line("rejected", _DEBUG, lambda e: f"{e.name}: call rejected by {e.kind} ({e.reason})"),
    events.CallTimedOut: _line("timeout", _DEBUG, lambda e: f"{e.name}: no answer within {e.limit:.3g} s"),
    events.FallbackServed: _line("degrade", _DEBUG, lambda e: f"{e.name}: answered from {e.source}"),
    events.FallbackFailed: _line("degrade", _WARNING, lambda e: f"{e.name}: a fallback failed ({_error(e)})"),
    events.ConfigurationChanged: _line(
        "registry", _INFO, lambda e: f"{e.kind} {e.name}: changed {', '.join(e.changes)}"
    ),
}


def log_event(event: Event) -> None:
    """Write one record for an event, if it is to be seen."""
    kind = type(event)
    line = LINES.get(kind)
    if line is None or not line.logger.isEnabledFor(line.level):
        return
    extra = {_RESERVED.get(key, key): _plain(value) for key, value in event.fields().items()}
    line.logger.log(_level(event, line), "%s", line.text(event), extra={"event": kind.__name__, **extra})


def _level(event: Event, line: Line) -> int:
    if isinstance(event, events.CircuitStateChanged) and event.new in (CircuitState.OPEN, CircuitState.ISOLATED):
        return _WARNING
    return line.level


def _plain(value: Any) -> Any:
    if isinstance(value, CircuitState):
        return value.value
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {value}"  # not the exception itself, which handlers would keep alive
    if isinstance(value, tuple) and all(isinstance(part, str) for part in value):
        return list(value)
    return value if value is None or isinstance(value, (bool, int, float, str)) else f"<{type(value).__name__}>"


HUB.lines, HUB.log = LINES, log_event
logging.getLogger("resilient").addHandler(logging.NullHandler())
