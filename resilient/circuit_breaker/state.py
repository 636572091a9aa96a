"""The circuit breaker's state machine: pure. It takes the time and a random draw, decides, and notes its transitions.

An epoch is a stretch of time in one state, and at the same time the permit of every call admitted in it: a result that
comes back to an epoch that is over says nothing about the present one. Half-open calls get a `Probe` of their own, for
they are counted and may lose their place.
"""

from __future__ import annotations

import enum
import math
from typing import NamedTuple

from resilient.circuit_breaker.config import CircuitBreakerConfig
from resilient.circuit_breaker.windows import CountWindow, Slice, Tally, TimeWindow


class CircuitState(enum.Enum):
    """CLOSED lets calls through, OPEN none, HALF_OPEN a few probes; ISOLATED and DISABLED are set by hand."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    ISOLATED = "isolated"
    DISABLED = "disabled"


class Epoch:
    """A stretch of time in one state; `calls` is incremented by successes without a lock.

    gate: a call must ask for admission. watch: a success must be reported, not only counted.
    until: the end of the open period; with a time window, the end of its present slice.
    """

    __slots__ = (
        "bad",
        "calls",
        "consecutive",
        "failures",
        "gate",
        "good",
        "probes",
        "state",
        "until",
        "watch",
        "window",
    )

    def __init__(self, state: CircuitState, until: float = math.inf) -> None:
        self.state = state
        self.until = until
        self.gate = state not in (CircuitState.CLOSED, CircuitState.DISABLED)
        self.watch = state is CircuitState.DISABLED  # its successes are reported, to be passed over
        self.calls = self.failures = self.consecutive = self.good = self.bad = 0
        self.window: CountWindow | TimeWindow | None = None
        self.probes: dict[Probe, None] | None = None


class Probe:
    """The permit of one half-open call; loses its place at `until`."""

    __slots__ = ("calls", "epoch", "until", "watch", "window")

    def __init__(self, epoch: Epoch, until: float) -> None:
        self.epoch = epoch
        self.until = until
        self.watch = True
        self.calls = 0
        self.window = None


class Refusal(NamedTuple):
    """Why a call is not let through, and the seconds until one may be."""

    reason: str
    retry_after: float | None


class Transition(NamedTuple):
    """From one state to another."""

    old: CircuitState
    new: CircuitState
    reason: str
    retry_after: float | None


class BreakerState:
    """The machine. Not safe for concurrent use: the policy holds its lock around every method."""

    __slots__ = (
        "_by_streak",
        "_rate",
        "_slow",
        "base_calls",
        "base_failures",
        "config",
        "epoch",
        "past_failures",
        "past_successes",
        "rounds",
        "transitions",
    )

    def __init__(self, config: CircuitBreakerConfig, now: float) -> None:
        self.config = config
        self._by_streak = config.rule == "consecutive failures"
        self.transitions: list[Transition] = []
        self.base_calls = self.base_failures = 0
        self.past_failures = self.past_successes = 0  # what resets have made forget
        self.rounds = 0  # half-open verdicts against the service since it was last closed
        self._rate = self._slow = 0.0
        self.epoch = self._closed(now)

    # What a call asks and tells -----------------------------------------------------------------

    def admit(self, now: float) -> Epoch | Probe | Refusal:
        """A permit for one call, or why there is none."""
        self.tick(now)
        epoch = self.epoch
        if epoch.state is CircuitState.HALF_OPEN:
            return self._probe(epoch, now)
        if epoch.state is CircuitState.OPEN:
            return Refusal("open", epoch.until - now)
        if epoch.state is CircuitState.ISOLATED:
            return Refusal("isolated", None)
        return epoch

    def success(self, permit: Epoch | Probe, now: float, slow: bool = False) -> None:
        """A call went well; the fast path has counted it in `permit.calls` already."""
        if isinstance(permit, Probe):
            self._probe_ended(permit, now, failed=False, slow=slow, draw=0.5)
        elif permit is self.epoch and permit.state is CircuitState.CLOSED:
            permit.consecutive = 0
            self._note(permit, now, failed=False, slow=slow)

    def failure(self, permit: Epoch | Probe, now: float, slow: bool = False, draw: float = 0.5) -> None:
        """A call failed; `draw` from [0, 1) spreads the open period that may follow."""
        if isinstance(permit, Probe):
            self._probe_ended(permit, now, failed=True, slow=slow, draw=draw)
        elif permit is self.epoch and permit.state is CircuitState.CLOSED:
            permit.calls += 1
            permit.failures += 1
            if self._by_streak:  # other rules do not hear of every success, which would have to end the streak
                permit.consecutive += 1
            self._note(permit, now, failed=True, slow=slow, draw=draw)

    def ignored(self, permit: Epoch | Probe) -> None:
        """A call ended without saying anything about the service; a probe gives its place back."""
        if isinstance(permit, Probe) and permit.epoch.probes is not None:
            permit.epoch.probes.pop(permit, None)

    # What the owner does ------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Go from OPEN to HALF_OPEN when the open period is over."""
        if self.epoch.state is CircuitState.OPEN and now >= self.epoch.until:
            self._enter(self._half_open(), "recovery timeout passed")

    def probe(self) -> None:
        """Go from OPEN to HALF_OPEN now."""
        if self.epoch.state is CircuitState.OPEN:
            self._enter(self._half_open(), "probe offered")

    def reset(self, now: float) -> None:
        """Close and forget everything."""
        self._enter(self._closed(now), "reset")
        self.past_failures += self.failure_count
        self.past_successes += self.success_count
        self.base_calls = self.base_failures = self.rounds = 0
        self._rate = self._slow = 0.0

    def isolate(self) -> None:
        """Let nothing through until `reset`."""
        self._enter(Epoch(CircuitState.ISOLATED), "isolated")

    def disable(self) -> None:
        """Let everything through, uncounted, until `reset`."""
        self._enter(Epoch(CircuitState.DISABLED), "disabled")

    def reconfigure(self, config: CircuitBreakerConfig, now: float) -> None:
        """Go on under another configuration; a window of the same kind keeps its calls."""
        old, before, self.config = self.epoch, self.config, config
        self._by_streak = config.rule == "consecutive failures"
        if old.state is not CircuitState.CLOSED:
            if config.half_open_calls != before.half_open_calls:
                self.forget_probes()  # a round of another size has to begin anew
            return
        size = config.count_window
        if isinstance(old.window, CountWindow) and size is not None:
            old.window = old.window.resized(size, old.calls)
            old.watch = True
        elif old.window is not None or config.windowed:
            # Not the old epoch with another window: calls under way may be about to count in the old one.
            self._enter(self._closed(now), "")
            self.epoch.consecutive = old.consecutive if self._by_streak else 0
            self.epoch.watch = True

    def forget_probes(self) -> None:
        """Start the half-open round again, with all places free."""
        if self.epoch.state is CircuitState.HALF_OPEN:
            self._enter(self._half_open(), "")

    # Numbers ------------------------------------------------------------------------------------

    @property
    def failure_count(self) -> int:
        """Failures since creation or reset."""
        return self.base_failures + self.epoch.failures

    @property
    def success_count(self) -> int:
        """Successes since creation or reset."""
        calls = 0 if self.epoch.state is CircuitState.DISABLED else self.epoch.calls
        return self.base_calls + calls - self.failure_count

    def rates(self, now: float) -> tuple[float, float]:
        """Failure rate and slow-call rate: of the window, of the half-open round, or (no window) of the totals."""
        epoch = self.epoch
        if not self.config.windowed:
            total = self.failure_count + self.success_count
            return (self.failure_count / total if total else 0.0), 0.0
        if epoch.state is CircuitState.HALF_OPEN:
            ended = epoch.good + epoch.bad
            return (epoch.bad / ended if ended else self._rate), self._slow
        if epoch.state is CircuitState.CLOSED:
            tally = self._tally(epoch, now)
            return tally.failure_rate, tally.slow_rate
        return self._rate, self._slow

    # Inside -------------------------------------------------------------------------------------

    def _probe(self, epoch: Epoch, now: float) -> Probe | Refusal:
        probes = epoch.probes
        assert probes is not None
        if len(probes) + epoch.good + epoch.bad >= self.config.half_open_calls:
            for probe in list(probes):
                if probe.until <= now:
                    del probes[probe]
            if len(probes) + epoch.good + epoch.bad >= self.config.half_open_calls:
                return Refusal("probing", min(probe.until for probe in probes) - now)
        probe = Probe(epoch, now + self.config.lease)
        probes[probe] = None
        return probe

    def _probe_ended(self, probe: Probe, now: float, failed: bool, slow: bool, draw: float) -> None:
        epoch = probe.epoch
        if epoch is not self.epoch or epoch.probes is None or probe not in epoch.probes:
            return  # from an earlier round, or it had lost its place: it says nothing about now
        del epoch.probes[probe]
        if now >= probe.until:
            return  # it came too late to keep its place, even if nobody has asked for it
        epoch.calls += 1
        epoch.failures += failed
        if failed or slow:
            epoch.bad += 1
        else:
            epoch.good += 1
        ended = epoch.good + epoch.bad
        if ended < self.config.half_open_calls:
            return
        if epoch.bad == 0:
            self.rounds = 0
            self._enter(self._closed(now), "all probes succeeded")
        elif epoch.good * 2 < ended:
            self.rounds += 1
            self._rate = epoch.bad / ended
            self._open(now, "most probes failed", draw)
        else:
            self._enter(self._half_open(), "")

    def _note(self, epoch: Epoch, now: float, failed: bool, slow: bool, draw: float = 0.5) -> None:
        """Account for a call in the closed state, and open the circuit if it was one too many."""
        config, window = self.config, epoch.window
        if isinstance(window, TimeWindow):
            part: Slice = window.turn(now)
            epoch.until = part.until
            part.calls += 1
            part.failures += failed
            part.slow += slow
        elif window is not None and (failed or slow):
            window.note(epoch.calls, failed, slow)
        if window is None:
            epoch.watch = epoch.consecutive > 0
            if epoch.consecutive >= config.failure_threshold:
                self._open(now, f"{epoch.consecutive} consecutive failures", draw)
            return
        tally = self._tally(epoch, now)
        reason = self._verdict(tally, epoch.consecutive)
        if reason:
            self._rate, self._slow = tally.failure_rate, tally.slow_rate
            self._open(now, reason, draw)
            return
        pending = tally.failures or tally.slow
        epoch.watch = epoch.consecutive > 0 or bool(pending and tally.calls < config.minimum)

    def _verdict(self, tally: Tally, consecutive: int) -> str:
        """Why the circuit must open, or an empty string."""
        config = self.config
        enough = tally.calls >= config.minimum
        rule = config.rule
        if rule == "failure rate" and enough and tally.failure_rate >= (config.failure_rate_threshold or 0):
            return f"failure rate {tally.failure_rate:.0%} of {tally.calls} calls"
        enough_to_count = enough or config.minimum_calls is None
        if rule == "failures in the window" and enough_to_count and tally.failures >= config.failure_threshold:
            return f"{tally.failures} failures in the last {tally.calls} calls"
        if rule == "consecutive failures" and consecutive >= config.failure_threshold:
            return f"{consecutive} consecutive failures"
        limit = 1.0 if config.slow_call_rate_threshold is None else config.slow_call_rate_threshold
        if config.slow_call_duration is not None and enough and tally.slow_rate >= limit:
            return f"slow call rate {tally.slow_rate:.0%} of {tally.calls} calls"
        return ""

    def _tally(self, epoch: Epoch, now: float) -> Tally:
        if isinstance(epoch.window, TimeWindow):
            epoch.until = epoch.window.turn(now).until
            return epoch.window.tally()
        assert epoch.window is not None
        return epoch.window.tally(epoch.calls)

    def _closed(self, now: float) -> Epoch:
        epoch = Epoch(CircuitState.CLOSED)
        size, duration = self.config.count_window, self.config.window_duration
        if size is not None:
            epoch.window = CountWindow(size)
        elif duration is not None:
            epoch.window = TimeWindow(duration, now)
            epoch.until = epoch.window.now.until
        return epoch

    def _half_open(self) -> Epoch:
        epoch = Epoch(CircuitState.HALF_OPEN)
        epoch.probes = {}
        return epoch

    def _open(self, now: float, reason: str, draw: float) -> None:
        config = self.config
        longest = math.inf if config.max_recovery_timeout is None else config.max_recovery_timeout
        try:
            period = min(config.recovery_timeout * config.recovery_multiplier**self.rounds, longest)
        except OverflowError:
            period = longest
        if config.recovery_jitter:
            period = min(period * (1 + config.recovery_jitter * (2 * draw - 1)), longest)
        self._enter(Epoch(CircuitState.OPEN, now + period), reason, period)

    def _enter(self, epoch: Epoch, reason: str, retry_after: float | None = None) -> None:
        old, self.epoch = self.epoch, epoch
        if old.state is not CircuitState.DISABLED:
            self.base_calls += old.calls
            self.base_failures += old.failures
        if old.state is not epoch.state:
            self.transitions.append(Transition(old.state, epoch.state, reason, retry_after))
