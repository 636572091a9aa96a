"""prometheus_client's multiprocess mode: the numbers of each process in files, which any of them can add up.

A collector is not asked there, so the files are written about once a second, at a scrape, and at the end.
"""

from __future__ import annotations

import atexit
import logging
import math
import os
import threading
import weakref
from functools import cache, partial
from typing import Any

from prometheus_client import values
from prometheus_client.utils import floatToGoString

from resilient.events import log_failure
from resilient.meters import Distribution
from resilient.metrics.catalogue import CATALOGUE, Definition, Together, Type
from resilient.metrics.gathering import Gathered, Gatherer
from resilient.metrics.readings import Value

_log = logging.getLogger("resilient.metrics")

#: Seconds between two writings; so much the numbers of other processes lag behind at most.
INTERVAL = 1.0

#: A metric, the values of its labels, and the name of one of its samples.
Key = tuple[str, tuple[str, ...], str]


def is_multiprocess() -> bool:
    """Whether prometheus_client keeps its values in files."""
    return bool(getattr(values.ValueClass, "_multiprocess", False))


class Files:
    """Keeps the files of this process up to date; in a forked child, those of the child."""

    def __init__(self, gatherer: Gatherer, interval: float = INTERVAL) -> None:
        self._gatherer = gatherer
        self._interval = interval
        self._cells: dict[Key, Any] = {}
        self._written: dict[Key, float] = {}
        #: What a forked child has inherited, and its parent tells of.
        self._inherited: Gathered = {}
        self._begin()
        self._at_exit = partial(_write, weakref.ref(self))
        atexit.register(self._at_exit)
        _FILES.add(self)

    def _begin(self) -> None:
        self._lock = threading.RLock()
        self._closed = threading.Event()
        writer = threading.Thread(
            target=_keep_writing, args=(weakref.ref(self), self._closed, self._interval), daemon=True,
            name="resilient-metrics",
        )  # fmt: skip
        writer.start()

    def write(self) -> None:
        """Bring the files up to date."""
        # Read without the lock, for which a fork waits: subscribers may hear of what is read, and one may hang.
        gathered = self._gatherer.gather()
        with self._lock:
            if self._closed.is_set():
                return
            for name, series in gathered.items():
                definition = CATALOGUE[name]
                for labels, value in series.items():
                    self._put(definition, labels, self._own(definition, labels, value))
            self._end_gauges(gathered)

    def _end_gauges(self, gathered: Gathered) -> None:
        """Let gauges that are gone say nothing from now on: what is in a file stays there."""
        for name, labels, sample in list(self._written):
            definition = CATALOGUE[name]
            if definition.type is Type.GAUGE and labels not in gathered[name]:
                self._sample(definition, sample, definition.labels, labels, _nothing(definition))

    def _own(self, definition: Definition, labels: tuple[str, ...], value: Value) -> Value:
        """The value without what was inherited."""
        before = self._inherited.get(definition.name, {}).get(labels)
        if before is None or definition.type is Type.GAUGE:
            return value
        if isinstance(value, Distribution) and isinstance(before, Distribution):
            counts = tuple(max(0, a - b) for a, b in zip(value.counts, before.counts, strict=True))
            return Distribution(counts, max(0.0, value.sum - before.sum))
        assert not isinstance(value, Distribution)
        assert not isinstance(before, Distribution)
        return max(0.0, value - before)

    def _put(self, definition: Definition, labels: tuple[str, ...], value: Value) -> None:
        if not isinstance(value, Distribution):
            self._sample(definition, definition.name, definition.labels, labels, value)
            return
        names = (*definition.labels, "le")
        for bound, count in zip(bounds_of(definition), value.counts, strict=True):
            self._sample(definition, f"{definition.name}_bucket", names, (*labels, bound), count)
        self._sample(definition, f"{definition.name}_sum", definition.labels, labels, value.sum)

    def _sample(
        self, definition: Definition, sample: str, names: tuple[str, ...], labels: tuple[str, ...], value: float
    ) -> None:
        key = definition.name, labels, sample
        cell = self._cells.get(key)
        if cell is None:
            family = definition.name.removesuffix("_total") if definition.type is Type.COUNTER else definition.name
            cell = self._cells[key] = values.ValueClass(
                definition.type.value, family, sample, names, labels, definition.text,
                multiprocess_mode=_mode(definition),
            )  # fmt: skip
        before = self._written.get(key)
        if before == value or (before is not None and value < before and definition.type is not Type.GAUGE):
            return  # another reading, which began later, has been written already
        if definition.type is not Type.GAUGE and key not in _FOUND:
            _FOUND[key] = cell.get()
        cell.set(value + _FOUND.get(key, 0.0))
        self._written[key] = value

    def close(self) -> None:
        """Write once more, and then no more."""
        _write(weakref.ref(self))
        self._closed.set()
        atexit.unregister(self._at_exit)

    def before_fork(self) -> None:
        """Wait for the writer, which holds a lock of prometheus_client: a child could never take that one again."""
        self._lock.acquire()

    def after_fork_in_parent(self) -> None:
        """Let the writer go on."""
        self._lock.release()

    def after_fork(self) -> None:
        """Go on in a forked child with files of its own, which tell only of what happens there."""
        if self._closed.is_set():
            self._lock = threading.RLock()
            return
        self._gatherer.after_fork()
        self._inherited = self._gatherer.gather()
        self._written.clear()
        self._begin()


@cache
def bounds_of(definition: Definition) -> tuple[str, ...]:
    """The upper bounds of a histogram's buckets, as Prometheus writes them."""
    return (*map(floatToGoString, definition.buckets), "+Inf")


def _nothing(definition: Definition) -> float:
    """What a gauge shows that has nothing to tell any more."""
    if definition.together is Together.LEAST:
        return math.nan if definition.by_process else math.inf
    return 0.0


def _mode(definition: Definition) -> str:
    if definition.by_process:
        return "liveall"
    return {Together.SUM: "livesum", Together.MOST: "livemax", Together.LEAST: "livemin"}[definition.together]


def _keep_writing(files: weakref.ref[Files], closed: threading.Event, interval: float) -> None:
    while not closed.wait(interval):
        if not _write(files):
            return


def _write(files: weakref.ref[Files]) -> bool:
    """Write, or say why that cannot be; whether there is still something to write for."""
    found = files()
    if found is None:
        return False
    try:
        found.write()
    except Exception:
        text = "the metrics of process %d could not be written"
        log_failure(_log, "metrics.not_written", text, os.getpid(), kind="metrics")
    return True


_FILES: weakref.WeakSet[Files] = weakref.WeakSet()
#: What a file of this process's number said when it was opened: an earlier process may have had that number.
_FOUND: dict[Key, float] = {}
#: Those that wait, by the thread that forks.
_held: dict[int, list[Files]] = {}


def _before_fork() -> None:
    held = _held[threading.get_ident()] = []
    for files in list(_FILES):
        files.before_fork()
        held.append(files)


def _after_fork_in_parent() -> None:
    for files in _held.pop(threading.get_ident(), ()):
        files.after_fork_in_parent()


def _after_fork_in_child() -> None:
    _held.clear()
    _FOUND.clear()
    for files in list(_FILES):
        files.after_fork()


# Not a hook of the registry's: this reads all policies, and comes when all of them have their locks again.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
