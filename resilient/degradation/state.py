"""When a service is to be spared, and what mode that makes: pure state, which takes the time and returns decisions."""

from __future__ import annotations

from collections import deque

from resilient.degradation.config import DegradationConfig, DegradationMode

#: The moving error rate: rate * 0.9, and 0.1 more for an error (the specification's numbers).
_KEEP, _ADD = 0.9, 0.1
#: Calls answered in the degraded way between two real calls, so that those stay well under half.
_SPARED_BETWEEN = 2


class ServiceState:
    """The outcomes of one service's calls, and whether it is degraded.

    A success is nothing but `calls += 1`: both rates follow from the numbers of the calls that failed, so the success
    path of a healthy service takes no lock. `epoch` counts the changes between healthy and degraded.
    """

    __slots__ = (
        "_errors", "_next_trickle", "_rate", "_rate_at", "_spared", "calls", "config", "degraded", "epoch",
    )  # fmt: skip

    def __init__(self, config: DegradationConfig) -> None:
        self.config = config
        self.calls = 0
        self.epoch = 0
        self.degraded = False
        self._errors: deque[int] = deque()
        self._rate, self._rate_at = 0.0, 0
        self._next_trickle = 0.0
        self._spared = 0

    def moving_rate(self) -> float:
        """The exponentially weighted error rate: the last ten or so calls make most of it."""
        return float(self._rate * _KEEP ** (self.calls - self._rate_at))

    def window_rate(self) -> float:
        """The share of errors among the last `window_size` calls."""
        calls, errors = self.calls, self._errors
        oldest = calls - self.config.window_size
        while errors and errors[0] <= oldest:
            errors.popleft()
        return len(errors) / min(calls, self.config.window_size) if calls else 0.0

    def failed(self) -> bool:
        """Account for an error; whether the service is degraded from now on."""
        config = self.config
        was_clear = self._both_under(config.recovery_threshold)
        rate = self.moving_rate()
        self.calls += 1
        self._rate, self._rate_at = rate * _KEEP + _ADD, self.calls
        self._errors.append(self.calls)
        window = self.window_rate()
        # One error must not lead from below the one threshold to above the other, however few calls there are.
        if self.degraded or was_clear or not config.auto_degradation_enabled or self.calls < config.minimum_calls:
            return False
        if min(self._rate, window) <= config.degradation_threshold:
            return False
        self._change(True)
        return True

    def recovered(self) -> bool:
        """After a success has been counted: whether the service is healthy from now on."""
        if not self.degraded or not self._both_under(self.config.recovery_threshold):
            return False
        self._change(False)
        return True

    def admits(self, now: float) -> bool:
        """Whether a call to the degraded service is to be a real one."""
        interval: float = self.config.trickle_interval  # type: ignore[assignment]
        # The second: a clock that was replaced and put back must not make us wait for years.
        if self._spared < _SPARED_BETWEEN or 0 < self._next_trickle - now <= interval:
            self._spared += 1
            return False
        self._next_trickle, self._spared = now + interval, 0
        return True

    def settle(self) -> bool:
        """After a change of options: whether a service that must not be degraded any more has just ceased to be."""
        if not self.degraded or self.config.auto_degradation_enabled:
            return self.recovered()
        self._change(False)
        return True

    def _both_under(self, threshold: float) -> bool:
        highest = max(self.moving_rate(), self.window_rate())
        # A threshold of 0 would otherwise never be met, as the moving rate only comes near it.
        return highest < threshold or (threshold == 0 and highest < 1e-6)

    def _change(self, degraded: bool) -> None:
        self.degraded = degraded
        self.epoch += 1
        self._spared, self._next_trickle = 0, 0.0


def measured_mode(now: DegradationMode, degraded: int, services: int, config: DegradationConfig) -> DegradationMode:
    """The mode that so many degraded services make, coming from the mode of now."""
    share = degraded / services if services else 0.0
    if degraded and degraded == services:
        return DegradationMode.FULL
    if share > config.degradation_threshold:
        return DegradationMode.PARTIAL
    if now is not DegradationMode.NORMAL and degraded and share >= config.recovery_threshold:
        return DegradationMode.PARTIAL
    return DegradationMode.NORMAL
