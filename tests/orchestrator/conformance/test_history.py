"""What was carried out can be looked up afterwards, page by page, from anywhere."""

from datetime import UTC, datetime, timedelta

import pytest

from resilient.orchestrator import ExecutionNotFoundError, ExecutionStatus, PlanNotFoundError

from .helpers import caught, fail, plan, step, until
from .plans import Log

COMPLETED = ExecutionStatus.COMPLETED


@pytest.fixture
def seven(bench):
    """The ids of seven executions of two plans, oldest first."""
    for name in ("even", "odd"):
        bench.orchestrator.register_plan(plan(step("a"), id=name))
    return [bench.orchestrator.execute_plan(("even", "odd")[number % 2]) for number in range(7)]


def ids(found):
    return [one.execution_id for one in found]


def test_newest_first(bench, seven):
    """The latest comes first; with a plan's id, only those of that plan."""
    assert ids(bench.orchestrator.history()) == seven[::-1]
    assert ids(bench.orchestrator.history("even")) == seven[::-2]
    assert ids(bench.orchestrator.history("odd")) == seven[1::2][::-1]
    assert bench.orchestrator.history("unheard-of") == []


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 50])
@pytest.mark.parametrize("plan_id", [None, "even"])
def test_pages(bench, seven, limit, plan_id):
    """Page by page everything comes once, in order, also when something new comes in between."""
    orchestrator, pages, before = bench.orchestrator, [], None
    while page := orchestrator.history(plan_id, limit=limit, before=before):
        assert len(page) <= limit
        pages += ids(page)
        before = pages[-1]
        orchestrator.execute_plan("even")
    assert pages == [one for one in seven[::-1] if plan_id is None or one.startswith(plan_id)]


def test_a_page_before_what_does_not_exist(bench, seven):
    """A page before an unknown execution is refused."""
    assert isinstance(caught(bench.orchestrator.history, before="nothing"), ExecutionNotFoundError)


@pytest.mark.parametrize("ask", ["get_execution_status", "entries", "plan_of", "wait_for"])
def test_what_does_not_exist(orchestrator, ask):
    """An unknown id raises ExecutionNotFoundError, which is a LookupError and names it."""
    error = caught(getattr(orchestrator, ask), "nothing")
    assert isinstance(error, ExecutionNotFoundError)
    assert isinstance(error, LookupError)
    assert "nothing" in str(error)


@pytest.mark.parametrize("start", ["execute_plan", "start_plan"])
def test_a_plan_that_does_not_exist(orchestrator, start):
    """A plan that nobody registered cannot be started; the error names those that were."""
    orchestrator.register_plan(plan(step("yes", "approval"), id="known"))
    error = caught(getattr(orchestrator, start), "nothing")
    assert isinstance(error, PlanNotFoundError)
    assert "'known'" in str(error)


def test_a_picture(bench):
    """A picture has everything, with aware UTC times in order, and its plain form is ready for JSON."""
    before = datetime.now(UTC)
    bench.does |= {"a": lambda context: {"n": 1}, "f": fail}
    found, _ = bench.run(step("a"), step("f", critical=False))
    after = datetime.now(UTC)
    a, f = found.step_results["a"], found.step_results["f"]
    assert list(found.step_results) == ["a", "f"]
    assert a.output == {"n": 1}
    assert a["n"] == 1
    times = [before, found.started_at, a.started_at, a.completed_at, f.started_at, f.completed_at]
    times += [found.completed_at, after]
    assert times == sorted(times)
    assert all(one.utcoffset() == timedelta(0) for one in times)
    assert (a.status, a.attempts, a.error_message) == (COMPLETED, 1, None)
    assert (f.status, f.attempts) == (ExecutionStatus.FAILED, 1)
    assert found.error_message is None
    assert found.to_dict()["step_results"]["a"]["output"] == {"n": 1}


def test_a_picture_does_not_change(bench):
    """A picture is frozen, and what one does to it does not change what others get."""
    bench.does["a"] = lambda context: {"n": [1]}
    found, _ = bench.run(step("a"))
    assert isinstance(caught(setattr, found, "status", None), AttributeError)
    found.step_results["a"].output["n"].append(2)
    assert bench.orchestrator.get_execution_status(found.execution_id).step_results["a"].output == {"n": [1]}


def test_another_orchestrator_sees_the_same(kit, bench, seven):
    """Whoever shares the state sees the same executions, pictures and stories."""
    other = kit.orchestrator()
    assert other.history() == bench.orchestrator.history()
    for execution_id in seven:
        assert other.get_execution_status(execution_id) == bench.orchestrator.get_execution_status(execution_id)
        assert list(other.entries(execution_id)) == list(bench.orchestrator.entries(execution_id))
        assert other.plan_of(execution_id) == bench.orchestrator.plan_of(execution_id)


def test_the_story(bench):
    """The story of an execution begins with the submission and ends with the end, numbered, in the order of time."""
    found, _ = bench.run(step("a"))
    story = bench.orchestrator.entries(found.execution_id)
    assert [one.what for one in story] == ["submitted", "started", "attempt", "done", "ended"]
    assert [one.number for one in story] == [1, 2, 3, 4, 5]
    assert [one.at for one in story] == sorted(one.at for one in story)


def test_parameters_are_not_in_the_story(bench):
    """Parameters, which may be secrets, are in the picture for whoever asks for it, and not in the story."""
    bench.orchestrator.register_plan(plan(step("a", parameters={"token": "hunter3"})))
    execution_id = bench.orchestrator.execute_plan("plan", {"password": "hunter2"})
    assert bench.orchestrator.get_execution_status(execution_id).parameters == {"password": "hunter2"}
    assert "hunter" not in repr(bench.orchestrator.entries(execution_id))


def test_from_another_process(wrecks, tmp_path):
    """While a process is at work, others see how far it has come, and can wait for its end."""
    file = tmp_path / "go"
    child, kit, folder = wrecks.start("it", "execute", ["gated", str(file)])
    until(Log(folder / "log").lines)
    observer = kit.orchestrator()
    (found,) = observer.history()
    assert found.status is ExecutionStatus.RUNNING
    assert found.step_results["a"].status is ExecutionStatus.RUNNING
    assert observer.wait_for(found.execution_id, 0.05).status is ExecutionStatus.RUNNING
    file.touch()
    ended = observer.wait_for(found.execution_id, 10)
    assert ended.status is COMPLETED
    assert ended.started_at == found.started_at
    assert child.told == {"id": found.execution_id}


def test_after_the_process_is_gone(wrecks):
    """A finished execution is all there when its process is not."""
    child, kit, _ = wrecks.run("it", "execute", ["small"])
    found = kit.orchestrator().get_execution_status(child.told["id"])
    assert found.status is ExecutionStatus.ROLLED_BACK
    assert found.step_results["a"].status is ExecutionStatus.ROLLED_BACK
    assert "f does not work" in found.error_message
