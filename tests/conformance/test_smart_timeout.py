"""SmartTimeout: the limit follows the answers, grows back after timeouts, and counts what it should, exactly."""

import asyncio
import contextlib
import contextvars
import gc
import itertools
import json
import os
import threading
import weakref
from collections import deque

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resilient import (
    CallTimeoutError,
    ConfigurationError,
    Pipeline,
    SmartTimeout,
    bulkhead,
    circuit_breaker,
    deadline,
    registry,
    retry,
    timeout,
)
from resilient.clock import CLOCK
from resilient.events import CallTimedOut

from .helpers import Failing, Marked, aoutcome, eventually, gathered, in_threads, outcome, run, slow
from .kinds import ASYNC, CALL_KINDS, SYNC, Script

METHODS = ["thread", "signal", "cooperative"]


class Time:
    """Time that only calls move, for both faces: the clock, and the time of the event loop."""

    def __init__(self, face):
        self.face, self.now = face, 1000.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds, /):
        self.now += seconds

    async def asleep(self, seconds, /):
        self.now += seconds

    def policy(self, smart, **options):
        """Make a timeout whose limit is kept by this time alone: nothing really waits."""
        return timeout(smart, **options) if self.face.is_async else timeout(smart, method="cooperative", **options)

    def answering(self, seconds, error=None):
        """Make a function that takes so long, then answers or fails."""
        if self.face.is_async:

            async def guarded():
                self.now += seconds
                for _ in range(3):
                    await asyncio.sleep(0)
                if error is not None:
                    raise error
                return "ok"

            return guarded

        def guarded():
            self.now += seconds
            if error is not None:
                raise error
            return "ok"

        return guarded

    def call(self, policy, seconds, error=None):
        """Make a call that takes so long; return its answer, or its error."""
        return self.run(lambda: self.answering(seconds, error), policy)

    def run(self, make, policy):
        function = make()
        with CLOCK.use(self):
            if not self.face.is_async:
                return outcome(policy.call, function)
            return _in_loop_time(self, lambda: policy.acall(function))


def _in_loop_time(source, make):
    loop = asyncio.new_event_loop()
    loop.time = source.monotonic
    try:
        return loop.run_until_complete(aoutcome(make()))
    finally:
        loop.close()


@pytest.fixture
def time(face):
    return Time(face)


def smart(base=1.0, **options):
    return SmartTimeout(base, **options)


def never(face):
    """Make a function that would take far longer than any test."""
    if face.is_async:
        return face.function(lambda *args: asyncio.sleep(60))
    return slow(face, 0.15)


# The limit


def test_limit_is_that_of_the_moment(face):
    """A call over the limit of the moment raises CallTimeoutError with the policy's name and that limit."""
    adaptive = smart(0.02, min_timeout=0.01)
    told = []
    with registry.subscribe(told.append, CallTimedOut):
        error = outcome(face.call, timeout(adaptive, name="t")(never(face)))
    assert isinstance(error, CallTimeoutError)
    assert isinstance(error, TimeoutError)
    assert (error.name, error.limit) == ("t", 0.04)
    assert [(event.name, event.limit) for event in told] == [("t", 0.04)]
    assert adaptive.get_stats().timeout_count == 1
    assert adaptive.current_limit() == pytest.approx(0.08)


@pytest.mark.parametrize("way", ["decorated", "call"])
def test_limit_follows_the_answers(face, time, way):
    """The limit is the average of the answers in the window times the factor."""
    adaptive = smart(2, adaptive_factor=3, window_size=4)
    policy = time.policy(adaptive)
    assert (policy.limit, adaptive.current_limit()) == (6, 6)
    window = deque(maxlen=4)
    for seconds in (1, 2, 3, 4, 0.5, 0.25, 5, 1):
        if way == "call":
            assert time.call(policy, seconds) == "ok"
        else:
            guarded = policy(time.answering(seconds))
            with CLOCK.use(time):
                assert (_in_loop_time(time, guarded) if face.is_async else guarded()) == "ok"
        window.append(seconds)
        assert policy.limit == pytest.approx(3 * sum(window) / len(window))
    stats = adaptive.get_stats()
    assert stats == (pytest.approx(sum(window) / 4), 0.25, 5, 0, 0)


@pytest.mark.parametrize("one_face", [SYNC, ASYNC], ids=["sync", "async"])
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.sampled_from(["answer", "error"]), st.floats(0.0, 0.95)),
            st.tuples(st.just("timeout"), st.floats(1.05, 50)),
            st.tuples(st.just("load"), st.floats(0, 100)),
        ),
        max_size=12,
    ),
    size=st.integers(1, 5),
)
def test_limit_after_any_calls(one_face, steps, size):
    """Answers, errors, timeouts and load in any order leave the limit that the rules give, sync and async alike."""
    time, adaptive = Time(one_face), smart(1, window_size=size)
    policy = time.policy(adaptive)
    assert time.call(policy, 1.0) == "ok"
    window, load, timeouts = deque([1.0], maxlen=size), 0.0, 0
    for what, number in steps:
        limit, usual = adaptive.current_limit(), sum(window) / len(window)
        if what == "load":
            adaptive.update_load_factor(number)
            load = number
        elif what == "timeout":
            assert isinstance(time.call(policy, number * limit), CallTimeoutError)
            timeouts += 1
            window.append(limit)
        elif what == "answer":
            assert time.call(policy, number * limit) == "ok"
            window.append(number * limit)
        elif abs(number * limit - usual) > 1e-6:
            assert isinstance(time.call(policy, number * limit, LookupError()), LookupError)
            if number * limit > usual:
                window.append(number * limit)
        scale = 2 * (1.5 if load > 80 else 1.2 if load > 60 else 1)
        expected = min(30.0, max(0.1, sum(window) / len(window) * scale))
        assert adaptive.current_limit() == pytest.approx(expected, rel=1e-6)
        assert adaptive.get_stats().timeout_count == timeouts == policy.get_metrics().timed_out


def test_limit_stays_within_its_bounds(time):
    """No answers bring the limit below `min_timeout` or above `max_timeout`."""
    adaptive = smart(1, max_timeout=10)
    policy = time.policy(adaptive)
    for _ in range(100):
        assert time.call(policy, 0.0001) == "ok"
    assert policy.limit == 0.1
    adaptive.record(500.0)
    assert policy.limit == 10


@pytest.mark.parametrize(("load", "limit"), [(50, 2), (61, 2.4), (81, 3)])
def test_load_counts_for_the_next_call(time, load, limit):
    """Load stretches the limit of the next call, whether it is set or asked for."""
    told = smart(1)
    told.update_load_factor(load)
    for adaptive in (told, smart(1, load_source=lambda: load)):
        policy = time.policy(adaptive)
        error = time.call(policy, limit + 0.1)
        assert error.limit == pytest.approx(limit)
        assert adaptive.get_stats().current_load == load


def test_load_source_is_asked_once_a_second(time):
    """However many calls there are, a load source is asked at most once a second; one that fails breaks no call."""
    asked = []

    def load():
        asked.append(time.now)
        raise OSError

    policy = time.policy(smart(1, load_source=load))
    for _ in range(100):
        assert time.call(policy, 0.1) == "ok"
    assert 9 <= len(asked) <= 10
    assert all(later - before >= 1 for before, later in itertools.pairwise(asked))


def test_limit_grows_back(time):
    """From an artificially small limit, timeouts bring it up to where calls succeed again, and it settles there."""
    adaptive = smart(0.01, min_timeout=0.001, window_size=10)
    policy = time.policy(adaptive)
    for _ in range(10):
        assert time.call(policy, 0.001) == "ok"
    timeouts = 0
    while time.call(policy, 5.0) != "ok":
        timeouts += 1
        assert timeouts < 500
        assert adaptive.get_stats().timeout_count == timeouts
    for _ in range(20):
        assert time.call(policy, 5.0) == "ok"
    assert adaptive.current_limit() == pytest.approx(10)
    assert adaptive.get_stats().timeout_count == timeouts


def test_limit_grows_back_in_real_time(face):
    """The same with a call that really takes its time."""
    adaptive = smart(0.005, min_timeout=0.001, window_size=2)
    policy = timeout(adaptive)
    guarded = slow(face, 0.08)
    for _ in range(30):
        if outcome(face.via, policy, guarded) == "slow":
            break
    assert 2 <= adaptive.get_stats().timeout_count < 30
    assert adaptive.current_limit() > 0.08


def test_factor_that_cannot_grow(time):
    """No factor that is accepted lets timeouts keep the limit down for ever."""
    for factor in (0.5, 1.0):
        with contextlib.suppress(ConfigurationError):
            adaptive = smart(0.2, adaptive_factor=factor, window_size=3)
            policy = time.policy(adaptive)
            assert any(time.call(policy, 1.0) == "ok" for _ in range(300)), f"adaptive_factor={factor}"


# What counts, and what does not


def test_quick_errors_do_not_count(time):
    """Errors that come faster than an answer leave the limit where it is; the error arrives itself."""
    adaptive = smart(1)
    policy = time.policy(adaptive)
    for number in range(5):
        assert time.call(policy, 1.5 if number else 1.0) == "ok"
    before = adaptive.get_stats()
    error = LookupError("mine")
    for _ in range(50):
        assert time.call(policy, 0.001, error) is error
    assert adaptive.get_stats() == before


def test_slow_errors_count(time):
    """Errors that take longer than an answer count like one: what fails that late may need that long to answer."""
    adaptive = smart(1, window_size=2)
    policy = time.policy(adaptive)
    assert time.call(policy, 1.0) == "ok"
    for _ in range(2):
        assert isinstance(time.call(policy, 1.8, LookupError()), LookupError)
    assert adaptive.get_stats()[:4] == (pytest.approx(1.8), pytest.approx(1.8), pytest.approx(1.8), 0)


def test_own_timeout_errors_count_as_errors(time):
    """A TimeoutError of the function itself, or another policy's CallTimeoutError, is an error like any other."""
    adaptive = smart(1)
    policy = time.policy(adaptive)
    assert time.call(policy, 1.0) == "ok"
    for error in (TimeoutError(), CallTimeoutError("another", 5)):
        assert time.call(policy, 0.1, error) is error
    assert adaptive.get_stats() == (1, 1, 1, 0, 0)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("method", METHODS)
def test_stop_signals_count_as_nothing(error, method):
    """KeyboardInterrupt, SystemExit and GeneratorExit arrive as themselves and leave no trace in the window."""
    adaptive = smart(5, min_timeout=5)
    adaptive.record(0.0)
    before, raised = adaptive.get_stats(), error("stop")
    assert outcome(timeout(adaptive, method=method)(Failing(raised))) is raised
    assert adaptive.get_stats() == before


@pytest.mark.parametrize("way", ["call", "block"])
def test_cancelled_calls_count_as_nothing(way):
    """A call whose caller is cancelled ends cancelled, and leaves no trace in the window, however long it took."""
    adaptive = smart(5, min_timeout=5)
    adaptive.record(0.0)
    before, policy = adaptive.get_stats(), timeout(adaptive)

    async def body():
        if way == "call":
            await policy.acall(asyncio.sleep, 5)
        else:
            async with policy:
                await asyncio.sleep(5)

    async def go():
        task = asyncio.ensure_future(body())
        await asyncio.sleep(0.02)
        task.cancel("from the caller")
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert caught.value.args == ("from the caller",)
        with pytest.raises(TimeoutError) as late:
            async with asyncio.timeout(0.02):
                await body()
        assert not isinstance(late.value, CallTimeoutError)

    run(go())
    assert adaptive.get_stats() == before


def test_refused_calls_count_as_nothing():
    """A call that is refused for too many abandoned threads counts neither as a timeout nor as a time."""
    adaptive, release, made = smart(0.02, min_timeout=0.01), threading.Event(), Failing(None)
    policy = timeout(adaptive, max_abandoned=1)
    assert isinstance(outcome(policy.call, release.wait, 5), CallTimeoutError)
    before = adaptive.get_stats()
    for _ in range(20):
        assert isinstance(outcome(policy.call, made), CallTimeoutError)
    assert (made.calls, adaptive.get_stats()) == (0, before)
    assert before.timeout_count == 1
    release.set()
    eventually(lambda: policy.abandoned == 0)


def test_deadline_cuts_a_call_short(face):
    """A call that an outer deadline ends counts as a timeout, but not as having taken the whole limit."""
    adaptive = smart(5)
    policy = timeout(adaptive)
    adaptive.record(5.0)

    def go():
        with deadline(0.03):
            return face.via(policy, never(face))

    error = outcome(go)
    assert isinstance(error, CallTimeoutError)
    assert error.limit <= 0.03
    assert adaptive.get_stats() == (5, 5, 5, 1, 0)
    assert adaptive.current_limit() == 10


def test_deadline_that_has_passed(face):
    """A call that is not made any more, as the deadline has passed, counts the same for both faces: as nothing."""
    adaptive, body = smart(5), Failing(None)
    adaptive.record(5.0)

    def go():
        with deadline(0):
            return face.via(timeout(adaptive), face.function(body))

    assert isinstance(outcome(go), CallTimeoutError)
    assert body.calls == 0
    assert adaptive.get_stats() == (5, 5, 5, 0, 0)


def test_outer_timeout_cuts_a_call_short(face):
    """A call that an outer timeout ends is the outer one's timeout, not this one's, sync and async alike."""
    adaptive = smart(5)
    adaptive.record(5.0)
    inner, outer = timeout(adaptive, name="inner"), timeout(0.03, name="outer")
    error = outcome(face.call, outer(inner(never(face))))
    assert error.name == "outer"
    if not face.is_async:
        eventually(lambda: outer.abandoned == inner.abandoned == 0)
    assert adaptive.get_stats()[:3] == (5, 5, 5)
    assert adaptive.get_stats().timeout_count == inner.get_metrics().timed_out == 0


def test_smart_within_smart(face):
    """Of two nested limits only the one that fires counts a timeout."""
    outer, inner = smart(5), smart(0.02, min_timeout=0.01)
    error = outcome(face.call, timeout(outer, name="outer")(timeout(inner, name="inner")(never(face))))
    assert error.name == "inner"
    assert (outer.get_stats().timeout_count, inner.get_stats().timeout_count) == (0, 1)


def test_every_attempt_counts(time):
    """Inside a retry, each attempt is a call of its own."""
    adaptive = smart(1, window_size=50)
    pipeline = Pipeline(retry(max_attempts=4, base_delay=0), circuit_breaker("b"), time.policy(adaptive))
    assert isinstance(time.call(pipeline, 60), CallTimeoutError)
    assert adaptive.get_stats().timeout_count == 4
    assert adaptive.current_limit() > 2


def test_switched_off(face):
    """Inside `registry.disabled()` nothing is limited and nothing counts."""
    adaptive = smart(0.01, min_timeout=0.01)
    guarded = timeout(adaptive)(slow(face, 0.04))
    with registry.disabled():
        assert face.call(guarded) == "slow"
    assert adaptive.get_stats() == (0.01, 0, 0, 0, 0)


# Ways to use it


@pytest.mark.parametrize("kind", CALL_KINDS, ids=str)
def test_every_kind_of_callable(kind):
    """Every kind of callable is timed, once for each call."""
    adaptive, script = smart(5), Script()
    guarded = kind.build(script, timeout(adaptive))
    for calls in (1, 2, 3):
        assert kind.drive(guarded) == "ok"
        assert (script.calls, len(adaptive._times)) == (calls, calls)
    assert 0 < adaptive.get_stats().avg_response_time < 1


@pytest.mark.parametrize("method", METHODS)
def test_methods(method):
    """Each method for sync functions keeps the limit, counts, and times what is in time."""
    adaptive = smart(0.02, min_timeout=0.01)
    policy = timeout(adaptive, method=method)
    assert isinstance(outcome(policy.call, slow(SYNC, 0.1)), CallTimeoutError)
    assert adaptive.get_stats().timeout_count == 1
    assert adaptive.get_stats().min_response_time >= 0.04
    assert policy.call(slow(SYNC, 0.005)) == "slow"
    assert 0.005 <= adaptive.get_stats().min_response_time < 0.08
    error = LookupError("mine")
    assert outcome(policy.call, Failing(error)) is error


def test_blocks():
    """An async block is limited and timed; its errors pass, and its quick ones do not count."""
    adaptive = smart(0.05, min_timeout=0.01, window_size=10)
    policy = timeout(adaptive)

    async def go(seconds, error=None):
        async with policy:
            await asyncio.sleep(seconds)
            if error is not None:
                raise error
        return "ok"

    error = LookupError("mine")
    assert run(go(0.03)) == "ok"
    assert 0.03 <= adaptive.get_stats().avg_response_time < 0.1
    before = adaptive.get_stats()
    assert outcome(run, go(0, error)) is error
    assert adaptive.get_stats() == before
    limit = adaptive.current_limit()
    raised = outcome(run, go(5))
    assert isinstance(raised, CallTimeoutError)
    assert raised.limit == pytest.approx(limit)
    assert adaptive.get_stats().timeout_count == 1
    assert adaptive.get_stats().max_response_time >= limit
    with pytest.raises(TypeError, match="async with"), policy:
        pass


def test_swallowed_cancellation():
    """A call that swallows our cancellation and answers is an answer, with the time it took; the task is in order."""
    adaptive = smart(0.01, min_timeout=0.01)
    policy = timeout(adaptive)

    async def stubborn():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(5)
        return "late"

    async def go():
        assert await policy.acall(stubborn) == "late"
        return asyncio.current_task().cancelling()

    assert run(go()) == 0
    assert (adaptive.get_stats().timeout_count, len(adaptive._times)) == (0, 1)
    assert adaptive.get_stats().max_response_time >= 0.0199


# Many at once


def test_timeouts_are_counted_exactly():
    """Sixteen threads and a hundred tasks in several loops, under one SmartTimeout: each timeout is counted once."""
    adaptive = smart(0.1, min_timeout=0.1, max_timeout=0.2)
    policy, apolicy = timeout(adaptive), timeout(adaptive)
    release = threading.Event()

    def in_thread():
        results = [outcome(policy.call, release.wait, 5 if number % 2 else 0) for number in range(6)]
        return sum(isinstance(result, CallTimeoutError) for result in results)

    def in_loop():
        async def go():
            calls = (apolicy.acall(asyncio.sleep, 30 if number % 2 else 0) for number in range(50))
            return await asyncio.gather(*calls, return_exceptions=True)

        return sum(isinstance(result, CallTimeoutError) for result in run(go()))

    counts = in_threads(18, lambda index: in_thread() if index < 16 else in_loop(), limit=15)
    release.set()
    # At least: a machine that stands still for 0.1 s makes more of them.
    assert all(count >= least for count, least in zip(counts, [3] * 16 + [25] * 2, strict=True))
    assert adaptive.get_stats().timeout_count == sum(counts)
    assert (policy.get_metrics().timed_out, apolicy.get_metrics().timed_out) == (sum(counts[:16]), sum(counts[16:]))
    eventually(lambda: policy.abandoned == 0)


def test_many_answers_at_once():
    """Answers from threads and loops all enter the window."""
    adaptive = smart(5, window_size=10_000)
    policy = timeout(adaptive)

    def work(index):
        if index < 8:
            return [policy.call(int) for _ in range(50)]
        return run(gathered(lambda: policy.acall(asyncio.sleep, 0), 300))

    in_threads(10, work)
    assert len(adaptive._times) == 8 * 50 + 2 * 300
    assert adaptive.get_stats().timeout_count == 0


def test_shared_by_several_timeouts(time):
    """Timeouts that share one SmartTimeout share what it has seen; two objects share nothing."""
    shared, own = smart(1), smart(1)
    first, second = time.policy(shared, name="first"), time.policy(shared, name="second")
    other = time.policy(own, name="other")
    assert time.call(first, 1.5) == "ok"
    assert (first.limit, second.limit, other.limit) == (3, 3, 2)
    assert isinstance(time.call(second, 60), CallTimeoutError)
    assert shared.get_stats().timeout_count == 1
    assert own.get_stats().timeout_count == 0
    assert (first.get_metrics().timed_out, second.get_metrics().timed_out) == (0, 1)


def test_one_name_one_smart_timeout():
    """The same name with the same object is the same policy; with another object it is a conflict."""
    adaptive = smart(1)
    assert timeout(adaptive, name="t") is timeout(adaptive, name="t")
    for other in (smart(1), 2):
        with pytest.raises(ConfigurationError, match="already defined differently"):
            timeout(other, name="t")


# Live changes


def test_configured_from_number_to_smart_and_back(face):
    """`registry.configure` exchanges a number for a SmartTimeout and back; each call keeps the limit of its kind."""
    policy = timeout(5, name="t")
    guarded, hanging = policy(slow(face, 0.001)), policy(never(face))
    adaptive = smart(0.02, min_timeout=0.01)
    for _ in range(2):
        registry.configure("timeout", "t", limit=5)
        seen = len(adaptive._times)
        assert face.call(guarded) == "slow"
        assert (policy.limit, len(adaptive._times)) == (5, seen)
        registry.configure("timeout", "t", limit=adaptive)
        timeouts = adaptive.get_stats().timeout_count
        assert face.call(guarded) == "slow"
        assert isinstance(outcome(face.call, hanging), CallTimeoutError)
        assert adaptive.get_stats().timeout_count == timeouts + 1
        assert len(adaptive._times) == seen + 2
    with pytest.raises(ConfigurationError, match="limit="):
        registry.configure("timeout", "t", limit="soon")
    assert policy.limit == adaptive.current_limit()


def test_configured_while_tasks_run():
    """Calls under way keep their limits when the limit is exchanged, and end in time in whatever order they are due."""
    policy = timeout(5, name="t")
    adaptive = smart(0.02, min_timeout=0.01, max_timeout=0.04)

    @policy
    async def wait(seconds):
        await asyncio.sleep(seconds)
        return seconds

    async def go():
        older = [asyncio.ensure_future(wait(0.12)) for _ in range(5)]
        await asyncio.sleep(0)
        registry.configure("timeout", "t", limit=adaptive)
        short = [asyncio.ensure_future(wait(5)) for _ in range(5)]
        await asyncio.sleep(0)
        registry.configure("timeout", "t", limit=0.08)
        numbers = [asyncio.ensure_future(aoutcome(wait(5))) for _ in range(5)]
        await asyncio.sleep(0)
        registry.configure("timeout", "t", limit=5)
        errors = await asyncio.gather(*short, return_exceptions=True)
        assert {type(error) for error in errors} == {CallTimeoutError}
        assert not any(task.done() for task in (*numbers, *older))
        assert {error.limit for error in await asyncio.gather(*numbers)} == {0.08}
        return await asyncio.gather(*older)

    assert run(go()) == [0.12] * 5
    assert adaptive.get_stats().timeout_count == 5


def test_configured_while_blocks_run():
    """A block that began under a number tells the SmartTimeout that comes meanwhile nothing, as a call does not."""
    policy, adaptive = timeout(0.03, name="t"), smart(5)

    @policy
    async def call():
        await asyncio.sleep(5)

    async def block(seconds):
        async with policy:
            await asyncio.sleep(seconds)

    async def go():
        tasks = [asyncio.ensure_future(aoutcome(body)) for body in (call(), block(5), block(0.01))]
        await asyncio.sleep(0)
        registry.configure("timeout", "t", limit=adaptive)
        return [type(result) for result in await asyncio.gather(*tasks)]

    assert run(go()) == [CallTimeoutError, CallTimeoutError, type(None)]
    assert adaptive.get_stats() == (5, 0, 0, 0, 0)


def test_configured_while_threads_call():
    """Changing the kind of limit over and over while threads and tasks call breaks no call."""
    policy, adaptive, stop = timeout(5, name="t"), smart(5), threading.Event()
    guarded = policy(lambda: "ok")

    @policy
    async def aguarded():
        await asyncio.sleep(0)
        return "ok"

    def work(index):
        if index == 0:
            for number in range(100):
                registry.configure("timeout", "t", limit=5 if number % 2 else adaptive)
            stop.set()
            return set()
        results = set()
        while not stop.is_set():
            results.add(guarded() if index < 4 else run(aguarded()))
            results.add(policy.call(lambda: "ok") if index < 4 else run(policy.acall(asyncio.sleep, 0, "ok")))
        return results

    assert [results for results in in_threads(7, work, limit=15) if results not in (set(), {"ok"})] == []


def test_snapshot_is_ready_for_json():
    """`registry.snapshot()` shows the limit as a number, and stays JSON-ready."""
    timeout(smart(2, load_source=lambda: 90), name="t")
    seen = json.loads(json.dumps(registry.snapshot()))["timeouts"]["t"]
    assert seen["limit"] in {4, 6}
    assert registry.timeouts["t"].get_metrics().limit in {4, 6}


def test_pipeline_check():
    """`Pipeline.check()` reckons with a SmartTimeout like with a number."""
    inner, outer = timeout(smart(4), name="inner"), timeout(2, name="outer")
    findings = Pipeline(outer, retry(base_delay=0), inner, bulkhead("b")).check()
    assert findings[0].code == "attempt_timeout_exceeds_total"
    assert all(str(finding) for finding in findings)
    fine = Pipeline(timeout(100, name="long"), retry(base_delay=0), inner).check()
    assert "attempt_timeout_exceeds_total" not in {finding.code for finding in fine}


def test_worst_case_of_a_pipeline():
    """The worst case that `Pipeline.check()` tells is what the limit may grow to, not what it happens to be."""
    summary = Pipeline(timeout(smart(1, max_timeout=20), name="t")).check()[-1]
    assert (summary.code, summary.numbers["worst_case_seconds"]) == ("worst_case", 20)


# What is kept


def test_nothing_is_kept_alive(face):
    """Function, arguments and errors die with their callers, whether a call answers, fails or times out."""
    policy = timeout(smart(0.02, min_timeout=0.02, max_timeout=0.04))

    class Thing(Exception):
        pass

    def body(thing, how):
        if how == "fails":
            raise thing
        if how == "hangs":
            return asyncio.sleep(5) if face.is_async else threading.Event().wait(0.06)
        return None

    for how in ("answers", "fails", "hangs"):
        thing, function = Thing(), face.function(body)
        references = [weakref.ref(thing), weakref.ref(function)]
        error = outcome(face.via, policy, function, thing, how)
        references += [weakref.ref(error)] if error is not None else []
        del thing, function, error
        eventually(lambda: policy.abandoned == 0)

        def gone(references=references):
            gc.collect()
            return [reference() for reference in references] == [None] * len(references)

        eventually(gone, limit=1)


def test_context_is_not_kept_alive():
    """What the caller keeps in context variables dies with the call, though a timer is still armed."""
    variable, policy = contextvars.ContextVar("variable"), timeout(smart(5))

    class Request:
        pass

    async def handle():
        request = Request()
        variable.set(request)
        await policy.acall(asyncio.sleep, 0)
        return weakref.ref(request)

    async def go():
        reference = await asyncio.create_task(handle())
        await asyncio.sleep(0)
        gc.collect()
        return reference()

    assert run(go()) is None


def test_errors_leave_no_garbage():
    """A failed or timed-out sync call leaves no reference cycle to the garbage collector."""
    policy, time = timeout(smart(1), method="cooperative"), Time(SYNC)

    def fail():
        raise Marked

    gc.collect()
    gc.disable()
    try:
        with CLOCK.use(time):
            for body in (fail, lambda: time.sleep(60)):
                error = outcome(policy.call, body)
                assert isinstance(error, (Marked, CallTimeoutError))
                gone = weakref.ref(error)
                del error
                assert gone() is None
    finally:
        gc.enable()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize("statistic", ["mean", "p95"])
def test_fork(face, statistic):
    """A forked child goes on with what its parent had seen, and neither changes the other's."""
    adaptive = smart(0.02, min_timeout=0.01, statistic=statistic)
    policy = timeout(adaptive)
    assert isinstance(outcome(face.via, policy, never(face)), CallTimeoutError)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            assert adaptive.get_stats().timeout_count == 1
            assert isinstance(outcome(face.via, policy, never(face)), CallTimeoutError)
            assert face.via(policy, slow(face, 0.001)) == "slow"
            assert adaptive.get_stats().timeout_count == 2
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert adaptive.get_stats().timeout_count == 1
