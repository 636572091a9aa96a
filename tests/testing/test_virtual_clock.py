"""VirtualClock: the time of every policy passes when it is told to, in threads and in event loops."""

import asyncio
import os
import random
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from freezegun import freeze_time

from resilient import (
    BulkheadFullError,
    CallTimeoutError,
    CircuitOpenError,
    CircuitState,
    ConfigurationError,
    bulkhead,
    circuit_breaker,
    deadline,
    degrade,
    remaining_time,
    retry,
    timeout,
)
from resilient.clock import CLOCK
from resilient.degradation import CachedDegradation, DegradationManager
from resilient.testing import VirtualClock, capture_events, faults, inject, instant

MINUTE = 60.0


@pytest.fixture(autouse=True)
def restored():
    """Fail the test that leaves another time, or a thread of the clock, behind."""
    before = [getattr(CLOCK, name) for name in CLOCK.__slots__]
    loops = asyncio.base_events.BaseEventLoop.time
    began = time.monotonic()
    yield
    assert [getattr(CLOCK, name) for name in CLOCK.__slots__] == before
    assert asyncio.base_events.BaseEventLoop.time is loops
    assert VirtualClock._current is None
    assert not [one for one in threading.enumerate() if one.name == "resilient-virtual-clock"]
    assert time.monotonic() - began < 30


@pytest.fixture
def clock():
    """Time that is told to pass."""
    with VirtualClock() as clock:
        yield clock


def down():
    """Fail as a service that is down."""
    raise ConnectionError("down")


def begin(function, *args):
    """Run in a thread; returns it and the list that gets its outcome."""
    outcome = []

    def work():
        try:
            outcome.append(function(*args))
        except Exception as error:  # noqa: BLE001 - the test looks at it
            outcome.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    return thread, outcome


def until(condition):
    """Wait, in real time, until something is so."""
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


# Every policy, told


def test_retry_in_a_thread(clock):
    """The waits of a retry end when their time has been let pass, each at its moment."""
    moments = []

    @retry(max_attempts=3, on=ConnectionError, base_delay=10, jitter=False)
    def load():
        moments.append(clock.monotonic())
        down()

    began = clock.monotonic()
    thread, outcome = begin(load)
    until(lambda: clock._sleepers)
    clock.advance(9)
    assert len(moments) == 1
    clock.advance(MINUTE)
    thread.join(5)
    assert isinstance(outcome[0], ConnectionError)
    assert [moment - began for moment in moments] == [0, 10, 30]


def test_breaker_recovers(clock):
    """An open breaker lets a probe through when its time has passed, and not before."""
    breaker = circuit_breaker("api", failure_threshold=1, recovery_timeout=MINUTE, half_open_calls=1)
    with pytest.raises(ConnectionError):
        breaker.call(down)
    clock.advance(MINUTE - 1)
    with pytest.raises(CircuitOpenError):
        breaker.call(down)
    clock.advance(1)
    assert breaker.call(lambda: "answer") == "answer"
    assert breaker.state is CircuitState.CLOSED


@pytest.mark.parametrize("freed", [False, True])
def test_bulkhead_in_threads(clock, freed):
    """A caller waits for a place until one is free, or its time has passed."""
    guard, go = bulkhead("room", max_concurrent=1, max_wait=MINUTE), threading.Event()
    holder, _ = begin(guard.call, go.wait)
    until(lambda: guard.active_requests == 1)
    waiter, outcome = begin(guard.call, lambda: "answer")
    until(lambda: guard.queue_length == 1)
    until(lambda: clock._sleepers)
    clock.advance(MINUTE - 1)
    assert outcome == []
    if freed:
        go.set()
    else:
        clock.advance(1)
    waiter.join(5)
    go.set()
    holder.join(5)
    assert outcome == ["answer"] if freed else isinstance(outcome[0], BulkheadFullError)


def test_timeout_in_a_thread(clock):
    """A sync call that takes longer than its limit is ended when the limit has passed."""
    go = threading.Event()
    thread, outcome = begin(timeout(MINUTE)(go.wait))
    until(lambda: clock._sleepers)
    clock.advance(MINUTE - 1)
    assert outcome == []
    clock.advance(1)
    thread.join(5)
    go.set()
    assert isinstance(outcome[0], CallTimeoutError)


def test_deadline(clock):
    """What is left of a deadline shrinks as time passes, and nothing begins after it."""
    load = timeout(5)(lambda: "answer")
    with deadline(MINUTE):
        clock.advance(20)
        assert remaining_time() == pytest.approx(40)
        assert load() == "answer"
        clock.advance(40)
        with pytest.raises(CallTimeoutError):
            load()


def test_degradation_manager(clock):
    """A degraded service gets a real call when the time between two has passed."""
    manager = DegradationManager(minimum_calls=2, window_size=2, trickle_interval=MINUTE)
    calls = []

    @degrade(fallback="old", manager=manager, service="search")
    def search():
        calls.append(clock.monotonic())
        down()

    for _ in range(20):
        assert search() == "old"
    assert manager.is_degraded("search")
    before = len(calls)
    clock.advance(MINUTE)
    for _ in range(20):
        search()
    assert len(calls) == before + 1


# Event loops, told


def test_async_policies():
    """Retries, timeouts, bulkheads and plain sleeps of tasks end at their moments, in order."""
    seen = []

    @retry(max_attempts=2, on=ConnectionError, base_delay=30, jitter=False)
    async def tries(clock):
        seen.append(("try", clock.monotonic()))
        down()

    async def main(clock):
        guard = bulkhead(max_concurrent=1, max_wait=40)
        began = clock.monotonic()

        async def note(name, awaitable):
            try:
                await awaitable
            except Exception as error:  # noqa: BLE001 - the test looks at it
                name = f"{name} {type(error).__name__}"
            seen.append((name, clock.monotonic()))

        @timeout(20)
        async def slow():
            await asyncio.sleep(MINUTE)

        async def hold():
            async with guard:
                await asyncio.sleep(50)

        tasks = [
            asyncio.ensure_future(note("retry", tries(clock))),
            asyncio.ensure_future(note("timeout", slow())),
            asyncio.ensure_future(note("holder", hold())),
            asyncio.ensure_future(note("waiter", hold())),
            asyncio.ensure_future(note("sleep", asyncio.sleep(10))),
            asyncio.ensure_future(note("wait_for", asyncio.wait_for(asyncio.Event().wait(), 25))),
        ]
        await clock.aadvance(MINUTE)
        await asyncio.gather(*tasks)
        return [(name, moment - began) for name, moment in seen]

    with VirtualClock() as clock:
        got = asyncio.run(main(clock))
    assert [(name, pytest.approx(moment)) for name, moment in got] == [
        ("try", 0),
        ("sleep", 10),
        ("timeout CallTimeoutError", 20),
        ("wait_for TimeoutError", 25),
        ("try", 30),
        ("retry ConnectionError", 30),
        ("waiter BulkheadFullError", 40),
        ("holder", 50),
    ]


def test_advance_wakes_in_order(clock):
    """Threads are woken at their moments, one after the other, each seeing its own moment."""
    began, seen = clock.monotonic(), []

    def wait(seconds):
        CLOCK.sleep(seconds)
        seen.append((seconds, clock.monotonic() - began))

    threads = [begin(wait, seconds)[0] for seconds in (30.0, 10.0, 20.0)]
    until(lambda: len(clock._sleepers) == 3)
    clock.advance(MINUTE)
    for thread in threads:
        thread.join(5)
    assert seen == [(10.0, 10.0), (20.0, 20.0), (30.0, 30.0)]
    assert clock.monotonic() - began == MINUTE


def test_several_threads_and_loops():
    """Threads, and event loops in threads, share the one time."""

    async def in_a_loop(seconds):
        await asyncio.sleep(seconds)
        return CLOCK.monotonic()

    def in_a_thread(seconds):
        CLOCK.sleep(seconds)
        return CLOCK.monotonic()

    with VirtualClock() as clock:
        began = clock.monotonic()
        begun = [begin(asyncio.run, in_a_loop(seconds)) for seconds in (10, 20)]
        begun += [begin(in_a_thread, seconds) for seconds in (15, 25)]
        until(lambda: len(clock._sleepers) == 4)
        clock.advance(30)
        for thread, _ in begun:
            thread.join(5)
    assert [outcome[0] - began for _, outcome in begun] == pytest.approx([10, 20, 15, 25])


def test_clock_begins_inside_a_running_loop():
    """A block inside a coroutine takes over the loop that runs, and gives it back."""

    async def main():
        loop = asyncio.get_running_loop()
        with VirtualClock(autojump=True) as clock:
            began = clock.monotonic()
            await asyncio.sleep(MINUTE)
            assert clock.monotonic() - began == pytest.approx(MINUTE)
            assert loop.time() == clock.monotonic()
        began = time.monotonic()
        await asyncio.sleep(0.01)
        return time.monotonic() - began

    assert 0.005 <= asyncio.run(main()) < 5


@pytest.mark.parametrize("seconds", [-1, "x", True])
def test_bad_advance(clock, seconds):
    """Time does not go back, and takes numbers."""
    with pytest.raises(ConfigurationError, match="seconds="):
        clock.advance(seconds)


def test_negative_sleep(clock):
    """As `time.sleep`, it refuses a negative length."""
    with pytest.raises(ValueError, match="non-negative"):
        clock.sleep(-1)


# Jumping by itself


def outage(seed):
    """A minute of an outage: retries in threads of a pool, with a breaker; what happened, and when."""
    with VirtualClock(autojump=True) as clock:
        began, seen = clock.monotonic(), []
        breaker = circuit_breaker(failure_threshold=3, recovery_timeout=15, half_open_calls=1)

        @retry(max_attempts=6, on=(ConnectionError, CircuitOpenError), base_delay=4, jitter=False)
        @breaker
        def load():
            moment = clock.monotonic() - began
            seen.append(round(moment, 6))
            if moment < 40:
                down()
            return moment

        with inject(load, faults.Latency(0.5), rate=0.5, seed=seed):
            return round(load(), 6), tuple(seen)


def async_outage(seed):
    """The same for 20 tasks that start one after the other."""

    async def main(clock):
        began, seen = clock.monotonic(), []
        draw = random.Random(seed)  # noqa: S311 - a load

        @retry(max_attempts=4, on=ConnectionError, base_delay=3, jitter=False)
        @timeout(2)
        async def load(number):
            seen.append((number, round(clock.monotonic() - began, 6)))
            await asyncio.sleep(0.3)
            if clock.monotonic() - began < 10:
                down()

        async def client(number, pause):
            await asyncio.sleep(pause)
            await load(number)

        pauses = [draw.random() * 10 for _ in range(20)]
        await asyncio.gather(*(client(*pair) for pair in enumerate(pauses)), return_exceptions=True)
        return tuple(seen)

    with VirtualClock(autojump=True) as clock:
        return asyncio.run(main(clock))


@pytest.mark.parametrize("run", [outage, async_outage])
def test_jumping_is_deterministic(run):
    """The same outage has the same course, to the microsecond, 20 times out of 20."""
    assert len({run(7) for _ in range(20)}) == 1


def test_jumping_with_threads():
    """Threads that wait for each other and for time get on, and each sees its own moments, 20 times out of 20."""
    for _ in range(20):
        assert pooled_moments() == [10, 20, 30, 40]


def pooled_moments():
    """When four jobs of a pool wake, which begin at once."""
    with VirtualClock(autojump=True) as clock:
        began = clock.monotonic()

        def work(number):
            CLOCK.sleep(10.0 * number)
            return round(clock.monotonic() - began, 6)

        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(work, [1, 2, 3, 4]))


def test_real_work_is_waited_for():
    """Code that really works, or sleeps by `time.sleep`, is no waiting: a timeout around it does not go off."""

    @timeout(1)
    def work():
        time.sleep(0.05)
        return "answer"

    with VirtualClock(autojump=True):
        assert work() == "answer"


def test_real_sleep_that_is_guarded_itself():
    """The same where there is no code of the user's between the policy and `time.sleep`."""
    with VirtualClock(autojump=True) as clock:
        began = clock.monotonic()
        timeout(1)(time.sleep)(0.05)
        assert clock.monotonic() == began


def test_project_in_a_folder_of_that_name(tmp_path):
    """Code of a user whose folders are named as the library or asyncio is not taken for code that waits."""
    folder = tmp_path / "resilient" / "asyncio"
    folder.mkdir(parents=True)
    code = compile("def work():\n    time.sleep(0.05)\n    return 'answer'\n", str(folder / "threading.py"), "exec")
    names = {"time": time}
    exec(code, names)  # noqa: S102 - the lines above
    with VirtualClock(autojump=True):
        assert timeout(1)(names["work"])() == "answer"


GARBAGE = """
import gc, threading, time
from resilient.testing.clocks.waiting import frames

class Garbage:
    def __init__(self):
        self.me = self
    def __del__(self):
        time.sleep(0.0001)

def start():
    while time.monotonic() < end:
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()

gc.set_threshold(7, 5, 5)
end = time.monotonic() + 1
threads = [threading.Thread(target=start) for _ in range(3)]
for thread in threads:
    thread.start()
while time.monotonic() < end:
    [Garbage() for _ in range(2)]
    frames()
for thread in threads:
    thread.join()
assert gc.isenabled()
print("fine")
"""


def test_looking_at_threads_does_not_stop_the_process():
    """Looking at the threads, while others begin and end and garbage is collected, comes to an end."""
    command = [sys.executable, "-c", GARBAGE]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603 - our own
    assert (result.stdout, result.stderr) == ("fine\n", "")


def test_late_work_times_out_at_its_limit():
    """A wait by the clock inside a timeout that is longer than it ends the call exactly at the limit."""

    @timeout(1)
    def work():
        CLOCK.sleep(MINUTE)

    with VirtualClock(autojump=True) as clock:
        began = clock.monotonic()
        with pytest.raises(CallTimeoutError):
            work()
        assert clock.monotonic() - began == pytest.approx(1)


def test_instant():
    """`instant` is such a clock, as a block and as a decorator of a function."""
    load = retry(max_attempts=5, on=ConnectionError, base_delay=4, jitter=False)(down)

    @instant()
    def decorated():
        began = CLOCK.monotonic()
        with pytest.raises(ConnectionError):
            load()
        return CLOCK.monotonic() - began

    began = time.monotonic()
    assert decorated() == pytest.approx(4 + 8 + 16 + 30)
    with instant() as clock:
        assert clock.autojump
        with pytest.raises(ConnectionError):
            load()
    assert time.monotonic() - began < MINUTE


def test_capture_events():
    """`capture_events` lists what policies tell inside the block, of the types that are named, in order."""
    from resilient.events import RetryScheduled, RetrySucceeded

    answers = [ConnectionError(), ConnectionError(), "answer"]

    def answer():
        one = answers.pop(0)
        if isinstance(one, Exception):
            raise one
        return one

    load = retry(max_attempts=3, on=ConnectionError, base_delay=1)(answer)
    with instant(), capture_events() as everything, capture_events(RetrySucceeded) as few:
        load()
    answers.append("answer")
    load()
    assert [type(one) for one in everything] == [RetryScheduled, RetryScheduled, RetrySucceeded]
    assert [type(one) for one in few] == [RetrySucceeded]


# What it refuses, and what is left


@pytest.mark.parametrize(
    "use",
    [
        lambda: socket.create_connection(("127.0.0.1", 9), timeout=1),
        lambda: socket.getaddrinfo("localhost", 80),
        lambda: asyncio.run(asyncio.open_connection("127.0.0.1", 9)),
        lambda: asyncio.run(asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)),
    ],
    ids=["connect", "resolve", "async connect", "serve"],
)
def test_sockets_are_refused(use):
    """A real socket is refused inside the block, with the reason and what to use instead, and allowed after it."""
    with VirtualClock(), pytest.raises(RuntimeError, match=r"VirtualClock is in use.*FaultProxy"):
        use()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))


def test_second_clock_is_refused(clock):
    """There is one time: a clock inside another is refused, from any thread, and the first goes on."""
    with pytest.raises(RuntimeError, match="in use already"), VirtualClock():
        pass
    _, outcome = begin(VirtualClock().__enter__)
    until(lambda: outcome)
    assert "in use already" in str(outcome[0])
    assert CLOCK.monotonic() == clock.monotonic()


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, asyncio.CancelledError])
@pytest.mark.parametrize("autojump", [False, True])
def test_restored_after_errors(kind, autojump):
    """Whatever the block raises passes through, and real time is back."""
    with pytest.raises(kind), VirtualClock(autojump=autojump):
        raise kind
    assert abs(CLOCK.monotonic() - time.monotonic()) < 1


def test_waiters_are_let_go(clock):
    """Threads that still wait when the block ends return, rather than wait for a time that never comes."""
    thread, outcome = begin(CLOCK.sleep, MINUTE)
    until(lambda: clock._sleepers)
    clock.__exit__(None, None, None)
    thread.join(5)
    assert outcome == [None]


def test_used_again():
    """A clock may be used for one block after another."""
    clock = VirtualClock(autojump=True)
    for _ in range(3):
        with clock:
            began = clock.monotonic()
            CLOCK.sleep(MINUTE)
            assert clock.monotonic() - began == pytest.approx(MINUTE)
        assert not clock.is_active


def test_bad_autojump():
    """`autojump` is True or False."""
    with pytest.raises(ConfigurationError, match="autojump=1"):
        VirtualClock(autojump=1)


def test_the_users_own_time_stays_real(clock):
    """`time.monotonic` and `time.time` of the user's own code go on."""
    before = time.monotonic()
    clock.advance(MINUTE)
    assert time.monotonic() - before < MINUTE / 2


def test_degrade_cache_ages(clock):
    """A remembered answer gets old as time is let pass."""
    answers = iter(["first", "second"])
    load = degrade(cache=CachedDegradation(cache_ttl=MINUTE))(lambda: next(answers))
    assert load() == "first"
    clock.advance(MINUTE / 2)
    assert load() == "first"
    clock.advance(MINUTE)
    assert load() == "second"


def test_loops_follow_after_freezegun():
    """A loop whose class freezegun has given a `time` of its own follows the clock all the same."""

    async def nap():
        await asyncio.sleep(60)
        return asyncio.get_running_loop().time()

    with freeze_time("2026-01-01", real_asyncio=True):
        asyncio.run(asyncio.sleep(0))
    with VirtualClock(autojump=True) as clock:
        began = clock.monotonic()
        assert asyncio.run(nap()) == began + 60


def test_bystanders_do_not_hold_up_time():
    """A thread that has waited for the world since before the block has nothing to do with it."""
    reading, writing = os.pipe()
    bystander = threading.Thread(target=os.read, args=(reading, 1), daemon=True)
    bystander.start()
    time.sleep(0.05)
    began = time.perf_counter()
    with VirtualClock(autojump=True) as clock:
        for _ in range(20):
            clock.sleep(60)
    took = time.perf_counter() - began
    os.write(writing, b"x")
    bystander.join(5)
    os.close(reading)
    os.close(writing)
    assert took < 10  # one second for each jump, where the clock would wait for it
