"""The options of `timeout`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from resilient import _checks as check

if TYPE_CHECKING:
    from resilient.timeout.smart import SmartTimeout

METHODS = ("thread", "signal", "cooperative")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class TimeoutConfig(check.Options):
    """The options of `timeout`, checked and in their internal form."""

    limit: float | SmartTimeout
    method: str = "thread"
    max_abandoned: int = 64

    def __post_init__(self) -> None:
        # Not by its class: whoever has no SmartTimeout does not wait for its import.
        if not hasattr(self.limit, "current_limit"):
            object.__setattr__(self, "limit", check.seconds("limit", self.limit))
        if self.method not in METHODS:
            raise check.bad("method", self.method, f"must be one of {', '.join(METHODS)}")
        check.count("max_abandoned", self.max_abandoned, least=0)

    @property
    def smart(self) -> SmartTimeout | None:
        """The limit, where it is one that adapts."""
        return None if isinstance(self.limit, float) else self.limit

    @property
    def seconds(self) -> float:
        """The limit of a call that begins now."""
        return self.limit if isinstance(self.limit, float) else self.limit.current_limit()
