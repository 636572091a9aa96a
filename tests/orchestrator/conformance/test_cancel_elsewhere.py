"""A cancellation comes through the state that is shared: from another orchestrator, process, or time."""

import signal
import time

import pytest

from resilient.orchestrator import ExecutionStatus

from .helpers import Bench, plan, step, until
from .plans import Log
from .wreck import Wreck

CANCELLED, ROLLED_BACK = ExecutionStatus.CANCELLED, ExecutionStatus.ROLLED_BACK


def test_from_another_orchestrator(kit, stage):
    """Whoever shares the state can cancel; the one at work finds it there."""
    stage.bench.does["x"] = stage.hold
    stage.begin(step("x"))
    assert stage.inside.wait(10)
    other = kit.orchestrator()
    assert other.cancel_execution(stage.execution_id, "from afar", by="Bob") is True
    stage.cancelled_at = time.monotonic()
    found = stage.ended()
    assert found.status is CANCELLED
    assert found.reason == "from afar"
    assert stage.bench.of("undo") == ["x", "a"]
    assert other.cancel_execution(stage.execution_id) is False


def test_from_another_process(wrecks, tmp_path):
    """A process is told through the journal, cancels its step, undoes what it did, and raises."""
    child, kit, folder = wrecks.start("it", "execute", ["gated", str(tmp_path / "never")])
    log, observer = Log(folder / "log"), kit.orchestrator()
    until(log.lines)
    execution_id = observer.history()[0].execution_id
    assert observer.cancel_execution(execution_id, "from afar", by="Bob")
    assert child.told == {"error": "ExecutionCancelledError", "id": execution_id}
    found = observer.get_execution_status(execution_id)
    assert found.status is CANCELLED
    assert found.reason == "from afar"
    assert [one.phase for one in log.lines()] == ["begin"]


@pytest.mark.parametrize("rollback", [True, False])
@pytest.mark.parametrize("number", range(1, 6))
def test_while_its_process_is_dead(wrecks, number, rollback):
    """Cancelled between death and resumption, after any write but the last, it goes nowhere but back."""
    dead, kit, folder = wrecks.run("it", "execute", ["small"], strike=[number, "after", "SIGKILL"])
    assert dead.code == -signal.SIGKILL
    wreck = Wreck(kit, folder)
    assert wreck.observer.cancel_execution(wreck.execution_id, "dead anyway", by="Bob", rollback=rollback) is True
    found = wreck.finish("small")
    turned_back, undone = bool(wreck.of("rollback")), wreck.of("undone")
    if rollback:
        undone = wreck.of("done")[::-1]
    stopped = ROLLED_BACK if undone == wreck.of("done")[::-1] else ExecutionStatus.ROLLBACK_FAILED
    assert found.status is (stopped if turned_back else CANCELLED)
    assert found.reason == "dead anyway"
    begun = [one.step for one in wreck.log.lines() if one.phase == "begin"]
    assert begun == [one.step for one in wreck.lines if one.phase == "begin"], "nothing is started or repeated"
    assert [one.step for one in wreck.log.lines() if one.phase == "undo-end"] == undone


def test_the_first_write_is_before_any_step(wrecks):
    """A plan cancelled before its first step has none in its results."""
    _, kit, folder = wrecks.run("it", "execute", ["small"], strike=[1, "after", "SIGKILL"])
    wreck = Wreck(kit, folder)
    assert wreck.observer.get_execution_status(wreck.execution_id).status is ExecutionStatus.PENDING
    wreck.observer.cancel_execution(wreck.execution_id)
    found = wreck.finish("small")
    assert found.status is CANCELLED
    assert found.step_results == {}
    assert wreck.log.lines() == []


def test_at_the_first_moment(kit):
    """Cancelled before anything was done, nothing is: no step is begun."""
    other = kit.orchestrator()
    calls = []

    def cancel(lease, *rest):
        if not calls:
            calls.append(other.cancel_execution(lease.execution_id, "at once"))

    bench = Bench(kit.orchestrator(meddle={"append": cancel}))
    bench.orchestrator.register_plan(plan(step("yes", "approval"), step("a")))
    execution_id = bench.orchestrator.start_plan("plan")
    found = bench.orchestrator.wait_for(execution_id, 10)
    assert calls == [True]
    assert found.status is CANCELLED
    assert bench.calls == []


@pytest.mark.parametrize("rollback", [True, False])
def test_at_the_last_moment(kit, rollback):
    """Cancelled just before its end is written, an execution has not ended: True means that it is cancelled."""
    other = kit.orchestrator()
    answers = []

    def cancel(lease, *rest):
        if not answers:
            answers.append(other.cancel_execution(lease.execution_id, "late", rollback=rollback))

    bench = Bench(kit.orchestrator(meddle={"end": cancel}))
    found, error = bench.run(step("a"), step("b"))
    assert answers == [True]
    assert found.status is CANCELLED
    assert found.reason == "late"
    assert type(error).__name__ == "ExecutionCancelledError"
    assert bench.of("undo") == (["b", "a"] if rollback else [])


def test_a_second_orchestrator_does_not_take_part(kit):
    """Cancelling does not make the one who asks an owner: without anybody at work, nothing happens until a resume."""
    first, second = kit.orchestrator(), kit.orchestrator()
    for one in (first, second):
        Bench(one)
        one.register_plan(plan(step("yes", "approval"), step("b")))
    execution_id = first.start_plan("plan")
    until(lambda: first.get_execution_status(execution_id).waiting_for)
    first.close()
    assert second.cancel_execution(execution_id) is True
    assert not second.wait_for(execution_id, 0.05).status.ended
    assert second.resume_pending() == [execution_id]
    assert second.wait_for(execution_id, 10).status is CANCELLED
