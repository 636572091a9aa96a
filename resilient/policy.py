"""What all policies have in common: a name, a frozen configuration, and the ways to use them."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import inspect
import sys
import threading
import warnings
from collections.abc import Awaitable, Callable
from datetime import timedelta
from types import TracebackType
from typing import Any, ClassVar, ParamSpec, TypeVar, cast

from resilient._registry import registry
from resilient.generators import Layer, ahold, hold
from resilient.wrapping import FoundCoroutine, Kind, Site, chain, describe, guard, kind_of

F = TypeVar("F", bound="Callable[..., Any] | classmethod[Any, ..., Any] | staticmethod[..., Any]")
P = ParamSpec("P")
R = TypeVar("R")
Self = TypeVar("Self", bound="Policy")


class Composable:
    """Something that guards calls: a policy, or a pipeline of them."""

    kind: ClassVar[str]

    @property
    def parts(self) -> tuple[Policy, ...]:
        """The policies this stands for, outermost first."""
        raise NotImplementedError

    def __call__(self, fn: F, /) -> F:
        """Decorate a function, method, classmethod, staticmethod or any other callable."""
        if isinstance(fn, Composable):
            raise TypeError(
                f"{self!r} cannot guard {fn!r}, which is a policy itself: stack decorators, or use Pipeline"
            )
        return cast(F, guard(fn, self.parts))

    def call(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Make one guarded call of a sync (or generator) function."""
        if registry.off:
            return fn(*args, **kwargs)
        kind = kind_of(fn)
        if kind is Kind.ASYNC:
            raise TypeError(f"{describe(fn)} is async: use `await policy.acall(...)`")
        self._bind_parts(fn)
        try:
            return cast(
                R, chain(_sync_seam(fn), kind or Kind.SYNC, self.parts, fn, by_method=self._is_several)(args, kwargs)
            )
        except FoundCoroutine as found:
            found.coroutine.close()
        raise TypeError(f"{describe(fn)} returned a coroutine: use `await policy.acall(...)`")

    async def acall(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Make one guarded call of an async function."""
        if registry.off:
            return await fn(*args, **kwargs)
        if kind_of(fn) in (Kind.GENERATOR, Kind.ASYNC_GENERATOR):
            raise TypeError(f"{describe(fn)} is a generator function: iterate over `policy(fn)(...)`")
        self._bind_parts(fn)
        return cast(
            R, await chain(_async_seam(fn), Kind.ASYNC, self.parts, fn, by_method=self._is_several)(args, kwargs)
        )

    @property
    def _is_several(self) -> bool:
        """Whether it stands for others, which may have a `call` of their own; its own has been called already."""
        return self.parts[0] is not self

    def _bind_parts(self, fn: Any) -> None:
        for policy in self.parts:
            if policy._name is None:
                policy.bind(fn)


def _sync_seam(fn: Callable[..., Any]) -> Layer:
    def invoke(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = fn(*args, **kwargs)
        if inspect.iscoroutine(result):
            raise FoundCoroutine(result)  # through all policies: none of them is to retry, count or answer that
        return result

    return invoke


def _async_seam(fn: Callable[..., Any]) -> Layer:
    async def invoke(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = fn(*args, **kwargs)
        return await result if inspect.isawaitable(result) else result

    return invoke


class Policy(Composable):
    """One resilience pattern with its configuration and state.

    Reusable: as a decorator on many functions, which then share its state, and as `call` / `acall`.
    """

    config: Any
    #: The kinds of functions that a subclass guards by a `call` or `acall` of its own.
    own_calls: ClassVar[frozenset[Kind]] = frozenset()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        own = (cls.call is not Composable.call and Kind.SYNC, cls.acall is not Composable.acall and Kind.ASYNC)
        cls.own_calls = frozenset(kind for kind in own if kind)

    def __init__(self, config: Any, name: str | None) -> None:
        self.config = config
        #: The configuration as it was written, before any live change.
        self.defined = config
        self._name = name

    @property
    def name(self) -> str:
        """The name given, or `module.qualname` of the first function guarded."""
        if self._name is None:
            self._name = registry.name_automatically(self.kind, self.kind, self)
        return self._name

    @property
    def parts(self) -> tuple[Policy, ...]:
        """The policy itself."""
        return (self,)

    def bind(self, fn: Any) -> None:
        """Take the name of the function, unless there is a name already."""
        if self._name is None:
            self._name = registry.name_automatically(self.kind, describe(fn), self)

    def sync_layer(self, call: Layer, site: Site) -> Layer:
        """A layer for sync functions around `call`."""
        raise NotImplementedError

    def async_layer(self, call: Layer, site: Site) -> Layer:
        """A layer for async functions around `call`."""
        raise NotImplementedError

    def generator_layer(self, call: Layer, site: Site) -> Layer:
        """A layer for generator functions."""
        raise TypeError(f"@{self.kind} cannot guard a generator function; guard what it calls for each item")

    def async_generator_layer(self, call: Layer, site: Site) -> Layer:
        """A layer for async generator functions."""
        raise TypeError(f"@{self.kind} cannot guard an async generator function; guard what it awaits for each item")

    #: How many calls of the function one call through this policy may make; for `Pipeline.check`.
    amplification: float = 1

    def bound(self, seconds: float) -> float:
        """The longest a call through this policy may take, if one of what it calls takes so long at most."""
        return seconds

    def uses(self) -> tuple[Policy, ...]:
        """Other policies that this one has built in."""
        return ()

    def keep_until_done(self, job: Any) -> None:
        """A timeout further in has stopped waiting for a call that still runs; `job.when_done` tells of its end."""

    def get_metrics(self) -> Any:
        """The numbers of now, as a frozen tuple with names."""
        raise NotImplementedError

    def apply(self, config: Any) -> None:
        """Take over a changed configuration, keeping the state."""
        self.config = config

    def reconfigure(self, changes: dict[str, Any]) -> None:
        """Change options of the live policy; a bad change raises and changes nothing."""
        options = {field.name for field in dataclasses.fields(self.config)}
        unknown = sorted(set(changes) - options)
        if unknown:
            raise TypeError(f"{self.kind} has no option {', '.join(unknown)}; it has {', '.join(sorted(options))}")
        self.apply(dataclasses.replace(self.config, **changes))

    def describe(self) -> dict[str, Any]:
        """Metrics and configuration in plain dicts, lists, numbers and strings."""
        numbers = {key: plain(value) for key, value in self.get_metrics()._asdict().items()}
        options = {f.name: plain(getattr(self.config, f.name)) for f in dataclasses.fields(self.config)}
        return {"kind": self.kind, "name": self.name, **numbers, "config": options}

    def after_fork(self) -> None:
        """Make the policy usable in a forked child."""

    def __repr__(self) -> str:
        return f"<{self.kind} {self._name or 'unnamed'}>"


def plain(value: Any) -> Any:
    """The value as JSON knows it; callables and types by name, everything else by its repr."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, (tuple, list)):
        return [plain(part) for part in value]
    if isinstance(value, Policy):
        return value.name
    if hasattr(type(value), "current_limit"):
        return repr(value)  # a limit that adapts: its options, and nothing of its users
    if isinstance(value, type) or callable(value):
        return describe(value)
    return f"<{type(value).__name__}>"


class BlockPolicy(Policy):
    """A policy that can also guard a block: `with policy:` and `async with policy:`.

    Works across threads, tasks and contexts: each block's permit is kept with who has entered it.
    """

    def __init__(self, config: Any, name: str | None) -> None:
        super().__init__(config, name)
        self._blocks: list[tuple[tuple[int, int], tuple[int, Any], Any]] = []
        self._blocks_lock = threading.RLock()

    def enter(self) -> Any:
        """Obtain a permit, or raise."""
        raise NotImplementedError

    async def aenter(self) -> Any:
        """Obtain a permit, or raise."""
        raise NotImplementedError

    def leave(self, permit: Any, error: BaseException | None) -> None:
        """Give the permit back with how the call ended."""
        raise NotImplementedError

    def generator_layer(self, call: Layer, site: Site) -> Layer:
        """Hold a permit for the whole iteration."""
        return hold(call, self.enter, self.leave)

    def async_generator_layer(self, call: Layer, site: Site) -> Layer:
        """Hold a permit for the whole iteration."""
        return ahold(call, self.aenter, self.leave)

    def __enter__(self: Self) -> Self:
        cast(BlockPolicy, self)._push(None if registry.off else cast(BlockPolicy, self).enter())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._leave_block(error)

    async def __aenter__(self: Self) -> Self:
        cast(BlockPolicy, self)._push(None if registry.off else await cast(BlockPolicy, self).aenter())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._leave_block(error)

    def _leave_block(self, error: BaseException | None) -> None:
        permit = self._pop()
        if permit is not None:
            self.leave(permit, error)

    def _push(self, permit: Any) -> None:
        frame = sys._getframe(2)
        with self._blocks_lock:
            self._blocks.append(((id(frame), id(frame.f_code)), _here(), permit))

    def _pop(self) -> Any:
        """The permit of the block that is left: entered by the same frame, or else in the same task, or anywhere.

        A block may be left elsewhere than it was entered (an exit stack, a fixture, a generator that is closed).
        A frame that has ended may have left its address to another, but hardly to one that runs the same code.
        """
        frame = sys._getframe(3)
        key, here = (id(frame), id(frame.f_code)), _here()
        with self._blocks_lock:
            while True:
                blocks = self._blocks[::-1]
                by_frame = [block for block in blocks if block[0] == key]
                by_task = [block for block in blocks if block[1] == here]
                by_both = [block for block in by_frame if block[1] == here]
                block = (by_both or by_frame or by_task or blocks[-1:])[0]
                # Not there any more: the garbage collector has just closed a generator in this thread, which took it.
                if block in self._blocks:
                    self._blocks.remove(block)
                    return block[2]

    def after_fork(self) -> None:
        """Make the policy usable in a forked child."""
        super().after_fork()
        self._blocks_lock = threading.RLock()


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The event loop running in this thread, if any."""
    return asyncio._get_running_loop()


def _here() -> tuple[int, Any]:
    """The thread and, inside an event loop, the task."""
    loop = running_loop()
    return threading.get_ident(), None if loop is None else asyncio.current_task(loop)


def warn_if_loop_blocked(what: str) -> None:
    """Warn when a sync wait would stop a running event loop."""
    if running_loop() is not None:
        level = 2
        frame: Any = sys._getframe(1)
        while frame is not None and frame.f_globals.get("__name__", "").startswith("resilient."):
            frame = frame.f_back
            level += 1
        warnings.warn(
            f"{what} inside a running event loop, which stands still meanwhile: use an async function",
            RuntimeWarning,
            stacklevel=level,
        )
