"""The order of steps, and the ways round of those that wait for each other."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient.orchestrator.errors import CircularDependencyError
from resilient.orchestrator.model import RecoveryPlan, RecoveryStep
from resilient.orchestrator.topology import above, ancestors, cycles, waves


def plan_of(steps, needs):
    return RecoveryPlan("p", "Plan", [RecoveryStep(one, one, "custom") for one in steps], dependencies=needs)


@st.composite
def graphs(draw, forward_only=False):
    """Steps in any order, each with needs among the others (or, with `forward_only`, among those before it)."""
    names = [f"s{number}" for number in range(draw(st.integers(1, 8)))]
    needs = {}
    for number, name in enumerate(names):
        among = names[:number] if forward_only else names
        needs[name] = draw(st.lists(st.sampled_from(among), max_size=3)) if among else []
    return draw(st.permutations(names)), needs


def reached(needs, start):
    """What a step needs, found by brute force."""
    found = set()
    for _ in needs:
        found |= set(needs[start]) | {two for one in found for two in needs[one]}
    return found


@given(graphs())
def test_ancestors_are_all_that_can_be_reached(graph):
    """The steps above a step are what a brute-force search finds, also where there are cycles."""
    steps, needs = graph
    assert all(above(needs, step) == reached(needs, step) == ancestors(plan_of(steps, needs), step) for step in steps)


@given(graphs())
def test_every_knot_is_told_once(graph):
    """There is one way round for each group of steps that reach each other, and one for each step that needs itself."""
    steps, needs = graph
    ways = cycles(steps, needs)
    knots = {frozenset(b for b in steps if b in reached(needs, a) and a in reached(needs, b)) for a in steps}
    longer = [way for way in ways if len(way) > 2]
    assert sorted(way[0] for way in ways if len(way) == 2) == sorted(one for one in steps if one in needs[one])
    assert len(longer) == len([knot for knot in knots if len(knot) > 1])
    assert all(any(set(way) <= knot for knot in knots) for way in longer)


@given(graphs())
def test_a_way_round_is_one(graph):
    """Each step of a way needs the one after it, the last is the first again, and none else is there twice."""
    steps, needs = graph
    for way in cycles(steps, needs):
        assert way[0] == way[-1]
        assert len(set(way)) == len(way) - 1
        assert all(after in needs[step] for step, after in pairwise(way))


@given(graphs())
def test_cycles_are_told_alike_each_time(graph):
    """The same plan gives the same ways round, in the order of its steps."""
    steps, needs = graph
    ways = cycles(steps, needs)
    assert ways == cycles(list(steps), {step: list(needs[step]) for step in reversed(steps)})
    firsts = [list(steps).index(way[0]) for way in ways]
    assert firsts == sorted(firsts)


def test_the_way_round_reads_as_waiting():
    """`a -> c -> b -> a` says that a needs c, c needs b, and b needs a."""
    assert cycles("abc", {"a": ["c"], "c": ["b"], "b": ["a"]}) == [("a", "c", "b", "a")]


def test_a_need_that_is_no_step_is_no_way_round():
    """Needs beside the steps are passed over, also where they would close a circle."""
    assert cycles(["a"], {"a": ["x"], "x": ["a"]}) == []


@given(graphs(forward_only=True))
def test_waves_come_as_early_as_they_can(graph):
    """Each step is in the first group after all it needs, and groups are in the order of the plan."""
    steps, needs = graph
    groups = waves(plan_of(steps, needs))

    def depth(step):
        return 1 + max(map(depth, needs[step]), default=-1)

    assert groups == [[step for step in steps if depth(step) == number] for number in range(len(groups))]
    assert sum(map(len, groups)) == len(steps)


def test_waves_of_a_knot_raise():
    """Steps that wait for each other have no order, and the error says the way round."""
    with pytest.raises(CircularDependencyError) as caught:
        waves(plan_of("abc", {"b": ["c"], "c": ["b"]}))
    assert caught.value.cycle == ("b", "c", "b")


def test_a_long_chain_is_no_trouble():
    """A chain of 10,000 steps is ordered, and closed to a ring it is told as one way round."""
    steps = [str(number) for number in range(10_000)]
    needs = {after: [step] for step, after in pairwise(steps)}
    chain = plan_of(steps, needs)
    assert waves(chain) == [[step] for step in steps]
    assert len(ancestors(chain, steps[-1])) == 9_999
    assert cycles(steps, needs) == []
    assert cycles(steps, {**needs, "0": [steps[-1]]}) == [("0", *reversed(steps))]
