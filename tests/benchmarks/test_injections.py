"""The benchmark of injected faults measures the right thing. No test here looks at a time."""

from resilient.testing import faults, inject

from . import injections, loops
from .candidates import four


def test_nothing_is_left_of_a_fault() -> None:
    """A call executes as many instructions after faults were injected and taken away as before."""
    assert injections.difference() == 0


def test_instructions_are_counted() -> None:
    """While a fault is injected there are more of them, so the count sees the seam."""
    guarded = four()(loops.bare())
    guarded(1)
    without = injections.instructions(lambda: guarded(1))
    with inject(guarded, faults.Latency(0), rate=0.5, seed=1):
        assert injections.instructions(lambda: guarded(1)) > without > 0
