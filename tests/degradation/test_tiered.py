"""Tiered timeout: tiers, tries and their limits."""

import asyncio
import threading
from collections.abc import Mapping
from datetime import timedelta

import pytest

from resilient import (
    CallTimeoutError,
    ConfigurationError,
    bulkhead,
    circuit_breaker,
    deadline,
    registry,
    retry,
    timeout,
)
from resilient.degradation.queues import MemoryQueue
from resilient.degradation.tiered import FallbackStrategy, TieredTimeout, TimeoutTier
from resilient.errors import UnknownNameError
from resilient.timeout import Timeout

WAIT = 10.0


class Sync:
    """Make calls of a sync function."""

    @staticmethod
    def guarded(tiers, operation, body):
        @tiers(operation)
        def call(*args):
            return body(*args)

        return call

    @staticmethod
    def execute(tiers, operation, body, *args):
        return tiers.execute(operation, body, *args)


class Async:
    """Make calls of an async function."""

    @staticmethod
    def guarded(tiers, operation, body):
        @tiers(operation)
        async def call(*args):
            return body(*args)

        return lambda *args: asyncio.run(bounded(call(*args)))

    @staticmethod
    def execute(tiers, operation, body, *args):
        async def call(*given):
            return body(*given)

        return asyncio.run(bounded(tiers.aexecute(operation, call, *args)))


async def bounded(coroutine):
    return await asyncio.wait_for(coroutine, WAIT)


@pytest.fixture(params=[Sync, Async], ids=["sync", "async"])
def way(request):
    """Return the sync or the async way to make a call."""
    return request.param


@pytest.fixture
def tiers():
    """Return tiers that let the last error pass, with a small one."""
    return TieredTimeout(FallbackStrategy.IMMEDIATE_ERROR).add_tier(TimeoutTier("small", 5, 2, 2.0))


class Body:
    """Fail so many times, then answer; `made` counts."""

    def __init__(self, failures, error=ConnectionError, answer="done"):
        self.failures, self.error, self.answer, self.made = failures, error, answer, 0

    def __call__(self, *args):
        self.made += 1
        if self.made <= self.failures:
            raise self.error(self.made)
        return self.answer


def test_shipped_tiers():
    """The three shipped tiers are there, in a mapping that can only be read."""
    tiers = TieredTimeout().tiers
    assert {
        name: (t.operation_type, t.base_timeout, t.max_retries, t.backoff_multiplier) for name, t in tiers.items()
    } == {
        "database_query": ("database_query", 5.0, 2, 2.0),
        "external_api": ("external_api", 10.0, 3, 1.5),
        "cache_operation": ("cache_operation", 0.1, 1, 1.0),
    }
    assert isinstance(tiers, Mapping)
    with pytest.raises(TypeError):
        tiers["x"] = 1
    assert TieredTimeout().fallback_strategy is FallbackStrategy.GRACEFUL_DEGRADATION


def test_add_tier(tiers, way):
    """A tier is added or replaced; what is decorated before keeps the one it has."""
    before = way.guarded(tiers, "cache_operation", body := Body(9))
    assert tiers.add_tier(TimeoutTier("cache_operation", timedelta(seconds=3), 0, 1)) is tiers
    assert tiers.tiers["cache_operation"].base_timeout == 3.0
    with pytest.raises(ConnectionError):
        before()
    assert body.made == 2
    with pytest.raises(ConnectionError):
        way.execute(tiers, "cache_operation", body)
    assert body.made == 3
    tiers.add_tier(TimeoutTier("cache_operation", 3, 3, 1))
    with pytest.raises(ConnectionError):
        way.execute(tiers, "cache_operation", body)
    assert body.made == 7
    with pytest.raises(TypeError, match="must be a TimeoutTier"):
        tiers.add_tier("small")


def test_unknown_tiers(tiers):
    """A tier that does not exist is refused by name at decoration, and at the call; those that exist are listed."""
    for use in (
        lambda: tiers("smal"),
        lambda: tiers.execute("smal", print),
        lambda: asyncio.run(tiers.aexecute("smal", asyncio.sleep, 0)),
        lambda: tiers(3),
        lambda: tiers([]),
        lambda: tiers.execute([], print),
        lambda: asyncio.run(tiers.aexecute({}, asyncio.sleep, 0)),
    ):
        with pytest.raises(UnknownNameError, match="cache_operation, database_query, external_api, small"):
            use()


def test_tries(tiers, way):
    """Each try is a new call; the first success is the answer, and after the last try its own error passes."""
    body = Body(2)
    guarded = way.guarded(tiers, "small", body)
    assert guarded(1) == "done"
    assert body.made == 3
    body.made, body.failures = 0, 9
    with pytest.raises(ConnectionError) as caught:
        guarded(1)
    assert (body.made, caught.value.args, caught.value.__context__, caught.value.__cause__) == (3, (3,), None, None)
    assert way.execute(tiers, "small", Body(2), 1) == "done"


def test_limits_grow(tiers, way):
    """Try number n has the limit base * multiplier ** n, never beyond what locks can wait, for any number of tries."""
    assert [tiers("external_api").config.limit(number) for number in range(4)] == [10.0, 15.0, 22.5, 33.75]
    huge = tiers.add_tier(TimeoutTier("huge", 1, 1000, 1e300))("huge").config
    assert huge.limit(2) == huge.limit(1000) == huge.longest == threading.TIMEOUT_MAX
    with pytest.raises(ConnectionError):
        way.guarded(tiers, "huge", body := Body(9999))()
    assert body.made == 1001


@pytest.mark.parametrize("strategy", FallbackStrategy)
def test_tries_are_prepared_when_they_are_needed(way, strategy, monkeypatch):
    """A call that succeeds at once does not pay for the other tries there might have been."""
    built = []

    def counting(layer):
        def build(self, *args):
            built.append(self.limit)
            return layer(self, *args)

        return build

    for kind in ("sync_layer", "async_layer"):
        monkeypatch.setattr(Timeout, kind, counting(getattr(Timeout, kind)))
    tiers = TieredTimeout(strategy).add_tier(TimeoutTier("patient", 1, 1000, 1.001))
    assert way.execute(tiers, "patient", Body(0)) == "done"
    assert len(built) <= 2  # a queue has an attempt of its own
    built.clear()
    assert way.execute(tiers, "patient", Body(3)) == "done"
    assert sorted(built)[:4] == pytest.approx([1, 1.001, 1.002001, 1.003003], abs=1e-6)
    assert len(built) <= 5


def test_tries_that_time_out(way):
    """A try that passes its limit is followed by a longer one; the last one's CallTimeoutError passes."""
    tiers = TieredTimeout(FallbackStrategy.IMMEDIATE_ERROR).add_tier(TimeoutTier("tiny", 0.02, 2, 2.0))
    made, gate = [], threading.Event()

    @tiers("tiny")
    def hang():
        made.append(1)
        gate.wait(WAIT)

    @tiers("tiny")
    async def ahang():
        made.append(1)
        await asyncio.sleep(WAIT)

    guarded = hang if way is Sync else ahang
    with pytest.raises(CallTimeoutError) as caught:
        hang() if way is Sync else asyncio.run(ahang())
    assert (len(made), caught.value.limit, caught.value.name) == (3, 0.08, guarded.policies[0].name)
    metrics = guarded.policies[0].get_metrics()
    assert metrics[:5] == (0.02, 1, 0, 3, 2)
    assert (metrics.failed, metrics.abandoned) == (1, 3 if way is Sync else 0)
    gate.set()


def test_abandoned_threads_are_bounded():
    """A function that hangs for good does not make threads without end."""
    tiers = TieredTimeout(FallbackStrategy.IMMEDIATE_ERROR).add_tier(TimeoutTier("tiny", 0.01, 0, 1.0))
    gate = threading.Event()

    @tiers("tiny")
    def hang():
        gate.wait(WAIT)

    registry.configure("timeout", hang.policies[0].name, max_abandoned=2)
    for _ in range(4):
        with pytest.raises(CallTimeoutError):
            hang()
    assert hang.policies[0].abandoned == 2
    gate.set()


def test_errors_that_end_the_tries(tiers, way):
    """An error that says it is not retryable ends the tries at once, and so does cancellation."""
    with pytest.raises(ConfigurationError):
        way.guarded(tiers, "small", body := Body(9, ConfigurationError))()
    assert body.made == 1
    for error in (KeyboardInterrupt, SystemExit, GeneratorExit):
        with pytest.raises(error):
            tiers.execute("small", body := Body(9, error))
        assert body.made == 1


def test_cancellation(tiers):
    """A caller's cancellation passes through, and no further try is made."""
    made = []

    @tiers("small")
    async def hang():
        made.append(1)
        await asyncio.sleep(WAIT)

    async def main():
        task = asyncio.create_task(hang())
        await asyncio.sleep(0.01)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert made == [1]


def test_deadline(tiers, way, virtual):
    """A deadline that has passed ends the tries."""
    body = Body(9)

    def late(*args):
        virtual.now += 2
        return body(*args)

    guarded = way.guarded(tiers, "small", late)
    with deadline(3), pytest.raises(ConnectionError):
        guarded()
    assert body.made == 2
    with deadline(0), pytest.raises(CallTimeoutError):
        guarded()
    assert body.made == 2


def test_around_and_within_other_policies(tiers, way):
    """Outer policies see one call with one outcome, inner ones every try."""
    body = Body(9)

    def stack(fn):
        return retry(max_attempts=2, base_delay=0, name="out")(
            tiers("small")(circuit_breaker("in", failure_threshold=100)(fn))
        )

    @stack
    def guarded():
        return body()

    @stack
    async def aguarded():
        return body()

    with pytest.raises(ConnectionError):
        guarded() if way is Sync else asyncio.run(aguarded())
    assert (body.made, registry.circuit_breakers["in"].get_metrics().failure_count) == (6, 6)
    assert [policy.kind for policy in guarded.policies] == ["retry", "timeout", "circuit_breaker"]


def test_bulkhead_around_abandoned_tries():
    """A bulkhead around keeps a place for every try whose thread still works."""
    tiers = TieredTimeout(FallbackStrategy.IMMEDIATE_ERROR).add_tier(TimeoutTier("tiny", 0.01, 1, 1.0))
    gate = threading.Event()

    @bulkhead("places", max_concurrent=5)
    @tiers("tiny")
    def hang():
        gate.wait(WAIT)

    with pytest.raises(CallTimeoutError):
        hang()
    assert registry.bulkheads["places"].available_permits == 3
    gate.set()


def test_timeout_around(tiers):
    """A timeout around all tries ends them all, and tells of it itself."""
    gate = threading.Event()

    @timeout(0.03, name="total")
    @tiers("small")
    def hang():
        gate.wait(WAIT)

    with pytest.raises(CallTimeoutError, match="total"):
        hang()
    gate.set()


def test_registry(tiers):
    """The policy is among the timeouts by the function's name, is described, and can be changed live."""
    body = Body(9)

    @tiers("small")
    def call():
        return body()

    name = call.policies[0].name
    assert name.endswith("test_registry.<locals>.call")
    assert registry.timeouts[name] is call.policies[0]
    described = registry.snapshot()["timeouts"][name]
    assert (described["limit"], described["calls"], described["config"]["operation_type"]) == (5.0, 0, "small")
    registry.configure("timeout", name, max_retries=0)
    with pytest.raises(ConnectionError):
        call()
    assert body.made == 1
    with pytest.raises(ConfigurationError, match=r"^base_timeout=0"):
        registry.configure("timeout", name, base_timeout=0)
    with pytest.raises(ConfigurationError, match=r"^operation_type='external_api': .*'small'"):
        registry.configure("timeout", name, operation_type="external_api", base_timeout=7)
    assert (call.policies[0].config.operation_type, call.policies[0].limit) == ("small", 5.0)
    registry.configure("timeout", name, operation_type="small", base_timeout=6)
    assert call.policies[0].limit == 6.0
    tiers.execute("small", print)
    tiers.execute("small", print)
    assert [name for name in registry.timeouts if name.startswith("tiers.")] == ["tiers.small"]
    with registry.disabled(), pytest.raises(ConnectionError):
        call()
    assert (body.made, call.policies[0].get_metrics().calls) == (2, 1)


def test_names(way):
    """A policy shows its tier; the errors of plain calls name the tier, however many TieredTimeouts there are."""
    assert repr(TieredTimeout()("external_api")) == "<timeout unnamed, tier external_api>"
    tiny = TimeoutTier("tiny", 0.01, 0, 1.0)
    several = [TieredTimeout(FallbackStrategy.IMMEDIATE_ERROR).add_tier(tiny) for _ in range(3)]
    gate = threading.Event()

    async def hang():
        await asyncio.sleep(WAIT)

    for tiers in several:
        with pytest.raises(CallTimeoutError) as caught:
            tiers.execute("tiny", gate.wait, WAIT) if way is Sync else asyncio.run(tiers.aexecute("tiny", hang))
        assert caught.value.name == "tiers.tiny"
    gate.set()
    assert sorted(registry.timeouts) == ["tiers.tiny", "tiers.tiny#2", "tiers.tiny#3"]
    assert repr(registry.timeouts["tiers.tiny#2"]) == "<timeout tiers.tiny, tier tiny>"

    @several[0]("tiny")
    def call():
        """Do nothing."""

    assert repr(call.policies[0]).endswith("test_names.<locals>.call, tier tiny>")


def test_execute_within_and_after_a_scope(tiers, way):
    """The policies of plain calls are registered in the registry of now, with their state, and found again later."""

    def numbers():
        return {name: policy.get_metrics().calls for name, policy in registry.timeouts.items()}

    way.execute(tiers, "small", Body(0))
    with registry.scoped():
        assert numbers() == {}
        way.execute(tiers, "small", Body(0))
        way.execute(tiers, "external_api", Body(0))
        assert numbers() == {"tiers.small": 2, "tiers.external_api": 1}
    assert numbers() == {"tiers.small": 2}
    for _ in range(2):
        way.execute(tiers, "small", Body(0))
        way.execute(tiers, "external_api", Body(0))
    assert numbers() == {"tiers.small": 4, "tiers.external_api": 3}


def test_names_after_a_scope(tiers):
    """A name that another policy has meanwhile is not taken from it, and a name once had is kept where it is free."""
    other = TieredTimeout()
    with registry.scoped():
        tiers.execute("small", print)
    other.add_tier(TimeoutTier("small", 1, 0, 1.0)).execute("small", print)
    tiers.execute("small", print)
    expected = {"tiers.small": 1.0, "tiers.small#2": 5.0}
    for _ in range(2):
        assert {name: policy.limit for name, policy in registry.timeouts.items()} == expected
        with registry.scoped():
            tiers.execute("small", print)
            assert list(registry.timeouts) == ["tiers.small#2"]
        tiers.execute("small", print)
        other.execute("small", print)


def test_what_cannot_be_executed(tiers, way):
    """What is neither callable nor a service is refused, and not tried again and again."""
    for what in (5, None, object()):
        with pytest.raises(TypeError, match="cannot be executed"):
            tiers.execute("small", what) if way is Sync else asyncio.run(tiers.aexecute("small", what))


def test_methods_of_limiting():
    """`method` is that of `timeout`: cooperative for sync functions, refused for async ones."""
    tiers = TieredTimeout(method="cooperative")
    caller = tiers.execute("small" if "small" in tiers.tiers else "external_api", threading.current_thread)
    assert caller is threading.current_thread()
    assert TieredTimeout().execute("external_api", threading.current_thread) is not caller
    with pytest.raises(TypeError, match="cooperative"):
        tiers("external_api")(bounded)
    with pytest.raises(ConfigurationError, match=r"^method="):
        TieredTimeout(method="hope")


def test_refused():
    """Generator functions and policies in place of strategies are refused at decoration."""

    def items():
        yield 1

    async def aitems():
        yield 1

    for stream in (items, aitems):
        with pytest.raises(TypeError, match="generator"):
            TieredTimeout()("external_api")(stream)
    with pytest.raises(ConfigurationError, match=r"^fallback_strategy='best_effort'.*BEST_EFFORT"):
        TieredTimeout("best_effort")
    for option, value in (("degraded", 3), ("queue", 3), ("queue", MemoryQueue)):
        with pytest.raises(TypeError, match=option):
            TieredTimeout(**{option: value})
    with pytest.raises(ConfigurationError, match=r"^max_answers=0"):
        TieredTimeout(max_answers=0)


BAD = [
    *(("operation_type", value) for value in ("", " ", None, 3)),
    *(("base_timeout", value) for value in (0, -1, None, "1", True, float("inf"), float("nan"))),
    *(("max_retries", value) for value in (-1, 1.5, None, True, 1001)),
    *(("backoff_multiplier", value) for value in (0, 0.5, None, True, float("inf"), float("nan"))),
]


@pytest.mark.parametrize(("option", "value"), BAD)
def test_bad_tiers(option, value):
    """A value that cannot work is refused by name."""
    options = {"operation_type": "x", "base_timeout": 1, "max_retries": 1, "backoff_multiplier": 1}
    with pytest.raises(ConfigurationError) as caught:
        TimeoutTier(**options | {option: value})
    assert str(caught.value).startswith(f"{option}={value!r}: ")


def test_tiers_are_values():
    """A tier is frozen, and equal to one with the same numbers."""
    tier = TimeoutTier("x", timedelta(seconds=1), 1, 1)
    assert tier == TimeoutTier("x", 1.0, 1, 1.0)
    with pytest.raises(AttributeError):
        tier.base_timeout = 2
