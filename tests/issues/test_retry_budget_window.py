"""Calls that nobody had looked at for long used to count for a whole further window."""

import pytest

from resilient import RetryBudget
from resilient.retry.budget import BudgetState


def test_calls_looked_at_late():
    """1,000 calls made by second 1 and first seen at 9.9 have left a window of 10 s at 19.8."""
    state = BudgetState(ratio=0.2, floor=0.0, window=10.0, now=0.0)
    assert state.look(0.5, 0) == 0
    assert state.look(9.9, 1000) == pytest.approx(200, rel=0.15)
    assert state.look(19.8, 1000) < 30  # of 200, and no more than what a tenth of the window may blur
    assert state.look(21.0, 1000) == 0


def test_calls_looked_at_often():
    """Calls that are seen as they are made leave the window in their turn."""
    state = BudgetState(ratio=0.2, floor=0.0, window=10.0, now=0.0)
    for second in range(11):
        state.look(float(second), 100 * second)
    assert state.look(10.5, 1000) == pytest.approx(200, rel=0.15)
    assert state.look(15.5, 1000) == pytest.approx(100, rel=0.25)
    assert state.look(22.0, 1000) == 0


@pytest.mark.parametrize("first", [0.5, 5.0, 9.9, 10.0, 25.0])
def test_nothing_stays(first):
    """Whenever calls are first seen, a window and a tenth later they are gone."""
    state = BudgetState(ratio=1.0, floor=0.0, window=10.0, now=0.0)
    assert state.look(first, 1000) > 0
    assert state.look(first + 11.01, 1000) == 0


def test_budget(time):
    """A budget that grants nothing in quiet times refuses a retry when its traffic is gone."""
    budget = RetryBudget(0.2, 0, window=10)
    time.now += 0.5
    assert not budget.take()
    budget.calls += 1000
    time.now += 9.4
    assert budget.take()
    time.now += 11.1
    assert not budget.take()
