"""Nothing is kept alive, and nothing grows."""

import asyncio
import contextlib
import gc
import tracemalloc
import weakref

import pytest

from resilient import CircuitOpenError, bulkhead, circuit_breaker, deadline, degrade, registry, retry, timeout

from .helpers import run

POLICIES = {
    "retry": lambda: retry(base_delay=0, max_attempts=2, name="n"),
    "circuit_breaker": lambda: circuit_breaker("n", failure_threshold=10**6),
    "count_window": lambda: circuit_breaker("n", window_size=100, failure_rate_threshold=1.0),
    "time_window": lambda: circuit_breaker("n", window_duration=0.01, failure_rate_threshold=1.0),
    "open": lambda: circuit_breaker("n", failure_threshold=1),
    "bulkhead": lambda: bulkhead("n"),
    "cooperative": lambda: timeout(5, method="cooperative", name="n"),
    "degrade": lambda: degrade(fallback=1, cache={}, name="n"),
}
pytestmark = pytest.mark.usefixtures("silence")  # what captures the log would grow
every_policy = pytest.mark.parametrize("make", POLICIES.values(), ids=POLICIES)


class Marked(Exception):
    """An exception that can be referred to weakly."""


def growth(work):
    """Return the bytes that are still there after the work was done once more than before."""
    work(200)
    gc.collect()
    tracemalloc.start()
    try:
        work(200)
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        work(None)
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


@every_policy
def test_sync_calls_do_not_grow(make):
    """After a hundred thousand calls, every fiftieth of which fails, there is no more memory in use than before."""
    guarded = make()(lambda fails: 1 // (not fails))

    def work(calls):
        for number in range(calls or 100_000):
            with contextlib.suppress(Exception):
                guarded(number % 50 == 0)

    assert growth(work) < 8_000


@every_policy
def test_async_calls_do_not_grow(make):
    """The same for async calls, in smaller number."""
    policy = make() if make is not POLICIES["cooperative"] else timeout(5)

    @policy
    async def guarded(fails):
        return 1 // (not fails)

    async def calls(number):
        for one in range(number):
            with contextlib.suppress(Exception):
                await guarded(one % 10 == 0)

    assert growth(lambda number: run(calls(number or 10_000))) < 16_000


def test_blocks_do_not_grow():
    """Blocks, deadlines, subscriptions and `policy.call` leave nothing behind."""
    breaker, places, again = circuit_breaker("b"), bulkhead("h"), retry(name="r")

    def work(calls):
        for _ in range(calls or 2_000):
            with breaker, places, deadline(5), registry.subscribe(print):
                again.call(int)

    assert growth(work) < 8_000
    assert (breaker._blocks, places._blocks) == ([], [])


def test_unnamed_policies_do_not_grow():
    """Functions decorated anew all the time, as in a factory, leave no policy and no name behind."""

    def work(calls):
        for _ in range(calls or 500):
            retry(base_delay=0)(circuit_breaker(lambda: 1))()

    assert growth(work) < 16_000
    gc.collect()
    assert (len(registry.retries), len(registry.circuit_breakers)) == (0, 0)


@every_policy
def test_exceptions_die(make):
    """An exception that came out of a guarded call dies with its last user, and so do the frames it holds."""

    def work(thing):
        raise thing

    for face in ("sync", "async"):
        policy = make() if face == "sync" or make is not POLICIES["cooperative"] else timeout(5)
        if isinstance(policy, type(degrade(fallback=1))):
            policy = degrade(fallback=1, on=KeyError)
        error = Marked()
        gone = weakref.ref(error)
        with registry.subscribe(lambda event: None), contextlib.suppress(Marked, CircuitOpenError):
            if face == "sync":
                policy.call(work, error)
            else:

                async def awork(thing):
                    raise thing

                run(policy.acall(awork, error))
        del error
        gc.collect()
        assert gone() is None, face


def test_open_breaker_keeps_no_error():
    """The error that opened a breaker is not kept by it."""

    def work(thing):
        raise thing

    error = Marked()
    gone = weakref.ref(error)
    breaker = circuit_breaker("b", failure_threshold=1)
    with contextlib.suppress(Marked):
        breaker.call(work, error)
    del error
    gc.collect()
    assert breaker.state.value == "open"
    assert gone() is None


@every_policy
def test_functions_and_instances_die(make):
    """Guarded functions, instances of classes with guarded methods, and the proxies die as usual."""
    policy = make()

    class Host:
        @policy
        def method(self):
            return self

    def function():
        return 1

    host = Host()
    host.method()
    guarded = policy(function)
    guarded()
    things = [weakref.ref(thing) for thing in (host, function, guarded, Host)]
    if policy.kind == "degrade":
        policy.config.cache.clear()  # an answer is the cache's to keep
    del host, function, guarded, Host
    gc.collect()
    assert [thing() for thing in things] == [None] * 4


def test_loops_die():
    """No policy keeps an event loop alive, also one in which calls waited, timed out or were cancelled."""
    limit, places = timeout(0.01, name="t"), bulkhead("h", max_concurrent=1, max_wait=0.01)
    loops = []

    async def main():
        loops.append(weakref.ref(asyncio.get_running_loop()))
        with contextlib.suppress(TimeoutError):
            await limit.acall(asyncio.sleep, 5)
        async with places:
            waiter = asyncio.ensure_future(places.acall(asyncio.sleep, 0))
            await asyncio.sleep(0)
            waiter.cancel()
            await asyncio.gather(waiter, return_exceptions=True)
            with contextlib.suppress(Exception):
                await places.acall(asyncio.sleep, 0)

    for _ in range(2):
        run(main())
    gc.collect()
    assert [loop() for loop in loops] == [None, None]
    assert places.get_metrics()[:3] == (0, 1, 0)
