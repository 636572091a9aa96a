"""The options of `@circuit_breaker`, checked and in their internal form."""

from __future__ import annotations

from dataclasses import dataclass

from resilient import _checks as check
from resilient._checks import ErrorFilter

DEFAULT_WINDOW = 100
DEFAULT_MINIMUM_IN_TIME = 10
DEFAULT_LEASE = 60.0


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class CircuitBreakerConfig(check.Options):
    """The options of `@circuit_breaker`, checked and in their internal form."""

    failure_threshold: int = 5
    recovery_timeout: float = 60.0
    expected_exception: ErrorFilter = Exception
    ignore: ErrorFilter = ()
    failure_rate_threshold: float | None = None
    window_size: int | None = None
    window_duration: float | None = None
    minimum_calls: int | None = None
    slow_call_duration: float | None = None
    slow_call_rate_threshold: float | None = None
    half_open_calls: int = 10
    probe_timeout: float | None = None
    recovery_multiplier: float = 1.0
    max_recovery_timeout: float | None = None
    recovery_jitter: float = 0.0

    def __post_init__(self) -> None:
        put = object.__setattr__
        check.count("failure_threshold", self.failure_threshold)
        put(self, "recovery_timeout", check.seconds("recovery_timeout", self.recovery_timeout))
        check.error_filter("expected_exception", self.expected_exception)
        check.error_filter("ignore", self.ignore, empty=True)
        put(self, "failure_rate_threshold", check.share("failure_rate_threshold", self.failure_rate_threshold))
        check.count("window_size", self.window_size, none="no count window")
        put(self, "window_duration", check.optional_seconds("window_duration", self.window_duration, positive=True))
        check.count("minimum_calls", self.minimum_calls, none="the default")
        put(
            self,
            "slow_call_duration",
            check.optional_seconds("slow_call_duration", self.slow_call_duration, positive=True),
        )
        put(self, "slow_call_rate_threshold", check.share("slow_call_rate_threshold", self.slow_call_rate_threshold))
        check.count("half_open_calls", self.half_open_calls)
        put(self, "probe_timeout", check.optional_seconds("probe_timeout", self.probe_timeout, positive=True))
        put(self, "recovery_multiplier", check.number("recovery_multiplier", self.recovery_multiplier, least=1))
        put(self, "max_recovery_timeout", check.optional_seconds("max_recovery_timeout", self.max_recovery_timeout))
        put(self, "recovery_jitter", check.share("recovery_jitter", self.recovery_jitter, zero=True) or 0.0)
        self._check_together()

    def _check_together(self) -> None:
        if self.window_size is not None and self.window_duration is not None:
            raise check.bad(
                "window_size", self.window_size, f"and window_duration={self.window_duration!r} exclude each other"
            )
        if self.slow_call_rate_threshold is not None and self.slow_call_duration is None:
            raise check.bad(
                "slow_call_rate_threshold",
                self.slow_call_rate_threshold,
                "needs slow_call_duration= to say what is slow",
            )
        if self.minimum_calls is not None and not self.windowed:
            raise check.bad(
                "minimum_calls",
                self.minimum_calls,
                "needs a window: window_size=, window_duration= or a rate threshold",
            )
        size = self.count_window
        if self.minimum_calls is not None and size is not None and self.minimum_calls > size:
            raise check.bad("minimum_calls", self.minimum_calls, f"must not exceed the window of {size} calls")
        longest = self.max_recovery_timeout
        if longest is not None and longest < self.recovery_timeout:
            raise check.bad(
                "max_recovery_timeout", longest, f"must not be less than recovery_timeout={self.recovery_timeout!r}"
            )

    @property
    def windowed(self) -> bool:
        """Whether calls are looked at in a window; otherwise only consecutive failures count."""
        return (
            self.window_size is not None
            or self.window_duration is not None
            or self.failure_rate_threshold is not None
            or self.slow_call_duration is not None
        )

    @property
    def count_window(self) -> int | None:
        """The size of the count window, None where there is none."""
        if not self.windowed or self.window_duration is not None:
            return None
        return self.window_size or DEFAULT_WINDOW

    @property
    def rule(self) -> str:
        """What opens the circuit: "failure rate", "failures in the window" or "consecutive failures"."""
        if self.failure_rate_threshold is not None:
            return "failure rate"
        if self.window_size is not None or self.window_duration is not None:
            return "failures in the window"
        return "consecutive failures"

    @property
    def minimum(self) -> int:
        """Calls the window must hold before a rate says anything: the whole count window, or 10 in time."""
        return self.minimum_calls or self.count_window or DEFAULT_MINIMUM_IN_TIME

    @property
    def lease(self) -> float:
        """Seconds after which a half-open probe that has not ended loses its place."""
        return self.probe_timeout or self.recovery_timeout or DEFAULT_LEASE
