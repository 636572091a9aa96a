"""Definitions that are equal only to `==` (True and 1.0, 0 and False) used to pass as the same."""

import pytest

from resilient import ConfigurationError, circuit_breaker, degrade, retry


def options(part):
    """Name a case by its options, not by the address of a function."""
    return repr(part) if isinstance(part, dict) else part.__name__


DIFFERENT = [
    (retry, {"jitter": True}, {"jitter": 1.0}),
    (retry, {"jitter": 1.0}, {"jitter": True}),
    (retry, {"jitter": 1}, {"jitter": True}),
    (degrade, {"fallback": 0}, {"fallback": False}),
    (degrade, {"fallback": 1}, {"fallback": 1.0}),
    (degrade, {"fallback": ""}, {"fallback": b""}),
]


@pytest.mark.parametrize(("make", "first", "second"), DIFFERENT, ids=options)
def test_different_definitions(make, first, second):
    """A second definition with another value conflicts, and the message names the option."""
    make(name="a", **first)
    with pytest.raises(ConfigurationError, match=next(iter(second))):
        make(name="a", **second)


SAME = [
    (retry, {"jitter": True}, {"jitter": True}),
    (retry, {"jitter": 0.5}, {"jitter": 0.5}),
    (retry, {"jitter": 1}, {"jitter": 1.0}),
    (retry, {"jitter": 0.0}, {"jitter": False}),
    (retry, {"base_delay": 1}, {"base_delay": 1.0}),
    (circuit_breaker, {"recovery_timeout": 5}, {"recovery_timeout": 5.0}),
    (degrade, {"fallback": 0}, {"fallback": 0}),
    (degrade, {"fallback": []}, {"fallback": []}),
]


@pytest.mark.parametrize(("make", "first", "second"), SAME, ids=options)
def test_same_definitions(make, first, second):
    """A second definition that means the same is the same policy."""
    assert make(name="a", **first) is make(name="a", **second)
