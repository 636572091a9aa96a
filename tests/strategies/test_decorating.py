"""The strategy as a decorator: order, kinds of callables, whose state is shared, and what the policies do together."""

import asyncio
import contextlib
import gc
import sqlite3
import time
import weakref

import pytest

from resilient import (
    CallTimeoutError,
    CircuitOpenError,
    CircuitState,
    ConfigurationError,
    Pipeline,
    circuit_breaker,
    registry,
    retry,
)
from resilient.degradation import CachedDegradation, DegradationManager
from resilient.errors import UnknownNameError
from resilient.strategies import RecoveryStrategyConfig

KINDS = ["degrade", "retry", "circuit_breaker", "bulkhead", "timeout"]
FACES = ["sync", "async"]

#: Retries without waiting.
QUICK = RecoveryStrategyConfig(retry={"base_delay": 0})


def decorated(strategy, face, body):
    """Decorate the body as a function of that face, and return how to call it."""
    if face == "sync":
        guarded = strategy(body)
        return guarded, guarded

    @strategy
    async def work(*args):
        return body(*args)

    return work, lambda *args: asyncio.run(asyncio.wait_for(work(*args), 10))


class Flaky:
    """Fails so many times, then answers."""

    def __init__(self, failures, error=ConnectionError):
        self.failures, self.error, self.calls = failures, error, 0

    def __call__(self, *args):
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error(f"call {self.calls}")
        return ("answer", *args)


@pytest.mark.parametrize("face", FACES)
def test_one_decorator(face):
    """All five patterns guard the call, in their order, and the answer comes through."""
    work = Flaky(2)
    guarded, call = decorated(QUICK, face, work)
    assert [one.kind for one in guarded.policies] == KINDS
    assert call(1) == ("answer", 1)
    assert work.calls == 3


@pytest.mark.parametrize("face", FACES)
def test_the_error_of_the_call_arrives(face):
    """Without a fallback, the call's own error comes through when attempts run out."""
    guarded, call = decorated(QUICK, face, Flaky(99))
    with pytest.raises(ConnectionError, match="call 3"):
        call()
    assert guarded.policies[2].get_metrics().failure_count == 3


@pytest.mark.parametrize("face", FACES)
def test_fallback(face):
    """With a fallback, it answers."""
    _, call = decorated(QUICK.with_fallback([]), face, Flaky(99))
    assert call() == []


@pytest.mark.parametrize("face", FACES)
def test_fallback_gets_the_arguments(face):
    """A callable as fallback is called with the call's arguments and its error."""
    strategy = QUICK.with_fallback(lambda who, error: (who, type(error)))
    _, call = decorated(strategy, face, Flaky(99))
    assert call("ada") == ("ada", ConnectionError)


@pytest.mark.parametrize("face", FACES)
def test_timeout_total_is_the_limit(face):
    """`timeout.total` is how long one attempt may take."""
    strategy = RecoveryStrategyConfig(retry=None, timeout={"total": 0.05})
    guarded, call = decorated(strategy, face, lambda: time.sleep(0.3))
    assert guarded.policies[-1].limit == 0.05
    if face == "async":

        @strategy
        async def work():
            await asyncio.sleep(5)

        def call():
            return asyncio.run(work())

    with pytest.raises(CallTimeoutError):
        call()


@pytest.mark.parametrize("face", FACES)
def test_an_open_circuit_fails_at_once(face):
    """A circuit that is open is not retried: nobody sleeps through its recovery_timeout."""
    guarded, call = decorated(QUICK, face, Flaky(99))
    guarded.policies[2].isolate()
    guarded.policies[2].reset()
    for _ in range(2):
        with pytest.raises((ConnectionError, CircuitOpenError)):
            call()
    assert guarded.policies[2].state is CircuitState.OPEN
    before = time.monotonic()
    with pytest.raises(CircuitOpenError):
        call()
    assert time.monotonic() - before < 5


def test_methods():
    """Methods, classmethods and staticmethods are guarded, in either order, sync and async."""

    class Client:
        def __init__(self, answer):
            self.answer = answer

        @QUICK
        def get(self):
            return self.answer

        @QUICK
        async def aget(self):
            return self.answer

        @classmethod
        @QUICK
        def make(cls):
            return cls("made").get()

        @QUICK
        @staticmethod
        def twice(number):
            return 2 * number

    one, other = Client("one"), Client("other")
    assert (one.get(), other.get(), asyncio.run(one.aget())) == ("one", "other", "one")
    assert (Client.make(), Client.twice(3)) == ("made", 6)
    assert [policy.kind for policy in Client.get.policies] == KINDS
    assert Client.get.policies[0] is not Client.aget.policies[0]


def test_metadata_and_stacking():
    """The function stays itself, and further decorators go around the strategy in the same proxy."""

    @retry(max_attempts=2)
    @QUICK
    def work(number: int) -> int:
        """Do the work."""
        return number

    assert (work.__name__, work.__doc__, work(3)) == ("work", "Do the work.", 3)
    assert [policy.kind for policy in work.policies] == ["retry", *KINDS]


@pytest.mark.parametrize("thing", [3, None, "name", property(print), retry()])
def test_what_cannot_be_decorated(thing):
    """What is no function is refused with a TypeError."""
    with pytest.raises(TypeError):
        QUICK(thing)


# Whose state --------------------------------------------------------------------------------------


def test_without_a_name_nothing_is_shared():
    """Each decorated function has policies of its own, named after it."""

    def first():
        return 1

    def second():
        return 2

    one, other = QUICK(first), QUICK(second)
    assert not set(map(id, one.policies)) & set(map(id, other.policies))
    assert one.policies[0].config.manager is not other.policies[0].config.manager
    assert {policy.name for policy in one.policies} == {f"{__name__}.{first.__qualname__}"}


def test_with_a_name_all_is_shared():
    """Functions decorated by strategies of one name and content share policies, manager and cache."""
    make = lambda: RecoveryStrategyConfig.for_database("orders").replace(degradation={"cache_ttl": 5})  # noqa: E731
    one, other = make()(lambda: 1), make()(lambda: 2)
    assert list(map(id, one.policies)) == list(map(id, other.policies))
    assert [policy.name for policy in one.policies] == ["orders"] * 5
    assert registry.circuit_breakers["orders"] is one.policies[2]
    assert make().manager is one.policies[0].config.manager
    assert make().manager.config.degradation_threshold == 0.1
    assert make().manager.name == "orders"


@pytest.mark.parametrize(
    "changed",
    [
        {"retry": {"max_attempts": 9}},
        {"bulkhead": {"max_concurrent": 9}},
        {"timeout": {"total": 9}},
        {"degradation": {"degradation_threshold": 0.9}},
        {"degradation": {"fallback": None}},
        {"degradation": {"cache_ttl": 9}},
    ],
)
def test_one_name_with_two_contents(changed):
    """The same name with another content is refused, saying what differs, and adds nothing."""
    strategy = RecoveryStrategyConfig(name="orders")
    guarded = strategy(lambda: 1)
    before = registry.snapshot()
    with pytest.raises(ConfigurationError, match="'orders' is already defined differently"):
        strategy.replace(**changed)(lambda: 2)
    assert registry.snapshot() == before
    assert guarded() == 1


def test_a_conflict_adds_nothing():
    """A single policy of that name that differs keeps all others of the strategy out of the registry."""
    circuit_breaker("orders", failure_threshold=77)
    before = registry.snapshot()
    with pytest.raises(ConfigurationError, match="circuit_breaker 'orders' is already defined differently"):
        RecoveryStrategyConfig(name="orders")(print)
    assert registry.snapshot() == before


def test_a_policy_of_the_same_name_and_content_is_shared():
    """A named policy made by its own decorator belongs to the strategy when it is the same."""
    breaker = circuit_breaker("orders")
    assert RecoveryStrategyConfig(name="orders").policies()[2] is breaker


def test_defined_again_after_a_live_change():
    """After a live change, both the strategy as it was and as it is now are the same definition."""
    strategy = RecoveryStrategyConfig(name="orders")
    policies = strategy.policies()
    strategy.manager.configure(degradation_threshold=0.3)
    registry.configure("degrade", "orders", fallback=7)
    registry.configure("bulkhead", "orders", max_concurrent=5)
    now = strategy.replace(degradation={"degradation_threshold": 0.3, "fallback": 7}, bulkhead={"max_concurrent": 5})
    assert strategy.policies() == now.policies() == policies
    with pytest.raises(ConfigurationError, match=r"degradation_threshold was 0\.1 and is now 0\.4"):
        strategy.replace(degradation={"degradation_threshold": 0.4}).policies()


def test_manager():
    """The manager of a strategy with a name can be had when there is one; else the error says where it is."""
    with pytest.raises(ConfigurationError, match=r"fn\.policies\[0\]\.config\.manager"):
        _ = QUICK.manager
    strategy = RecoveryStrategyConfig(name="orders")
    with pytest.raises(UnknownNameError, match="'orders'"):
        _ = strategy.manager
    strategy.policies()
    assert isinstance(strategy.manager, DegradationManager)


@pytest.mark.parametrize("face", FACES)
def test_the_manager_measures(face):
    """The manager hears of failures, and spares the service when there are too many."""
    strategy = RecoveryStrategyConfig(
        retry=None, circuit_breaker=None, degradation={"fallback": "spared", "trickle_interval": 1000}, name="orders"
    )
    work = Flaky(99)
    _, call = decorated(strategy, face, work)
    assert [call() for _ in range(60)] == ["spared"] * 60
    assert strategy.manager.degraded_services == {"orders"}
    assert work.calls < 60


@pytest.mark.parametrize("face", FACES)
def test_without_an_answer_no_call_is_spared(face):
    """Without fallback and cache, an unwell service is watched, and called all the same."""
    work = Flaky(60)
    guarded, call = decorated(RecoveryStrategyConfig(retry=None, circuit_breaker=None), face, work)
    for _ in range(60):
        with pytest.raises(ConnectionError):
            call()
    assert guarded.policies[0].config.manager.degraded_services == {guarded.policies[0].name}
    assert call() == ("answer",)
    assert work.calls == 61


@pytest.mark.parametrize("face", FACES)
def test_cache(face):
    """With cache_ttl, good answers are served again: while fresh without a call, later when the call fails."""
    work = Flaky(0)
    guarded, call = decorated(RecoveryStrategyConfig(retry=None, degradation={"cache_ttl": 60}), face, work)
    assert isinstance(guarded.policies[0].config.cache, CachedDegradation)
    assert [call(1), call(1)] == [("answer", 1)] * 2
    assert work.calls == 1
    _, call = decorated(RecoveryStrategyConfig(retry=None, degradation={"cache_ttl": 0}), face, work)
    assert call(1) == ("answer", 1)
    work.failures = 99
    assert call(1) == ("answer", 1)
    assert work.calls == 3
    with pytest.raises(ConnectionError):
        call(2)


def test_cache_options():
    """cache_size and fallback_ttl arrive; left out, they are the cache's own."""
    given = RecoveryStrategyConfig(degradation={"cache_ttl": 5, "fallback_ttl": 6, "cache_size": 7})
    made, plain = (
        one.policies()[0].config.cache for one in (given, RecoveryStrategyConfig(degradation={"cache_ttl": 5}))
    )
    assert (made.cache_ttl, made.fallback_ttl, made.cache.maxsize) == (5.0, 6.0, 7)
    default = CachedDegradation()
    assert (plain.fallback_ttl, plain.cache.maxsize) == (default.fallback_ttl, default.cache.maxsize)
    assert type(made.cache) is type(default.cache)


def test_pipeline():
    """The pipeline of the policies makes single calls of either face, and reviews the numbers."""
    pipeline = QUICK.pipeline("orders")
    assert isinstance(pipeline, Pipeline)
    assert (pipeline.name, QUICK.pipeline().name, QUICK.replace(name="x").pipeline().name) == (
        "orders",
        "pipeline",
        "x",
    )
    assert pipeline.call(Flaky(2), 1) == ("answer", 1)

    async def work():
        return 5

    assert asyncio.run(pipeline.acall(work)) == 5
    assert [one.kind for one in pipeline.policies] == KINDS
    assert pipeline.check()[-1].code == "worst_case"


def test_nothing_is_kept_alive():
    """A function that goes takes its unnamed policies and their manager along."""
    guarded = QUICK.replace(name=None)(lambda: 1)
    gone = [weakref.ref(policy) for policy in guarded.policies] + [weakref.ref(guarded.policies[0].config.manager)]
    del guarded
    gc.collect()
    assert [one() for one in gone] == [None] * 6


def streaming():
    yield 1


@pytest.mark.parametrize("what", [5, streaming])
def test_what_cannot_be_guarded_leaves_no_names(what):
    """A decoration that fails registers nothing, so another definition of the name can follow."""
    with pytest.raises(TypeError):
        RecoveryStrategyConfig(name="withdrawn")(what)
    assert not any("withdrawn" in names for names in (registry.retries, registry.timeouts, registry.degradations))
    RecoveryStrategyConfig(name="withdrawn", retry={"max_attempts": 7})(lambda: 1)


def test_names_that_were_there_stay():
    """Only what the failed decoration has made is withdrawn."""
    strategy = RecoveryStrategyConfig(name="kept", timeout=None)
    strategy(lambda: 1)
    with pytest.raises(TypeError):
        strategy.replace(timeout={})(streaming)
    assert "kept" in registry.retries
    assert "kept" not in registry.timeouts


def test_connections_bound_to_their_thread():
    """Sync functions run in worker threads, unless the timeout is cooperative: the remedy that the docs give."""
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:

        def answer():
            return connection.execute("select 42").fetchone()

        with pytest.raises(sqlite3.ProgrammingError, match="thread"):
            RecoveryStrategyConfig.for_database()(answer)()
        strategy = RecoveryStrategyConfig.for_database().replace(timeout={"method": "cooperative"})
        assert strategy(answer)() == (42,)
