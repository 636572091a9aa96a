"""A simulation leaves no traces: policies, registry, time, chance, threads and subscribers are as they were."""

import asyncio
import gc
import logging
import random
import socket
import threading
import time
import tracemalloc

import pytest

from resilient import (
    CircuitOpenError,
    DegradationManager,
    Pipeline,
    RetryBudget,
    SmartTimeout,
    bulkhead,
    circuit_breaker,
    deadline,
    degrade,
    registry,
    retry,
    timeout,
)
from resilient.circuit_breaker import CircuitBreaker, CircuitBreakerConfig, CircuitState
from resilient.clock import CLOCK
from resilient.events import HUB
from resilient.testing.simulation import simulate

OUTAGE = {"outage": (5, 15), "load": 20, "duration": 40, "seed": 7}


def fail():
    raise ConnectionError("down")


def everything():
    """A pipeline with all kinds of state."""
    manager = DegradationManager(minimum_calls=5)
    return Pipeline(
        degrade(fallback="later", manager=manager, cache={}, name="d"),
        retry(budget=RetryBudget(0.2, 1), base_delay=0.01, give_up_on=CircuitOpenError, name="r"),
        circuit_breaker("b", window_duration=10, failure_rate_threshold=0.5, minimum_calls=5, recovery_timeout=5),
        bulkhead("h", max_concurrent=20),
        timeout(SmartTimeout(base_timeout=1), name="t"),
    )


def picture(pipeline):
    budget = pipeline.parts[1].config.budget
    manager = pipeline.parts[0].config.manager
    return registry.snapshot(), budget.calls, budget.get_metrics()[:3], manager.get_metrics(), manager.services


def own_threads():
    """Threads of simulations; others come and go as they like, such as idle ones of other tests."""
    return [one.name for one in threading.enumerate() if one.name.startswith("resilient-simulation")]


@pytest.fixture(autouse=True)
def surroundings():
    """Whatever a test simulates, time, threads, subscribers and sockets are afterwards as they were."""
    clock = CLOCK.monotonic, CLOCK.sleep, CLOCK.asleep, CLOCK.acquire
    before = own_threads(), dict(HUB.by_type), HUB.lines, HUB.log
    yield
    assert (CLOCK.monotonic, CLOCK.sleep, CLOCK.asleep, CLOCK.acquire) == clock
    assert (own_threads(), dict(HUB.by_type), HUB.lines, HUB.log) == before
    assert asyncio._get_running_loop() is None
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))


def test_chance():
    """The random numbers of others go on as though nothing had been drawn."""
    before = random.getstate()

    simulate(retry(jitter="full"), **OUTAGE)

    assert random.getstate() == before


def test_unused_policies_are_as_new():
    """Numbers of policies that were never used are those of new ones afterwards."""
    pipeline = everything()
    before = picture(pipeline)

    seen = simulate(pipeline, **OUTAGE)

    assert seen.degraded > 0
    assert picture(pipeline) == before
    assert pipeline.parts[0].config.cache == {}


def test_used_policies_keep_their_state():
    """A breaker that was open is open again afterwards, and not in the simulation."""
    breaker = circuit_breaker("payments", failure_threshold=2, recovery_timeout=60)
    for _ in range(2):
        with pytest.raises(ConnectionError):
            breaker.call(fail)

    seen = simulate(breaker, **OUTAGE)

    assert seen.timeline[0].failures == 0
    assert breaker.state is CircuitState.OPEN
    assert 59 < breaker.get_metrics().retry_after <= 60
    with pytest.raises(CircuitOpenError):
        breaker.call(fail)


def test_works_in_real_time_afterwards():
    """Functions that the policies guard go on as before, sync and async, with their limits in real time."""
    pipeline = Pipeline(retry(max_attempts=2, base_delay=0.01), bulkhead(max_concurrent=2), timeout(0.05))

    @pipeline
    async def hang():
        await asyncio.sleep(10)

    @pipeline
    async def answer():
        return 1

    simulate(pipeline, **OUTAGE, failure="hang")

    async def main():
        assert await answer() == 1
        began = time.perf_counter()
        with pytest.raises(TimeoutError):
            await hang()
        return time.perf_counter() - began

    assert 0.1 <= asyncio.run(main()) < 3
    assert pipeline.parts[1].available_permits == 2


def test_second_simulation_is_the_first():
    """The same pipeline simulated twice gives the same, whatever state it has and whatever happened in between."""
    pipeline = everything()
    first = simulate(pipeline, **OUTAGE)

    async def afail():
        raise ConnectionError("down")

    for _ in range(20):
        asyncio.run(pipeline.acall(afail))

    assert simulate(pipeline, **OUTAGE) == first


def test_own_state_is_put_back():
    """Attributes that a user's policy keeps are put back, too, and its `reset` is asked before."""

    class Counting(CircuitBreaker):
        def __init__(self):
            super().__init__(CircuitBreakerConfig(), "counting")
            self.seen = [1, 2]
            self.resets = 0

        def reset(self):
            super().reset()
            self.resets += 1
            self.during.append(self.resets)

        def async_layer(self, call, site):
            inner = super().async_layer(call, site)

            async def counting(args, kwargs):
                self.seen.append(3)
                self.extra = True
                return await inner(args, kwargs)

            return counting

    Counting.during = []
    policy = Counting()
    simulate(policy, **OUTAGE)

    assert (policy.seen, policy.resets, hasattr(policy, "extra")) == ([1, 2], 0, False)
    assert Counting.during == [1]


def test_registry():
    """No policy is registered by a simulation, and unnamed ones stay unnamed."""
    live, unnamed = circuit_breaker("payments", failure_threshold=3), retry()

    simulate(Pipeline(unnamed, live), **OUTAGE)
    simulate(lambda: circuit_breaker("payments", failure_threshold=9), **OUTAGE, clients=3)

    assert dict(registry.circuit_breakers) == {"payments": live}
    assert len(registry.retries) == 0
    assert unnamed._name is None


def test_subscribers_hear_nothing(caplog):
    """What happens in a simulation is neither told to subscribers nor logged."""
    heard = []
    caplog.set_level(logging.DEBUG, "resilient")

    with registry.subscribe(heard.append):
        simulate(Pipeline(retry(), circuit_breaker("payments")), **OUTAGE)

    assert heard == []
    assert caplog.records == []


def test_deadline_around():
    """A deadline around the simulation is about real time: it ends none of its calls."""
    with deadline(0.1):
        seen = simulate(timeout(1), (1, 2), 10, 20)

    assert seen.failures == 10


def test_factory_that_fails():
    """What a factory raises is raised, and nothing stays behind."""

    def broken():
        raise LookupError("no such setting")

    with pytest.raises(LookupError, match="no such setting"):
        simulate(broken, **OUTAGE, clients=2)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_interrupted(kind):
    """An interrupt ends the simulation; the policies are as before."""
    breaker = circuit_breaker("payments", failure_threshold=1)

    class Interrupting:
        async def acall(self, fn):
            try:
                return await breaker.acall(fn)
            except CircuitOpenError:
                raise kind from None

    policy = Interrupting()
    policy.parts = (breaker,)
    with pytest.raises(kind):
        simulate(policy, **OUTAGE)

    assert breaker.state is CircuitState.CLOSED


def test_calls_that_will_not_end():
    """A policy that swallows its cancellation cannot keep the simulation from ending."""
    turns = []

    class Stubborn:
        async def acall(self, fn):
            while True:
                try:
                    await asyncio.sleep(1000)
                except asyncio.CancelledError:
                    turns.append(1)

    seen = simulate(Stubborn(), (1, 2), 2, 10)

    assert (seen.unfinished, len(turns)) == (20, 20)


def test_real_sockets_are_refused():
    """A policy that would talk to the real network is told so."""
    errors = []

    class Calling:
        async def acall(self, fn):
            with socket.socket() as one:
                try:
                    one.connect(("127.0.0.1", 9))
                except RuntimeError as error:
                    errors.append(str(error))

    simulate(Calling(), (1, 2), 1, 10)

    assert "a simulation is running" in errors[0]


def test_nothing_is_written(recwarn):
    """Neither warnings nor unfinished tasks are left to the garbage collector."""
    simulate(Pipeline(retry(), timeout(3)), **OUTAGE, failure="hang")
    gc.collect()

    assert [str(one.message) for one in recwarn] == []


def test_memory_is_bounded():
    """Twenty times the calls do not take more memory: they are counted, not kept."""

    def peak(load):
        tracemalloc.start()
        try:
            simulate(
                Pipeline(retry(give_up_on=CircuitOpenError), circuit_breaker("b")),
                (5, 6),
                load,
                20,
                seed=1,
                latency=0.01,
            )
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(10)
    assert peak(400) < peak(20) + 300_000
