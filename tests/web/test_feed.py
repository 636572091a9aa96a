"""The stream of events: told to each watcher in its own time, and to nobody's harm."""

import json

import pytest

from resilient import circuit_breaker, registry, retry
from resilient.events import ConfigurationChanged, Event, FallbackFailed, RetryScheduled
from resilient.web.feed import plain_event
from resilient.web.messages import Stream

from .asking import body, get, header


def lines(raw):
    """The events of a stream as pairs of name and data."""
    found = []
    for block in raw.decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "event" in fields:
            found.append((fields["event"], json.loads(fields["data"])))
    return found


@pytest.fixture
def stream(app):
    opened = get(app, "/api/events")
    assert isinstance(opened, Stream)
    yield opened
    opened.listener.close()


def test_stream_begins_with_the_snapshot(app):
    """The first event is the snapshot, unless it is not wanted."""
    circuit_breaker("payments")
    for query, expected in (("", "snapshot"), ("snapshot=0", "hello")):
        opened = get(app, "/api/events", query)
        ((name, data),) = lines(opened.first.partition(b"\n\n")[2])
        assert name == expected
        assert ("circuit_breakers" in data) is (expected == "snapshot")
        opened.listener.close()


def test_events_follow_as_they_happen(stream):
    """Each event is a line with the name of its class and its fields."""
    circuit_breaker("payments").isolate()
    ((name, data),) = lines(stream.listener.take())
    assert (name, data["event"], data["name"], data["new"]) == ("change", "CircuitStateChanged", "payments", "isolated")


def test_line_breaks_do_not_make_events(stream):
    """A name that looks like another event stays a name."""
    circuit_breaker('x\n\nevent: snapshot\ndata: {"evil": 1}\n\n').isolate()
    ((name, data),) = lines(stream.listener.take())
    assert name == "change"
    assert data["name"].startswith("x\n\nevent")


def test_events_have_nothing_of_calls_and_options():
    """Results and values of options stay out; errors are their type and text."""
    assert plain_event(RetryScheduled("a", 1, 0.5, None, {"password": 1}))["result"] == "<dict>"
    assert plain_event(RetryScheduled("a", 1, float("inf"), None, 42)) == {
        "event": "RetryScheduled", "name": "a", "attempt": 1, "delay": None, "error": None, "result": "<int>"
    }  # fmt: skip
    assert plain_event(ConfigurationChanged("a", "degrade", {"fallback": "secret"}))["changes"] == ["fallback"]
    assert plain_event(FallbackFailed("a", ValueError("text")))["error"] == "ValueError: text"


def test_every_event_class_becomes_json():
    """Whatever events there are, now and later, become plain JSON."""
    for kind in (one for one in Event.kinds if one.fields is Event.fields):
        event = kind.__new__(kind)
        for cls in kind.__mro__:
            for slot in getattr(cls, "__slots__", ()):
                setattr(event, slot, object())
        event.name = "a"
        assert json.loads(json.dumps(plain_event(event)))["event"] == kind.__name__


def test_slow_watcher_loses_the_oldest_and_is_told(app, stream):
    """A watcher that does not read keeps a bounded number of events, the latest, and is told how many are gone."""
    app.feed.most_streams = 2
    breaker = circuit_breaker("payments")
    for _ in range(200):
        breaker.isolate()
        breaker.reset()
    found = lines(stream.listener.take())
    assert found[0] == ("dropped", {"events": 400 - 256})
    assert len(found) == 257
    assert found[-1][1]["new"] == "closed"


def test_floods_of_calls_are_cut_and_changes_of_state_are_not(app, stream, clock):
    """Of thousands of events in a second some hundreds are told; every change of state is."""
    app.feed.longest_queue = 256
    policy = retry(name="r", max_attempts=2, base_delay=0, on=ConnectionError)

    def fail():
        raise ConnectionError

    for _ in range(700):
        with pytest.raises(ConnectionError):
            policy.call(fail)
    stream.listener.take()
    with pytest.raises(ConnectionError):
        policy.call(fail)
    circuit_breaker("payments").isolate()
    found = lines(stream.listener.take())
    assert [name for name, _ in found] == ["dropped", "change"]
    assert found[1][1]["event"] == "CircuitStateChanged"


def test_one_watcher_does_not_hold_up_another(app, stream):
    """One that never reads changes nothing for the others."""
    other = get(app, "/api/events").listener
    breaker = circuit_breaker("payments")
    for _ in range(300):
        breaker.isolate()
        breaker.reset()
        other.take()
    breaker.isolate()
    assert len(lines(other.take())) == 1
    other.close()


def test_watcher_that_breaks_is_nobodys_business(app, stream):
    """A watcher whose `tell` raises, as its loop is closed, does not reach the guarded call."""

    def closed():
        raise RuntimeError("Event loop is closed")

    stream.listener.tell = closed
    circuit_breaker("payments").isolate()
    assert len(lines(stream.listener.take())) == 1


def test_too_many_streams_are_refused(app):
    """Beyond 64 streams the answer is 503 with Retry-After; a place that is given back is taken again."""
    opened = [get(app, "/api/events", "snapshot=0") for _ in range(64)]
    refused = get(app, "/api/events")
    assert (refused.status, header(refused, "Retry-After")) == (503, "30")
    assert "/api/snapshot" in body(refused)["error"]
    opened[0].listener.close()
    opened[0].listener.close()
    assert get(app, "/api/events").status == 200
    assert app.feed.streams == 64


def test_events_are_not_made_for_nobody(app):
    """The registry is subscribed to while somebody watches, and not before and after."""
    from resilient.events import HUB

    assert RetryScheduled not in HUB.by_type
    opened = get(app, "/api/events", "snapshot=0")
    assert RetryScheduled in HUB.by_type
    opened.listener.close()
    assert RetryScheduled not in HUB.by_type


def test_closing_the_app_ends_streams(app, stream):
    """`close` wakes and ends every stream."""
    app.close()
    assert stream.listener.closed
    assert app.feed.streams == 0
    assert stream.listener.wait(0)


def test_snapshot_that_fails_gives_its_place_back(app, monkeypatch):
    """A stream whose first event cannot be made is an error, and takes no place."""

    def broken():
        raise RuntimeError

    monkeypatch.setattr(app.picture, "as_json", broken)
    assert get(app, "/api/events").status == 500
    assert app.feed.streams == 0


def test_subscribers_of_others_are_left_alone(app, stream):
    """Ending a stream ends no other subscription."""
    heard = []
    with registry.subscribe(heard.append):
        stream.listener.close()
        circuit_breaker("payments").isolate()
    assert len(heard) == 1
