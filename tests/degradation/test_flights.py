"""Single flight: one call for all who ask for the same key, across threads, tasks, loops and faces; nobody hangs."""

import asyncio
import contextlib
import functools
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from resilient import CachedDegradation, CallTimeoutError, deadline, degrade, timeout
from resilient.clock import CLOCK

from .cached_helpers import Elsewhere, Moved, Store, aoutcome, eventually, in_threads, outcome, run, ticks


def by_first(*args, **kwargs):
    return args[0]


class Gate:
    """A call that waits until it is let go, in a thread or a task, and then answers or fails."""

    def __init__(self, error=None):
        self.error, self.calls = error, 0
        self.inside, self.release = threading.Event(), threading.Event()
        self.lock = threading.Lock()

    def _come(self):
        with self.lock:
            self.calls += 1
        self.inside.set()

    def _go(self):
        if self.error is not None:
            raise self.error
        return "answer"

    def sync(self, key):
        self._come()
        assert self.release.wait(5), "never released"
        return self._go()

    async def asynchronous(self, key):
        self._come()
        for _ in range(5000):
            if self.release.is_set():
                return self._go()
            await asyncio.sleep(0.001)
        raise AssertionError("never released")


class Asker:
    """A gate behind a sync and an async function that share their keys and a cache."""

    def __init__(self, error=None, cached=None, **options):
        self.gate, self.cached = Gate(error), cached or CachedDegradation()
        policy = functools.partial(degrade, cache=self.cached, key=by_first, **options)
        self.sync, self.asynchronous = policy()(self.gate.sync), policy()(self.gate.asynchronous)

    def waiting(self, count):
        """Wait until so many have found nothing, and give them time to begin to wait."""
        eventually(lambda: self.cached.get_metrics().cache_misses >= count)
        time.sleep(0.03)

    def go(self):
        self.gate.release.set()


async def crowd(function, count, *args):
    return await asyncio.gather(*(aoutcome(function(*args)) for _ in range(count)))


# One call for all


def test_threads_share_one_call():
    """Sixteen threads that ask for one key make one call, and all get its answer."""
    asker = Asker()
    calls = [Elsewhere(asker.sync, "a") for _ in range(16)]
    asker.waiting(16)
    asker.go()
    assert [call.result() for call in calls] == ["answer"] * 16
    assert asker.gate.calls == 1
    assert asker.cached.get_metrics()[:5] == (0, 16, 0, 0, 0)


def test_tasks_share_one_call():
    """A hundred tasks that ask for one key make one call."""
    asker = Asker()

    async def main():
        tasks = [asyncio.ensure_future(asker.asynchronous("a")) for _ in range(100)]
        await ticks()
        asker.go()
        return await asyncio.gather(*tasks)

    assert run(main()) == ["answer"] * 100
    assert asker.gate.calls == 1


@pytest.mark.parametrize("first", ["sync", "async"])
def test_threads_and_loops_share_one_call(first):
    """Threads and the tasks of several event loops share one call, whoever makes it."""
    asker = Asker()
    leader = Elsewhere(asker.sync, "a") if first == "sync" else Elsewhere(lambda: run(asker.asynchronous("a")))
    assert asker.gate.inside.wait(5)
    threads = [Elsewhere(asker.sync, "a") for _ in range(5)]
    loops = [Elsewhere(lambda: run(crowd(asker.asynchronous, 10, "a"))) for _ in range(3)]
    asker.waiting(36)
    asker.go()
    assert leader.result() == "answer"
    assert [call.result() for call in threads] == ["answer"] * 5
    assert [call.result() for call in loops] == [["answer"] * 10] * 3
    assert asker.gate.calls == 1


def test_herd_makes_one_call():
    """However the threads come, together and at once, one call is made for each key."""
    for _ in range(20):
        made, lock = [], threading.Lock()

        def body(key, made=made, lock=lock):
            with lock:
                made.append(key)
            return key

        ask = degrade(cache=CachedDegradation({}), key=by_first)(body)
        assert in_threads(16, lambda index, ask=ask: ask(index % 4)) == [index % 4 for index in range(16)]
        assert sorted(made) == [0, 1, 2, 3]


def test_answer_that_comes_between_the_look_and_the_call():
    """Who has found nothing, just before another's answer was stored, looks again before making a call."""
    looked, go_on = threading.Event(), threading.Event()

    class Slow(Store):
        """Its first reader is told of what it saw only later."""

        def get(self, key):
            seen = super().get(key)
            if not looked.is_set():
                looked.set()
                go_on.wait(5)
            return seen

    calls = []
    ask = degrade(cache=CachedDegradation(Slow()), key=by_first)(lambda key: calls.append(key) or len(calls))
    late = Elsewhere(ask, "a")
    assert looked.wait(5)
    assert ask("a") == 1
    go_on.set()
    assert (late.result(), calls) == (1, ["a"])


def test_other_keys_do_not_wait():
    """Who asks for another key does not wait."""
    asker = Asker()
    fast = degrade(cache=asker.cached, key=by_first)(lambda key: "fast")
    leader = Elsewhere(asker.sync, "a")
    assert asker.gate.inside.wait(5)
    assert fast("b") == "fast"
    asker.go()
    assert leader.result() == "answer"


def test_stale_answer_instead_of_waiting():
    """Where there is a stale answer, the others get it while one renews it."""
    moved = Moved()
    with CLOCK.use(moved):
        asker = Asker(cached=CachedDegradation(cache_ttl=10, fallback_ttl=20))
        asker.cached.preload_cache(["a"], lambda key: "old")
        moved.tick(10)
        leader = Elsewhere(asker.sync, "a")
        assert asker.gate.inside.wait(5)
        assert in_threads(4, lambda index: asker.sync("a")) == ["old"] * 4
        assert run(crowd(asker.asynchronous, 4, "a")) == ["old"] * 4
        asker.go()
        assert leader.result() == "answer"
        assert asker.sync("a") == "answer"
        assert asker.gate.calls == 1


def test_never_fresh_still_shares():
    """With both ages 0, who comes while a call is under way shares its answer, and nobody is left without one."""
    asker = Asker(cached=CachedDegradation(cache_ttl=0, fallback_ttl=0))
    calls = [Elsewhere(asker.sync, "a") for _ in range(4)]
    asker.waiting(4)
    asker.go()
    assert [call.result() for call in calls] == ["answer"] * 4


# The call fails


@pytest.mark.parametrize("face", ["sync", "async"])
def test_each_waiter_answers_for_itself(face):
    """When the call fails, each who waited runs the fallback with its own arguments and the error."""
    error, got, lock = ConnectionError("down"), [], threading.Lock()

    def spare(key, own, *, error):
        with lock:
            got.append((own, error))
        return f"spare {own}"

    gate, cached = Gate(error), CachedDegradation()
    policy = degrade(cache=cached, key=by_first, fallback=spare)
    if face == "sync":
        ask = policy(lambda key, own: gate.sync(key))
        calls = [Elsewhere(ask, "a", number) for number in range(8)]
        eventually(lambda: cached.get_metrics().cache_misses == 8)
        time.sleep(0.03)
        gate.release.set()
        answers = [call.result() for call in calls]
    else:

        @policy
        async def ask(key, own):
            return await gate.asynchronous(key)

        async def main():
            tasks = [asyncio.ensure_future(ask("a", number)) for number in range(8)]
            await ticks()
            gate.release.set()
            return await asyncio.gather(*tasks)

        answers = run(main())
    assert answers == [f"spare {number}" for number in range(8)]
    assert sorted(own for own, _ in got) == list(range(8))
    assert {(type(one), one.args) for _, one in got} == {(ConnectionError, ("down",))}
    assert sum(one is error for _, one in got) == 1  # the others have copies, whose tracebacks are their own


@pytest.mark.parametrize("face", ["sync", "async"])
def test_error_reaches_each_waiter(face):
    """Without a fallback, or with an error outside `on`, each who waited gets the error, or one just like it."""
    for options in ({}, {"fallback": "spare", "on": KeyError}):
        asker = Asker(ConnectionError("down"), **options)
        if face == "sync":
            calls = [Elsewhere(asker.sync, "a") for _ in range(6)]
            asker.waiting(6)
            asker.go()
            errors = [call.result() for call in calls]
        else:

            async def main(asker=asker):
                tasks = [asyncio.ensure_future(aoutcome(asker.asynchronous("a"))) for _ in range(6)]
                await ticks()
                asker.go()
                return await asyncio.gather(*tasks)

            errors = run(main())
        assert [(type(error), error.args) for error in errors] == [(ConnectionError, ("down",))] * 6
        assert asker.gate.error in errors
        assert asker.gate.calls == 1


def test_fallback_data_for_waiters():
    """Who waited for a call that failed gets the fallback data of the key, before any fallback."""
    asker = Asker(ConnectionError(), fallback="spare")
    asker.cached.set_fallback_data("a", "data")
    calls = [Elsewhere(asker.sync, "a") for _ in range(4)]
    asker.waiting(4)
    asker.go()
    assert [call.result() for call in calls] == ["data"] * 4


def test_after_a_failure_the_next_one_calls():
    """A failure is shared by those who waited, and by nobody who comes later."""
    asker = Asker(ConnectionError(), fallback="spare")
    asker.go()
    assert asker.sync("a") == "spare"
    asker.gate.error = None
    assert asker.sync("a") == "answer"


@pytest.mark.parametrize("fails", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_interrupted_leader(fails):
    """KeyboardInterrupt in the call comes out where it was made; who waited makes a call of its own."""
    gate, calls, cached = Gate(), [], CachedDegradation()

    def body(key):
        calls.append(key)
        if len(calls) == 1:
            gate.sync(key)
            raise fails
        return "second"

    ask = degrade(cache=cached, key=by_first, fallback="spare")(body)
    first = Elsewhere(ask, "a")
    assert gate.inside.wait(5)
    others = [Elsewhere(ask, "a") for _ in range(4)]
    eventually(lambda: cached.get_metrics().cache_misses == 5)
    time.sleep(0.03)
    gate.release.set()
    assert type(first.result()) is fails
    assert [other.result() for other in others] == ["second"] * 4
    assert len(calls) == 2


def test_interrupt_between_any_two_calls():
    """Wherever a signal handler raises in the leader, nobody waits for it for ever afterwards."""
    hung = []
    for step in range(200):
        reached, left = False, step
        cached = CachedDegradation({})
        ask = degrade(cache=cached, key=by_first)(lambda key: key)
        stop = ["/resilient/degradation/cached_layers.py", "/resilient/degradation/flights.py"]

        def profile(frame, event, arg, stop=stop):
            nonlocal left, reached
            name = frame.f_code.co_filename.replace(os.sep, "/")
            if reached or event not in ("call", "c_return") or not name.endswith(tuple(stop)):
                return
            left -= 1
            if left < 0:
                reached = True
                raise KeyboardInterrupt

        sys.setprofile(profile)
        try:
            ask("a")
        except KeyboardInterrupt:
            pass
        finally:
            sys.setprofile(None)
        if not reached:
            break
        cached.delete("a")
        if not Elsewhere(ask, "a").ends(0.2):
            hung.append(step)
    assert step > 5
    assert hung == [], f"callers hang after an interrupt at steps {hung} of {step}"


# Somebody gives up


def test_cancelled_leader():
    """When the task that makes the call is cancelled, another makes it, and all others get the answer."""
    calls, go = [], asyncio.Event()
    cached = CachedDegradation()

    @degrade(cache=cached, key=by_first, fallback="spare")
    async def ask(key):
        calls.append(key)
        await go.wait()
        return "answer"

    async def main():
        tasks = [asyncio.ensure_future(ask("a")) for _ in range(6)]
        await ticks()
        assert len(calls) == 1
        for number in range(3):
            tasks[number].cancel()
            await ticks(20)
        go.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(result) for result in results[:3]] == [asyncio.CancelledError] * 3
        assert results[3:] == ["answer"] * 3

    run(main())
    assert 2 <= len(calls) <= 4
    assert not cached.flights._by_key


def test_cancelled_leader_and_waiting_threads():
    """When a cancelled task made the call, waiting threads and other loops take over."""
    asker = Asker()

    async def main():
        task = asyncio.ensure_future(asker.asynchronous("a"))
        while asker.cached.get_metrics().cache_misses < 15:
            await asyncio.sleep(0.002)
        await asyncio.sleep(0.03)
        asker.go()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    leader = Elsewhere(lambda: run(main()))
    assert asker.gate.inside.wait(5)
    threads = [Elsewhere(asker.sync, "a") for _ in range(4)]
    loops = [Elsewhere(lambda: run(crowd(asker.asynchronous, 5, "a"))) for _ in range(2)]
    assert leader.result() is None
    assert [call.result() for call in threads] == ["answer"] * 4
    assert [call.result() for call in loops] == [["answer"] * 5] * 2


def test_cancelled_waiter():
    """A waiter that is cancelled ends at once, and the others still get the answer."""
    asker = Asker()

    async def main():
        tasks = [asyncio.ensure_future(asker.asynchronous("a")) for _ in range(5)]
        await ticks()
        tasks[2].cancel()
        await ticks()
        assert tasks[2].cancelled()
        asker.go()
        assert [await task for task in tasks if task is not tasks[2]] == ["answer"] * 4

    run(main())
    assert asker.gate.calls == 1


@pytest.mark.parametrize("limit", [None, 5], ids=["no deadline", "deadline"])
@pytest.mark.parametrize("count", range(8))
def test_cancellation_is_never_lost(limit, count):
    """A waiter cancelled just as the answer comes ends as cancelled, and does not go on as if nothing had been."""
    go = asyncio.Event()

    @degrade(cache=CachedDegradation(), key=by_first)
    async def ask(key):
        await go.wait()
        return "answer"

    async def waiter():
        with deadline(limit) if limit else contextlib.nullcontext():
            return await ask("a")

    async def main():
        leader = asyncio.ensure_future(ask("a"))
        await ticks(2)
        task = asyncio.ensure_future(waiter())
        await ticks(5)
        go.set()
        await ticks(count)
        if task.done():
            return
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled(), "its cancellation was lost"
        assert await leader == "answer"

    run(main())


@pytest.mark.parametrize("face", ["sync", "async"])
@pytest.mark.parametrize("options", [{}, {"fallback": "spare"}, {"fallback": "spare", "on": ConnectionError}], ids=str)
def test_deadline_of_a_waiter(face, options):
    """A waiter with a deadline is not kept beyond it: it gets the fallback or a CallTimeoutError; others get theirs."""
    asker = Asker(**options)
    leader = Elsewhere(asker.sync, "a")
    assert asker.gate.inside.wait(5)
    patient = Elsewhere(asker.sync, "a")
    begin = time.monotonic()
    with deadline(0.05):
        got = outcome(asker.sync, "a") if face == "sync" else outcome(run, asker.asynchronous("a"))
    took = time.monotonic() - begin
    asker.go()
    assert got == "spare" if options == {"fallback": "spare"} else type(got) is CallTimeoutError
    assert 0.04 <= took < 1
    assert [leader.result(), patient.result()] == ["answer"] * 2
    assert asker.gate.calls == 1


@pytest.mark.parametrize("face", ["sync", "async"])
def test_deadline_of_a_waiter_is_its_own(face):
    """That a waiter's deadline has passed says nothing about the call: who comes later still shares it."""
    asker = Asker(fallback="spare")
    leader = Elsewhere(asker.sync, "a")
    assert asker.gate.inside.wait(5)
    with deadline(0.02):
        assert (asker.sync("a") if face == "sync" else run(asker.asynchronous("a"))) == "spare"
    later = Elsewhere(asker.sync, "a")
    asker.waiting(3)
    asker.go()
    assert [leader.result(), later.result()] == ["answer"] * 2
    assert asker.gate.calls == 1


@pytest.mark.parametrize("face", ["sync", "async"])
def test_waiting_is_bounded(face):
    """After `max_wait` a waiter makes a call of its own, however long the other's goes on."""
    calls, release, inside = [], threading.Event(), threading.Event()
    cached = CachedDegradation(max_wait=0.05)

    def body(key):
        calls.append(key)
        if len(calls) == 1:
            inside.set()
            release.wait(5)
        return len(calls)

    policy = degrade(cache=cached, key=by_first)
    ask = policy(body)

    @degrade(cache=cached, key=by_first)
    async def aask(key):
        return body(key)

    leader = Elsewhere(ask, "a")
    assert inside.wait(5)
    assert (ask("a") if face == "sync" else run(aask("a"))) == 2
    assert not leader.ended
    release.set()
    assert leader.result() == 2


def test_timeout_around_a_waiter():
    """A timeout around the whole ends a waiter in time, and leaves the call to the others."""
    asker = Asker(fallback="spare")
    leader = Elsewhere(asker.sync, "a")
    assert asker.gate.inside.wait(5)
    limited = timeout(0.05)(asker.asynchronous)
    assert type(outcome(run, limited("a"))) is CallTimeoutError
    asker.go()
    assert leader.result() == "answer"


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="signals to a thread")
def test_ctrl_c_while_waiting():
    """Ctrl-C ends a thread's waiting at once; the call goes on for the others."""
    asker = Asker()
    leader = Elsewhere(asker.sync, "a")
    assert asker.gate.inside.wait(5)
    main = threading.main_thread().ident
    timer = threading.Timer(0.05, lambda: signal.pthread_kill(main, signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        asker.sync("a")
    assert not leader.ended
    asker.go()
    assert leader.result() == "answer"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_abandoned_loop():
    """A call whose event loop was closed under it leaves no trace once its coroutine is gone: the next one calls."""
    calls = []
    cached = CachedDegradation()

    @degrade(cache=cached, key=by_first, fallback="spare")
    async def ask(key):
        calls.append(key)
        if len(calls) == 1:
            await asyncio.get_running_loop().create_future()
        return "answer"

    loop = asyncio.new_event_loop()
    task = loop.create_task(ask("a"))
    loop.run_until_complete(ticks(3))
    loop.close()
    task._log_destroy_pending = False
    del task, loop
    gc.collect()
    assert len(calls) == 1
    assert [run(aoutcome(asyncio.wait_for(ask("a"), 0.2))) for _ in range(2)] == ["answer"] * 2


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_abandoned_loop_and_a_waiter_elsewhere():
    """Who waits for a call that was abandoned with its event loop takes it over."""
    asker = Asker()
    loop = asyncio.new_event_loop()
    task = loop.create_task(asker.asynchronous("a"))
    loop.run_until_complete(ticks(3))
    waiter = Elsewhere(asker.sync, "a")
    asker.waiting(2)
    loop.close()
    asker.go()
    task._log_destroy_pending = False
    del task, loop
    gc.collect()
    assert waiter.result(1) == "answer"


# Calls within calls


def test_recursion_on_the_same_key():
    """A function that calls itself for the same key does not wait for itself."""
    cached, depth = CachedDegradation(), []

    @degrade(cache=cached, key=lambda number: "one for all", fallback="spare")
    def ask(number):
        depth.append(number)
        return ask(number - 1) if number else "bottom"

    @degrade(cache=cached, key=lambda number: "one for all async", fallback="spare")
    async def aask(number):
        depth.append(number)
        return await aask(number - 1) if number else "bottom"

    assert Elsewhere(ask, 3).result() == "bottom"
    assert run(aask(3)) == "bottom"
    assert depth == [3, 2, 1, 0] * 2


@pytest.mark.parametrize("how", ["task", "gather", "task group", "thread", "wait_for"])
def test_child_with_the_same_key(how):
    """A call that awaits a task, or a thread, that asks for the same key does not deadlock."""
    cached, inner = CachedDegradation(), []

    @degrade(cache=cached, key=by_first)
    def within(key):
        return "inner"

    @degrade(cache=cached, key=by_first)
    async def ask(key, top=True):
        if not top:
            inner.append(key)
            return "inner"
        if how == "task":
            return await asyncio.create_task(ask(key, False))
        if how == "gather":
            return (await asyncio.gather(ask(key, False), ask(key, False)))[0]
        if how == "wait_for":
            return await asyncio.wait_for(ask(key, False), 3)
        if how == "thread":
            return await asyncio.to_thread(within, key)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(ask(key, False))
        return task.result()

    assert run(ask("a")) == "inner"


def test_calls_that_need_each_other():
    """A call for a that asks for b, and at the same time one for b that asks for a, do not wait for each other."""
    together = threading.Barrier(2)

    @degrade(cache=CachedDegradation(), key=by_first)
    def ask(key, depth):
        if depth == 0:
            return key
        together.wait(1)
        return ask("b" if key == "a" else "a", depth - 1)

    calls = [Elsewhere(ask, key, 1) for key in "ab"]
    assert {call.result(2) for call in calls} <= {"a", "b"}


def test_tasks_that_need_each_other():
    """The same with tasks."""

    async def main():
        started = []

        @degrade(cache=CachedDegradation(), key=by_first)
        async def ask(key, depth):
            if depth == 0:
                return key
            started.append(key)
            while len(started) < 2:
                await asyncio.sleep(0)
            return await ask("b" if key == "a" else "a", depth - 1)

        return await asyncio.wait_for(asyncio.gather(ask("a", 1), ask("b", 1)), 1)

    assert set(run(main())) <= {"a", "b"}


def test_sync_call_inside_the_loop_of_the_leader():
    """A sync call inside a running event loop does not wait for a task of that loop: it makes its own call."""
    cached = CachedDegradation()
    within = degrade(cache=cached, key=by_first)(lambda key: "sync")

    async def main():
        go = asyncio.Event()

        @degrade(cache=cached, key=by_first)
        async def ask(key):
            await go.wait()
            return "async"

        task = asyncio.ensure_future(ask("a"))
        await ticks()
        assert within("a") == "sync"
        go.set()
        return await task

    assert run(main()) == "async"


def test_pool_that_the_leader_waits_for():
    """A timeout's worker thread inside the call may ask for the same key: it is part of the call."""
    cached = CachedDegradation()

    @timeout(3)
    def limited(key):
        return ask(key, 0)

    @degrade(cache=cached, key=by_first)
    def ask(key, depth):
        return limited(key) if depth else "bottom"

    assert Elsewhere(ask, "a", 1).result() == "bottom"


def test_plain_pool_with_a_deadline():
    """A pool that carries no context deadlocks with its caller at most until the deadline: the docs can say so."""
    cached = CachedDegradation()
    pool = ThreadPoolExecutor(1)

    def in_pool(key):
        with deadline(0.1):
            return ask(key, 0)

    @degrade(cache=cached, key=by_first, fallback="spare")
    def ask(key, depth):
        return pool.submit(in_pool, key).result(5) if depth else "bottom"

    assert Elsewhere(ask, "a", 1).result() == "spare"
    pool.shutdown()


# Elsewhere


def child(source, limit=10.0):
    """Run a script in an interpreter of its own and return what it prints."""
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(source)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)  # noqa: S603 - ours
    except subprocess.TimeoutExpired as late:
        pytest.fail(f"still running after {limit} s: {late.stdout!r} {late.stderr!r}")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


FORKED = """
    import os, threading, time
    from resilient import CachedDegradation, degrade

    inside, release, parent = threading.Event(), threading.Event(), os.getpid()

    @degrade(cache=CachedDegradation(), key=lambda key: key)
    def ask(key):
        if os.getpid() == parent:
            inside.set()
            release.wait(5)
            return "parent"
        return "child"

    leader = threading.Thread(target=ask, args=("a",), daemon=True)
    leader.start()
    inside.wait(5)
    waiters = [threading.Thread(target=ask, args=("a",), daemon=True) for _ in range(3)]
    for waiter in waiters:
        waiter.start()
    time.sleep(0.05)
    child = os.fork()
    if child == 0:
        os._exit(0 if ask("a") == "child" and ask("a") == "child" else 1)
    end, ended, status = time.monotonic() + 3, 0, None
    while not ended and time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        time.sleep(0.005)
    if not ended:
        os.kill(child, 9)
        os.waitpid(child, 0)
    release.set()
    for thread in (leader, *waiters):
        thread.join(3)
    print("ended" if ended else "hung", status, ask("a"))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_fork_while_a_call_is_under_way():
    """A child forked while a thread makes the call does not wait for that thread; the parent goes on."""
    assert child(FORKED) == "ended 0 parent"


FORKED_INSIDE = """
    import os
    from resilient import CachedDegradation, degrade

    @degrade(cache=CachedDegradation(), key=lambda key: key)
    def ask(key):
        return os.fork()

    pid = ask("a")
    again = ask("a")
    if pid == 0:
        os._exit(0 if again == 0 else 1)
    _, status = os.waitpid(pid, 0)
    print(status, again == pid)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_fork_inside_the_call():
    """A call that forks ends well in both processes."""
    assert child(FORKED_INSIDE) == "0 True"


def test_under_trio():
    """Under trio, tasks that ask for one key get an answer, and asyncio is not needed for it."""
    trio = pytest.importorskip("trio")
    calls, answers = [], []

    async def main():
        @degrade(cache=CachedDegradation(), key=by_first, fallback="spare")
        async def ask(key):
            calls.append(key)
            await trio.sleep(0.01)
            return "answer"

        async def one():
            answers.append(await ask("a"))

        with trio.fail_after(3):
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(one)

    trio.run(main)
    assert answers == ["answer"] * 3
