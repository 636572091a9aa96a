"""What the package logs: one record per event, through stdlib logging, with the event's fields in `extra`.

Loggers: `resilient.retry`, `resilient.circuit_breaker`, `resilient.bulkhead`, `resilient.timeout`, `resilient.degrade`,
`resilient.registry`. Nothing is logged for a call that simply succeeds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from resilient import events
from resilient.circuit_breaker import CircuitState
from resilient.events import HUB, Event, Subscription

# event -> (logger, level, message)
_Line = tuple[str, Callable[[Any], int], Callable[[Any], str]]

_RESERVED = {"name": "policy", "args": "call_args"}


def _level(level: int) -> Callable[[Any], int]:
    return lambda event: level


def _error(event: Any) -> str:
    return f"{type(event.error).__name__}: {event.error}" if event.error is not None else "an unacceptable result"


def _transition_level(event: events.CircuitStateChanged) -> int:
    return logging.WARNING if event.new in (CircuitState.OPEN, CircuitState.ISOLATED) else logging.INFO


_LINES: dict[type[Event], _Line] = {
    events.RetryScheduled: (
        "resilient.retry",
        _level(logging.WARNING),
        lambda e: f"{e.name}: attempt {e.attempt} failed, next in {e.delay:.3g} s ({_error(e)})",
    ),
    events.RetryExhausted: (
        "resilient.retry",
        _level(logging.ERROR),
        lambda e: f"{e.name}: given up after {e.attempts} attempts, by {e.reason} ({_error(e)})",
    ),
    events.RetrySuppressed: (
        "resilient.retry",
        _level(logging.DEBUG),
        lambda e: f"{e.name}: not retried, an inner retry has given up on it already ({_error(e)})",
    ),
    events.CircuitStateChanged: (
        "resilient.circuit_breaker",
        _transition_level,
        lambda e: f"{e.name}: {e.old.value} -> {e.new.value} ({e.reason})",
    ),
    events.CallRejected: (
        "resilient",
        _level(logging.DEBUG),
        lambda e: f"{e.name}: call rejected by {e.kind} ({e.reason})",
    ),
    events.CallTimedOut: (
        "resilient.timeout",
        _level(logging.DEBUG),
        lambda e: f"{e.name}: no answer within {e.limit:.3g} s",
    ),
    events.FallbackServed: (
        "resilient.degrade",
        _level(logging.DEBUG),
        lambda e: f"{e.name}: answered from {e.source}",
    ),
    events.FallbackFailed: (
        "resilient.degrade",
        _level(logging.WARNING),
        lambda e: f"{e.name}: a fallback failed ({_error(e)})",
    ),
    events.ConfigurationChanged: (
        "resilient.registry",
        _level(logging.INFO),
        lambda e: f"{e.kind} {e.name}: changed {', '.join(e.changes)}",
    ),
}


def log_event(event: Event) -> None:
    """Write one record for an event, if its logger wants it."""
    room, level_of, text = _LINES[type(event)]
    logger = logging.getLogger(f"{room}.{event.kind}" if isinstance(event, events.CallRejected) else room)
    level = level_of(event)
    if not logger.isEnabledFor(level):
        return
    extra = {_RESERVED.get(key, key): _plain(value) for key, value in event.fields().items()}
    logger.log(level, "%s", text(event), extra={"event": type(event).__name__, **extra})


def _plain(value: Any) -> Any:
    if isinstance(value, CircuitState):
        return value.value
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {value}"  # not the exception itself, which handlers would keep alive
    return value if value is None or isinstance(value, (bool, int, float, str)) else f"<{type(value).__name__}>"


LOG_SUBSCRIPTIONS: tuple[Subscription, ...] = (HUB.subscribe(log_event, *_LINES),)
logging.getLogger("resilient").addHandler(logging.NullHandler())
