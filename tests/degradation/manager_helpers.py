"""What the tests of the manager share: a virtual clock, services to break, and the sync and the async face of both."""

import asyncio
import contextlib
import os
import pathlib
import subprocess
import sys
import textwrap
import threading
import time

import resilient
from resilient import degrade

WAIT = 10.0
"""The longest any helper waits for something that must happen."""

ROOT = str(pathlib.Path(resilient.__file__).parents[1])


class Virtual:
    """Time that only moves when told to."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds

    async def asleep(self, seconds):
        self.now += seconds


def drive(coroutine):
    """Run a coroutine that never really waits, without an event loop."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    coroutine.close()
    raise AssertionError("the coroutine waited")


def run(coroutine):
    """Run a coroutine in an event loop of its own, for a bounded time."""

    async def bounded():
        return await asyncio.wait_for(coroutine, WAIT)

    return asyncio.run(bounded())


class Service:
    """A service that fails while `failing` is set, and asks to be spared while `wish` is true."""

    def __init__(self, failing=None, wish=False):
        self.failing, self.degraded_failing, self.wish = failing, None, wish
        self.full, self.spared, self.asked = 0, 0, 0

    def execute_full(self, /, *args, **kwargs):
        self.full += 1
        if self.failing is not None:
            raise self.failing
        return ("full", args, kwargs)

    def execute_degraded(self, /, *args, **kwargs):
        self.spared += 1
        if self.degraded_failing is not None:
            raise self.degraded_failing
        return ("degraded", args, kwargs)

    def should_degrade(self):
        self.asked += 1
        if isinstance(self.wish, Exception):
            raise self.wish
        return self.wish


class AsyncService(Service):
    """The same with async methods."""

    async def execute_full(self, /, *args, **kwargs):
        return super().execute_full(*args, **kwargs)

    async def execute_degraded(self, /, *args, **kwargs):
        return super().execute_degraded(*args, **kwargs)

    async def should_degrade(self):
        return super().should_degrade()


class Sync:
    """How sync code uses a manager."""

    service = Service

    def execute(self, manager, name, /, *args, **kwargs):
        return manager.execute_service(name, *args, **kwargs)

    def function(self, body):
        return body

    def call(self, guarded, *args, **kwargs):
        return guarded(*args, **kwargs)


class Async:
    """How async code uses a manager."""

    service = AsyncService

    def execute(self, manager, name, /, *args, **kwargs):
        return drive(manager.aexecute_service(name, *args, **kwargs))

    def function(self, body):
        async def function(*args, **kwargs):
            return body(*args, **kwargs)

        return function

    def call(self, guarded, *args, **kwargs):
        return drive(guarded(*args, **kwargs))


class Guarded:
    """A decorated function: calls fail while `failing` is set; `real` counts the calls that got through."""

    def __init__(self, face, manager, service, **options):
        self.face, self.failing, self.real = face, None, 0
        self.function = degrade(**{"fallback": "spared"} | options, manager=manager, service=service)(
            face.function(self.body)
        )

    def body(self):
        self.real += 1
        if self.failing is not None:
            raise self.failing
        return "real"

    def __call__(self, failing=None):
        self.failing = failing
        return self.face.call(self.function)

    def outcomes(self, text):
        """Make a call for each letter: `x` fails, anything else succeeds."""
        return [self(ConnectionError() if letter == "x" else None) for letter in text]


def outcome(function, *args, **kwargs):
    """Return what a call gives, or the exception it raises."""
    try:
        return function(*args, **kwargs)
    except BaseException as error:  # noqa: BLE001 - handed to the test
        return error


def eventually(condition):
    """Wait until `condition()` is true; fail when it does not become so."""
    pause, end = threading.Event(), time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end, "the condition never became true"
        pause.wait(0.005)


async def aeventually(condition):
    """Wait in an event loop until `condition()` is true."""
    loop = asyncio.get_running_loop()
    end = loop.time() + WAIT
    while not condition():
        assert loop.time() < end, "the condition never became true"
        await asyncio.sleep(0.005)


@contextlib.contextmanager
def frequent_switches():
    """Let the interpreter change threads about every microsecond."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def in_threads(count, body):
    """Run `body(index)` in `count` threads that begin together; return results and exceptions, never hang."""
    together, results = threading.Barrier(count), [None] * count

    def work(index):
        together.wait(WAIT)
        results[index] = outcome(body, index)

    threads = [threading.Thread(target=work, args=(index,), daemon=True) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT * 2)
    assert not any(thread.is_alive() for thread in threads), "a thread still runs"
    return results


PRELUDE = """
import asyncio, gc, os, signal, sys, threading, time, warnings
from resilient import *
warnings.simplefilter("ignore")

class Service:
    def execute_full(self, *args): return "full"
    def execute_degraded(self, *args): return "degraded"
    def should_degrade(self): return False
"""


def interpreter(code, limit=20):
    """Run code in an interpreter of its own; return output, errors and status, or fail when it does not end."""
    process = subprocess.Popen(  # noqa: S603 - our own code
        [sys.executable, "-c", PRELUDE + textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": ROOT},
    )
    try:
        out, err = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"still running after {limit} s\n{out}\n{err}") from None
    return out.strip(), err, process.returncode
