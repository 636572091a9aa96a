"""The tally counts every call once, whatever became of it."""

from __future__ import annotations

import time

from resilient.demo.clients import Answer
from resilient.demo.traffic import Second, Tally
from resilient.errors import BulkheadFullError

LIVE, STAND_IN = Answer(1, 5), Answer(1, 0, live=False)


def test_calls_are_sorted_by_second_and_outcome() -> None:
    tally = Tally(time.monotonic() - 2.0)
    for answer in (LIVE, LIVE, STAND_IN, BulkheadFullError("n"), ValueError()):
        tally.call_ended(tally.call_begins(), answer)
    assert tally.made == 5
    assert tally.seconds() == [Second(), Second(), Second(ok=2, fallback=1, rejected=1, failed=1)]
    assert tally.total() == Second(2, 1, 1, 1)
    assert tally.total().total == 5


def test_answers_are_counted_since_a_moment() -> None:
    tally = Tally(time.monotonic())
    for began in (0.5, 1.5, 2.5):
        tally.call_ended(began, LIVE)
    tally.call_ended(3.5, STAND_IN)
    assert tally.ok_since(1.5) == 1


def test_latecomers_go_into_the_last_second() -> None:
    tally = Tally(time.monotonic())
    for began in (0.1, 1.2, 2.001, 2.002):
        tally.call_ended(began, LIVE)
    assert tally.seconds(2) == [Second(ok=1), Second(ok=3)]
    assert tally.seconds(3) == tally.seconds(9) == tally.seconds() == [Second(ok=1), Second(ok=1), Second(ok=2)]
    assert Tally(0.0).seconds(2) == []


def test_a_copy_stays_as_it_was() -> None:
    tally = Tally(time.monotonic())
    tally.call_ended(0.0, LIVE)
    before = tally.total()
    tally.call_ended(0.0, LIVE)
    assert tally.total() - before == Second(ok=1)
