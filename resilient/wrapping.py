"""The one proxy around a guarded callable, and how its policies become one chain.

A layer is a function `layer(args, kwargs)` that calls the next one; the innermost is the seam, which calls the user's
function. The outermost becomes the proxy's entry, which takes `*args, **kwargs`. Changing a policy compiles the chain
again and swaps the entry, so what is off costs nothing.
"""

from __future__ import annotations

import asyncio
import enum
import functools
import inspect
import weakref
from collections.abc import Callable, Coroutine
from functools import partial
from types import CodeType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import wrapt

from resilient._registry import registry
from resilient.generators import Layer

if TYPE_CHECKING:
    from resilient.policy import Policy

_FLAVOURS = inspect.CO_COROUTINE | inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR | inspect.CO_ITERABLE_COROUTINE


class Kind(enum.Enum):
    """What calling a function gives, and so which of a policy's four layers guards it."""

    SYNC = "sync_layer"
    ASYNC = "async_layer"
    GENERATOR = "generator_layer"
    ASYNC_GENERATOR = "async_generator_layer"


def kind_of(fn: Any) -> Kind | None:
    """What kind of callable this is; None where only a call can tell (a lambda, a plain wrapper of a coroutine)."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    code = getattr(fn, "__code__", None)
    if not isinstance(code, CodeType):
        code = None
    if code is None and not isinstance(fn, MethodType) and not inspect.iscoroutinefunction(fn):
        call = getattr(type(fn), "__call__", None)
        if isinstance(call, FunctionType):
            return kind_of(call)
    flags = code.co_flags & _FLAVOURS if code is not None else 0
    if flags & inspect.CO_ASYNC_GENERATOR:
        return Kind.ASYNC_GENERATOR
    if flags & (inspect.CO_COROUTINE | inspect.CO_ITERABLE_COROUTINE) or inspect.iscoroutinefunction(fn):
        return Kind.ASYNC
    if flags & inspect.CO_GENERATOR:
        return Kind.GENERATOR
    inner = getattr(fn, "__wrapped__", None)
    if getattr(fn, "__name__", "") == "<lambda>" or (inner is not None and kind_of(inner) is not Kind.SYNC):
        # A wrapper such as @contextmanager's has a generator inside and is none; a call will tell.
        return None
    return Kind.SYNC


def describe(fn: Any) -> str:
    """`module.qualname` of a callable, also of a partial, a bound method or an object."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    if not hasattr(fn, "__qualname__"):
        fn = type(fn)
    module = getattr(fn, "__module__", None)
    return f"{module}.{fn.__qualname__}" if module else str(fn.__qualname__)


class FoundCoroutine(BaseException):
    """Thrown up the chain by the seam of a plain function that turns out to return a coroutine.

    Not an Exception: every policy lets it through and gives its permit back.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self.coroutine = coroutine


def _seam(fn: Callable[..., Any]) -> Layer:
    def invoke(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return fn(*args, **kwargs)

    return invoke


def _watchful_seam(fn: Callable[..., Any], settle: Callable[[Kind], None]) -> Layer:
    """For a plain function while it is unknown what it returns."""

    def invoke(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = fn(*args, **kwargs)
        if isinstance(result, Coroutine):
            raise FoundCoroutine(result)
        settle(Kind.SYNC)
        return result

    return invoke


def _recorded_seam(fn: Callable[..., Any], settle: Callable[[Kind], None], outcome: Callable[[], Any]) -> Layer:
    """The same, with the outcome of a call that has been made already as the first one."""
    waiting, later = [outcome], _watchful_seam(fn, settle)

    def invoke(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return waiting.pop()() if waiting else later(args, kwargs)

    return invoke


def _raise(error: Exception) -> NoReturn:
    raise error


def _identity(value: Any) -> Any:
    return value


def _resumed_seam(fn: Callable[..., Any], first: Coroutine[Any, Any, Any]) -> Layer:
    waiting = [first]

    def invoke(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return waiting.pop() if waiting else fn(*args, **kwargs)

    return invoke


class StandIns:
    """What is called in the place of guarded functions while faults are injected; asked when a chain is compiled."""

    __slots__ = ("find",)

    def __init__(self) -> None:
        self.find: Callable[[Guarded], Any] | None = None


STAND_INS = StandIns()


class Site(NamedTuple):
    """Where a layer stands: the function at the end of its chain, and the policies around it, outermost first.

    direct: there is nothing but a plain seam between the layer and the function.
    """

    fn: Any
    outer: tuple[Policy, ...]
    direct: bool = False


async def _ending(
    first: Coroutine[Any, Any, Any], resumed: Layer, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Await a chain, and close the coroutine it was made for where a policy has not let it begin."""
    try:
        return await resumed(args, kwargs)
    finally:
        first.close()


def chain(
    call: Layer, kind: Kind, policies: tuple[Policy, ...], fn: Any, direct: bool = False, by_method: bool = True
) -> Layer:
    """Put the policies' layers around `call`, which calls `fn`; the first policy is the outermost.

    direct: `call` does nothing but call `fn`, so the innermost layer may do so itself.
    by_method: a policy whose class has a `call` or `acall` of its own guards by that; not within that method.
    """
    for index in range(len(policies) - 1, -1, -1):
        policy = policies[index]
        if by_method and kind in policy.own_calls:
            call = _by_acall(policy, call) if kind is Kind.ASYNC else _by_call(policy, call)
        else:
            innermost = direct and index == len(policies) - 1
            call = getattr(policy, kind.value)(call, Site(fn, policies[:index], innermost))
    return call


def _by_call(policy: Policy, call: Layer) -> Layer:
    def inner(*args: Any, **kwargs: Any) -> Any:
        return call(args, kwargs)

    def own(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return policy.call(inner, *args, **kwargs)

    return own


def _by_acall(policy: Policy, call: Layer) -> Layer:
    async def inner(*args: Any, **kwargs: Any) -> Any:
        return await call(args, kwargs)

    async def own(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return await policy.acall(inner, *args, **kwargs)

    return own


@functools.lru_cache(maxsize=256)
def _variadic(code: CodeType) -> CodeType:
    return code.replace(
        co_argcount=0, co_posonlyargcount=0, co_flags=code.co_flags | inspect.CO_VARARGS | inspect.CO_VARKEYWORDS
    )


def as_entry(layer: Any) -> Callable[..., Any]:
    """The same function, taking `*args, **kwargs` in place of a tuple and a dict.

    Not a wrapper around it: that frame would cost as much as two policies.
    """
    return FunctionType(
        _variadic(layer.__code__), layer.__globals__, layer.__name__, layer.__defaults__, layer.__closure__
    )


def _unused(*_: object) -> NoReturn:
    raise AssertionError("the proxy dispatches through its __call__ slot")


class Guarded(wrapt.FunctionWrapper):  # type: ignore[type-arg]
    """A callable with policies around it; in all other respects the callable itself.

    `policies` lists them, outermost first; `__wrapped__` is the original.
    """

    # The slot makes the call dispatch straight to the compiled chain, without a Python frame in between.
    __slots__ = ("__call__",)

    def __init__(self, fn: Callable[..., Any], policies: tuple[Policy, ...], kind: Kind | None) -> None:
        super().__init__(fn, _unused)
        self._self_policies = policies
        # The kind once it is known for sure: a plain function may turn out to return coroutines.
        self._self_kind: Kind | None = None if kind is Kind.SYNC else kind
        with registry.lock:
            entry = self.compiled()  # before anybody knows of it: what is refused is not to be compiled again
            registry.watch(self)
            self.install(entry)

    @property
    def policies(self) -> tuple[Policy, ...]:
        """The policies around the function, outermost first."""
        return self._self_policies

    def recompile(self) -> None:
        """Build the chain anew and swap it in."""
        with registry.lock:
            self.install(self.compiled())

    def compiled(self) -> Callable[..., Any]:
        """The entry into a newly built chain; raises TypeError for what a policy cannot guard."""
        kind, policies = self._self_kind, self._self_policies
        fn = self.__wrapped__ if STAND_INS.find is None else STAND_INS.find(self)
        if kind is None:
            return self._learning_entry(fn)
        return as_entry(chain(_seam(fn), kind, policies, fn, direct=True))

    def install(self, entry: Callable[..., Any]) -> None:
        """Let calls go through this entry, or to the function itself while everything is disabled."""
        _set_entry(self, self.__wrapped__ if registry.off else entry)

    def _learning_entry(self, fn: Any) -> Callable[..., Any]:
        """An entry for the first calls of a plain function: until it returns, nobody knows what."""
        policies = self._self_policies
        settle = partial(_settle, weakref.ref(self))
        guarded = chain(_watchful_seam(fn, settle), Kind.SYNC, policies, fn)
        unsure = kind_of(self.__wrapped__) is None

        def learn(*args: Any, **kwargs: Any) -> Any:
            if unsure and asyncio._get_running_loop() is not None:
                return first_in_a_loop(args, kwargs)
            try:
                return guarded(args, kwargs)
            except FoundCoroutine as found:
                first = found.coroutine
            return resume(first, args, kwargs)

        def first_in_a_loop(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            # Sync layers might wait and stop the loop, or call it in a thread that has none.
            outcome: Callable[[], Any]
            try:
                result = fn(*args, **kwargs)
            except Exception as error:
                outcome = partial(_raise, error)
            else:
                if isinstance(result, Coroutine):
                    return resume(result, args, kwargs)
                settle(Kind.SYNC)
                outcome = partial(_identity, result)
            return chain(_recorded_seam(fn, settle, outcome), Kind.SYNC, policies, fn)(args, kwargs)

        def resume(first: Coroutine[Any, Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            try:
                resumed = chain(_resumed_seam(fn, first), Kind.ASYNC, policies, fn)
                settle(Kind.ASYNC)
            except BaseException:
                first.close()
                raise
            return _ending(first, resumed, args, kwargs)

        return learn

    def __set_name__(self, owner: Any, name: str) -> None:
        if name in ("__init_subclass__", "__class_getitem__"):
            # Python makes plain functions of these names classmethods, but does not know that this is one.
            type.__setattr__(owner, name, classmethod(self))

    def settle(self, kind: Kind) -> None:
        """Go on knowing what kind of callable this is."""
        self._self_kind = kind
        self.recompile()

    @property
    def settled(self) -> Kind | None:
        """What kind of callable this is, None while only a call can tell."""
        return self._self_kind

    def __get__(self, obj: Any, owner: Any = None) -> Any:
        # wrapt's own bound wrapper would call past the slot.
        return self if obj is None else MethodType(self, obj)

    def __copy__(self) -> Guarded:
        return self

    def __deepcopy__(self, memo: object) -> Guarded:
        return self

    def __reduce_ex__(self, protocol: Any) -> str:
        name = getattr(self.__wrapped__, "__qualname__", None)
        if name is None:
            import pickle  # not for everybody who imports the package

            raise pickle.PicklingError(
                f"{self!r} has no name to be pickled by; pickle what it wraps, and guard it anew"
            )
        return str(name)

    def __reduce__(self) -> str:
        return self.__reduce_ex__(2)

    def __repr__(self) -> str:
        return f"<{describe(self.__wrapped__)} guarded by {', '.join(map(repr, self._self_policies))}>"


class GuardedObject(Guarded):
    """The same around a callable that does not bind as a method: a partial, a builtin, an object with `__call__`."""

    __slots__ = ()

    def __get__(self, obj: Any, owner: Any = None) -> Any:
        return self


_set_entry = Guarded.__dict__["__call__"].__set__


def _settle(learner: weakref.ref[Guarded], kind: Kind) -> None:
    guarded = learner()
    if guarded is not None:
        guarded.settle(kind)


def guard(fn: Any, policies: tuple[Policy, ...]) -> Any:
    """Guard `fn` by these policies, outermost first; around an already guarded function they become its outer ones."""
    if isinstance(fn, (classmethod, staticmethod)):
        return type(fn)(guard(fn.__func__, policies))
    _refuse(fn, policies)
    inner: tuple[Policy, ...] = ()
    proxy: Any = None
    if isinstance(fn, MethodType) and isinstance(fn.__func__, Guarded):
        inner, fn = fn.__func__.policies, MethodType(fn.__func__.__wrapped__, fn.__self__)
    kind = kind_of(fn)
    if isinstance(fn, Guarded):
        kind, proxy = fn.settled or kind, type(fn)  # a kind of proxy with more to show stays one
        inner, fn = fn.policies, fn.__wrapped__
    for policy in policies:
        policy.bind(fn)
    binds = hasattr(type(fn), "__get__") and not isinstance(fn, (MethodType, functools.partial))
    return (proxy or (Guarded if binds else GuardedObject))(fn, policies + inner, kind)


_UNGUARDABLE = {
    property: "decorate the function below @property",
    functools.cached_property: "decorate the function below @cached_property",
    functools.singledispatchmethod: "decorate the registered implementations",
    functools.partialmethod: "decorate the method it calls",
}


def _refuse(fn: Any, policies: tuple[Policy, ...]) -> None:
    """Raise TypeError for what cannot be guarded, with what to do instead."""
    name = f"@{policies[0].kind}" if policies else "a pipeline"
    for kind, remedy in _UNGUARDABLE.items():
        if isinstance(fn, kind):
            raise TypeError(f"{name} cannot guard a {kind.__name__}: {remedy}")
    if not callable(fn):
        raise TypeError(f"{name} cannot guard {fn!r}: it is not callable; give options by keyword")
