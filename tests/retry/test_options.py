"""Impossible options of `@retry` are refused at decoration, by name and value."""

import math
from datetime import timedelta

import pytest

from resilient import ConfigurationError, retry

NOT_SECONDS = [-1, math.nan, math.inf, -math.inf, True, "1", [1], 10**400, timedelta(seconds=-1)]

BAD = [
    *(("max_attempts", value) for value in [0, -1, 1.5, True, "3", [3], math.nan, math.inf]),
    *(("base_delay", value) for value in [*NOT_SECONDS, None, 31, timedelta(minutes=1)]),
    *(("max_delay", value) for value in [*NOT_SECONDS, None]),
    *(("max_elapsed", value) for value in NOT_SECONDS),
    *(("multiplier", value) for value in [0, 0.9, -2, math.nan, math.inf, True, "2", [2], None, 10**400]),
    *(("jitter", value) for value in [-0.1, 1.1, math.nan, math.inf, "ful", "", [0.1], None]),
    *(("backoff", value) for value in ["exponental", "", "EXPONENTIAL"]),
    *(("retry_exhausted", value) for value in [0, 1, "yes", None, []]),
    *(("on", value) for value in [()]),
    *(("name", value) for value in ["", " "]),
]
WRONG_TYPE = [
    *(("on", value) for value in [int, 3, "ValueError", [ValueError], {ValueError}, (int,), (ValueError, "x"), None]),
    *(("give_up_on", value) for value in [int, 3, "ValueError", [ValueError], (ValueError, 3), None]),
    *(("backoff", value) for value in [3, True, None, ["linear"]]),
    *(("budget", value) for value in [0.2, True, "10%", [1]]),
    *(
        (option, value)
        for option in ("retry_on_result", "stop", "on_retry")
        for value in [3, True, "yes", [print], math.nan]
    ),
    *(("name", value) for value in [3, True, ["r"], b"r"]),
]


@pytest.mark.parametrize(("option", "value"), BAD, ids=lambda thing: str(thing)[:30])
def test_bad_values(option, value):
    """A value that cannot work is a ConfigurationError that names the option and the value."""
    with pytest.raises(ConfigurationError) as caught:
        retry(**{option: value})
    shown = value.total_seconds() if isinstance(value, timedelta) else value
    shown = float(shown) if option == "base_delay" and shown == 31 else shown
    assert str(caught.value).startswith(f"{option}={shown!r}: ")


@pytest.mark.parametrize(("option", "value"), WRONG_TYPE, ids=lambda thing: str(thing)[:30])
def test_wrong_types(option, value):
    """Something of another kind altogether is a TypeError that names the option and the value."""
    with pytest.raises(TypeError) as caught:
        retry(**{option: value})
    assert str(caught.value).startswith(f"{option}={value!r}: ")


def test_base_delay_above_max_delay():
    """A first wait longer than the longest is refused with both numbers."""
    with pytest.raises(ConfigurationError, match=r"^base_delay=3\.0: .*max_delay=2\.0"):
        retry(base_delay=3, max_delay=2)


def test_unknown_options():
    """An option that does not exist is a TypeError that names it."""
    with pytest.raises(TypeError, match="max_attempt"):
        retry(max_attempt=3)


@pytest.mark.parametrize("given", [3, "name", 2.5])
def test_positional_values(given):
    """An option given by position is refused with how to give it."""
    with pytest.raises(TypeError, match="give options by keyword"):
        retry(given)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"base_delay": timedelta(seconds=2)}, {"base_delay": 2.0}),
        ({"max_attempts": None}, {"max_attempts": None}),
        ({"jitter": 0}, {"jitter": False}),
        ({"jitter": 1}, {"jitter": 1.0}),
        ({"max_elapsed": 0}, {"max_elapsed": 0.0}),
    ],
    ids=str,
)
def test_internal_form(given, kept):
    """What is accepted is kept in one form."""
    config = retry(**given).config
    assert {name: getattr(config, name) for name in kept} == kept
