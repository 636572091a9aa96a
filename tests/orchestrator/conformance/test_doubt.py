"""A process dies in the middle of a step or of a rollback: what becomes of it is as the step says."""

import signal

import pytest

from resilient.orchestrator import ExecutionStatus, RecoveryError

from .helpers import caught, steps_that, until
from .plans import PLANS, Workshop
from .wreck import Wreck

COMPLETED, ROLLED_BACK = ExecutionStatus.COMPLETED, ExecutionStatus.ROLLED_BACK
POLICIES = ("rerun", "rollback", "ask")
#: Just as it began, and when it had done everything but could not tell anybody any more.
INSIDE = ("begin", "end")


@pytest.fixture
def died(wrecks):
    """Makes a wreck: the plan's process has killed itself in a phase of x."""

    def make(in_doubt, phase, *, fails=False):
        arguments = ["doubtful", in_doubt, fails]
        child, kit, folder = wrecks.run("it", "execute", arguments, strikes={f"x:{phase}": "SIGKILL"})
        assert child.code == -signal.SIGKILL
        return Wreck(kit, folder)

    return make


def steps_in(lines, phase):
    return [one.step for one in lines if one.phase == phase]


@pytest.mark.parametrize("phase", INSIDE)
def test_rerun(died, phase):
    """`in_doubt="rerun"`: the step runs again with the same key and attempt, and the plan completes."""
    wreck = died("rerun", phase)
    wreck.check(wreck.finish("doubtful", "rerun"), COMPLETED)
    lines = wreck.log.lines()
    assert steps_in(lines, "begin") == ["a", "x", "x", "z"]
    first, second = (one for one in lines if one.step == "x" and one.phase == "begin")
    assert first[:4] == second[:4]
    assert first.pid != second.pid


@pytest.mark.parametrize("phase", INSIDE)
def test_rollback(died, phase):
    """`in_doubt="rollback"`: the step is not run again but undone, before all that completed."""
    wreck = died("rollback", phase)
    found = wreck.finish("doubtful", "rollback")
    assert found.status is ROLLED_BACK
    lines = wreck.log.lines()
    assert steps_in(lines, "begin") == ["a", "x"]
    assert steps_in(lines, "undo-end") == ["x", "a"]
    assert found.step_results["x"].in_doubt
    assert "x" in found.error_message
    assert "z" not in found.step_results


def asked(wreck, orchestrator):
    """Resume in this process, up to the question."""
    Workshop(orchestrator, wreck.log)
    orchestrator.register_plan(PLANS["doubtful"]("ask"))
    assert until(orchestrator.resume_pending) == [wreck.execution_id]
    found = orchestrator.get_execution_status(wreck.execution_id)
    assert found.status is ExecutionStatus.WAITING_APPROVAL
    assert found.waiting_for == ("x",)
    assert steps_in(wreck.log.lines(), "begin") == ["a", "x"], "nothing is done before somebody has decided"
    return found


@pytest.mark.parametrize("phase", INSIDE)
def test_ask_and_approve(died, phase):
    """`in_doubt="ask"`: approved, the step runs again with the same key."""
    wreck = died("ask", phase)
    orchestrator = wreck.kit.orchestrator()
    asked(wreck, orchestrator)
    orchestrator.approve(wreck.execution_id, "x", by="Ann", note="looked")
    wreck.check(orchestrator.wait_for(wreck.execution_id, 10), COMPLETED)
    assert steps_in(wreck.log.lines(), "begin") == ["a", "x", "x", "z"]


@pytest.mark.parametrize("phase", INSIDE)
def test_ask_and_reject(died, phase):
    """`in_doubt="ask"`: rejected, the step is undone with what completed before it, and the reason is told."""
    wreck = died("ask", phase)
    orchestrator = wreck.kit.orchestrator()
    asked(wreck, orchestrator)
    orchestrator.reject(wreck.execution_id, "x", by="Ann", note="looks broken")
    found = orchestrator.wait_for(wreck.execution_id, 10)
    assert found.status is ROLLED_BACK
    assert steps_in(wreck.log.lines(), "begin") == ["a", "x"]
    assert steps_in(wreck.log.lines(), "undo-end") == ["x", "a"]
    assert "Ann" in found.error_message
    assert "looks broken" in found.error_message


def test_the_question_survives_another_death(died):
    """Who asks may die as well; the next one still waits for the answer, and takes one that came meanwhile."""
    wreck = died("ask", "begin")
    first = wreck.kit.orchestrator()
    asked(wreck, first)
    first.close()
    wreck.observer.approve(wreck.execution_id, "x", by="Ann")
    second = wreck.kit.orchestrator()
    Workshop(second, wreck.log)
    assert until(second.resume_pending) == [wreck.execution_id]
    assert second.wait_for(wreck.execution_id, 10).status is COMPLETED
    assert steps_that(second, wreck.execution_id, "answered") == ["x"]


@pytest.mark.parametrize("in_doubt", POLICIES)
@pytest.mark.parametrize("phase", ["undo-begin", "undo-end"])
def test_killed_in_a_rollback(died, in_doubt, phase):
    """A rollback that was under way goes on with the same key, whatever the step says of doubt, and asks nobody."""
    wreck = died(in_doubt, phase, fails=True)
    wreck.check(wreck.finish("doubtful", in_doubt, True), ROLLED_BACK)
    lines = wreck.log.lines()
    assert steps_in(lines, "undo-begin") == ["x", "x", "a"]
    assert steps_in(lines, "undo-end") == (["x", "a"] if phase == "undo-begin" else ["x", "x", "a"])
    assert caught(wreck.observer.approve, wreck.execution_id, "x", by="Ann").__class__ is RecoveryError


def test_killed_while_waiting_for_a_retry(wrecks):
    """A failed attempt stays failed: the next one comes with the next number, and there are not more than promised."""
    child, kit, folder = wrecks.run("it", "drive", ["big", False], strikes={"c:end": "SIGKILL"})
    assert child.code == -signal.SIGKILL
    wreck = Wreck(kit, folder)
    found = wreck.finish("big", False)
    wreck.check(found, COMPLETED)
    begun = [one.attempt for one in wreck.log.lines() if one.step == "c" and one.phase == "begin"]
    assert begun == [1, 2, 2]
    assert found.step_results["c"].attempts == 2
