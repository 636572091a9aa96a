"""What one run has seen so far, shared by the threads or tasks that call the workload and whoever directs them."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, NamedTuple

from resilient.clock import CLOCK
from resilient.testing.clocks.virtual_clock import VirtualClock
from resilient.testing.recovery.collector import RecoveryMetricsCollector
from resilient.testing.recovery.course import Course
from resilient.testing.recovery.expectations import RecoveryMode
from resilient.testing.recovery.result import Operation
from resilient.testing.recovery.scenario import RecoveryTestScenario
from resilient.testing.recovery.sources import Source
from resilient.testing.targets import as_called
from resilient.testing.undisturbed import Undisturbed

#: Calls per second in virtual time, where no load is given and calls may take no time at all.
VIRTUAL_LOAD = 50.0
#: Seconds from one call to the next of one thread or task in real time, at least, where no load is given.
LEAST_GAP = 0.001

#: Moments in a second at which calls may begin in virtual time. Being a power of two, it lets times be added and
#: subtracted without rounding, which would depend on what the clock showed at the beginning.
_GRID = 1 << 28

_MOST_TEXTS = 20


class Raw(NamedTuple):
    """An operation whose phase is not known yet."""

    number: int
    started: float
    ended: float
    value: Any
    error: BaseException | None


class Recording:
    """One run: `next_slot` says when to call next, `note` takes what came of it."""

    def __init__(
        self,
        scenario: RecoveryTestScenario,
        sources: list[Source],
        collector: RecoveryMetricsCollector,
    ) -> None:
        self.scenario = scenario
        self.sources = sources
        self.collector = collector
        self.course = Course(scenario, sources)
        self.workload = scenario.workload
        self.origin = CLOCK.monotonic()
        self.load = scenario.load or (VIRTUAL_LOAD if VirtualClock.in_use() is not None else None)
        self.raw: list[Raw] = []
        self.running = 0
        self.stopped = False
        self.timed_out = False
        self.crash: BaseException | None = None
        self.abandoned = False
        self.stubborn = 0  # tasks that ignored their cancellation
        #: Wakes whoever directs.
        self.ring: Callable[[], None] = lambda: None
        self._lock = threading.Lock()
        self._slots = 0
        self._texts: dict[str, list[Any]] = {}  # the first of its kind, and how many

    def enter(self, stack: ExitStack) -> None:
        """Get the faults ready, and listen, until the stack is closed."""
        course = self.course
        stack.enter_context(self.collector.listening(self.scenario.id, self.origin))
        for source in self.sources:
            stack.callback(_finish, source)
            source.enter(stack, self.origin + course.baseline_end, self.origin + course.fault_limit)
        self.workload = as_called(self.workload)

    def now(self) -> float:
        """Seconds since the scenario began."""
        return CLOCK.monotonic() - self.origin

    # Those who call the workload

    def next_slot(self, before: float | None) -> float:
        """When to make the next call; `before` is when the caller made its last one."""
        if self.load is None:
            return self.now() if before is None else max(self.now(), before + LEAST_GAP)
        with self._lock:
            # What could not be called in time is left out: all at once it would be another load.
            number = max(self._slots, math.floor(self.now() * self.load))
            slot, self._slots = number / self.load, number + 1
        return math.ceil(slot * _GRID) / _GRID if VirtualClock.in_use() is not None else slot

    def begin(self) -> int | None:
        """The number of a call that begins now; None if none is to begin any more."""
        with self._lock:
            now = self.now()
            if self.stopped or self.course.is_over(now) or now >= self.course.deadline:
                return None
            self.running += 1
            return len(self.raw) + self.running - 1

    def note(self, number: int, started: float, value: Any, error: BaseException | None) -> bool:
        """A call has ended; returns whether that is news for whoever directs."""
        ended = self.now()
        if error is not None:
            _without_frames(error)
        with self._lock:
            self.running -= 1
            if self.stopped:
                return False
            seen = self.course.fault_end, self.course.recovered_at
            self.raw.append(Raw(number, started, ended, value, error))
            if error is not None:
                self._remember(error)
            self._look()
            self.course.note(ended, error is None)
            recovered = self.course.recovered_at
            is_news = (self.course.fault_end, recovered) != seen
        self.collector.record_operation(self.scenario.id, Operation(number, started, ended, "", value, error))
        if recovered is not None and recovered != seen[1]:
            after = recovered - self.course.fault_end
            text = f"{after if after > 1e-6 else 0:.3g} s after the end of the fault"
            self.collector.tell("recovered", self.scenario.id, text, self.origin + recovered)
        return is_news or self.is_done

    def _look(self) -> None:
        """See whether the faults have used themselves up; the caller has the lock."""
        moments = [one.exhausted_at for one in self.sources]
        known = [one for one in moments if one is not None]
        if len(known) == len(moments):
            self.course.exhausted(max(known) - self.origin)

    def _remember(self, error: BaseException) -> None:
        text = error_text(error)
        # Texts that differ only in numbers, such as the seconds to wait, are one.
        kind = re.sub(r"\d+(\.\d+)?", "0", text)
        if kind in self._texts or len(self._texts) < _MOST_TEXTS:
            self._texts.setdefault(kind, [text, 0])[1] += 1

    # Whoever directs

    @property
    def is_done(self) -> bool:
        """Whether nothing runs, and nothing is to run any more."""
        if self.crash is not None or self.abandoned:
            return True
        return self.running == 0 and self.course.is_over(self.now())

    def failed_help(self, error: Exception) -> None:
        """What was to make it well failed itself."""
        with self._lock:
            self._remember(error)
        self.collector.tell("help failed", self.scenario.id, type(error).__name__)

    def abandon(self) -> None:
        """Let it be over, whatever still runs."""
        self.abandoned = True
        self.ring()

    def stop(self) -> None:
        """Let nothing begin any more, and what still runs not count."""
        with self._lock:
            self.stopped = True

    @property
    def error_logs(self) -> tuple[str, ...]:
        """The different errors, and how often each happened."""
        return tuple(f"{text} ({count} x)" for text, count in self._texts.values())

    def operations(self) -> tuple[Operation, ...]:
        """All calls that ended, in the order in which they began."""
        phase = self.course.phase_of
        made = (
            Operation(one.number, one.started, one.ended, phase(one.started), one.value, one.error) for one in self.raw
        )
        return tuple(sorted(made, key=lambda one: (one.started, one.number)))


def error_text(error: BaseException) -> str:
    """What kind of error it is, and what it says; some cannot even say that."""
    try:
        said = str(error)
    except Exception:
        said = "(it cannot say what it is)"
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def _without_frames(error: BaseException) -> None:
    """Forget the frames that an error, and those behind it, came through: they would live as long as the result."""
    left, seen = [error], set()
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        one.__traceback__ = None
        behind = (one.__cause__, one.__context__, *(one.exceptions if isinstance(one, BaseExceptionGroup) else ()))
        left += [other for other in behind if other is not None]


def _finish(source: Source) -> None:
    """Mend what is still broken; a first Ctrl-C waits until that is done."""
    with Undisturbed():
        source.finish()


class Cues:
    """What is to be done at which time by whoever directs: faults that have to be begun and ended, help, the end."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        mode = recording.scenario.expected_recovery.recovery_mode
        self._helps = recording.scenario.recover is not None and mode is not RecoveryMode.AUTOMATIC
        self._always = mode is RecoveryMode.MANUAL

    def next_at(self) -> float:
        """When there is something to do next, or to look again."""
        course, sources = self._recording.course, self._recording.sources
        times = [course.deadline, course.end]
        for source in sources:
            if source.timed and source.began is None:
                times.append(course.baseline_end + source.start)
            elif source.timed and source.ended is None:
                times.append(self._end_of(source))
        if self._helps:
            times.append(course.help_at)
        now = self._recording.now()
        return min((one for one in times if one > now), default=course.deadline)

    def _end_of(self, source: Source) -> float:
        course = self._recording.course
        return course.fault_limit if source.end is None else min(course.fault_limit, course.baseline_end + source.end)

    @property
    def is_due(self) -> bool:
        """Whether some fault has to be begun or ended now."""
        now = self._recording.now()
        return any(self._begins(one, now) or self._ends(one, now) for one in self._recording.sources)

    def _begins(self, source: Source, now: float) -> bool:
        starts = self._recording.course.baseline_end + source.start
        return source.timed and source.began is None and starts <= now < self._end_of(source)

    def _ends(self, source: Source, now: float) -> bool:
        return source.timed and source.began is not None and source.ended is None and now >= self._end_of(source)

    def play(self) -> None:
        """Begin and end faults whose time has come."""
        now = self._recording.now()
        for source in self._recording.sources:
            if self._begins(source, now):
                source.begin()
            if self._ends(source, now):
                source.finish()

    def wants_help(self) -> bool:
        """Whether somebody has to make it well now; says so once."""
        recording = self._recording
        if not self._helps or recording.now() < recording.course.help_at:
            return False
        self._helps = recording.course.awaits_help = False
        if recording.course.recovered_at is not None and not self._always:
            return False
        recording.collector.tell("help", recording.scenario.id, "recover() is called")
        return True
