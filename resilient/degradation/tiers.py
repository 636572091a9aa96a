"""What a tiered timeout is told and what it tells: tiers, strategies, and numbers."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, NamedTuple

from resilient import _checks as check
from resilient._checks import Seconds
from resilient.retry.backoff import exponential
from resilient.timeout import TimeoutConfig

MOST_RETRIES = 1000


class FallbackStrategy(enum.Enum):
    """What happens when the last try has failed."""

    #: The last error passes.
    IMMEDIATE_ERROR = "immediate_error"
    #: The last good answer of the same call, else the default, else the last error.
    BEST_EFFORT = "best_effort"
    #: The degraded path answers; without one the last error passes.
    GRACEFUL_DEGRADATION = "graceful_degradation"
    #: The call is queued to be made later, and the caller gets a receipt.
    QUEUE_AND_RETRY = "queue_and_retry"


@dataclass(frozen=True, slots=True, init=False)
class TimeoutTier:
    """A kind of operation: `max_retries + 1` tries; number n, from 0, has `base_timeout * backoff_multiplier ** n`.

    Raises ConfigurationError for an impossible value.
    """

    operation_type: str
    #: In seconds.
    base_timeout: float
    max_retries: int
    backoff_multiplier: float

    # Not the dataclass's own: it would take only what it gives back, and a timedelta is never given back.
    def __init__(self, operation_type: str, base_timeout: Seconds, max_retries: int, backoff_multiplier: float) -> None:
        name: Any = operation_type
        if not isinstance(name, str) or not name.strip():
            raise check.bad("operation_type", name, "must be a non-empty string")
        seconds = check.seconds("base_timeout", base_timeout, positive=True)
        check.count("max_retries", max_retries, least=0)
        if max_retries > MOST_RETRIES:
            raise check.bad("max_retries", max_retries, f"must be at most {MOST_RETRIES}")
        factor = check.number("backoff_multiplier", backoff_multiplier, least=1)
        for field, value in zip(self.__slots__, (name, seconds, max_retries, factor), strict=True):
            object.__setattr__(self, field, value)


SHIPPED = (
    TimeoutTier("database_query", 5.0, 2, 2.0),
    TimeoutTier("external_api", 10.0, 3, 1.5),
    TimeoutTier("cache_operation", 0.1, 1, 1.0),
)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class TierConfig(check.Options):
    """A tier as the options of a policy, which `registry.configure("timeout", …)` changes."""

    operation_type: str
    base_timeout: float
    max_retries: int
    backoff_multiplier: float
    method: str = "thread"
    max_abandoned: int = 64

    def __post_init__(self) -> None:
        tier = TimeoutTier(self.operation_type, self.base_timeout, self.max_retries, self.backoff_multiplier)
        object.__setattr__(self, "base_timeout", tier.base_timeout)
        object.__setattr__(self, "backoff_multiplier", tier.backoff_multiplier)
        TimeoutConfig(tier.base_timeout, self.method, self.max_abandoned)

    def limit(self, attempt: int) -> float:
        """The limit of a try, counted from 0, in seconds; no number of tries makes it overflow."""
        return exponential(attempt + 1, self.base_timeout, self.backoff_multiplier, check.LONGEST)

    @property
    def longest(self) -> float:
        """The limit of the last try."""
        return self.limit(self.max_retries)


class TierMetrics(NamedTuple):
    """The numbers of a tiered timeout: calls and how they ended, tries that passed their limits, and tries made again.

    limit: of the first try, in seconds. abandoned: threads still at work on tries that nobody waits for.
    """

    limit: float
    calls: int
    succeeded: int
    timed_out: int
    retried: int
    degraded: int
    queued: int
    failed: int
    abandoned: int
