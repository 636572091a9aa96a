"""A limit that follows the service: what it usually takes, times a factor, and more under load."""

from __future__ import annotations

import inspect
import logging
import math
import threading
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from resilient import _checks as check
from resilient._checks import Seconds
from resilient.clock import CLOCK
from resilient.errors import ConfigurationError
from resilient.events import log_failure

__all__ = ["ResponseTimes", "SmartTimeout", "TimeoutStats"]

_log = logging.getLogger("resilient.timeout")

STATISTICS: dict[str, float | None] = {"mean": None, "p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
#: Load in per cent above which the limit is stretched, and by how much: the specification's numbers.
LOAD_STEPS = ((80.0, 1.5), (60.0, 1.2))
_GRAIN = 2.0**16
#: Where the factor itself lets no limit grow: if every call times out, each limit is so many times the one before.
_GROWTH = 1.5
#: The load source is asked at most this often, in seconds: by calls, of which there may be many.
LOAD_EVERY = 1.0


class TimeoutStats(NamedTuple):
    """What a `SmartTimeout` has seen: response times of its window in seconds, timeouts in all, load in per cent.

    With an empty window the average is `base_timeout`, and least and most are 0.
    """

    avg_response_time: float
    min_response_time: float
    max_response_time: float
    timeout_count: int
    current_load: float


class ResponseTimes:
    """The last `size` response times and their sum; with a `share`, also their order. Takes no lock for the sum.

    Kept in order by insertion: a quantile is an index, and a new time costs a binary search, not a sort.
    """

    __slots__ = ("_at_work", "_latest", "_lock", "_ordered", "_share", "_size", "_total", "_waiting")

    def __init__(self, size: int, share: float | None = None) -> None:
        self._size = size
        self._share = share
        self._latest: deque[float] = deque()
        self._total = 0.0
        self._ordered: list[float] = []
        self._waiting: deque[float] = deque()
        self._at_work = False
        self._lock = threading.RLock()  # re-entrant: the garbage collector may run a guarded call anywhere

    def __len__(self) -> int:
        return len(self._latest)

    def add(self, seconds: float) -> float:
        """Remember a response time, in place of the oldest where there is no room; returns the usual one."""
        if self._share is not None:
            return self._add_in_order(seconds)
        # Rounded to 2**-36 s: sums of such numbers are exact, so that adding and taking away never drifts.
        seconds = seconds + _GRAIN - _GRAIN
        latest = self._latest
        try:
            latest.append(seconds)
            if len(latest) > self._size:
                seconds -= latest.popleft()
            self._total += seconds  # no call on this line: threads cannot come in between
        except BaseException:  # Ctrl-C half-way
            self.rebuild()
            raise
        return self._total / len(latest)

    def _add_in_order(self, seconds: float) -> float:
        with self._lock:
            self._waiting.append(seconds)
            if not self._at_work:  # else the garbage collector has run another call amid this very one
                self._at_work = True
                try:
                    while self._waiting:
                        self._sort_in(self._waiting.popleft())
                except BaseException:
                    self.rebuild()
                    raise
                finally:
                    self._at_work = False
            return self.usual() if self._ordered else seconds

    def _sort_in(self, seconds: float) -> None:
        latest, ordered = self._latest, self._ordered
        latest.append(seconds)
        insort(ordered, seconds)
        if len(latest) > self._size:
            del ordered[bisect_left(ordered, latest.popleft())]

    def usual(self) -> float:
        """The average, or the quantile; there is at least one time."""
        if self._share is None:
            return self._total / len(self._latest)
        with self._lock:
            # Nearest rank: the smallest time that at least this share of the times does not exceed.
            return self._ordered[max(0, math.ceil(self._share * len(self._ordered)) - 1)]

    def spread(self) -> tuple[float, float, float]:
        """Average, least and greatest; there is at least one time."""
        times = list(self._latest)
        return math.fsum(times) / len(times), min(times), max(times)

    def rebuild(self) -> None:
        """Work out sum and order from the times themselves, after something was left half-done."""
        latest = self._latest
        while len(latest) > self._size:
            latest.popleft()
        self._total = math.fsum(latest)
        if self._share is not None:
            self._ordered[:] = sorted(latest)

    def after_fork(self) -> None:
        """Replace the lock in a forked child, and finish what other threads were doing."""
        self._lock = threading.RLock()
        self._at_work = False
        self._waiting.clear()
        self.rebuild()


class SmartTimeout:
    """A limit for `timeout(...)` that adapts: `@timeout(SmartTimeout(base_timeout=2))`.

    limit = usual response time x `adaptive_factor` x load factor, within `min_timeout` and `max_timeout`.
    The load factor is 1.5 above 80 % load and 1.2 above 60 %. Before the first response, the usual is `base_timeout`.
    A call that timed out counts as having taken its limit, so the limit can grow back. An error that came faster than
    the usual answer is not counted, so quick failures do not pull the limit down.

    One object may serve several timeouts, which then share what it has seen.

    Args:
        base_timeout: seconds or timedelta to start from.
        min_timeout: the least limit, in seconds or as a timedelta.
        max_timeout: the greatest limit, in seconds or as a timedelta.
        adaptive_factor: how many times the usual response time a call may take.
        window_size: how many response times are remembered.
        statistic: what "usual" means: "mean", or a quantile of the window: "p50", "p90", "p95", "p99" (nearest rank).
        load_source: a callable that returns the load in per cent, or "system" for the processor's (extra `psutil`);
            asked when a call begins, at most once a second. One that fails is logged, and the last load stays.
            Without one, `update_load_factor` sets the load.

    Raises:
        ConfigurationError: an option has an impossible value, or psutil is missing.
    """

    def __init__(
        self,
        base_timeout: Seconds,
        min_timeout: Seconds = 0.1,
        max_timeout: Seconds = 30.0,
        adaptive_factor: float = 2.0,
        window_size: int = 100,
        statistic: str = "mean",
        load_source: Callable[[], float] | str | None = None,
    ) -> None:
        self.base_timeout = check.seconds("base_timeout", base_timeout, positive=True)
        self.min_timeout = check.seconds("min_timeout", min_timeout, positive=True)
        self.max_timeout = check.seconds("max_timeout", max_timeout, positive=True)
        if self.min_timeout > self.max_timeout:
            raise check.bad("min_timeout", min_timeout, f"must not exceed max_timeout={max_timeout!r}")
        self.adaptive_factor = check.number("adaptive_factor", adaptive_factor, least=0)
        if not self.adaptive_factor:
            raise check.bad("adaptive_factor", adaptive_factor, "must be greater than 0")
        if statistic not in tuple(STATISTICS):  # a tuple, as what was given may not even be hashable
            raise check.bad("statistic", statistic, f"must be one of {', '.join(STATISTICS)}")
        self.window_size: int = check.count("window_size", window_size)
        self.statistic = statistic
        self._load_source = _load_source(load_source)
        self._next_look = -math.inf
        self._times = ResponseTimes(window_size, STATISTICS[statistic])
        self._timeouts = 0
        self._load = 0.0
        self._stretch()

    def current_limit(self) -> float:
        """The limit in seconds that a call beginning now gets."""
        if self._load_source is not None:
            self._ask_for_load()
        return self._limit

    def update_load_factor(self, load: float) -> None:
        """Set the load, in per cent: above 80 the limit is stretched by 1.5, above 60 by 1.2."""
        load = check.number("load", load, least=0)
        self._load = load
        self._stretch()

    def get_stats(self) -> TimeoutStats:
        """The numbers of now."""
        if not self._times:
            return TimeoutStats(self.base_timeout, 0.0, 0.0, self._timeouts, self._load)
        return TimeoutStats(*self._times.spread(), self._timeouts, self._load)

    def record(self, seconds: float) -> None:
        """Account for an answer that took so long."""
        if not 0.0 <= seconds <= check.LONGEST:
            return  # a clock that was set back, or no number at all
        limit = self._times.add(seconds) * self._scale
        # Not min(max(...)): this is on every call's way.
        if limit < self.min_timeout:
            limit = self.min_timeout
        elif limit > self.max_timeout:
            limit = self.max_timeout
        self._limit = limit

    def record_error(self, seconds: float) -> None:
        """Account for an error after so long: only where that is no less than the usual answer takes."""
        if self._times and seconds >= self._times.usual():
            self.record(seconds)

    def record_timeout(self, seconds: float, limit: float) -> None:
        """Account for a call that was ended after so long; its own limit would have been `limit`.

        It would have taken longer, so it counts as having taken its limit at least: as so much that the limit can grow,
        whatever the factor. One that something else has cut short, such as a deadline, says less: it is treated like
        an error.
        """
        self._timeouts += 1
        if seconds >= limit:
            if self.adaptive_factor <= 1:
                seconds *= _GROWTH / self.adaptive_factor
            self.record(seconds + 2.0**-36)  # rounding must not make less than the limit of it
        else:
            self.record_error(seconds)

    def after_fork(self) -> None:
        """Replace the lock in a forked child."""
        self._times.after_fork()

    def _stretch(self) -> None:
        """Calculate the limit anew for the load of now."""
        self._scale = self.adaptive_factor * next((factor for above, factor in LOAD_STEPS if self._load > above), 1.0)
        usual = self._times.usual() if self._times else self.base_timeout
        self._limit = min(self.max_timeout, max(self.min_timeout, usual * self._scale))

    def _ask_for_load(self) -> None:
        now = CLOCK.monotonic()
        # The second: a clock that was replaced and put back must not make us wait for years.
        if 0 < self._next_look - now <= LOAD_EVERY or self._load_source is None:
            return
        self._next_look = now + LOAD_EVERY
        try:
            self.update_load_factor(self._load_source())
        except Exception:
            text = "the load source of %r failed; its last load stays"
            log_failure(_log, "timeout.load_source_failed", text, self, kind="timeout")

    def __repr__(self) -> str:
        return f"SmartTimeout(base_timeout={self.base_timeout:g}, statistic={self.statistic!r})"


class SystemLoad:
    """The load of all processors in per cent since it was last asked."""

    # Not psutil.cpu_percent, which remembers its last reading for each thread apart: new threads would get 0.

    def __init__(self, cpu_times: Callable[[], Any]) -> None:
        self._cpu_times = cpu_times
        self._last = self._read()
        self._load = 0.0

    def __call__(self) -> float:
        """The load of now."""
        (busy, total), (busy_before, total_before) = now, _ = self._read(), self._last
        if total > total_before:
            self._last = now
            self._load = max(0.0, min(100.0, 100.0 * (busy - busy_before) / (total - total_before)))
        return self._load

    def _read(self) -> tuple[float, float]:
        times = self._cpu_times()._asdict()
        # What guests use is in `user` and `nice` already.
        total = sum(value for name, value in times.items() if not name.startswith("guest"))
        return total - times["idle"] - times.get("iowait", 0.0), total


def _load_source(given: Any) -> Callable[[], float] | None:
    if given is None:
        return None
    if given == "system":
        try:
            import psutil
        except ImportError:
            raise ConfigurationError("load_source='system' needs psutil: install resilient-toolkit[psutil]") from None
        return SystemLoad(psutil.cpu_times)
    if isinstance(given, str):
        raise check.bad("load_source", given, "must be a callable, 'system', or None")
    if not callable(given) or inspect.iscoroutinefunction(given):
        raise TypeError(f"load_source={given!r}: must be a sync callable, 'system', or None")
    return given  # type: ignore[no-any-return]
