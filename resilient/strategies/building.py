"""From a strategy to its policies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from resilient._checks import differing
from resilient._registry import registry
from resilient.bulkhead import bulkhead
from resilient.circuit_breaker import circuit_breaker
from resilient.degradation import CachedDegradation, DegradationConfig, DegradationManager
from resilient.degrade import Degradation, degrade
from resilient.errors import ConfigurationError, UnknownNameError
from resilient.policy import Policy
from resilient.retry import retry
from resilient.strategies.filters import resolved
from resilient.strategies.options import names, values
from resilient.strategies.problems import shown
from resilient.strategies.settings import DegradationSettings, TimeoutSettings
from resilient.strategies.validation import ANSWERS, HEALTH
from resilient.timeout import timeout

if TYPE_CHECKING:
    from resilient.strategies.config import RecoveryStrategyConfig

#: As which settings a strategy has defined a registered degradation: its manager and cache cannot be compared.
_defined: WeakKeyDictionary[Degradation, DegradationSettings] = WeakKeyDictionary()

#: Which policy a section describes.
KINDS = {
    "retry": "retry",
    "circuit_breaker": "circuit_breaker",
    "degradation": "degrade",
    "timeout": "timeout",
    "bulkhead": "bulkhead",
}


@contextmanager
def all_or_nothing() -> Iterator[None]:
    """Where the block fails, names that it has given to policies are free again.

    The registry's lock is held, so nobody else can have taken such a policy for his own meanwhile.
    """
    with registry.lock:
        shelves = registry._shelves
        before = {kind: set(shelf._named) for kind, shelf in shelves.items()}
        try:
            yield
        except BaseException:
            for kind, shelf in shelves.items():
                for name in set(shelf._named) - before[kind]:
                    del shelf._named[name]
            raise


def live_policies() -> dict[str, Mapping[str, Policy]]:
    """What is registered, by kind and name."""
    return {
        "retry": registry.retries,
        "circuit_breaker": registry.circuit_breakers,
        "degrade": registry.degradations,
        "timeout": registry.timeouts,
        "bulkhead": registry.bulkheads,
    }


def build(strategy: RecoveryStrategyConfig) -> tuple[Policy, ...]:
    """The policies of a valid strategy, outermost first.

    Raises ConfigurationError where the registry has one of that name with another definition; then nothing is added.
    """
    makers = _makers(strategy)
    live = live_policies()
    with all_or_nothing():
        # Those that are registered already first: they are likely to be refused.
        order = sorted(makers, key=lambda kind: strategy.name not in live[kind])
        made = {kind: makers[kind]() for kind in order}
    return tuple(made[kind] for kind in makers)


def manager_of(name: str | None) -> DegradationManager:
    """The manager of the registered degradation of this name, as a strategy has made it."""
    if name is None:
        raise ConfigurationError(
            "a strategy without a name has a manager for each function it decorates: fn.policies[0].config.manager"
        )
    policy = registry.degradations.get(name)
    manager = None if policy is None else policy.config.manager
    if not isinstance(manager, DegradationManager):
        raise UnknownNameError(f"no degradation named {name!r} has a manager; decorate a function first")
    return manager


def _makers(strategy: RecoveryStrategyConfig) -> dict[str, Callable[[], Policy]]:
    """How to make each policy that the strategy uses, outermost first."""
    name, makers = strategy.name, dict[str, Callable[[], Policy]]()
    if strategy.degradation is not None:
        makers["degrade"] = partial(_degradation, strategy.degradation, name)
    if strategy.retry is not None:
        makers["retry"] = partial(retry, **_options(strategy.retry), name=name)
    if strategy.circuit_breaker is not None:
        makers["circuit_breaker"] = partial(circuit_breaker, **_options(strategy.circuit_breaker), name=name)
    if strategy.bulkhead is not None:
        makers["bulkhead"] = partial(bulkhead, **_options(strategy.bulkhead), name=name)
    if strategy.timeout is not None:
        makers["timeout"] = partial(_timeout, strategy.timeout, name)
    return makers


def _options(settings: Any) -> dict[str, Any]:
    return {name: resolved(name, value) for name, value in values(settings)}


def _timeout(settings: TimeoutSettings, name: str | None) -> Policy:
    return timeout(settings.total, method=settings.method, max_abandoned=settings.max_abandoned, name=name)


def _degradation(settings: DegradationSettings, name: str | None) -> Policy:
    known = None if name is None else registry.degradations.get(name)
    if known is not None and known in _defined:
        return _same(known, settings)
    health = DegradationConfig(**{option: getattr(settings, option) for option in HEALTH})
    policy = degrade(
        fallback=_answer(settings.fallback),
        on=resolved("on", settings.on),
        cache=_cache(settings),
        fallback_limit=settings.fallback_limit,
        manager=DegradationManager(health, name=name or "degradation"),
        service=name,
        name=name,
    )
    if name is not None:
        _defined[policy] = settings
    return policy


def _same(known: Degradation, settings: DegradationSettings) -> Degradation:
    """The registered degradation, if these settings are those it was defined by, or those it has now."""
    before, manager = _defined[known], known.config.manager
    changed = differing(before, settings, names(settings))
    now = {name: getattr(manager.config, name) for name in HEALTH} if isinstance(manager, DegradationManager) else {}
    now |= {name: getattr(known.config, name) for name in ANSWERS}
    changed = {name: new for name, new in changed.items() if name not in now or resolved(name, new) != now[name]}
    if changed:
        what = "; ".join(
            f"{name} was {shown(getattr(before, name))} and is now {shown(new)}" for name, new in changed.items()
        )
        raise ConfigurationError(
            f"degrade {known.name!r} is already defined differently: {what}. Use one definition, or another name"
        )
    return known


def _answer(fallback: Any) -> Any:
    """A fallback of its own where it is a table or a list: callers get it for an answer, and may change it."""
    try:
        return deepcopy(fallback) if _is_data(fallback) else fallback
    except RecursionError:  # a list that contains itself
        return fallback


def _is_data(value: Any) -> bool:
    """Whether this is what a file can hold."""
    if type(value) is list:
        return all(map(_is_data, value))
    if type(value) is dict:
        return all(map(_is_data, value.values()))
    return value is None or isinstance(value, (bool, int, float, str))


def _cache(settings: DegradationSettings) -> CachedDegradation | None:
    if settings.cache_ttl is None:
        return None
    options: dict[str, Any] = {"cache_ttl": settings.cache_ttl, "fallback_ttl": settings.fallback_ttl}
    if settings.cache_size is not None:
        from cachetools import FIFOCache

        options["cache"] = FIFOCache(settings.cache_size)
    return CachedDegradation(**{name: value for name, value in options.items() if value is not None})
