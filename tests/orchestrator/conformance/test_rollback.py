"""What was done is undone, as far as that goes; what cannot be undone is told, all of it."""

import time

import pytest

from resilient.orchestrator import (
    ExecutionStatus,
    RetryPolicy,
    RollbackFailedError,
    StepFailedError,
    StepTimeoutError,
)

from .helpers import afail, fail, plan, step, steps_that, until

ROLLED_BACK, ROLLBACK_FAILED = ExecutionStatus.ROLLED_BACK, ExecutionStatus.ROLLBACK_FAILED
FAILED, COMPLETED = ExecutionStatus.FAILED, ExecutionStatus.COMPLETED


@pytest.fixture
def broken(bench):
    """The last step, f, fails."""
    bench.does["f"] = fail
    return bench


def test_everything_is_undone_backwards(broken):
    """What completed is undone in the reverse order, what failed is not; the error is of the step, with its cause."""
    found, error = broken.run(step("a"), step("b", "awork"), step("c"), step("f"))
    assert found.status is ROLLED_BACK
    assert broken.of("undo") == ["c", "b", "a"]
    assert isinstance(error, StepFailedError)
    assert (error.execution_id, error.plan_id, error.step_id) == (found.execution_id, "plan", "f")
    assert isinstance(error.__cause__, RuntimeError)
    assert "f is broken" in str(error)
    assert "f is broken" in found.error_message
    assert {one: result.status for one, result in found.step_results.items()} == {
        "a": ROLLED_BACK,
        "b": ROLLED_BACK,
        "c": ROLLED_BACK,
        "f": FAILED,
    }


def test_a_failing_rollback_stops_none_of_the_others(broken):
    """Two of four cannot be undone: the other two are, and each error is in the exception and in the picture."""

    async def aburn(context):
        raise OSError("b burns")

    def burn(context):
        raise ValueError("c burns")

    broken.undoes |= {"b": aburn, "c": burn}
    found, error = broken.run(step("a"), step("b", "awork"), step("c"), step("d"), step("f"))
    assert found.status is ROLLBACK_FAILED
    assert broken.of("undo") == ["d", "c", "b", "a"]
    assert isinstance(error, RollbackFailedError)
    assert set(error.errors) == {"b", "c"}
    assert "b burns" in error.errors["b"]
    assert "c burns" in error.errors["c"]
    assert error.errors == found.rollback_errors
    for said in ("f is broken", "b burns", "c burns"):
        assert said in found.error_message
        assert said in str(error)
    statuses = {one: result.status for one, result in found.step_results.items()}
    assert statuses == {"a": ROLLED_BACK, "b": ROLLBACK_FAILED, "c": ROLLBACK_FAILED, "d": ROLLED_BACK, "f": FAILED}
    assert error.execution_id == found.execution_id


def test_all_rollbacks_fail(broken):
    """Where nothing can be undone, every step has been tried once, and every error is there."""
    broken.undoes = dict.fromkeys("abc", fail)
    found, error = broken.run(*map(step, "abc"), step("f"))
    assert found.status is ROLLBACK_FAILED
    assert broken.of("undo") == ["c", "b", "a"]
    assert set(error.errors) == set("abc")


def test_a_rollback_that_hangs(broken):
    """A rollback has the step's time limit; when that is over it has failed, and the others still come."""
    broken.undoes["b"] = lambda context: until(lambda: context.cancelled)
    before = time.monotonic()
    found, error = broken.run(step("a"), step("b", timeout=0.1), step("f"))
    assert time.monotonic() - before < 5.0
    assert found.status is ROLLBACK_FAILED
    assert broken.of("undo") == ["b", "a"]
    assert "0.1 s" in error.errors["b"]


def test_a_rollback_is_tried_as_often_as_its_step_says(broken):
    """A rollback has the attempts of its step's retry policy, with the same key each, and may succeed at the last."""
    seen = []

    def third_time_lucky(context):
        seen.append((context.attempt, context.idempotency_key))
        if len(seen) < 3:
            raise RuntimeError("not yet")

    broken.undoes |= {"a": third_time_lucky, "b": fail}
    policy = RetryPolicy(3, base_delay=0.001)
    found, error = broken.run(step("a", retry_policy=policy), step("b", retry_policy=policy), step("f"))
    key = f"{found.execution_id}:a:rollback"
    assert seen == [(1, key), (2, key), (3, key)]
    assert broken.of("undo") == ["b"] * 3 + ["a"] * 3
    assert found.step_results["a"].rollback_attempts == found.step_results["b"].rollback_attempts == 3
    assert set(error.errors) == {"b"}


def test_a_rollback_step(broken):
    """`rollback_step_id`: that step is carried out instead of the executor's rollback, with what is known by then."""
    seen = []
    undo_executor = broken.orchestrator.step("undo-it")
    undo_executor(lambda step, context: seen.append((step.id, dict(step.parameters), context.idempotency_key)))
    broken.does["a"] = lambda context: {"path": "a.db"}
    way_back = step("back", "undo-it", {"to": "${steps.a.output.path}"})
    found, _ = broken.run(step("a", rollback_step_id="back"), step("f"), rollback_steps=[way_back])
    assert found.status is ROLLED_BACK
    assert seen == [("back", {"to": "a.db"}, f"{found.execution_id}:a:rollback")]
    assert broken.of("undo") == []


def test_a_rollback_step_is_not_carried_out_on_the_way_forward(bench):
    """Rollback steps of a plan that completes are not touched."""
    bench.orchestrator.step("undo-it")(fail_step)
    found, error = bench.run(step("a", rollback_step_id="back"), rollback_steps=[step("back", "undo-it")])
    assert error is None
    assert found.status is COMPLETED
    assert set(found.step_results) == {"a"}


def fail_step(step, context):
    raise RuntimeError(f"{step.id} is broken")


def test_steps_that_cannot_be_undone(broken):
    """A step whose executor has no rollback is passed over."""
    broken.orchestrator.step("for-good")(lambda step, context: None)
    found, _ = broken.run(step("a"), step("b", "for-good"), step("f"))
    assert found.status is ROLLED_BACK
    assert broken.of("undo") == ["a"]
    assert found.step_results["b"].status is COMPLETED


def test_a_failed_first_step(broken):
    """Where nothing was done there is nothing to undo, and the execution is rolled back all the same."""
    found, _ = broken.run(step("f"), step("a"))
    assert found.status is ROLLED_BACK
    assert broken.calls == [("begin", "f")]


@pytest.mark.parametrize(("kind", "broken_one"), [("work", fail), ("awork", afail)])
@pytest.mark.parametrize(
    ("settings", "status", "begun", "undone"),
    [
        ({"on_failure": "rollback"}, ROLLED_BACK, "af", "a"),
        ({"on_failure": "stop"}, FAILED, "af", ""),
        ({"on_failure": "continue"}, FAILED, "afz", ""),
        ({"critical": False}, COMPLETED, "afz", ""),
        ({"critical": False, "on_failure": "stop"}, COMPLETED, "afz", ""),
    ],
)
def test_what_a_failure_means(bench, kind, broken_one, settings, status, begun, undone):
    """`on_failure` and `critical` say whether others still run, whether there is a way back, and how it ends."""
    bench.does["f"] = broken_one
    found, error = bench.run(step("a"), step("f", kind, **settings), step("z"))
    assert found.status is status
    assert bench.of("begin") == list(begun)
    assert bench.of("undo") == list(undone)
    assert (error is None) == (status is COMPLETED)
    assert found.step_results["f"].status is FAILED
    assert "f is broken" in found.step_results["f"].error_message


def test_a_failing_rollback_after_a_timeout(bench):
    """A timeout whose way back fails ends ROLLBACK_FAILED too, and tells of both."""
    bench.does["x"] = lambda context: until(lambda: context.cancelled)
    bench.undoes["a"] = fail
    found, error = bench.run(step("a"), step("x", timeout=0.1))
    assert found.status is ROLLBACK_FAILED
    assert isinstance(error, RollbackFailedError)
    assert not isinstance(error, StepTimeoutError)
    assert "0.1 s" in found.error_message
    assert "a is broken" in found.error_message


def test_a_failing_rollback_after_a_cancellation(stage):
    """A cancellation whose way back fails ends ROLLBACK_FAILED, which must not be overlooked."""
    stage.bench.does["x"] = stage.hold
    stage.bench.undoes["a"] = fail
    stage.begin(step("x"))
    assert stage.inside.wait(10)
    stage.cancel("enough")
    found = stage.ended()
    assert found.status is ROLLBACK_FAILED
    assert "a is broken" in found.error_message
    assert "enough" in found.error_message


def test_siblings_of_a_failed_step(bench):
    """What runs beside a step that fails ends by itself, and is undone as it completed."""
    bench.does["s"] = lambda context: until(lambda: failed_in(bench, context))
    bench.does["f"] = fail
    steps = (step("s"), step("f"), step("z"))
    found, _ = bench.run(*steps, dependencies={"z": ["s"]})
    assert found.status is ROLLED_BACK
    assert bench.of("undo") == ["s"]
    assert "z" not in bench.of("begin")


def failed_in(bench, context):
    return "f" in steps_that(bench.orchestrator, context.execution_id, "error")


def test_two_failures_at_once(bench):
    """Where two steps fail, both errors are told."""
    bench.does |= {"f": fail, "g": lambda context: until(lambda: failed_in(bench, context)) and fail(context)}
    bench.orchestrator.register_plan(plan(step("f"), step("g"), chain=False))
    found, error = bench.run(step("f"), step("g"), chain=False)
    assert found.status is ROLLED_BACK
    assert error.step_id == "f"
    assert "f is broken" in found.error_message
    assert "g is broken" in found.error_message
