"""Retry in company: nested, shared by a crowd, in a running loop, in loop form, and what it leaves behind."""

import asyncio
import gc
import itertools
import threading
import warnings
import weakref

import pytest

from resilient import RetriesExhaustedError, circuit_breaker, retry

from .helpers import Failing, Marked, aeventually, crowd, in_threads, outcome, run
from .kinds import SYNC, Script

# Nesting


def nested(face, *policies):
    """Return a body and a function that calls it through one function per policy."""
    body = Failing()
    function = face.function(body)
    for policy in policies:
        function = policy(face.function(function))
    return body, function


def test_stacked_retries_do_not_multiply(face, sleeps):
    """Three stacked retries of three attempts make three calls, not 27."""
    body = Failing()
    guarded = retry(retry(retry(face.function(body))))
    assert isinstance(outcome(face.call, guarded), ConnectionError)
    assert body.calls == 3


def test_nested_retries_do_not_multiply(face, sleeps):
    """Three guarded functions calling each other make three calls, not 27."""
    body, function = nested(face, retry(), retry(), retry())
    assert isinstance(outcome(face.call, function), ConnectionError)
    assert body.calls == 3


def test_nested_retries_multiply_when_asked(face, sleeps):
    """With `retry_exhausted=True` the outer retry tries what an inner one gave up."""
    body, function = nested(face, retry(), retry(retry_exhausted=True))
    outcome(face.call, function)
    assert body.calls == 9


def test_nested_result_exhaustion_does_not_multiply(face, sleeps):
    """RetriesExhaustedError of an inner retry is not tried again by an outer one."""
    calls = []
    inner = retry(retry_on_result=lambda result: result is None)(face.function(lambda: calls.append(1)))
    assert isinstance(outcome(face.call, retry(face.function(inner))), RetriesExhaustedError)
    assert len(calls) == 3


def test_outer_retry_still_retries_its_own_failures(face, sleeps):
    """An inner retry that succeeds does not stop the outer one from retrying what fails around it."""
    inner = retry(face.function(Failing(None)))
    calls = []

    def body():
        calls.append(1)
        raise ConnectionError

    def outer():
        inner()
        body()

    async def aouter():
        await inner()
        body()

    outcome(face.call, retry(aouter if face.is_async else outer))
    assert len(calls) == 3


def around_an_exhausted(face, after):
    """Return an inner body and a retried function that swallows the inner retry's error, then does `after(error)`."""
    body, seen = Failing(), []
    inner = retry(max_attempts=2)(face.function(body))

    def outer():
        try:
            inner()
        except ConnectionError as error:
            seen.append(error)
        after(seen.pop())

    async def aouter():
        try:
            await inner()
        except ConnectionError as error:
            seen.append(error)
        after(seen.pop())

    return body, retry(max_attempts=3)(aouter if face.is_async else outer)


def test_error_of_its_own_is_retried_after_an_exhausted_one(face, sleeps):
    """A failure of the outer function's own, after it dealt with an exhausted inner call, is retried."""

    def fail(error):
        raise ValueError("something else")

    body, guarded = around_an_exhausted(face, fail)
    assert isinstance(outcome(face.call, guarded), ValueError)
    assert body.calls == 3 * 2


def test_translated_exhaustion_does_not_multiply(face, sleeps):
    """An exhausted inner error that is only translated, `raise ... from error`, is not tried again either."""

    def translate(error):
        raise ValueError("translated") from error

    body, guarded = around_an_exhausted(face, translate)
    assert isinstance(outcome(face.call, guarded), ValueError)
    assert body.calls == 2


def test_retry_over_a_breaker_waits_as_long_as_it_says(face, sleeps):
    """A retry outside a breaker waits for the breaker's `retry_after` and then gets through."""
    breaker = circuit_breaker("b", failure_threshold=1, recovery_timeout=40, half_open_calls=1)
    body = Failing()
    outcome(face.via, breaker, face.function(body))
    body.error = None
    assert face.call(retry(base_delay=1)(breaker(face.function(body)))) == "ok"
    assert sleeps == pytest.approx([40])


# The crowd


def test_one_policy_mixes_nothing():
    """One policy in 16 threads and 100 tasks: every call makes exactly its own attempts, in order."""
    policy = retry(max_attempts=4, base_delay=0)
    numbers, lock = itertools.count(), threading.Lock()

    def plan():
        """Return a body of one's own, to fail 0 to 5 times, with the calls and the outcome it should have."""
        with lock:
            failures = next(numbers) % 6
        script = Script(failures, answer=failures)
        return script, (min(failures + 1, 4), failures if failures < 4 else "ConnectionError")

    def judged(script, expected, got):
        return (script.calls, "ConnectionError" if isinstance(got, ConnectionError) else got) == expected

    def guarded():
        script, expected = plan()
        return judged(script, expected, outcome(policy.call, script.step))

    async def aguarded():
        script, expected = plan()
        script.during = lambda: asyncio.sleep(0)
        try:
            got = await policy.acall(script.astep)
        except ConnectionError as error:
            got = error
        return judged(script, expected, got)

    assert crowd(guarded, aguarded, threads=16, loops=2, tasks=50) == [True] * 116


# Inside a running loop


def test_sync_sleep_in_a_loop_warns(sleeps):
    """A sync retry that would sleep inside a running event loop warns with RuntimeWarning."""
    guarded = retry(base_delay=0.01)(Failing())

    async def go():
        with pytest.warns(RuntimeWarning):
            outcome(guarded)

    run(go())


def test_no_sleep_no_warning(sleeps):
    """No warning without a sleep: on success, with delay 0, in the last attempt, outside a loop, in async code."""
    afailing = retry(base_delay=0.01)(_afailing)

    async def go():
        outcome(retry(base_delay=1)(Failing(None)))
        outcome(retry(base_delay=0)(Failing()))
        outcome(retry(max_attempts=1, base_delay=1)(Failing()))
        with pytest.raises(ConnectionError):
            await afailing()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(go())
        outcome(retry(base_delay=1)(Failing()))


async def _afailing():
    raise ConnectionError


# The loop form


def test_loop_form_retries(face, sleeps):
    """`for attempt in policy.attempts(): with attempt:` makes the block's attempts, with the policy's delays."""
    body = Failing()
    error = outcome(face.loop, retry(base_delay=1, jitter=False), body)
    assert isinstance(error, ConnectionError)
    assert body.calls == 3
    assert sleeps == pytest.approx([1, 2])


def test_loop_form_ends_after_success(sleeps):
    """After a block that succeeds without leaving, the loop ends."""
    seen = []

    def go():
        for attempt in retry(base_delay=0).attempts():
            with attempt:
                seen.append("sync")
                if len(seen) < 2:
                    raise ConnectionError

    async def ago():
        async for attempt in retry(base_delay=0).attempts():
            with attempt:
                seen.append("async")
                if seen.count("async") < 2:
                    raise ConnectionError

    go()
    run(ago())
    assert seen == ["sync", "sync", "async", "async"]


def test_loop_form_lets_other_errors_pass(face, sleeps):
    """An error outside `on` leaves the loop at once as itself."""
    error = ValueError()
    body = Failing(error)
    assert outcome(face.loop, retry(on=KeyError), body) is error
    assert body.calls == 1


@pytest.mark.parametrize("error", [asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_loop_form_leaves_on_stop_signals(sleeps, error):
    """The loop form leaves at once on cancellation and other stop signals."""
    body = Failing(error)
    assert type(outcome(SYNC.loop, retry(on=lambda error: True), body)) is error
    assert body.calls == 1


@pytest.mark.parametrize("where", ["block", "wait"])
def test_loop_form_leaves_at_once_on_cancellation(where):
    """A task cancelled in the block or in the wait leaves the loop and ends cancelled."""
    calls = []

    async def go():
        async for attempt in retry(on=lambda error: True, base_delay=5).attempts():
            with attempt:
                calls.append(1)
                if where == "block":
                    await asyncio.sleep(5)
                raise ConnectionError

    async def main():
        task = asyncio.ensure_future(go())
        await aeventually(lambda: calls)
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    assert calls == [1]


def test_loop_form_early_break_leaves(sleeps):
    """`break` and `return` out of the loop are ends like any other."""
    count = 0
    for attempt in retry().attempts():
        with attempt:
            count += 1
            break
    assert count == 1


def test_loop_form_objects_are_independent(face, sleeps):
    """One policy's loops in eight threads count their own attempts."""
    policy = retry(base_delay=0, max_attempts=4)
    bodies = [Failing() for _ in range(8)]
    in_threads(8, lambda index: outcome(face.loop, policy, bodies[index]))
    assert [body.calls for body in bodies] == [4] * 8


# What stays behind


@pytest.mark.parametrize("way", ["call", "loop"])
def test_exhausted_calls_keep_no_exception_alive(face, sleeps, way):
    """Once the caller dropped it, no exception of any attempt is alive."""
    references = []

    def body():
        error = Marked()
        references.append(weakref.ref(error))
        raise error

    policy = retry(max_attempts=3)
    gc.collect()
    try:
        if way == "call":
            face.via(policy, face.function(body))
        else:
            face.loop(policy, body)
    except Marked:
        pass
    gc.collect()
    assert [reference() for reference in references] == [None] * 3


def test_earlier_exceptions_die_before_the_next_attempt():
    """The exception of one attempt is not kept during the next one."""
    references, alive = [], []

    def body():
        alive.append([reference() is not None for reference in references])
        error = Marked()
        references.append(weakref.ref(error))
        try:
            raise error
        finally:
            del error

    outcome(retry(max_attempts=3, base_delay=0)(body))
    assert alive == [[], [False], [False, False]]
