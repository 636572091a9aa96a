"""Degradation as a policy: call, and answer otherwise when that fails."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn, cast

from resilient import _checks as check
from resilient.degrade.caches import MISSING, AnswerCache, Answers, Place, aremembering, is_fresh_cache, remembering
from resilient.degrade.config import DegradeConfig
from resilient.degrade.fallbacks import as_astream, as_stream, fallbacks
from resilient.degrade.health import Health, ReportedHealth
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
        # Kept when the chain is compiled anew: a service that was unregistered stays so.
        self._health: Health | None = None
        self._health_of: tuple[int, str] | None = None
        self.apply(config)

    def apply(self, config: DegradeConfig) -> None:
        """Take over a configuration."""
        self.config = config
        self.handles = check.matcher(config.on)
        self._fallbacks = fallbacks(config.fallback)

    # Layers -------------------------------------------------------------------------------------

    def sync_layer(self, call: Layer, site: Site) -> Layer:
        """Call, and answer otherwise when that fails."""
        place = self.place(site)
        self._refuse_async(place.cache)
        cache = self.config.cache
        if is_fresh_cache(cache):
            return cast(Layer, cache.sync_layer(self, call, place))
        if isinstance(place.cache, AnswerCache):
            call = remembering(call, place.cache, place)
        return self.guarding(call, place)

    def async_layer(self, call: Layer, site: Site) -> Layer:
        """Call, and answer otherwise when that fails."""
        place = self.place(site)
        cache = self.config.cache
        if is_fresh_cache(cache):
            return cast(Layer, cache.async_layer(self, call, place))
        if isinstance(place.cache, AnswerCache):
            call = aremembering(call, place.cache, place)
        return self.aguarding(call, place)

    def generator_layer(self, call: Layer, site: Site) -> Layer:
        """Yield a fallback's items when the stream fails before its first item."""
        place = self._refuse_for_streams(site)
        self._refuse_async(None)
        return relay(lambda opening: self.guarding(opening, place, lambda answer: open_stream(as_stream(answer))), call)

    def async_generator_layer(self, call: Layer, site: Site) -> Layer:
        """Yield a fallback's items when the stream fails before its first item."""
        place = self._refuse_for_streams(site)
        return arelay(
            lambda opening: self.aguarding(opening, place, lambda answer: aopen_stream(as_astream(answer))), call
        )

    def guarding(
        self, call: Layer, place: Place, as_result: Callable[[Any], Any] | None = None, spares: bool = True
    ) -> Layer:
        """Call unless the manager spares the service, and answer otherwise where there is no answer.

        spares: whether to ask the manager; a layer around this one may have done so.
        """
        tally, health = self.tally, self.health()

        def degrade(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            epoch = 0
            if health is not None:
                if spares and health.gate and not health.admit():
                    answer = self.serve_spared(place, health, args, kwargs)
                    if answer is not MISSING:
                        return answer if as_result is None else as_result(answer)
                epoch = health.epoch
            try:
                result = call(args, kwargs)
            except Exception as error:
                if not self.handles(error):
                    tally.failed += 1
                    raise
                if health is not None:
                    health.failed(epoch)
                answer = self.serve(place, error, args, kwargs)
                if answer is MISSING:
                    raise
                return answer if as_result is None else as_result(answer)
            tally.succeeded += 1
            if health is not None and health.epoch == epoch:
                health.calls += 1
                if health.watch:
                    health.succeeded(epoch)
            return result

        return degrade

    def aguarding(
        self, call: Layer, place: Place, as_result: Callable[[Any], Any] | None = None, spares: bool = True
    ) -> Layer:
        """Call unless the manager spares the service, and answer otherwise where there is no answer."""
        tally, health = self.tally, self.health()

        async def degrade(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            epoch = 0
            if health is not None:
                if spares and health.gate and not health.admit():
                    answer = await self.aserve_spared(place, health, args, kwargs)
                    if answer is not MISSING:
                        return answer if as_result is None else await as_result(answer)
                epoch = health.epoch
            try:
                result = await call(args, kwargs)
            except Exception as error:
                if not self.handles(error):
                    tally.failed += 1
                    raise
                if health is not None:
                    health.failed(epoch)
                answer = await self.aserve(place, error, args, kwargs)
                if answer is MISSING:
                    raise
                return answer if as_result is None else await as_result(answer)
            tally.succeeded += 1
            if health is not None and health.epoch == epoch:
                health.calls += 1
                if health.watch:
                    health.succeeded(epoch)
            return result

        return degrade

    def place(self, site: Site) -> Place:
        """Where in its chain this degradation stands."""
        config = self.config
        cache: Answers | None = None
        if is_fresh_cache(config.cache):
            cache = config.cache.answers_of(site.fn, config.key)
        elif config.cache is not None:
            cache = AnswerCache(config.cache, config.key, site.fn)
        return Place(cache, is_cached_around(site), site.fn)

    def health(self) -> Health | None:
        """The health of the service, None without a manager."""
        manager: Any = self.config.manager
        service = self.config.service or self.name
        if manager is None:
            self._health = None
        elif self._health is None or self._health_of != (id(manager), service):
            # A manager of our own has the health at hand; any other is asked and told each time.
            ours = getattr(type(manager), "keeps_health", False) is True
            self._health = manager.health(service) if ours else ReportedHealth(manager, service)
            self._health_of = id(manager), service
        return self._health

    # Answers ------------------------------------------------------------------------------------

    def serve(self, place: Place, error: Exception | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The cached answer, or that of the first fallback that has one; MISSING when the error is to pass."""
        if place.cache is not None:
            answer = place.cache.load(args, kwargs)
            if answer is not MISSING:
                return self.cached(place, answer, error)
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

    async def aserve(self, place: Place, error: Exception | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The cached answer, or that of the first fallback that has one; MISSING when the error is to pass."""
        if place.cache is not None:
            answer = await place.cache.aload(args, kwargs)
            if answer is not MISSING:
                return self.cached(place, answer, error)
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

    def serve_spared(self, place: Place, health: Health | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The answer while the service is spared; MISSING where there is none, and the call may be made all the same.

        Raises DegradationError where there is none and the call must not be made, and where there are fallbacks, but
        `fallback_limit` of them are running.
        """
        answer = self.serve(place, None, args, kwargs)
        if answer is MISSING and health is not None and (health.strict or self._fallbacks):
            self.tally.failed += 1
            raise DegradationError(self.name)
        return answer

    async def aserve_spared(
        self, place: Place, health: Health | None, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """The answer while the service is spared; MISSING where there is none, and the call may be made all the same.

        Raises DegradationError where there is none and the call must not be made, and where there are fallbacks, but
        `fallback_limit` of them are running.
        """
        answer = await self.aserve(place, None, args, kwargs)
        if answer is MISSING and health is not None and (health.strict or self._fallbacks):
            self.tally.failed += 1
            raise DegradationError(self.name)
        return answer

    def _take_place(self) -> bool:
        """One of `fallback_limit` places for running fallbacks."""
        tally, limit = self.tally, self.config.fallback_limit
        if limit is not None and tally.running >= limit:
            return False
        tally.running += 1  # directly after the look: no switch of threads in between
        return True

    def cached(self, place: Place, answer: Any, error: Exception | None) -> Any:
        """Count and tell an answer from the cache; returns it."""
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

    # Refusals -----------------------------------------------------------------------------------

    def _refuse_async(self, cache: Answers | None) -> None:
        for fallback in self._fallbacks:
            if fallback.kind in (Kind.ASYNC, Kind.ASYNC_GENERATOR):
                raise TypeError(
                    f"fallback={describe(fallback.answer)} is async and cannot serve a sync function; make it sync"
                )
        if cache is not None and cache.is_async:
            raise TypeError(f"cache={self.config.cache!r} is async and cannot serve a sync function; use a sync one")

    def _refuse_for_streams(self, site: Site) -> Place:
        if self.config.cache is not None:
            raise TypeError("cache= cannot keep the answer of a generator function; guard what makes its items")
        for fallback in self._fallbacks:
            if not fallback.is_callable and not hasattr(fallback.answer, "__iter__"):
                raise TypeError(f"fallback={fallback.answer!r}: a generator function needs an iterable to fall back on")
        return self.place(site)

    def get_metrics(self) -> DegradeMetrics:
        """The numbers of now."""
        tally = self.tally
        return DegradeMetrics(tally.succeeded, tally.cached, tally.served, tally.failed, tally.running)

    def after_fork(self) -> None:
        """Forget the fallbacks that other threads were running."""
        self.tally.running = 0


def is_cached_around(site: Site) -> bool:
    """Whether a degradation further out in the same chain keeps answers."""
    return any(isinstance(one, Degradation) and one.config.cache is not None for one in site.outer)
