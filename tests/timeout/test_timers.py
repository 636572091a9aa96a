"""What ends a call: the loop's one timer, and SIGALRM."""

import asyncio
import contextlib
import gc
import signal
import threading
import time
import weakref

import pytest

from resilient import CallTimeoutError, deadline, registry, timeout
from resilient.timeout.timers import Alarm, AlarmRang, LoopTimer, LoopTimers


def run(coroutine):
    async def bounded():
        return await asyncio.wait_for(coroutine, 5)

    return asyncio.run(bounded())


def test_loop_timer_cancels_in_order():
    """The timer cancels what is due, and sets itself for the next, which it leaves alone until then."""

    async def main():
        loop = asyncio.get_running_loop()
        timer = LoopTimer()
        tasks = [loop.create_task(asyncio.sleep(5)) for _ in range(2)]
        now = loop.time()
        timer.calls.update({1: (tasks[0], now), 2: (tasks[1], now + 0.05)})
        timer.fire()
        assert list(timer.calls) == [2]
        assert timer.armed
        await asyncio.wait(tasks)
        assert [task.cancelled() for task in tasks] == [True, True]
        assert (timer.calls, timer.armed) == ({}, False)

    run(main())


def test_one_timer_for_many_calls():
    """A thousand calls under one limit arm one timer, and leave nothing behind when they end."""
    policy = timeout(5)

    async def main():
        armed = []
        loop = asyncio.get_running_loop()
        really, loop.call_at = loop.call_at, lambda due, *rest, **more: armed.append(due) or really(due, *rest, **more)
        for _ in range(1000):
            assert await policy.acall(asyncio.sleep, 0, "ok") == "ok"
        del loop.call_at
        return len(armed)

    assert run(main()) == 1
    assert policy._timers.latest.calls == {}


def test_loop_timers_let_loops_go():
    """The timers of a policy keep no event loop alive."""
    timers, loop = LoopTimers(), asyncio.new_event_loop()
    timer = timers.of(loop)
    assert timers.of(loop) is timer is timers.latest
    gone = weakref.ref(loop)
    loop.close()
    del loop
    gc.collect()
    assert gone() is None
    assert timers.loop() is None


def test_two_loops_at_once():
    """Calls of two event loops under one policy end in their own loops, in turns."""
    policy, outcomes = timeout(0.05), []

    async def main():
        for _ in range(3):
            assert await policy.acall(asyncio.sleep, 0, "ok") == "ok"
            with pytest.raises(CallTimeoutError):
                await policy.acall(asyncio.sleep, 5)
        outcomes.append("done")

    threads = [threading.Thread(target=run, args=(main(),), daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert outcomes == ["done", "done"]
    assert policy.get_metrics().timed_out == 6


def test_swallowed_cancellation():
    """A call that swallows our cancellation and answers is answered for, and its task is not left cancelling."""
    policy = timeout(0.02)

    @policy
    async def stubborn():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(5)
        return "late"

    async def main():
        assert await stubborn() == "late"
        async with policy:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(5)
        return asyncio.current_task().cancelling()

    assert run(main()) == 0


def test_error_while_being_cancelled():
    """An error that a call raises instead of ending by our cancellation is its own, and comes out."""
    policy = timeout(0.02)

    async def rude():
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            raise LookupError from None

    async def main():
        with pytest.raises(LookupError):
            await policy.acall(rude)
        with pytest.raises(LookupError):
            async with policy:
                await rude()
        return asyncio.current_task().cancelling()

    assert run(main()) == 0


def test_block_ends_in_time_and_not():
    """An `async with` block raises our error when its limit passes, and nothing else when it does not."""
    policy = timeout(0.02)

    async def main():
        async with policy:
            pass
        with pytest.raises(CallTimeoutError):
            async with policy:
                await asyncio.sleep(5)

    run(main())


def test_deadline_has_a_timer_of_its_own():
    """A deadline nearer than the limit ends the call then, while calls under the limit go on."""
    policy = timeout(5)

    async def main():
        with deadline(0.03), pytest.raises(CallTimeoutError) as caught:
            await policy.acall(asyncio.sleep, 5)
        assert caught.value.limit <= 0.03
        assert await policy.acall(asyncio.sleep, 0, "ok") == "ok"

    run(main())


def test_shorter_limit_while_calls_run():
    """After a live change to a shorter limit, a new call ends by the new one though older calls may go on longer."""
    policy = timeout(5, name="t")

    async def main():
        older = asyncio.ensure_future(policy.acall(asyncio.sleep, 0.1, "older"))
        await asyncio.sleep(0)
        registry.configure("timeout", "t", limit=0.02)
        with pytest.raises(CallTimeoutError):
            await policy.acall(asyncio.sleep, 5)
        assert await older == "older"

    run(main())


def test_outside_a_task():
    """In an event loop, but outside any task, an async call under a limit says what it lacks."""
    policy, outcomes = timeout(1), []

    def step():
        try:
            policy.acall(asyncio.sleep, 0).send(None)
        except RuntimeError as error:
            outcomes.append(str(error))

    async def main():
        asyncio.get_running_loop().call_soon(step)
        await asyncio.sleep(0.01)

    run(main())
    assert len(outcomes) == 1
    assert "task" in outcomes[0]


# SIGALRM


@pytest.fixture
def alarms():
    """Put SIGALRM back as it was."""
    handler = signal.getsignal(signal.SIGALRM)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, handler)


def spin(seconds):
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def test_signal(alarms):
    """The signal method ends even a call that never waits, and puts handler and timer back."""
    before = signal.getsignal(signal.SIGALRM)
    policy = timeout(0.03, method="signal")
    assert policy.call(int) == 0
    with pytest.raises(CallTimeoutError):
        policy.call(spin, 5)
    with pytest.raises(LookupError):
        policy.call({}.__getitem__, "key")
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
    assert policy.get_metrics().timed_out == 1


@pytest.mark.parametrize(("outer", "inner", "blamed"), [(0.03, 5, "outer"), (5, 0.03, "inner")])
def test_signal_within_signal(alarms, outer, inner, blamed):
    """Of two nested limits the shorter one rings, and each tells of its own."""

    @timeout(outer, method="signal", name="outer")
    @timeout(inner, method="signal", name="inner")
    def work():
        spin(5)

    with pytest.raises(CallTimeoutError) as caught:
        work()
    assert caught.value.name == blamed


def test_foreign_alarm(alarms):
    """An alarm that was set before goes on after the call, with what is left of its time."""
    rung = []
    signal.signal(signal.SIGALRM, lambda *_: rung.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    assert timeout(0.05, method="signal").call(int) == 0
    assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= 0.1
    spin(0.15)
    assert rung == [1]


def test_foreign_alarm_that_rings_late(alarms):
    """A signal that arrives after the block has ended raises nothing."""
    alarm = Alarm(5)
    alarm.start()
    alarm.armed = False
    alarm.stop()
    alarm._ring(signal.SIGALRM, None)
    assert issubclass(AlarmRang, BaseException)
    assert not issubclass(AlarmRang, Exception)


def test_signal_in_another_thread():
    """Outside the main thread the signal method says that it cannot work there."""
    outcomes = []

    def work():
        try:
            timeout(1, method="signal").call(int)
        except RuntimeError as error:
            outcomes.append(str(error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(5)
    assert "main thread" in outcomes[0]


def test_signal_on_a_platform_without(monkeypatch):
    """Where there is no such signal, the method is refused at decoration."""
    monkeypatch.delattr(signal, "setitimer")
    with pytest.raises(TypeError, match="setitimer"):
        timeout(1, method="signal")(print)
