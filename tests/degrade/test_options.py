"""Impossible options of `@degrade` are refused at decoration, by name and value."""

import math

import pytest

from resilient import ConfigurationError, degrade

BAD = [
    *(("fallback_limit", value) for value in [0, -1, 1.5, True, "5", [5], math.nan, math.inf]),
    *(("name", value) for value in ["", " "]),
    ("on", ()),
    ("key", repr),
    ("service", "payments"),
]
WRONG_TYPE = [
    *(("on", value) for value in [int, 3, "ValueError", [ValueError], {ValueError}, (int,), None]),
    *(("cache", value) for value in [3, True, "redis", [1], (1,), print]),
    *(("manager", value) for value in [3, True, "manager", object]),
    *(("name", value) for value in [3, True, ["d"], b"d"]),
]


@pytest.mark.parametrize(("option", "value"), BAD, ids=lambda thing: str(thing)[:30])
def test_bad_values(option, value):
    """A value that cannot work is a ConfigurationError that names the option and the value."""
    with pytest.raises(ConfigurationError) as caught:
        degrade(**{"fallback": 1, option: value})
    assert str(caught.value).startswith(f"{option}={value!r}: ")


@pytest.mark.parametrize(("option", "value"), WRONG_TYPE, ids=lambda thing: str(thing)[:30])
def test_wrong_types(option, value):
    """Something of another kind altogether is a TypeError that names the option and the value."""
    with pytest.raises(TypeError) as caught:
        degrade(**{"fallback": 1, option: value})
    assert str(caught.value).startswith(f"{option}={value!r}: ")


@pytest.mark.parametrize("key", [3, "id", True, ["id"]], ids=str)
def test_keys_that_cannot_be_called(key):
    """A key that is no callable is a TypeError that shows it."""
    with pytest.raises(TypeError) as caught:
        degrade(cache={}, key=key)
    assert str(caught.value).startswith(f"key={key!r}: ")


def test_nothing_to_answer_with():
    """Without fallback and cache there is no answer, and the message names both."""
    with pytest.raises(ConfigurationError, match="fallback= or cache="):
        degrade()


def test_bare():
    """Used bare, it says what it needs."""
    with pytest.raises(ConfigurationError, match="fallback="):
        degrade(print)


def test_unknown_options():
    """An option that does not exist is a TypeError that names it."""
    with pytest.raises(TypeError, match="fallbacks"):
        degrade(fallbacks=3)
