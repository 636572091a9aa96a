"""What went wrong in a guarded call, as events of the span that is current in it."""

from __future__ import annotations

from typing import Any

from opentelemetry import trace

from resilient import events
from resilient._registry import registry
from resilient.circuit_breaker.state import CircuitState
from resilient.events import HUB, Event, Subscription
from resilient.logs import LINES
from resilient.logs.texts import described
from resilient.metrics.gathering import encodable

#: The events that spans get; under the names that the log has for them.
TYPES: tuple[type[Event], ...] = (
    events.RetryScheduled,
    events.RetryExhausted,
    events.CircuitStateChanged,
    events.CallRejected,
    events.CallTimedOut,
    events.FallbackServed,
    events.FallbackFailed,
)
#: How many characters of an error a span gets.
LONGEST_TEXT = 200

_subscriptions: list[Subscription] = []


def start() -> None:
    """Add events to spans from now on; inside `registry.scoped()`, until its end."""
    if note not in HUB.by_type.get(TYPES[0], ()):
        _subscriptions.append(registry.subscribe(note, *TYPES))


def stop() -> None:
    """Leave spans alone again."""
    while _subscriptions:
        _subscriptions.pop()()


def note(event: Event) -> None:
    """Add an event to the current span, if that is recorded at all."""
    span = trace.get_current_span()
    if not span.is_recording():
        return
    line = LINES[type(event)]
    name = line.event if isinstance(line.event, str) else line.event(event)
    if name:
        span.add_event(name, attributes_of(event, line.kind))


def attributes_of(event: Event, kind: str) -> dict[str, str | bool | int | float]:
    """What a span gets of an event: plain values, and nothing of what a call was given or has returned."""
    fields = event.fields()
    fields.pop("result", None)
    found: dict[str, str | bool | int | float] = {"policy": encodable(fields.pop("name")), "kind": kind}
    for key, value in fields.items():
        plain = _plain(value)
        if plain is not None:
            found[key] = plain
    return found


def _plain(value: Any) -> str | bool | int | float | None:
    if isinstance(value, CircuitState):
        return value.value
    if isinstance(value, BaseException):
        text = described(value)
        return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 1]}…"
    return value if isinstance(value, (str, bool, int, float)) else None
