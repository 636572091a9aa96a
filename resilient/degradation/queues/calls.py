"""A call to be made later: in this process by its compiled chain, in another one by a recipe that can be pickled."""

from __future__ import annotations

import asyncio
import functools
import importlib
import inspect
import pickle
import weakref
from collections.abc import Callable
from concurrent import futures
from dataclasses import dataclass
from typing import Any, Protocol

from resilient.errors import ConfigurationError
from resilient.generators import Layer
from resilient.policy import running_loop
from resilient.timeout import Timeout, TimeoutConfig
from resilient.wrapping import Guarded, Kind, Site, chain, describe, kind_of

_LOOK = 0.1  # seconds between looks whether the loop that makes a call still runs


class Recipe(Protocol):
    """What a durable queue keeps of a call besides its arguments."""

    def layer(self) -> Layer:
        """What makes the call; raises ConfigurationError where that cannot be found any more."""


class QueuedCall:
    """A call with its arguments; `invoke` makes one attempt, bounded in time."""

    __slots__ = ("args", "invoke", "is_async", "kwargs", "loop", "name", "recipe")

    def __init__(
        self,
        name: str,
        invoke: Layer,
        recipe: Callable[[], Recipe],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        is_async: bool,
    ) -> None:
        self.name = name
        self.invoke = invoke
        self.recipe = recipe
        self.args = args
        self.kwargs = kwargs
        self.is_async = is_async
        loop = running_loop() if is_async else None
        #: The event loop that the call was queued from, and where it is made as long as that loop runs.
        self.loop: Callable[[], asyncio.AbstractEventLoop | None] = _nowhere if loop is None else weakref.ref(loop)

    @classmethod
    def of(
        cls, fn: Callable[..., Any], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None, limit: float = 60
    ) -> QueuedCall:
        """A plain call of a sync or async function, with `limit` seconds for each attempt."""
        recipe = PlainCall(fn, limit, _is_async(fn))
        return cls(describe(fn), recipe.layer(), lambda: recipe, args, kwargs or {}, recipe.is_async)

    def pickled(self) -> bytes:
        """The call for another process; raises ConfigurationError for what cannot go there."""
        recipe = self.recipe()
        try:
            return _round_trip((recipe, self.is_async, self.args, self.kwargs))
        except (Exception, SystemExit) as error:
            raise ConfigurationError(
                f"{self.name} cannot be queued durably: {_culprit(recipe, self.args, self.kwargs)} cannot be pickled "
                f"(or not made again from its pickle: {type(error).__name__}). Use functions defined at the top level "
                "of a module and arguments that can be pickled, or a MemoryQueue"
            ) from error

    def __repr__(self) -> str:
        return f"<queued call of {self.name}>"


def _nowhere() -> None:
    return None


def _is_async(fn: Any) -> bool:
    if not callable(fn):
        raise TypeError(f"{type(fn).__name__} cannot be queued: pass a function")
    kind = kind_of(fn)
    if kind in (Kind.GENERATOR, Kind.ASYNC_GENERATOR):
        raise TypeError(f"{describe(fn)} cannot be queued: a call of a generator function does nothing by itself")
    return kind is Kind.ASYNC


def _round_trip(value: Any) -> bytes:
    raw = pickle.dumps(value)
    pickle.loads(raw)  # noqa: S301 - our own bytes: some objects can be pickled and not be made again
    return raw


def _culprit(recipe: Recipe, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """What of a call cannot be pickled; never its value, which may be a secret."""
    parts = [
        ("the function", recipe),
        *((f"argument {number} (a {type(value).__name__})", value) for number, value in enumerate(args, 1)),
        *((f"argument {name} (a {type(value).__name__})", value) for name, value in kwargs.items()),
    ]
    for what, value in parts:
        try:
            _round_trip(value)
        except (Exception, SystemExit):
            return what
    return "the call"


# What makes the call --------------------------------------------------------------------------------


@functools.lru_cache(maxsize=64)
def _limit(limit: float) -> Timeout:
    # Shared by calls of equal limits, so that their abandoned threads are counted and bounded together.
    return Timeout(TimeoutConfig(limit), f"queued calls, {limit:g} s")


def seam(fn: Callable[..., Any], is_async: bool) -> Layer:
    """The innermost layer, which calls the function."""

    def invoke(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return fn(*args, **kwargs)

    async def ainvoke(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = fn(*args, **kwargs)
        return await result if inspect.isawaitable(result) else result

    return ainvoke if is_async else invoke


@dataclass(frozen=True, slots=True)
class PlainCall:
    """A function as it is, with a limit for each attempt."""

    fn: Callable[..., Any]
    limit: float
    is_async: bool

    def layer(self) -> Layer:
        """The function within its limit."""
        policy, call = _limit(self.limit), seam(self.fn, self.is_async)
        site = Site(self.fn, ())
        return policy.async_layer(call, site) if self.is_async else policy.sync_layer(call, site)


@dataclass(frozen=True, slots=True)
class GuardedCall:
    """What lies within one policy of a guarded function, which is found by its name.

    The policy itself would queue the call again, and those around it have done with the call.
    """

    module: str
    qualname: str
    place: int
    is_async: bool

    @classmethod
    def within(cls, policy: Any, fn: Any, is_async: bool) -> GuardedCall:
        """The recipe for `fn` as guarded by this very policy; raises ConfigurationError where no name leads there."""
        module, qualname = getattr(fn, "__module__", None), getattr(fn, "__qualname__", "")
        try:
            found = find(str(module), qualname)
        except ConfigurationError as error:
            raise _nameless(fn, error) from error
        for place, one in enumerate(found.policies):
            if one is policy and found.__wrapped__ is fn:
                return cls(str(module), qualname, place, is_async)
        raise _nameless(fn, f"{module}.{qualname} is something else")

    def layer(self) -> Layer:
        """The policies within ours, and the function, within the limit of the last try."""
        guarded = find(self.module, self.qualname)
        policy = guarded.policies[self.place] if self.place < len(guarded.policies) else None
        bounded = getattr(policy, "bounded", None)
        if bounded is None:
            raise ConfigurationError(f"{self.module}.{self.qualname} has no tiered timeout at its place {self.place}")
        fn = guarded.__wrapped__
        kind = Kind.ASYNC if self.is_async else Kind.SYNC
        inner = chain(seam(fn, self.is_async), kind, guarded.policies[self.place + 1 :], fn)
        layer: Layer = bounded(inner, Site(fn, ()), self.is_async)
        return layer


def find(module: str, qualname: str) -> Any:
    """The guarded function of this name; raises ConfigurationError."""
    try:
        target: Any = importlib.import_module(module)
        for part in qualname.split("."):
            target = inspect.getattr_static(target, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(f"there is no {module}.{qualname} ({error})") from error
    if isinstance(target, (classmethod, staticmethod)):
        target = target.__func__
    while not isinstance(target, Guarded):
        target = getattr(target, "fget", None) or getattr(target, "__wrapped__", None)
        if target is None:
            raise ConfigurationError(f"{module}.{qualname} is not guarded")
    return target


def _nameless(fn: Any, reason: object) -> ConfigurationError:
    return ConfigurationError(
        f"{describe(fn)} cannot be queued durably: another process could not find it by its name ({reason}). "
        "Decorate a function where it is defined, at the top level of a module or in a class there, or use a "
        "MemoryQueue"
    )


# Where the call is made -----------------------------------------------------------------------------


class Runner:
    """Makes the calls of one worker thread: async ones in the loop they came from, or in a loop of the thread's own."""

    __slots__ = ("_own",)

    def __init__(self) -> None:
        self._own: asyncio.Runner | None = None

    def run(
        self,
        invoke: Layer,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        is_async: bool,
        loop: asyncio.AbstractEventLoop | None,
    ) -> Any:
        """Make one attempt."""
        if not is_async:
            return invoke(args, kwargs)
        try:
            if loop is not None and loop.is_running():
                return _run_there(loop, invoke, args, kwargs)
            if self._own is None:
                self._own = asyncio.Runner()
            return self._own.run(invoke(args, kwargs))
        except (asyncio.CancelledError, futures.CancelledError):
            # Nobody has cancelled the queued call: its loop has ended under it.
            raise RuntimeError("the attempt was cancelled, or its event loop ended") from None

    def close(self) -> None:
        """Close the thread's own loop."""
        if self._own is not None:
            self._own.close()
            self._own = None


def _run_there(loop: asyncio.AbstractEventLoop, invoke: Layer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    coroutine = invoke(args, kwargs)
    try:
        future = asyncio.run_coroutine_threadsafe(coroutine, loop)
        while not futures.wait((future,), _LOOK).done:
            if not loop.is_running():
                future.cancel()
                raise futures.CancelledError
        return future.result()
    finally:
        if inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:
            coroutine.close()  # the loop has not come to it
