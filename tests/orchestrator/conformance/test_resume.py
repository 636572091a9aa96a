"""Going on in the place of a process that is gone: once, by one, and only when it is certain that it is gone."""

import asyncio
import signal
import threading
import warnings

import pytest

from resilient.orchestrator import ExecutionStatus

from .helpers import Bench, at_once, caught, plan, step, steps_that, until
from .plans import PLANS, Log, Workshop
from .wreck import Wreck

COMPLETED = ExecutionStatus.COMPLETED


def bench_with(kit, *plans, lease=0.3):
    made = Bench(kit.orchestrator(lease=lease))
    for one in plans:
        made.orchestrator.register_plan(one)
    return made


def asking(id="plan"):
    return plan(step("a"), step("yes", "approval"), step("z"), id=id)


def left(kit, *plans):
    """The ids of executions that wait for a person, and whose orchestrator has let go of them."""
    bench = bench_with(kit, *plans)
    ids = [bench.orchestrator.start_plan(one.id) for one in plans]
    for one in ids:
        until(lambda one=one: bench.orchestrator.get_execution_status(one).waiting_for)
    bench.orchestrator.close()
    return ids


def test_nothing_to_do(orchestrator):
    """Where nothing was begun nothing is resumed, however often one asks."""
    assert [orchestrator.resume_pending() for _ in range(3)] == [[]] * 3


def test_what_has_ended(bench):
    """What has ended is not resumed."""
    bench.run(step("a"))
    assert bench.orchestrator.resume_pending() == []


def test_what_is_under_way(kit, stage):
    """What is carried out, here or elsewhere, is not taken over as long as its lease is renewed."""
    stage.bench.does["x"] = stage.hold
    stage.begin(step("x"))
    assert stage.inside.wait(10)
    assert stage.orchestrator.resume_pending() == []
    other = bench_with(kit, stage.orchestrator.plans["plan"])
    assert other.orchestrator.resume_pending() == []
    stage.go.set()
    assert stage.orchestrator.wait_for(stage.execution_id, 10).status is COMPLETED
    assert other.calls == []


def test_a_short_lease_is_renewed(kit):
    """A step that takes five leases is not taken over: the heartbeat goes on beside it."""
    first, second = bench_with(kit, plan(step("a")), lease=0.15), bench_with(kit, plan(step("a")), lease=0.15)
    go, taken = threading.Event(), []
    first.does["a"] = lambda context: go.wait(10)
    execution_id = first.orchestrator.start_plan("plan")
    timer = threading.Timer(0.75, go.set)
    timer.start()
    while not go.is_set():
        taken += second.orchestrator.resume_pending()
        go.wait(0.01)
    timer.join()
    assert taken == []
    assert first.orchestrator.wait_for(execution_id, 10).status is COMPLETED
    assert "resumed" not in [one.what for one in first.orchestrator.entries(execution_id)]


def test_after_a_close(kit):
    """What an orchestrator let go of when it was closed can be taken over at once, by its id, and only once."""
    ids = left(kit, asking("one"), asking("two"))
    second = bench_with(kit, asking("one"), asking("two"), lease=30.0)
    assert second.orchestrator.resume_pending() == ids
    assert second.orchestrator.resume_pending() == []
    for execution_id in ids:
        second.orchestrator.approve(execution_id, "yes", by="Ann")
        assert second.orchestrator.wait_for(execution_id, 10).status is COMPLETED
    assert second.calls.count(("begin", "z")) == 2
    assert ("begin", "a") not in second.calls
    assert second.orchestrator.resume_pending() == []


@pytest.fixture
def closed(kit):
    """Makes the id of an execution whose step x was under way when its orchestrator was closed."""
    go = threading.Event()

    def make(kind, lease):
        first, inside = bench_with(kit, plan(step("a"), step("x", kind), step("z")), lease=lease), threading.Event()

        def hang(context):
            inside.set()
            go.wait(30)

        async def ahang(context):
            inside.set()
            await asyncio.Event().wait()

        first.does["x"] = ahang if kind == "awork" else hang
        execution_id = first.orchestrator.start_plan("plan")
        assert inside.wait(10)
        first.orchestrator.close()
        return execution_id

    yield make
    go.set()


@pytest.mark.parametrize("kind", ["work", "awork"])
def test_a_step_under_way_at_a_close(kit, closed, kind):
    """A step that is under way when its orchestrator is closed is in doubt, and follows its `in_doubt`."""
    execution_id = closed(kind, lease=0.3)
    second = bench_with(kit)
    assert until(second.orchestrator.resume_pending) == [execution_id]
    assert second.of("begin") == ["x", "z"]
    assert second.orchestrator.get_execution_status(execution_id).status is COMPLETED


def test_a_step_that_goes_on_after_a_close(kit, closed):
    """A step that nothing can end is not repeated beside itself: its lease is not given back before its time."""
    closed("work", lease=30.0)
    second = bench_with(kit)
    assert [second.orchestrator.resume_pending() for _ in range(3)] == [[]] * 3
    assert second.calls == []


def test_without_waiting(kit, closed):
    """`wait=False` returns before the end."""
    execution_id = closed("awork", lease=0.3)
    second, go = kit.orchestrator(), threading.Event()
    for name in ("work", "awork"):
        second.register_step_executor(name, lambda step, context: go.wait(10), rollback=lambda step, context: None)
    assert until(lambda: second.resume_pending(wait=False)) == [execution_id]
    assert not second.get_execution_status(execution_id).status.ended
    go.set()
    assert second.wait_for(execution_id, 10).status is COMPLETED


def test_a_missing_executor(kit):
    """What cannot be carried out here is left to others, with a warning that says what is missing."""
    (execution_id,) = left(kit, asking())
    stranger = kit.orchestrator()
    with pytest.warns(RuntimeWarning, match=execution_id) as caught_warnings:
        assert stranger.resume_pending() == []
    assert "'work'" in str(caught_warnings[0].message)
    helper = bench_with(kit)
    assert helper.orchestrator.resume_pending() == [execution_id]


def test_a_missing_rollback(kit):
    """Where steps could not be undone that could be before, nothing is taken over, with a warning that says so."""
    (execution_id,) = left(kit, asking())
    stranger = kit.orchestrator()
    stranger.step("work")(lambda step, context: None)
    with pytest.warns(RuntimeWarning, match=f"{execution_id}.*rollback.*'work'"):
        assert stranger.resume_pending() == []
    assert bench_with(kit).orchestrator.resume_pending() == [execution_id]


def test_one_missing_executor_does_not_hold_up_others(kit):
    """Beside an execution that cannot be carried out here, others are taken."""
    special = Bench(kit.orchestrator())
    special.orchestrator.step("special")(lambda step, context: None)
    special.orchestrator.register_plan(plan(step("yes", "approval"), step("s", "special"), id="special"))
    first_id = special.orchestrator.start_plan("special")
    until(lambda: special.orchestrator.get_execution_status(first_id).waiting_for)
    special.orchestrator.close()
    (second_id,) = left(kit, asking())
    helper = bench_with(kit)
    with pytest.warns(RuntimeWarning, match="special"):
        assert helper.orchestrator.resume_pending() == [second_id]


def test_the_plan_as_it_was(kit):
    """An execution goes on with the plan as it was when it began, also where another version is registered by now."""
    (execution_id,) = left(kit, asking())
    newer = plan(step("a"), step("yes", "approval"), step("other"))
    helper = bench_with(kit, newer)
    assert helper.orchestrator.resume_pending() == [execution_id]
    helper.orchestrator.approve(execution_id, "yes", by="Ann")
    helper.orchestrator.wait_for(execution_id, 10)
    assert helper.of("begin") == ["z"]
    assert helper.orchestrator.plan_of(execution_id) == asking()


def test_parameters_and_outputs_are_kept(kit):
    """Parameters and the outputs of completed steps are there after a resumption, as they were."""
    made = plan(step("a"), step("yes", "approval"), step("z", parameters={"x": "${steps.a.output.x}"}))
    first = bench_with(kit, made)
    first.does["a"] = lambda context: {"x": [1, {"y": None}]}
    execution_id = first.orchestrator.start_plan("plan", {"host": "db1"})
    until(lambda: first.orchestrator.get_execution_status(execution_id).waiting_for)
    first.orchestrator.close()
    seen, second = [], bench_with(kit, made)
    second.does["z"] = lambda context: seen.append((context.parameters, context.step_results["a"]["x"]))
    second.orchestrator.resume_pending()
    second.orchestrator.approve(execution_id, "yes", by="Ann")
    assert second.orchestrator.wait_for(execution_id, 10).status is COMPLETED
    assert seen == [({"host": "db1"}, [1, {"y": None}])]


def test_many_at_once(kit):
    """Of eight orchestrators that ask at the same moment exactly one takes each execution."""
    plans = [asking(f"plan-{number}") for number in range(4)]
    ids = left(kit, *plans)
    helpers = [bench_with(kit, lease=30.0) for _ in range(8)]
    barrier = threading.Barrier(8)

    def resume(orchestrator):
        barrier.wait(10)
        return orchestrator.resume_pending()

    taken = at_once(*(lambda one=one.orchestrator: resume(one) for one in helpers), workers=8)
    assert sorted(one for some in taken for one in some) == sorted(ids)
    for execution_id in ids:
        assert steps_that(helpers[0].orchestrator, execution_id, "resumed") == [None]


def test_not_before_the_lease_has_ended(wrecks):
    """Right after a death nothing is taken, as its lease still runs; when that has ended it is, once."""
    dead, kit, folder = wrecks.start("it", "execute", ["small"], lease=1.0, strikes={"f:begin": "SIGKILL"})
    assert dead.wait() == -signal.SIGKILL
    orchestrator = kit.orchestrator()
    Workshop(orchestrator, Log(folder / "log"))
    orchestrator.register_plan(PLANS["small"]())
    assert [orchestrator.resume_pending() for _ in range(3)] == [[]] * 3
    assert until(orchestrator.resume_pending) == [orchestrator.history()[0].execution_id]
    assert orchestrator.resume_pending() == []


def test_two_processes_at_once(wrecks, tmp_path):
    """Of three processes that all try to go on, exactly one does, and nothing is done twice."""
    dead, kit, folder = wrecks.run("it", "execute", ["doubtful", "rerun", True], strikes={"x:end": "SIGKILL"})
    assert dead.code == -signal.SIGKILL
    wreck, go = Wreck(kit, folder), tmp_path / "go"
    plan_of = ["doubtful", "rerun", True]
    children = [wrecks.another(kit, folder, "resume", plan_of, after=str(go)) for _ in range(3)]
    go.touch()
    taken = [one for child in children for one in child.told["taken"]]
    assert taken == [wreck.execution_id]
    wreck.check(wreck.observer.get_execution_status(wreck.execution_id), ExecutionStatus.ROLLED_BACK)
    assert len({one.pid for one in wreck.log.lines()}) == 2


def test_a_killed_plan_is_locked_until_then(wrecks):
    """Before somebody has gone on with it, a plan whose process was killed cannot be started anew."""
    dead, kit, folder = wrecks.run("it", "execute", ["small"], strikes={"f:begin": "SIGKILL"})
    wreck = Wreck(kit, folder)
    orchestrator = kit.orchestrator()
    Workshop(orchestrator, wreck.log)
    orchestrator.register_plan(PLANS["small"]())
    error = caught(orchestrator.start_plan, "small")
    assert type(error).__name__ == "PlanLockedError"
    assert error.holder.pid == dead.pid
    assert error.execution_id == wreck.execution_id
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        until(orchestrator.resume_pending)
    assert orchestrator.start_plan("small") != wreck.execution_id
