"""Degrade: when the call fails, answer all the same: with the last good answer, or with a fallback."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Generator
from dataclasses import dataclass
from types import EllipsisType
from typing import Any, NamedTuple, Protocol, overload

from resilient import _checks as check
from resilient._checks import ErrorFilter
from resilient._registry import registry
from resilient.caches import MISSING, AnswerCache, check_cache
from resilient.errors import ConfigurationError, DegradationError
from resilient.events import HUB, FallbackFailed, FallbackServed
from resilient.generators import Layer, aopen_stream, arelay, open_stream, relay
from resilient.policy import F, Policy
from resilient.wrapping import Kind, Site, describe, kind_of


class Manager(Protocol):
    """What `manager=` must offer: whether a service is to be spared, and where outcomes are reported."""

    def is_degraded(self, service: str) -> bool: ...
    def record(self, service: str, ok: bool) -> None: ...


@dataclass(frozen=True, slots=True)
class DegradeConfig:
    """The options of `@degrade`, checked and in their internal form."""

    fallback: Any = ...
    on: ErrorFilter = Exception
    cache: Any = None
    key: Callable[..., Any] | None = None
    fallback_limit: int | None = None
    manager: Manager | None = None
    service: str | None = None

    def __post_init__(self) -> None:
        if self.fallback is ... and self.cache is None:
            raise ConfigurationError("degrade needs fallback= or cache=: what is the answer when the call fails?")
        check.error_filter("on", self.on)
        if self.cache is not None:
            check_cache(self.cache)
        elif self.key is not None:
            raise check.bad("key", self.key, "makes keys for a cache; give cache= too")
        check.callable_or_none("key", self.key)
        check.count("fallback_limit", self.fallback_limit, none="no limit")
        for method in ("is_degraded", "record") if self.manager is not None else ():
            if not callable(getattr(self.manager, method, None)):
                raise TypeError(f"manager={self.manager!r}: must have a method {method}")
        if self.service is not None and self.manager is None:
            raise check.bad("service", self.service, "names the service to a manager; give manager= too")


class DegradeMetrics(NamedTuple):
    """The numbers of a degradation: calls that succeeded, and of those that did not, how they were answered."""

    succeeded: int
    served_cached: int
    served_fallback: int
    failed: int
    fallbacks_running: int


class _Fallback:
    """One way to answer: a value, or a callable on the call's arguments."""

    __slots__ = ("answer", "is_callable", "kind", "takes_error")

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.is_callable = callable(answer)
        self.kind = kind_of(answer) if self.is_callable else None
        self.takes_error = self.is_callable and _takes_error(answer)

    def __call__(self, error: Exception | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not self.is_callable:
            return self.answer
        if self.takes_error and "error" not in kwargs:
            return self.answer(*args, error=error, **kwargs)
        return self.answer(*args, **kwargs)


def _takes_error(fn: Callable[..., Any]) -> bool:
    try:
        parameter = inspect.signature(fn).parameters.get("error")
    except (TypeError, ValueError):
        return False
    return parameter is not None and parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)


def _fallbacks(given: Any) -> tuple[_Fallback, ...]:
    if given is ...:
        return ()
    if isinstance(given, list) and any(map(callable, given)):
        return tuple(_Fallback(one) for one in given)
    return (_Fallback(given),)


class _Tally:
    __slots__ = ("cached", "failed", "running", "served", "succeeded")

    def __init__(self) -> None:
        self.succeeded = self.cached = self.served = self.failed = self.running = 0


class Degradation(Policy):
    """Answers when the call fails; made by `degrade(...)`."""

    kind = "degrade"
    config: DegradeConfig

    def __init__(self, config: DegradeConfig, name: str | None) -> None:
        super().__init__(config, name)
        self.tally = _Tally()
        self.apply(config)

    def apply(self, config: DegradeConfig) -> None:
        """Take over a configuration."""
        self.config = config
        self._handles = check.matcher(config.on)
        self._fallbacks = _fallbacks(config.fallback)

    # Layers -------------------------------------------------------------------------------------

    def sync_layer(self, call: Layer, site: Site) -> Layer:
        """Call, and answer otherwise when that fails."""
        return self._guard(call, site)

    def async_layer(self, call: Layer, site: Site) -> Layer:
        """Call, and answer otherwise when that fails."""
        return self._aguard(call, site)

    def generator_layer(self, call: Layer, site: Site) -> Layer:
        """Yield a fallback's items when the stream fails before its first item."""
        self._refuse_for_streams()
        return relay(lambda opening: self._guard(opening, site, lambda answer: open_stream(_items(answer))), call)

    def async_generator_layer(self, call: Layer, site: Site) -> Layer:
        """Yield a fallback's items when the stream fails before its first item."""
        self._refuse_for_streams()
        return arelay(lambda opening: self._aguard(opening, site, lambda answer: aopen_stream(_aitems(answer))), call)

    def _guard(self, call: Layer, site: Site, as_result: Callable[[Any], Any] | None = None) -> Layer:
        tally, manager, cache = self.tally, self.config.manager, self._answers_of(site)
        self._refuse_async(cache)

        def degrade(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if manager is not None and manager.is_degraded(self._service):
                answer = self._serve(cache, None, args, kwargs)
                if answer is not MISSING:
                    return answer if as_result is None else as_result(answer)
            try:
                result = call(args, kwargs)
            except Exception as error:
                if not self._handles(error):
                    tally.failed += 1
                    raise
                if manager is not None:
                    manager.record(self._service, False)
                answer = self._serve(cache, error, args, kwargs)
                if answer is MISSING:
                    raise
                return answer if as_result is None else as_result(answer)
            tally.succeeded += 1
            if cache is not None:
                cache.store(args, kwargs, result)
            if manager is not None:
                manager.record(self._service, True)
            return result

        return degrade

    def _aguard(self, call: Layer, site: Site, as_result: Callable[[Any], Any] | None = None) -> Layer:
        tally, manager, cache = self.tally, self.config.manager, self._answers_of(site)

        async def degrade(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if manager is not None and manager.is_degraded(self._service):
                answer = await self._aserve(cache, None, args, kwargs)
                if answer is not MISSING:
                    return answer if as_result is None else await as_result(answer)
            try:
                result = await call(args, kwargs)
            except Exception as error:
                if not self._handles(error):
                    tally.failed += 1
                    raise
                if manager is not None:
                    manager.record(self._service, False)
                answer = await self._aserve(cache, error, args, kwargs)
                if answer is MISSING:
                    raise
                return answer if as_result is None else await as_result(answer)
            tally.succeeded += 1
            if cache is not None:
                await cache.astore(args, kwargs, result)
            if manager is not None:
                manager.record(self._service, True)
            return result

        return degrade

    def _answers_of(self, site: Site) -> AnswerCache | None:
        config = self.config
        return None if config.cache is None else AnswerCache(config.cache, config.key, site.fn)

    # Answers ------------------------------------------------------------------------------------

    def _serve(
        self, cache: AnswerCache | None, error: Exception | None, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """The cached answer, or that of the first fallback that has one; MISSING when the error is to pass."""
        if cache is not None:
            answer = cache.load(args, kwargs)
            if answer is not MISSING:
                return self._cached(answer, error)
        if not self._fallbacks or not self._take_place():
            self.tally.failed += error is not None
            return MISSING
        errors: list[Exception] = []
        try:
            for fallback in self._fallbacks:
                try:
                    answer = fallback(error, args, kwargs)
                    if inspect.iscoroutine(answer):
                        answer.close()
                        raise TypeError(f"{self.name}: a fallback of a sync function returned a coroutine")
                    return self._served(answer, error)
                except Exception as failure:
                    self._note_failure(failure, errors)
        finally:
            self.tally.running -= 1
        return self._all_failed(error, errors)

    async def _aserve(
        self, cache: AnswerCache | None, error: Exception | None, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """The cached answer, or that of the first fallback that has one; MISSING when the error is to pass."""
        if cache is not None:
            answer = await cache.aload(args, kwargs)
            if answer is not MISSING:
                return self._cached(answer, error)
        if not self._fallbacks or not self._take_place():
            self.tally.failed += error is not None
            return MISSING
        errors: list[Exception] = []
        try:
            for fallback in self._fallbacks:
                try:
                    answer = fallback(error, args, kwargs)
                    if fallback.is_callable and inspect.isawaitable(answer):
                        answer = await answer
                    return self._served(answer, error)
                except Exception as failure:
                    self._note_failure(failure, errors)
        finally:
            self.tally.running -= 1
        return self._all_failed(error, errors)

    def _take_place(self) -> bool:
        """One of `fallback_limit` places for running fallbacks."""
        tally, limit = self.tally, self.config.fallback_limit
        if limit is not None and tally.running >= limit:
            return False
        tally.running += 1  # directly after the look: no switch of threads in between
        return True

    def _cached(self, answer: Any, error: Exception | None) -> Any:
        self.tally.cached += 1
        if HUB.wants(FallbackServed):
            HUB.publish(FallbackServed(self.name, error, "cache"))
        return answer

    def _served(self, answer: Any, error: Exception | None) -> Any:
        self.tally.served += 1
        if HUB.wants(FallbackServed):
            HUB.publish(FallbackServed(self.name, error, "fallback"))
        return answer

    def _note_failure(self, failure: Exception, errors: list[Exception]) -> None:
        errors.append(failure)
        if HUB.wants(FallbackFailed):
            HUB.publish(FallbackFailed(self.name, failure))

    def _all_failed(self, error: Exception | None, errors: list[Exception]) -> Any:
        self.tally.failed += 1
        first = [] if error is None else [error]
        try:
            raise DegradationError(self.name, (*first, *errors)) from (error or errors[0])
        finally:
            del error, errors, first  # the traceback has this frame, and the frame would have the errors

    @property
    def _service(self) -> str:
        return self.config.service or self.name

    # Refusals -----------------------------------------------------------------------------------

    def _refuse_async(self, cache: AnswerCache | None) -> None:
        for fallback in self._fallbacks:
            if fallback.kind in (Kind.ASYNC, Kind.ASYNC_GENERATOR):
                raise TypeError(
                    f"fallback={describe(fallback.answer)} is async and cannot serve a sync function; make either the other"
                )
        if cache is not None and cache.is_async:
            raise TypeError(f"cache={self.config.cache!r} is async and cannot serve a sync function; use a sync one")

    def _refuse_for_streams(self) -> None:
        if self.config.cache is not None:
            raise TypeError("cache= cannot keep the answer of a generator function; guard what makes its items")
        for fallback in self._fallbacks:
            if not fallback.is_callable and not hasattr(fallback.answer, "__iter__"):
                raise TypeError(f"fallback={fallback.answer!r}: a generator function needs an iterable to fall back on")

    def get_metrics(self) -> DegradeMetrics:
        """The numbers of now."""
        tally = self.tally
        return DegradeMetrics(tally.succeeded, tally.cached, tally.served, tally.failed, tally.running)


def _items(answer: Any) -> Generator[Any, Any, Any]:
    return (yield from answer)


async def _aitems(answer: Any) -> AsyncIterator[Any]:
    if hasattr(answer, "__aiter__"):
        async for item in answer:
            yield item
    else:
        for item in answer:
            yield item


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
            is served as it is, so callers share a mutable one. For a generator function: an iterable, used if it fails before its first item.
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
