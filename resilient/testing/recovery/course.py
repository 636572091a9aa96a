"""The course of a scenario: which phase it is in, when the fault ended, when it recovered, when it is over.

Pure: it is told the time and what happened, in seconds since the scenario began.
"""

from __future__ import annotations

from resilient.testing.recovery.expectations import RecoveryMode
from resilient.testing.recovery.scenario import RecoveryTestScenario
from resilient.testing.recovery.sources import Source


class Course:
    """The times of one run."""

    def __init__(self, scenario: RecoveryTestScenario, sources: list[Source]) -> None:
        expected = scenario.expected_recovery
        self.baseline_end = scenario._usual_phase if scenario.baseline is None else scenario.baseline
        self.fault_limit = self.baseline_end + _fault_phase(scenario, sources)
        self.fault_start = min(self.fault_limit, self.baseline_end + min(one.start for one in sources))
        ends = [self.fault_limit if one.end is None else self.baseline_end + one.end for one in sources]
        #: When the fault ends, or ended: earlier, when all that may happen has.
        self.fault_end = min(self.fault_limit, max(ends))
        self._was_last = False  # whether it ended with the last that could happen
        #: Whether it is not over before somebody has made it well.
        self.awaits_help = expected.recovery_mode is RecoveryMode.MANUAL
        self.recovered_at: float | None = None
        self.deadline = scenario.timeout
        self._observe = scenario.observe
        self._patience = expected.max_recovery_time
        self._hybrid = expected.recovery_mode is RecoveryMode.HYBRID
        self._needed = scenario.steady_probes
        self._streak = 0
        self._streak_began: float | None = None

    def exhausted(self, at: float) -> None:
        """All faults that may happen have happened; the last one then."""
        if at < self.fault_end:
            self.fault_end, self._was_last = at, True

    def note(self, ended: float, ok: bool) -> None:
        """An operation has ended; in the order in which they do."""
        if ended < self.fault_end or self.recovered_at is not None:
            return
        if not ok:
            self._streak, self._streak_began = 0, None
            return
        if self._streak == 0:
            self._streak_began = ended
        self._streak += 1
        if self._streak >= self._needed:
            self.recovered_at = self._streak_began

    def is_over(self, now: float) -> bool:
        """Whether all has been seen that is to be seen."""
        if now < self.fault_end or self.awaits_help:
            return False
        if self._observe is not None:
            return now >= self.fault_end + self._observe
        if self.recovered_at is not None:
            return True
        # Who is well, and has only not shown it often enough, is let go on.
        return now >= self.fault_end + self._patience and self._streak == 0

    def is_late(self, now: float) -> bool:
        """Whether its time is up."""
        return now >= self.deadline

    @property
    def end(self) -> float:
        """When it is over at the latest, as far as is known now, if nothing is well by then."""
        length = self._patience if self._observe is None else self._observe
        return min(self.deadline, self.fault_end + length)

    @property
    def help_at(self) -> float:
        """When somebody is to make it well, where that is expected."""
        return self.fault_end + (self._patience / 2 if self._hybrid else 0.0)

    def phase_of(self, started: float) -> str:
        """The phase in which something began; the last two are known when it is over."""
        if started < self.baseline_end:
            return "baseline"
        # The operation with the last fault began before it, or, where calls take no time, with it.
        if started < self.fault_end or (self._was_last and started == self.fault_end):
            return "fault"
        if self.recovered_at is None or started < self.recovered_at:
            return "observation"
        return "recovery"


def _fault_phase(scenario: RecoveryTestScenario, sources: list[Source]) -> float:
    if scenario.fault is not None:
        return scenario.fault
    return max(one.start + scenario._usual_phase if one.end is None else one.end for one in sources)
