"""What the tests of `CachedDegradation` share: time that tests move, caches, services, faces, and bounded waits."""

import asyncio
import contextlib
import threading
import time
from unittest import mock

from resilient.clock import CLOCK

WAIT = 5.0
"""The longest any helper waits for something that must happen."""


class Moved:
    """A time that stands still until it is moved: monotonic, and the time of day."""

    def __init__(self, now=1000.0):
        self.now = now

    def monotonic(self):
        return self.now

    def time_of_day(self):
        return 1_700_000_000 + self.now

    def sleep(self, seconds):
        self.now += seconds

    async def asleep(self, seconds):
        self.now += seconds

    def tick(self, seconds):
        self.now += seconds


@contextlib.contextmanager
def moved_time(now=1000.0):
    """Let time stand still; yields what moves it."""
    moved = Moved(now)
    with CLOCK.use(moved), mock.patch.object(time, "time", moved.time_of_day):
        yield moved


class Service:
    """Answers with "<argument>:<number of the call>", or fails while it is down."""

    def __init__(self):
        self.calls, self.down = 0, None
        self.lock = threading.Lock()

    def __call__(self, *args, **kwargs):
        with self.lock:
            self.calls += 1
            number = self.calls
        if self.down is not None:
            raise self.down
        return f"{args[0] if args else ''}:{number}"


class Face:
    """How a test makes its functions and calls them: sync, or async in an event loop of its own."""

    def __init__(self, is_async):
        self.is_async = is_async

    def function(self, body):
        """Make a function of this kind out of a sync body."""

        def function(*args, **kwargs):
            return body(*args, **kwargs)

        async def afunction(*args, **kwargs):
            return body(*args, **kwargs)

        return afunction if self.is_async else function

    def call(self, function, *args, **kwargs):
        """Call and wait for the answer."""
        return run(function(*args, **kwargs)) if self.is_async else function(*args, **kwargs)


FACES = [Face(False), Face(True)]
IDS = ["sync", "async"]


class Store:
    """A cache with get, set and delete; the methods in `broken` raise."""

    def __init__(self, broken=()):
        self.kept, self.broken = {}, broken

    def _break(self, name):
        if name in self.broken:
            raise OSError("the cache is down")

    def get(self, key):
        self._break("get")
        return self.kept.get(key)

    def set(self, key, value):
        self._break("set")
        self.kept[key] = value

    def delete(self, key):
        self._break("delete")
        self.kept.pop(key, None)


class AsyncStore(Store):
    """The same, awaited, and letting others run in between."""

    async def get(self, key):
        await asyncio.sleep(0)
        return Store.get(self, key)

    async def set(self, key, value):
        await asyncio.sleep(0)
        Store.set(self, key, value)

    async def delete(self, key):
        await asyncio.sleep(0)
        Store.delete(self, key)


def run(coroutine, limit=WAIT):
    """Run a coroutine in a fresh event loop, at most `limit` seconds."""

    async def bounded():
        return await asyncio.wait_for(coroutine, limit)

    return asyncio.run(bounded())


def outcome(function, *args, **kwargs):
    """Return what a call gives, or the exception it raises."""
    try:
        return function(*args, **kwargs)
    except BaseException as error:  # noqa: BLE001 - handed to the test
        return error


async def aoutcome(awaitable):
    """Return what an awaitable gives, or the exception it raises."""
    try:
        return await awaitable
    except Exception as error:  # noqa: BLE001 - handed to the test
        return error


class Elsewhere:
    """A call in a thread of its own."""

    def __init__(self, function, *args):
        self._result = None
        self._thread = threading.Thread(target=self._work, args=(function, args), daemon=True)
        self._thread.start()

    def _work(self, function, args):
        self._result = outcome(function, *args)

    @property
    def ended(self):
        """Whether it has."""
        return not self._thread.is_alive()

    def ends(self, limit):
        """Whether it does so in time."""
        self._thread.join(limit)
        return self.ended

    def result(self, limit=WAIT):
        """What came of it; fails when it does not end."""
        self._thread.join(limit)
        assert not self._thread.is_alive(), f"a call still waits after {limit} s"
        result, self._result = self._result, None
        return result


def in_threads(count, body, limit=WAIT):
    """Run `body(index)` in `count` threads at once; return results and exceptions in order, never hang."""
    together = threading.Barrier(count)

    def work(index):
        together.wait(limit)
        return body(index)

    calls = [Elsewhere(work, index) for index in range(count)]
    return [call.result(limit) for call in calls]


def eventually(condition, limit=WAIT):
    """Wait until `condition()` is true; fail when it does not become so."""
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, "the condition never became true"
        time.sleep(0.001)


async def ticks(count=10):
    """Let the other tasks of this loop run."""
    for _ in range(count):
        await asyncio.sleep(0)
