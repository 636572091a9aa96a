"""What the rooms of this folder tell: changes of mode and health, and the fate of queued calls."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

from resilient.events import Event
from resilient.logs import LINES, Line

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


def log_given_up(name: str, call: str, attempts: int, error: BaseException | None) -> None:
    """Write a warning for a call that ended with an error; the line of its event is for successes too."""
    if error is None:
        return
    with suppress(Exception):  # neither an error's text nor a log handler may end a worker
        why = f"{type(error).__name__}: {error}"
        text = "%s: %s is given up after %d attempts (%s)"
        _QUEUE.warning(text, name, call, attempts, why, extra={"event": "call_given_up"})


def _health(event: Any) -> str:
    what = "degraded" if event.degraded else "healthy again"
    rates = f"moving error rate {event.moving_rate:.0%}, window {event.window_rate:.0%}"
    return f"{event.name}: {event.service} is {what} ({rates})"


def _end(event: Any) -> str:
    how = "done" if event.error is None else f"given up ({type(event.error).__name__}: {event.error})"
    return f"{event.name}: {event.call} {how} after {event.attempts} attempts"


def _mode(event: Any) -> str:
    spared = f"; degraded: {', '.join(event.degraded)}" if event.degraded else ""
    return f"{event.name}: mode {event.old} -> {event.new} ({event.reason}){spared}"


LINES.update(
    {
        DegradationModeChanged: Line(_DEGRADATION, logging.WARNING, _mode),
        ServiceHealthChanged: Line(_DEGRADATION, logging.WARNING, _health),
        CallQueued: Line(_QUEUE, logging.INFO, lambda e: f"{e.name}: {e.call} is queued as {e.id}"),
        QueuedCallFailed: Line(
            _QUEUE,
            logging.INFO,
            lambda e: (
                f"{e.name}: {e.call} failed, attempt {e.attempt}, next in {e.delay:.3g} s "
                f"({type(e.error).__name__}: {e.error})"
            ),
        ),
        QueuedCallRepeated: Line(
            _QUEUE,
            logging.WARNING,
            lambda e: f"{e.name}: {e.call} may have run before: its process died during attempt {e.attempt}",
        ),
        QueuedCallEnded: Line(_QUEUE, logging.INFO, _end),
    }
)
