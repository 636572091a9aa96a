"""Degrade: when the call fails, answer all the same: with the last good answer, or with a fallback."""

from __future__ import annotations

from collections.abc import Callable
from types import EllipsisType
from typing import Any, overload

from resilient import _checks as check
from resilient._checks import ErrorFilter
from resilient._registry import registry
from resilient.degrade.config import DegradeConfig, Manager
from resilient.degrade.policy import Degradation, DegradeMetrics
from resilient.policy import F

__all__ = ["Degradation", "DegradeConfig", "DegradeMetrics", "Manager", "degrade"]


@overload
def degrade(fn: F, /) -> F: ...
@overload
def degrade(
    fn: None = None,
    /,
    *,
    fallback: Any = ...,
    on: ErrorFilter = Exception,
    cache: Any = None,
    key: Callable[..., Any] | None = None,
    fallback_limit: int | None = None,
    manager: Manager | None = None,
    service: str | None = None,
    name: str | None = None,
) -> Degradation: ...
def degrade(
    fn: Any = None,
    /,
    *,
    fallback: Any | EllipsisType = ...,
    on: ErrorFilter = Exception,
    cache: Any = None,
    key: Callable[..., Any] | None = None,
    fallback_limit: int | None = None,
    manager: Manager | None = None,
    service: str | None = None,
    name: str | None = None,
) -> Any:
    """Answer a failed call all the same: `@degrade(fallback=[])`.

    With a cache, good answers are remembered by the call's arguments, and the last one is served first; a fallback's
    answer is never remembered. When every fallback fails too, DegradationError is raised from the call's error.

    Args:
        fallback: a value; a callable, which gets the call's arguments and, if it has such a parameter, `error=`; an
            async callable (async functions only); or a list with a callable in it, tried in order. A value
            is served as it is, so callers share a mutable one.
            For a generator function: an iterable, used if it fails before its first item.
        on: what to answer for: an exception type, a tuple of types, or a predicate; other errors pass.
        cache: a MutableMapping, or an object with get, set and delete, sync or async; a broken one never breaks a call.
        key: makes the cache key from the call's arguments; by default their values with their types, `self` and other
            objects without an equality of their own by weak reference. Unhashable arguments are not cached.
        fallback_limit: at most so many fallbacks run at once; beyond it the call's own error passes.
        manager: decides when to spare the service altogether, and is told of outcomes.
        service: the name of the service for the manager; by default the policy's name.
        name: for the registry; automatic if left out.

    Raises:
        DegradationError: (at the call) the call and all its fallbacks failed.
        ConfigurationError: neither fallback nor cache, or an option with an impossible value.
        TypeError: an async fallback or cache on a sync function, or something that cannot be guarded.
    """
    config = DegradeConfig(fallback, on, cache, key, fallback_limit, manager, service)
    policy_name = check.policy_name(name)
    policy = registry.obtain("degrade", policy_name, config, lambda: Degradation(config, policy_name))
    return policy if fn is None else policy(fn)
