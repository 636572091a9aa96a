"""Impossible options of `timeout` are refused at decoration, by name and value."""

import math
import threading
from datetime import timedelta

import pytest

from resilient import ConfigurationError, deadline, timeout

NOT_SECONDS = [-1, math.nan, math.inf, True, "1", [1], None, 10**400, timedelta(seconds=-1)]
BAD = [
    *(("limit", value) for value in [*NOT_SECONDS, threading.TIMEOUT_MAX * 2]),
    *(("method", value) for value in ["threads", "", None, 3, ["thread"]]),
    *(("max_abandoned", value) for value in [-1, 1.5, True, "5", [5], math.nan, math.inf, None]),
    *(("name", value) for value in ["", " "]),
]


@pytest.mark.parametrize(("option", "value"), BAD, ids=lambda thing: str(thing)[:30])
def test_bad_values(option, value):
    """A value that cannot work is a ConfigurationError that names the option and the value."""
    with pytest.raises(ConfigurationError) as caught:
        timeout(value) if option == "limit" else timeout(1, **{option: value})
    shown = value.total_seconds() if isinstance(value, timedelta) else value
    assert str(caught.value).startswith(f"{option}={shown!r}: ")


@pytest.mark.parametrize("value", NOT_SECONDS, ids=lambda thing: str(thing)[:30])
def test_bad_deadlines(value):
    """A deadline that is no duration is refused like an option."""
    with pytest.raises(ConfigurationError, match=r"^deadline="):
        deadline(value)


@pytest.mark.parametrize("name", [3, True, ["t"], b"t"], ids=str)
def test_names_of_another_type(name):
    """A name that is no string is a TypeError that shows it."""
    with pytest.raises(TypeError) as caught:
        timeout(1, name=name)
    assert str(caught.value).startswith(f"name={name!r}: ")


def test_bare():
    """Used bare, it says what it needs."""
    with pytest.raises(TypeError, match=r"@timeout\(2\)"):
        timeout(print)


def test_unknown_options():
    """An option that does not exist is a TypeError that names it."""
    with pytest.raises(TypeError, match="methode"):
        timeout(1, methode="thread")


def items():
    yield 1


async def aitems():
    yield 1


async def answer():
    return 1


@pytest.mark.parametrize("function", [items, aitems])
def test_generators(function):
    """Generator functions are refused, with what to do instead."""
    with pytest.raises(TypeError, match="generator"):
        timeout(1)(function)


@pytest.mark.parametrize("method", ["signal", "cooperative"])
def test_methods_are_for_sync_functions(method):
    """A method for sync functions is refused over an async one."""
    with pytest.raises(TypeError, match=f"method='{method}'"):
        timeout(1, method=method)(answer)


def test_sync_blocks():
    """A plain `with` is refused before the block begins."""
    entered = []
    with pytest.raises(TypeError, match="async with"), timeout(1):
        entered.append(1)
    assert entered == []
