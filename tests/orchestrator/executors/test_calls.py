"""Functions of users are called in threads that can be left behind."""

import asyncio
import threading

import pytest

from resilient.orchestrator.executors.calls import Call, call, with_context
from resilient.orchestrator.executors.failures import ActionStoppedError, pause

from .helpers import Stop, context


def test_abandoned_before_it_began():
    """An async call that is abandoned before its event loop runs is cancelled at its first wait."""
    begin, cancelled = threading.Event(), threading.Event()

    async def hang():
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    def slow_to_begin():
        begin.wait(10)
        return hang()

    running = Call(slow_to_begin)
    running.abandon()
    begin.set()
    assert cancelled.wait(10)


def test_stopped_async_call():
    """An async call is cancelled when its step is stopped, and whoever wants to know is told."""
    cancelled, told, stop = threading.Event(), [], Stop()

    async def hang():
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    with pytest.raises(ActionStoppedError, match="work: stopped half-way"):
        call(hang, context(stopped=stop), on_stop=lambda: told.append(1))
    assert stop.ago < 0.2
    assert cancelled.wait(10)
    assert told == [1]


def test_context_only_for_position():
    """A context that can be given by position alone is given so, and a built-in function gets none."""

    def ask(context, /):
        return context.step_id

    assert with_context(ask, context())() == "work"
    assert with_context(dict, context())() == {}


def test_pause():
    """A pause ends as soon as the step is stopped."""
    stop = Stop()
    with pytest.raises(ActionStoppedError):
        pause(context(stopped=stop), 10)
    assert stop.ago < 0.2
