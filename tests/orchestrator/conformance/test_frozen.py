"""A process that stands still for longer than its lease, and wakes up when another has gone on in its place."""

import os
import platform
import signal
import time
from datetime import UTC, datetime

import psutil
import pytest

from resilient.orchestrator import ExecutionStatus

from .helpers import PATIENCE, at_once, until
from .plans import Workshop
from .wreck import LEASE, Wreck

COMPLETED, ROLLED_BACK = ExecutionStatus.COMPLETED, ExecutionStatus.ROLLED_BACK


def stopped(child):
    """Whether the process stands still."""
    return psutil.Process(child.pid).status() == psutil.STATUS_STOPPED


def woken(child):
    """Let the process go on, and what it says in the end."""
    child.send(signal.SIGCONT)
    return child.told


@pytest.mark.parametrize(
    ("phase", "fails"),
    [("a:begin", False), ("f:end", False)]
    + [(phase, True) for phase in ("a:begin", "a:end", "f:begin", "a:undo-begin", "a:undo-end")],
)
def test_frozen_in_a_step(wrecks, phase, fails):
    """Frozen in a step or a rollback and taken over, it writes nothing more, begins nothing more, and tells the truth.

    What its caller learns is how the execution ended, whoever has brought it there.
    """
    child, kit, folder = wrecks.start("it", "execute", ["small", fails], strikes={phase: "SIGSTOP"})
    until(lambda: stopped(child))
    wreck = Wreck(kit, folder)
    wreck.check(wreck.finish("small", fails), ROLLED_BACK if fails else COMPLETED)
    story, lines = list(wreck.observer.entries(wreck.execution_id)), wreck.log.lines()
    assert woken(child) == {"id": wreck.execution_id} | ({"error": "StepFailedError"} if fails else {})
    assert list(wreck.observer.entries(wreck.execution_id)) == story
    later = wreck.log.lines()[len(lines) :]
    name = phase.partition(":")[0]
    assert all(one.step == name and not one.phase.endswith("begin") for one in later), later


def test_frozen_before_every_write(wrecks):
    """Frozen just before any of its writes and taken over, that write is refused, as are all that follow."""
    child, _, _ = wrecks.run("counted", "drive", ["small"])
    writes = child.told["writes"]

    def at(number):
        child, kit, folder = wrecks.start(f"{number}", "execute", ["small"], strike=[number, "before", "SIGSTOP"])
        until(lambda: stopped(child))
        wreck = Wreck(kit, folder)
        wreck.check(wreck.finish("small"), ROLLED_BACK)
        story, lines = list(wreck.observer.entries(wreck.execution_id)), wreck.log.lines()
        assert woken(child) == {"id": wreck.execution_id, "error": "StepFailedError"}
        assert list(wreck.observer.entries(wreck.execution_id)) == story
        assert wreck.log.lines() == lines

    # The first write is the one that begins the execution: before it there is nothing to take over.
    at_once(*(lambda n=number: at(n) for number in range(2, writes + 1)))


def test_frozen_while_the_other_is_at_work(wrecks, tmp_path):
    """Awake while the other is at work, it stops at once with PlanLockedError, which names the other."""
    file = tmp_path / "go"
    child, kit, folder = wrecks.start("it", "execute", ["gated", str(file)], strikes={"a:begin": "SIGSTOP"})
    until(lambda: stopped(child))
    wreck = Wreck(kit, folder)
    orchestrator = kit.orchestrator()
    Workshop(orchestrator, wreck.log)
    assert until(lambda: orchestrator.resume_pending(wait=False)) == [wreck.execution_id]
    told = woken(child)
    assert (told["error"], told["id"]) == ("PlanLockedError", wreck.execution_id)
    assert told["holder"] == [platform.node(), os.getpid()]
    assert abs(datetime.now(UTC) - datetime.fromisoformat(told["since"])).total_seconds() < PATIENCE
    assert not orchestrator.get_execution_status(wreck.execution_id).status.ended
    file.touch()
    assert orchestrator.wait_for(wreck.execution_id, 10).status is COMPLETED
    assert [one.pid for one in wreck.log.lines() if one.step == "b"] == [os.getpid()] * 2


def test_frozen_before_it_begins(wrecks):
    """A process that has not written anything yet holds up nobody, and begins when it wakes."""
    child, kit, folder = wrecks.start("it", "execute", ["small", False], strike=[1, "before", "SIGSTOP"])
    until(lambda: stopped(child))
    wreck = Wreck(kit, folder)
    assert wreck.finish("small", False).status is COMPLETED
    child.send(signal.SIGCONT)
    assert wreck.observer.get_execution_status(child.told["id"]).status is COMPLETED
    assert child.told["id"] != wreck.execution_id


@pytest.mark.parametrize("phase", ["a:begin", "a:undo-begin"])
def test_frozen_and_left_alone(wrecks, phase):
    """A process that nobody took over goes on when it wakes, although its lease had ended long ago."""
    fails = phase.endswith("undo-begin")
    child, kit, folder = wrecks.start("it", "execute", ["small", fails], strikes={phase: "SIGSTOP"})
    until(lambda: stopped(child))
    over = time.monotonic() + 1.5 * LEASE
    until(lambda: time.monotonic() > over)
    child.send(signal.SIGCONT)
    told = child.told
    assert told.get("error") == ("StepFailedError" if fails else None)
    wreck = Wreck(kit, folder)
    found = wreck.observer.get_execution_status(told["id"])
    assert found.status is (ROLLED_BACK if fails else COMPLETED)
    assert not wreck.of("resumed")
    assert len({one.pid for one in wreck.lines}) == 1
