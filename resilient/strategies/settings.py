"""The sections of a strategy: frozen, comparable, and silent about bad values until somebody asks for problems."""

# `option` makes a field of the dataclass, and no default that instances would share.
# ruff: noqa: RUF009

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from resilient import _checks as check
from resilient._checks import Seconds
from resilient.degradation.config import DegradationConfig
from resilient.errors import CircuitOpenError, ConfigurationError
from resilient.strategies.filters import FILTERS
from resilient.strategies.options import BACKOFF, JITTER, METHOD, WRITTEN_ERRORS, Errors, names, option

if TYPE_CHECKING:
    from resilient.retry.budget import RetryBudget
    from resilient.timeout.smart import SmartTimeout

S = TypeVar("S", bound="Settings")

#: Where the specification gives no number, the manager's own.
_HEALTH = DegradationConfig()


@dataclass(frozen=True)
class Settings:
    """Base of the sections."""

    def __post_init__(self) -> None:
        for name in FILTERS.intersection(names(self)):
            if isinstance(getattr(self, name), list):  # which could be changed, and cannot be hashed
                object.__setattr__(self, name, tuple(getattr(self, name)))

    def merged(self: S, changes: Mapping[str, Any]) -> S:
        """A copy with some options changed; the others stay."""
        return replace(self, **changes)


@dataclass(frozen=True)
class RetrySettings(Settings):
    """How a strategy makes a failed call again; the options of `@retry`."""

    max_attempts: int | None = option(3, "Calls in all, the first included; null for no limit.", int | None, minimum=1)
    on: Errors = option(Exception, "What to retry: names of exception types.", WRITTEN_ERRORS, shown="Exception")
    give_up_on: Errors = option(
        CircuitOpenError,
        "What not to retry: names of exception types; wins over `on`. An open circuit would ask to wait for up to "
        "its whole recovery_timeout.",
        WRITTEN_ERRORS,
        shown="CircuitOpenError",
    )
    retry_on_result: Callable[[Any], object] | None = option(None, "Predicate on the result; True means try again.")
    backoff: Any = option("exponential", "How waits grow.", BACKOFF)
    base_delay: Seconds = option(0.1, "The first wait, in seconds; at most max_delay.", float, minimum=0)
    max_delay: Seconds = option(10.0, "The longest wait, in seconds.", float, minimum=0)
    multiplier: float = option(2.0, "Growth of the exponential backoff.", float, minimum=1)
    jitter: bool | float | str = option(
        True,
        'How waits are spread: true (±10 %), false, a share from 0 to 1, "full", "equal" or "decorrelated".',
        JITTER,
        minimum=0,
        maximum=1,
    )
    max_elapsed: Seconds | None = option(
        None,
        "Seconds from the start of a call after which no attempt begins; null for no limit.",
        float | None,
        minimum=0,
    )
    stop: Callable[[Any], object] | None = option(None, "A tenacity stop.")
    budget: RetryBudget | None = option(None, "A RetryBudget shared by all retries towards one service.")
    retry_exhausted: bool = option(False, "Retry also what an inner retry has given up on.", bool)
    on_retry: Callable[[Any], object] | None = option(None, "Called with a RetryScheduled event before each wait.")


@dataclass(frozen=True)
class CircuitBreakerSettings(Settings):
    """When a strategy stops calling what keeps failing; the options of `@circuit_breaker`."""

    failure_threshold: int = option(5, "Failures that open the circuit.", int, minimum=1)
    recovery_timeout: Seconds = option(60.0, "Seconds the circuit stays open before probes.", float, minimum=0)
    expected_exception: Errors = option(
        Exception, "What counts as failure: names of exception types.", WRITTEN_ERRORS, shown="Exception"
    )
    ignore: Errors = option(
        (), "What counts neither as failure nor as success: names of exception types; wins.", WRITTEN_ERRORS, shown=[]
    )
    failure_rate_threshold: float | None = option(
        None, "Share of failures in the window that opens the circuit.", float | None, exclusiveMinimum=0, maximum=1
    )
    window_size: int | None = option(None, "Look at the last so many calls.", int | None, minimum=1)
    window_duration: Seconds | None = option(
        None, "Look at the calls of the last so many seconds.", float | None, exclusiveMinimum=0
    )
    minimum_calls: int | None = option(None, "Calls in the window before a rate says anything.", int | None, minimum=1)
    slow_call_duration: Seconds | None = option(
        None, "Seconds from which a call counts as slow.", float | None, exclusiveMinimum=0
    )
    slow_call_rate_threshold: float | None = option(
        None, "Share of slow calls that opens the circuit.", float | None, exclusiveMinimum=0, maximum=1
    )
    half_open_calls: int = option(10, "Probes in a half-open round.", int, minimum=1)
    probe_timeout: Seconds | None = option(
        None, "Seconds until a hung probe loses its place; null for recovery_timeout.", float | None, exclusiveMinimum=0
    )
    recovery_multiplier: float = option(
        1.0, "Growth of the open period with every failed half-open round.", float, minimum=1
    )
    max_recovery_timeout: Seconds | None = option(
        None, "The longest open period, in seconds; at least recovery_timeout.", float | None, minimum=0
    )
    recovery_jitter: float = option(0.0, "Share by which the open period is spread.", float, minimum=0, maximum=1)


@dataclass(frozen=True)
class DegradationSettings(Settings):
    """When a strategy spares a service that is unwell, and what it answers meanwhile.

    The options of a `DegradationManager` and of `@degrade`.
    """

    auto_degradation_enabled: bool = option(True, "Whether measured error rates degrade the service.", bool)
    degradation_threshold: float = option(
        0.1,
        "Error rate above which the service is spared; greater than recovery_threshold.",
        float,
        exclusiveMinimum=0,
        exclusiveMaximum=1,
    )
    recovery_threshold: float = option(
        0.05, "Error rate below which it is healthy again.", float, minimum=0, exclusiveMaximum=1
    )
    monitoring_interval: Seconds = option(
        30.0, "Seconds between two looks of the manager's monitoring.", float, exclusiveMinimum=0
    )
    minimum_calls: int = option(
        _HEALTH.minimum_calls, "Calls before the service may be spared; at most window_size.", int, minimum=1
    )
    window_size: int = option(_HEALTH.window_size, "Of how many of the last calls the rate is.", int, minimum=1)
    trickle_interval: Seconds = option(
        _HEALTH.trickle_interval, "Seconds between the real calls that a spared service still gets.", float, minimum=0
    )
    fallback: Any = option(
        ..., "The answer when the call fails; without one, and without cache_ttl, the error passes.", Any, shown=...
    )
    on: Errors = option(Exception, "What to answer for: names of exception types.", WRITTEN_ERRORS, shown="Exception")
    fallback_limit: int | None = option(
        None, "At most so many fallbacks run at once; null for no limit.", int | None, minimum=1
    )
    cache_ttl: Seconds | None = option(
        None, "Seconds for which a good answer is served without a call; null for no cache.", float | None, minimum=0
    )
    fallback_ttl: Seconds | None = option(
        None,
        "Seconds for which it may be served after that, when the call fails; null for an hour. Needs cache_ttl.",
        float | None,
        minimum=0,
    )
    cache_size: int | None = option(
        None, "How many answers are kept; null for 1024. Needs cache_ttl.", int | None, minimum=1
    )


class LeftOut(float):
    """Seconds that nobody has given: `alone` where the `total` beside them is longer, else as long as that."""

    def __init__(self, seconds: float, alone: float | None = None) -> None:
        self.alone = float(self if alone is None else alone)

    def __new__(cls, seconds: float, alone: float | None = None) -> LeftOut:
        """`alone` comes from __init__."""
        return super().__new__(cls, seconds)

    def within(self, total: Any) -> LeftOut:
        """The same beside this total."""
        try:
            longest = check.seconds("total", total, positive=True)
        except Exception:  # no number of seconds, which others complain of, or a repr that fails
            longest = self.alone
        return LeftOut(min(self.alone, longest), self.alone)


class _ClientLimit:
    """A limit of the client's, which follows the total until somebody gives one; so it is found out when it is read."""

    def __init__(self, name: str, default: LeftOut) -> None:
        self.name = name
        self.default = default

    def __get__(self, settings: Any, owner: Any = None) -> Any:
        if settings is None:
            return self.default
        limit = vars(settings)[self.name]
        return limit.within(settings.total) if isinstance(limit, LeftOut) else limit

    def __set__(self, settings: Any, value: Any) -> None:
        vars(settings)[self.name] = value


@dataclass(frozen=True)
class TimeoutSettings(Settings):
    """How long a strategy waits: `total` for the guarded call, the others for the client that makes it.

    `connect`, `read` and `write` bind nobody by themselves: hand them over with `as_httpx()`, `as_requests()` or
    `as_aiohttp()`. Where they are left out and `total` is shorter, they are as long as `total`; one that is given must
    not exceed it. None: no limit.
    """

    connect: Seconds | None = option(
        LeftOut(5.0), "Seconds for the client to connect; null for no limit.", float | None, exclusiveMinimum=0
    )
    read: Seconds | None = option(
        LeftOut(30.0), "Seconds for the client to wait for data; null for no limit.", float | None, exclusiveMinimum=0
    )
    write: Seconds | None = option(
        LeftOut(30.0), "Seconds for the client to send data; null for no limit.", float | None, exclusiveMinimum=0
    )
    total: Seconds | SmartTimeout = option(60.0, "Seconds for one guarded call.", float, exclusiveMinimum=0)
    method: str = option("thread", "How sync functions are timed.", METHOD)
    max_abandoned: int = option(64, "So many abandoned threads at most.", int, minimum=0)

    def as_httpx(self) -> Any:
        """The `httpx.Timeout` with these limits, `connect` also for waiting for the pool; httpx has no total.

        Raises ConfigurationError where httpx is missing or a limit is impossible.
        """
        connect, read, write = self._client_limits()
        return _client("httpx").Timeout(connect=connect, read=read, write=write, pool=connect)

    def as_requests(self) -> tuple[float | None, float | None]:
        """The pair (connect, read) that `requests` takes as `timeout=`; it has neither write nor total.

        Raises ConfigurationError where a limit is impossible.
        """
        connect, read, _ = self._client_limits()
        return connect, read

    def as_aiohttp(self) -> Any:
        """The `aiohttp.ClientTimeout` with these limits, `connect` also for waiting for the pool; it has no write.

        Raises ConfigurationError where aiohttp is missing or a limit is impossible.
        """
        connect, read, _ = self._client_limits()
        total: Any = self.total
        seconds = total.current_limit() if hasattr(total, "current_limit") else check.seconds("timeout.total", total)
        return _client("aiohttp").ClientTimeout(total=seconds, connect=connect, sock_connect=connect, sock_read=read)

    def _client_limits(self) -> tuple[float | None, float | None, float | None]:
        connect, read, write = (
            check.optional_seconds(f"timeout.{name}", getattr(self, name), positive=True) for name in CLIENT_LIMITS
        )
        return connect, read, write


@dataclass(frozen=True)
class BulkheadSettings(Settings):
    """How many calls a strategy lets in at once; the options of `@bulkhead`."""

    max_concurrent: int = option(100, "Places.", int, minimum=1)
    max_wait: Seconds | None = option(
        30.0, "Seconds to wait for a place; null for as long as it takes.", float | None, minimum=0
    )
    max_queue: int | None = option(None, "How many may wait at once; null for any number.", int | None, minimum=0)
    circuit_breaker: Any = option(None, "A breaker that guards the same calls; while it is open nobody waits.")


CLIENT_LIMITS = ("connect", "read", "write")
for _name in CLIENT_LIMITS:
    setattr(TimeoutSettings, _name, _ClientLimit(_name, getattr(TimeoutSettings, _name)))


def _client(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise ConfigurationError(f"as_{name}() needs {name}, which is not installed: pip install {name}") from None
