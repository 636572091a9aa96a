"""Policies meeting property, cached_property, singledispatch, lru_cache: guarded, or refused loudly."""

import functools
import sys

import pytest

from resilient import Pipeline, bulkhead, circuit_breaker, degrade, retry, timeout

from .helpers import attempted, run
from .kinds import Script

POLICIES = {
    "retry": lambda: retry(max_attempts=2, base_delay=0),
    "circuit_breaker": lambda: circuit_breaker(failure_threshold=1),
    "bulkhead": lambda: bulkhead(max_concurrent=2),
    "timeout": lambda: timeout(5),
    "degrade": lambda: degrade(fallback="spare"),
    "Pipeline": lambda: Pipeline(retry(max_attempts=2, base_delay=0), timeout(5)),
}
every_policy = pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES.keys())


@pytest.mark.parametrize("wrapper", [property, functools.cached_property], ids=["property", "cached_property"])
def test_policy_inside_a_property_guards(wrapper):
    """A policy under @property or @cached_property guards the getter."""
    script = Script(failures=1)

    class Host:
        @wrapper
        @retry(max_attempts=2, base_delay=0)
        def value(self):
            return script.step()

    assert Host().value == "ok"
    assert script.calls == 2


@pytest.mark.parametrize("wrapper", [property, functools.cached_property], ids=["property", "cached_property"])
def test_policy_over_a_property_guards_or_refuses(wrapper):
    """A policy over @property or @cached_property guards the getter, or raises TypeError at decoration."""
    script = Script(failures=1)
    try:

        class Host:
            @retry(max_attempts=2, base_delay=0)
            @wrapper
            def value(self):
                return script.step()

    except (TypeError, RuntimeError) as refusal:
        # Before Python 3.12 an error raised by __set_name__ arrives inside a RuntimeError.
        cause = refusal if isinstance(refusal, TypeError) else refusal.__cause__
        assert isinstance(cause, TypeError)
        return
    assert Host().value == "ok"
    assert script.calls == 2


@every_policy
@pytest.mark.parametrize("thing", [3, None, 2.5, [], object()], ids=lambda t: type(t).__name__)
def test_what_cannot_be_guarded_is_refused(policy, thing):
    """Decorating something that is not callable raises TypeError at once, with a message."""
    with pytest.raises(TypeError, match=r"\w"):
        policy()(thing)


def test_singledispatch_under_a_policy():
    """Over @singledispatch the dispatch is guarded and `.register`, `.dispatch`, `.registry` are reachable."""
    script = Script(failures=1)

    @retry(max_attempts=2, base_delay=0)
    @functools.singledispatch
    def show(value):
        return "any"

    @show.register
    def _(value: int):
        return script.step()

    assert show("text") == "any"
    assert show(1) == "ok"
    assert script.calls == 2
    assert set(show.registry) == {object, int}


def test_singledispatch_over_a_policy():
    """@singledispatch over a guarded function dispatches to guarded implementations."""
    script = Script(failures=1)

    @functools.singledispatch
    @retry(max_attempts=2, base_delay=0)
    def show(value):
        return "any"

    @show.register
    @retry(max_attempts=2, base_delay=0)
    def _(value: int):
        return script.step()

    assert (show("text"), show(1)) == ("any", "ok")
    assert script.calls == 2


def test_singledispatchmethod_guards_or_refuses():
    """A policy over @singledispatchmethod guards every implementation, or raises TypeError at decoration."""
    script = Script(failures=1)

    def show(self, value):
        return "any"

    def show_int(self, value):
        return script.step()

    guarded = attempted(retry(max_attempts=2, base_delay=0), functools.singledispatchmethod(show))
    if guarded is None:
        return
    guarded.register(int, show_int)
    Host = type("Host", (), {"show": guarded})
    assert Host().show("text") == "any"
    assert Host().show(1) == "ok"
    assert script.calls == 2


def test_singledispatchmethod_over_a_policy():
    """@singledispatchmethod over guarded methods dispatches to guarded implementations."""
    script = Script(failures=1)

    class Host:
        @functools.singledispatchmethod
        @retry(max_attempts=2, base_delay=0)
        def show(self, value):
            return "any"

        @show.register
        @retry(max_attempts=2, base_delay=0)
        def _(self, value: int):
            return script.step()

    assert (Host().show("text"), Host().show(1)) == ("any", "ok")
    assert script.calls == 2


@every_policy
def test_lru_cache_under_a_policy(policy):
    """Over @lru_cache a hit stays a hit, and cache_info and cache_clear are reachable."""
    script = Script()

    @policy()
    @functools.lru_cache
    def cached(x):
        return script.step()

    assert (cached(1), cached(1)) == ("ok", "ok")
    assert script.calls == 1
    assert cached.cache_info().hits == 1
    cached.cache_clear()
    assert cached(1) == "ok"
    assert script.calls == 2


@every_policy
def test_lru_cache_over_a_policy(policy):
    """@lru_cache over a guarded function works, and the guarded function is reachable under it."""
    script = Script()
    guarded = policy()(lambda x: script.step())
    cached = functools.lru_cache(guarded)
    assert (cached(1), cached(1)) == ("ok", "ok")
    assert script.calls == 1


def test_lru_cache_method_is_retried():
    """A cached method under a retry is retried when it fails, and its failure is not cached."""
    script = Script(failures=1)

    class Host:
        @retry(max_attempts=2, base_delay=0)
        @functools.lru_cache  # noqa: B019
        def get(self, x):
            return script.step()

    assert Host().get(1) == "ok"
    assert script.calls == 2


@every_policy
def test_functions_of_c_are_guarded(policy):
    """Built-in functions can be guarded, and classes too or they are refused loudly; `.call` takes both."""
    assert policy()(len)([1, 2]) == 2
    assert (policy().call(len, [1, 2]), policy().call(int, "7")) == (2, 7)
    guarded = attempted(policy(), int)
    assert guarded is None or guarded("7") == 7


def test_builtin_failure_is_handled():
    """A failing built-in counts and its fallback is served."""
    assert degrade(fallback=-1)(len)(7) == -1
    breaker = circuit_breaker("len", failure_threshold=1, expected_exception=TypeError)
    with pytest.raises(TypeError):
        breaker(len)(7)
    assert breaker.state.name == "OPEN"


@every_policy
def test_a_partial_of_a_guarded_function_is_guarded(policy):
    """functools.partial over a guarded function, sync or async, keeps the guard."""

    async def aget(x, y):
        return x + y

    assert functools.partial(policy()(lambda x, y: x + y), 1)(2) == 3
    assert run(functools.partial(policy()(aget), 1)(2)) == 3


@every_policy
def test_slots_and_dataclass_hosts(policy):
    """Guarded methods work in classes with __slots__, which have no weak references."""

    class Slotted:
        __slots__ = ("value",)

        @policy()
        def get(self):
            return self.value

    host = Slotted()
    host.value = 3
    assert host.get() == 3
    assert sys.getrefcount(host) <= 3
