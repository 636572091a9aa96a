"""A live change that a guarded function cannot take used to stay half applied, and to break the registry."""

import pytest

from resilient import CallTimeoutError, degrade, registry, retry, timeout
from resilient.events import ConfigurationChanged

from .helpers import outcome, run


class AsyncCache:
    """A cache for async functions only."""

    async def get(self, key): ...
    async def set(self, key, answer): ...
    async def delete(self, key): ...


async def afallback():
    return "late"


def on_async():
    @timeout(1, name="it")
    async def answer():
        return 1

    return "timeout", {"method": "signal"}, lambda: run(answer()) == 1


def on_async_by_flag():
    @timeout(1, name="it")
    async def answer():
        return 1

    return "timeout", {"limit": 9, "method": "cooperative"}, lambda: run(answer()) == 1


def on_sync_fallback():
    @degrade(fallback=1, name="it")
    def fail():
        raise ConnectionError

    return "degrade", {"fallback": afallback}, lambda: fail() == 1


def on_sync_fallbacks():
    @degrade(fallback=1, name="it")
    def fail():
        raise ConnectionError

    return "degrade", {"fallback": [lambda: 2, afallback], "on": KeyError}, lambda: fail() == 1


def on_sync_cache():
    @degrade(fallback=1, name="it")
    def fail():
        raise ConnectionError

    return "degrade", {"cache": AsyncCache()}, lambda: fail() == 1


def on_generator():
    @retry(name="it", base_delay=0)
    def numbers():
        yield 1

    return "retry", {"retry_on_result": bool}, lambda: list(numbers()) == [1]


def on_generator_fallback():
    @degrade(fallback=[1], name="it")
    def numbers():
        raise ConnectionError
        yield

    return "degrade", {"fallback": 5}, lambda: list(numbers()) == [1]


def on_async_generator():
    @retry(name="it", base_delay=0)
    async def numbers():
        yield 1

    async def listed():
        return [number async for number in numbers()]

    return "retry", {"retry_on_result": bool}, lambda: run(listed()) == [1]


CASES = [
    on_async,
    on_async_by_flag,
    on_sync_fallback,
    on_sync_fallbacks,
    on_sync_cache,
    on_generator,
    on_generator_fallback,
    on_async_generator,
]


@pytest.mark.parametrize("define", CASES, ids=lambda define: define.__name__)
def test_refused_change(define):
    """A change that one of the guarded functions cannot take raises TypeError and changes nothing."""
    kind, changes, works = define()
    policy = registry._shelves[kind]["it"]
    before, told = policy.config, []
    registry.subscribe(told.append, ConfigurationChanged)
    with pytest.raises(TypeError):
        registry.configure(kind, "it", **changes)
    assert policy.config == before
    assert policy.describe()["config"] == type(policy)(before, "it").describe()["config"]
    assert works()
    assert told == []


@pytest.mark.parametrize("define", CASES, ids=lambda define: define.__name__)
def test_registry_after_a_refused_change(define):
    """After a refused change `disabled()` works and ends, and other changes are taken."""
    kind, changes, works = define()
    with pytest.raises(TypeError):
        registry.configure(kind, "it", **changes)
    calls = []

    @retry(base_delay=0, max_attempts=2)
    def fail():
        calls.append(1)
        raise ConnectionError

    with registry.disabled():
        outcome(fail)
        assert len(calls) == 1
    assert not registry.off
    outcome(fail)
    assert len(calls) == 3
    assert works()


def test_refused_change_on_a_shared_policy():
    """Where only one of several functions refuses the change, none of them has it."""
    policy = timeout(5, name="it")

    @policy
    def first():
        return "first"

    @policy
    async def second():
        return "second"

    @policy
    def third():
        return "third"

    with pytest.raises(TypeError):
        registry.configure("timeout", "it", limit=0, method="cooperative")
    assert policy.limit == 5
    assert [first(), run(second()), third()] == ["first", "second", "third"]
    registry.configure("timeout", "it", limit=0)
    assert [type(outcome(one)) for one in (first, third)] == [CallTimeoutError] * 2
    assert isinstance(outcome(run, second()), CallTimeoutError)
