"""Living among other software: forks, trio, interpreter exit, Ctrl-C."""

import asyncio
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import time

import pytest
import trio

import resilient
from resilient import CircuitOpenError, Pipeline, circuit_breaker, degrade, retry

from .helpers import Failing

ROOT = str(pathlib.Path(resilient.__file__).parents[1])
PRELUDE = """
import asyncio, os, signal, sys, threading, time
from resilient import *
signal.signal(signal.SIGINT, signal.default_int_handler)
"""


def start(code):
    """Start an interpreter on some code."""
    return subprocess.Popen(  # noqa: S603 - our own code
        [sys.executable, "-c", PRELUDE + textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": ROOT},
    )


def finish(process, limit):
    """Wait for the end; fail when it does not come in time."""
    try:
        out, err = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        pytest.fail(f"still running after {limit} s\n{out}\n{err}")
    return out, err, process.returncode


# Forks

CHILD = """
import warnings
warnings.simplefilter("ignore")

def in_child(body, limit=5):
    # Runs body in a forked child; says whether it ended well and in time.
    pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(limit)
            body()
            os._exit(0)
        except BaseException as error:
            print("child:", repr(error), flush=True)
            os._exit(1)
    return os.waitpid(pid, 0)[1] == 0

def fail():
    raise ConnectionError

def attempt(function, *args):
    try:
        return function(*args)
    except Exception as error:
        return error
"""


def check_fork(code):
    out, err, status = finish(start(CHILD + textwrap.dedent(code)), 15)
    assert (status, out.strip()) == (0, "fine"), out + err


def test_fork_while_threads_are_inside():
    """A child forked while other threads hold every place has a usable bulkhead, breaker, timeout and retry."""
    check_fork("""
        bulk = bulkhead("b", max_concurrent=1, max_wait=0)
        breaker = circuit_breaker("c", failure_threshold=2)
        limit = timeout(2, name="t")
        entered, leave = threading.Event(), threading.Event()

        def inside():
            entered.set()
            leave.wait(10)

        threading.Thread(target=bulk.call, args=(breaker.call, inside), daemon=True).start()
        assert entered.wait(5)
        assert limit.call(int) == 0
        strict = timeout(0.02, max_abandoned=1, name="strict")
        assert type(attempt(strict.call, leave.wait, 10)) is CallTimeoutError
        assert type(attempt(strict.call, int)) is CallTimeoutError

        def child():
            assert strict.call(int) == 0
            assert bulk.call(int) == 0
            assert asyncio.run(bulk.acall(asyncio.sleep, 0, 1)) == 1
            assert limit.call(int) == 0
            assert type(attempt(timeout(0.05, name="s").call, time.sleep, 1)) is CallTimeoutError
            attempt(breaker.call, fail), attempt(breaker.call, fail)
            assert breaker.state.name == "OPEN"
            assert type(attempt(retry(base_delay=0).call, fail)) is ConnectionError

        assert in_child(child)
        assert isinstance(attempt(bulk.call, int), BulkheadFullError)
        leave.set()
        print("fine")
        """)


def test_fork_under_traffic():
    """Children forked again and again under heavy traffic never find a lock held by a thread that is not there."""
    check_fork("""
        breaker = circuit_breaker("c", failure_threshold=3, recovery_timeout=0, half_open_calls=1)
        bulk = bulkhead("b", max_concurrent=2, max_wait=0.01)
        spare = degrade(fallback=1, cache={}, name="d")
        limit = timeout(2, name="t")
        again = retry(base_delay=0, budget=RetryBudget(ratio=1.0), name="r")
        never = timeout(0, name="n")
        stop = threading.Event()

        def traffic():
            while not stop.is_set():
                attempt(breaker.call, fail)
                attempt(bulk.call, int)
                attempt(limit.call, int)
                attempt(again.call, fail), attempt(never.call, int), spare.call(fail)
                breaker.get_metrics(), registry.snapshot()

        def child():
            attempt(breaker.call, fail)
            breaker.get_metrics(), breaker.reset(), registry.snapshot()
            assert breaker.call(int) == 0
            for _ in range(4):
                assert bulk.call(int) == 0
            assert limit.call(int) == 0
            assert spare.call(fail) == 1
            assert type(attempt(again.call, fail)) is ConnectionError
            assert type(attempt(never.call, int)) is CallTimeoutError
            circuit_breaker("new").call(int)

        for _ in range(4):
            threading.Thread(target=traffic, daemon=True).start()
        assert all([in_child(child) for _ in range(15)])
        stop.set()
        print("fine")
        """)


def test_fork_does_not_disturb_the_parent():
    """What a child does to its copies changes nothing in the parent."""
    check_fork("""
        breaker = circuit_breaker("c", failure_threshold=1)
        assert in_child(lambda: attempt(breaker.call, fail))
        assert breaker.state.name == "CLOSED"
        assert breaker.get_metrics().failure_count == 0
        print("fine")
        """)


# trio


@pytest.fixture
def no_asyncio(monkeypatch):
    """Make every use of asyncio an error."""

    def touched(*args, **kwargs):
        raise AssertionError("asyncio was touched")

    for name in ("sleep", "get_event_loop", "current_task", "timeout", "wait_for", "shield", "ensure_future", "Event"):
        monkeypatch.setattr(asyncio, name, touched)


def test_breaker_under_trio(no_asyncio):
    """Under trio a breaker opens, rejects and guards blocks, and touches no asyncio."""
    breaker = circuit_breaker("b", failure_threshold=2)

    @breaker
    async def failing():
        await trio.sleep(0)
        raise ConnectionError

    async def block():
        async with breaker:
            await trio.sleep(0)

    async def main():
        await block()
        for expected in (ConnectionError, ConnectionError, CircuitOpenError):
            with pytest.raises(expected):
                await failing()
        with pytest.raises(CircuitOpenError):
            await block()

    trio.run(main)


def test_degrade_under_trio(no_asyncio):
    """Under trio degrade serves values, async fallbacks and cached answers, and touches no asyncio."""
    broken = []

    async def spare(x):
        await trio.sleep(0)
        return "spare"

    @degrade(fallback=spare, cache={})
    async def get(x):
        await trio.sleep(0)
        if broken:
            raise ConnectionError
        return "good"

    async def main():
        assert await get(1) == "good"
        broken.append(1)
        assert (await get(1), await get(2)) == ("good", "spare")

    trio.run(main)


def test_retry_under_trio(no_asyncio):
    """Under trio a retry without delay retries, in the loop form too, and touches no asyncio."""
    body = Failing()

    async def failing():
        await trio.sleep(0)
        body()

    async def main():
        with pytest.raises(ConnectionError):
            await retry(base_delay=0)(failing)()
        with pytest.raises(ConnectionError):
            await loop()

    async def loop():
        async for attempt in retry(base_delay=0).attempts():
            with attempt:
                await failing()

    trio.run(main)
    assert body.calls == 6


def test_trio_cancellation_is_a_cancellation(no_asyncio):
    """A trio cancel scope ends a guarded call at once: no retry, no fallback, no failure."""
    calls = []
    breaker = circuit_breaker("b", failure_threshold=1, expected_exception=lambda error: True)

    async def sleeping():
        calls.append(1)
        await trio.sleep(5)

    guarded = Pipeline(degrade(fallback=1), retry(on=lambda error: True, base_delay=0), breaker)(sleeping)

    async def main():
        with trio.move_on_after(0.02) as scope:
            await guarded()
        assert scope.cancelled_caught

    trio.run(main)
    assert (calls, breaker.state.name) == ([1], "CLOSED")


# The interpreter's end


@pytest.mark.parametrize(
    "code",
    [
        "timeout(0.05).call(time.sleep, 60)",
        "[threading.Thread(target=timeout(0.05, name=str(n)).call, args=(time.sleep, 60)).start() for n in range(20)]",
        "asyncio.run(timeout(0.05).acall(asyncio.sleep, 60))",
    ],
    ids=["one", "twenty", "async"],
)
def test_interpreter_exits_promptly(code):
    """Calls that were given up on and still run do not hold up the interpreter's exit."""
    started = time.monotonic()
    finish(start(f"try:\n    {code}\nexcept CallTimeoutError:\n    print('timed out')"), 10)
    assert time.monotonic() - started < 8


def test_idle_workers_do_not_delay_the_exit():
    """An interpreter that used a sync timeout ends cleanly and without a word on stderr."""
    out, err, status = finish(start("print(timeout(5).call(int))"), 8)
    assert (out.strip(), err, status) == ("0", "", 0)


def test_import_starts_nothing():
    """Importing the library and making policies starts no thread and no event loop."""
    out, err, status = finish(
        start("""
            @timeout(1)
            @bulkhead
            @circuit_breaker
            @retry
            def f(): pass
            print(threading.active_count())
            """),
        8,
    )
    assert (out.strip(), err, status) == ("1", "", 0)


WAITS = {
    "retry sleeping": """
        def body():
            print("ready", flush=True)
            raise ConnectionError
        retry(base_delay=30, on=BaseException).call(body)
        """,
    "waiting for a place": """
        bulk = bulkhead("b", max_concurrent=1)
        threading.Thread(target=bulk.call, args=(time.sleep, 60), daemon=True).start()
        while not bulk.active_requests: pass
        print("ready", flush=True)
        bulk.call(int)
        """,
    "waiting for a worker": """
        def body():
            print("ready", flush=True)
            time.sleep(60)
        timeout(30).call(body)
        """,
    "async retry sleeping": """
        async def body():
            print("ready", flush=True)
            raise ConnectionError
        asyncio.run(retry(base_delay=30, on=BaseException).acall(body))
        """,
    "async waiting for a place": """
        bulk = bulkhead("b", max_concurrent=1)
        async def main():
            async with bulk:
                print("ready", flush=True)
                await bulk.acall(asyncio.sleep, 0)
        asyncio.run(main())
        """,
    "async timeout": """
        async def body():
            print("ready", flush=True)
            await asyncio.sleep(60)
        asyncio.run(timeout(30).acall(body))
        """,
    "degrade and everything": """
        def body():
            print("ready", flush=True)
            time.sleep(60)
        Pipeline(degrade(fallback=1), retry(on=BaseException), circuit_breaker("c"), bulkhead("b")).call(body)
        """,
}


@pytest.mark.parametrize("code", WAITS.values(), ids=WAITS.keys())
def test_ctrl_c_ends_a_wait_at_once(code):
    """Ctrl-C during a wait arrives as KeyboardInterrupt at once and ends the program."""
    guarded = "try:\n" + textwrap.indent(textwrap.dedent(code), "    ")
    process = start(guarded + "\nexcept KeyboardInterrupt:\n    print('interrupted', flush=True)\n")
    assert process.stdout.readline() == "ready\n", process.communicate(timeout=5)
    time.sleep(0.1)
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, err, status = finish(process, 8)
    assert (out.strip(), status) == ("interrupted", 0), err
    assert time.monotonic() - started < 4
