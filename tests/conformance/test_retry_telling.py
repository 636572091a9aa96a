"""Retry: its budget, what it tells, and what it refuses."""

import logging

import pytest

from resilient import ConfigurationError, RetryBudget, retry

from .helpers import Failing, outcome
from .kinds import Script

# Budget


def test_budget_bounds_the_retries(face, sleeps):
    """A budget of one fifth lets about one retry pass for five calls."""
    body = Failing()
    guarded = retry(max_attempts=3, base_delay=0, budget=RetryBudget(ratio=0.2, min_per_second=0))(face.function(body))
    for _ in range(100):
        assert isinstance(outcome(face.call, guarded), ConnectionError)
    assert 10 <= body.calls - 100 <= 25


def test_budget_is_shared(face, sleeps):
    """Two policies with one budget draw from the same."""
    budget, body = RetryBudget(ratio=0.2, min_per_second=0), Failing()
    first, second = (retry(max_attempts=3, base_delay=0, budget=budget)(face.function(body)) for _ in range(2))
    for _ in range(50):
        outcome(face.call, first)
        outcome(face.call, second)
    assert 10 <= body.calls - 100 <= 25


def test_budget_grants_a_minimum(clock, face, sleeps):
    """`min_per_second` retries pass in every second, however few calls there are."""
    body = Failing()
    policy = retry(max_attempts=2, base_delay=0, budget=RetryBudget(ratio=0, min_per_second=5))
    guarded = policy(face.function(body))
    for _ in range(40):
        outcome(face.call, guarded)
    first = body.calls - 40
    clock.tick(1)
    for _ in range(40):
        outcome(face.call, guarded)
    assert 1 <= first <= 10
    assert 1 <= body.calls - 80 - first <= 10


# Telling


def test_on_retry_gets_one_event(face, sleeps):
    """`on_retry` is given one event before each wait: name, attempt, delay, error."""
    events = []
    error = ConnectionError("down")
    policy = retry(base_delay=1, jitter=False, on_retry=events.append, name="r")
    outcome(face.via, policy, face.function(Failing(error)))
    assert [(event.name, event.attempt, event.delay) for event in events] == [("r", 1, 1.0), ("r", 2, 2.0)]
    assert all(event.error is error for event in events)


def test_on_retry_errors_are_logged(face, sleeps, caplog):
    """An `on_retry` that raises is logged; the caller never sees it."""

    def broken(event):
        raise LookupError("broken hook")

    script = Script(failures=1)
    assert face.via(retry(on_retry=broken), face.function(script.step)) == "ok"
    assert "broken hook" in caplog.text


def test_retries_are_logged(face, sleeps, caplog):
    """Each retry is logged with attempt, delay and error; the final failure as an error."""
    caplog.set_level(logging.DEBUG)
    outcome(face.via, retry(base_delay=3, jitter=False, name="r"), face.function(Failing(ConnectionError("down"))))
    ours = [record for record in caplog.records if record.name.startswith("resilient")]
    retries = [record.getMessage() for record in ours if record.levelno < logging.ERROR]
    assert len(retries) == 2
    assert all("down" in message and "r" in message for message in retries)
    for message, attempt, delay in zip(retries, "12", "36", strict=True):
        assert attempt in message
        assert delay in message
    assert len([record for record in ours if record.levelno == logging.ERROR]) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"max_attempts": 0},
        {"base_delay": -1},
        {"max_delay": -1},
        {"jitter": "sometimes"},
        {"backoff": "cubic"},
        {"max_elapsed": -1},
        {"base_delay": float("nan")},
    ],
    ids="-".join,
)
def test_bad_values_are_refused(options):
    """A value that makes no sense raises ConfigurationError when the policy is made."""
    with pytest.raises(ConfigurationError):
        retry(**options)
