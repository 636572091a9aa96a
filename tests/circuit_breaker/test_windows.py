"""The windows against plain lists of calls."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient.circuit_breaker.windows import SLICES, CountWindow, Tally, TimeWindow

CALLS = st.lists(st.tuples(st.booleans(), st.booleans()), max_size=60)


@settings(max_examples=150)
@given(size=st.integers(1, 12), calls=CALLS)
def test_count_window(size, calls):
    """After every call a count window holds the last `size` calls, though only bad ones are ever noted."""
    window = CountWindow(size)
    for number, (failed, slow) in enumerate(calls, 1):
        if failed or slow:
            window.note(number, failed, slow)
        last = calls[max(0, number - size) : number]
        assert window.tally(number) == (len(last), sum(f for f, _ in last), sum(s for _, s in last))
        assert all(len(kept or ()) <= size for kept in (window.failed, window.slow))


@settings(max_examples=100)
@given(size=st.integers(1, 12), smaller=st.integers(1, 12), calls=CALLS)
def test_count_window_shrunk(size, smaller, calls):
    """A window made smaller holds the last calls of the old one, and leaves the old one as it was."""
    window = CountWindow(size)
    for number, (failed, slow) in enumerate(calls, 1):
        if failed or slow:
            window.note(number, failed, slow)
    before = window.tally(len(calls))
    other = window.resized(min(size, smaller), len(calls))
    last = calls[max(0, len(calls) - other.size) :]
    assert other.tally(len(calls)) == (len(last), sum(f for f, _ in last), sum(s for _, s in last))
    assert window.tally(len(calls)) == before


@settings(max_examples=150)
@given(
    duration=st.sampled_from([1.0, 7.0, 60.0]),
    steps=st.lists(st.tuples(st.floats(0, 0.6), st.booleans(), st.booleans()), max_size=60),
)
def test_time_window(duration, steps):
    """A time window holds every call of its duration, and none that is a slice older; it keeps few slices."""
    now, made = 1000.0, []
    window = TimeWindow(duration, now)
    for part, failed, slow in steps:
        now += part * duration
        slice_ = window.turn(now)
        slice_.calls += 1
        slice_.failures += failed
        slice_.slow += slow
        made.append((now, failed, slow))
        held = window.tally()
        grain = duration / SLICES
        assert _within(made, now - duration + 1e-6) <= held.calls <= _within(made, now - duration - grain - 1e-6)
        kept = made[len(made) - held.calls :]
        assert held[1:] == (sum(f for _, f, _ in kept), sum(s for _, _, s in kept))
        assert len(window.slices) <= SLICES + 2


def _within(made, oldest):
    return sum(when > oldest for when, _, _ in made)


def test_time_window_when_the_clock_stands_still():
    """Calls at one and the same moment share one slice."""
    window = TimeWindow(10.0, 5.0)
    assert {id(window.turn(5.0)) for _ in range(20)} == {id(window.now)}


@pytest.mark.parametrize(
    ("tally", "rates"), [(Tally(0, 0, 0), (0.0, 0.0)), (Tally(4, 1, 2), (0.25, 0.5)), (Tally(3, 3, 3), (1.0, 1.0))]
)
def test_tally_rates(tally, rates):
    """Rates are shares of the calls, and 0.0 where there are none."""
    assert (tally.failure_rate, tally.slow_rate) == rates
