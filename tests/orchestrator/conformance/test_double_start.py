"""A plan is carried out once at a time, whoever starts it."""

import asyncio
import os
import platform
import threading
from datetime import UTC, datetime, timedelta

import pytest

from resilient.orchestrator import ExecutionStatus, PlanLockedError

from .helpers import Bench, caught, plan, step, until
from .kits import LEASE
from .plans import PLANS, Log, Workshop

COMPLETED = ExecutionStatus.COMPLETED
HERE = (platform.node(), os.getpid())


class Gated:
    """Orchestrators on one state, whose plan has one step that waits."""

    def __init__(self, kit, number):
        self.go = threading.Event()
        self.inside = threading.Semaphore(0)
        self.orchestrators = [kit.orchestrator(lease=5.0) for _ in range(number)]
        self.benches = [Bench(one) for one in self.orchestrators]
        for bench in self.benches:
            bench.does["a"] = self.wait
            bench.orchestrator.register_plan(plan(step("a")))

    def wait(self, context):
        self.inside.release()
        assert self.go.wait(20)

    @property
    def begun(self):
        return sum(len(bench.of("begin")) for bench in self.benches)


def check_losers(errors, winner, begun_at):
    """Who came too late is told who is at it, since when, and as which execution."""
    for error in errors:
        assert isinstance(error, PlanLockedError), error
        assert error.holder == HERE
        assert (error.holder.host, error.holder.pid) == HERE
        assert begun_at <= error.since <= datetime.now(UTC)
        assert error.since.utcoffset() == timedelta(0)
        assert error.execution_id == winner
        assert error.plan_id == "plan"
        assert all(str(one) in str(error) for one in (*HERE, "plan", winner))


@pytest.mark.parametrize("parties", [1, 3], ids=["one-orchestrator", "three"])
def test_threads(kit, parties):
    """Of twelve threads one wins; the others learn who it is, and when it has ended one may begin again."""
    gated, begun_at = Gated(kit, parties), datetime.now(UTC)
    barrier = threading.Barrier(12)
    outcomes = []

    def start(orchestrator):
        barrier.wait(10)
        try:
            outcomes.append(orchestrator.execute_plan("plan"))
        except PlanLockedError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=start, args=(gated.orchestrators[n % parties],)) for n in range(12)]
    for thread in threads:
        thread.start()
    until(lambda: len(outcomes) == 11)
    assert gated.inside.acquire(timeout=10)
    gated.go.set()
    for thread in threads:
        thread.join(10)
    won = [one for one in outcomes if isinstance(one, str)]
    assert len(won) == gated.begun == 1
    check_losers([one for one in outcomes if one not in won], won[0], begun_at)
    again = gated.orchestrators[0].execute_plan("plan")
    assert gated.orchestrators[0].get_execution_status(again).status is COMPLETED


def test_tasks(kit):
    """Of twenty tasks one wins, and the loop is not held up meanwhile."""
    gated, begun_at = Gated(kit, 2), datetime.now(UTC)

    async def main():
        starts = (gated.orchestrators[n % 2].aexecute_plan("plan") for n in range(20))
        tasks = [asyncio.ensure_future(one) for one in starts]
        while sum(task.done() for task in tasks) < 19:
            await asyncio.sleep(0.001)
        gated.go.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    outcomes = asyncio.run(main())
    won = [one for one in outcomes if isinstance(one, str)]
    assert len(won) == gated.begun == 1
    check_losers([one for one in outcomes if one not in won], won[0], begun_at)


def test_processes(wrecks, tmp_path):
    """Of six processes one wins, and all the others name it."""
    go, file = tmp_path / "start", tmp_path / "go"
    jobs = {"plan": ["gated", str(file)], "after": str(go)}
    first, kit, folder = wrecks.start("it", "execute", **jobs)
    children = [first, *(wrecks.another(kit, folder, "execute", **jobs) for _ in range(5))]
    go.touch()
    until(lambda: sum(child.ended.is_set() for child in children) == 5)
    file.touch()
    told = {child.pid: child.told for child in children}
    (winner,) = (pid for pid, one in told.items() if "error" not in one)
    losers = [one for pid, one in told.items() if pid != winner]
    assert all(one["error"] == "PlanLockedError" for one in losers)
    assert all(one["holder"] == [platform.node(), winner] for one in losers)
    assert all(one["id"] == told[winner]["id"] for one in losers)
    assert {one.pid for one in Log(folder / "log").lines()} == {winner}
    observer = kit.orchestrator()
    assert [one.status for one in observer.history()] == [COMPLETED]
    Workshop(observer, Log(folder / "log"))
    observer.register_plan(PLANS["gated"](file))
    assert observer.execute_plan("gated") != told[winner]["id"]


def test_start_plan_and_other_plans(kit):
    """`start_plan` is refused in the same way; another plan is another matter."""
    gated = Gated(kit, 1)
    orchestrator = gated.orchestrators[0]
    execution_id = orchestrator.start_plan("plan")
    error = caught(orchestrator.start_plan, "plan")
    assert isinstance(error, PlanLockedError)
    assert error.execution_id == execution_id
    orchestrator.register_plan(plan(step("b"), id="other"))
    orchestrator.execute_plan("other")
    gated.go.set()
    assert orchestrator.wait_for(execution_id, 10).status is COMPLETED


def test_a_plan_stays_locked_until_it_is_resumed(kit):
    """An execution that nobody carries out any longer still locks its plan, also when its lease has ended."""
    first, second = kit.orchestrator(lease=LEASE), kit.orchestrator(lease=LEASE)
    for one in (first, second):
        Bench(one)
        one.register_plan(plan(step("yes", "approval"), step("b")))
    execution_id = first.start_plan("plan")
    until(lambda: first.get_execution_status(execution_id).waiting_for)
    first.close()
    error = caught(second.start_plan, "plan")
    assert isinstance(error, PlanLockedError)
    assert error.execution_id == execution_id
    assert until(second.resume_pending) == [execution_id]
    second.approve(execution_id, "yes", by="Ann")
    assert second.wait_for(execution_id, 10).status is COMPLETED
    assert second.start_plan("plan") != execution_id
