"""Timeout and deadline: only our own limit fires, nothing is injected, nothing starves."""

import asyncio
import contextlib
import contextvars
import datetime
import threading
import time

import pytest

from resilient import CallTimeoutError, ConfigurationError, registry, timeout
from resilient.events import CallTimedOut

from .helpers import Failing, aoutcome, eventually, in_threads, outcome, revived, run, slow

variable = contextvars.ContextVar("variable", default="unset")


class Hung:
    """A sync body that hangs until released and records how it ended."""

    def __init__(self):
        self.release, self.ends, self.started = threading.Event(), [], 0

    def __call__(self, *args):
        self.started += 1
        try:
            self.release.wait(5)
            for _ in range(2000):
                pass
        except BaseException as error:
            self.ends.append(error)
            raise
        self.ends.append("by itself")


@pytest.fixture
def hung():
    body = Hung()
    yield body
    body.release.set()
    eventually(lambda: len(body.ends) == body.started)


# The limit


def test_limit_raises_our_error(face):
    """A call over its limit raises CallTimeoutError, which is a TimeoutError and says name and limit."""
    error = outcome(face.call, timeout(0.03, name="t")(slow(face)))
    assert isinstance(error, CallTimeoutError)
    assert isinstance(error, TimeoutError)
    assert (error.name, error.limit) == ("t", 0.03)
    clone = revived(error)
    assert (type(clone), clone.name, clone.limit, str(clone)) == (CallTimeoutError, "t", 0.03, str(error))


def test_limit_as_timedelta(face):
    """The limit may be a timedelta."""
    limit, patience = datetime.timedelta(milliseconds=30), datetime.timedelta(seconds=5)
    assert isinstance(outcome(face.call, timeout(limit)(slow(face))), CallTimeoutError)
    assert face.call(timeout(patience)(slow(face, 0))) == "slow"


def test_limit_zero_fails_without_calling(face):
    """`timeout(0)` fails at once and does not call."""
    body = Failing(None)
    assert isinstance(outcome(face.call, timeout(0)(face.function(body))), CallTimeoutError)
    assert body.calls == 0


@pytest.mark.parametrize("limit", [-1, float("nan")])
def test_bad_limits_are_refused(limit):
    """A limit that makes no sense raises ConfigurationError."""
    with pytest.raises(ConfigurationError):
        timeout(limit)


@pytest.mark.parametrize("error", [TimeoutError, asyncio.TimeoutError, ValueError, LookupError])
def test_user_errors_stay_themselves(face, error):
    """An error of the function, also a TimeoutError, arrives as the same object."""
    raised = error("mine")
    assert outcome(face.call, timeout(5)(face.function(Failing(raised)))) is raised
    assert not isinstance(raised, CallTimeoutError)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_stop_signals_of_the_function_arrive(error):
    """KeyboardInterrupt, SystemExit and GeneratorExit raised in the function arrive as themselves."""
    raised = error("stop")
    assert outcome(timeout(5)(Failing(raised))) is raised


def test_stop_iteration_of_the_function_arrives():
    """StopIteration raised in a sync function arrives as itself."""
    raised = StopIteration(3)
    assert outcome(timeout(5)(Failing(raised))) is raised


def test_inner_asyncio_timeout_stays_itself():
    """An `asyncio.timeout` inside the function that fires first is not taken for our limit."""

    async def body():
        async with asyncio.timeout(0.01):
            await asyncio.sleep(1)

    error = outcome(run, timeout(5)(body)())
    assert type(error) is TimeoutError


def test_outer_asyncio_timeout_stays_itself():
    """An `asyncio.timeout` around the call that fires first is not taken for our limit."""

    async def body():
        await asyncio.sleep(1)

    async def go():
        async with asyncio.timeout(0.01):
            await timeout(5)(body)()

    assert type(outcome(run, go())) is TimeoutError


def test_cancellation_stays_cancellation():
    """A caller that is cancelled ends cancelled, not timed out."""

    async def go():
        task = asyncio.ensure_future(timeout(5).acall(asyncio.sleep, 5))
        await asyncio.sleep(0.01)
        task.cancel("from the caller")
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert task.cancelled()
        assert caught.value.args == ("from the caller",)

    run(go())


def test_cancellation_and_limit_together_stay_cancellation():
    """A cancellation that arrives in the same tick as the limit is not lost."""

    async def body():
        try:
            await asyncio.sleep(1)
        finally:
            own.cancel()

    async def go():
        nonlocal own
        own = asyncio.ensure_future(timeout(0.02).acall(body))
        with pytest.raises(asyncio.CancelledError):
            await own

    own = None
    run(go())


def test_task_is_not_left_cancelling():
    """After our limit fired the task counts no pending cancellation, and goes on normally."""

    async def go():
        with pytest.raises(CallTimeoutError):
            await timeout(0.01).acall(asyncio.sleep, 1)
        assert asyncio.current_task().cancelling() == 0
        await asyncio.sleep(0)
        async with asyncio.timeout(1):
            await asyncio.sleep(0)
        return "on"

    assert run(go()) == "on"


def test_nested_limits_name_the_one_that_fired(face):
    """Of two nested limits only the shorter one fires, whichever is outside: once, under its own name and limit."""
    for outer, inner in ((0.03, 5), (5, 0.03)):
        told = []
        with registry.subscribe(told.append, CallTimedOut):
            error = outcome(face.call, timeout(outer, name=f"{outer}")(timeout(inner, name=f"{inner}")(slow(face))))
        assert (error.name, error.limit) == ("0.03", 0.03)
        assert [(event.name, event.limit) for event in told] == [("0.03", 0.03)]


def test_one_policy_twice_in_one_task():
    """A policy that meets itself in one task fires once, for the outer call, and leaves the task in order."""
    policy, ends = timeout(0.06), []

    async def inner():
        try:
            await asyncio.sleep(1)
        finally:
            ends.append("inner")

    async def outer():
        await asyncio.sleep(0.03)
        await policy.acall(inner)

    async def go():
        with pytest.raises(CallTimeoutError):
            await policy.acall(outer)
        assert asyncio.current_task().cancelling() == 0
        await asyncio.sleep(0.08)
        return await policy.acall(asyncio.sleep, 0, "ok")

    assert (run(go()), ends) == ("ok", ["inner"])


def test_swallowed_cancellation_leaves_the_task_in_order():
    """A function that swallows our cancellation and answers leaves no pending cancellation in its task."""

    async def stubborn():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(1)
        return "answer"

    async def go():
        got = await aoutcome(timeout(0.02).acall(stubborn))
        assert got == "answer" or isinstance(got, CallTimeoutError)
        assert asyncio.current_task().cancelling() == 0
        async with asyncio.timeout(1):
            await asyncio.sleep(0)

    run(go())


def test_task_group_is_not_disturbed():
    """A call that times out in a TaskGroup and is handled there does not cancel its siblings."""

    async def handled():
        with pytest.raises(CallTimeoutError):
            await timeout(0.02).acall(asyncio.sleep, 1)
        return "handled"

    async def go():
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(handled()), group.create_task(asyncio.sleep(0.04, "sibling"))]
        return [task.result() for task in tasks]

    assert run(go()) == ["handled", "sibling"]


def test_many_tasks_with_one_policy():
    """Of a hundred tasks under one policy exactly the slow ones are timed out."""
    policy = timeout(0.05)

    async def go():
        calls = (policy.acall(asyncio.sleep, 1 if number % 3 == 0 else 0.001, number) for number in range(100))
        return await asyncio.gather(*calls, return_exceptions=True)

    for number, result in enumerate(run(go())):
        assert isinstance(result, CallTimeoutError) if number % 3 == 0 else result == number


def test_policy_works_in_several_loops():
    """One policy in two event loops in two threads, and in a later one, times out in each."""
    policy = timeout(0.03)

    def work(index):
        return [outcome(run, policy.acall(asyncio.sleep, 1)), run(policy.acall(asyncio.sleep, 0, "ok"))]

    for error, answer in [*in_threads(2, work), work(0)]:
        assert isinstance(error, CallTimeoutError)
        assert answer == "ok"


def test_async_function_is_stopped():
    """An async call over its limit is really stopped: its cleanup has run when the error arrives."""
    ends = []

    async def body():
        try:
            await asyncio.sleep(5)
        finally:
            ends.append("cleanup")

    with pytest.raises(CallTimeoutError):
        run(timeout(0.02)(body)())
    assert ends == ["cleanup"]


def test_async_block_is_limited():
    """`async with timeout(...)` limits the block and lets its errors pass."""

    async def go(seconds):
        async with timeout(0.03):
            await asyncio.sleep(seconds)
            raise LookupError

    assert isinstance(outcome(run, go(1)), CallTimeoutError)
    assert isinstance(outcome(run, go(0)), LookupError)


def test_sync_block_is_refused():
    """`with timeout(...)` around sync code raises TypeError: it could not be stopped."""
    with pytest.raises(TypeError, match=r"\w"), timeout(1):
        pass


# The worker thread


def test_contextvars_reach_the_function(face):
    """The function sees the caller's context variables."""
    token = variable.set("mine")
    try:
        assert face.call(timeout(5)(face.function(variable.get))) == "mine"
    finally:
        variable.reset(token)


def test_nothing_is_injected(hung):
    """A sync function over its limit is left alone and runs to its own end."""
    with pytest.raises(CallTimeoutError):
        timeout(0.03)(hung)()
    hung.release.set()
    eventually(lambda: hung.ends)
    assert hung.ends == ["by itself"]


def test_hung_calls_do_not_starve_others(hung):
    """Thirty hung calls of one function delay neither another function nor another call."""
    in_threads(30, lambda index: outcome(timeout(0.05, name="h")(hung)))
    started = time.monotonic()
    assert timeout(2)(lambda: "ok")() == "ok"
    assert timeout(2, name="h2").call(lambda: "ok") == "ok"
    assert time.monotonic() - started < 1


def test_hung_calls_do_not_starve_their_own_policy(hung):
    """While some calls of a policy hang, its other calls go on."""
    policy = timeout(0.1)
    in_threads(20, lambda index: outcome(policy.call, hung))
    assert policy.call(lambda: "ok") == "ok"


def test_abandoned_calls_are_counted(hung):
    """`abandoned` counts the calls given up on that still run, and falls when they end."""
    policy = timeout(0.03)
    for expected in (1, 2):
        with pytest.raises(CallTimeoutError):
            policy.call(hung)
        assert policy.abandoned == expected
    hung.release.set()
    eventually(lambda: policy.abandoned == 0)


def test_abandoned_calls_are_bounded(hung):
    """Over `max_abandoned` new calls fail at once without being made; when one ends, calls go on."""
    policy, body = timeout(0.1, max_abandoned=2), Failing(None)
    for _ in range(2):
        outcome(policy.call, hung)
    assert isinstance(outcome(policy.call, body), CallTimeoutError)
    assert body.calls == 0
    hung.release.set()
    eventually(lambda: policy.abandoned == 0)
    assert policy.call(body) == "ok"


def test_abandoned_calls_are_bounded_by_default(hung):
    """Without `max_abandoned` the bound is 64 for each policy."""
    policy, body = timeout(0.2), Failing(None)
    in_threads(64, lambda index: outcome(policy.call, hung))
    assert policy.abandoned == 64
    assert isinstance(outcome(policy.call, body), CallTimeoutError)
    assert body.calls == 0
    assert timeout(5).call(body) == "ok"


def test_abandoned_workers_are_daemons(hung):
    """A thread that was given up on does not keep the interpreter alive."""
    before = set(threading.enumerate())
    with pytest.raises(CallTimeoutError):
        timeout(0.03)(hung)()
    assert all(thread.daemon for thread in set(threading.enumerate()) - before)


def test_threads_do_not_pile_up():
    """A hundred calls in a row do not leave a hundred threads."""
    before = threading.active_count()
    policy = timeout(5)
    for _ in range(100):
        policy.call(int)
    assert threading.active_count() - before < 20
