"""Degradation as a policy: call, and answer otherwise when that fails."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

from resilient import _checks as check
from resilient.degrade.caches import MISSING, AnswerCache, Place, aremembering, remembering
from resilient.degrade.config import DegradeConfig
from resilient.degrade.fallbacks import as_astream, as_stream, fallbacks
from resilient.errors import DegradationError
from resilient.events import HUB, FallbackFailed, FallbackServed
from resilient.generators import Layer, aopen_stream, arelay, open_stream, relay
from resilient.policy import Policy
from resilient.wrapping import Kind, Site, describe


class DegradeMetrics(NamedTuple):
    """The numbers of a degradation: calls that succeeded, and of those that did not, how they were answered."""

    succeeded: int
    served_cached: int
    served_fallback: int
    failed: int
    fallbacks_running: int


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
        self._fallbacks = fallbacks(config.fallback)

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
        return relay(lambda opening: self._guard(opening, site, lambda answer: open_stream(as_stream(answer))), call)

    def async_generator_layer(self, call: Layer, site: Site) -> Layer:
        """Yield a fallback's items when the stream fails before its first item."""
        self._refuse_for_streams()
        return arelay(
            lambda opening: self._aguard(opening, site, lambda answer: aopen_stream(as_astream(answer))), call
        )

    def _guard(self, call: Layer, site: Site, as_result: Callable[[Any], Any] | None = None) -> Layer:
        tally, manager, place = self.tally, self.config.manager, self._place(site)
        self._refuse_async(place.cache)
        if place.cache is not None:
            call = remembering(call, place.cache)

        def degrade(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if manager is not None and manager.is_degraded(self._service):
                answer = self._serve(place, None, args, kwargs)
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
                answer = self._serve(place, error, args, kwargs)
                if answer is MISSING:
                    raise
                return answer if as_result is None else as_result(answer)
            tally.succeeded += 1
            if manager is not None:
                manager.record(self._service, True)
            return result

        return degrade

    def _aguard(self, call: Layer, site: Site, as_result: Callable[[Any], Any] | None = None) -> Layer:
        tally, manager, place = self.tally, self.config.manager, self._place(site)
        if place.cache is not None:
            call = aremembering(call, place.cache)

        async def degrade(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if manager is not None and manager.is_degraded(self._service):
                answer = await self._aserve(place, None, args, kwargs)
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
                answer = await self._aserve(place, error, args, kwargs)
                if answer is MISSING:
                    raise
                return answer if as_result is None else await as_result(answer)
            tally.succeeded += 1
            if manager is not None:
                manager.record(self._service, True)
            return result

        return degrade

    def _place(self, site: Site) -> Place:
        config = self.config
        cache = None if config.cache is None else AnswerCache(config.cache, config.key, site.fn)
        cached_around = any(isinstance(one, Degradation) and one.config.cache is not None for one in site.outer)
        return Place(cache, cached_around)

    # Answers ------------------------------------------------------------------------------------

    def _serve(self, place: Place, error: Exception | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The cached answer, or that of the first fallback that has one; MISSING when the error is to pass."""
        if place.cache is not None:
            answer = place.cache.load(args, kwargs)
            if answer is not MISSING:
                return self._cached(place, answer, error)
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
                    return self._served(place, answer, error)
                except Exception as failure:
                    self._note_failure(failure, errors)
        finally:
            self.tally.running -= 1
        try:
            self._all_failed(error, errors)
        finally:
            del error, errors  # their tracebacks have this frame, and the frame would have them

    async def _aserve(
        self, place: Place, error: Exception | None, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """The cached answer, or that of the first fallback that has one; MISSING when the error is to pass."""
        if place.cache is not None:
            answer = await place.cache.aload(args, kwargs)
            if answer is not MISSING:
                return self._cached(place, answer, error)
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
                    return self._served(place, answer, error)
                except Exception as failure:
                    self._note_failure(failure, errors)
        finally:
            self.tally.running -= 1
        try:
            self._all_failed(error, errors)
        finally:
            del error, errors  # their tracebacks have this frame, and the frame would have them

    def _take_place(self) -> bool:
        """One of `fallback_limit` places for running fallbacks."""
        tally, limit = self.tally, self.config.fallback_limit
        if limit is not None and tally.running >= limit:
            return False
        tally.running += 1  # directly after the look: no switch of threads in between
        return True

    def _cached(self, place: Place, answer: Any, error: Exception | None) -> Any:
        place.tell_the_cache_around()
        self.tally.cached += 1
        if HUB.wants(FallbackServed):
            HUB.publish(FallbackServed(self.name, error, "cache"))
        return answer

    def _served(self, place: Place, answer: Any, error: Exception | None) -> Any:
        place.tell_the_cache_around()
        self.tally.served += 1
        if HUB.wants(FallbackServed):
            HUB.publish(FallbackServed(self.name, error, "fallback"))
        return answer

    def _note_failure(self, failure: Exception, errors: list[Exception]) -> None:
        errors.append(failure)
        if HUB.wants(FallbackFailed):
            HUB.publish(FallbackFailed(self.name, failure))

    def _all_failed(self, error: Exception | None, errors: list[Exception]) -> NoReturn:
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
                    f"fallback={describe(fallback.answer)} is async and cannot serve a sync function; make it sync"
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
