"""What a decorated callable still is: its names, signature, kind, copies, pickles and attributes."""

import asyncio
import contextlib
import copy
import functools
import inspect
import pickle
import sys

import pytest

from resilient import Pipeline, bulkhead, circuit_breaker, degrade, retry, timeout

from .helpers import run
from .kinds import KINDS, STREAM_KINDS, Script

POLICIES = {
    "retry": lambda: retry(max_attempts=2, base_delay=0),
    "circuit_breaker": lambda: circuit_breaker(failure_threshold=3),
    "bulkhead": lambda: bulkhead(max_concurrent=2),
    "timeout": lambda: timeout(5),
    "degrade": lambda: degrade(fallback=None),
    "Pipeline": lambda: Pipeline(retry(base_delay=0), timeout(5)),
    "stacked": lambda: lambda function: retry(base_delay=0)(circuit_breaker(failure_threshold=9)(function)),
}
every_policy = pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES.keys())

SHOWN = {
    "signature": inspect.signature,
    "name": lambda target: getattr(target, "__name__", None),
    "qualname": lambda target: getattr(target, "__qualname__", None),
    "doc": lambda target: target.__doc__,
    "module": lambda target: target.__module__,
    "annotations": lambda target: getattr(target, "__annotations__", None),
    "defaults": lambda target: getattr(target, "__defaults__", None),
    "iscoroutinefunction": inspect.iscoroutinefunction,
    "asyncio.iscoroutinefunction": asyncio.iscoroutinefunction,
    "isgeneratorfunction": inspect.isgeneratorfunction,
    "isasyncgenfunction": inspect.isasyncgenfunction,
    "ismethod": inspect.ismethod,
    "callable": callable,
}


@every_policy
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_metadata_is_that_of_the_original(kind, policy):
    """Everything `inspect` and `functools` can ask is answered as the undecorated callable answers it."""
    plain = kind.build(Script(), lambda thing: thing)
    try:
        guarded = kind.build(Script(), policy())
    except TypeError:
        assert kind in STREAM_KINDS
        return
    assert {name: show(guarded) for name, show in SHOWN.items()} == {name: show(plain) for name, show in SHOWN.items()}


def add(left: int, right: int = 2, *rest: int, scale: float = 1.0, **more: int) -> float:
    """Add numbers."""
    return (left + right + sum(rest) + sum(more.values())) * scale


async def aadd(left: int, right: int = 2, *rest: int, scale: float = 1.0, **more: int) -> float:
    """Add numbers."""
    return add(left, right, *rest, scale=scale, **more)


@every_policy
def test_arguments_of_every_form_arrive(policy):
    """Positional, default, star, keyword-only and double-star arguments arrive as given."""
    assert policy()(add)(1) == 3
    assert policy()(add)(1, 2, 3, scale=2.0, extra=4) == 20.0
    assert run(policy()(aadd)(1)) == 3
    assert run(policy()(aadd)(1, 2, 3, scale=2.0, extra=4)) == 20.0


NAMES = ["self", "cls", "fn", "func", "function", "name", "args", "kwargs", "call", "policy", "wrapped", "instance"]


def named(self, cls, fn, func, function, name, args, kwargs, call, policy, wrapped, instance):
    return [self, cls, fn, func, function, name, args, kwargs, call, policy, wrapped, instance]


async def anamed(self, cls, fn, func, function, name, args, kwargs, call, policy, wrapped, instance):
    return [self, cls, fn, func, function, name, args, kwargs, call, policy, wrapped, instance]


@every_policy
def test_any_argument_name_is_free(policy):
    """A guarded function may call its own parameters self, fn, func, name, args, kwargs, call and so on."""
    given = {name: number for number, name in enumerate(NAMES)}
    assert policy()(named)(**given) == list(given.values())
    assert run(policy()(anamed)(**given)) == list(given.values())


@pytest.mark.parametrize("policy", [v for k, v in POLICIES.items() if k != "stacked"], ids=lambda p: "")
def test_any_argument_name_is_free_in_call(policy):
    """`policy.call` and `policy.acall` leave every keyword to the function."""
    given = {name: number for number, name in enumerate(NAMES)}
    assert policy().call(named, **given) == list(given.values())
    assert run(policy().acall(anamed, **given)) == list(given.values())


@every_policy
@pytest.mark.parametrize("original", [add, aadd], ids=["sync", "async"])
def test_pickle_by_name(policy, original, monkeypatch):
    """A guarded module-level function pickles as its name and comes back as the same object."""
    guarded = policy()(original)
    monkeypatch.setattr(sys.modules[__name__], original.__name__, guarded)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(guarded, protocol)) is guarded  # noqa: S301 - our own pickle


@every_policy
def test_copies_work(policy):
    """copy and deepcopy of a guarded function give something that still works and still is guarded."""
    for duplicate in (copy.copy, copy.deepcopy):
        assert duplicate(policy()(add))(1) == 3
        assert duplicate(policy()(add)).policies
        assert run(duplicate(policy()(aadd))(1)) == 3


@every_policy
def test_wrapped_is_the_original(policy):
    """`__wrapped__` is the original function itself, however many policies lie over it."""
    assert policy()(add).__wrapped__ is add
    assert retry(policy()(add)).__wrapped__ is add


def test_policies_are_listed_outermost_first():
    """`fn.policies` names the policies, the outermost first, and a stack is one flat tuple."""
    outer, middle, inner = retry(base_delay=0), circuit_breaker("m"), timeout(5)
    assert outer(middle(inner(add))).policies == (outer, middle, inner)
    assert isinstance(inner(add).policies, tuple)


def test_decorating_twice_leaves_the_first_alone():
    """Adding a policy makes a new proxy; the one it was made from keeps its own policies."""
    inner = circuit_breaker("i")
    first = inner(add)
    second = retry(base_delay=0)(first)
    assert first.policies == (inner,)
    assert len(second.policies) == 2


@every_policy
def test_attributes_reach_the_original(policy):
    """Attributes of the wrapped object are readable through the proxy, and set on the original."""

    def function():
        return 1

    function.delay = "now"
    guarded = policy()(function)
    assert guarded.delay == "now"
    guarded.colour = "red"
    assert function.colour == "red"


@every_policy
def test_equality_hash_and_dict_use(policy):
    """A guarded function can be a dictionary key and is equal to itself."""
    guarded = policy()(add)
    assert {guarded: 1}[guarded] == 1


@every_policy
def test_methods_bind_per_instance_and_through_the_class(policy):
    """A guarded method works bound, unbound, through super() and through functools.partialmethod."""

    class Base:
        @policy()
        def get(self, extra=0):
            return (self.value, extra)

        later = functools.partialmethod(get, extra=7)

        def __init__(self, value):
            self.value = value

    class Child(Base):
        def get(self, extra=0):
            return super().get(extra)

    assert Base(1).get() == (1, 0)
    assert Base.get(Base(2), 3) == (2, 3)
    assert Child(4).get(5) == (4, 5)
    assert Base(6).later() == (6, 7)
    first, second = Base(1), Base(2)
    assert (first.get.__self__, second.get.__self__) == (first, second)


@every_policy
def test_class_receives_the_subclass(policy):
    """A guarded classmethod, in either order of decorators, is given the class it was called on."""

    class Base:
        @classmethod
        @policy()
        def outside(cls):
            return cls

        @policy()
        @classmethod
        def inside(cls):
            return cls

    class Child(Base):
        pass

    assert (Child.outside(), Child().inside(), Base.inside()) == (Child, Child, Base)


@every_policy
def test_contextmanager_block_runs_once(policy):
    """Over @contextmanager the making is guarded: the block runs once and its error passes unchanged."""
    entered = []

    @policy()
    @contextlib.contextmanager
    def manager():
        entered.append(1)
        yield "thing"

    with manager() as thing:
        assert thing == "thing"
    error = ConnectionError("from the block")
    with pytest.raises(ConnectionError) as caught, manager():
        raise error
    assert caught.value is error
    assert len(entered) == 2


@every_policy
def test_async_contextmanager_block_runs_once(policy):
    """Over @asynccontextmanager the block runs once and its error passes unchanged."""
    entered = []

    @policy()
    @contextlib.asynccontextmanager
    async def manager():
        entered.append(1)
        yield "thing"

    async def use():
        async with manager() as thing:
            assert thing == "thing"
            raise error

    error = ConnectionError("from the block")
    with pytest.raises(ConnectionError) as caught:
        run(use())
    assert caught.value is error
    assert len(entered) == 1
