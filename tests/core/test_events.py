"""Events and the hub: fields, order, who is told, and what a failing handler may do."""

import threading

import pytest

from resilient import CircuitOpenError, circuit_breaker, degrade, registry, retry
from resilient.events import (
    HUB,
    CallRejected,
    CircuitStateChanged,
    Event,
    FallbackServed,
    RetryExhausted,
    RetryScheduled,
)

from .helpers import fail, outcome


def collect(*types):
    seen = []
    registry.subscribe(seen.append, *types)
    return seen


def test_fields_and_repr():
    """An event shows its data by field name, its policy's name first, in its repr too."""
    event = CallRejected("b", "bulkhead", "full", 1.5)
    assert event.fields() == {"name": "b", "kind": "bulkhead", "reason": "full", "retry_after": 1.5}
    assert repr(event) == "CallRejected(name='b', kind='bulkhead', reason='full', retry_after=1.5)"


def test_order():
    """Events arrive in the order in which things happened, from the inner policy to the outer one."""
    seen = collect()
    guarded = degrade(fallback="spare")(
        retry(base_delay=0, max_attempts=3, give_up_on=CircuitOpenError)(circuit_breaker(failure_threshold=2)(fail))
    )
    assert [guarded(), guarded()] == ["spare", "spare"]
    assert [type(event) for event in seen] == [
        RetryScheduled,
        CircuitStateChanged,
        RetryScheduled,
        CallRejected,
        FallbackServed,
        CallRejected,
        FallbackServed,
    ]


def test_subscribing_to_some():
    """A handler is told of the classes it named, of subclasses too, of classes made later, and of all by default."""
    some, everything = collect(RetryScheduled), collect()

    class Special(RetryScheduled):
        __slots__ = ()

    for event in (RetryScheduled("n", 1, 0.0), RetryExhausted("n", 1, None, "stop"), Special("n", 2, 0.0)):
        HUB.publish(event)
    Event.kinds.remove(Special)
    assert [type(event).__name__ for event in some] == ["RetryScheduled", "Special"]
    assert len(everything) == 3


def test_unsubscribing():
    """Called, or left as a block, a subscription ends; doing it twice is harmless; nothing is wanted any more."""
    seen = []
    subscription = registry.subscribe(seen.append, CallRejected)
    subscription()
    subscription()
    with registry.subscribe(seen.append, CallRejected) as inside:
        HUB.publish(CallRejected("b", "bulkhead", "full"))
        assert inside.handler == seen.append
    HUB.publish(CallRejected("b", "bulkhead", "full"))
    assert len(seen) == 1
    assert not HUB.wants(CallRejected)


def test_failing_handler(caplog):
    """A handler that raises is logged and counted; the others are told, and the caller sees nothing of it."""
    before = HUB.failures

    def broken(event):
        raise RuntimeError

    registry.subscribe(broken, FallbackServed)
    seen = collect(FallbackServed)
    assert degrade(fallback="spare").call(fail) == "spare"
    assert len(seen) == 1
    assert HUB.failures == before + 1
    assert [record.event for record in caplog.records if record.exc_info] == ["events.handler_failed"]


def test_interrupting_handler():
    """Ctrl-C in a handler is not swallowed."""

    def interrupted(event):
        raise KeyboardInterrupt

    registry.subscribe(interrupted, FallbackServed)
    with pytest.raises(KeyboardInterrupt):
        degrade(fallback="spare").call(fail)


@pytest.mark.parametrize("handler", [None, 3, "print", [print]], ids=str)
def test_handlers_that_cannot_be_called(handler):
    """What cannot be called is refused with its repr."""
    with pytest.raises(TypeError, match="handler") as caught:
        registry.subscribe(handler)
    assert repr(handler) in str(caught.value)


@pytest.mark.parametrize("kind", [int, "CallRejected", CallRejected("b", "bulkhead", "full"), None], ids=str)
def test_kinds_that_are_no_events(kind):
    """What is no event class is refused with its repr, and nothing is subscribed."""
    with pytest.raises(TypeError, match="event types") as caught:
        registry.subscribe(print, CallRejected, kind)
    assert repr(kind) in str(caught.value)
    assert not HUB.wants(CallRejected)


def test_handlers_may_call_and_subscribe():
    """A handler may use the registry, call guarded functions and unsubscribe itself."""
    seen = []

    def handler(event):
        subscription()
        seen.append(registry.snapshot())
        outcome(retry(base_delay=0).call, fail)

    subscription = registry.subscribe(handler, RetryScheduled)
    outcome(retry(base_delay=0).call, fail)
    assert len(seen) == 1


def test_after_fork():
    """In a forked child the hub's lock is free, whoever held it."""
    HUB._lock.acquire()
    HUB.after_fork()
    worker = threading.Thread(target=collect, daemon=True)
    worker.start()
    worker.join(5)
    assert not worker.is_alive()
