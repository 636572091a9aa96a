"""Limits of steps and of plans end what takes too long, soon after they are over and whatever it does."""

import asyncio
import threading
import time

import pytest

from resilient.orchestrator import ExecutionStatus, RetryPolicy, StepTimeoutError

from .helpers import Bench, afail, fail, plan, step, story, until

ROLLED_BACK, FAILED, COMPLETED = ExecutionStatus.ROLLED_BACK, ExecutionStatus.FAILED, ExecutionStatus.COMPLETED
LIMIT = 0.1
#: Other processes use the machine, too.
SLACK = 3.0


@pytest.fixture
def never(bench):
    """Something to wait for that does not come until the test is over."""
    event = threading.Event()
    bench.does["x"] = lambda context: event.wait(30)
    yield event
    event.set()


def timed(bench, *args, **kwargs):
    """The picture, the error and the seconds it took."""
    before = time.monotonic()
    found, error = bench.run(*args, **kwargs)
    took = time.monotonic() - before
    assert LIMIT <= took < LIMIT + SLACK
    return found, error


@pytest.mark.parametrize(("in_doubt", "undone"), [("rerun", "a"), ("rollback", "xa")])
def test_a_sync_step(bench, never, in_doubt, undone):
    """A function that hangs is left alone: it is in doubt, its thread is told of, and the way back begins."""
    found, error = timed(bench, step("a"), step("x", timeout=LIMIT, in_doubt=in_doubt), step("z"))
    assert isinstance(error, StepTimeoutError)
    assert isinstance(error, TimeoutError)
    assert (error.limit, error.step_id, error.execution_id) == (LIMIT, "x", found.execution_id)
    assert found.status is ROLLED_BACK
    assert bench.of("undo") == list(undone)
    assert bench.of("begin") == ["a", "x"]
    result = found.step_results["x"]
    assert result.in_doubt
    assert "0.1 s" in result.error_message
    assert "thread" in result.error_message


def test_its_late_result_is_dropped(bench, never):
    """What an abandoned function returns in the end changes nothing any more."""
    found, _ = timed(bench, step("x", timeout=LIMIT))
    before = story(bench.orchestrator, found.execution_id)
    never.set()
    ended = time.monotonic() + 5
    while ("end", "x") not in bench.calls:
        assert time.monotonic() < ended
        time.sleep(0.002)
    assert story(bench.orchestrator, found.execution_id) == before
    assert bench.orchestrator.get_execution_status(found.execution_id) == found


def test_a_sync_step_is_told(bench):
    """`context.cancelled` becomes true for it."""
    told = threading.Event()

    def x(context):
        while not context.cancelled:
            time.sleep(0.002)
        told.set()

    bench.does["x"] = x
    timed(bench, step("x", timeout=LIMIT))
    assert told.wait(5)


def test_an_async_step(bench):
    """A coroutine is cancelled, and its cleanup is over before anything is undone."""
    seen = []

    async def x(context):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0.02)
            seen.extend(["cancelled", *bench.of("undo")])
            raise

    bench.does["x"] = x
    found, error = timed(bench, step("a"), step("x", "awork", timeout=LIMIT), step("z"))
    assert isinstance(error, StepTimeoutError)
    assert seen == ["cancelled"]
    assert found.status is ROLLED_BACK
    assert found.step_results["x"].in_doubt
    assert bench.of("undo") == ["a"]


def test_an_async_step_that_refuses(bench):
    """A coroutine that does not end when it is cancelled is left alone as well."""
    release = []

    async def x(context):
        while not release:
            try:
                await asyncio.sleep(0.005)
            except asyncio.CancelledError:
                continue

    bench.does["x"] = x
    found, error = timed(bench, step("a"), step("x", "awork", timeout=LIMIT))
    release.append(True)
    assert isinstance(error, StepTimeoutError)
    assert found.status is ROLLED_BACK
    assert bench.of("undo") == ["a"]


def test_limits_of_steps_side_by_side(bench, never):
    """One that is too slow ends by its own limit; one beside it has its own, and is undone when it has ended."""
    go = threading.Event()
    bench.does["s"] = lambda context: go.wait(10) and time.sleep(0.01)
    bench.undoes["a"] = lambda context: None
    releaser = threading.Timer(LIMIT * 1.5, go.set)
    releaser.start()
    found, _ = timed(bench, step("a"), step("s"), step("x", timeout=LIMIT), dependencies={"s": ["a"], "x": ["a"]})
    releaser.join()
    assert found.status is ROLLED_BACK
    assert bench.of("undo") == ["s", "a"]


@pytest.mark.parametrize(("kind", "broken"), [("work", fail), ("awork", afail)])
def test_retries_are_within_the_limit(bench, kind, broken):
    """A limit is for all attempts together: none begins after it, and none is waited for that would."""
    bench.does["x"] = broken
    policy = RetryPolicy(1000, base_delay=0.03, backoff_multiplier=1.0)
    before = time.monotonic()
    found, error = bench.run(step("a"), step("x", kind, timeout=LIMIT, retry_policy=policy))
    assert time.monotonic() - before < LIMIT + SLACK
    assert found.status is ROLLED_BACK
    assert 1 <= found.step_results["x"].attempts <= 4
    assert error.step_id == "x"


def test_no_attempt_after_a_timeout(bench, never):
    """A timed-out attempt is the last, whatever the retry policy says: nobody knows what it still does."""
    found, _ = timed(bench, step("x", timeout=LIMIT, retry_policy=RetryPolicy(5, base_delay=0.001)))
    assert found.step_results["x"].attempts == 1
    assert bench.of("begin") == ["x"]


@pytest.mark.parametrize("on_failure", ["stop", "continue"])
def test_what_a_timeout_means(bench, never, on_failure):
    """A timeout is a failure like any other to `on_failure`."""
    found, _ = timed(bench, step("a"), step("x", timeout=LIMIT, on_failure=on_failure), step("z"))
    assert found.status is FAILED
    assert bench.of("undo") == []
    assert ("z" in bench.of("begin")) == (on_failure == "continue")


def test_a_step_that_is_not_critical(bench, never):
    """One that is not critical may time out."""
    found, error = timed(bench, step("x", timeout=LIMIT, critical=False), step("z"))
    assert error is None
    assert found.status is COMPLETED


class TestPlan:
    """The limit of a plan, wherever it finds it. `step_id` of the error is None."""

    def check(self, bench, found, error, begun=("a", "x")):
        assert isinstance(error, StepTimeoutError)
        assert (error.limit, error.step_id, error.execution_id) == (LIMIT, None, found.execution_id)
        assert found.status is ROLLED_BACK
        assert bench.of("begin") == list(begun)
        assert bench.of("undo") == ["a"]
        assert "0.1 s" in found.error_message

    def test_in_a_sync_step(self, bench, never):
        """A function under way is left alone at once."""
        self.check(bench, *timed(bench, step("a"), step("x"), step("z"), timeout=LIMIT))

    def test_in_an_async_step(self, bench):
        """A coroutine under way is cancelled."""
        cancelled = []

        async def x(context):
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.append(True)

        bench.does["x"] = x
        self.check(bench, *timed(bench, step("a"), step("x", "awork"), step("z"), timeout=LIMIT))
        assert cancelled == [True]

    def test_while_waiting_for_a_retry(self, bench):
        """The next attempt does not come."""
        bench.does["x"] = fail
        policy = RetryPolicy(5, base_delay=60.0)
        self.check(bench, *timed(bench, step("a"), step("x", retry_policy=policy), step("z"), timeout=LIMIT))

    def test_while_waiting_for_an_approval(self, bench):
        """Nobody is asked any more."""
        found, error = timed(bench, step("a"), step("x", "approval"), step("z"), timeout=LIMIT)
        self.check(bench, found, error, begun="a")
        assert found.waiting_for == ()

    def test_the_way_back_is_not_limited(self, bench, never):
        """The time of the rollback does not count."""
        bench.undoes["a"] = lambda context: time.sleep(LIMIT * 1.5)
        self.check(bench, *timed(bench, step("a"), step("x"), timeout=LIMIT))

    def test_within_it(self, bench):
        """A plan that is fast enough does not notice."""
        found, error = bench.run(step("a"), step("z"), timeout=20.0)
        assert error is None
        assert found.status is COMPLETED


def test_the_time_of_a_plan_counts_while_nobody_is_there(kit):
    """A plan that expired between two processes is only undone by the second."""
    first, second = (Bench(kit.orchestrator(lease=5.0)) for _ in range(2))
    for one in (first, second):
        one.orchestrator.register_plan(plan(step("a"), step("yes", "approval"), step("z"), timeout=0.5))
    execution_id = first.orchestrator.start_plan("plan")
    until(lambda: first.orchestrator.get_execution_status(execution_id).waiting_for)
    first.orchestrator.close()
    over = time.monotonic() + 0.5
    until(lambda: time.monotonic() > over)
    assert second.orchestrator.resume_pending() == [execution_id]
    assert second.orchestrator.wait_for(execution_id, 10).status is ROLLED_BACK
    assert second.calls == [("undo", "a")]
