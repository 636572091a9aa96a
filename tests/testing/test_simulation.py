"""A simulated outage shows what the policies really do, the same way each time."""

import asyncio
import math
import threading
import time

import pytest

from resilient import (
    BulkheadFullError,
    CallTimeoutError,
    CircuitOpenError,
    ConfigurationError,
    Pipeline,
    RecoveryStrategyConfig,
    RetryBudget,
    bulkhead,
    circuit_breaker,
    degrade,
    registry,
    retry,
    timeout,
)
from resilient.clock import CLOCK
from resilient.retry import RetryConfig, RetryPolicy
from resilient.testing import VirtualClock, faults
from resilient.testing.simulation import simulate

OUTAGE = {"outage": (5, 15), "load": 20, "duration": 40, "seed": 7}


#: Answers at once, so that no call from before the outage ends in it.
QUICK = {**OUTAGE, "latency": 0}


def breaker(**options):
    return circuit_breaker(**{"failure_threshold": 5, "recovery_timeout": 8, "half_open_calls": 1, **options})


def storm(*inner, budget=None):
    """Four attempts within a limit each, against a dependency that can serve half as much again as is usual."""
    pipeline = Pipeline(retry(max_attempts=4, base_delay=0.1, budget=budget, give_up_on=CircuitOpenError), *inner)
    return simulate(pipeline, (5, 15), 20, 120, seed=7, capacity=30, failure="hang")


# What policies do


def test_healthy_calls():
    """Without a policy that acts, each call makes one of the dependency, and those in the outage fail."""
    seen = simulate(retry(max_attempts=1), **OUTAGE)

    assert (seen.calls, seen.failures, seen.amplification) == (800, 200, 1.0)
    assert seen.successes + seen.failures + seen.unfinished == seen.calls
    assert seen.goodput == seen.successes / 40
    assert seen.rejected == 0


def test_retry_amplifies():
    """Three attempts make three calls of each call in the outage, and one of each other call."""
    seen = simulate(retry(max_attempts=3, base_delay=0, jitter=False), **OUTAGE)

    assert seen.outage_amplification == 3
    assert seen.dependency_calls == 600 + 3 * 200
    assert seen.amplification == 1.5


def test_breaker_spares():
    """A breaker lets five of the calls in the outage through, and one more after its recovery timeout."""
    seen = simulate(Pipeline(breaker()), **QUICK)

    assert seen.outage_dependency_calls == 6
    assert seen.rejected == seen.failures - 6
    assert seen.outage_amplification < 0.05


def test_time_to_recover_is_the_breakers():
    """A breaker that opened 0.2 s after the outage's start, and again 8 s later, closes 16.2 s after that start."""
    seen = simulate(breaker(), **QUICK)

    assert seen.time_to_recover == pytest.approx(0.2 + 2 * 8 - 10, abs=0.1)
    assert [event.data["new"] for event in seen.events] == ["open", "half_open", "open", "half_open", "closed"]


@pytest.mark.parametrize("recovery_timeout", [3, 20])
def test_time_to_recover_follows_the_configuration(recovery_timeout):
    """A longer recovery timeout than the outage is what the recovery takes; a shorter one bounds it."""
    seen = simulate(breaker(recovery_timeout=recovery_timeout), **QUICK)

    expected = 0.2 + 20 - 10 if recovery_timeout == 20 else 0.2 + 4 * 3 - 10
    assert seen.time_to_recover == pytest.approx(expected, abs=0.25)


def test_no_recovery():
    """A breaker that stays open until the end has not recovered."""
    assert simulate(breaker(recovery_timeout=60), **OUTAGE).time_to_recover is None


def test_no_outage_no_recovery():
    """Where no call met the outage there is nothing to recover from."""
    seen = simulate(breaker(), (5.001, 5.002), 1, 20, seed=7)

    assert seen.outage_calls == 0
    assert seen.time_to_recover is None
    assert simulate(breaker(), (1, 2), 0.001, 20, seed=7).time_to_recover is None


def test_recovery_needs_some_time():
    """One good interval before the end is no steady state."""
    seen = simulate(timeout(1), (5, 19), 20, 20, seed=7, interval=0.5)

    assert seen.timeline[-1].successes > 0
    assert seen.time_to_recover is None


def test_bulkhead_rejects_what_hangs():
    """While calls hang, a bulkhead lets its places be taken and turns the others away at once."""
    seen = simulate(bulkhead(max_concurrent=4, max_wait=0), **QUICK, failure="hang")

    assert seen.outage_dependency_calls == 4
    assert seen.rejected == seen.failures == 196
    assert seen.timeline[-1].failures == 0


def test_timeout_bounds():
    """A timeout ends what hangs, so no call takes longer."""
    seen = simulate(timeout(0.5), **OUTAGE, failure="hang")

    assert seen.failures == pytest.approx(200, abs=11)  # those of the last half second get their answer
    assert seen.p99 == 0.5


def test_degrade_raises_goodput():
    """A fallback answers in the outage; it counts as goodput, and apart, and the recovery waits for real answers."""
    plain = simulate(breaker(), **OUTAGE)
    served = simulate(Pipeline(degrade(fallback="cached"), breaker()), **OUTAGE)

    assert served.goodput > plain.goodput
    assert served.failures == 0
    assert served.degraded == plain.failures
    assert served.time_to_recover == plain.time_to_recover


def test_slow():
    """A slow dependency answers, ten times as late or so late as was asked, and is called no more often."""
    usual = simulate(retry(), **OUTAGE, failure="slow")
    asked = simulate(retry(), **OUTAGE, failure="slow", failure_latency=2)

    assert (usual.p95, usual.failures, usual.amplification) == (0.5, 0, 1)
    assert asked.p95 == 2


def test_subclass_changes_the_outcome():
    """A policy of a user's own, here a retry that leaves the first failure of a call alone, is what runs."""

    class Hesitant(RetryPolicy):
        def async_layer(self, call, site):
            async def hesitant(args, kwargs):
                return await call(args, kwargs)

            return hesitant

    own = simulate(Pipeline(Hesitant(RetryConfig(max_attempts=3), "hesitant")), **OUTAGE)

    assert own.outage_amplification == 1
    assert simulate(retry(max_attempts=3), **OUTAGE).outage_amplification > 2.9


def test_own_acall():
    """Anything with `acall` can be simulated, a subclass that overrides it included."""

    class Twice(Pipeline):
        async def acall(self, fn, /, *args, **kwargs):
            await super().acall(fn, *args, **kwargs)
            return await super().acall(fn, *args, **kwargs)

    class Bare:
        async def acall(self, fn):
            return await fn()

    assert simulate(Twice(timeout(1)), (0, 1), 10, 20, failure="slow").amplification == pytest.approx(2, abs=0.02)
    assert simulate(Bare(), **OUTAGE).amplification == 1


def test_layers_are_those_of_acall():
    """A pipeline whose layers are put together once does what it does when `acall` puts them together each time."""

    class Plain(Pipeline):
        async def acall(self, fn, /, *args, **kwargs):
            return await super().acall(fn, *args, **kwargs)

    def parts():
        inner = circuit_breaker("b"), bulkhead(max_concurrent=3, max_wait=0.1), timeout(0.3)
        return degrade(fallback=1, on=TimeoutError), retry(), *inner

    once = simulate(lambda: Pipeline(*parts()), **OUTAGE, failure="hang")
    each = simulate(lambda: Plain(*parts()), **OUTAGE, failure="hang")

    assert once == each


def test_own_policy_sleeps_in_virtual_time():
    """A policy's own asyncio and clock waits take no real time, and are seen in the response times."""

    class Slow:
        async def acall(self, fn):
            await asyncio.sleep(3)
            await CLOCK.asleep(2)
            async with asyncio.timeout(9):
                return await asyncio.to_thread(lambda: 1) + (await fn() or 0)

    began = time.perf_counter()
    seen = simulate(Slow(), (5, 15), 1, 100, seed=1)

    assert seen.p50 == pytest.approx(5.05)
    assert time.perf_counter() - began < 5


# A dependency of limited capacity


def test_retry_storm_outlives_the_outage():
    """Where retries make more calls than the dependency can serve, it stays down when the outage is over."""
    seen = storm(timeout(0.5))

    assert seen.time_to_recover is None
    assert seen.timeline[-1].successes == 0
    assert seen.timeline[-1].dependency_calls / seen.timeline[-1].seconds > 60


def test_budget_ends_the_storm():
    """With a retry budget the same load leaves the dependency time to recover."""
    assert storm(timeout(0.5), budget=RetryBudget(0.1, 0)).time_to_recover < 60


def test_breaker_ends_the_storm():
    """With a breaker it recovers, too."""
    assert storm(breaker(recovery_timeout=5), timeout(0.5)).time_to_recover < 60


def test_capacity_bounds_goodput():
    """A dependency asked for more than it can serve answers as much as it can."""
    seen = simulate(retry(max_attempts=1), (1, 2), 100, 40, seed=1, capacity=25, failure="slow")

    assert seen.goodput == pytest.approx(25, abs=1)


# Failures


class Custom(Exception):
    def __init__(self, number, text):
        super().__init__(number, text)


@pytest.mark.parametrize(
    ("failure", "name", "retried"),
    [
        ("error", "error", True),
        (ConnectionResetError, "ConnectionResetError", True),
        (ConnectionResetError(104, "reset"), "ConnectionResetError", True),
        (Custom(1, "a"), "Custom", False),
        (faults.NetworkFailure("reset"), "NetworkFailure('reset')", True),
        (faults.ServiceUnavailable(), "ServiceUnavailable", True),
    ],
)
def test_failures(failure, name, retried):
    """Calls in the outage raise what was asked for, so a retry's `on` decides what it does for real."""
    seen = simulate(retry(max_attempts=2, on=OSError, base_delay=0), **OUTAGE, failure=failure)

    assert seen.failure == name
    assert seen.outage_amplification == (2 if retried else 1)


def test_fault_latency():
    """A fault that only takes time takes virtual time."""
    seen = simulate(timeout(1), **OUTAGE, failure=faults.Latency(5))

    assert seen.failures == 200


@pytest.mark.parametrize(("after", "failed"), [(None, 0), (2, 160), (math.inf, 0)])
def test_hang(after, failed):
    """What hangs is answered at the outage's end, or ends as a TimeoutError of the system, or never ends."""
    seen = simulate(retry(max_attempts=1), **OUTAGE, failure="hang", failure_latency=after)

    assert seen.failures == pytest.approx(failed, abs=1)
    assert (seen.unfinished >= 200) is (after == math.inf)


def test_each_call_has_its_own_error():
    """An exception given as the failure is not shared by calls, whose tracebacks would pile up in it."""
    given, seen = ConnectionError("down"), set()

    class Looking:
        async def acall(self, fn):
            try:
                return await fn()
            except ConnectionError as error:
                seen.add(id(error))
                kept.append(error)
                raise

    kept = []
    simulate(Looking(), **OUTAGE, failure=given)

    assert len(seen) == 200
    assert given.__traceback__ is None


# The same again


def test_same_seed_same_result():
    """Twenty runs with one seed are equal in every number and event; another seed gives another course."""
    pipeline = Pipeline(retry(jitter="full"), breaker(recovery_jitter=0.3), bulkhead(max_concurrent=5), timeout(0.3))

    runs = [simulate(pipeline, **OUTAGE, clients=7, failure="hang") for _ in range(20)]

    assert all(one == runs[0] for one in runs)
    assert simulate(pipeline, **{**OUTAGE, "seed": 8}, clients=7, failure="hang") != runs[0]


def test_seed_is_made():
    """Without a seed one is made, which gives the same again."""
    pipeline = retry(jitter="full")
    first = simulate(pipeline, (5, 15), 20, 40)

    assert simulate(pipeline, (5, 15), 20, 40, seed=first.seed) == first


# Clients


def test_one_pipeline_is_shared():
    """A pipeline that is given is that of all clients: its breaker counts the failures of all of them."""
    seen = simulate(breaker(), **QUICK, clients=50)

    assert seen.outage_dependency_calls == 6


def test_each_of_a_fleet_has_its_own():
    """A pipeline that is made is each client's own, also where its breaker has a name."""
    seen = simulate(lambda: circuit_breaker("payments", failure_threshold=1, recovery_timeout=60), **OUTAGE, clients=50)

    assert seen.outage_dependency_calls == 50
    assert seen.timeline[-1].breakers == {"payments": {"open": 50}}
    assert seen.timeline[0].breakers == {"payments": {"closed": 50}}


def test_load_is_that_of_all_clients():
    """However many clients there are, there are as many calls, evenly spread."""
    for clients in (1, 3, 500):
        seen = simulate(retry(), **OUTAGE, clients=clients)
        assert seen.calls == pytest.approx(800, abs=20)
    one = simulate(retry(), **OUTAGE)
    assert all(abs(part.calls / part.seconds - 20) <= 2 for part in one.timeline)


def test_thousands_of_clients():
    """Two thousand clients and two minutes of outage take seconds."""
    began = time.perf_counter()
    seen = simulate(lambda: Pipeline(breaker(), timeout(1)), (10, 130), 100, 150, seed=1, clients=2000)

    assert (seen.clients, seen.calls) == (2000, pytest.approx(15000, rel=0.02))
    assert time.perf_counter() - began < 30


def test_strategy():
    """A strategy is simulated by its policies, and its name in the registry is not taken."""
    strategy = RecoveryStrategyConfig.for_external_api("orders")

    shared = simulate(strategy, **OUTAGE)
    own = simulate(strategy.pipeline, **OUTAGE, clients=3)

    assert "orders" in shared.pipeline
    assert (shared.clients, own.clients) == (1, 3)
    assert own.timeline[0].breakers == {"orders": {"closed": 3}}


def test_decorated_function():
    """Of a decorated function the policies are simulated; it is not called itself."""

    @retry(max_attempts=3, base_delay=0)
    async def charge():
        raise AssertionError("called")

    assert simulate(charge, **OUTAGE).outage_amplification == 3


# The timeline


def test_timeline_adds_up():
    """The intervals cover the whole, and their numbers are those of the result."""
    seen = simulate(Pipeline(degrade(fallback=1, on=CircuitOpenError), breaker()), **OUTAGE, interval=0.5)

    assert [one.time for one in seen.timeline] == [number * 0.5 for number in range(80)]
    for name in ("calls", "successes", "degraded", "failures", "rejected", "dependency_calls"):
        assert sum(getattr(one, name) for one in seen.timeline) == getattr(seen, name)


def test_timeline_shows_states():
    """Each interval has the breakers' states at its end, and each event its moment."""
    seen = simulate(breaker(), **QUICK, interval=1)

    name = "simulated.dependency"
    assert seen.timeline[4].states == {name: "closed"}
    assert seen.timeline[5].states == {name: "open"}
    assert seen.timeline[5].events[0].at == pytest.approx(5.2, abs=0.06)
    assert seen.timeline[-1].states == {name: "closed"}


def test_explain():
    """The lines say what was simulated and what came of it, with the seed."""
    text = str(simulate(Pipeline(retry(), breaker(), name="payments"), **OUTAGE))

    assert text.startswith("payments (retry > circuit_breaker): outage from 5 s to 15 s (error)\n")
    for part in ("20 calls/s of 1 client for 40 s, seed 7", "amplification", "goodput", "turned away", "recovered"):
        assert part in text


# Surroundings


def test_inside_a_running_loop():
    """Inside an event loop it works all the same, and gives what it gives outside."""

    async def main():
        return simulate(retry(jitter="full"), **OUTAGE)

    assert asyncio.run(main()) == simulate(retry(jitter="full"), **OUTAGE)


def test_cancelled_in_a_running_loop():
    """Who cancels the task that simulates, as Ctrl-C in `asyncio.run` does, need not wait for the rest."""

    async def main():
        task = asyncio.current_task()
        threading.Timer(0.15, asyncio.get_running_loop().call_soon_threadsafe, [bool]).start()
        threading.Timer(0.15, task.cancel).start()
        simulate(retry(), (5, 15), 2000, 5000, seed=1)

    began = time.perf_counter()
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert time.perf_counter() - began < 5
    assert CLOCK.monotonic() > 1


def test_errors_in_a_running_loop():
    """What is wrong is raised there, too."""

    async def main():
        return simulate(lambda: 1, **OUTAGE)

    with pytest.raises(TypeError, match="no method acall"):
        asyncio.run(main())


def test_virtual_clock_is_refused():
    """Two times at once agree on nothing."""
    with VirtualClock(), pytest.raises(RuntimeError, match="VirtualClock is in use"):
        simulate(retry(), **OUTAGE)


def test_simulation_in_a_simulation_is_refused():
    """A factory cannot simulate."""
    with pytest.raises(RuntimeError, match="a simulation is running already"):
        simulate(lambda: simulate(retry(), **OUTAGE), **OUTAGE)


def test_too_many_calls_under_way(monkeypatch):
    """Calls that nothing ends are an error before they are a matter of memory."""
    monkeypatch.setattr("resilient.testing.simulation.traffic.MOST_UNDER_WAY", 100)

    with pytest.raises(RuntimeError, match="add a timeout or a bulkhead"):
        simulate(retry(), **OUTAGE, failure="hang")


def test_retries_that_wait_for_a_breaker_are_told(monkeypatch):
    """Where calls pile up though there is a timeout, as retries wait for the breaker, the error says what helps."""
    monkeypatch.setattr("resilient.testing.simulation.traffic.MOST_UNDER_WAY", 100)

    with pytest.raises(RuntimeError, match="open breaker to close, give them max_elapsed= or give_up_on=Circuit"):
        simulate(Pipeline(retry(max_attempts=3), circuit_breaker(), timeout(1)), **OUTAGE)


def test_sync_wait_without_end_is_refused():
    """A policy that waits for a lock which nobody can release is told, instead of hanging."""
    lock = threading.Lock()
    lock.acquire()
    said = []

    class Waiting:
        async def acall(self, fn):
            try:
                CLOCK.acquire(lock, -1)
            except ConfigurationError as error:
                said.append(error)
            assert not CLOCK.acquire(lock, 0.5)
            CLOCK.sleep(0.5)
            return await fn()

    seen = simulate(Waiting(), (5, 15), 0.5, 40)

    assert "use async policies" in str(said[0])
    assert seen.p50 == pytest.approx(1.05)


# Bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"outage": (15, 5)}, "outage=.*must end after it starts"),
        ({"outage": (5, 50)}, "outage=.*must end within duration=40"),
        ({"outage": (-1, 5)}, "outage start=-1"),
        ({"outage": 5}, r"outage=5: must be \(start, end\)"),
        ({"outage": ("a", "b")}, "outage start='a'"),
        ({"load": 0}, "load=0: must be calls per second"),
        ({"load": -1}, "load=-1"),
        ({"load": math.nan}, "load=nan"),
        ({"load": 1e9}, "load=.*makes 40,000,000,000 calls.*choose a smaller load"),
        ({"duration": -1}, "duration=-1"),
        ({"clients": 0}, "clients=0"),
        ({"clients": 10**7}, "clients=10000000: must be at most 1,000,000"),
        ({"latency": -0.1}, "latency=-0.1"),
        ({"capacity": 0}, "capacity=0"),
        ({"failure_latency": -1}, "failure_latency=-1"),
        ({"failure_latency": math.inf}, 'only failure="hang" can last for ever'),
        ({"interval": 1e-9}, "interval=1e-09: makes more than 100,000 intervals"),
    ],
)
def test_bad_values(options, message):
    """An impossible value is told at once, with what would be right."""
    with pytest.raises(ConfigurationError, match=message):
        simulate(retry(), **{**OUTAGE, **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pipeline": 5}, "pipeline=5: must be a Pipeline"),
        ({"pipeline": RetryPolicy}, "pipeline=.*must be a Pipeline"),
        ({"pipeline": lambda: None}, "made None, which has no method acall"),
        ({"failure": "explode"}, "failure='explode': must be one of error, hang, slow"),
        ({"failure": Custom}, "failure=Custom: cannot be made of one text"),
        ({"seed": 1.5}, "seed=1.5"),
        ({"seed": True}, "seed=True"),
    ],
)
def test_wrong_kinds(options, message):
    """So is what is of the wrong kind."""
    with pytest.raises(TypeError, match=message):
        simulate(**{"pipeline": retry(), **OUTAGE, **options})


def test_disabled():
    """Where policies are switched off, calls go through, as they do in real time."""
    with registry.disabled():
        assert simulate(retry(max_attempts=3), **OUTAGE).outage_amplification == 1


def test_errors_reach_users():
    """What reaches users are the errors of the policies."""
    kinds = set()

    class Looking(Pipeline):
        async def acall(self, fn, /, *args, **kwargs):
            try:
                return await super().acall(fn, *args, **kwargs)
            except Exception as error:
                kinds.add(type(error))
                raise

    simulate(Looking(bulkhead(max_concurrent=2, max_wait=0), timeout(1)), **OUTAGE, failure="hang")
    simulate(Looking(breaker()), **OUTAGE)

    assert kinds == {BulkheadFullError, CallTimeoutError, CircuitOpenError, ConnectionRefusedError}
