"""The benchmark of simulations measures the right thing. No test here looks at a time."""

import random

from . import simulations


def test_a_third_of_the_calls_meets_the_outage() -> None:
    """The breaker turns most of them away."""
    seen = simulations.outage(3000)

    assert seen.calls == 3000
    assert seen.outage_calls == 1000
    assert 0 < seen.outage_dependency_calls < 100


def test_measure() -> None:
    """There is one row, unless it was not asked for."""
    rows = simulations.measure("ours", True, random.SystemRandom(), lambda name: True)

    assert [(row.section, row.pattern, row.limit) for row in rows] == [
        ("testing", simulations.PATTERN, simulations.LIMIT)
    ]
    assert simulations.measure("ours", True, random.SystemRandom(), lambda name: False) == []
