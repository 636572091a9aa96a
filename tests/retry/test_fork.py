"""A forked child finds the locks of retry free, whoever held them."""

import threading

import pytest

from resilient import RetryBudget, registry, retry
from resilient.retry import budget as budgets
from resilient.retry import state


@pytest.fixture
def held():
    """Hold both locks, as another thread might at the moment of the fork."""
    budget = RetryBudget()
    locks = [budget._lock, state.EXHAUSTED.lock]
    for lock in locks:
        lock.acquire()
    yield budget
    for lock in locks:
        lock.release()
    budgets._after_fork()
    state._after_fork()


def test_after_fork(held):
    """After the hooks of a fork, a call that is given up and one that asks the budget both end."""
    budgets._after_fork()
    state._after_fork()
    outcomes = []

    def work():
        try:
            retry(base_delay=0, max_attempts=2, budget=held).call(divmod, 1, 0)
        except ZeroDivisionError:
            outcomes.append("ended")

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    worker.join(5)
    assert outcomes == ["ended"]


def test_hooks_are_registered():
    """Both hooks are among those that the registry calls in a child."""
    assert {budgets._after_fork, state._after_fork} <= set(registry.fork_hooks)
