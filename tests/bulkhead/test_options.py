"""Impossible options of `@bulkhead` are refused at decoration, by name and value."""

import math
from datetime import timedelta

import pytest

from resilient import ConfigurationError, bulkhead, circuit_breaker, retry

BAD = [
    *(("max_concurrent", value) for value in [0, -1, 1.5, True, "5", [5], math.nan, math.inf, None]),
    *(("max_queue", value) for value in [-1, 1.5, True, "5", [5], math.nan, math.inf]),
    *(("max_wait", value) for value in [-1, math.nan, math.inf, True, "30", [30], 10**400, timedelta(seconds=-1)]),
    ("circuit_breaker", "nowhere"),
]
WRONG_TYPE = [
    *(("circuit_breaker", value) for value in [3, True, ["b"], circuit_breaker]),
    *(("name", value) for value in [3, True, ["b"], b"b"]),
]


@pytest.mark.parametrize(("option", "value"), BAD, ids=lambda thing: str(thing)[:30])
def test_bad_values(option, value):
    """A value that cannot work is a ConfigurationError that names the option and the value."""
    with pytest.raises(ConfigurationError) as caught:
        bulkhead(**{option: value})
    shown = value.total_seconds() if isinstance(value, timedelta) else value
    assert str(caught.value).startswith(f"{option}={shown!r}: ")


@pytest.mark.parametrize(("option", "value"), WRONG_TYPE, ids=lambda thing: str(thing)[:30])
def test_wrong_types(option, value):
    """Something of another kind altogether is a TypeError that names the option and the value."""
    with pytest.raises(TypeError) as caught:
        bulkhead(**{option: value})
    assert str(caught.value).startswith(f"{option}={value!r}: ")


def test_other_policies_as_breaker():
    """A policy of another kind is no breaker."""
    with pytest.raises(TypeError, match=r"^circuit_breaker="):
        bulkhead(circuit_breaker=retry())


def test_unknown_breaker():
    """The name of a breaker that does not exist is told together with those that do."""
    circuit_breaker("payments")
    with pytest.raises(ConfigurationError, match=r"circuit_breaker='payment': .*known: payments"):
        bulkhead(circuit_breaker="payment")


def test_unknown_options():
    """An option that does not exist is a TypeError that names it."""
    with pytest.raises(TypeError, match="max_conkurrent"):
        bulkhead(max_conkurrent=3)


@pytest.mark.parametrize("name", ["", " "])
def test_empty_names(name):
    """An empty name is refused."""
    with pytest.raises(ConfigurationError, match="name="):
        bulkhead(name)


def test_breaker_by_name_or_object():
    """A breaker may be given by name or as the policy, and both mean the same configuration."""
    breaker = circuit_breaker("b")
    assert bulkhead("h", circuit_breaker="b").config.circuit_breaker is breaker
    assert bulkhead("h", circuit_breaker=breaker) is bulkhead("h", circuit_breaker="b")
