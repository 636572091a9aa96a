"""The breaker's windows: rates over counts, rates over time, slow calls."""

import pytest

from resilient import circuit_breaker

from .helpers import Failing, feed, outcome, state


def test_rate_opens_once_there_are_enough_calls(face):
    """`failure_rate_threshold` decides only from `minimum_calls` calls in the window on."""
    breaker = circuit_breaker("b", failure_rate_threshold=0.5, window_size=10, minimum_calls=4)
    feed(face, breaker, "FFF")
    assert state(breaker) == "CLOSED"
    feed(face, breaker, "F")
    assert state(breaker) == "OPEN"


def test_rate_below_the_threshold_stays_closed(face):
    """A rate under the threshold never opens, whatever the total."""
    breaker = circuit_breaker("b", failure_rate_threshold=0.5, window_size=10, minimum_calls=10)
    feed(face, breaker, "SSSFF" * 20)
    assert state(breaker) == "CLOSED"
    assert breaker.get_metrics().failure_rate == pytest.approx(0.4)


def test_rate_reaching_the_threshold_opens(face):
    """The rate counts successes too: five of ten at a threshold of one half opens."""
    breaker = circuit_breaker("b", failure_rate_threshold=0.5, window_size=10, minimum_calls=10)
    feed(face, breaker, "SFSFSFSFS")
    assert state(breaker) == "CLOSED"
    feed(face, breaker, "F")
    assert state(breaker) == "OPEN"


def test_count_window_forgets_older_calls(face):
    """What lies further back than `window_size` calls no longer counts; totals do."""
    breaker = circuit_breaker("b", failure_rate_threshold=0.6, window_size=4, minimum_calls=4)
    feed(face, breaker, "FF" + "SSSS")
    metrics = breaker.get_metrics()
    assert (metrics.failure_rate, metrics.failure_count, metrics.success_count) == (0.0, 2, 4)
    feed(face, breaker, "FF")
    assert (state(breaker), breaker.get_metrics().failure_rate) == ("CLOSED", 0.5)
    feed(face, breaker, "F")
    assert state(breaker) == "OPEN"


def test_time_window_forgets_older_calls(clock, face):
    """Failures older than `window_duration` no longer count towards the rate."""
    breaker = circuit_breaker("b", failure_rate_threshold=0.5, window_duration=60, minimum_calls=4)
    feed(face, breaker, "FFF")
    clock.tick(121)
    feed(face, breaker, "F")
    assert state(breaker) == "CLOSED"
    feed(face, breaker, "FFF")
    assert state(breaker) == "OPEN"


def test_time_window_forgets_successes_too(clock, face):
    """Old successes do not thin a burst of failures for ever."""
    breaker = circuit_breaker("b", failure_rate_threshold=0.5, window_duration=60, minimum_calls=4)
    feed(face, breaker, "S" * 50)
    clock.tick(121)
    feed(face, breaker, "FFFF")
    assert state(breaker) == "OPEN"


def test_time_window_keeps_recent_calls(clock, face):
    """Calls well within `window_duration` count together, although time passed between them."""
    breaker = circuit_breaker("b", failure_rate_threshold=0.5, window_duration=60, minimum_calls=4)
    for _ in range(4):
        assert state(breaker) == "CLOSED"
        feed(face, breaker, "F")
        clock.tick(5)
    assert state(breaker) == "OPEN"


@pytest.mark.parametrize("window", [{"window_size": 10}, {"window_duration": 60}], ids=["count", "time"])
def test_threshold_with_a_window_counts_inside_it(clock, face, window):
    """With a window `failure_threshold` counts the failures in it, successes between them or not."""
    breaker = circuit_breaker("b", failure_threshold=3, **window)
    feed(face, breaker, "FSSFS")
    assert state(breaker) == "CLOSED"
    feed(face, breaker, "F")
    assert state(breaker) == "OPEN"


@pytest.mark.parametrize("window", [{"window_size": 4}, {"window_duration": 60}], ids=["count", "time"])
def test_threshold_with_a_window_forgets(clock, face, window):
    """Failures that left the window no longer count towards `failure_threshold`."""
    breaker = circuit_breaker("b", failure_threshold=3, **window)
    feed(face, breaker, "FFSSSS")
    clock.tick(121)
    feed(face, breaker, "FF")
    assert state(breaker) == "CLOSED"
    feed(face, breaker, "F")
    assert state(breaker) == "OPEN"


def test_slow_calls_open(clock, face):
    """Successful calls of `slow_call_duration` and more open the breaker by their rate."""
    breaker = circuit_breaker("b", slow_call_duration=2, slow_call_rate_threshold=0.5, window_size=4, minimum_calls=4)

    def slow():
        clock.tick(3)

    feed(face, breaker, "SS")
    face.via(breaker, face.function(slow))
    assert state(breaker) == "CLOSED"
    face.via(breaker, face.function(slow))
    assert state(breaker) == "OPEN"
    assert breaker.get_metrics().failure_count == 0


def test_fast_calls_do_not_open(clock, face):
    """Calls under `slow_call_duration` are not slow."""
    breaker = circuit_breaker("b", slow_call_duration=2, slow_call_rate_threshold=0.5, window_size=4, minimum_calls=4)
    for _ in range(8):
        face.via(breaker, face.function(lambda: clock.tick(1)))
    assert state(breaker) == "CLOSED"


def test_window_after_closing_is_empty(clock, face):
    """A breaker that closed again judges by new calls only."""
    breaker = circuit_breaker(
        "b", failure_rate_threshold=0.5, window_size=4, minimum_calls=4, recovery_timeout=60, half_open_calls=1
    )
    feed(face, breaker, "FFFF")
    assert state(breaker) == "OPEN"
    clock.tick(60)
    feed(face, breaker, "S" + "FFF")
    assert state(breaker) == "CLOSED"
    feed(face, breaker, "F")
    assert state(breaker) == "OPEN"


def test_rate_without_a_window_is_of_the_totals(face):
    """Without a window `failure_rate` is failures by all counted calls."""
    breaker = circuit_breaker("b", failure_threshold=100)
    feed(face, breaker, "F" * 3 + "S")
    assert breaker.get_metrics().failure_rate == 0.75


def test_ignored_errors_are_outside_the_window(face):
    """Excluded errors take no room in the window."""
    breaker = circuit_breaker("b", failure_rate_threshold=1.0, window_size=4, minimum_calls=4, ignore=ValueError)
    feed(face, breaker, "FFF")
    for _ in range(10):
        assert isinstance(outcome(face.via, breaker, face.function(Failing(ValueError))), ValueError)
    assert breaker.get_metrics().failure_rate == 1.0
    feed(face, breaker, "F")
    assert state(breaker) == "OPEN"
