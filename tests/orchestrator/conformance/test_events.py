"""What is told while an execution goes on: everything, in order, once."""

from datetime import UTC, datetime, timedelta

import pytest

from resilient.orchestrator import RecoveryEventType, RetryPolicy

from .helpers import Bench, Heard, fail, plan, step, until


@pytest.fixture
def heard(bench):
    made = Heard()
    bench.orchestrator.subscribe(made)
    return made


def flaky(context):
    if context.attempt == 1:
        raise RuntimeError("once more")


def test_forward(bench, heard):
    """A plan that completes tells of each step in order, of its retries, and of its end."""
    bench.does["b"] = flaky
    bench.run(step("a"), step("b", retry_policy=RetryPolicy(2, base_delay=0.001)))
    assert heard.kinds == [
        ("EXECUTION_STARTED", None),
        ("STEP_STARTED", "a"),
        ("STEP_COMPLETED", "a"),
        ("STEP_STARTED", "b"),
        ("STEP_RETRYING", "b"),
        ("STEP_COMPLETED", "b"),
        ("EXECUTION_COMPLETED", None),
    ]


def test_backward(bench, heard):
    """A plan that fails tells of the way back, step by step, and of its end."""
    bench.does["f"] = fail
    bench.run(step("a"), step("b"), step("f"))
    assert heard.kinds[-9:] == [
        ("STEP_STARTED", "f"),
        ("STEP_FAILED", "f"),
        ("ROLLBACK_STARTED", None),
        ("STEP_ROLLBACK_STARTED", "b"),
        ("STEP_ROLLED_BACK", "b"),
        ("STEP_ROLLBACK_STARTED", "a"),
        ("STEP_ROLLED_BACK", "a"),
        ("ROLLBACK_COMPLETED", None),
        ("EXECUTION_FAILED", None),
    ]


def test_a_rollback_that_fails(bench, heard):
    """What could not be undone is told, with the error."""
    bench.does["f"], bench.undoes["a"] = fail, fail
    bench.run(step("a"), step("f"))
    assert heard.kinds[-4:] == [
        ("STEP_ROLLBACK_STARTED", "a"),
        ("STEP_ROLLBACK_FAILED", "a"),
        ("ROLLBACK_FAILED", None),
        ("EXECUTION_FAILED", None),
    ]
    assert "a is broken" in heard[-3].data["error"]


@pytest.mark.parametrize(
    ("decide", "middle"),
    [
        ("approve", [("APPROVAL_GRANTED", "yes"), ("STEP_COMPLETED", "yes"), ("EXECUTION_COMPLETED", None)]),
        (
            "reject",
            [
                ("APPROVAL_REJECTED", "yes"),
                ("STEP_FAILED", "yes"),
                ("ROLLBACK_STARTED", None),
                ("ROLLBACK_COMPLETED", None),
                ("EXECUTION_FAILED", None),
            ],
        ),
    ],
)
def test_approvals(bench, heard, decide, middle):
    """Questions and answers are told, and who gave them."""
    execution_id = bench.start(step("yes", "approval"))
    until(lambda: bench.orchestrator.get_execution_status(execution_id).waiting_for)
    getattr(bench.orchestrator, decide)(execution_id, "yes", by="Ann", note="so")
    bench.orchestrator.wait_for(execution_id, 10)
    first = [("EXECUTION_STARTED", None), ("STEP_STARTED", "yes"), ("APPROVAL_REQUESTED", "yes")]
    assert heard.kinds == first + middle
    assert (heard[3].data["by"], heard[3].data["note"]) == ("Ann", "so")


def test_cancellation(stage):
    """Somebody's wish to cancel is told, and then what comes of it."""
    heard = Heard()
    stage.orchestrator.subscribe(heard)
    stage.bench.does["x"] = stage.hold
    stage.begin(step("x"))
    assert stage.inside.wait(10)
    stage.cancel("enough", by="Ann")
    stage.ended()
    assert heard.kinds[-9:] == [
        ("CANCEL_REQUESTED", None),
        ("STEP_COMPLETED", "x"),
        ("ROLLBACK_STARTED", None),
        ("STEP_ROLLBACK_STARTED", "x"),
        ("STEP_ROLLED_BACK", "x"),
        ("STEP_ROLLBACK_STARTED", "a"),
        ("STEP_ROLLED_BACK", "a"),
        ("ROLLBACK_COMPLETED", None),
        ("EXECUTION_CANCELLED", None),
    ]
    (asked,) = (one for one in heard if one.event_type is RecoveryEventType.CANCEL_REQUESTED)
    assert (asked.data["reason"], asked.data["by"]) == ("enough", "Ann")


def test_resumption(kit):
    """Who goes on tells that it does, and then only of what it does itself."""
    first, second = (Bench(kit.orchestrator()) for _ in range(2))
    for one in (first, second):
        one.orchestrator.register_plan(plan(step("a"), step("yes", "approval"), step("z")))
    execution_id = first.orchestrator.start_plan("plan")
    until(lambda: first.orchestrator.get_execution_status(execution_id).waiting_for)
    first.orchestrator.close()
    heard = Heard()
    second.orchestrator.subscribe(heard)
    second.orchestrator.resume_pending()
    second.orchestrator.approve(execution_id, "yes", by="Ann")
    second.orchestrator.wait_for(execution_id, 10)
    assert heard.kinds == [
        ("EXECUTION_RESUMED", None),
        ("APPROVAL_GRANTED", "yes"),
        ("STEP_COMPLETED", "yes"),
        ("STEP_STARTED", "z"),
        ("STEP_COMPLETED", "z"),
        ("EXECUTION_COMPLETED", None),
    ]


def test_what_each_event_carries(bench, heard):
    """Execution, plan, aware UTC time, seconds that never run backwards, and JSON-ready data."""
    before = datetime.now(UTC)
    found, _ = bench.run(step("a"), step("b", "awork"), step("c"))
    after = datetime.now(UTC)
    assert {one.execution_id for one in heard} == {found.execution_id}
    assert {one.plan_id for one in heard} == {"plan"}
    for one in heard:
        assert one.timestamp.utcoffset() == timedelta(0)
        assert before <= one.timestamp <= after
        assert isinstance(one.event_type, RecoveryEventType)
    elapsed = [one.elapsed for one in heard]
    assert elapsed == sorted(elapsed)
    assert 0 <= elapsed[0] <= elapsed[-1] <= (after - before).total_seconds()


def test_parameters_are_not_in_events(bench, heard):
    """The parameters of an execution, which may be secrets, are told to nobody."""
    bench.orchestrator.register_plan(plan(step("a"), step("f")))
    bench.orchestrator.execute_plan("plan", {"password": "hunter2"})
    assert heard
    assert "hunter2" not in repr(list(heard))
