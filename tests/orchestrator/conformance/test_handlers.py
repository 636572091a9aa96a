"""Whoever listens is told everything in order, and can hold up nothing."""

import asyncio
import threading
import time

import pytest

from resilient.orchestrator import ExecutionStatus, RecoveryEventType

from .helpers import Heard, plan, step, steps_that, until

COMPLETED = ExecutionStatus.COMPLETED


@pytest.fixture
def heard(bench):
    made = Heard()
    bench.orchestrator.subscribe(made)
    return made


def test_only_what_was_asked_for(bench):
    """A handler for some types hears of no others; without types, of all."""
    some, everything = Heard(), Heard()
    wanted = {RecoveryEventType.STEP_STARTED, RecoveryEventType.EXECUTION_COMPLETED}
    bench.orchestrator.subscribe(some, *wanted)
    bench.orchestrator.subscribe(everything)
    bench.run(step("a"), step("b"))
    assert [one for one in everything if one.event_type in wanted] == some
    assert len(some) == 3


def test_a_handler_that_fails(bench, heard, caplog):
    """A handler that raises is logged, hears of all the rest, and nobody else notices."""
    told = []

    def bad(event):
        told.append(event)
        raise ValueError("bad handler")

    subscription = bench.orchestrator.subscribe(bad)
    found, error = bench.run(step("a"))
    assert error is None
    assert found.status is COMPLETED
    assert told == heard
    assert len(told) == 4
    assert subscription.failures == 4
    assert "bad handler" in caplog.text


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_a_handler_that_wants_to_end_everything(bench, heard, kind):
    """Not even SystemExit in a handler ends anything but that call."""

    def bad(event):
        raise kind

    bench.orchestrator.subscribe(bad)
    found, error = bench.run(step("a"))
    assert error is None
    assert found.status is COMPLETED
    assert len(heard) == 4


def test_a_handler_that_hangs(bench, heard):
    """A handler that never returns holds up neither the plan nor other handlers; what it missed is there later."""
    go, told = threading.Event(), Heard()

    def hang(event):
        go.wait(30)
        told(event)

    bench.orchestrator.subscribe(hang)
    before = time.monotonic()
    found, _ = bench.run(step("a"), step("b"))
    assert time.monotonic() - before < 5.0
    assert found.status is COMPLETED
    assert len(heard) == 6
    assert told == []
    go.set()
    until(lambda: len(told) == 6)
    assert told == heard


def test_a_slow_handler(bench):
    """Who waits for an execution finds its events handled, if that takes no longer than a moment."""
    told = []

    def slow(event):
        time.sleep(0.02)
        told.append(event)

    bench.orchestrator.subscribe(slow)
    bench.run(step("a"))
    assert len(told) == 4


def test_async_handlers(bench):
    """An async handler runs in the loop in which it was subscribed, in order."""
    told = []

    async def main():
        loop = asyncio.get_running_loop()

        async def handler(event):
            assert asyncio.get_running_loop() is loop
            await asyncio.sleep(0.001)
            told.append(event.event_type.name)

        bench.orchestrator.subscribe(handler)
        bench.orchestrator.register_plan(plan(step("a", "awork")))
        await bench.orchestrator.aexecute_plan("plan")
        return list(told)

    expected = ["EXECUTION_STARTED", "STEP_STARTED", "STEP_COMPLETED", "EXECUTION_COMPLETED"]
    assert asyncio.run(main()) == expected


def test_an_async_handler_without_a_loop(bench):
    """An async handler that was subscribed outside any loop is awaited, too."""
    told = []

    async def handler(event):
        await asyncio.sleep(0)
        told.append(event.event_type.name)

    bench.orchestrator.subscribe(handler)
    bench.run(step("a"))
    assert len(told) == 4


@pytest.mark.parametrize("leave", ["call", "with"])
def test_unsubscribing(bench, heard, leave):
    """Who has left hears no more, and may leave twice."""
    other = Heard()
    subscription = bench.orchestrator.subscribe(other)
    bench.run(step("a"))
    if leave == "call":
        subscription()
    else:
        with subscription:
            pass
    subscription()
    bench.run(step("a"))
    assert len(other) == 4
    assert len(heard) == 8


def test_a_handler_may_act(bench):
    """A handler may ask the orchestrator for anything, also to approve."""
    orchestrator = bench.orchestrator

    def approve(event):
        orchestrator.approve(event.execution_id, event.step_id, by="the handler")

    orchestrator.subscribe(approve, RecoveryEventType.APPROVAL_REQUESTED)
    found, error = bench.run(step("a"), step("yes", "approval"), step("z"))
    assert error is None
    assert found.step_results["yes"].output["by"] == "the handler"


def test_what_is_told_is_written(bench):
    """No event comes before the journal has what it tells: a handler that looks always finds it."""
    missing = []

    def look(event):
        if event.step_id not in steps_that(bench.orchestrator, event.execution_id, "done"):
            missing.append(event.step_id)

    bench.orchestrator.subscribe(look, RecoveryEventType.STEP_COMPLETED)
    bench.run(*(step(f"s{number}") for number in range(8)), chain=False, max_parallel=8)
    assert missing == []
