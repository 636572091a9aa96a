"""What the rooms of this folder tell: changes of mode and health, and the fate of queued calls."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from resilient.events import Event, log_note
from resilient.logs import LINES, Line
from resilient.logs.texts import described

_DEGRADATION = logging.getLogger("resilient.degradation")
_QUEUE = logging.getLogger("resilient.queue")


class DegradationModeChanged(Event):
    """A manager went from mode `old` to `new`; `reason`: measured, forced or released; `degraded` names services."""

    __slots__ = ("degraded", "new", "old", "reason")

    def __init__(self, name: str, old: str, new: str, reason: str, degraded: tuple[str, ...] = ()) -> None:
        self.name = name
        self.old = old
        self.new = new
        self.reason = reason
        self.degraded = degraded


class ServiceHealthChanged(Event):
    """A `service` of a manager is spared from now on (`degraded`), or is not any more; with its error rates, 0 to 1."""

    __slots__ = ("degraded", "moving_rate", "service", "window_rate")

    def __init__(self, name: str, service: str, degraded: bool, moving_rate: float, window_rate: float) -> None:
        self.name = name
        self.service = service
        self.degraded = degraded
        self.moving_rate = moving_rate
        self.window_rate = window_rate


class CallQueued(Event):
    """A call was put on a queue (`name`) to be made later; `call` is the name of the function."""

    __slots__ = ("call", "id")

    def __init__(self, name: str, id: str, call: str) -> None:
        self.name = name
        self.id = id
        self.call = call


class QueuedCallFailed(Event):
    """Attempt number `attempt` at a queued call failed; the next follows in `delay` seconds."""

    __slots__ = ("attempt", "call", "delay", "error", "id")

    def __init__(self, name: str, id: str, call: str, attempt: int, delay: float, error: BaseException) -> None:
        self.name = name
        self.id = id
        self.call = call
        self.attempt = attempt
        self.delay = delay
        self.error = error


class QueuedCallRepeated(Event):
    """A queued call is made again although it may have run before: the process died during attempt `attempt`."""

    __slots__ = ("attempt", "call", "id")

    def __init__(self, name: str, id: str, call: str, attempt: int) -> None:
        self.name = name
        self.id = id
        self.call = call
        self.attempt = attempt


class QueuedCallEnded(Event):
    """A queued call succeeded, or was given up with `error`, after `attempts`."""

    __slots__ = ("attempts", "call", "error", "id")

    def __init__(self, name: str, id: str, call: str, attempts: int, error: BaseException | None = None) -> None:
        self.name = name
        self.id = id
        self.call = call
        self.attempts = attempts
        self.error = error


def log_given_up(name: str, id: str, call: str, attempts: int, error: BaseException | None) -> None:
    """Write a warning for a call that ended with an error; the line of its event is for successes."""
    if error is None:
        return
    text, values = "%s: %s is given up after %d attempts (%s)", (name, call, attempts, described(error))
    log_note(
        _QUEUE,
        logging.WARNING,
        "queue.call_given_up",
        text,
        *values,
        kind="queue",
        policy=name,
        error=error,
        id=id,
        call=call,
        attempts=attempts,
    )


def _health(event: Any) -> str:
    what = "degraded" if event.degraded else "healthy again"
    rates = f"moving error rate {event.moving_rate:.0%}, window {event.window_rate:.0%}"
    return f"{event.name}: {event.service} is {what} ({rates})"


def _end(event: Any) -> str:
    return "queue.call_succeeded" if event.error is None else ""  # or it is told by log_given_up


def _mode(event: Any) -> str:
    spared = f"; degraded: {', '.join(event.degraded)}" if event.degraded else ""
    return f"{event.name}: mode {event.old} -> {event.new} ({event.reason}){spared}"


def _queue_line(level: int, event: str | Callable[[Any], str], text: Callable[[Any], str]) -> Line:
    return Line(_QUEUE, level, text, event, "queue", limited=True)


LINES.update(
    {
        DegradationModeChanged: Line(_DEGRADATION, logging.WARNING, _mode, "degradation.mode_changed", "manager"),
        ServiceHealthChanged: Line(_DEGRADATION, logging.WARNING, _health, "degradation.health_changed", "manager"),
        CallQueued: _queue_line(logging.INFO, "queue.call_queued", lambda e: f"{e.name}: {e.call} is queued as {e.id}"),
        QueuedCallFailed: _queue_line(
            logging.INFO,
            "queue.call_failed",
            lambda e: f"{e.name}: {e.call} failed, attempt {e.attempt}, next in {e.delay:.3g} s ({described(e.error)})",
        ),
        QueuedCallRepeated: _queue_line(
            logging.WARNING,
            "queue.call_repeated",
            lambda e: f"{e.name}: {e.call} may have run before: its process died during attempt {e.attempt}",
        ),
        QueuedCallEnded: _queue_line(
            logging.INFO, _end, lambda e: f"{e.name}: {e.call} is done after {e.attempts} attempts"
        ),
    }
)
