"""Listening to a scenario: its operations, and what policies, faults and recoveries tell meanwhile."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING, Any

from resilient._registry import Registry, registry
from resilient.clock import CLOCK
from resilient.events import Event
from resilient.testing.recovery.result import Operation, TimelineEvent

if TYPE_CHECKING:
    from collections.abc import Sequence


class RecoveryMetricsCollector:
    """Sees what happens during a scenario. One of your own adds numbers to the results by `collect_metrics`.

    Without arguments: the registry in use, and the operations it is told of. `record_operation` may be called by
    several threads at once.
    """

    def __init__(self, registry: Registry = registry) -> None:
        self.registry = registry
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._events: list[TimelineEvent] = []
        self._origin = 0.0

    def reset_metrics(self, scenario_id: str) -> None:
        """A scenario begins: what was seen before does not count."""
        with self._lock:
            self._counts.clear()
            self._events.clear()

    def record_operation(self, scenario_id: str, operation: Operation) -> None:
        """An operation of the workload has ended; its phase is not settled yet."""
        with self._lock:
            self._counts["operations"] += 1
            self._counts["successes" if operation.ok else "failures"] += 1

    def collect_metrics(self, scenario_id: str) -> Mapping[str, float]:
        """Numbers for the result, by name: how many operations, and events of each kind, there were."""
        with self._lock:
            return dict(sorted(self._counts.items()))

    # What the framework uses

    @contextmanager
    def listening(self, scenario_id: str, origin: float) -> Iterator[None]:
        """Note events inside the block; `origin` is when the scenario began, by the clock."""
        self.reset_metrics(scenario_id)
        self._origin = origin
        with self.registry.subscribe(self._heard, Event):
            yield

    def tell(self, kind: str, name: str, text: str, at: float | None = None, /, **data: Any) -> None:
        """Put something on the timeline; `at` is a moment of the clock, now if None."""
        moment = (CLOCK.monotonic() if at is None else at) - self._origin
        event = TimelineEvent(moment, kind, name, text, data)
        with self._lock:
            self._events.append(event)

    @property
    def events(self) -> Sequence[TimelineEvent]:
        """What happened, in order."""
        with self._lock:
            return sorted(self._events, key=lambda one: (one.at, one.kind != "fault begins"))

    def _heard(self, event: Event) -> None:
        kind = type(event).__name__
        data = {name: _plain(value) for name, value in event.fields().items() if name != "name"}
        self.tell(kind, event.name, _text(data), **data)
        with self._lock:
            self._counts[kind] += 1


def _plain(value: Any) -> Any:
    """A value as a report can hold it; of errors only what they are, as their texts may hold what is secret."""
    if isinstance(value, Enum):
        return value.name
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return type(value).__name__


def _text(data: Mapping[str, Any]) -> str:
    if "new" in data and "old" in data:
        return f"{data['old']} -> {data['new']}"
    return ", ".join(
        f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in data.items()
        if value is not None
    )
