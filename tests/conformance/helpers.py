"""What the conformance tests share: bounded waits, crowds, outcomes, and small bodies to guard."""

import asyncio
import dataclasses
import pickle
import threading
import time
from typing import Any

from resilient import circuit_breaker

WAIT = 5.0
"""The longest any helper waits for something that must happen."""


def run(coroutine, limit=WAIT):
    """Run a coroutine in a fresh event loop, at most `limit` seconds."""

    async def bounded():
        return await asyncio.wait_for(coroutine, limit)

    return asyncio.run(bounded())


# Crowds


def in_threads(count, body, limit=WAIT):
    """Run `body(index)` in `count` daemon threads; return results and exceptions in order, never hang."""
    results: list[Any] = [TimeoutError(f"thread still running after {limit} s")] * count

    def work(index):
        try:
            results[index] = body(index)
        except BaseException as error:  # noqa: BLE001 - handed to the test
            results[index] = error

    threads = [threading.Thread(target=work, args=(index,), daemon=True) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(limit)
    assert not any(thread.is_alive() for thread in threads), f"a thread still runs after {limit} s"
    return results


def crowd(guarded, aguarded, threads=8, loops=2, tasks=10):
    """Call `guarded` from threads and `aguarded` from tasks of several event loops, all together."""

    def work(index):
        if index < threads:
            return [guarded()]
        return run(gathered(aguarded, tasks))

    flat: list[Any] = []
    for result in in_threads(threads + loops, work, limit=WAIT * 2):
        flat.extend(result if isinstance(result, list) else [result])
    return flat


async def gathered(aguarded, count):
    """Call `aguarded` in `count` tasks together; return results and exceptions."""
    return await asyncio.gather(*(aguarded() for _ in range(count)), return_exceptions=True)


def eventually(condition, limit=WAIT):
    """Wait until `condition()` is true; fail when it does not become so."""
    pause = threading.Event()
    for _ in range(int(limit / 0.005)):
        if condition():
            return
        pause.wait(0.005)
    raise AssertionError("the condition never became true")


async def aeventually(condition, limit=WAIT):
    """Wait in an event loop until `condition()` is true."""
    loop = asyncio.get_running_loop()
    end = loop.time() + limit
    while not condition():
        assert loop.time() < end, "the condition never became true"
        waiter = loop.create_future()
        loop.call_later(0.002, waiter.set_result, None)
        await waiter


class Inside:
    """Measures how many are inside at once; `enter` and `aenter` stay until `release` is set."""

    def __init__(self):
        self.lock = threading.Lock()
        self.now = self.peak = self.total = 0
        self.release = threading.Event()

    def _in(self):
        with self.lock:
            self.now += 1
            self.total += 1
            self.peak = max(self.peak, self.now)

    def _out(self):
        with self.lock:
            self.now -= 1

    def enter(self):
        self._in()
        try:
            assert self.release.wait(WAIT), "never released"
        finally:
            self._out()

    async def aenter(self):
        self._in()
        try:
            await aeventually(self.release.is_set)
        finally:
            self._out()


@dataclasses.dataclass
class Failing:
    """A body that raises `error` while it is set, else answers "ok"; counts its calls."""

    error: BaseException | type[BaseException] | None = ConnectionError
    calls: int = 0

    def __call__(self, *args, **kwargs):
        self.calls += 1
        if self.error is not None:
            raise self.error
        return "ok"


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


def revived(thing):
    """Send something through pickle."""
    return pickle.loads(pickle.dumps(thing))  # noqa: S301 - our own pickle


def attempted(decorate, function):
    """Decorate and return the result, or None when the decorator refuses with a TypeError that says something."""
    try:
        return decorate(function)
    except TypeError as error:
        refusal = str(error)
    assert refusal, "a refusal says what to do instead"
    return None


class Marked(Exception):
    """An exception that can be referred to weakly."""


# Breakers


def state(breaker):
    return breaker.state.name


def tripped(**options):
    """Make a breaker and open it with one failure."""
    breaker = circuit_breaker("b", **{"failure_threshold": 1, "recovery_timeout": 60, **options})
    outcome(breaker.call, Failing())
    return breaker


def feed(face, breaker, verdicts):
    """Make one call per letter: "S" succeeds, "F" fails. Stop at a rejection."""
    for verdict in verdicts:
        body = Failing(None if verdict == "S" else ConnectionError)
        outcome(face.via, breaker, face.function(body))


# Bulkheads


class Taken:
    """Holds one place of a bulkhead, from a thread, while the block runs."""

    def __init__(self, bulk, count=1):
        self.bulk, self.count, self.inside = bulk, count, Inside()

    def __enter__(self):
        self.threads = [
            threading.Thread(target=outcome, args=(self.bulk.call, self.inside.enter), daemon=True)
            for _ in range(self.count)
        ]
        for thread in self.threads:
            thread.start()
        eventually(lambda: self.inside.now == self.count)
        return self

    def leave(self):
        self.inside.release.set()
        for thread in self.threads:
            thread.join(5)

    def __exit__(self, *exc_info):
        self.leave()


def idle(bulk, places):
    """Say whether nobody is inside and nobody waits."""
    return (bulk.active_requests, bulk.available_permits, bulk.queue_length) == (0, places, 0)


# Timeouts


def slow(face, seconds=0.2):
    """Make a function that takes its time, in the way its face does."""
    if face.is_async:
        return face.function(lambda *args: asyncio.sleep(seconds, "slow"))

    def guarded(*args):
        time.sleep(seconds)
        return "slow"

    return guarded
