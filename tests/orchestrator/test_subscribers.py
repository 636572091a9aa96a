"""Who listens to recoveries: every event in order, in the handler's own thread or loop, and nobody holds up a plan."""

import asyncio
import functools
import logging
import os
import threading
import time
from datetime import UTC

import pytest

from resilient import registry
from resilient.orchestrator import (
    RecoveryEventType,
    RecoveryOrchestrator,
    RecoveryPlan,
    RecoveryReported,
    RecoveryStep,
    StepFailedError,
    subscribers,
)
from resilient.orchestrator.events import RecoveryEvent

Type = RecoveryEventType


@pytest.fixture
def orchestrator():
    with RecoveryOrchestrator() as made:
        made.register_step_executor("fine", lambda step, context: None, rollback=lambda step, context: None)

        def bad(step, context):
            raise OSError("no")

        made.register_step_executor("bad", bad)
        made.register_plan(RecoveryPlan("good", "Good", [RecoveryStep("a", "A", "fine")]))
        steps = [RecoveryStep("a", "A", "fine"), RecoveryStep("b", "B", "bad")]
        made.register_plan(RecoveryPlan("failing", "Failing", steps, dependencies={"b": ["a"]}))
        yield made


def eventually(condition, seconds=5.0):
    """Whether it becomes true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


GOOD = [Type.EXECUTION_STARTED, Type.STEP_STARTED, Type.STEP_COMPLETED, Type.EXECUTION_COMPLETED]


def test_a_handler_gets_everything_in_order(orchestrator):
    """When the plan has ended its handlers have had every event, in order, with all there is to know."""
    events = []
    orchestrator.subscribe(events.append)
    with pytest.raises(StepFailedError) as caught:
        orchestrator.execute_plan("failing")
    assert [(one.event_type, one.step_id) for one in events] == [
        (Type.EXECUTION_STARTED, None),
        (Type.STEP_STARTED, "a"),
        (Type.STEP_COMPLETED, "a"),
        (Type.STEP_STARTED, "b"),
        (Type.STEP_FAILED, "b"),
        (Type.ROLLBACK_STARTED, None),
        (Type.STEP_ROLLBACK_STARTED, "a"),
        (Type.STEP_ROLLED_BACK, "a"),
        (Type.ROLLBACK_COMPLETED, None),
        (Type.EXECUTION_FAILED, None),
    ]
    assert {(one.execution_id, one.plan_id) for one in events} == {(caught.value.execution_id, "failing")}
    assert all(one.timestamp.tzinfo is UTC for one in events)
    elapsed = [one.elapsed for one in events]
    assert elapsed == sorted(elapsed)
    assert 0 <= elapsed[0] <= elapsed[-1] < 60
    assert events[4].data["error"] == "OSError: no"


def test_only_what_was_asked_for(orchestrator):
    """A handler that names types gets those, and another one all."""
    some, everything = [], []
    orchestrator.subscribe(some.append, Type.STEP_STARTED, Type.EXECUTION_COMPLETED)
    orchestrator.subscribe(everything.append)
    orchestrator.execute_plan("good")
    assert [one.event_type for one in some] == [Type.STEP_STARTED, Type.EXECUTION_COMPLETED]
    assert [one.event_type for one in everything] == GOOD


@pytest.mark.parametrize("leave", ["call", "block"])
def test_leaving_ends_it(orchestrator, leave):
    """Whoever calls the subscription, or leaves its block, is told nothing more; doing so twice is harmless."""
    events = []
    subscription = orchestrator.subscribe(events.append)
    if leave == "call":
        orchestrator.execute_plan("good")
        subscription()
    else:
        with subscription:
            orchestrator.execute_plan("good")
    subscription()
    orchestrator.execute_plan("good")
    assert [one.event_type for one in events] == GOOD


def test_one_handler_twice_is_two_subscriptions(orchestrator):
    """A function that is subscribed twice is told twice, and leaving one of them leaves the other."""
    events = []
    first, _ = orchestrator.subscribe(events.append), orchestrator.subscribe(events.append)
    orchestrator.execute_plan("good")
    assert len(events) == 2 * len(GOOD)
    first()
    orchestrator.execute_plan("good")
    assert len(events) == 3 * len(GOOD)


@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit])
def test_a_handler_that_raises_is_told_again(orchestrator, caplog, kind):
    """Whatever a handler raises is logged and counted, reaches no plan, and the next event comes all the same."""
    seen = []

    def handler(event):
        seen.append(event.event_type)
        raise kind("bad handler")

    subscription = orchestrator.subscribe(handler)
    orchestrator.execute_plan("good")
    assert (seen, subscription.failures, subscription.dropped) == (GOOD, 4, 0)
    assert sum("handler of" in one.message for one in caplog.records) >= 1


def test_a_handler_that_hangs_holds_up_nobody(orchestrator, monkeypatch):
    """A hanging handler delays the end of one execution by a moment, later ones not at all, and others are told."""
    monkeypatch.setattr(subscribers, "PATIENCE", 0.5)
    release, others = threading.Event(), []
    hanging = orchestrator.subscribe(lambda event: release.wait(10))
    orchestrator.subscribe(others.append)
    orchestrator.execute_plan("good")
    began = time.monotonic()
    for _ in range(4):
        orchestrator.execute_plan("good")
    assert time.monotonic() - began < 4 * subscribers.PATIENCE
    assert len(others) == 5 * len(GOOD)
    release.set()
    assert eventually(lambda: hanging.drained(1))


def test_what_a_hanging_handler_misses_is_counted(orchestrator, monkeypatch, caplog):
    """Beyond its backlog a hanging handler misses events, which is said once, and counted; then it goes on."""
    monkeypatch.setattr(subscribers, "PATIENCE", 0.01)
    monkeypatch.setattr(subscribers, "BACKLOG", 5)
    release, seen = threading.Event(), []

    def handler(event):
        release.wait(10)
        seen.append(event)

    subscription = orchestrator.subscribe(handler)
    for _ in range(5):
        orchestrator.execute_plan("good")
    assert subscription.dropped in (14, 15)  # whether one is in the handler's hands already
    assert [one.message for one in caplog.records].count("a handler of events hangs; from now on it misses some") == 1
    release.set()
    assert eventually(lambda: len(seen) == 20 - subscription.dropped)
    orchestrator.execute_plan("good")
    assert eventually(lambda: [one.event_type for one in seen[-4:]] == GOOD)


def test_a_handler_may_use_the_orchestrator(orchestrator, monkeypatch):
    """A handler may look at executions, start one, subscribe others and leave, without a deadlock."""
    monkeypatch.setattr(subscribers, "PATIENCE", 0.1)
    found = []

    def handler(event):
        if event.event_type is Type.STEP_COMPLETED and not found:
            found.append(orchestrator.get_execution_status(event.execution_id).plan_id)
            orchestrator.register_plan(RecoveryPlan("other", "Other", [RecoveryStep("a", "A", "fine")]))
            found.append(orchestrator.execute_plan("other"))
            subscription()

    subscription = orchestrator.subscribe(handler)
    orchestrator.execute_plan("good")
    assert eventually(lambda: len(found) == 2)
    assert found[0] == "good"


def test_a_handler_has_one_thread_and_loses_it(orchestrator, monkeypatch):
    """All events of a handler come in one thread of its own, which goes when nothing comes, and comes back."""
    monkeypatch.setattr(subscribers, "IDLE", 0.05)
    threads = []
    orchestrator.subscribe(lambda event: threads.append(threading.current_thread()))
    orchestrator.execute_plan("good")
    assert len(set(threads)) == 1
    assert threads[0] is not threading.main_thread()
    assert eventually(lambda: not threads[0].is_alive())
    orchestrator.execute_plan("good")
    assert len(threads) == 2 * len(GOOD)


# Async handlers


def test_an_async_handler_runs_in_the_loop_it_was_subscribed_in(orchestrator):
    """An async handler that was subscribed in a running loop runs there, and has had everything at the end."""
    seen = []

    async def handler(event):
        await asyncio.sleep(0)
        seen.append((event.event_type, asyncio.get_running_loop()))

    async def main():
        orchestrator.subscribe(handler)
        await orchestrator.aexecute_plan("good")
        assert [kind for kind, _ in seen] == GOOD
        assert {loop for _, loop in seen} == {asyncio.get_running_loop()}

    asyncio.run(main())
    orchestrator.execute_plan("good")
    assert [kind for kind, _ in seen] == 2 * GOOD, "after its loop was closed, it runs elsewhere"


def test_an_async_handler_without_a_loop(orchestrator):
    """An async handler that was subscribed outside of any loop runs all the same; so does an object with one."""
    seen = []

    class Handler:
        async def __call__(self, event):
            await asyncio.sleep(0)
            seen.append(event.event_type)

    async def handler(event):
        seen.append(event.event_type)

    orchestrator.subscribe(Handler(), Type.STEP_STARTED)
    orchestrator.subscribe(handler, Type.EXECUTION_COMPLETED)
    orchestrator.subscribe(functools.partial(handler), Type.EXECUTION_STARTED)
    orchestrator.execute_plan("good")
    assert sorted(seen, key=GOOD.index) == [Type.EXECUTION_STARTED, Type.STEP_STARTED, Type.EXECUTION_COMPLETED]


def test_an_async_handler_may_time_out_itself(orchestrator):
    """A TimeoutError that an async handler raises is its own failure, and the next event comes."""
    seen = []

    async def handler(event):
        seen.append(event.event_type)
        raise TimeoutError

    async def main():
        subscription = orchestrator.subscribe(handler)
        await orchestrator.aexecute_plan("good")
        assert (seen, subscription.failures) == (GOOD, 4)

    asyncio.run(main())


def test_an_async_handler_whose_loop_goes_away_in_the_middle(orchestrator):
    """When the loop is closed under a handler, that is a failure of one event, and later ones are handled elsewhere."""
    seen = []

    async def handler(event):
        seen.append(event.event_type)
        if event.event_type is Type.EXECUTION_STARTED and len(seen) == 1:
            await asyncio.sleep(30)

    async def main():
        subscription = orchestrator.subscribe(handler)
        await orchestrator.astart_plan("good")
        while not seen:
            await asyncio.sleep(0.005)
        return subscription

    subscription = asyncio.run(main())
    assert eventually(lambda: seen == GOOD)
    assert subscription.failures in (1, 2)  # on a slow machine the next one may have begun there, too


# What may be subscribed


@pytest.mark.parametrize("handler", [None, "print", 5], ids=repr)
def test_a_handler_is_callable(orchestrator, handler):
    """What cannot be called is refused by its value."""
    with pytest.raises(TypeError, match=f"handler must be callable, not {handler!r}"):
        orchestrator.subscribe(handler)


@pytest.mark.parametrize("kind", ["STEP_STARTED", "step_started", Type, None], ids=str)
def test_types_are_members(orchestrator, kind):
    """What is no type of event is refused by its value, and nothing is subscribed."""
    seen = []
    with pytest.raises(TypeError, match="event types are members of RecoveryEventType, not "):
        orchestrator.subscribe(seen.append, Type.STEP_STARTED, kind)
    orchestrator.execute_plan("good")
    assert seen == []


# The other ways to listen


def test_the_hub_of_the_package_hears_too(orchestrator):
    """Who listens to the registry gets the same events, under the plan's name."""
    seen = []
    with registry.subscribe(seen.append, RecoveryReported):
        orchestrator.execute_plan("good")
    assert [one.event.event_type for one in seen] == GOOD
    assert {one.name for one in seen} == {"good"}


def test_the_log_tells_the_story(orchestrator, caplog):
    """Each event is a line of the log with plan, execution and the error that is behind it."""
    with caplog.at_level(logging.INFO, "resilient.orchestrator"), pytest.raises(StepFailedError) as caught:
        orchestrator.execute_plan("failing")
    lines = [one.message for one in caplog.records]
    assert f"failing: step failed b ({caught.value.execution_id}): OSError: no" in lines
    assert f"failing: execution started ({caught.value.execution_id})" in lines


def test_events_do_not_carry_parameters(orchestrator):
    """No event holds the parameters of the execution, which may be secrets."""
    seen = []
    orchestrator.subscribe(seen.append)
    orchestrator.execute_plan("good", {"password": "hunter2"})
    assert "hunter2" not in repr(seen)


def test_a_forked_child_listens_with_a_thread_of_its_own(orchestrator):
    """In a forked child a handler is told what happens there, once, and nothing of what its parent had under way."""
    seen = []
    orchestrator.subscribe(seen.append)
    orchestrator.execute_plan("good")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            orchestrator.execute_plan("good")
            code = 0 if [one.event_type for one in seen] == 2 * GOOD else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len(seen) == len(GOOD)


def test_an_event_is_fixed():
    """An event cannot be changed by one handler before the next one sees it."""
    event = RecoveryEvent(Type.STEP_STARTED, "e", "p", "s", None)
    with pytest.raises(AttributeError):
        event.step_id = "other"
