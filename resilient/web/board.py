"""All policies at a glance, and how that has changed: samples are taken while somebody looks, and forgotten after."""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

from resilient._registry import SHELVES, Registry
from resilient.clock import CLOCK
from resilient.events import CircuitStateChanged, log_failure
from resilient.web.counting import COUNTS, Counts
from resilient.web.feed import weakly
from resilient.web.history import Rates, Times, Track
from resilient.web.messages import LOGGER

#: Seconds between samples, and after which nobody seems to look any more.
INTERVAL, PATIENCE = 2.0, 60.0
#: A sample is this many times its own cost away from the next one, at least.
SPARING = 30
#: How old a picture may be, in seconds, before a new one is taken for a request.
FRESH = 0.5
_TRANSITIONS = 200


class Row:
    """One policy as it was when last looked at; the same object from look to look, as there may be thousands."""

    __slots__ = ("_policy", "bad", "calls", "concern", "in_flight", "kind", "name", "state", "track")

    def __init__(self, kind: str, name: str, policy: Any, counts: Counts, number: int) -> None:
        self.kind = kind
        self.name = name
        self._policy = weakref.ref(policy)  # a policy without a name of its own goes with its function
        self.state = counts.state
        self.concern = counts.concern
        #: Calls so far, None where nobody counts them, and how many of them did not go well.
        self.calls = counts.calls
        self.bad = counts.bad
        self.in_flight = counts.in_flight
        self.track = Track(number, counts.calls or 0, counts.bad)

    @property
    def policy(self) -> Any:
        """The policy itself; None where it has gone."""
        return self._policy()

    @property
    def order(self) -> tuple[int, str, str]:
        """What is cause for concern comes first."""
        return self.concern, self.name, self.kind

    def take(self, counts: Counts, times: Times, *, is_sample: bool) -> bool:
        """Take in what the counters say now; whether that moves it to another place."""
        before = self.concern
        self.calls, self.bad, self.state, self.concern, self.in_flight, recent = counts
        track = self.track
        if is_sample:
            track.add(times.number, self.calls or 0, self.bad, times.first)
        if recent is not None and recent[1] < self.concern and track.worse and times.is_recent(track.worse):
            self.state, self.concern = recent
        return self.concern != before


class Transition(NamedTuple):
    """A change of a breaker's state."""

    time: datetime
    name: str
    old: str
    new: str
    reason: str


class Board:
    """The policies of a registry, their states and rates."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self._lock = threading.RLock()
        self._times = Times()
        self._known: dict[tuple[str, str], Row] = {}
        self._rows: list[Row] = []
        self._taken = self._asked = float("-inf")
        self._cost = 0.0
        self._outdated = True
        #: How many looks have begun, and which of them the rows are from.
        self._looks = self._latest = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        #: Bumped by each change of a state, for who keeps what follows from the rows.
        self.version = 0
        self.transitions: deque[Transition] = deque(maxlen=_TRANSITIONS)
        self._subscription = registry.subscribe(weakly(self._changed), CircuitStateChanged)
        self._end = weakref.finalize(self, _end, self._stop, self._subscription)
        self._end.atexit = False

    # Asking

    def rows(self) -> list[Row]:
        """Every policy, what is cause for concern first; at most `FRESH` seconds old, and newer than any change."""
        self._asked = CLOCK.monotonic()
        self._watch()
        age = CLOCK.monotonic() - self._taken
        if self._outdated or not 0 <= age < max(FRESH, 5 * self._cost):
            self.look()
        return self._rows

    def rates(self, row: Row) -> Rates:
        """What a policy has done during the last minute."""
        with self._lock:
            return row.track.rates(self._times, counts_calls=row.calls is not None)

    def points(self, row: Row) -> list[tuple[float, float, float]]:
        """Seconds since the latest sample, calls and bad ones per second, for each sample."""
        with self._lock:
            last = self._times.last
            return [(at - last, calls, bad) for at, calls, bad in row.track.points(self._times)]

    def outdate(self) -> None:
        """What is known is not so any more: somebody has acted."""
        self._outdated = True
        self.version += 1

    def has(self, kind: str, name: str) -> bool:
        """Whether the registry has such a policy, whenever this was last looked at."""
        return kind in SHELVES and name in getattr(self.registry, SHELVES[kind])

    def look(self) -> None:
        """See who is in which state; this is a sample too, unless one was taken within half an interval."""
        began = time.perf_counter()
        self._looks = mine = self._looks + 1
        self._outdated = False
        # Before the lock: a breaker may tell of a change when it is read, and that is heard by anybody's code.
        found = list(self._counts())
        with self._lock:
            if mine < self._latest:
                return  # what another thread has seen meanwhile is newer
            self._latest = mine
            now = CLOCK.monotonic()
            times = self._times
            is_sample = not times.number or not 0 <= now - times.last < INTERVAL / 2
            if is_sample:
                times.add(now)
            self._take(found, is_sample=is_sample)
            self._taken = now
        self._cost = time.perf_counter() - began

    def _take(self, found: list[tuple[str, str, Any, Counts]], *, is_sample: bool) -> None:
        """Bring the rows up to date; they are sorted anew only where one of them has moved, come or gone."""
        before, known = self._known, {}
        moved = len(found) != len(before)
        for kind, name, policy, counts in found:
            key = (kind, name)
            row = before.get(key)
            if row is None or row.policy is not policy:
                row, moved = Row(kind, name, policy, counts, self._times.number), True
            elif row.take(counts, self._times, is_sample=is_sample):
                moved = True
            known[key] = row
        self._known = known
        if moved:
            self._rows = sorted(known.values(), key=lambda row: row.order)

    def _counts(self) -> Iterator[tuple[str, str, Any, Counts]]:
        shelves: dict[str, Any] = {kind: getattr(self.registry, shelf) for kind, shelf in SHELVES.items()}
        for kind, shelf in shelves.items():
            read = COUNTS[kind]
            for name, policy in shelf.items():
                yield kind, name, policy, read(policy)

    # Watching

    def _changed(self, event: CircuitStateChanged) -> None:
        now = datetime.now(UTC)
        self.transitions.append(Transition(now, event.name, event.old.value, event.new.value, event.reason))
        self.outdate()

    def _watch(self) -> None:
        """Have samples taken, if that is not so already."""
        if self._stop.is_set() or (self._thread is not None and self._thread.is_alive()):
            return
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                arguments = (weakref.ref(self), self._stop)
                self._thread = threading.Thread(target=_sample, args=arguments, name="resilient-web", daemon=True)
                self._thread.start()

    def pause(self) -> float:
        """Seconds until the next sample; 0 where nobody looks any more."""
        if CLOCK.monotonic() - self._asked >= PATIENCE:
            return 0.0
        return max(INTERVAL, SPARING * self._cost)

    @property
    def sampling(self) -> bool:
        """Whether the thread that takes samples is at work."""
        return self._thread is not None and self._thread.is_alive()

    def rest(self) -> None:
        """End the sampling until somebody asks again."""
        with self._lock:
            self._stop.set()
            self._stop, self._thread = threading.Event(), None

    def close(self) -> None:
        """Look no more by itself."""
        self._stop.set()
        self._end()

    def after_fork(self) -> None:
        """The thread has stayed with the parent, and so has whoever had the lock."""
        self._lock = threading.RLock()
        self._thread = None
        self._outdated = True


def _end(stop: threading.Event, unsubscribe: Callable[[], object]) -> None:
    stop.set()
    unsubscribe()


def _sample(reference: weakref.ref[Board], stop: threading.Event) -> None:
    """Take samples until nobody looks any more; keeps the board alive only while it does so."""
    pause = INTERVAL
    while pause and not stop.wait(pause):
        board = reference()
        if board is None:
            return
        try:
            board.look()
        except Exception:
            log_failure(LOGGER, "web.failed", "a sample could not be taken", kind="web")
        pause = board.pause()
        del board
