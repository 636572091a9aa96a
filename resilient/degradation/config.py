"""What a degradation manager is told: its options, its modes, and what a service looks like."""

from __future__ import annotations

import enum
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol, runtime_checkable

from resilient import _checks as check


class DegradationMode(enum.StrEnum):
    """How much is degraded: nothing to speak of, some services, or all of them."""

    NORMAL = "normal"
    PARTIAL = "partial"
    FULL = "full"


@runtime_checkable
class DegradableService(Protocol):
    """A service with a full and a degraded way to answer; each method sync or async."""

    def execute_full(self, *args: Any, **kwargs: Any) -> Any | Awaitable[Any]:
        """Do the real thing."""

    def execute_degraded(self, *args: Any, **kwargs: Any) -> Any | Awaitable[Any]:
        """Answer more simply; gets the same arguments, and `error=` too if it has such a parameter."""

    def should_degrade(self) -> bool | Awaitable[bool]:
        """Whether the service itself asks to be spared, whatever the manager has measured."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class DegradationConfig(check.Options):
    """The options of a `DegradationManager`.

    Args:
        auto_degradation_enabled: whether measured error rates degrade services; without it, only `force_degradation`
            and a service's own `should_degrade` do.
        degradation_threshold: a service is degraded when its moving error rate and the rate of its window are both
            above this; the mode is partial when the share of degraded services is.
        recovery_threshold: a service is healthy again when both rates are under this; the mode is normal again when
            the share is.
        monitoring_interval: seconds or timedelta between two looks of `start_monitoring`.
        minimum_calls: a service with fewer outcomes in its window is never degraded.
        window_size: of how many of the last calls the window rate is.
        trickle_interval: seconds or timedelta between two real calls to a degraded service, at the least; at least
            two calls in between are answered in the degraded way, too.

    Raises:
        ConfigurationError: an option has an impossible value, or two do not fit together.
    """

    auto_degradation_enabled: bool = True
    degradation_threshold: float = 0.1
    recovery_threshold: float = 0.05
    monitoring_interval: float | timedelta = 30.0
    minimum_calls: int = 10
    window_size: int = 30
    trickle_interval: float | timedelta = 0.1

    def __post_init__(self) -> None:
        check.flag("auto_degradation_enabled", self.auto_degradation_enabled)
        for name in ("degradation_threshold", "recovery_threshold"):
            value = getattr(self, name)
            if value is None or check.share(name, value, zero=name == "recovery_threshold") == 1:
                raise check.bad(name, value, "must be a fraction less than 1, such as 0.1 for 10 %")
        if self.recovery_threshold >= self.degradation_threshold:
            remedy = f"must be less than degradation_threshold={self.degradation_threshold!r}, or modes would flap"
            raise check.bad("recovery_threshold", self.recovery_threshold, remedy)
        interval = check.seconds("monitoring_interval", self.monitoring_interval, positive=True)
        object.__setattr__(self, "monitoring_interval", interval)
        check.count("minimum_calls", self.minimum_calls)
        check.count("window_size", self.window_size)
        if self.window_size < self.minimum_calls:
            raise check.bad("window_size", self.window_size, f"must be at least minimum_calls={self.minimum_calls!r}")
        object.__setattr__(self, "trickle_interval", check.seconds("trickle_interval", self.trickle_interval))
