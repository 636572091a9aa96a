"""Impossible options of `@circuit_breaker` are refused at decoration, by name and value."""

import math
from datetime import timedelta

import pytest

from resilient import ConfigurationError, circuit_breaker

NOT_COUNTS = [0, -1, 1.5, True, "5", [5], math.nan, math.inf]
NOT_SECONDS = [-1, -0.001, math.nan, math.inf, -math.inf, True, "60", [60], 10**400, timedelta(seconds=-1)]
NOT_SHARES = [0, -0.1, 1.1, math.nan, math.inf, True, "0.5", [0.5]]

BAD = [
    *(("failure_threshold", value) for value in [*NOT_COUNTS, None]),
    *(("half_open_calls", value) for value in [*NOT_COUNTS, None]),
    *(("window_size", value) for value in [*NOT_COUNTS, 10**19]),
    *(("minimum_calls", value) for value in NOT_COUNTS),
    *(("recovery_timeout", value) for value in [*NOT_SECONDS, None]),
    *(("max_recovery_timeout", value) for value in NOT_SECONDS),
    *(("window_duration", value) for value in [*NOT_SECONDS, 0, timedelta(0)]),
    *(("slow_call_duration", value) for value in [*NOT_SECONDS, 0]),
    *(("probe_timeout", value) for value in [*NOT_SECONDS, 0]),
    *(("failure_rate_threshold", value) for value in NOT_SHARES),
    *(("slow_call_rate_threshold", value) for value in NOT_SHARES),
    *(("recovery_jitter", value) for value in [-0.1, 1.1, math.nan, math.inf, True, "0.5", [0.5]]),
    *(("recovery_multiplier", value) for value in [0, 0.9, -2, math.nan, math.inf, True, "2", [2], None, 10**400]),
]
WRONG_TYPE = [
    *(("expected_exception", value) for value in [int, 3, "ValueError", [ValueError], {ValueError}, (int,), None]),
    *(("ignore", value) for value in [int, 3, "ValueError", [ValueError], (ValueError, 3), None]),
    *(("name", value) for value in [3, True, ["b"], b"b"]),
]
TOGETHER = [
    ({"window_size": 5, "window_duration": 10}, "window_size"),
    ({"slow_call_rate_threshold": 0.5}, "slow_call_rate_threshold"),
    ({"minimum_calls": 5}, "minimum_calls"),
    ({"minimum_calls": 6, "window_size": 5}, "minimum_calls"),
    ({"minimum_calls": 101, "failure_rate_threshold": 0.5}, "minimum_calls"),
    ({"max_recovery_timeout": 5, "recovery_timeout": 10}, "max_recovery_timeout"),
]


@pytest.mark.parametrize(("option", "value"), BAD, ids=lambda thing: str(thing)[:30])
def test_bad_values(option, value):
    """A value that cannot work is a ConfigurationError that names the option and the value."""
    with pytest.raises(ConfigurationError) as caught:
        circuit_breaker(**{option: value})
    shown = value.total_seconds() if isinstance(value, timedelta) else value
    assert str(caught.value).startswith(f"{option}={shown!r}: ")


@pytest.mark.parametrize(("option", "value"), WRONG_TYPE, ids=lambda thing: str(thing)[:30])
def test_wrong_types(option, value):
    """Something of another kind altogether is a TypeError that names the option and the value."""
    with pytest.raises(TypeError) as caught:
        circuit_breaker(**{option: value})
    assert str(caught.value).startswith(f"{option}={value!r}: ")


@pytest.mark.parametrize(("options", "blamed"), TOGETHER, ids=lambda thing: str(thing)[:30])
def test_options_that_contradict_each_other(options, blamed):
    """Options that make no sense together are refused, naming the one to change and its value."""
    with pytest.raises(ConfigurationError) as caught:
        circuit_breaker(**options)
    assert f"{blamed}={options[blamed]}" in str(caught.value).replace(".0", "")


@pytest.mark.parametrize("option", ["expected_exception"])
def test_empty_tuples_match_nothing(option):
    """An empty tuple of exceptions is refused where it would switch the breaker off."""
    with pytest.raises(ConfigurationError, match=rf"^{option}=\(\): "):
        circuit_breaker(**{option: ()})


def test_unknown_options():
    """An option that does not exist is a TypeError that names it."""
    with pytest.raises(TypeError, match="failure_treshold"):
        circuit_breaker(failure_treshold=3)


@pytest.mark.parametrize("name", ["", "  "])
def test_empty_names(name):
    """An empty name is refused, as first argument and as option."""
    with pytest.raises(ConfigurationError, match=r"^name="):
        circuit_breaker(name)
    with pytest.raises(ConfigurationError, match=r"^name="):
        circuit_breaker(name=name)


def test_two_names():
    """A name given twice is refused with both."""
    with pytest.raises(ConfigurationError, match=r"^name='b': .*'a'"):
        circuit_breaker("a", name="b")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"recovery_timeout": timedelta(minutes=1)}, {"recovery_timeout": 60.0}),
        ({"recovery_timeout": 0}, {"recovery_timeout": 0.0, "lease": 60.0}),
        ({"probe_timeout": 2}, {"lease": 2.0}),
        ({"failure_rate_threshold": 1}, {"minimum": 100, "count_window": 100, "rule": "failure rate"}),
        ({"window_duration": 30}, {"minimum": 10, "count_window": None, "rule": "failures in the window"}),
        ({"window_size": 7}, {"minimum": 7, "count_window": 7}),
        ({}, {"windowed": False, "count_window": None, "rule": "consecutive failures"}),
        ({"recovery_jitter": None}, {"recovery_jitter": 0.0}),
    ],
    ids=str,
)
def test_internal_form(given, kept):
    """What is accepted is kept in one form, and what is left out has the documented default."""
    config = circuit_breaker(**given).config
    assert {name: getattr(config, name) for name in kept} == kept
