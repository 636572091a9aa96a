"""The guide's strategies: each does what its row promises, with the options that users tune."""

import asyncio
import inspect
import threading
import time as real_time

import pytest

from resilient import (
    BulkheadFullError,
    CallTimeoutError,
    CircuitOpenError,
    CircuitState,
    ConfigurationError,
    Pipeline,
    RetryBudget,
    failover,
    registry,
)
from resilient.clock import CLOCK
from resilient.strategies import patterns
from resilient.strategies.patterns import (
    GUIDE,
    cache_miss_storm,
    database_failover,
    external_api,
    resource_shortage,
    service_overload,
    transient_network,
)

FACES = pytest.mark.parametrize("face", ["sync", "async"])


class Time:
    """A clock that goes on only when somebody sleeps, and notes how long."""

    def __init__(self):
        self.now, self.slept = 1000.0, []

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds

    async def asleep(self, seconds):
        self.sleep(seconds)


@pytest.fixture
def time():
    source = Time()
    with CLOCK.use(source):
        yield source


class Service:
    """A service that answers, or raises `error` while there is one."""

    def __init__(self, error=None):
        self.error, self.calls = error, 0

    def __call__(self, *args):
        self.calls += 1
        if self.error is not None:
            raise self.error
        return "answer"


def guarded(strategy, face, body):
    """Guard a body in the way of the face; return a plain function that makes one call."""
    if face == "sync":

        def function(*args):
            return body(*args)

        return strategy(function)

    async def afunction(*args):
        return body(*args)

    function = strategy(afunction)
    assert inspect.iscoroutinefunction(function)
    return lambda *args: asyncio.run(function(*args))


def kinds(pipeline):
    return [policy.kind for policy in pipeline.policies]


# The table --------------------------------------------------------------------------------------

OF = {
    "retry with exponential backoff": "retry",
    "retry": "retry",
    "circuit breaker": "circuit_breaker",
    "degrade": "degrade",
    "cached degradation": "degrade",
    "timeout": "timeout",
    "bulkhead": "bulkhead",
    "failover": "failover",
}


@pytest.mark.parametrize("row", GUIDE, ids=lambda row: row.problem)
def test_rows_keep_their_word(row):
    """Each row's strategy is made of the patterns it recommends, exported, and explained."""
    needs_fallback = "fallback" in inspect.signature(row.strategy).parameters
    if row.strategy is database_failover:
        found = row.strategy(Service(), Service()).policies
    else:
        pipeline = row.strategy(**({"fallback": None} if needs_fallback else {}))
        assert isinstance(pipeline, Pipeline)
        found = pipeline.policies
    assert {OF[pattern] for pattern in row.patterns} <= {policy.kind for policy in found}
    assert row.strategy.__name__ in patterns.__all__
    assert getattr(patterns, row.strategy.__name__) is row.strategy
    assert row.when
    assert row.caution
    assert row.strategy.__doc__


def test_the_table_is_whole():
    """Six problems, each with a strategy of its own; the rows cannot be changed."""
    assert len({row.strategy for row in GUIDE}) == len({row.problem for row in GUIDE}) == 6
    with pytest.raises(AttributeError):
        GUIDE[0].when = "always"


@pytest.mark.parametrize(
    "pipeline",
    [
        transient_network,
        lambda: transient_network(limit=2),
        lambda: service_overload(fallback=1),
        lambda: external_api(fallback=1),
        lambda: cache_miss_storm(fallback=1),
        lambda: resource_shortage(fallback=1),
    ],
    ids=["network", "network with limit", "overload", "cache", "api", "shortage"],
)
def test_pipelines_have_nothing_to_be_said_against(pipeline):
    """`Pipeline.check()` finds neither errors nor warnings."""
    assert {finding.severity for finding in pipeline().check()} == {"info"}


@pytest.mark.parametrize(
    ("make", "shelves"),
    [
        (lambda: transient_network(name="x", limit=2), {"retries", "timeouts"}),
        (lambda: service_overload(name="x", fallback=1), {"degradations", "circuit_breakers"}),
        (lambda: external_api(name="x", fallback=1), {"degradations", "timeouts"}),
        (lambda: resource_shortage(name="x", fallback=1), {"degradations", "bulkheads"}),
        (lambda: service_overload(name="x", fallback=1, on=callable), {"degradations", "circuit_breakers"}),
    ],
    ids=["network", "overload", "api", "shortage", "predicate"],
)
def test_named_strategies_share(make, shelves):
    """With a name the policies are in the registry, and the same definition again gives the same policies."""
    one, two = make(), make()
    assert all(first is second for first, second in zip(one.policies, two.policies, strict=True))
    assert {shelf for shelf, held in registry.snapshot().items() if held} == shelves
    assert one.name == "x"


def test_named_otherwise():
    """Another definition of the same name is refused."""
    service_overload(name="x", fallback=1)
    with pytest.raises(ConfigurationError, match="half_open_calls"):
        service_overload(name="x", fallback=1, half_open_calls=2)


@pytest.mark.parametrize("make", [service_overload, external_api, resource_shortage, cache_miss_storm])
def test_a_fallback_is_asked_for(make):
    """A strategy that degrades says what to."""
    with pytest.raises(TypeError, match="fallback"):
        make()


@pytest.mark.parametrize("make", [service_overload, external_api, resource_shortage])
def test_bad_filters(make):
    """`on` is checked like everywhere."""
    with pytest.raises(TypeError, match="on="):
        make(fallback=1, on="OSError")


# Each of them -----------------------------------------------------------------------------------


@FACES
def test_transient_network(face, time):
    """Resets and timeouts are retried, with growing waits and an end; other errors pass."""
    service = Service(ConnectionResetError())
    call = guarded(transient_network(jitter=False), face, service)
    with pytest.raises(ConnectionResetError):
        call()
    assert service.calls == 4
    assert time.slept == [0.1, 0.2, 0.4]
    service.error = ValueError()
    with pytest.raises(ValueError):  # noqa: PT011 - a bare one
        call()
    assert service.calls == 5


@FACES
def test_transient_network_bounds(face, time):
    """Time and budget bound the attempts too."""
    service = Service(TimeoutError())
    call = guarded(transient_network(max_attempts=100, jitter=False, max_elapsed=1), face, service)
    with pytest.raises(TimeoutError):
        call()
    assert sum(time.slept) <= 1
    spent = RetryBudget(0.0, 0.0)
    frugal = guarded(transient_network(max_attempts=100, base_delay=0, budget=spent, max_elapsed=None), face, service)
    service.calls = 0
    with pytest.raises(TimeoutError):
        frugal()
    assert service.calls == 1


def test_transient_network_limit():
    """With a limit, an attempt that hangs is retried too."""
    calls = []

    @transient_network(limit=0.05, base_delay=0)
    async def lookup():
        calls.append(1)
        if len(calls) < 3:
            await asyncio.sleep(10)
        return "answer"

    assert asyncio.run(lookup()) == "answer"


@FACES
def test_service_overload(face, time):
    """At half of the calls failing the circuit opens; the fallback answers before and after; probes find it well."""
    service = Service()
    strategy = service_overload(fallback="spare", name="x")
    call = guarded(strategy, face, service)
    breaker = registry.circuit_breakers["x"]
    for number in range(20):
        service.error = OSError() if number % 2 else None
        assert call() == ("spare" if number % 2 else "answer")
    assert breaker.state is CircuitState.OPEN
    service.error = None
    assert call() == "spare"
    assert service.calls == 20
    time.now += 33.1
    assert [call() for _ in range(5)] == ["answer"] * 5
    assert breaker.state is CircuitState.CLOSED


@FACES
@pytest.mark.parametrize("on", [OSError, (OSError, KeyError), lambda error: isinstance(error, OSError)])
def test_service_overload_on(face, on, time):
    """With `on`, other errors pass; an open circuit is answered for all the same."""
    service = Service(ValueError("wrong"))
    call = guarded(service_overload(fallback="spare", on=on, minimum_calls=1, name="x"), face, service)
    with pytest.raises(ValueError, match="wrong"):
        call()
    service.error = OSError()
    assert [call(), call()] == ["spare"] * 2
    assert service.calls == 2


def test_service_overload_slow(time):
    """Calls that answer, but slowly, open the circuit as well."""

    @service_overload(fallback="spare", slow_call_duration=2, minimum_calls=3)
    def answer():
        time.now += 2
        return "answer"

    assert [answer() for _ in range(4)] == ["answer"] * 3 + ["spare"]


@FACES
def test_database_failover(face, time):
    """The replica answers for a dead primary, which is left alone until it is probed; all dead, the row is repeated."""
    primary, replica = Service(ConnectionError()), Service()

    async def aprimary():
        return primary()

    async def areplica():
        return replica()

    targets = (lambda: primary(), lambda: replica()) if face == "sync" else (aprimary, areplica)  # noqa: PLW0108
    function = database_failover(*targets, on=ConnectionError, name="orders")
    call = function if face == "sync" else lambda: asyncio.run(function())
    assert inspect.iscoroutinefunction(function) is (face == "async")
    assert [policy.kind for policy in function.policies] == ["retry", "failover"]
    assert [call() for _ in range(5)] == ["answer"] * 5
    assert (primary.calls, replica.calls) == (3, 5)
    assert function.active == "replica-1"
    assert function.targets == targets
    assert [breaker.name for breaker in function.breakers] == ["orders:primary", "orders:replica-1"]
    assert registry.retries["orders"].get_metrics().retries == 0
    replica.error = ConnectionError()
    with pytest.raises(ConnectionError):
        call()
    assert replica.calls == 7
    assert len(time.slept) == 1
    for _ in range(3):
        with pytest.raises(CircuitOpenError):  # the first time by its second attempt
            call()
    assert replica.calls == 8
    assert len(time.slept) == 2  # an open circuit is not waited for
    time.now += 30
    primary.error = None
    assert call() == "answer"
    assert function.active == "primary"


@FACES
def test_database_failover_mistakes(face):
    """A mistake in the query is neither retried nor failed over."""
    primary, replica = Service(KeyError("column")), Service()

    async def aprimary():
        return primary()

    async def areplica():
        return replica()

    targets = (primary, replica) if face == "sync" else (aprimary, areplica)
    function = database_failover(*targets, on=ConnectionError)
    with pytest.raises(KeyError):
        function() if face == "sync" else asyncio.run(function())
    assert (primary.calls, replica.calls) == (1, 0)


@FACES
def test_external_api(face):
    """A third party that is slow or fails is answered for."""
    release = threading.Event()

    def slow():
        release.wait(10)

    async def aslow():
        await asyncio.sleep(10)

    strategy = external_api(fallback="spare", limit=0.05, on=OSError, name="x")
    started = real_time.monotonic()
    try:
        answer = strategy(slow)() if face == "sync" else asyncio.run(strategy(aslow)())
    finally:
        release.set()
    assert answer == "spare"
    assert real_time.monotonic() - started < 5
    assert registry.timeouts["x"].get_metrics().timed_out == 1
    assert guarded(external_api(fallback="spare"), face, Service(OSError()))() == "spare"
    assert guarded(external_api(fallback="spare"), face, Service())() == "answer"


def test_external_api_options():
    """The fallback may be any that `@degrade` takes, and see the error."""
    seen = []

    def graceful(user, error):
        seen.append((user, type(error)))
        return []

    @external_api(fallback=graceful, limit=0.02, method="cooperative", fallback_limit=1)
    def recommendations(user):
        real_time.sleep(0.05)

    assert recommendations(7) == []
    assert seen == [(7, CallTimeoutError)]


def test_resource_shortage():
    """Who finds no place is answered from the fallback; the function's own errors pass."""
    inside, release = threading.Event(), threading.Event()

    @resource_shortage(fallback="spare", max_concurrent=1, max_wait=0)
    def work(wait=False):
        if not wait:
            raise ValueError
        inside.set()
        assert release.wait(10)
        return "answer"

    answers = []
    thread = threading.Thread(target=lambda: answers.append(work(True)))
    thread.start()
    assert inside.wait(10)
    assert work() == "spare"
    release.set()
    thread.join(10)
    assert answers == ["answer"]
    with pytest.raises(ValueError):  # noqa: PT011 - a bare one
        work()


def test_resource_shortage_async():
    """The same among tasks, with a queue that is bounded."""

    @resource_shortage(fallback="spare", max_concurrent=2, max_queue=3)
    async def work(delay):
        await asyncio.sleep(delay)
        return "answer"

    async def main():
        return await asyncio.gather(*[work(0.02) for _ in range(10)])

    answers = asyncio.run(main())
    assert (answers.count("answer"), answers.count("spare")) == (5, 5)


@FACES
@pytest.mark.parametrize("error", [MemoryError(), OSError(24, "too many open files"), BulkheadFullError("other")])
def test_resource_shortage_answers_for(face, error):
    """What tells of a shortage further in is answered for as well."""
    assert guarded(resource_shortage(fallback="spare"), face, Service(error))() == "spare"


# The cache --------------------------------------------------------------------------------------


@FACES
def test_cache_miss_storm(face, time):
    """Fresh answers are served without a call, older ones where the source fails, and then the spare source's."""
    service, spare = Service(), []

    def other(key):
        spare.append(key)
        return "spare"

    call = guarded(cache_miss_storm(fallback=other, cache_ttl=60, fallback_ttl=300), face, service)
    assert [call(1), call(1)] == ["answer"] * 2
    assert service.calls == 1
    service.error = ConnectionError()
    assert call(2) == "spare"
    time.now += 60
    assert call(1) == "answer"
    assert service.calls == 3
    assert spare == [2]
    time.now += 300
    assert call(1) == "spare"


@FACES
def test_cache_miss_storm_own_cache(face, time):
    """The cache and the key can be the user's own."""
    service, cache = Service(), {}
    strategy = cache_miss_storm(fallback="spare", cache=cache, key=lambda book: book % 10, on=OSError)
    call = guarded(strategy, face, service)
    assert [call(1), call(11), call(2)] == ["answer"] * 3
    assert service.calls == 2
    assert set(cache) == {1, 2}
    service.error = ValueError()
    with pytest.raises(ValueError):  # noqa: PT011 - a bare one
        call(3)


def test_cache_miss_storm_gate():
    """So many misses reach the source at once; the rest is answered from the spare source."""
    inside, most = [0], [0]

    @cache_miss_storm(fallback="spare", max_concurrent=2, max_wait=0)
    async def load(key):
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        await asyncio.sleep(0.01)
        inside[0] -= 1
        return "answer"

    async def main():
        return await asyncio.gather(*[load(key) for key in range(20)])

    answers = asyncio.run(main())
    assert most == [2]
    assert set(answers) == {"answer", "spare"}


def test_cache_miss_storm_ungated():
    """Without a limit there is no bulkhead."""
    assert kinds(cache_miss_storm(fallback=1, max_concurrent=None)) == ["degrade"]
    assert kinds(cache_miss_storm(fallback=1)) == ["degrade", "bulkhead"]


def test_the_same_storm_twice():
    """Two definitions of the same name and options are one, and others are a conflict."""
    first, second = (cache_miss_storm(name="storm", fallback=1, cache_ttl=5) for _ in range(2))
    assert first.policies == second.policies
    mine = {}
    third, fourth = (cache_miss_storm(name="mine", fallback=1, cache=mine) for _ in range(2))
    assert third.policies == fourth.policies
    for changed in ({"cache_ttl": 6}, {"cache_ttl": 5, "fallback_ttl": 1}, {"cache_ttl": 5, "cache": {}}):
        with pytest.raises(ConfigurationError, match="already defined differently"):
            cache_miss_storm(name="storm", fallback=1, **changed)


@pytest.mark.parametrize(
    "fail",
    [
        lambda: transient_network(name="n", limit=-1),
        lambda: service_overload(name="n", fallback=1, failure_rate_threshold=7),
        lambda: database_failover(len, sum, name="n", max_attempts=0),
        lambda: cache_miss_storm(name="n", fallback=1, max_concurrent=0),
        lambda: external_api(name="n", fallback=1, limit=-1),
        lambda: resource_shortage(name="n", fallback=1, on=()),
        lambda: failover(len, sum, name="n", failure_threshold=0),
    ],
)
def test_a_strategy_that_fails_leaves_no_names(fail):
    """Nothing is registered by a call that raises."""
    with pytest.raises(ConfigurationError):
        fail()
    left = {name for kind in registry.snapshot().values() for name in kind}
    assert not {name for name in left if name == "n" or name.startswith("n:")}
