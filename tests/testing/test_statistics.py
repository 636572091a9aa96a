"""The numbers behind a verdict: Wilson's interval and percentiles, against known values and their own definition."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient.testing.recovery.statistics import Z95, Interval, percentile, wilson


@pytest.mark.parametrize(
    ("successes", "n", "lower", "upper"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (29, 29, 0.8830, 1.0)],
)
def test_published_values(successes, n, lower, upper):
    """The examples of Newcombe (1998, Statistics in Medicine 17:857, method 3) come out to four digits."""
    found = wilson(successes, n)
    assert (found.lower, found.upper, found.n) == (pytest.approx(lower, abs=5e-5), pytest.approx(upper, abs=5e-5), n)


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_ends_are_those_of_the_definition(pair):
    """At each end the observed share lies just z standard errors away; the share itself lies between them."""
    successes, n = pair
    found = wilson(successes, n)
    share = successes / n
    assert 0 <= found.lower <= share <= found.upper <= 1
    for end in (found.lower, found.upper):
        if 0 < end < 1:
            assert abs(share - end) == pytest.approx(Z95 * math.sqrt(end * (1 - end) / n), rel=1e-6, abs=1e-9)


@given(st.integers(1, 1000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.integers(2, 50))
def test_more_observations_tell_more(pair, times):
    """The same share of more observations has a narrower interval."""
    successes, n = pair
    few, many = wilson(successes, n), wilson(successes * times, n * times)
    assert many.upper - many.lower < few.upper - few.lower


def test_all_and_none_have_exact_ends():
    """Where all or none succeeded, that end is 1 or 0 itself; without observations nothing is known."""
    assert (wilson(7, 7).upper, wilson(0, 7).lower) == (1.0, 0.0)
    assert wilson(0, 0) == Interval(0.0, 1.0, 0)


def test_text_has_n():
    """The interval shows itself with its level and n."""
    assert str(wilson(8, 10)) == "49.0% to 94.3% (95 %, n=10)"


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 1))
def test_percentile_is_the_nearest_rank(values, share):
    """It is one of the values: at least that share does not exceed it, and of no smaller value is that so."""
    ordered = sorted(values)
    found = percentile(ordered, share)
    assert found in ordered
    needed = math.ceil(share * len(ordered))
    assert sum(one <= found for one in ordered) >= needed
    smaller = [one for one in ordered if one < found]
    assert not smaller or len(smaller) < needed


def test_percentile_of_none_and_of_few():
    """Of none it is 0; of a hundred values p99 is the 99th."""
    assert percentile([], 0.99) == 0
    assert percentile(range(1, 101), 0.99) == 99
    assert [percentile([1, 2, 3], one) for one in (0, 0.5, 0.95)] == [1, 2, 3]
