"""What all recoveries of the process have come to, for the metrics."""

from __future__ import annotations

import threading
import weakref
from collections import Counter
from collections.abc import Iterable
from typing import Protocol

from resilient._registry import registry
from resilient.meters import STEP_BUCKETS, Distribution, Histogram
from resilient.orchestrator.events import RecoveryEvent
from resilient.orchestrator.events import RecoveryEventType as Type

_ENDS = {
    Type.EXECUTION_COMPLETED: "completed",
    Type.EXECUTION_FAILED: "failed",
    Type.EXECUTION_CANCELLED: "cancelled",
}
_STEP_ENDS = {Type.STEP_COMPLETED: "completed", Type.STEP_FAILED: "failed"}


class Running(Protocol):
    """An engine that knows the plans of the executions under way in this process."""

    def running(self) -> Iterable[str]: ...


class RecoveryTally:
    """Executions by plan and result, and how long steps took. Knows what was told by this process."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._ended: Counter[tuple[str, str]] = Counter()
        self._steps: dict[tuple[str, str, str], Histogram] = {}
        self._begun: dict[tuple[str, str], float] = {}
        self._engines: weakref.WeakSet[Running] = weakref.WeakSet()

    def watch(self, engine: Running) -> None:
        """Ask this engine too what is under way."""
        with self._lock:
            self._engines.add(engine)

    def note(self, event: RecoveryEvent) -> None:
        """Account for what has happened."""
        kind, place = event.event_type, (event.execution_id, event.step_id or "")
        ended: tuple[Histogram, tuple[str, str, str], float] | None = None
        with self._lock:
            if kind is Type.STEP_STARTED:
                self._begun.setdefault(place, event.elapsed)
            elif kind in _STEP_ENDS:
                took = max(0.0, event.elapsed - self._begun.pop(place, event.elapsed))
                labels = event.plan_id, event.step_id or "", _STEP_ENDS[kind]
                ended = self._histogram(labels), labels, took
            elif kind in _ENDS:
                self._ended[event.plan_id, _ENDS[kind]] += 1
                for left in [one for one in self._begun if one[0] == event.execution_id]:
                    del self._begun[left]
        if ended is not None:  # out here, as others may listen
            histogram, labels, took = ended
            histogram.observe(took, *labels)

    def _histogram(self, labels: tuple[str, str, str]) -> Histogram:
        if labels not in self._steps:
            self._steps[labels] = Histogram("recovery_step_duration_seconds", STEP_BUCKETS)
        return self._steps[labels]

    def ended(self) -> dict[tuple[str, str], int]:
        """Executions by plan and result."""
        with self._lock:
            return dict(self._ended)

    def running(self) -> Counter[str]:
        """Executions under way in this process by plan."""
        with self._lock:
            engines = list(self._engines)
        return Counter(plan for engine in engines for plan in engine.running())

    def steps(self) -> dict[tuple[str, str, str], Distribution]:
        """How long steps took, by plan, step and result; retries, and waiting for a decision, included."""
        with self._lock:
            return {labels: histogram.distribution() for labels, histogram in self._steps.items()}

    def after_fork(self) -> None:
        """Replace the lock in a forked child."""
        self._lock = threading.RLock()


TALLY = RecoveryTally()
registry.fork_hooks.append(TALLY.after_fork)
