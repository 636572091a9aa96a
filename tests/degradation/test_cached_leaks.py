"""After calls through a `CachedDegradation` nothing is kept alive, and no garbage is left for the collector."""

import asyncio
import contextlib
import gc
import threading
import time
import types
import weakref

import pytest

from resilient import CachedDegradation, DegradationError, deadline, degrade

from .cached_helpers import Elsewhere, aoutcome, eventually, run, ticks


class Marked(Exception):
    """An exception that can be referred to weakly."""


def ours(thing):
    """Whether a piece of garbage is the library's."""
    if isinstance(thing, types.FrameType):
        return "/resilient/" in thing.f_code.co_filename
    return type(thing).__module__.startswith("resilient")


@contextlib.contextmanager
def no_garbage():
    """Fail when the block leaves cyclic garbage in which something is of the library."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield
        gc.collect()
        found = [thing for thing in gc.garbage if ours(thing)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert found == []


def failing(references, release=None, inside=None):
    def body(key):
        if inside is not None:
            inside.set()
            release.wait(5)
        error = Marked()
        references.append(weakref.ref(error))
        try:
            raise error
        finally:
            del error

    return body


FALLBACKS = {"fallback": {"fallback": "spare"}, "none": {}, "failing": {"fallback": [lambda key: 1 // 0]}}


@pytest.mark.parametrize("options", FALLBACKS.values(), ids=FALLBACKS)
def test_failures_of_threads(options):
    """After failures with waiting threads there is no cyclic garbage of ours, and no exception is alive."""
    references = []
    cached = CachedDegradation()
    with no_garbage():
        for _ in range(3):
            release, inside = threading.Event(), threading.Event()
            ask = degrade(cache=cached, key=lambda key: key, **options)(failing(references, release, inside))
            before = cached.get_metrics().cache_misses
            calls = [Elsewhere(ask, "a")]
            assert inside.wait(5)
            calls += [Elsewhere(ask, "a") for _ in range(5)]
            eventually(lambda before=before: cached.get_metrics().cache_misses == before + 6)
            time.sleep(0.02)
            release.set()
            kinds = {type(call.result()) for call in calls}
            assert kinds <= {str, Marked, DegradationError}
            del calls
    assert len(references) == 3
    assert [reference() for reference in references] == [None] * 3
    assert not cached.flights._by_key


@pytest.mark.parametrize("options", FALLBACKS.values(), ids=FALLBACKS)
def test_failures_of_tasks(options):
    """The same with waiting tasks, some of which are cancelled and some of which run out of time."""
    references = []
    cached = CachedDegradation()

    async def main():
        go = asyncio.Event()

        @degrade(cache=cached, key=lambda key: key, **options)
        async def ask(key):
            await go.wait()
            failing(references)(key)

        async def short():
            with deadline(0.01):
                return await ask("a")

        tasks = [asyncio.ensure_future(aoutcome(ask("a"))) for _ in range(6)]
        tasks += [asyncio.ensure_future(aoutcome(short())) for _ in range(2)]
        await asyncio.sleep(0.03)
        tasks[3].cancel()
        await ticks()
        go.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        tasks.clear()

    run(main())
    references.clear()
    with no_garbage():
        run(main())
    assert [reference() for reference in references] == [None]
    assert not cached.flights._by_key


def test_error_dies_with_the_call_while_its_task_goes_on():
    """What a call has started may go on for long; the error the call ended with does not live as long as that."""

    async def main():
        go, end, references, background = asyncio.Event(), asyncio.Event(), [], []

        @degrade(cache=CachedDegradation(), key=lambda key: key, fallback="spare")
        async def ask(key):
            background.append(asyncio.ensure_future(end.wait()))
            await go.wait()
            failing(references)(key)

        calls = [asyncio.ensure_future(ask("a")) for _ in range(3)]
        await ticks()
        go.set()
        assert await asyncio.gather(*calls) == ["spare"] * 3
        calls.clear()
        gc.collect()
        alive = [reference() for reference in references]
        end.set()
        await asyncio.gather(*background)
        assert alive == [None]

    run(main())


def test_chain_of_calls_does_not_grow():
    """A task that each call starts for the next one, as in polling, does not drag all earlier calls along."""

    async def main():
        from resilient.degradation.flights import Flight

        def flights():
            gc.collect()
            return sum(type(thing) is Flight for thing in gc.get_objects())

        end, before = asyncio.get_running_loop().create_future(), flights()

        @degrade(cache=CachedDegradation({}), key=lambda number: number)
        async def ask(number):
            if number == 200:
                end.set_result(flights() - before)
            else:
                asyncio.get_running_loop().call_soon(start, number + 1)
            return number

        def start(number):
            task = asyncio.ensure_future(ask(number))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        tasks = set()
        start(0)
        return await end

    assert run(main()) < 20


def test_shared_traceback_stays_short():
    """An error that many get does not grow by the frames of all who got it."""

    async def main():
        go = asyncio.Event()

        @degrade(cache=CachedDegradation(), key=lambda key: key)
        async def ask(key):
            await go.wait()
            raise Marked

        calls = [asyncio.ensure_future(ask("a")) for _ in range(50)]
        await ticks()
        go.set()
        errors = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(error) for error in errors} == {Marked}
        longest = 0
        for error in errors:
            length, step = 0, error.__traceback__
            while step is not None:
                length, step = length + 1, step.tb_next
            longest = max(longest, length)
        return longest

    assert run(main()) < 30


def test_waiters_leave_nothing_in_a_long_flight():
    """Callers that give up waiting, one after the other, leave nothing behind in the call that goes on."""

    async def main():
        go, cached = asyncio.Event(), CachedDegradation()

        @degrade(cache=cached, key=lambda key: key, fallback="spare")
        async def ask(key):
            await go.wait()
            return key

        def futures():
            gc.collect()
            return sum(type(thing) is asyncio.Future for thing in gc.get_objects())

        leader = asyncio.ensure_future(ask("a"))
        await ticks()
        before = futures()
        for _ in range(200):
            waiter = asyncio.ensure_future(ask("a"))
            await ticks(3)
            waiter.cancel()
            await asyncio.wait([waiter])
        grown = futures() - before
        go.set()
        assert await leader == "a"
        return grown

    assert run(main()) < 50
