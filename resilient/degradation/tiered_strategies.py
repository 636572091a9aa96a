"""What a tier answers when its last try has failed, by strategy."""

from __future__ import annotations

import asyncio
import inspect
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from resilient.degradation.queues.calls import QueuedCall
from resilient.degradation.queues.memory import MemoryQueue
from resilient.degradation.queues.protocol import CallQueue
from resilient.degradation.queues.receipts import Receipt
from resilient.degradation.tiers import FallbackStrategy
from resilient.degrade.caches import MISSING, AnswerCache, Place
from resilient.degrade.fallbacks import Fallback
from resilient.degrade.policy import is_cached_around
from resilient.errors import DegradationError, is_retryable
from resilient.events import HUB, FallbackFailed, FallbackServed
from resilient.generators import Layer
from resilient.wrapping import Guarded, Site, describe

if TYPE_CHECKING:
    from resilient.degradation.tiered import TieredTimeout
    from resilient.degradation.tiered_call import TieredCall


class Tally:
    """How many calls there were, and how they ended."""

    __slots__ = ("calls", "degraded", "failed", "queued", "retried", "succeeded")

    def __init__(self) -> None:
        self.calls = self.succeeded = self.retried = self.degraded = self.queued = self.failed = 0


class LastResort:
    """What answers when the last try of one function has failed; `cache` has its good answers, for BEST_EFFORT."""

    __slots__ = ("_degraded", "_fn", "_is_async", "_policy", "_queued", "_strategy", "_tiers", "around", "cache")

    def __init__(
        self,
        policy: TieredCall,
        tiers: TieredTimeout,
        degraded: Fallback | None,
        site: Site,
        queued: Layer | None,
        is_async: bool,
    ) -> None:
        self._policy = policy
        self._tiers = tiers
        self._strategy = tiers.fallback_strategy
        self._degraded = degraded
        self._fn = site.fn
        self._is_async = is_async
        self._queued = queued
        best = self._strategy is FallbackStrategy.BEST_EFFORT
        self.cache = AnswerCache(tiers.answers, None, site.fn) if best else None
        self.around = Place(None, is_cached_around(site), _original(site.fn))

    def answer(self, error: Exception, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the strategy answers with, MISSING when the error is to pass."""
        if self.cache is not None:
            return self._best_known(self.cache.load(args, kwargs), error)
        if self._queued is not None and is_retryable(error):
            return self._put(self._tiers.queue, self._to_queue(self._queued, args, kwargs), error)
        path = self._path(args)
        if path is None:
            return MISSING
        try:
            answer = path[0](error, path[1], kwargs)
            if inspect.iscoroutine(answer):
                answer.close()
                raise TypeError(f"{self._policy.label}: the degraded path of a sync function returned a coroutine")
        except Exception as failure:
            self._all_failed(error, failure)
        return self._served(answer, error, "fallback")

    async def aanswer(self, error: Exception, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the strategy answers with, MISSING when the error is to pass."""
        if self.cache is not None:
            return self._best_known(self.cache.load(args, kwargs), error)
        if self._queued is not None and is_retryable(error):
            queue, call = self._tiers.queue, self._to_queue(self._queued, args, kwargs)
            if isinstance(queue, MemoryQueue):
                return self._put(queue, call, error)
            return await asyncio.to_thread(self._put, queue, call, error)  # it writes to a disk or a network
        path = self._path(args)
        if path is None:
            return MISSING
        try:
            answer = path[0](error, path[1], kwargs)
            if inspect.isawaitable(answer):
                answer = await answer
        except Exception as failure:
            self._all_failed(error, failure)
        return self._served(answer, error, "fallback")

    def _best_known(self, answer: Any, error: Exception) -> Any:
        if answer is not MISSING:
            return self._served(answer, error, "cache")
        default = self._tiers.default
        return MISSING if default is MISSING else self._served(default, error, "fallback")

    def _path(self, args: tuple[Any, ...]) -> tuple[Fallback, tuple[Any, ...]] | None:
        """The degraded path and its arguments: the one given, or that of the service whose method failed."""
        if self._strategy is not FallbackStrategy.GRACEFUL_DEGRADATION:
            return None
        if self._degraded is not None:
            return self._degraded, args
        if getattr(self._fn, "__name__", "") == "execute_degraded":
            return None  # it cannot stand in for itself
        service = getattr(self._fn, "__self__", None)
        if service is None and args and _is_method(self._fn, args[0]):
            service, args = args[0], args[1:]
        path = getattr(service, "execute_degraded", None)
        return None if path is None else (Fallback(path), args)

    def _served(self, answer: Any, error: Exception, source: str) -> Any:
        self._policy.tally.degraded += 1
        if HUB.wants(FallbackServed):
            HUB.publish(FallbackServed(self._policy.label, error, source))
        return answer

    def _all_failed(self, error: Exception, failure: Exception) -> NoReturn:
        self._policy.tally.failed += 1
        if HUB.wants(FallbackFailed):
            HUB.publish(FallbackFailed(self._policy.label, failure))
        try:
            raise DegradationError(self._policy.label, (error, failure)) from error
        finally:
            del error, failure  # the traceback has this frame, and the frame would have the errors

    def _to_queue(self, invoke: Layer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> QueuedCall:
        recipe = partial(self._policy.recipe, self._fn, self._is_async)
        return QueuedCall(describe(self._fn), invoke, recipe, args, kwargs, self._is_async)

    def _put(self, queue: CallQueue, call: QueuedCall, error: Exception) -> Receipt:
        """Queue the call that has failed; raises what the queue raises, from the call's error."""
        try:
            receipt = queue.put(call)
        except Exception as failure:
            self._policy.tally.failed += 1
            raise failure from error
        self._policy.tally.queued += 1
        return receipt


def _original(fn: Any) -> Any:
    """The function at the end of the chain, also where `fn` is guarded already and given to `execute`."""
    function = getattr(fn, "__func__", fn)
    return function.__wrapped__ if isinstance(function, Guarded) else fn


def _is_method(fn: Any, owner: Any) -> bool:
    """Whether `fn`, as guarded, is a method of the object."""
    found = inspect.getattr_static(type(owner), getattr(fn, "__name__", ""), None)
    return isinstance(found, Guarded) and found.__wrapped__ is fn
