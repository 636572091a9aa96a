"""Retry: what is tried again, how often, after which delay, and what the caller gets."""

import asyncio
import datetime
import itertools
import traceback

import pytest
import tenacity

from resilient import RetriesExhaustedError, retry

from .helpers import Failing, outcome


def delays(face, sleeps, body=None, **options):
    """Return the delays slept by one call that fails every time."""
    options = {"jitter": False, "max_attempts": 6, "base_delay": 1, **options}
    outcome(face.via, retry(**options), face.function(body or Failing()))
    return sleeps


# How often


def test_three_attempts_by_default(face, sleeps):
    """A failing call is made three times; a good one once."""
    body = Failing()
    outcome(face.call, retry(face.function(body)))
    assert (body.calls, len(sleeps)) == (3, 2)
    body = Failing(None)
    assert face.call(retry(face.function(body))) == "ok"
    assert body.calls == 1


def test_one_attempt_means_no_retry(face, sleeps):
    """`max_attempts=1` makes one call and sleeps never."""
    body = Failing()
    outcome(face.via, retry(max_attempts=1), face.function(body))
    assert (body.calls, sleeps) == (1, [])


@pytest.mark.parametrize(
    "on", [ConnectionError, (KeyError, OSError), lambda error: "x" in str(error)], ids=["type", "tuple", "predicate"]
)
def test_on_selects(face, sleeps, on):
    """`on` as type, tuple or predicate decides what is tried again."""
    wanted, other = Failing(ConnectionError("x")), Failing(ValueError("y"))
    outcome(face.via, retry(on=on), face.function(wanted))
    outcome(face.via, retry(on=on), face.function(other))
    assert (wanted.calls, other.calls) == (3, 1)


@pytest.mark.parametrize("give_up_on", [ConnectionError, (KeyError, ConnectionError), lambda error: True])
def test_give_up_on_wins(face, sleeps, give_up_on):
    """`give_up_on` is not retried although `on` would."""
    body = Failing()
    outcome(face.via, retry(on=OSError, give_up_on=give_up_on), face.function(body))
    assert body.calls == 1


class Hinting(ConnectionError):
    """An error that knows whether trying again makes sense."""

    def __init__(self, answer=True, retry_after=None):
        super().__init__("hint")
        self.answer = answer
        self.retry_after = retry_after

    def is_retryable(self):
        return self.answer


def test_is_retryable_false_wins_over_on(face, sleeps):
    """An error whose `is_retryable()` is False is not retried whatever `on` says; True does not widen `on`."""
    hopeless, hopeful, outside = Failing(Hinting(False)), Failing(Hinting(True)), Failing(Hinting(True))
    outcome(face.via, retry(on=Exception), face.function(hopeless))
    outcome(face.via, retry(on=lambda error: True), face.function(hopeful))
    outcome(face.via, retry(on=KeyError), face.function(outside))
    assert (hopeless.calls, hopeful.calls, outside.calls) == (1, 3, 1)


@pytest.mark.parametrize("error", [asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("on", [BaseException, lambda error: True], ids=["BaseException", "predicate"])
def test_stop_signals_are_never_retried(sleeps, error, on):
    """Cancellation, KeyboardInterrupt, SystemExit and GeneratorExit pass at once, whatever the predicate."""
    body, raised = Failing(), error("stop")
    body.error = raised
    assert outcome(retry(on=on).call, body) is raised
    assert body.calls == 1


@pytest.mark.parametrize("on", [BaseException, lambda error: not isinstance(error, ValueError)])
def test_cancelled_task_is_not_retried(on):
    """A task cancelled during the call or during the wait ends cancelled after one call."""
    bodies = []

    async def slow():
        bodies.append("slow")
        await asyncio.sleep(5)

    async def failing():
        bodies.append("failing")
        raise ConnectionError

    async def go(function):
        task = asyncio.ensure_future(retry(on=on, base_delay=5, jitter=False).acall(function))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(go(slow))
    asyncio.run(go(failing))
    assert bodies == ["slow", "failing"]


def test_retry_on_result(face, sleeps):
    """A result that `retry_on_result` refuses is tried again until a good one comes."""
    answers = iter([None, None, 7])
    policy = retry(max_attempts=5, retry_on_result=lambda result: result is None)
    assert face.via(policy, face.function(lambda: next(answers))) == 7
    assert len(sleeps) == 2


def test_exhausted_results_raise_their_own_error(face, sleeps):
    """When a result is the reason to the end, RetriesExhaustedError comes; with an error, never."""
    policy = retry(max_attempts=2, retry_on_result=lambda result: result is None)
    error = outcome(face.via, policy, face.function(lambda: None))
    assert isinstance(error, RetriesExhaustedError)
    assert isinstance(outcome(face.via, policy, face.function(Failing())), ConnectionError)


# What the caller gets


def test_last_exception_arrives_itself(face, sleeps):
    """The exception of the last attempt reaches the caller as the same object, without a cause of ours."""
    raised = []

    def body():
        raised.append(ConnectionError(len(raised)))
        raise raised[-1]

    error = outcome(face.via, retry(), face.function(body))
    assert len(raised) == 3
    assert error is raised[-1]
    assert error.__cause__ is None
    assert error.__context__ is None


def test_traceback_grows_by_few_frames(face, sleeps):
    """Ten attempts later the traceback holds only the frames of the last one and a few of the library."""
    plain, body = face.function(Failing()), face.function(Failing())
    bare = len(traceback.extract_tb(outcome(face.call, plain).__traceback__))
    guarded = outcome(face.call, retry(max_attempts=10)(body))
    assert len(traceback.extract_tb(guarded.__traceback__)) <= bare + 4


def test_same_exception_object_again_and_again(face, sleeps):
    """A function that raises one and the same exception object is retried in every call anew."""
    body = Failing(ConnectionError("shared"))
    guarded = retry(face.function(body))
    for number in (3, 6, 9):
        assert outcome(face.call, guarded) is body.error
        assert body.calls == number


# Delays


@pytest.mark.parametrize(
    ("backoff", "expected"),
    [
        ("exponential", [1, 2, 4, 8, 10]),
        ("linear", [1, 2, 3, 4, 5]),
        ("fibonacci", [1, 1, 2, 3, 5]),
        (lambda attempt: attempt * 3, [3, 6, 9, 10, 10]),
        (lambda attempt: datetime.timedelta(seconds=2), [2] * 5),
    ],
    ids=["exponential", "linear", "fibonacci", "callable", "timedelta"],
)
def test_backoff(face, sleeps, backoff, expected):
    """Each backoff gives its series from the first failed attempt on, capped by `max_delay`."""
    assert delays(face, sleeps, backoff=backoff, max_delay=10) == pytest.approx(expected)


def test_multiplier_and_defaults(face, sleeps):
    """The default series starts at 0.1 s and doubles; `multiplier` changes the factor."""
    outcome(face.via, retry(jitter=False, max_attempts=4), face.function(Failing()))
    assert sleeps == pytest.approx([0.1, 0.2, 0.4])
    sleeps.clear()
    assert delays(face, sleeps, multiplier=3, max_attempts=4) == pytest.approx([1, 3, 9])


@pytest.mark.parametrize("backoff", ["exponential", "linear", "fibonacci"])
@pytest.mark.parametrize("jitter", [True, False, 0.5, "full", "equal", "decorrelated"])
def test_no_attempt_number_breaks_the_delay(face, sleeps, backoff, jitter):
    """Two thousand attempts later every delay is still a number between 0 and `max_delay`."""
    delays(face, sleeps, backoff=backoff, jitter=jitter, multiplier=1e9, max_attempts=2000, max_delay=30)
    assert len(sleeps) == 1999
    assert all(0 <= delay <= 30 for delay in sleeps)


@pytest.mark.parametrize(("jitter", "low", "high"), [(True, 9, 11), (0.5, 5, 15), ("full", 0, 10), ("equal", 5, 10)])
def test_jitter_spreads_around_the_delay(face, sleeps, jitter, low, high):
    """Jitter moves a delay of 10 s within its own range, and does move it."""
    delays(face, sleeps, backoff=lambda attempt: 10, jitter=jitter, max_attempts=60, max_delay=100)
    assert all(low <= delay <= high for delay in sleeps)
    assert max(sleeps) - min(sleeps) > (high - low) / 4


def test_decorrelated_jitter_stays_in_range(face, sleeps):
    """Decorrelated jitter lies between the base delay and three times the delay before, capped."""
    delays(face, sleeps, jitter="decorrelated", max_attempts=60, max_delay=50)
    for before, delay in itertools.pairwise(sleeps):
        assert 1 <= delay <= min(50, max(3 * before, 3)) + 1e-9
    assert len(set(sleeps)) > 20


@pytest.mark.parametrize("jitter", [True, 0.5, "full", "equal", "decorrelated"])
def test_jitter_still_spreads_at_the_cap(face, sleeps, jitter):
    """At `max_delay` the waits still differ, and none exceeds it."""
    delays(face, sleeps, base_delay=4, jitter=jitter, max_attempts=100, max_delay=10)
    at_cap = sleeps[10:]
    assert all(0 <= delay <= 10 for delay in at_cap)
    assert len({round(delay, 6) for delay in at_cap}) > 40


def test_delay_zero_does_not_sleep(face, sleeps):
    """With a delay of 0 nothing sleeps at all."""
    body = Failing()
    outcome(face.via, retry(base_delay=0, max_attempts=5), face.function(body))
    assert (body.calls, sleeps) == (5, [])


def test_durations_take_timedelta(face, sleeps):
    """`base_delay`, `max_delay` and `max_elapsed` may be timedeltas."""
    second = datetime.timedelta(seconds=1)
    outcome(
        face.via,
        retry(base_delay=second, max_delay=2 * second, max_elapsed=60 * second, jitter=False, max_attempts=4),
        face.function(Failing()),
    )
    assert sleeps == pytest.approx([1, 2, 2])


# max_elapsed


def test_max_elapsed_clips_the_last_sleep(clock, face, sleeps):
    """`max_elapsed` is never exceeded by sleeping: the last sleep is clipped, then comes one last attempt."""
    body, started = Failing(), clock()
    outcome(
        face.via,
        retry(max_attempts=100, base_delay=4, backoff="linear", jitter=False, max_elapsed=10),
        face.function(body),
    )
    assert sleeps == pytest.approx([4, 6])
    assert body.calls == 3
    assert (clock() - started).total_seconds() == pytest.approx(10)


def test_max_elapsed_counts_the_calls_too(clock, face, sleeps):
    """Time spent in the calls counts: when it is used up, no sleep and no attempt follows."""

    def body():
        calls.append(1)
        clock.tick(11)
        raise ConnectionError

    calls = []
    outcome(face.via, retry(max_attempts=100, base_delay=1, max_elapsed=10), face.function(body))
    assert (len(calls), sleeps) == (1, [])


def test_max_elapsed_starts_with_each_call(clock, face, sleeps):
    """The time of one call says nothing about the next call of the same policy."""
    policy = retry(max_attempts=3, base_delay=1, jitter=False, max_elapsed=10)
    for _ in range(3):
        body = Failing()
        outcome(face.via, policy, face.function(body))
        clock.tick(100)
        assert body.calls == 3


# retry_after


def test_retry_after_replaces_the_delay(face, sleeps):
    """`retry_after` on the error is waited instead of the computed delay, also beyond `max_delay`."""
    delays(face, sleeps, body=Failing(Hinting(retry_after=45)), max_delay=10, max_attempts=3)
    assert sleeps == pytest.approx([45, 45])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1, 0, "soon", None, object()])
def test_useless_retry_after_is_ignored(face, sleeps, value):
    """A `retry_after` that is not a finite positive number changes nothing."""
    delays(face, sleeps, body=Failing(Hinting(retry_after=value)), max_attempts=3)
    assert sleeps == pytest.approx([1, 2])


def test_retry_after_is_clipped_by_max_elapsed(face, sleeps):
    """`retry_after` does not outlast `max_elapsed`."""
    delays(face, sleeps, body=Failing(Hinting(retry_after=45)), max_elapsed=20)
    assert sum(sleeps) == pytest.approx(20)


# tenacity


def test_tenacity_wait(face, sleeps):
    """A tenacity wait is the backoff, capped by `max_delay`."""
    delays(face, sleeps, backoff=tenacity.wait_exponential(multiplier=2, max=1000), max_delay=10, max_attempts=5)
    assert sleeps == pytest.approx([2, 4, 8, 10])


def test_tenacity_sum_of_waits(face, sleeps):
    """Combined tenacity waits work."""
    delays(face, sleeps, backoff=tenacity.wait_fixed(1) + tenacity.wait_fixed(2), max_attempts=3)
    assert sleeps == pytest.approx([3, 3])


@pytest.mark.parametrize(
    "stop",
    [tenacity.stop_after_attempt(4), tenacity.stop_after_attempt(4) | tenacity.stop_after_delay(1000)],
    ids=["one", "any"],
)
def test_tenacity_stop(face, sleeps, stop):
    """A tenacity stop ends the attempts."""
    body = Failing()
    outcome(face.via, retry(max_attempts=10, stop=stop), face.function(body))
    assert body.calls == 4


def test_tenacity_stop_after_delay(face, sleeps):
    """A tenacity stop that looks at the time sees the library's clock."""
    body = Failing()
    policy = retry(max_attempts=99, base_delay=3, backoff="linear", jitter=False, stop=tenacity.stop_after_delay(8))
    outcome(face.via, policy, face.function(body))
    assert (sleeps, body.calls) == (pytest.approx([3, 6]), 3)
