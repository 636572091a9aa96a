"""Which patterns help against what: the guide as a table, and each row of it as a strategy ready to use.

    from resilient.strategies.patterns import external_api

    @external_api(fallback=[], limit=2)
    def recommendations(user): ...

Every strategy is made of the plain policies, so what it does can be had by stacking decorators too. Make one for each
service: functions guarded by the same pipeline share its state, and so do pipelines of the same `name`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeVar, cast
from weakref import WeakKeyDictionary

from resilient._checks import ErrorFilter, Seconds, error_filter
from resilient._registry import registry
from resilient.bulkhead import bulkhead
from resilient.circuit_breaker import circuit_breaker
from resilient.degrade import degrade
from resilient.errors import CallTimeoutError, CircuitOpenError, RejectedError
from resilient.pipeline import Pipeline
from resilient.policy import Policy
from resilient.retry import retry
from resilient.strategies.building import all_or_nothing
from resilient.strategies.failover import FailoverFunction, as_failover, failover
from resilient.timeout import timeout
from resilient.wrapping import Guarded

if TYPE_CHECKING:
    from resilient.degradation import CachedDegradation
    from resilient.retry.budget import RetryBudget
    from resilient.timeout.smart import SmartTimeout

#: From what `cache_miss_storm` has made its caches: the cache given, and its two times.
_caches: WeakKeyDictionary[CachedDegradation, tuple[Any, float, float]] = WeakKeyDictionary()

P = ParamSpec("P")
R = TypeVar("R")

__all__ = [
    "GUIDE",
    "Recommendation",
    "cache_miss_storm",
    "database_failover",
    "external_api",
    "resource_shortage",
    "service_overload",
    "transient_network",
]


@all_or_nothing()
def transient_network(
    *,
    max_attempts: int = 4,
    base_delay: Seconds = 0.1,
    max_delay: Seconds = 10.0,
    jitter: bool | float | str = True,
    max_elapsed: Seconds | None = 30.0,
    on: ErrorFilter = (ConnectionError, TimeoutError),
    budget: RetryBudget | None = None,
    limit: Seconds | SmartTimeout | None = None,
    name: str | None = None,
) -> Pipeline:
    """For short network failures: retry with exponential backoff, bounded in attempts and in time.

    Args:
        max_attempts: calls in all; four wait 0.7 s together, which outlasts a reset, not an outage.
        base_delay, max_delay: seconds or timedelta; the first wait, and the longest.
        jitter: how waits are spread, as for `@retry`.
        max_elapsed: seconds or timedelta from the start of the call after which no attempt begins; None for no limit.
        on: what to retry; name your client's errors here where they are not ConnectionError or TimeoutError.
        budget: a RetryBudget, so that an outage does not multiply the load.
        limit: the timeout of each attempt, so that one that hangs is retried too; None leaves it to the client.
        name: the policies' name in the registry.
    """
    again = retry(
        max_attempts=max_attempts,
        on=on,
        base_delay=base_delay,
        max_delay=max_delay,
        jitter=jitter,
        max_elapsed=max_elapsed,
        budget=budget,
        name=name,
    )
    within: tuple[Policy, ...] = () if limit is None else (timeout(cast(Any, limit), name=name),)
    return Pipeline(again, *within, name=name)


@all_or_nothing()
def service_overload(
    *,
    fallback: Any,
    failure_rate_threshold: float = 0.5,
    window_duration: Seconds = 10.0,
    minimum_calls: int = 20,
    slow_call_duration: Seconds | None = None,
    recovery_timeout: Seconds = 30.0,
    half_open_calls: int = 5,
    on: ErrorFilter = Exception,
    name: str | None = None,
) -> Pipeline:
    """For a service that drowns: stop calling it while it fails too often, and answer from the fallback meanwhile.

    An overloaded service fails some of the time, so a rate opens the circuit, and not failures in a row.

    Args:
        fallback: what to answer, as for `@degrade`.
        failure_rate_threshold: share of failures that opens the circuit.
        window_duration: seconds or timedelta of which the rate is.
        minimum_calls: calls in the window before the rate says anything: too few, and chance opens the circuit.
        slow_call_duration: seconds from which a call counts as slow; when all calls are, the circuit opens too.
        recovery_timeout: seconds or timedelta for the service to recover; spread by 10 %, so that a fleet of callers
            does not come back in step.
        half_open_calls: probes in a round, few enough not to drown it again.
        on: which errors count, and are answered for; an open circuit always is.
        name: the policies' name in the registry.
    """
    breaker = circuit_breaker(
        name,
        expected_exception=on,
        failure_rate_threshold=failure_rate_threshold,
        window_duration=window_duration,
        minimum_calls=minimum_calls,
        slow_call_duration=slow_call_duration,
        recovery_timeout=recovery_timeout,
        recovery_jitter=0.1,
        half_open_calls=half_open_calls,
    )
    return Pipeline(degrade(fallback=fallback, on=_also(on, CircuitOpenError), name=name), breaker, name=name)


@all_or_nothing()
def database_failover(
    primary: Callable[P, R],
    /,
    *replicas: Callable[..., R],
    on: ErrorFilter = Exception,
    max_attempts: int = 2,
    base_delay: Seconds = 0.05,
    max_delay: Seconds = 5.0,
    failure_threshold: int = 3,
    recovery_timeout: Seconds = 30.0,
    half_open_calls: int = 1,
    name: str | None = None,
) -> FailoverFunction[P, R]:
    """For a database with replicas: fail over to a replica, and try the whole row again where all of them failed.

        find_order = database_failover(find_on_primary, find_on_replica, on=OperationalError, name="orders")

    For reads, or writes that can be made twice: a call may have reached the primary before it failed, and a replica
    may lag behind. A call is made at most `max_attempts` times by each target. Where every circuit is open it fails
    at once, rather than wait for one of them.

    Args:
        primary, replicas: all sync, or all async, with the same arguments.
        on: which errors to fail over for, and to retry; name your driver's operational errors, so that a mistake in
            a query passes at once.
        max_attempts: how often to go through the targets.
        base_delay, max_delay: seconds or timedelta between two rounds; the first wait, and the longest.
        failure_threshold, recovery_timeout, half_open_calls: of each target's circuit, as for `failover`.
        name: the retry's name in the registry, and the first part of the breakers'.

    Returns:
        A callable like the primary, with `targets`, `breakers` and `active`.
    """
    function = failover(
        primary,
        *replicas,
        on=on,
        failure_threshold=failure_threshold,
        recovery_timeout=recovery_timeout,
        half_open_calls=half_open_calls,
        name=name,
    )
    rounds = retry(
        max_attempts=max_attempts,
        on=on,
        give_up_on=CircuitOpenError,
        base_delay=base_delay,
        max_delay=max_delay,
        name=name,
    )
    guarded = cast(Guarded, rounds(function))
    return cast("FailoverFunction[P, R]", as_failover(guarded, guarded.settled))


@all_or_nothing()
def cache_miss_storm(
    *,
    fallback: Any,
    cache_ttl: Seconds = 60.0,
    fallback_ttl: Seconds = 3600.0,
    cache: Any = None,
    key: Callable[..., Any] | None = None,
    max_concurrent: int | None = 20,
    max_wait: Seconds = 0.5,
    on: ErrorFilter = Exception,
    name: str | None = None,
) -> Pipeline:
    """For hot data whose cache runs empty: keep answers, let few misses through to the source, and have a spare one.

    Of those who miss the same key one asks the source, and the others share what comes of it.

    Args:
        fallback: the spare source, as for `@degrade`: asked where the source fails and no answer is left.
        cache_ttl: seconds or timedelta for which an answer is fresh, and served without a call.
        fallback_ttl: seconds or timedelta for which it is served after that where the source fails.
        cache: where to keep answers, as for `CachedDegradation`; in memory by default.
        key: makes the cache key from a call's arguments, as for `@degrade`.
        max_concurrent: for how many keys the source is asked at once, so that a storm of many keys does not reach it
            either; None for any number.
        max_wait: seconds or timedelta that a miss waits to be one of them.
        on: which errors of the source are answered for; one turned away always is.
        name: the policies' name in the registry.
    """
    answers = degrade(
        fallback=fallback,
        cache=_answer_cache(name, cache, cache_ttl, fallback_ttl),
        key=key,
        on=_also(on, RejectedError),
        name=name,
    )
    gate: tuple[Policy, ...] = ()
    if max_concurrent is not None:
        gate = (bulkhead(name, max_concurrent=max_concurrent, max_wait=max_wait),)
    return Pipeline(answers, *gate, name=name)


@all_or_nothing()
def external_api(
    *,
    fallback: Any,
    limit: Seconds | SmartTimeout = 10.0,
    method: str = "thread",
    on: ErrorFilter = Exception,
    fallback_limit: int | None = None,
    name: str | None = None,
) -> Pipeline:
    """For a third party's service: wait no longer than `limit`, and answer gracefully where it does not.

    Args:
        fallback: what to answer, as for `@degrade`: it has to do without the third party.
        limit: seconds, timedelta or SmartTimeout for one call.
        method: how sync functions are timed, as for `@timeout`.
        on: which errors are answered for; a call that took too long always is.
        fallback_limit: at most so many fallbacks run at once.
        name: the policies' name in the registry.
    """
    answers = degrade(fallback=fallback, on=_also(on, CallTimeoutError), fallback_limit=fallback_limit, name=name)
    return Pipeline(answers, timeout(cast(Any, limit), method=method, name=name), name=name)


@all_or_nothing()
def resource_shortage(
    *,
    fallback: Any,
    max_concurrent: int = 10,
    max_wait: Seconds | None = 1.0,
    max_queue: int | None = 100,
    on: ErrorFilter = (RejectedError, MemoryError, OSError),
    fallback_limit: int | None = None,
    name: str | None = None,
) -> Pipeline:
    """For what there is little of: let few calls in at once, and answer the rest from the fallback.

    Args:
        fallback: what to answer, as for `@degrade`; it must not need the same resource.
        max_concurrent: how many calls may use the resource at once.
        max_wait: seconds or timedelta to wait for a place; 0 for not at all, None for as long as it takes.
        max_queue: how many may wait: without a limit the shortage becomes one of memory.
        on: which errors are answered for; a call without a place always is. By default what tells of a shortage.
        fallback_limit: at most so many fallbacks run at once.
        name: the policies' name in the registry.
    """
    places = bulkhead(name, max_concurrent=max_concurrent, max_wait=max_wait, max_queue=max_queue)
    answers = degrade(fallback=fallback, on=_also(on, RejectedError), fallback_limit=fallback_limit, name=name)
    return Pipeline(answers, places, name=name)


def _answer_cache(name: str | None, cache: Any, cache_ttl: Seconds, fallback_ttl: Seconds) -> CachedDegradation:
    """A cache for answers: the one that the degradation of this name has, if it was made of the same options."""
    from resilient.degradation import CachedDegradation  # not for those who import the other strategies

    made = CachedDegradation(cache, cache_ttl, fallback_ttl)
    known = registry.degradations.get(name) if name is not None else None
    held = None if known is None else known.config.cache
    if isinstance(held, CachedDegradation) and held in _caches:
        given, *seconds = _caches[held]
        if given is cache and seconds == [made.cache_ttl, made.fallback_ttl]:
            return held
    _caches[made] = (cache, made.cache_ttl, made.fallback_ttl)
    return made


@dataclass(frozen=True)
class _Either:
    """A predicate or a type; equal to another of the same parts, so that a strategy can be defined twice."""

    predicate: Callable[[Any], object]
    kind: type[BaseException]

    def __call__(self, error: BaseException) -> bool:
        return isinstance(error, self.kind) or bool(self.predicate(error))


def _also(on: ErrorFilter, kind: type[BaseException]) -> ErrorFilter:
    """The errors that `on` means, and those of this kind."""
    on = error_filter("on", on)
    if not isinstance(on, (type, tuple)):
        return _Either(on, kind)
    if issubclass(kind, on):
        return on
    return (*on, kind) if isinstance(on, tuple) else (on, kind)


class Recommendation(NamedTuple):
    """A row of the guide: against a problem these patterns, when they fit, with what caution, and ready to use."""

    problem: str
    patterns: tuple[str, ...]
    when: str
    caution: str
    strategy: Callable[..., Any]


#: The guide, row by row.
GUIDE: tuple[Recommendation, ...] = (
    Recommendation(
        "transient network failure",
        ("retry with exponential backoff",),
        "timeouts, connection resets",
        "bound the attempts: retries without end make an outage worse",
        transient_network,
    ),
    Recommendation(
        "service overload",
        ("circuit breaker", "degrade"),
        "high concurrency, limited resources",
        "choose the thresholds with care: too low and chance opens the circuit, too high and it opens too late",
        service_overload,
    ),
    Recommendation(
        "database failure",
        ("failover", "retry"),
        "a primary with replicas",
        "keep data consistent: replicas lag, and a call that failed may have taken effect",
        database_failover,
    ),
    Recommendation(
        "cache miss storm",
        ("cached degradation",),
        "hot data",
        "provide a spare source",
        cache_miss_storm,
    ),
    Recommendation(
        "external API failure",
        ("timeout", "degrade"),
        "third-party services",
        "degrade gracefully: the answer has to be of use without the third party",
        external_api,
    ),
    Recommendation(
        "resource shortage",
        ("bulkhead", "degrade"),
        "limited system resources",
        "avoid an avalanche: what waits or falls back needs resources too",
        resource_shortage,
    ),
)
