"""The breaker one call at a time: what counts, what opens, what closes, what it tells."""

import asyncio
import datetime

import pytest

from resilient import CircuitOpenError, circuit_breaker

from .helpers import Failing, feed, outcome, revived, state, tripped
from .kinds import Script

# What opens


def test_threshold_counts_consecutive_failures(face):
    """Without a window only failures in a row count: a success starts the count anew."""
    breaker = circuit_breaker("b", failure_threshold=3)
    feed(face, breaker, "FFSFF")
    assert state(breaker) == "CLOSED"
    feed(face, breaker, "F")
    assert state(breaker) == "OPEN"


def test_default_threshold_is_five(face):
    """Five failures in a row open a breaker with default options."""
    breaker = circuit_breaker("b")
    feed(face, breaker, "FFFF")
    assert state(breaker) == "CLOSED"
    feed(face, breaker, "F")
    assert state(breaker) == "OPEN"


def test_threshold_one_means_one(face):
    """`failure_threshold=1` opens at the first failure."""
    breaker = circuit_breaker("b", failure_threshold=1)
    feed(face, breaker, "SF")
    assert state(breaker) == "OPEN"


def test_recovery_timeout_zero_means_at_once(clock, face):
    """With `recovery_timeout=0` the next call after the opening is already a probe."""
    breaker = circuit_breaker("b", failure_threshold=1, recovery_timeout=0, half_open_calls=1)
    feed(face, breaker, "F")
    body = Failing(None)
    assert face.via(breaker, face.function(body)) == "ok"
    assert (body.calls, state(breaker)) == (1, "CLOSED")


def test_recovery_timeout_takes_timedelta(clock, face):
    """Durations may be given as timedelta."""
    breaker = tripped(recovery_timeout=datetime.timedelta(minutes=2))
    clock.tick(119)
    assert isinstance(outcome(face.via, breaker, face.function(Failing(None))), CircuitOpenError)
    clock.tick(1)
    assert state(breaker) == "HALF_OPEN"


@pytest.mark.parametrize(
    "expected",
    [ConnectionError, (OSError, KeyError), lambda error: isinstance(error, ConnectionError)],
    ids=["type", "tuple", "predicate"],
)
def test_expected_exception_selects(face, expected):
    """`expected_exception` as type, tuple or predicate decides which errors are failures."""
    breaker = circuit_breaker("b", failure_threshold=1, expected_exception=expected)
    assert isinstance(outcome(face.via, breaker, face.function(Failing(ValueError))), ValueError)
    assert (state(breaker), breaker.get_metrics().failure_count) == ("CLOSED", 0)
    feed(face, breaker, "F")
    assert state(breaker) == "OPEN"


@pytest.mark.parametrize("ignore", [ValueError, (KeyError, ValueError), lambda e: type(e) is ValueError])
def test_ignored_errors_neither_count_nor_reset(face, ignore):
    """An error excluded by `ignore` is no failure, and does not wash away earlier failures either."""
    breaker = circuit_breaker("b", failure_threshold=2, ignore=ignore)
    feed(face, breaker, "F")
    for _ in range(5):
        outcome(face.via, breaker, face.function(Failing(ValueError)))
    metrics = breaker.get_metrics()
    assert (metrics.failure_count, metrics.success_count, state(breaker)) == (1, 0, "CLOSED")
    feed(face, breaker, "F")
    assert state(breaker) == "OPEN"


def test_unexpected_errors_neither_count_nor_reset(face):
    """An error outside `expected_exception` is neither failure nor success."""
    breaker = circuit_breaker("b", failure_threshold=2, expected_exception=ConnectionError)
    feed(face, breaker, "F")
    outcome(face.via, breaker, face.function(Failing(ValueError)))
    feed(face, breaker, "F")
    assert state(breaker) == "OPEN"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
@pytest.mark.parametrize("expected", [Exception, BaseException, lambda error: True], ids=["E", "B", "any"])
def test_stop_signals_stay_themselves(error, expected):
    """KeyboardInterrupt, SystemExit, GeneratorExit and cancellation pass unchanged and never count."""
    breaker = circuit_breaker("b", failure_threshold=1, expected_exception=expected)
    raised = error("now")
    assert outcome(breaker.call, Failing(raised)) is raised
    assert (state(breaker), breaker.get_metrics().failure_count) == ("CLOSED", 0)


def test_cancellation_never_counts():
    """A cancelled task is neither failure nor success, whatever `expected_exception` says."""
    breaker = circuit_breaker("b", failure_threshold=1, expected_exception=BaseException)

    async def go():
        task = asyncio.ensure_future(breaker.acall(asyncio.sleep, 5))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(go())
    assert (state(breaker), breaker.get_metrics().failure_count) == ("CLOSED", 0)


def test_error_passes_itself(face):
    """The user's exception reaches the caller as the same object."""
    error = ConnectionError("mine")
    assert outcome(face.via, circuit_breaker("b"), face.function(Failing(error))) is error


# What it tells


def test_rejection_carries_its_data(clock, face):
    """A rejection says which breaker and how long to wait, is a new instance each time, and pickles."""
    breaker = tripped()
    clock.tick(20)
    first = outcome(face.via, breaker, face.function(Failing(None)))
    second = outcome(face.via, breaker, face.function(Failing(None)))
    assert (first.name, first.retry_after) == ("b", pytest.approx(40))
    assert first is not second
    assert first.is_retryable() is True
    clone = revived(first)
    assert (type(clone), clone.name, clone.retry_after, str(clone)) == (
        CircuitOpenError,
        "b",
        first.retry_after,
        str(first),
    )


def test_rejection_does_not_call(face):
    """While the breaker is open the function is not called."""
    breaker, body = tripped(), Failing(None)
    assert isinstance(outcome(face.via, breaker, face.function(body)), CircuitOpenError)
    assert body.calls == 0


def test_metrics_are_frozen_totals(face):
    """Counts are totals since creation or reset; a snapshot does not change and cannot be changed."""
    breaker = circuit_breaker("b", failure_threshold=9)
    feed(face, breaker, "SSSF")
    before = breaker.get_metrics()
    feed(face, breaker, "FS")
    assert (before.success_count, before.failure_count, before.failure_rate) == (3, 1, 0.25)
    assert before.state.name == "CLOSED"
    after = breaker.get_metrics()
    assert (after.success_count, after.failure_count) == (4, 2)
    with pytest.raises(AttributeError):
        after.success_count = 0
    breaker.reset()
    fresh = breaker.get_metrics()
    assert (fresh.success_count, fresh.failure_count, fresh.failure_rate) == (0, 0, 0.0)


def test_totals_survive_transitions(clock, face):
    """Opening, half-opening and closing do not forget the totals."""
    breaker = circuit_breaker("b", failure_threshold=2, recovery_timeout=60, half_open_calls=1)
    feed(face, breaker, "SSFF")
    assert (breaker.get_metrics().success_count, breaker.get_metrics().failure_count) == (2, 2)
    clock.tick(60)
    feed(face, breaker, "SS")
    assert (breaker.get_metrics().success_count, breaker.get_metrics().failure_count) == (4, 2)


def test_reading_state_makes_the_transition(clock):
    """Once the open period is over, reading `state` or the metrics shows HALF_OPEN."""
    breaker = tripped()
    clock.tick(59.9)
    assert state(breaker) == "OPEN"
    clock.tick(0.1)
    assert breaker.get_metrics().state.name == "HALF_OPEN"
    assert state(breaker) == "HALF_OPEN"


def test_get_state_is_state():
    """`get_state()` says what `state` says."""
    breaker = tripped()
    assert breaker.get_state() is breaker.state


# By hand


def test_reset_closes(face):
    """`reset()` closes an open breaker at once."""
    breaker = tripped()
    breaker.reset()
    assert (state(breaker), face.via(breaker, face.function(Failing(None)))) == ("CLOSED", "ok")


def test_isolate_holds_until_reset(clock, face):
    """`isolate()` rejects every call, however long one waits, until `reset()`."""
    breaker = circuit_breaker("b", recovery_timeout=1)
    breaker.isolate()
    clock.tick(3600)
    body = Failing(None)
    assert isinstance(outcome(face.via, breaker, face.function(body)), CircuitOpenError)
    assert (state(breaker), body.calls) == ("ISOLATED", 0)
    breaker.reset()
    assert face.via(breaker, face.function(body)) == "ok"


def test_attempt_reset_waits_for_the_period(clock):
    """`attempt_reset()` half-opens an open breaker whose period is over, and says whether it did."""
    breaker = circuit_breaker("b", failure_threshold=1, recovery_timeout=60)
    assert breaker.attempt_reset() is False
    outcome(breaker.call, Failing())
    clock.tick(30)
    assert breaker.attempt_reset() is False
    assert state(breaker) == "OPEN"
    clock.tick(30)
    assert breaker.attempt_reset() is True
    assert state(breaker) == "HALF_OPEN"


# Half-open


@pytest.mark.parametrize(
    ("verdicts", "then"),
    [("SSSS", "CLOSED"), ("SFFF", "OPEN"), ("FFFF", "OPEN"), ("SSFF", "HALF_OPEN"), ("SSSF", "HALF_OPEN")],
)
def test_half_open_verdict(clock, face, verdicts, then):
    """A full ring decides: all good closes, under half good opens, between is another round."""
    breaker = tripped(half_open_calls=4)
    clock.tick(60)
    feed(face, breaker, verdicts)
    assert state(breaker) == then


def test_another_round_can_close(clock, face):
    """After a mixed round the next round decides anew."""
    breaker = tripped(half_open_calls=4)
    clock.tick(60)
    feed(face, breaker, "SSSF" + "SSS")
    assert state(breaker) == "HALF_OPEN"
    feed(face, breaker, "S")
    assert state(breaker) == "CLOSED"


def test_half_open_default_is_ten(clock, face):
    """By default ten good probes close the breaker, nine do not."""
    breaker = tripped()
    clock.tick(60)
    feed(face, breaker, "S" * 9)
    assert state(breaker) == "HALF_OPEN"
    feed(face, breaker, "S")
    assert state(breaker) == "CLOSED"


def test_reopening_starts_a_whole_period(clock, face):
    """A failed probe opens for the whole period again."""
    breaker = tripped(half_open_calls=1)
    clock.tick(60)
    feed(face, breaker, "F")
    clock.tick(59)
    assert state(breaker) == "OPEN"
    clock.tick(1)
    assert state(breaker) == "HALF_OPEN"


def test_closing_forgets_old_failures(clock, face):
    """After closing, the count towards the threshold starts from nothing."""
    breaker = circuit_breaker("b", failure_threshold=2, recovery_timeout=60, half_open_calls=1)
    feed(face, breaker, "FF")
    clock.tick(60)
    feed(face, breaker, "SF")
    assert state(breaker) == "CLOSED"


def test_recovery_multiplier_lengthens(clock, face):
    """Each failed recovery multiplies the open period up to `max_recovery_timeout`; closing restores it."""
    breaker = tripped(half_open_calls=1, recovery_timeout=10, recovery_multiplier=2.0, max_recovery_timeout=30)
    for period in (10, 20, 30, 30):
        clock.tick(period - 0.5)
        assert state(breaker) == "OPEN", period
        clock.tick(0.5)
        feed(face, breaker, "F")
    clock.tick(30)
    feed(face, breaker, "SF")
    clock.tick(10)
    assert state(breaker) == "HALF_OPEN"


def test_recovery_jitter_spreads(clock):
    """`recovery_jitter` spreads the open periods of many breakers, none far from `recovery_timeout`."""
    waits = set()
    for number in range(20):
        breaker = circuit_breaker(f"b{number}", failure_threshold=1, recovery_timeout=100, recovery_jitter=0.5)
        outcome(breaker.call, Failing())
        waits.add(outcome(breaker.call, Failing()).retry_after)
    assert len(waits) > 10
    assert all(50 <= wait <= 150 for wait in waits)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
def test_interrupted_probe_gives_its_place_back(clock, error):
    """A probe that is interrupted neither closes nor opens, and its place is free again."""
    breaker = tripped(half_open_calls=1)
    clock.tick(60)
    outcome(breaker.call, Failing(error))
    assert state(breaker) == "HALF_OPEN"
    assert breaker.call(Failing(None)) == "ok"
    assert state(breaker) == "CLOSED"


def test_ignored_probe_gives_its_place_back(clock, face):
    """A probe that ends in an excluded error is no verdict, and its place is free again."""
    breaker = tripped(half_open_calls=1, ignore=ValueError)
    clock.tick(60)
    for _ in range(3):
        assert isinstance(outcome(face.via, breaker, face.function(Failing(ValueError))), ValueError)
    assert state(breaker) == "HALF_OPEN"
    feed(face, breaker, "S")
    assert state(breaker) == "CLOSED"


@pytest.mark.parametrize("option", ["expected_exception", "ignore"])
def test_raising_predicate_gives_the_permit_back(clock, face, option):
    """When the user's predicate itself raises, the probe's place is still given back."""
    broken = [True]

    def predicate(error):
        if broken:
            raise LookupError("predicate")
        return option == "expected_exception"

    options = {option: predicate}
    breaker = circuit_breaker("b", failure_threshold=1, recovery_timeout=60, half_open_calls=1, **options)
    broken.clear()
    feed(face, breaker, "F")
    clock.tick(60)
    broken.append(True)
    outcome(face.via, breaker, face.function(Failing()))
    clock.tick(60)
    assert face.via(breaker, face.function(Failing(None))) == "ok"
    assert state(breaker) == "CLOSED"


def test_half_open_counts_calls_of_the_round(clock, face):
    """A breaker in HALF_OPEN still calls the function for real."""
    breaker, script = tripped(half_open_calls=3), Script()
    clock.tick(60)
    for _ in range(3):
        face.via(breaker, face.function(script.step))
    assert (script.calls, state(breaker)) == (3, "CLOSED")
