"""Some steps are decided by people: once, in time, from anywhere, and it is kept who did and why."""

import threading
import time
from datetime import UTC, datetime

import pytest

from resilient.orchestrator import (
    ExecutionNotFoundError,
    ExecutionStatus,
    RecoveryError,
    StepFailedError,
    StepTimeoutError,
)

from .helpers import Bench, caught, plan, step, steps_that, story, until
from .plans import Log, Workshop

COMPLETED, ROLLED_BACK = ExecutionStatus.COMPLETED, ExecutionStatus.ROLLED_BACK


@pytest.fixture
def waiting(bench):
    """The id of an execution that has done a and waits for "yes", before z."""
    execution_id = bench.start(step("a"), step("yes", "approval"), step("z"))
    until(lambda: bench.orchestrator.get_execution_status(execution_id).waiting_for)
    return execution_id


def test_it_waits(bench, waiting):
    """Until somebody decides, it says that and for which step it waits, and goes no further."""
    found = bench.orchestrator.wait_for(waiting, 0.1)
    assert found.status is ExecutionStatus.WAITING_APPROVAL
    assert found.waiting_for == ("yes",)
    assert found.step_results["yes"].status is ExecutionStatus.WAITING_APPROVAL
    assert bench.of("begin") == ["a"]


def test_approved(bench, waiting):
    """Approved, it goes on; who, when and why are the step's output and in the journal."""
    before = datetime.now(UTC)
    bench.orchestrator.approve(waiting, "yes", by="Ann", note="looks fine")
    found = bench.orchestrator.wait_for(waiting, 10)
    assert found.status is COMPLETED
    assert bench.of("begin") == ["a", "z"]
    output = found.step_results["yes"].output
    assert (output["approved"], output["by"], output["note"]) == (True, "Ann", "looks fine")
    assert before <= datetime.fromisoformat(output["at"]) <= datetime.now(UTC)
    (entry,) = (one for one in bench.orchestrator.entries(waiting) if one.what == "answered")
    assert entry.step_id == "yes"
    assert {key: entry.data[key] for key in ("approved", "by", "note")} == {
        "approved": True,
        "by": "Ann",
        "note": "looks fine",
    }
    assert before <= entry.at <= datetime.now(UTC)


def test_rejected(bench):
    """Rejected, the step has failed with who and why, and what was done before is undone."""
    orchestrator = bench.orchestrator
    orchestrator.register_plan(plan(step("a"), step("yes", "approval"), step("z")))
    errors = []
    thread = threading.Thread(target=lambda: errors.append(caught(orchestrator.execute_plan, "plan")))
    thread.start()
    execution_id = until(lambda: [one.execution_id for one in orchestrator.history() if one.waiting_for])[0]
    orchestrator.reject(execution_id, "yes", by="Bob", note="too risky")
    thread.join(10)
    (error,) = errors
    assert isinstance(error, StepFailedError)
    assert (error.step_id, error.execution_id) == ("yes", execution_id)
    assert "Bob" in str(error)
    assert "too risky" in str(error)
    found = orchestrator.get_execution_status(execution_id)
    assert found.status is ROLLED_BACK
    assert bench.of("undo") == ["a"]
    (entry,) = (one for one in orchestrator.entries(execution_id) if one.what == "answered")
    assert (entry.data["approved"], entry.data["by"], entry.data["note"]) == (False, "Bob", "too risky")


def test_deadline(bench):
    """Its timeout is its deadline: after that it has failed, and an answer comes too late."""
    before = time.monotonic()
    found, error = bench.run(step("a"), step("yes", "approval", timeout=0.1), step("z"))
    assert 0.1 <= time.monotonic() - before < 3.0
    assert isinstance(error, StepTimeoutError)
    assert (error.limit, error.step_id) == (0.1, "yes")
    assert found.status is ROLLED_BACK
    assert bench.of("undo") == ["a"]
    late = caught(bench.orchestrator.approve, found.execution_id, "yes", by="Ann")
    assert isinstance(late, RecoveryError)
    assert "rolled_back" in str(late)
    assert "answered" not in [what for what, _ in story(bench.orchestrator, found.execution_id)]


@pytest.mark.parametrize(("on_failure", "status"), [("stop", "FAILED"), ("continue", "FAILED")])
def test_what_a_rejection_means(bench, on_failure, status):
    """A rejection is a failure like any other to `on_failure`."""
    execution_id = bench.start(step("a"), step("yes", "approval", on_failure=on_failure), step("z"))
    until(lambda: bench.orchestrator.get_execution_status(execution_id).waiting_for)
    bench.orchestrator.reject(execution_id, "yes", by="Ann")
    found = bench.orchestrator.wait_for(execution_id, 10)
    assert found.status.name == status
    assert bench.of("undo") == []
    assert ("z" in bench.of("begin")) == (on_failure == "continue")


@pytest.mark.parametrize("decide", ["approve", "reject"])
@pytest.mark.parametrize("step_id", ["a", "z"])
def test_a_step_that_does_not_wait(bench, waiting, decide, step_id):
    """Steps that do not wait cannot be decided: RecoveryError, and nothing is written."""
    before = story(bench.orchestrator, waiting)
    error = caught(getattr(bench.orchestrator, decide), waiting, step_id, by="Ann")
    assert type(error) is RecoveryError
    assert (error.step_id, error.execution_id) == (step_id, waiting)
    assert step_id in str(error)
    assert "does not wait" in str(error)
    assert story(bench.orchestrator, waiting) == before


@pytest.mark.parametrize("decide", ["approve", "reject"])
def test_what_does_not_exist(bench, waiting, decide):
    """An unknown execution or step raises ExecutionNotFoundError."""
    call = getattr(bench.orchestrator, decide)
    assert isinstance(caught(call, "nothing", "yes", by="Ann"), ExecutionNotFoundError)
    assert isinstance(caught(call, waiting, "nothing", by="Ann"), ExecutionNotFoundError)


@pytest.mark.parametrize("second", ["approve", "reject"])
def test_a_second_answer(bench, waiting, second):
    """The first answer counts; a second one is refused, and changes nothing."""
    bench.orchestrator.approve(waiting, "yes", by="Ann")
    bench.orchestrator.wait_for(waiting, 10)
    error = caught(getattr(bench.orchestrator, second), waiting, "yes", by="Bob")
    assert type(error) is RecoveryError
    found = bench.orchestrator.get_execution_status(waiting)
    assert found.status is COMPLETED
    assert found.step_results["yes"].output["by"] == "Ann"


def test_many_answers_at_once(kit, bench, waiting):
    """Of sixteen answers from two orchestrators one counts, and one is in the journal."""
    orchestrators = (bench.orchestrator, kit.orchestrator())
    barrier = threading.Barrier(16)

    def answer(number):
        barrier.wait(10)
        decide = orchestrators[number % 2].approve if number % 3 else orchestrators[number % 2].reject
        error = caught(decide, waiting, "yes", by=f"person {number}")
        assert error is None or type(error) is RecoveryError

    threads = [threading.Thread(target=answer, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    found = bench.orchestrator.wait_for(waiting, 10)
    (entry,) = (one for one in bench.orchestrator.entries(waiting) if one.what == "answered")
    assert found.status is (COMPLETED if entry.data["approved"] else ROLLED_BACK)


def test_from_another_orchestrator(kit, bench, waiting):
    """Whoever shares the state may decide."""
    kit.orchestrator().approve(waiting, "yes", by="Ann", note="from afar")
    assert bench.orchestrator.wait_for(waiting, 10).status is COMPLETED


def test_side_by_side(bench):
    """While one step waits for a person others run, and it takes none of the places."""
    held = threading.Event()
    bench.does["b"] = lambda context: held.wait(10)
    steps = (step("yes", "approval"), step("no", "approval"), step("b"), step("z"))
    execution_id = bench.start(*steps, dependencies={"z": ["yes", "no"]}, max_parallel=1)
    found = until(
        lambda: (one := bench.orchestrator.get_execution_status(execution_id)).waiting_for == ("yes", "no") and one
    )
    assert found.status is ExecutionStatus.WAITING_APPROVAL
    until(lambda: bench.of("begin") == ["b"])
    for which in ("no", "yes"):
        bench.orchestrator.approve(execution_id, which, by="Ann")
    held.set()
    assert bench.orchestrator.wait_for(execution_id, 10).status is COMPLETED
    assert steps_that(bench.orchestrator, execution_id, "answered") == ["no", "yes"]


def test_from_another_process(nursery, durable, tmp_path):
    """A process that waits is told by another one, through the state that they share."""
    folder = tmp_path / "it"
    kit = durable(folder)
    log = Log(folder / "log")
    job = {"address": kit.address, "log": str(log.path), "plan": ["asking"]}
    child = nursery.start("execute", folder, **job)
    observer = kit.orchestrator()
    execution_id = until(lambda: [one.execution_id for one in observer.history() if one.waiting_for])[0]
    observer.approve(execution_id, "ok", by="Ann")
    assert child.told == {"id": execution_id}
    assert {one.pid for one in log.lines()} == {child.pid}


def test_it_waits_on_after_a_death(wrecks):
    """A process that dies while it waits is replaced by one that waits, until the same deadline."""
    child, kit, folder = wrecks.start("it", "execute", ["asking"])
    observer = kit.orchestrator()
    execution_id = until(lambda: [one.execution_id for one in observer.history() if one.waiting_for])[0]
    deadline = next(one.data["deadline"] for one in observer.entries(execution_id) if one.what == "asked")
    child.send(9)
    child.wait()
    orchestrator = kit.orchestrator()
    Workshop(orchestrator, Log(folder / "log"))
    assert until(orchestrator.resume_pending) == [execution_id]
    found = orchestrator.get_execution_status(execution_id)
    assert found.waiting_for == ("ok",)
    assert found.status is ExecutionStatus.WAITING_APPROVAL
    assert [one.data["deadline"] for one in observer.entries(execution_id) if one.what == "asked"] == [deadline]
    observer.approve(execution_id, "ok", by="Ann")
    assert orchestrator.wait_for(execution_id, 10).status is COMPLETED
    assert [one.step for one in Log(folder / "log").lines() if one.phase == "begin"] == ["a", "b"]


def test_a_deadline_that_passes_while_nobody_is_there(kit):
    """The deadline is a time of day: it also ends while no process carries out the plan."""
    first, second = (Bench(kit.orchestrator(lease=5.0)) for _ in range(2))
    for one in (first, second):
        one.orchestrator.register_plan(plan(step("a"), step("yes", "approval", timeout=0.3), step("z")))
    execution_id = first.orchestrator.start_plan("plan")
    until(lambda: first.orchestrator.get_execution_status(execution_id).waiting_for)
    first.orchestrator.close()
    over = time.monotonic() + 0.3
    until(lambda: time.monotonic() > over)
    assert second.orchestrator.resume_pending() == [execution_id]
    assert second.orchestrator.wait_for(execution_id, 10).status is ROLLED_BACK
    assert second.calls == [("undo", "a")]
