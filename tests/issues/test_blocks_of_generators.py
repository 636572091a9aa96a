"""Two generators in one thread that each held a `with breaker:` used to give back each other's permit."""

import asyncio
import contextlib
import threading

import pytest

from resilient import bulkhead, circuit_breaker, registry

from .helpers import in_threads, outcome, run


@pytest.fixture
def breaker():
    return circuit_breaker("b", failure_threshold=1, recovery_timeout=10, half_open_calls=1)


def half_open(breaker, time):
    outcome(breaker.call, lambda: 1 / 0)
    time.now += 11


def seen(breaker):
    return breaker.state.name, breaker.get_metrics().probes_in_flight


def test_generators(breaker, time):
    """Each generator's block ends with the permit it began with, whichever ends first."""

    def block():
        with breaker:
            yield

    old = block()
    next(old)
    half_open(breaker, time)
    new = block()
    next(new)
    assert seen(breaker) == ("HALF_OPEN", 1)
    assert list(old) == []
    assert seen(breaker) == ("HALF_OPEN", 1)
    assert list(new) == []
    assert seen(breaker) == ("CLOSED", 0)


def test_generators_that_end_in_order(breaker, time):
    """The same when the later one ends first."""

    def block():
        with breaker:
            yield

    old = block()
    next(old)
    half_open(breaker, time)
    new = block()
    next(new)
    assert list(new) == []
    assert seen(breaker) == ("CLOSED", 0)
    assert list(old) == []
    assert seen(breaker) == ("CLOSED", 0)


def test_generator_and_function(breaker, time):
    """A generator's block and one of the code that drives it keep their own permits."""

    def block():
        with breaker:
            yield

    old = block()
    next(old)
    half_open(breaker, time)
    with breaker:
        assert list(old) == []
        assert seen(breaker) == ("HALF_OPEN", 1)
    assert seen(breaker) == ("CLOSED", 0)


def test_async_generators(breaker, time):
    """The same for async generators in one task."""

    async def block():
        async with breaker:
            yield

    async def go():
        old = block()
        await anext(old)
        half_open(breaker, time)
        new = block()
        await anext(new)
        await anext(old, None)
        middle = seen(breaker)
        await anext(new, None)
        return middle, seen(breaker)

    assert run(go()) == (("HALF_OPEN", 1), ("CLOSED", 0))


class Helper:
    """Enters and leaves a policy in functions of its own, whose frames are gone while the block lasts."""

    def __init__(self, policy):
        self.policy = policy

    def __enter__(self, *how):
        return self.policy.__enter__(*how)

    def __exit__(self, *how):
        return self.policy.__exit__(*how)

    async def __aenter__(self, *how):
        return await self.policy.__aenter__(*how)

    async def __aexit__(self, *how):
        return await self.policy.__aexit__(*how)


def test_helpers_in_threads(breaker, time):
    """A helper's block in one thread does not end that of another thread."""
    entered, probing, middle = (threading.Event() for _ in range(3))
    views = []

    def old():
        with Helper(breaker):
            entered.set()
            probing.wait(5)
        views.append(seen(breaker))
        middle.set()

    def new():
        entered.wait(5)
        half_open(breaker, time)
        with Helper(breaker):
            probing.set()
            middle.wait(5)

    assert in_threads(old, new) == [None, None]
    assert views == [("HALF_OPEN", 1)]
    assert seen(breaker) == ("CLOSED", 0)


def test_helpers_in_tasks(breaker, time):
    """A helper's block in one task does not end that of another task."""

    async def go():
        entered, probing, middle = asyncio.Event(), asyncio.Event(), asyncio.Event()
        views = []

        async def old():
            async with Helper(breaker):
                entered.set()
                await probing.wait()
            views.append(seen(breaker))
            middle.set()

        async def new():
            await entered.wait()
            half_open(breaker, time)
            async with Helper(breaker):
                probing.set()
                await middle.wait()

        await asyncio.gather(old(), new())
        return views

    assert run(go()) == [("HALF_OPEN", 1)]
    assert seen(breaker) == ("CLOSED", 0)


def test_exit_stacks_in_tasks(breaker, time):
    """The same for exit stacks."""

    async def go():
        entered, probing, middle = asyncio.Event(), asyncio.Event(), asyncio.Event()
        views = []

        async def old():
            async with contextlib.AsyncExitStack() as stack:
                await stack.enter_async_context(breaker)
                entered.set()
                await probing.wait()
            views.append(seen(breaker))
            middle.set()

        async def new():
            await entered.wait()
            half_open(breaker, time)
            async with contextlib.AsyncExitStack() as stack:
                stack.enter_context(breaker)
                probing.set()
                await middle.wait()

        await asyncio.gather(old(), new())
        return views

    assert run(go()) == [("HALF_OPEN", 1)]
    assert seen(breaker) == ("CLOSED", 0)


def test_failing_generator(breaker, time):
    """A failure counts for the block in which it happened."""

    def block():
        with breaker:
            yield

    old = block()
    next(old)
    half_open(breaker, time)
    new = block()
    next(new)
    assert isinstance(outcome(old.throw, ConnectionError()), ConnectionError)
    assert seen(breaker) == ("HALF_OPEN", 1)
    assert isinstance(outcome(new.throw, ConnectionError()), ConnectionError)
    assert seen(breaker) == ("OPEN", 0)


def opened_probe(time):
    probed = circuit_breaker("probed", failure_threshold=1, recovery_timeout=10, half_open_calls=1)
    half_open(probed, time)
    return probed


@pytest.mark.parametrize("other", [False, True], ids=["to none", "to another"])
def test_breaker_of_a_bulkhead_changed_inside(time, other):
    """The probe of the breaker that a bulkhead had when the block began ends with the block."""
    probed, later = opened_probe(time), circuit_breaker("later") if other else None
    bulk = bulkhead("bulk", circuit_breaker=probed)
    with bulk:
        assert seen(probed) == ("HALF_OPEN", 1)
        registry.configure("bulkhead", "bulk", circuit_breaker=later)
    assert seen(probed) == ("CLOSED", 0)
    if later is not None:
        assert later.get_metrics().success_count == 0
    assert bulk.available_permits == 100


@pytest.mark.parametrize("other", [False, True], ids=["to none", "to another"])
def test_breaker_of_a_bulkhead_changed_inside_async(time, other):
    """The same for `async with`."""
    probed, later = opened_probe(time), circuit_breaker("later") if other else None
    bulk = bulkhead("bulk", circuit_breaker=probed)

    async def go():
        async with bulk:
            await asyncio.sleep(0)
            registry.configure("bulkhead", "bulk", circuit_breaker=later)

    run(go())
    assert seen(probed) == ("CLOSED", 0)
    if later is not None:
        assert later.get_metrics().success_count == 0


def test_breaker_of_a_bulkhead_changed_inside_a_call(time):
    """The same for a decorated call and a generator."""
    probed = opened_probe(time)
    bulk = bulkhead("bulk", circuit_breaker=probed)

    @bulk
    def stream():
        yield 1

    opened = stream()
    next(opened)
    assert seen(probed) == ("HALF_OPEN", 1)
    registry.configure("bulkhead", "bulk", circuit_breaker=None)
    assert list(opened) == []
    assert seen(probed) == ("CLOSED", 0)


def test_breaker_of_a_bulkhead_given_inside(time):
    """A breaker that a bulkhead is given during a block hears nothing of that block."""
    bulk, later = bulkhead("bulk"), opened_probe(time)
    with bulk:
        registry.configure("bulkhead", "bulk", circuit_breaker=later)
        with later:
            pass
    assert later.get_metrics().success_count == 1
    assert seen(later) == ("CLOSED", 0)
