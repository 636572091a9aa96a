"""Events become few and plain lines."""

from __future__ import annotations

import time

import pytest

from resilient.circuit_breaker import CircuitState
from resilient.demo.clients import TASKS, THREADS
from resilient.demo.lines import Line
from resilient.demo.narrator import Narrator, cause, in_words
from resilient.demo.traffic import Second
from resilient.errors import BulkheadFullError, CallTimeoutError, CircuitOpenError
from resilient.events import (
    CallRejected,
    CallTimedOut,
    CircuitStateChanged,
    Event,
    FallbackServed,
    RetryExhausted,
    RetryScheduled,
    RetrySucceeded,
)


@pytest.fixture
def shown() -> list[Line]:
    return []


@pytest.fixture
def narrator(shown: list[Line]) -> Narrator:
    return Narrator(time.monotonic(), shown.append)


@pytest.mark.parametrize(
    ("event", "kind", "words"),
    [
        (
            RetryScheduled("n", 1, 0.05, ConnectionError("answered 503")),
            "retry",
            "attempt 1: answered 503; again in 0.05",
        ),
        (RetrySucceeded("n", 2), "answered", "attempt 2"),
        (CallTimedOut("n", 0.37), "timeout", "0.37 s"),
        (CallRejected("n", "bulkhead", "timeout"), "rejected", "bulkhead"),
        (FallbackServed("n", CircuitOpenError("n", 1.0), "fallback"), "fallback", "breaker is open"),
    ],
)
def test_events_in_words(event: Event, kind: str, words: str) -> None:
    told = in_words(event)
    assert told is not None
    assert told[0] == kind
    assert words in told[1]


@pytest.mark.parametrize(
    "event", [RetryExhausted("n", 3, None, "attempts"), CallRejected("n", "circuit_breaker", "open", 1.0)]
)
def test_what_another_line_says_is_not_said_twice(event: Event) -> None:
    assert in_words(event) is None


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (CircuitOpenError("n"), "the breaker is open"),
        (BulkheadFullError("n"), "the bulkhead is full"),
        (CallTimeoutError("n", 1), "no answer in time"),
        (ConnectionError("connection refused"), "connection refused"),
        (ConnectionError(), "ConnectionError"),
        (None, "no usable answer"),
    ],
)
def test_causes_in_words(error: Exception | None, words: str) -> None:
    assert cause(error) == words


def test_only_the_first_of_a_kind_is_told_until_the_next_phase(narrator: Narrator, shown: list[Line]) -> None:
    for _ in range(50):
        narrator.hear(CallTimedOut("n", 1))
    narrator.tell()
    assert len(shown) == 1
    narrator.announce("the next phase")
    narrator.hear(CallTimedOut("n", 1))
    narrator.tell()
    assert [line.kind for line in shown[1:]] == ["phase", "timeout"]
    assert narrator.counts == {"CallTimedOut": 51}


def test_threads_and_tasks_are_told_apart(narrator: Narrator, shown: list[Line]) -> None:
    for name in (THREADS, TASKS, THREADS):
        narrator.hear(RetrySucceeded(name, 2))
    narrator.tell()
    assert [line.text.partition(",")[0] for line in shown] == ["a thread", "a task"]


def test_every_change_of_the_breaker_is_told(narrator: Narrator, shown: list[Line]) -> None:
    for _ in range(5):
        narrator.hear(CircuitStateChanged("n", CircuitState.CLOSED, CircuitState.OPEN, "8 failures", 1.0))
    narrator.tell()
    assert len(shown) == len(narrator.transitions) == 5
    assert "CLOSED -> OPEN" in shown[0].text
    assert "1.0 s" in shown[0].text
    assert (narrator.transitions[0].old, narrator.transitions[0].new) == ("closed", "open")


def test_probes_are_told_anew_after_each_change(narrator: Narrator, shown: list[Line]) -> None:
    for _ in range(2):
        narrator.hear_probe()
        narrator.hear(CircuitStateChanged("n", CircuitState.OPEN, CircuitState.HALF_OPEN, "time to probe"))
        narrator.hear_probe()
    narrator.tell()
    assert [line.kind for line in shown] == ["probe", "breaker", "probe", "breaker", "probe"]


def test_summary_counts_since_the_one_before(narrator: Narrator, shown: list[Line]) -> None:
    narrator.hear(RetryScheduled("n", 1, 0.1))
    narrator.sum_up(Second(ok=10))
    narrator.sum_up(Second(ok=14, fallback=2, failed=1))
    first, second = (line.text for line in shown if line.kind == "callers")
    assert first.split()[:2] == ["10", "ok"]
    assert "1 retry" in first
    assert second.split()[:4] == ["4", "ok", "2", "fallback"]
    assert "1 failed" in second
    assert "retr" not in second
