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
    (events.RetryScheduled("n", 1, 0.5, ERROR), "retry.scheduled", "retry", "WARNING", {"attempt": 1, "delay": 0.5}),
    (
        events.RetryScheduled("n", 1, 0.5, None, ["poor"]),
        "retry.scheduled",
        "retry",
        "WARNING",
        {"error": None, "result": "<list>"},
    ),
    (
        events.RetryExhausted("n", 3, ERROR, "attempts"),
        "retry.exhausted",
        "retry",
        "ERROR",
        {"attempts": 3, "reason": "attempts", "kind": "retry"},
    ),
    (events.RetrySuppressed("n", ERROR), "retry.suppressed", "retry", "DEBUG", {"error": "ConnectionError: gone"}),
    (
        events.CircuitStateChanged("n", CircuitState.CLOSED, CircuitState.OPEN, "why", 5.0),
        "circuit_breaker.state_changed",
        "circuit_breaker",
        "WARNING",
        {"old": "closed", "new": "open", "reason": "why", "retry_after": 5.0, "kind": "circuit_breaker"},
    ),
    (
        events.CircuitStateChanged("n", CircuitState.CLOSED, CircuitState.ISOLATED, "isolated"),
        "circuit_breaker.state_changed",
        "circuit_breaker",
        "WARNING",
        {"new": "isolated"},
    ),
    (
        events.CircuitStateChanged("n", CircuitState.HALF_OPEN, CircuitState.CLOSED, "why"),
        "circuit_breaker.state_changed",
        "circuit_breaker",
        "INFO",
        {"old": "half_open", "new": "closed", "retry_after": None},
    ),
    (
        events.CallRejected("n", "bulkhead", "full"),
        "call.rejected",
        "rejected",
        "DEBUG",
        {"kind": "bulkhead", "reason": "full"},
    ),
    (
        events.CallTimedOut("n", 2.0, 1),
        "call.timed_out",
        "timeout",
        "DEBUG",
        {"limit": 2.0, "abandoned": 1, "kind": "timeout"},
    ),
    (
        events.FallbackServed("n", ERROR, "cache"),
        "degrade.fallback_served",
        "degrade",
        "DEBUG",
        {"source": "cache", "kind": "degrade"},
    ),
    (
        events.FallbackFailed("n", ERROR),
        "degrade.fallback_failed",
        "degrade",
        "WARNING",
        {"error": "ConnectionError: gone"},
    ),
    (
        events.ConfigurationChanged("n", "retry", {"max_attempts": 5}),
        "configuration.changed",
        "registry",
        "INFO",
        {"kind": "retry", "changes": ["max_attempts"]},
    ),
]


@pytest.mark.parametrize(("event", "name", "room", "level", "fields"), CASES, ids=lambda thing: type(thing).__name__)
def test_records(event, name, room, level, fields, caplog):
    """Each event becomes one record of its room's logger, with its level, its fields in `extra`, and no exception."""
    caplog.set_level(logging.DEBUG, "resilient")
    log_event(event)
    (record,) = caplog.records
    assert (record.name, record.levelname, record.exc_info) == (f"resilient.{room}", level, None)
    assert (record.event, record.policy, record.suppressed) == (name, "n", 0)
    assert {name: getattr(record, name) for name in fields} == fields
    assert "n" in record.getMessage()
    assert set(event.fields()) - {"name"} <= set(vars(record))
    json.dumps({name: getattr(record, name) for name in event.fields() if name != "name"})


def test_successes_are_not_logged(caplog):
    """A success after a failure has had its line already, when the failure was told."""
    caplog.set_level(logging.DEBUG, "resilient")
    log_event(events.RetrySucceeded("n", 2))
    assert caplog.records == []


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
    assert [record.event for record in reader.records] == ["retry.scheduled"] * 2 + ["retry.exhausted"]


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


def test_a_log_of_warnings(caplog):
    """A log at WARNING, as it is unless somebody sets another level, has a breaker's opening, and not its closing."""
    caplog.set_level(logging.WARNING, "resilient")
    breaker = circuit_breaker("b")
    breaker.isolate()
    breaker.reset()
    assert [record.new for record in caplog.records] == ["isolated"]


def test_every_event_has_a_line_or_none_on_purpose():
    """New events are either logged or in this short list of silent ones."""
    own = {kind for kind in events.Event.kinds if kind.__module__ == "resilient.events"}
    assert own - set(LINES) == {events.RetrySucceeded}


WORD = "hunter2"


@pytest.mark.parametrize(
    "event",
    [
        events.RetryScheduled("n", 1, 0.5, None, WORD),
        events.RetryScheduled("n", 1, 0.5, None, 4711),
        events.ConfigurationChanged("n", "degrade", {"fallback": WORD, "on": 4711}),
    ],
)
def test_results_and_options_stay_out(event, caplog):
    """What a call has returned, and what an option is set to, are not in the record, whatever their types."""
    caplog.set_level(logging.DEBUG, "resilient")
    log_event(event)
    (record,) = caplog.records
    assert WORD not in repr(vars(record))
    assert "4711" not in repr({**vars(record), "created": 0, "msecs": 0, "relativeCreated": 0, "thread": 0})


def test_arguments_stay_out(caplog):
    """The arguments of calls that are retried, rejected and answered otherwise are in no record."""
    caplog.set_level(logging.DEBUG)

    @degrade(fallback=None, cache={}, key=lambda password: 1 / 0)
    @retry(max_attempts=2, base_delay=0, on=ConnectionError)
    @circuit_breaker(failure_threshold=2)
    @timeout(5)
    def sign_in(password):
        raise ConnectionError

    for _ in range(3):
        sign_in(WORD)
    events_seen = {record.event for record in caplog.records if hasattr(record, "event")}
    assert events_seen >= {"retry.scheduled", "call.rejected", "degrade.fallback_served", "degrade.cache_failed"}
    assert WORD not in "\n".join(repr(vars(record)) for record in caplog.records)


@pytest.mark.parametrize("text", ["one\ntwo", "one\r\n2026 ERROR forged", "\x1b[31m", "\u2028", "\ud800", "\x85"])
def test_one_record_is_one_line(text, caplog):
    """Line breaks and control characters in an error's text are written as escapes, in the message and the field."""
    caplog.set_level(logging.DEBUG, "resilient")
    log_event(events.RetrySuppressed("n", ValueError(text)))
    (record,) = caplog.records
    for written in (record.getMessage(), record.error):
        assert len(written.splitlines()) == 1
        assert written.encode().decode().isprintable()


def test_long_texts_are_cut(caplog):
    """Of an error's text, 500 characters are logged."""
    log_event(events.RetryExhausted("n", 3, ValueError("x" * 10_000), "attempts"))
    (record,) = caplog.records
    assert record.error == f"ValueError: {'x' * 499}…"
    assert len(record.getMessage()) < 700


def test_error_without_text(caplog):
    """An error whose text cannot be made is logged all the same."""

    class Strange(Exception):
        def __str__(self):
            raise RuntimeError

    log_event(events.RetryExhausted("n", 3, Strange(), "attempts"))
    assert [record.error for record in caplog.records] == ["Strange: its text could not be made"]


def test_percent_signs(caplog):
    """What looks like a placeholder in a name or a text is none."""
    log_event(events.RetryExhausted("100%s", 3, ValueError("%d%%"), "attempts"))
    assert "100%s: given up" in caplog.text
    assert "(ValueError: %d%%)" in caplog.text


def test_no_field_has_the_name_of_a_record_attribute():
    """The fields of all events can be put into a record, which refuses to have its own attributes replaced."""
    own = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "event", "suppressed"}
    fields = {slot for kind in LINES for slot in kind.__slots__ if kind.__name__ != "RecoveryReported"}
    assert fields & own == set()


def test_failures_have_the_same_attributes(caplog):
    """Records of what is no event have event, policy and kind too, the error in words, and its traceback."""
    outcome(retry(base_delay=0, name="r", max_attempts=2, on_retry=lambda event: 1 / 0).call, fail)
    (record,) = [one for one in caplog.records if one.exc_info]
    assert (record.event, record.policy, record.kind) == ("retry.on_retry_failed", "r", "retry")
    assert (record.error, record.suppressed) == ("ZeroDivisionError: division by zero", 0)


class Broken(logging.Handler):
    """A handler that raises instead of calling `handleError`."""

    def emit(self, record):
        raise RuntimeError


def test_logging_never_breaks_a_call():
    """A log handler that raises changes nothing for the caller of a guarded function."""
    with handlers("resilient", Broken()):
        assert isinstance(outcome(retry(base_delay=0, max_attempts=1).call, fail), ConnectionError)
