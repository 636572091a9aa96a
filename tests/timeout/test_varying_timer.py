"""The timer for limits that differ: who is cancelled, when, and with how few timers armed."""

import asyncio
import contextlib
import gc
import heapq
import itertools
import math
import sys
import threading
import time
import weakref

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from resilient import CallTimeoutError, deadline, timeout
from resilient.timeout.smart import SmartTimeout
from resilient.timeout.timers import LoopTimers, VaryingTimer

WAIT = 5.0


def run(coroutine, limit=WAIT):
    async def bounded():
        return await asyncio.wait_for(coroutine, limit)

    return asyncio.run(bounded())


class FakeLoop:
    """Time that only moves when told to, and the timers that go off meanwhile.

    Like a real loop it may run a timer a trifle early (the clock's resolution), or late (after a stall).
    """

    def __init__(self):
        self.now, self.early, self.armed, self._count = 0.0, 0.0, [], itertools.count()

    def time(self):
        return self.now

    def call_at(self, when, callback, *args, context=None):
        heapq.heappush(self.armed, (when, next(self._count), callback, args))

    def advance(self, seconds):
        end = self.now + seconds
        while self.armed and self.armed[0][0] <= end:
            when = self.armed[0][0]
            self.now = max(self.now, when - self.early)
            self._fire()
            self.now = max(self.now, when)
        self.now = end

    def stall(self, seconds):
        self.now += seconds
        while self.armed and self.armed[0][0] <= self.now:
            self._fire()

    def _fire(self):
        _, _, callback, args = heapq.heappop(self.armed)
        before = asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        try:
            callback(*args)
        finally:
            asyncio._set_running_loop(before)


class FakeTask:
    def __init__(self, loop, due):
        self.loop, self.due, self.cancelled_at = loop, due, None

    def cancel(self):
        assert self.cancelled_at is None, "cancelled twice"
        self.cancelled_at = self.loop.now


SECONDS = st.one_of(st.integers(0, 20).map(float), st.floats(0, 20), st.sampled_from([0.1, 0.2, 0.3, 1000.0]))


class Calls(RuleBasedStateMachine):
    """Calls with any limits begin and end in any order while time passes; the model is a dictionary."""

    def __init__(self):
        super().__init__()
        self.loop, self.timer, self.numbers = FakeLoop(), VaryingTimer(), itertools.count()
        self.running, self.descents = {}, 0

    @rule(limit=SECONDS, skipped=st.integers(0, 3))
    def begin(self, limit, skipped):
        number = next(itertools.islice(self.numbers, skipped, None))  # others may take numbers in between
        due = self.loop.now + limit
        self.descents += due < self.timer.set_for
        self.running[number] = FakeTask(self.loop, due)
        self.timer.watch(self.loop, number, self.running[number], due)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def end(self, data):
        number = data.draw(st.sampled_from(sorted(self.running)))
        task = self.running.pop(number)
        assert self.timer.calls.pop(number)[0] is task

    @rule(early=st.sampled_from([0.0, 1e-9, 0.01]))
    def resolution(self, early):
        self.loop.early = early

    @rule(seconds=SECONDS)
    def advance(self, seconds):
        self.loop.advance(seconds)
        for task in self._ended():
            assert task.due - self.loop.early <= task.cancelled_at <= max(task.due, self.loop.now - seconds)

    @rule(seconds=SECONDS)
    def stall(self, seconds):
        self.loop.stall(seconds)
        for task in self._ended():
            assert task.cancelled_at == self.loop.now

    def _ended(self):
        # A limit of 0 is due at once, and cancelled as soon as the loop runs again.
        ended = [number for number, task in self.running.items() if task.due <= self.loop.now]
        assert all(self.running[number].cancelled_at is not None for number in ended)
        return [self.running.pop(number) for number in ended]

    @invariant()
    def others_go_on(self):
        assert self.timer.calls.keys() == self.running.keys()
        assert all(task.cancelled_at is None for task in self.running.values())

    @invariant()
    def armed(self):
        """A timer for the first call due; others only where a limit came that was shorter than all before."""
        if self.running:
            assert self.loop.armed[0][0] <= min(task.due for task in self.running.values())
        assert len(self.loop.armed) <= 1 + self.descents

    def teardown(self):
        self.loop.advance(2000)
        assert all(task.cancelled_at is not None for task in self.running.values())
        assert (self.timer.calls, self.timer._heap, self.timer.set_for, self.loop.armed) == ({}, [], math.inf, [])


test_calls = Calls.TestCase


# The number of timers


def test_one_timer_for_rising_limits():
    """Calls that are due later than those before arm no further timer, and one is enough to end them all."""
    loop, timer = FakeLoop(), VaryingTimer()
    tasks = [FakeTask(loop, 1.0 + number / 10) for number in range(1000)]
    for number, task in enumerate(tasks):
        timer.watch(loop, number, task, task.due)
        assert len(loop.armed) == 1
    loop.advance(50)
    assert [task.cancelled_at is not None for task in tasks] == [task.due <= 50 for task in tasks]
    assert len(loop.armed) == 1
    loop.advance(100)
    assert all(task.cancelled_at == task.due for task in tasks)


def test_timers_of_calls_that_have_ended():
    """A thousand calls that end one after another leave one timer behind, and nothing of theirs in it."""
    loop, timer = FakeLoop(), VaryingTimer()
    for number in range(1000):
        timer.watch(loop, number, FakeTask(loop, 5.0), loop.now + 5 + number % 7 / 100)
        timer.calls.pop(number)
        loop.advance(0.001)
    assert len(loop.armed) == 1
    assert (timer.calls, timer._heap) == ({}, [])
    loop.advance(10)
    assert (loop.armed, timer.set_for) == ([], math.inf)


def test_armed_timers_in_a_real_loop():
    """Two thousand answered calls in a row arm no more than a few timers."""
    policy, armed = timeout(SmartTimeout(5)), []

    async def main():
        loop = asyncio.get_running_loop()
        really, loop.call_at = loop.call_at, lambda due, *rest, **more: armed.append(due) or really(due, *rest, **more)
        for _ in range(2000):
            assert await policy.acall(asyncio.sleep, 0, "ok") == "ok"
        del loop.call_at

    run(main())
    assert 1 <= len(armed) <= 50
    assert policy._timers.latest.calls == {}


def test_many_at_once():
    """Ten thousand calls that reach their limit together end within moments, each with its error."""
    smart = SmartTimeout(0.05, adaptive_factor=2, max_timeout=0.1)
    policy = timeout(smart)

    @policy
    async def hang():
        await asyncio.sleep(30)

    async def main():
        return await asyncio.gather(*(hang() for _ in range(10_000)), return_exceptions=True)

    started = time.monotonic()
    results = run(main(), 20)
    assert time.monotonic() - started < 5
    assert {type(result) for result in results} == {CallTimeoutError}
    assert smart.get_stats().timeout_count == policy.get_metrics().timed_out == 10_000
    assert policy._timers.latest.calls == {}


def test_differing_limits_in_a_real_loop():
    """A call with a short limit that begins after calls with long ones ends first, all of them in time."""
    timer, ends = VaryingTimer(), []
    limits = [0.12, 0.03, 0.09, 0.06, 0.03]

    async def hang(number, limit):
        loop = asyncio.get_running_loop()
        began = loop.time()
        timer.watch(loop, number, asyncio.current_task(), began + limit)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(WAIT)
        assert limit - 1e-6 <= loop.time() - began < limit + 0.5
        ends.append(limit)

    async def main():
        await asyncio.gather(*(hang(number, limit) for number, limit in enumerate(limits)))

    run(main())
    assert ends == sorted(limits)
    assert (timer.calls, timer._heap, timer.set_for) == ({}, [], math.inf)


# Several loops


def test_other_loop_in_between():
    """A call is put under the timer of its own loop, also when a call in another loop begins at that very moment."""
    policy, other, watched = timeout(SmartTimeout(0.1)), asyncio.new_event_loop(), []

    class Interleaved(asyncio.Task):
        """Its `cancelling` is asked while a call begins: here another thread, with another loop, has its turn."""

        def cancelling(self):
            policy._timers.of(other)
            return super().cancelling()

    @policy
    async def look():
        mine = policy._timers.of(asyncio.get_running_loop())
        watched.extend(task for task, due in mine.calls.values())

    async def main():
        loop = asyncio.get_running_loop()
        await look()  # so that this loop is the latest
        watched.clear()
        task = Interleaved(look(), loop=loop)
        await task
        return watched == [task]

    try:
        assert run(main())
    finally:
        other.close()


def test_loops_in_turns():
    """Three loops in three threads under one policy, switching often: every call ends at its limit in its own loop."""
    smart = SmartTimeout(0.05, min_timeout=0.05, max_timeout=0.05)
    policy, late, failures = timeout(smart), [], []

    @policy
    async def quick():
        pass

    @policy
    async def hang():
        await asyncio.sleep(1)

    async def one():
        began = time.monotonic()
        with contextlib.suppress(CallTimeoutError):
            await hang()
        if time.monotonic() - began > 0.9:
            late.append(1)

    async def main():
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: failures.append(context))
        for _ in range(8):
            tasks = [loop.create_task(one()) for _ in range(30)]
            for _ in range(200):
                await quick()
            await asyncio.gather(*tasks)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=run, args=(main(), 30), daemon=True) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    finally:
        sys.setswitchinterval(interval)
    assert (late, failures) == ([], [])
    assert smart.get_stats().timeout_count == 3 * 8 * 30


def test_loops_are_let_go():
    """A closed loop is collected, whether its calls were answered or ended by their limit, though the policy lives."""
    policy, loops = timeout(SmartTimeout(0.02, max_timeout=0.02, min_timeout=0.01)), []

    async def main():
        loops.append(weakref.ref(asyncio.get_running_loop()))
        assert await policy.acall(asyncio.sleep, 0, "ok") == "ok"
        with pytest.raises(CallTimeoutError):
            await policy.acall(asyncio.sleep, 5)
        async with policy:
            pass
        with deadline(0.01), pytest.raises(CallTimeoutError):
            await policy.acall(asyncio.sleep, 5)
        assert await policy.acall(asyncio.sleep, 0, "ok") == "ok"

    for _ in range(2):
        run(main())
    gc.collect()
    assert [loop() for loop in loops] == [None, None]


def test_tasks_are_let_go():
    """A call that has ended leaves neither its task nor its error behind, though its timer is still armed."""
    policy, gone = timeout(SmartTimeout(5)), []

    class Broken(Exception):
        pass

    async def broken():
        gone.append(weakref.ref(asyncio.current_task()))
        error = Broken()
        gone.append(weakref.ref(error))
        raise error

    async def caller():
        with contextlib.suppress(Broken):
            await policy.acall(broken)

    async def main():
        for _ in range(3):
            await asyncio.create_task(caller())
        await asyncio.sleep(0)  # the loop lets go of the last task
        gc.collect()
        return [reference() for reference in gone]

    assert run(main()) == [None] * 6


def test_timers_of_each_kind():
    """Timers for varying limits are made for each loop once."""
    loop = asyncio.new_event_loop()
    timers = LoopTimers(VaryingTimer)
    try:
        assert type(timers.latest) is VaryingTimer
        assert timers.of(loop) is timers.of(loop) is timers.latest
        assert type(timers.latest) is VaryingTimer
    finally:
        loop.close()
