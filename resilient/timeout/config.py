"""The options of `timeout`."""

from __future__ import annotations

from dataclasses import dataclass

from resilient import _checks as check

METHODS = ("thread", "signal", "cooperative")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class TimeoutConfig(check.Options):
    """The options of `timeout`, checked and in their internal form."""

    limit: float
    method: str = "thread"
    max_abandoned: int = 64

    def __post_init__(self) -> None:
        object.__setattr__(self, "limit", check.seconds("limit", self.limit))
        if self.method not in METHODS:
            raise check.bad("method", self.method, f"must be one of {', '.join(METHODS)}")
        check.count("max_abandoned", self.max_abandoned, least=0)
