"""What the user may choose, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass

# option: (least, most, unit). Under four seconds the breaker has no time to open, probe and close.
LIMITS: dict[str, tuple[float, float, str]] = {
    "seconds": (4, 60, "seconds"),
    "latency": (0, 0.5, "seconds"),
    "error_rate": (0, 1, "(a share of all requests)"),
}


@dataclass(frozen=True, slots=True)
class Settings:
    """One run of the demo; times in seconds."""

    seconds: float = 12.0
    seed: int = 7
    latency: float = 0.03
    error_rate: float = 0.1

    @property
    def limit(self) -> float:
        """How long one attempt may take: several times the usual latency."""
        return round(0.25 + 4 * self.latency, 3)

    @property
    def stall(self) -> float:
        """How long the service takes when it stalls: more than callers wait."""
        return 1.6 * self.limit

    @property
    def stall_rate(self) -> float:
        """The share of requests that stall."""
        return 0.02

    @property
    def open_period(self) -> float:
        """How long the breaker stays open before it probes: short enough to see it try more than once."""
        return round(max(0.3, self.seconds / 12), 2)
