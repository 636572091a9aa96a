"""How many records of one kind are written: the first of an interval, and then how many more there were.

What is held back is counted by event, kind and policy. The count is written by the next record of any kind, by a
thread that lives only while something is held back, or at the end of the process, whichever comes first.
"""

from __future__ import annotations

import atexit
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

from resilient.clock import CLOCK
from resilient.logs.texts import one_line

#: So many policies are counted each for itself; further ones together, until some have been quiet for an interval.
MOST_KEYS = 1_000
#: What stands for the name of the policy where several are counted together.
OTHERS = "(others)"

INTERVAL, BURST = 10.0, 5

Key = tuple[str, str, "str | None"]

_REAL = CLOCK.monotonic
_PATIENCE = 1.0  # seconds at the end of the process for a count that is being written


class _Window:
    """The records of one key in one interval, which began at `start`."""

    __slots__ = ("fields", "held", "key", "level", "logger", "start", "written")

    def __init__(self, key: Key, logger: logging.Logger, level: int, fields: tuple[str, ...], start: float) -> None:
        self.key = key
        self.logger = logger
        self.level = level
        self.fields = fields
        self.start = start
        self.written = self.held = 0

    def counted(self, burst: int) -> bool:
        """Count one more record; whether it is among the first, and to be written."""
        if self.written < burst:
            self.written += 1
            return True
        self.held += 1
        return False

    def tell(self, seconds: float) -> None:
        """Write how many were held back, under the same name and with the same fields, which are empty."""
        event, kind, policy = self.key
        whose = "" if policy is None else f"{one_line(policy)}: "
        extra: dict[str, object] = dict.fromkeys(self.fields)
        extra.pop("name", None)
        extra |= {"event": event, "policy": policy, "kind": kind, "suppressed": self.held}
        text = "%s%s: and %s more like it in the last %.3g s"
        with suppress(Exception):  # what log handlers raise
            self.logger.log(self.level, text, whose, event, f"{self.held:,}", seconds, extra=extra)


class Limits:
    """Decides which records are written. Log handlers are never called while the lock is held."""

    def __init__(self) -> None:
        self.interval, self.burst = INTERVAL, BURST
        atexit.register(self._end)
        self.after_fork()

    def after_fork(self) -> None:
        """Begin anew in a forked child: what is held back is told by its parent."""
        self._lock = threading.RLock()
        self._busy = False
        self._wake = threading.Event()
        self._timer: threading.Thread | None = None
        self._windows: dict[Key, _Window] = {}  # in the order in which they began

    def admits(self, key: Key, logger: logging.Logger, level: int, fields: Callable[[], Iterable[str]]) -> bool:
        """Whether this record is to be written; if not, it is counted. `fields` are asked for once an interval."""
        if not self.interval:
            return True
        now, over, timer, admitted = CLOCK.monotonic(), [], None, True
        with self._alone() as alone:
            if alone:
                over = self._over(now)
                window = self._window(self._place(key), now, over)
                if window is None:
                    window = _Window(self._place(key), logger, level, tuple(fields()), now)
                    self._windows[window.key] = window
                admitted = window.counted(self.burst)
                timer = None if admitted else self._needed_timer()
        self._tell(over, now)
        if timer is not None:
            self._start(timer)
        return admitted

    def sweep(self) -> None:
        """Write the counts of intervals that are over."""
        if self._windows:
            now = CLOCK.monotonic()
            with self._alone() as alone:
                over = self._over(now) if alone else []
            self._tell(over, now)

    def flush(self) -> None:
        """Write all counts now, and begin anew."""
        if self._windows:
            over: list[_Window] = []
            with self._alone() as alone:
                if alone:
                    over = list(self._windows.values())
                    self._windows.clear()
                    self._wake.set()
            self._tell(over, CLOCK.monotonic())

    def _end(self) -> None:
        timer = self._timer
        self.flush()
        if timer is not None and timer.is_alive():
            timer.join(_PATIENCE)  # it may be about to write what it has taken

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        """Hold the lock; whether the counts may be touched.

        A signal handler or a finalizer may log while its own thread is at them: what it logs is written, uncounted.
        """
        with self._lock:
            if self._busy:
                yield False
                return
            self._busy = True
            try:
                yield True
            finally:
                self._busy = False

    def _covers(self, window: _Window, now: float) -> bool:
        # The first: a clock that was replaced and put back may leave a window that begins years from now.
        return window.start <= now < window.start + self.interval

    def _over(self, now: float) -> list[_Window]:
        """Take away the windows that are over; the caller has the lock."""
        found: list[_Window] = []
        while True:
            window = next(iter(self._windows.values()), None)
            if window is None or self._covers(window, now):
                return found
            self._windows.pop(window.key, None)
            found.append(window)

    def _place(self, key: Key) -> Key:
        """Where a key is counted; the caller has the lock."""
        return key if key in self._windows or len(self._windows) < MOST_KEYS else (*key[:2], OTHERS)

    def _window(self, key: Key, now: float, over: list[_Window]) -> _Window | None:
        """The window of a key that is still open; one that is not joins those that are over."""
        window = self._windows.get(key)
        if window is not None and not self._covers(window, now):
            over.append(self._windows.pop(key))
            return None
        return window

    def _tell(self, over: list[_Window], now: float) -> None:
        for window in over:
            if window.held:
                passed = now - window.start
                window.tell(passed if 0 < passed < self.interval else self.interval)

    # The thread that tells what nothing follows

    def _needed_timer(self) -> threading.Thread | None:
        """A thread to be started, if none is there; the caller has the lock."""
        # A clock that a test moves is no clock to wait by: the next record, or `flush`, tells the count.
        if self._timer is not None or CLOCK.monotonic is not _REAL:
            return None
        self._wake.clear()
        self._timer = threading.Thread(target=self._wait, name="resilient-log-counts", daemon=True)
        return self._timer

    def _start(self, timer: threading.Thread) -> None:
        try:
            timer.start()
        except RuntimeError:  # a limit of threads, or the end of the process; the next one held back tries again
            with self._lock:
                self._timer = None

    def _wait(self) -> None:
        while (left := self._left()) is not None:
            self._wake.wait(left)
            self._wake.clear()
            self.sweep()

    def _left(self) -> float | None:
        """Seconds until the next count is due; None, and the thread ends, where nothing is held back."""
        with self._alone():
            starts = [one.start for one in self._windows.values() if one.held]
            if not starts or CLOCK.monotonic is not _REAL:
                self._timer = None
                return None
            return min(max(min(starts) + self.interval - CLOCK.monotonic(), 0.001), self.interval)


LIMITS = Limits()
