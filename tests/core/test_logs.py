"""What is logged, by whom, at which level, with which fields; and what is not."""

import contextlib
import json
import logging

import pytest

from resilient import CircuitState, bulkhead, circuit_breaker, degrade, events, retry, timeout
from resilient.events import HUB
from resilient.logs import LINES, log_event

from .helpers import fail, outcome, run

ERROR = ConnectionError("gone")
CASES = [
    (events.RetryScheduled("n", 1, 0.5, ERROR), "retry", "WARNING", {"attempt": 1, "delay": 0.5}),
    (events.RetryScheduled("n", 1, 0.5, None, ["poor"]), "retry", "WARNING", {"error": None, "result": "<list>"}),
    (events.RetryExhausted("n", 3, ERROR, "attempts"), "retry", "ERROR", {"attempts": 3, "reason": "attempts"}),
    (events.RetrySuppressed("n", ERROR), "retry", "DEBUG", {"error": "ConnectionError: gone"}),
    (
        events.CircuitStateChanged("n", CircuitState.CLOSED, CircuitState.OPEN, "why", 5.0),
        "circuit_breaker",
        "WARNING",
        {"old": "closed", "new": "open", "reason": "why", "retry_after": 5.0},
    ),
    (
        events.CircuitStateChanged("n", CircuitState.CLOSED, CircuitState.ISOLATED, "isolated"),
        "circuit_breaker",
        "WARNING",
        {"new": "isolated"},
    ),
    (
        events.CircuitStateChanged("n", CircuitState.HALF_OPEN, CircuitState.CLOSED, "why"),
        "circuit_breaker",
        "INFO",
        {"old": "half_open", "new": "closed", "retry_after": None},
    ),
    (events.CallTimedOut("n", 2.0, 1), "timeout", "DEBUG", {"limit": 2.0, "abandoned": 1}),
    (events.FallbackServed("n", ERROR, "cache"), "degrade", "DEBUG", {"source": "cache"}),
    (events.FallbackFailed("n", ERROR), "degrade", "WARNING", {"error": "ConnectionError: gone"}),
    (
        events.ConfigurationChanged("n", "retry", {"max_attempts": 5}),
        "registry",
        "INFO",
        {"kind": "retry", "changes": "<dict>"},
    ),
]


@pytest.mark.parametrize(("event", "room", "level", "fields"), CASES, ids=lambda thing: type(thing).__name__)
def test_records(event, room, level, fields, caplog):
    """Each event becomes one record of its room's logger, with its level, its fields in `extra`, and no exception."""
    caplog.set_level(logging.DEBUG, "resilient")
    log_event(event)
    (record,) = caplog.records
    assert (record.name, record.levelname, record.exc_info) == (f"resilient.{room}", level, None)
    assert (record.event, record.policy) == (type(event).__name__, "n")
    assert {name: getattr(record, name) for name in fields} == fields
    assert "n" in record.getMessage()
    assert set(event.fields()) - {"name"} <= set(vars(record))
    json.dumps({name: getattr(record, name) for name in event.fields() if name != "name"})


def test_successes_are_not_logged(caplog):
    """A success after a failure has had its line already, when the failure was told."""
    caplog.set_level(logging.DEBUG, "resilient")
    log_event(events.RetrySucceeded("n", 2))
    assert caplog.records == []


def test_rejections_are_for_debugging(caplog):
    """Rejections reach their callers as exceptions, and the log at DEBUG."""
    caplog.set_level(logging.DEBUG, "resilient")
    log_event(events.CallRejected("n", "bulkhead", "full"))
    assert [(record.name, record.levelname) for record in caplog.records] == [("resilient.rejected", "DEBUG")]


@pytest.mark.parametrize("face", ["sync", "async"])
def test_silent_success(face, caplog):
    """A call that simply succeeds is logged by no policy at any level."""
    caplog.set_level(logging.DEBUG)
    policies = [retry(), circuit_breaker(), bulkhead(), timeout(5), degrade(fallback=1, cache={})]

    async def answer():
        return 1

    for policy in policies:
        assert (policy.call(int) if face == "sync" else run(policy.acall(answer))) in (0, 1)
    assert [record for record in caplog.records if record.name.startswith("resilient")] == []


class Reader(logging.Handler):
    """A handler that keeps what it is given."""

    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        self.records.append(record)


@contextlib.contextmanager
def handlers(where, *added):
    """Leave nothing but what the package itself adds, its NullHandler, and these."""
    loggers = [logging.getLogger(name) for name in (None, "resilient", "resilient.retry")]
    before = [logger.handlers for logger in loggers]
    for logger in loggers:
        logger.handlers = [one for one in logger.handlers if type(one) is logging.NullHandler]
    logging.getLogger(where).handlers.extend(added)
    try:
        yield
    finally:
        for logger, old in zip(loggers, before, strict=True):
            logger.handlers = old


def test_nobody_listens(capsys, monkeypatch):
    """Without handlers and subscribers no event is built, and nothing reaches the terminal."""
    built = []
    monkeypatch.setattr(events.RetryScheduled, "__init__", lambda *_: built.append(1))
    with handlers(None):
        assert not HUB.wants(events.RetryScheduled)
        assert isinstance(outcome(retry(base_delay=0).call, fail), ConnectionError)
    assert built == []
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("where", [None, "resilient", "resilient.retry"])
def test_somebody_listens(where):
    """A handler at the root, at the package or at the room is enough, and gets each record once."""
    reader = Reader()
    with handlers(where, reader):
        outcome(retry(base_delay=0).call, fail)
    assert [record.event for record in reader.records] == ["RetryScheduled"] * 2 + ["RetryExhausted"]


def test_propagation_switched_off(monkeypatch):
    """Where the package's logger does not propagate, handlers above it are no listeners."""
    monkeypatch.setattr(logging.getLogger("resilient"), "propagate", False)
    reader = Reader()
    with handlers(None, reader):
        assert not HUB.wants(events.RetryScheduled)
        outcome(retry(base_delay=0).call, fail)
    assert reader.records == []


def test_level_switched_off(caplog):
    """Events below the logger's level are not built."""
    caplog.set_level(logging.ERROR, "resilient.retry")
    with handlers(None, Reader()):
        assert not HUB.wants(events.RetryScheduled)
        assert HUB.wants(events.RetryExhausted)


def test_every_event_has_a_line_or_none_on_purpose():
    """New events are either logged or in this short list of silent ones."""
    own = {kind for kind in events.Event.kinds if kind.__module__ == "resilient.events"}
    assert own - set(LINES) == {events.RetrySucceeded}


class Broken(logging.Handler):
    """A handler that raises instead of calling `handleError`."""

    def emit(self, record):
        raise RuntimeError


def test_logging_never_breaks_a_call():
    """A log handler that raises changes nothing for the caller of a guarded function."""
    with handlers("resilient", Broken()):
        assert isinstance(outcome(retry(base_delay=0, max_attempts=1).call, fail), ConnectionError)
