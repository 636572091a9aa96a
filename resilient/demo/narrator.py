"""Turns the library's events into lines a stranger can follow.

Hundreds of events a second happen during an outage. Every change of the breaker is told, of the rest the first of
each phase and policy; what is left out is summed up once a second.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

from resilient.demo.clients import TASKS, THREADS
from resilient.demo.lines import Line
from resilient.demo.traffic import Second
from resilient.errors import BulkheadFullError, CallTimeoutError, CircuitOpenError
from resilient.events import (
    CallRejected,
    CallTimedOut,
    CircuitStateChanged,
    Event,
    FallbackServed,
    RetryExhausted,
    RetryScheduled,
    RetrySucceeded,
)


@dataclass(frozen=True, slots=True)
class Transition:
    """One change of a breaker's state, in the state's own words."""

    at: float
    name: str
    old: str
    new: str
    reason: str


class Narrator:
    """Hears events in any thread; tells them, in order, in the one thread that calls `tell`."""

    HEARS: tuple[type[Event], ...] = (
        RetryScheduled,
        RetrySucceeded,
        RetryExhausted,
        CircuitStateChanged,
        CallRejected,
        CallTimedOut,
        FallbackServed,
    )

    def __init__(self, begin: float, show: Callable[[Line], None]) -> None:
        self._begin = begin
        self._show = show
        self._inbox: deque[tuple[float, Event | str]] = deque()
        self._told: set[tuple[str, str]] = set()
        self._since_summary: Counter[str] = Counter()
        self._seen = Second()
        self.lines: list[Line] = []
        self.transitions: list[Transition] = []
        self.counts: Counter[str] = Counter()

    def now(self) -> float:
        """Seconds since the traffic began."""
        return time.monotonic() - self._begin

    def hear(self, event: Event) -> None:
        """Take an event in; called by whoever caused it, so it only puts it aside."""
        self._inbox.append((self.now(), event))

    def hear_probe(self) -> None:
        """A request went out while the breaker was half-open."""
        self._inbox.append((self.now(), "probe"))

    def announce(self, text: str) -> None:
        """Begin a phase: the first event of each kind is told again."""
        self.tell()
        self._told.clear()
        self._say("phase", text)

    def note(self, text: str) -> None:
        """Say what became of the service, after everything heard so far."""
        self.tell()
        self._say("service", text)

    def tell(self) -> None:
        """Tell what has been heard since the last time."""
        while self._inbox:
            at, event = self._inbox.popleft()
            if isinstance(event, str):
                self._tell_first(at, event, "", "requests are let through to find out whether the service is back")
                continue
            self.counts[type(event).__name__] += 1
            if isinstance(event, CircuitStateChanged):
                self._tell_transition(at, event)
            elif (words := in_words(event)) is not None:
                self._tell_first(at, words[0], event.name, words[1])

    def sum_up(self, total: Second) -> None:
        """One line on what callers saw since the last such line, and on what happened behind their backs."""
        self.tell()
        seen, self._seen = total - self._seen, total
        text = f"{seen.ok:3d} ok  {seen.fallback:3d} fallback  {seen.rejected:3d} rejected"
        if seen.failed:
            text += f"  {seen.failed:3d} failed"
        behind = [f"{count} {_plural(kind, count)}" for kind, count in sorted(self._since_summary.items())]
        self._since_summary.clear()
        self._say("callers", text + (f"   behind it: {', '.join(behind)}" if behind else ""))

    def _say(self, kind: str, text: str, at: float | None = None) -> None:
        line = Line(self.now() if at is None else at, kind, text)
        self.lines.append(line)
        self._show(line)

    def _tell_first(self, at: float, kind: str, name: str, text: str) -> None:
        if kind in ("retry", "timeout", "probe"):
            self._since_summary[kind] += 1
        if (kind, name) not in self._told:
            self._told.add((kind, name))
            self._say(kind, text, at)

    def _tell_transition(self, at: float, event: CircuitStateChanged) -> None:
        old, new = event.old.value, event.new.value
        self.transitions.append(Transition(at, event.name, old, new, event.reason))
        text = f"{old.upper()} -> {new.upper()}: {event.reason}"
        if event.retry_after:
            text += f"; no request for {event.retry_after:.1f} s"
        # A new round of probes is news again.
        self._told.discard(("probe", ""))
        self._say("breaker", text, at)


def in_words(event: Event) -> tuple[str, str] | None:
    """Kind and text of the line for an event; None when another line says it already."""
    who = {THREADS: "a thread", TASKS: "a task"}.get(event.name, "a caller")
    match event:
        case RetryScheduled():
            return "retry", f"{who}, attempt {event.attempt}: {cause(event.error)}; again in {event.delay:.2f} s"
        case RetrySucceeded():
            return "answered", f"{who}, at attempt {event.attempts}; it noticed nothing but a delay"
        case CallTimedOut():
            return "timeout", f"{who} gives up an attempt without answer after {event.limit:.2f} s"
        case CallRejected(kind="bulkhead"):
            return "rejected", f"{who} finds every place in the bulkhead taken, and is told so"
        case FallbackServed():
            return "fallback", f"{cause(event.error)}: {who} gets a stand-in answer at once"
        case _:
            return None


def cause(error: Exception | None) -> str:
    """An error in a few words."""
    match error:
        case CircuitOpenError():
            return "the breaker is open"
        case BulkheadFullError():
            return "the bulkhead is full"
        case CallTimeoutError():
            return "no answer in time"
        case None:
            return "no usable answer"
        case _:
            return str(error) or type(error).__name__


def _plural(kind: str, count: int) -> str:
    if count == 1:
        return kind
    return "retries" if kind == "retry" else f"{kind}s"
