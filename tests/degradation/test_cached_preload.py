"""`preload_cache` and `apreload_cache`: they really load, so many at once, and say how it went."""

import asyncio
import inspect
import signal
import threading
import time
from contextvars import ContextVar

import cachetools
import pytest

from resilient import CachedDegradation, ConfigurationError, degrade

from .cached_helpers import AsyncStore, Store, outcome, run, ticks


class Loader:
    """Loads, except the keys in `bad`; measures how many do so at once."""

    def __init__(self, bad=(), error=OSError):
        self.bad, self.error = bad, error
        self.now = self.peak = 0
        self.loaded = []
        self.lock = threading.Lock()

    def _enter(self, key):
        with self.lock:
            self.now += 1
            self.peak = max(self.peak, self.now)
            self.loaded.append(key)

    def _leave(self, key):
        with self.lock:
            self.now -= 1
        if key in self.bad:
            raise self.error
        return f"loaded {key}"

    def sync(self, key):
        self._enter(key)
        time.sleep(0.005)
        return self._leave(key)

    async def asynchronous(self, key):
        self._enter(key)
        await asyncio.sleep(0.005)
        return self._leave(key)


WAYS = {
    "sync": lambda cached, keys, loader, **options: cached.preload_cache(keys, loader.sync, **options),
    "awaited": lambda cached, keys, loader, **options: run(cached.preload_cache(keys, loader.asynchronous, **options)),
    "async": lambda cached, keys, loader, **options: run(cached.apreload_cache(keys, loader.asynchronous, **options)),
    "async, sync loader": lambda cached, keys, loader, **options: run(
        cached.apreload_cache(keys, loader.sync, **options)
    ),
}


@pytest.fixture(params=WAYS.values(), ids=WAYS)
def preload(request):
    """Preload in each of the four ways."""
    return request.param


@pytest.mark.parametrize("make", [lambda: None, dict, Store, lambda: cachetools.LRUCache(100)])
def test_really_loads(preload, make):
    """What the loader gives is served without a call, and what failed is not there."""
    cached, loader = CachedDegradation(make()), Loader(bad=["b"])
    done = preload(cached, iter("abc"), loader)
    assert (done.successes, done.failures, done.failed_keys) == (2, 1, ("b",))
    ask = degrade(cache=cached, key=lambda key: key)(lambda key: f"called {key}")
    assert [ask("a"), ask("b"), ask("c")] == ["loaded a", "called b", "loaded c"]
    assert sorted(loader.loaded) == ["a", "b", "c"]


@pytest.mark.parametrize("limit", [1, 3, 8, 100])
def test_bounded_concurrency(preload, limit):
    """Never more than `max_concurrent` load at once, and as many as that where there are enough keys."""
    loader = Loader()
    keys = range(min(4 * limit, 24))
    done = preload(CachedDegradation(), keys, loader, max_concurrent=limit)
    assert (done.successes, done.failures) == (len(keys), 0)
    assert loader.peak <= limit
    assert loader.peak == 1 if limit == 1 else loader.peak > 1


def test_empty(preload):
    """No keys, no loading, no threads."""
    loader = Loader()
    assert tuple(preload(CachedDegradation(), [], loader)) == (0, 0, ())
    assert loader.loaded == []


@pytest.mark.parametrize("limit", [0, -1, 1.5, "8", None, True])
def test_bad_limits(preload, limit):
    """An impossible `max_concurrent` is refused by name, and nothing is loaded."""
    loader = Loader()
    with pytest.raises(ConfigurationError, match="max_concurrent="):
        preload(CachedDegradation(), list("ab"), loader, max_concurrent=limit)
    assert loader.loaded == []


def test_broken_cache(preload):
    """What a broken cache did not take counts as a failure."""
    done = preload(CachedDegradation(Store(broken=("set",))), list("abc"), Loader())
    assert (done.successes, done.failures, sorted(done.failed_keys)) == (0, 3, ["a", "b", "c"])
    done = preload(CachedDegradation(cachetools.LRUCache(0)), list("a"), Loader())
    assert (done.successes, done.failures) == (0, 1)


def test_unhashable_keys(preload):
    """A key that no cache can take is a failure among others."""
    done = preload(CachedDegradation({}), [[1], "a"], Loader())
    assert (done.successes, done.failures, done.failed_keys) == (1, 1, ([1],))


def test_async_cache():
    """An async cache is preloaded by `apreload_cache`, or `preload_cache` with an async loader."""
    for loader in (Loader().sync, Loader().asynchronous):
        store = AsyncStore()
        assert run(CachedDegradation(store).apreload_cache(list("ab"), loader)).successes == 2
        assert sorted(store.kept) == ["a", "b"]
    assert run(CachedDegradation(AsyncStore()).preload_cache(list("ab"), Loader().asynchronous)).successes == 2


def test_context_reaches_the_loader(preload):
    """The caller's context variables reach the loader, in threads too."""
    variable = ContextVar("variable", default="none")
    seen = []

    class Seeing(Loader):
        def _leave(self, key):
            seen.append(variable.get())

    token = variable.set("mine")
    preload(CachedDegradation(), list("abc"), Seeing())
    variable.reset(token)
    assert seen == ["mine"] * 3


def test_plain_function_that_gives_coroutines():
    """A coroutine is never stored as an answer: a lambda that returns one is awaited, or fails, or is refused."""
    cached, made = CachedDegradation(), []

    def load(key):
        made.append(Loader().asynchronous(key))
        return made[-1]

    done = outcome(cached.preload_cache, list("a"), load)
    if inspect.isawaitable(done):
        done = run(done)
    answer = outcome(cached.get_data, "a")
    for coroutine in made:
        coroutine.close()
    assert not inspect.iscoroutine(answer)
    assert isinstance(done, TypeError) or done.failures == 1 or answer == "loaded a"


def test_coroutines_of_a_plain_function_are_awaited():
    """`apreload_cache` awaits what a plain function returns."""
    cached = CachedDegradation()
    assert run(cached.apreload_cache(list("a"), lambda key: Loader().asynchronous(key))).successes == 1
    assert cached.get_data("a") == "loaded a"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_interrupts_pass(preload, error):
    """KeyboardInterrupt and SystemExit of a loader come out, as they are."""
    if preload is WAYS["async, sync loader"] or preload is WAYS["sync"]:
        result = outcome(preload, CachedDegradation(), list("abc"), Loader("b", error))
        assert type(result) is error
        return

    async def main():
        return await CachedDegradation().apreload_cache(list("abc"), Loader("b", error).asynchronous)

    assert type(outcome(asyncio.run, main())) is error


def test_cancelled():
    """Cancelling the preloading cancels the loaders, and comes out as a cancellation."""

    async def main():
        ended, started = [], []

        async def load(key):
            started.append(key)
            try:
                await asyncio.sleep(30)
            finally:
                ended.append(key)

        task = asyncio.ensure_future(CachedDegradation().apreload_cache(list("abcdef"), load, max_concurrent=3))
        await ticks()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert started == sorted(ended) == ["a", "b", "c"]

    run(main())


def test_loader_that_is_cancelled():
    """A loader that ends cancelled does not silently take the other keys with it."""

    async def main():
        async def load(key):
            if key == "a":
                raise asyncio.CancelledError
            return key

        try:
            return await CachedDegradation().apreload_cache(list("abc"), load, max_concurrent=1)
        except asyncio.CancelledError:
            return None

    done = run(main())
    assert done is None or (done.successes, done.failed_keys) == (2, ("a",))


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="signals to a thread")
def test_ctrl_c_while_loading():
    """Ctrl-C during a preload in threads ends it at once, not when the loaders under way have ended."""
    release, started = threading.Event(), threading.Event()
    main = threading.main_thread().ident

    def load(key):
        started.set()
        release.wait(5)

    def interrupt():
        started.wait(5)
        time.sleep(0.03)
        signal.pthread_kill(main, signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    guard = threading.Timer(1.0, release.set)
    guard.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            CachedDegradation().preload_cache(range(20), load, max_concurrent=2)
        at_once = not release.is_set()
    finally:
        release.set()
        guard.cancel()
    assert at_once, "it waited for the loaders"
