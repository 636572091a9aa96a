"""The retry budget: what it never exceeds, what it always allows, and what it counts."""

import math
import threading
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient import ConfigurationError, RetryBudget, retry
from resilient.retry.budget import BudgetState

STEPS = st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.7, 1.0, 4.0, 25.0]), st.integers(0, 30), st.integers(0, 12)))
SHAPES = {"ratio": st.sampled_from([0.0, 0.1, 0.5, 1.0]), "floor": st.sampled_from([0.0, 0.5, 1.0, 3.0])}
WINDOW = 10.0


@settings(max_examples=200)
@given(steps=STEPS, **SHAPES)
def test_never_more_than_ratio_and_floor(steps, ratio, floor):
    """In every window the retries granted stay within the ratio of its calls (and a slice more) plus the floor."""
    state, now, calls = BudgetState(ratio, floor, WINDOW, 0.0), 0.0, 0
    made, granted = [], []
    for seconds, more, wanted in steps:
        now += seconds
        calls += more
        made += [now] * more
        state.look(now, calls)
        granted += [now for _ in range(wanted) if state.take(now, calls)]
    for end in granted:
        spent = sum(end - WINDOW < when <= end for when in granted)
        seen = sum(end - WINDOW * 1.1 - 1e-6 <= when <= end for when in made)
        bucket = max(1.0, floor) + floor * WINDOW if floor else 0.0
        assert spent <= ratio * seen + bucket + 1e-6


@settings(max_examples=100)
@given(steps=STEPS, **SHAPES)
def test_available_is_what_can_be_taken(steps, ratio, floor):
    """What is shown as available can really be taken, and not one more; taking costs one."""
    state, now, calls = BudgetState(ratio, floor, WINDOW, 0.0), 0.0, 0
    for seconds, more, _ in steps:
        now += seconds
        calls += more
        available = state.look(now, calls)
        assert available >= 0
        assert state.look(now, calls) == pytest.approx(available), "looking costs nothing"
        assert state.look(now, calls + 1) >= available - 1e-9, "another call never makes it poorer"
        calls += 1
        before = state.look(now, calls)
        taken = 0
        while state.take(now, calls):
            taken += 1
            assert taken < 1000
        # Each of the two purses pays whole retries only.
        assert before - 2 - 1e-6 <= taken <= before + 1e-6
        assert not state.take(now, calls)


@given(floor=st.floats(0.1, 50), quiet=st.floats(0, 1000))
def test_floor_in_quiet_times(floor, quiet):
    """The floor saves up one second's worth, at least one retry, and no more however long it is quiet."""
    state = BudgetState(0.0, floor, WINDOW, 0.0)
    while state.take(0.0, 0):
        pass
    available = state.look(quiet, 0)
    assert available <= max(1.0, floor) + 1e-9
    assert quiet < 1 / floor or state.take(quiet + 1e-6, 0)


def test_clock_that_goes_back():
    """A clock that goes back gives nothing away and breaks nothing."""
    state = BudgetState(0.0, 1.0, WINDOW, 100.0)
    assert state.take(100.0, 0)
    assert not state.take(50.0, 0)


def test_state_keeps_few_slices():
    """However many calls and seconds pass, the state stays small."""
    state = BudgetState(0.2, 1.0, WINDOW, 0.0)
    for number in range(5000):
        state.take(number * 0.05, number * 3)
        assert len(state.slices) <= 12


BAD = [
    *(("ratio", value) for value in [-0.1, 1.1, math.nan, math.inf, True, "0.2", [0.2], None]),
    *(("min_per_second", value) for value in [-1, math.nan, math.inf, True, "1", [1], None]),
    *(("window", value) for value in [0, -1, math.nan, math.inf, True, "1", [1], None, timedelta(0)]),
]


@pytest.mark.parametrize(("option", "value"), BAD, ids=lambda thing: str(thing)[:30])
def test_bad_values(option, value):
    """A value that cannot work is a ConfigurationError that names the option and the value."""
    with pytest.raises(ConfigurationError) as caught:
        RetryBudget(**{option: value})
    shown = value.total_seconds() if isinstance(value, timedelta) else value
    assert str(caught.value).startswith(f"{option}={shown!r}: ")


def test_metrics(clock):
    """A budget shows the calls of the retries that share it, what it granted and refused, and what is left."""
    budget = RetryBudget(0.0, 1, window=10)
    policies = [retry(budget=budget, base_delay=0, max_attempts=3) for _ in range(2)]
    for policy in policies:
        with pytest.raises(ZeroDivisionError):
            policy.call(divmod, 1, 0)
    assert budget.get_metrics() == (2, 1, 2, 0.0)
    clock.tick(0.5)
    assert budget.get_metrics().available == pytest.approx(0.5)
    assert repr(budget) == "RetryBudget(ratio=0, min_per_second=1, window=10)"


def test_after_fork():
    """In a forked child the budget's lock is free, whoever held it."""
    budget = RetryBudget()
    budget._lock.acquire()
    budget.after_fork()
    worker = threading.Thread(target=budget.take, daemon=True)
    worker.start()
    worker.join(5)
    assert not worker.is_alive()
