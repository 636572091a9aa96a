"""All readings of the process, brought together into series: bounded in number, and counters that never fall."""

from __future__ import annotations

import logging
import sys
import threading
import weakref
from collections.abc import Iterable, Iterator
from typing import Any

from resilient import _checks as check
from resilient._registry import SHELVES, Registry
from resilient.events import HUB, log_failure, log_note
from resilient.meters import Distribution
from resilient.metrics.catalogue import CATALOGUE, Definition, Together, Type
from resilient.metrics.readings import OF_KIND, Reading, Value, cache_of, of_cache, of_manager

_log = logging.getLogger("resilient.metrics")

#: What names beyond the limit are put together under.
OTHER = "other"
DEFAULT_NAMES = 1000

Series = dict[tuple[str, ...], Value]
_GAUGES = frozenset(name for name, definition in CATALOGUE.items() if definition.type is Type.GAUGE)
#: By metric, the values by the values of its labels.
Gathered = dict[str, Series]


class _Known:
    """A policy that was read before: under which label, and what its counters said last."""

    __slots__ = ("counters", "kind", "label", "present", "reference")

    def __init__(self, source: object, kind: str, label: str) -> None:
        self.reference = weakref.ref(source)
        self.kind = kind
        self.label = label
        self.present = True
        self.counters: dict[tuple[str, tuple[str, ...]], Value] = {}


class Gatherer:
    """Reads everything; each user of the numbers has one of its own, as it remembers what is gone.

    At most `max_names` names of each kind get series of their own; the others share the name "other", and a warning is
    logged once. A policy that is gone leaves what it had counted in the series of its name.
    """

    def __init__(self, registry: Registry, max_names: int = DEFAULT_NAMES) -> None:
        self._registry = registry
        self._max_names: int = check.count("max_names", max_names)
        self._lock = threading.RLock()  # a policy may be read while the garbage collector runs another reading
        self._names: dict[str, set[str]] = {}
        self._warned = False
        self._warning: tuple[str, str] | None = None
        self._known: dict[int, _Known] = {}
        self._gone: Gathered = {}

    def gather(self) -> Gathered:
        """The series of now, by metric; every metric of the catalogue is there."""
        # Read without the lock: reading a breaker may end its open period, and subscribers hear of that.
        sources = [(kind, name, source, _read(kind, name, found)) for kind, name, source, found in self._sources()]
        with self._lock:
            found: Gathered = {name: {} for name in CATALOGUE}
            for entry in self._known.values():
                entry.present = False
            for kind, name, source, readings in sources:
                self._take(found, kind, name, source, readings)
            self._read_others(found)
            self._keep_counters(found)
            warning, self._warning = self._warning, None
        if warning is not None:
            self._warn(*warning)
        return found

    def _warn(self, kind: str, name: str) -> None:
        text = "more than %d names of the kind %s: further ones share the series of %r; see max_names"
        values = self._max_names, kind, OTHER
        log_note(_log, logging.WARNING, "metrics.too_many_names", text, *values, kind=kind, policy=name, limited=False)

    # Reading ------------------------------------------------------------------------------------

    def _sources(self) -> Iterator[tuple[str, str, Any, Iterable[Reading]]]:
        """What is to be read: kind, name, the object itself and its readings."""
        caches: set[int] = set()
        for kind, shelf in SHELVES.items():
            read = OF_KIND[kind]
            for name, policy in getattr(self._registry, shelf).items():
                yield kind, name, policy, read(policy)
                cache = cache_of(policy) if kind == "degrade" else None
                if cache is not None and id(cache) not in caches:
                    caches.add(id(cache))  # one that several share is counted once
                    yield kind, name, cache, of_cache(cache)
        for manager in _loaded("resilient.degradation.manager", "managers", list):
            yield "manager", manager.name, manager, of_manager(manager)

    def _take(self, found: Gathered, kind: str, name: str, source: Any, readings: Iterable[Reading]) -> None:
        entry = self._known.get(id(source))
        if entry is None or entry.reference() is not source:
            if entry is not None:
                self._fold(entry)  # another one has got its address
            entry = self._known[id(source)] = _Known(source, kind, self.label(kind, name))
        entry.present = True
        counters = entry.counters
        for reading in readings:
            if reading[0] in _GAUGES:
                self._add(found, entry, reading)
                continue
            key, value = reading[:2], reading[2]
            before = counters.get(key)
            # Another reading may have come between any two of this one's numbers, and have been quicker.
            if before != value:
                counters[key] = value if before is None else later(before, value)
        for (metric, rest), value in counters.items():
            self._add(found, entry, (metric, rest, value))

    def _read_others(self, found: Gathered) -> None:
        """What is no policy's: recoveries, injected faults, subscribers that raised; where they are in use at all."""
        tally = getattr(sys.modules.get("resilient.orchestrator.tally"), "TALLY", None)
        if tally is not None:
            for (plan, result), count in tally.ended().items():
                self._put(found, "recovery_executions_total", (self.label("plan", plan), result), count)
            for plan, count in tally.running().items():
                self._put(found, "recovery_executions_running", (self.label("plan", plan),), count)
            for (plan, step, result), durations in tally.steps().items():
                known = self.label("step", f"{plan}/{step}") != OTHER
                labels = self.label("plan", plan), step if known else OTHER, result
                self._put(found, "recovery_step_duration_seconds", labels, durations)
        fired = getattr(sys.modules.get("resilient.testing.injection"), "FIRED", None)
        if fired is not None:
            for (target, fault), count in fired.totals().items():
                self._put(found, "recovery_injected_faults_total", (self.label("target", target), fault), count)
        self._put(found, "recovery_event_handler_failures_total", (), HUB.failures)

    def label(self, kind: str, name: str) -> str:
        """The name, or "other" where there are too many of that kind."""
        names = self._names.setdefault(kind, set())
        if name in names:
            return name
        name = encodable(name)
        if name in names:
            return name
        if len(names) < self._max_names:
            names.add(name)
            return name
        if not self._warned:
            self._warned, self._warning = True, (kind, name)
        return OTHER

    # Putting together ---------------------------------------------------------------------------

    def _add(self, found: Gathered, entry: _Known, reading: Reading) -> None:
        metric, rest, value = reading
        labels = (entry.label, *rest) if metric != "recovery_calls_total" else (entry.kind, entry.label, *rest)
        series = found[metric]
        if labels in series:
            value = together(CATALOGUE[metric], series[labels], value)
        series[labels] = value

    def _put(self, found: Gathered, metric: str, labels: tuple[str, ...], value: Value) -> None:
        series = found[metric]
        before = series.get(labels)
        series[labels] = value if before is None else together(CATALOGUE[metric], before, value)

    def _keep_counters(self, found: Gathered) -> None:
        """Add what policies had counted that are not to be found now."""
        for key, entry in list(self._known.items()):
            if entry.present:
                continue
            if entry.reference() is None:
                self._fold(entry)
                del self._known[key]
            else:  # put aside by `registry.scoped()`
                for (metric, rest), value in entry.counters.items():
                    self._add(found, entry, (metric, rest, value))
        for metric, series in self._gone.items():
            for labels, value in series.items():
                self._put(found, metric, labels, value)

    def _fold(self, entry: _Known) -> None:
        for (metric, rest), value in entry.counters.items():
            self._gone.setdefault(metric, {})
            self._add(self._gone, entry, (metric, rest, value))

    def after_fork(self) -> None:
        """Replace the lock in a forked child."""
        self._lock = threading.RLock()


def encodable(name: str) -> str:
    """The name as it can be written: half a surrogate pair would end every scrape."""
    return name.encode("utf-8", "backslashreplace").decode()


def later(one: Value, other: Value) -> Value:
    """Which of two readings of a counter or a histogram is the later one."""
    if isinstance(one, Distribution) and isinstance(other, Distribution):
        # The sum is read after the counts, so it may be the later one where they are not.
        counts = other.counts if other.number >= one.number else one.counts
        return Distribution(counts, max(one.sum, other.sum))
    assert not isinstance(one, Distribution)
    assert not isinstance(other, Distribution)
    return max(one, other)


def together(definition: Definition, one: Value, other: Value) -> Value:
    """Two values of a metric that share a series."""
    if isinstance(one, Distribution) or isinstance(other, Distribution):
        assert isinstance(one, Distribution)
        assert isinstance(other, Distribution)
        counts = tuple(a + b for a, b in zip(one.counts, other.counts, strict=True))
        return Distribution(counts, one.sum + other.sum)
    if definition.together is Together.SUM:
        return one + other
    if one != one or other != other:  # NaN says nothing, so the other one has the word
        return other if one != one else one
    return max(one, other) if definition.together is Together.MOST else min(one, other)


def _read(kind: str, name: str, readings: Iterable[Reading]) -> list[Reading]:
    """What a policy says; where it cannot be read, its counters stay, and all others are seen."""
    found: list[Reading] = []
    try:
        found.extend(readings)
    except Exception:
        log_failure(
            _log, "metrics.not_read", "the metrics of %s %s could not be read", kind, name, kind=kind, policy=name
        )
    return found


def _loaded(module: str, name: str, call: Any) -> Any:
    """What a function of a module returns, if that module has been imported at all."""
    found = getattr(sys.modules.get(module), name, None)
    return [] if found is None else call(found())
