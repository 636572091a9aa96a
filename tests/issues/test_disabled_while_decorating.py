"""Decorating while another thread entered or left `disabled()` used to raise, or to leave a function unguarded."""

import contextlib

import pytest

from resilient import registry, retry

from .helpers import Elsewhere, at_line, outcome

FILES = "resilient/wrapping.py", "resilient/_registry.py"
STEPS = 300


def define(policy=None):
    @policy or retry(base_delay=0, max_attempts=2)
    def fail(calls):
        calls.append(1)
        raise ConnectionError

    return fail


def attempts(guarded):
    calls = []
    outcome(guarded, calls)
    return len(calls)


@pytest.mark.parametrize("leaving", [False, True], ids=["entering", "leaving"])
def test_switching_while_decorating(leaving):
    """At whatever line of decorating another thread switches, the function is guarded exactly when it should be."""
    for step in range(STEPS):
        made = []
        with contextlib.ExitStack() as stack:
            block = registry.disabled()
            switch = Elsewhere(lambda block=block: block.__exit__(None, None, None))
            if leaving:
                block.__enter__()
            else:
                switch = Elsewhere(block.__enter__)
                stack.callback(block.__exit__, None, None, None)
            reached = at_line(step, switch, lambda made=made: made.append(define()), *FILES)
            if not reached:
                switch()
            switch.end()
            assert registry.off is not leaving
            assert attempts(made[0]) == (2 if leaving else 1), f"line {step}"
        assert registry.off is False
        assert attempts(made[0]) == 2, f"line {step}"
        if not reached:
            return
    pytest.fail(f"more than {STEPS} lines")


def test_decorating_while_switching():
    """At whatever line of entering and leaving another thread decorates, both end well and all is guarded."""
    policy = retry(name="shared", base_delay=0, max_attempts=2)
    kept = [define(policy) for _ in range(3)]

    def switch_twice():
        with registry.disabled():
            pass

    for step in range(60):
        made = []

        def decorate(made=made):
            made.extend([define(policy), define(policy), define()])

        decorating = Elsewhere(decorate)
        reached = at_line(step, decorating, switch_twice, "resilient/_registry.py", "/weakref.py", "/_weakrefset.py")
        if not reached:
            return
        decorating.end()
        assert registry.off is False
        assert [attempts(one) for one in kept + made] == [2] * 6, f"line {step}"
