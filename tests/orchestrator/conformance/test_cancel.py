"""An execution can be cancelled at every stage, from anywhere, once or twice, with or without a way back."""

import asyncio
import threading
from contextlib import suppress

import pytest

from resilient.orchestrator import ExecutionCancelledError, ExecutionNotFoundError, ExecutionStatus, RetryPolicy

from .helpers import afail, caught, fail, plan, step, steps_that, story, until

CANCELLED, ROLLED_BACK = ExecutionStatus.CANCELLED, ExecutionStatus.ROLLED_BACK
#: What does not wait for anything ends well within this, on a machine that others use, too.
SOON = 5.0


def test_in_a_sync_step_that_gives_up(stage):
    """`context.cancelled` tells a sync step; one that gives up is in doubt no longer, and what was done is undone."""

    def x(context):
        stage.hold(context)
        raise InterruptedError("told to stop")

    stage.bench.does["x"] = x
    stage.begin(step("x"))
    assert stage.inside.wait(10)
    assert stage.cancel("power cut", by="Ann") is True
    found = stage.ended()
    assert found.status is CANCELLED
    assert found.reason == "power cut"
    assert "power cut" in found.error_message
    assert "Ann" in found.error_message
    assert found.step_results["x"].status is CANCELLED
    assert found.step_results["a"].status is ROLLED_BACK
    assert stage.bench.of("undo") == ["a"]


def test_in_a_sync_step_that_completes(stage):
    """A sync step that still completes has happened: it is undone as well, before those that completed earlier."""
    stage.bench.does["x"] = stage.hold
    stage.begin(step("x"))
    assert stage.inside.wait(10)
    stage.cancel()
    assert stage.ended().status is CANCELLED
    assert stage.bench.of("undo") == ["x", "a"]


@pytest.mark.parametrize(("in_doubt", "undone"), [("rerun", ["a"]), ("rollback", ["x", "a"])])
def test_in_a_sync_step_that_ignores_it(stage, in_doubt, undone):
    """A sync step that does not end is left alone, and its `in_doubt` says whether it is undone."""

    def x(context):
        stage.inside.set()
        stage.go.wait(20)

    stage.bench.does["x"] = x
    stage.begin(step("x", in_doubt=in_doubt))
    assert stage.inside.wait(10)
    stage.cancel()
    found = stage.ended()
    assert found.status is CANCELLED
    assert found.step_results["x"].in_doubt
    assert stage.bench.of("undo") == undone


@pytest.mark.parametrize(("in_doubt", "undone"), [("rerun", ["a"]), ("rollback", ["x", "a"])])
def test_in_an_async_step(stage, in_doubt, undone):
    """An async step is cancelled, and cleans up before anything is undone."""
    cleaned = []

    async def x(context):
        try:
            await stage.ahold(context)
        finally:
            await asyncio.sleep(0.01)
            cleaned.append(list(stage.bench.of("undo")))

    stage.bench.does["x"] = x
    stage.begin(step("x", "awork", in_doubt=in_doubt))
    assert stage.inside.wait(10)
    stage.cancel()
    found = stage.ended()
    assert found.status is CANCELLED
    assert cleaned == [[]]
    assert found.step_results["x"].in_doubt
    assert stage.bench.of("undo") == undone


@pytest.mark.parametrize(("kind", "broken"), [("work", fail), ("awork", afail)])
def test_between_two_attempts(stage, kind, broken):
    """A step that waits for its next attempt does not get it."""
    stage.bench.does["x"] = broken
    stage.begin(step("x", kind, retry_policy=RetryPolicy(5, base_delay=60.0)))
    until(lambda: "error" in [what for what, _ in story(stage.orchestrator, stage.execution_id)])
    stage.cancel()
    found = stage.ended()
    assert found.status is CANCELLED
    assert found.step_results["x"].attempts == 1
    assert stage.bench.of("begin") == ["a", "x"]
    assert stage.bench.of("undo") == ["a"]


def test_while_waiting_for_an_approval(stage):
    """Nobody is asked any more, and an answer is refused."""
    stage.begin(step("x", "approval"))
    until(lambda: stage.orchestrator.get_execution_status(stage.execution_id).waiting_for == ("x",))
    stage.cancel()
    found = stage.ended()
    assert found.status is CANCELLED
    assert found.waiting_for == ()
    assert stage.bench.of("undo") == ["a"]
    assert "cancelled" in str(caught(stage.orchestrator.approve, stage.execution_id, "x", by="Ann"))


def test_without_a_way_back(stage):
    """`rollback=False` leaves everything as it is."""
    stage.bench.does["x"] = stage.hold
    stage.begin(step("x"))
    assert stage.inside.wait(10)
    stage.cancel(rollback=False)
    found = stage.ended()
    assert found.status is CANCELLED
    assert stage.bench.of("undo") == []
    assert {one.status for one in found.step_results.values()} == {ExecutionStatus.COMPLETED}


def test_twice(stage):
    """A second cancellation is taken note of, and changes nothing: nothing is undone twice, the first reason stays."""
    held = threading.Event()

    def undo_a(context):
        held.set()
        assert stage.go.wait(10)

    stage.bench.does["x"], stage.bench.undoes["a"] = stage.hold, undo_a
    stage.begin(step("x"))
    assert stage.inside.wait(10)
    assert stage.cancel("first") is True
    assert held.wait(10)
    assert stage.cancel("second") is True
    until(lambda: len(steps_that(stage.orchestrator, stage.execution_id, "cancel")) == 2)
    stage.go.set()
    found = stage.ended()
    assert found.status is CANCELLED
    assert found.reason == "first"
    assert stage.bench.of("undo") == ["x", "a"]


def rolling_back(stage, kind):
    """Come to the middle of a way back: x is being undone until `go`, and a is still to be."""

    def undo_x(context):
        stage.inside.set()
        until(lambda: context.cancelled or stage.go.is_set())

    async def aundo_x(context):
        await stage.ahold(context)

    stage.bench.undoes["x"] = aundo_x if kind == "awork" else undo_x
    stage.bench.does["f"] = fail
    stage.orchestrator.register_plan(plan(step("a"), step("x", kind), step("f"), step("z")))
    stage.execution_id = stage.orchestrator.start_plan("plan")
    assert stage.inside.wait(10)


def test_during_a_rollback(stage):
    """A rollback under way goes on when somebody cancels, and the execution ends as it would have."""
    rolling_back(stage, "work")
    assert stage.cancel("late") is True
    until(lambda: steps_that(stage.orchestrator, stage.execution_id, "cancel"))
    stage.go.set()
    found = stage.ended()
    assert found.status is ROLLED_BACK
    assert found.reason == "late"
    assert stage.bench.of("undo") == ["x", "a"]
    assert {found.step_results[one].status for one in "ax"} == {ROLLED_BACK}


@pytest.mark.parametrize(("kind", "left"), [("work", {"a"}), ("awork", {"a", "x"})])
def test_a_rollback_is_stopped(stage, kind, left):
    """`rollback=False` stops even a rollback that would never end: ROLLBACK_FAILED, naming all that is not undone."""
    rolling_back(stage, kind)
    assert stage.cancel("enough", rollback=False) is True
    found = stage.ended()
    assert found.status is ExecutionStatus.ROLLBACK_FAILED
    assert set(found.rollback_errors) == left
    assert stage.bench.of("undo") == ["x"]


def test_after_the_end(bench):
    """What has ended cannot be cancelled: False, and nothing is written."""
    found, error = bench.run(step("a"))
    assert error is None
    before = story(bench.orchestrator, found.execution_id)
    assert bench.orchestrator.cancel_execution(found.execution_id) is False
    assert story(bench.orchestrator, found.execution_id) == before


def test_what_does_not_exist(orchestrator):
    """An unknown id raises ExecutionNotFoundError."""
    assert isinstance(caught(orchestrator.cancel_execution, "nothing"), ExecutionNotFoundError)


def test_who_waits_is_told(stage):
    """`execute_plan` raises ExecutionCancelledError, which names the execution and says why."""
    stage.bench.does["x"] = stage.hold
    stage.orchestrator.register_plan(plan(step("a"), step("x"), step("z")))
    errors = []
    thread = threading.Thread(target=lambda: errors.append(caught(stage.orchestrator.execute_plan, "plan")))
    thread.start()
    assert stage.inside.wait(10)
    stage.execution_id = stage.orchestrator.history()[0].execution_id
    stage.cancel("enough")
    thread.join(10)
    assert isinstance(errors[0], ExecutionCancelledError)
    assert errors[0].execution_id == stage.execution_id
    assert "enough" in str(errors[0])


def test_by_the_cancellation_of_a_task(stage):
    """Whoever cancels the task that awaits `aexecute_plan` cancels the execution, and meets it undone."""
    stage.bench.does["x"] = stage.ahold
    stage.orchestrator.register_plan(plan(step("a"), step("x", "awork"), step("z")))

    async def main():
        task = asyncio.ensure_future(stage.orchestrator.aexecute_plan("plan"))
        while not stage.inside.is_set():
            await asyncio.sleep(0.001)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert task.cancelled()
        return stage.bench.of("undo")

    assert asyncio.run(main()) == ["a"]
    assert stage.orchestrator.history()[0].status is CANCELLED
