"""A live change of a breaker's window used to miss the bulkhead it was built into, and to break calls under way."""

import time

import pytest

from resilient import bulkhead, circuit_breaker, registry, retry

from .helpers import outcome, run

CHANGES = [
    ({"window_duration": 10}, {"window_duration": None}),
    ({"window_duration": 10}, {"window_duration": None, "window_size": 10}),
    ({"window_size": 10}, {"window_duration": 10, "window_size": None}),
    ({}, {"window_duration": 10}),
    ({}, {"slow_call_duration": 5}),
    ({"slow_call_duration": 5}, {"slow_call_duration": None}),
    ({"slow_call_duration": 5, "window_duration": 10}, {"window_duration": None}),
]


@pytest.mark.parametrize(("options", "changes"), CHANGES, ids=repr)
def test_breaker_built_into_a_bulkhead(options, changes):
    """Calls after the change go on as before it, sync and async."""
    policy = bulkhead(max_concurrent=1, circuit_breaker=circuit_breaker("c", **options))
    guarded = policy(lambda: "ok")

    @policy
    async def aguarded():
        return "ok"

    assert [guarded(), run(aguarded())] == ["ok"] * 2
    registry.configure("circuit_breaker", "c", **changes)
    assert [guarded(), run(aguarded()), guarded(), run(aguarded())] == ["ok"] * 4
    assert registry.circuit_breakers["c"].get_metrics().success_count == 6


def test_slow_calls_of_a_breaker_built_into_a_bulkhead():
    """A limit for slow calls set later holds for the calls behind the bulkhead."""
    breaker = circuit_breaker("c")

    @bulkhead(max_concurrent=1, circuit_breaker=breaker)
    def slow():
        time.sleep(0.003)

    slow()
    registry.configure("circuit_breaker", "c", slow_call_duration=0.001, window_size=3)
    for _ in range(3):
        slow()
    assert breaker.state.name == "OPEN"


def test_slow_async_calls_of_a_breaker_built_into_a_bulkhead():
    """A limit for slow calls set later holds for the async calls behind the bulkhead."""
    breaker = circuit_breaker("c")

    @bulkhead(max_concurrent=1, circuit_breaker=breaker)
    async def slow():
        time.sleep(0.003)

    run(slow())
    registry.configure("circuit_breaker", "c", slow_call_duration=0.001, window_size=3)
    for _ in range(3):
        run(slow())
    assert breaker.state.name == "OPEN"


def test_time_window_of_a_breaker_built_into_a_bulkhead():
    """A time window set later counts the successes behind the bulkhead."""
    breaker = circuit_breaker("c")

    @bulkhead(max_concurrent=1, circuit_breaker=breaker)
    def work(good):
        if not good:
            raise ConnectionError

    registry.configure("circuit_breaker", "c", window_duration=60, failure_rate_threshold=0.5, minimum_calls=4)
    for good in (True, True, True, False):
        outcome(work, good)
    assert breaker.state.name == "CLOSED"
    assert breaker.get_metrics().failure_rate == 0.25


@pytest.mark.parametrize(("options", "changes"), CHANGES, ids=repr)
@pytest.mark.parametrize("inside", [False, True], ids=["alone", "in a bulkhead"])
def test_call_under_way(options, changes, inside):
    """A call during which the breaker is changed gives its answer, and so do attempts that follow in it."""
    policy = circuit_breaker("c", **options)
    if inside:
        policy = bulkhead(max_concurrent=9, circuit_breaker=policy)
    calls = []

    @retry(max_attempts=2, base_delay=0)
    @policy
    def work(change=True):
        calls.append(1)
        if change and len(calls) == 1:
            registry.configure("circuit_breaker", "c", **changes)
            assert [work(False) for _ in range(3)] == ["ok"] * 3
            raise ConnectionError
        return "ok"

    assert work() == "ok"
    assert [work(False) for _ in range(3)] == ["ok"] * 3

    @policy
    def change_back():
        registry.configure("circuit_breaker", "c", **{name: options.get(name) for name in changes})
        return "ok"

    assert [change_back(), work(False)] == ["ok"] * 2


@pytest.mark.parametrize(("options", "changes"), CHANGES, ids=repr)
@pytest.mark.parametrize("inside", [False, True], ids=["alone", "in a bulkhead"])
def test_async_call_under_way(options, changes, inside):
    """An async call during which the breaker is changed gives its answer, and so do attempts that follow in it."""
    policy = circuit_breaker("c", **options)
    if inside:
        policy = bulkhead(max_concurrent=9, circuit_breaker=policy)
    calls = []

    @retry(max_attempts=2, base_delay=0)
    @policy
    async def work(change=True):
        calls.append(1)
        if change and len(calls) == 1:
            registry.configure("circuit_breaker", "c", **changes)
            assert [await work(False) for _ in range(3)] == ["ok"] * 3
            raise ConnectionError
        return "ok"

    async def go():
        return [await work(), await work(False), await work(False)]

    assert run(go()) == ["ok"] * 3


@pytest.mark.parametrize(("options", "changes"), CHANGES, ids=repr)
def test_block_under_way(options, changes):
    """A block during which the breaker is changed ends well."""
    breaker = circuit_breaker("c", **options)
    with breaker:
        registry.configure("circuit_breaker", "c", **changes)
    with breaker:
        pass
    assert breaker.state.name == "CLOSED"
