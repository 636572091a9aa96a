"""Backoff curves and jitter as pure functions: formulas, caps, spread, and what callables may return."""

import math
from datetime import timedelta

import pytest
import tenacity
from hypothesis import example, given
from hypothesis import strategies as st

from resilient import ConfigurationError
from resilient.retry import backoff as wait

CURVES = st.sampled_from([wait.exponential, wait.linear, wait.fibonacci])
JITTERS = st.sampled_from([True, False, 0.5, 1.0, "full", "equal", "decorrelated"])
SECONDS = st.floats(0, 1e6)


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        (wait.exponential, [1, 3, 9, 27, 50, 50]),
        (wait.linear, [1, 2, 3, 4, 5, 6]),
        (wait.fibonacci, [1, 1, 2, 3, 5, 8]),
    ],
)
def test_curves(curve, expected):
    """Each curve is its documented formula, counted from the first failed attempt, up to the cap."""
    assert [curve(attempt, 1.0, 3.0, 50.0) for attempt in range(1, 7)] == expected


@example(curve=wait.fibonacci, attempt=1476, base=1e-308, multiplier=1.0, cap=2.0)
@given(curve=CURVES, attempt=st.integers(1, 10**6), base=SECONDS, multiplier=st.floats(1, 1e9), cap=SECONDS)
def test_no_attempt_number_breaks_a_curve(curve, attempt, base, multiplier, cap):
    """Every curve is finite, not negative, within the cap, and never falls, for any attempt number."""
    delay = curve(attempt, base, multiplier, cap)
    assert 0 <= delay <= cap
    assert curve(attempt + 1, base, multiplier, cap) >= delay


@pytest.mark.parametrize("curve", [wait.exponential, wait.linear, wait.fibonacci])
@pytest.mark.parametrize(("base", "expected"), [(1.0, 30.0), (0.0, 0.0)])
def test_enormous_attempt_numbers(curve, base, expected):
    """Where numbers overflow the cap holds, and growth from nothing stays nothing."""
    assert curve(10**400, base, 2.0, 30.0) == expected


@given(
    kind=JITTERS,
    delay=st.floats(0, 100),
    base=st.floats(0, 100),
    previous=st.floats(0, 100),
    draw=st.floats(0, 1, exclude_max=True),
)
def test_spread_stays_within_the_cap(kind, delay, base, previous, draw):
    """Jitter never goes above the cap or below zero."""
    cap = 100.0
    assert 0 <= wait.spread(delay, kind, base, previous, cap, lambda: draw) <= cap


@pytest.mark.parametrize("kind", [True, 0.5, "full", "equal", "decorrelated"], ids=str)
def test_spread_at_the_cap(kind):
    """Waits that have reached the cap still differ."""
    waits = {wait.spread(30.0, kind, 0.1, 30.0, 30.0, lambda part=part: part / 10) for part in range(10)}
    assert len(waits) == 10


@pytest.mark.parametrize(
    ("kind", "lowest", "highest"),
    [
        (True, 9.0, 11.0),
        (0.5, 5.0, 15.0),
        ("full", 0.0, 10.0),
        ("equal", 5.0, 10.0),
        ("decorrelated", 1.0, 12.0),
        (False, 10.0, 10.0),
    ],
    ids=str,
)
def test_spread_bounds(kind, lowest, highest):
    """Each kind of jitter spreads over its documented range."""
    low, high = (wait.spread(10.0, kind, 1.0, 4.0, 100.0, lambda draw=draw: draw) for draw in (0.0, 1.0))
    assert (low, high) == pytest.approx((lowest, highest))


@given(
    curve=st.sampled_from(wait.CURVES),
    kind=JITTERS,
    base=st.floats(0, 10),
    draws=st.lists(st.floats(0, 1, exclude_max=True), min_size=12, max_size=12),
)
def test_longest_bounds_every_wait(curve, kind, base, draws):
    """No computed wait is longer than what `longest` announces, which is within `max_delay`."""
    left = iter(draws)
    rule = wait.delay_rule(curve, base, 2.0, 20.0, kind, lambda: next(left))
    previous = 0.0
    for attempt in range(1, 13):
        previous = rule(attempt, previous, None)
        assert previous <= wait.longest(curve, attempt, base, 2.0, 20.0, kind) * (1 + 1e-12) <= 20.0 * (1 + 1e-12)


def test_longest_of_a_callable():
    """Of a callable nothing is known but the cap."""
    assert wait.longest(lambda attempt: 1, 3, 0.1, 2.0, 30.0, False) == 30.0


def test_callables():
    """A callable gets the attempt number and may answer with a number or a timedelta; the cap holds."""
    rule = wait.delay_rule(lambda n: timedelta(seconds=n) if n < 3 else 1000, 0.1, 2.0, 30.0, False, lambda: 0.5)
    assert [rule(n, 0.0, None) for n in (1, 2, 3)] == [1.0, 2.0, 30.0]


@pytest.mark.parametrize("answer", [-1, math.nan, True, "1", None, [1], timedelta(seconds=-1)], ids=str)
def test_callables_that_return_nonsense(answer):
    """A callable's answer that is no duration raises, with the callable and the answer in the message."""

    def my_backoff(attempt):
        return answer

    rule = wait.delay_rule(my_backoff, 0.1, 2.0, 30.0, True, lambda: 0.5)
    shown = answer.total_seconds() if isinstance(answer, timedelta) else answer
    with pytest.raises(ConfigurationError, match="my_backoff") as caught:
        rule(1, 0.0, None)
    assert f"returned {shown!r}" in str(caught.value)


def test_tenacity_waits():
    """A tenacity wait sees the attempt number and the outcome, and the cap holds."""
    rule = wait.delay_rule(tenacity.wait_incrementing(start=5, increment=10), 0.1, 2.0, 12.0, True, lambda: 0.5)
    delays = [rule(n, 0.0, wait.tenacity_state(n, 0.0, 1.0, ValueError(), None)) for n in (1, 2)]
    assert delays == [5.0, 12.0]


def test_tenacity_state():
    """What a tenacity strategy looks at is there: number, outcome, elapsed seconds."""
    error = ValueError()
    state = wait.tenacity_state(3, 10.0, 12.5, error, None)
    assert (state.attempt_number, state.outcome.exception(), state.seconds_since_start) == (3, error, 2.5)
    assert wait.tenacity_state(1, 0.0, 0.0, None, "poor").outcome.result() == "poor"


@pytest.mark.parametrize(
    ("given_value", "delay"),
    [
        (2, 2.0),
        (timedelta(seconds=3), 3.0),
        (0, None),
        (-1, None),
        (math.nan, None),
        (math.inf, None),
        (True, None),
        ("2", None),
        (None, None),
        (timedelta(0), None),
    ],
    ids=str,
)
def test_asked_delay(given_value, delay):
    """An error's `retry_after` counts where it is a finite, positive duration."""
    assert wait.asked_delay(given_value) == delay
