"""What the package logs: one record per event, through stdlib logging, with the event's fields in `extra`.

Each record has `event`, a dotted name that stays, `policy`, the name of the policy, and `kind`, what sort of policy.
What happens to every call of an outage is at DEBUG, and records that come in floods are limited: see `configure`.
Nothing is logged for a call that simply succeeds, and never what a call was given or has returned.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from resilient import _checks as check
from resilient import events
from resilient._checks import Seconds
from resilient._registry import registry
from resilient.circuit_breaker import CircuitState
from resilient.events import HUB, UNTOUCHED, Event, Note, has_reader
from resilient.logs.limits import LIMITS, Key
from resilient.logs.texts import described, one_line, shortened

#: Fields that a LogRecord has under another meaning.
_RESERVED = {"name": "policy"}

_DEBUG, _INFO, _WARNING, _ERROR = logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR


class Line(NamedTuple):
    """How an event is written: by which logger, at what level at the most, in what words, under which name.

    `kind` is that of the policy, where the event itself does not say; `limited`: whether floods of it are only counted.
    An event that gets an empty name is not written.
    """

    logger: logging.Logger
    level: int
    text: Callable[[Any], str]
    event: str | Callable[[Any], str]
    kind: str
    limited: bool = False


def _error(event: Any) -> str:
    return described(event.error) if event.error is not None else "a result that retry_on_result refuses"


def _line(room: str, level: int, event: str, kind: str, text: Callable[[Any], str], *, limited: bool = True) -> Line:
    return Line(logging.getLogger(f"resilient.{room}"), level, text, event, kind, limited)


LINES: dict[type[Event], Line] = {
    events.RetryScheduled: _line(
        "retry",
        _WARNING,
        "retry.scheduled",
        "retry",
        lambda e: f"{e.name}: attempt {e.attempt} failed, next in {e.delay:.3g} s ({_error(e)})",
    ),
    events.RetryExhausted: _line(
        "retry",
        _ERROR,
        "retry.exhausted",
        "retry",
        lambda e: f"{e.name}: given up after {e.attempts} attempts; limit reached: {e.reason} ({_error(e)})",
    ),
    events.RetrySuppressed: _line(
        "retry",
        _DEBUG,
        "retry.suppressed",
        "retry",
        lambda e: f"{e.name}: not retried, an inner retry has given up on it already ({_error(e)})",
    ),
    events.CircuitStateChanged: _line(
        "circuit_breaker",
        _WARNING,
        "circuit_breaker.state_changed",
        "circuit_breaker",
        lambda e: f"{e.name}: {e.old.value} -> {e.new.value} ({e.reason})",
        limited=False,
    ),
    events.CallRejected: _line(
        "rejected", _DEBUG, "call.rejected", "", lambda e: f"{e.name}: call rejected by {e.kind} ({e.reason})"
    ),
    events.CallTimedOut: _line(
        "timeout", _DEBUG, "call.timed_out", "timeout", lambda e: f"{e.name}: no answer within {e.limit:.3g} s"
    ),
    events.FallbackServed: _line(
        "degrade", _DEBUG, "degrade.fallback_served", "degrade", lambda e: f"{e.name}: answered from {e.source}"
    ),
    events.FallbackFailed: _line(
        "degrade",
        _WARNING,
        "degrade.fallback_failed",
        "degrade",
        lambda e: f"{e.name}: a fallback failed ({_error(e)})",
    ),
    events.ConfigurationChanged: _line(
        "registry",
        _INFO,
        "configuration.changed",
        "",
        lambda e: f"{e.kind} {e.name}: changed {', '.join(e.changes)}",
        limited=False,
    ),
}


def configure(*, interval: Seconds | None = None, burst: int | None = None) -> None:
    """Say how many records of one kind are written. What is not named stays as it is; counts so far are written.

    Of each event, kind and policy, the first `burst` records of an interval are written at once; those that follow are
    counted, and one record says how many they were: its `suppressed` is that number. Changes of state and of
    configuration are always written.

    Args:
        interval: seconds or timedelta, 10 at first; 0 writes every record.
        burst: records written in each interval before the rest is counted, 5 at first.

    Raises:
        ConfigurationError: a value is impossible.
    """
    seconds = LIMITS.interval if interval is None else check.seconds("interval", interval)
    first = LIMITS.burst if burst is None else check.count("burst", burst)
    LIMITS.flush()
    LIMITS.interval, LIMITS.burst = seconds, first


def flush() -> None:
    """Write now how many records are held back, and begin anew with counting; this happens by itself at the end."""
    LIMITS.flush()


def log_event(event: Event) -> None:
    """Write one record for an event, if it is to be seen."""
    line = LINES.get(type(event))
    if line is None or not line.logger.isEnabledFor(level := _level(event, line)) or not has_reader(line.logger):
        return
    name = line.event if isinstance(line.event, str) else line.event(event)
    if not name:
        return
    kind = getattr(event, "kind", line.kind)
    if _is_written(line.limited, (name, kind, event.name), line.logger, level, event.fields):
        extra = {_RESERVED.get(key, key): plain_field(key, value) for key, value in event.fields().items()}
        extra |= {"kind": kind, "event": name, "suppressed": 0}
        line.logger.log(level, one_line(line.text(event)), extra=extra)


def log_note(note: Note) -> None:
    """Write one record for what is no event, such as a handler that raised, if it is to be seen."""
    if not note.logger.isEnabledFor(note.level) or not has_reader(note.logger):
        return
    key = (note.event, note.kind, note.policy)
    fields = note.fields if note.error is None else {**note.fields, "error": note.error}
    if _is_written(note.limited, key, note.logger, note.level, lambda: fields):
        extra = {key: plain_field(key, value) for key, value in fields.items()}
        extra |= {"policy": note.policy, "kind": note.kind, "event": note.event, "suppressed": 0}
        text = one_line(note.text % note.values)
        note.logger.log(note.level, text, exc_info=note.error if note.traced else None, extra=extra)


def _is_written(
    limited: bool, key: Key, logger: logging.Logger, level: int, fields: Callable[[], Iterable[str]]
) -> bool:
    if limited:
        return LIMITS.admits(key, logger, level, fields)
    LIMITS.sweep()
    return True


def _level(event: Event, line: Line) -> int:
    if isinstance(event, events.CircuitStateChanged) and event.new not in (CircuitState.OPEN, CircuitState.ISOLATED):
        return _INFO
    return line.level


def plain_field(key: str, value: Any) -> Any:
    """What leaves the process of an event's field: plain values, and nothing of what a call has returned."""
    if key == "changes" and isinstance(value, dict):
        return list(value)  # the names of the options; a fallback among the values may be a secret
    if isinstance(value, CircuitState):
        return value.value
    if isinstance(value, BaseException):
        return described(value)  # not the exception itself, which handlers would keep alive
    if isinstance(value, tuple) and all(isinstance(part, str) for part in value):
        return list(value)
    if value is None or (key != "result" and isinstance(value, (bool, int, float))):
        return value
    if key != "result" and isinstance(value, str):
        return value if key == "name" else shortened(value)
    return f"<{type(value).__name__}>"


HUB.lines, HUB.log, HUB.note, HUB.flush = LINES, log_event, log_note, flush
registry.fork_hooks.append(LIMITS.after_fork)
logging.getLogger("resilient").addHandler(UNTOUCHED[0])
