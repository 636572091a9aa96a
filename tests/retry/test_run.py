"""What follows a failed attempt: reasons to stop, marks on exceptions, events, and the loop form."""

import asyncio

import pytest
import tenacity

from resilient import RetriesExhaustedError, RetryBudget, deadline, registry, retry
from resilient.events import RetryExhausted, RetryScheduled, RetrySucceeded, RetrySuppressed

FACES = ["sync", "async"]


def collect(*types):
    seen = []
    registry.subscribe(seen.append, *types)
    return seen


def attempt(policy, face, body):
    """Make one retried call of a body, in the way of the face."""

    async def abody():
        return body()

    if face == "sync":
        return policy.call(body)
    return asyncio.run(asyncio.wait_for(policy.acall(abody), 5))


class Flaky:
    """Fails so many times, with an error of its own each time, then answers."""

    def __init__(self, failures=10**6, error=ConnectionError):
        self.left, self.error, self.calls = failures, error, 0

    def __call__(self):
        self.calls += 1
        self.left -= 1
        if self.left >= 0:
            raise self.error
        return "ok"


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize(
    ("options", "calls", "reason"),
    [
        ({"max_attempts": 2}, 2, "attempts"),
        ({"max_attempts": None, "max_elapsed": 2.5}, 4, "elapsed"),
        ({"max_elapsed": 0}, 1, "elapsed"),
        ({"max_attempts": None, "stop": tenacity.stop_after_attempt(3)}, 3, "stop"),
        ({"max_attempts": None, "stop": tenacity.stop_before_delay(2.5)}, 3, "stop"),
        ({"budget": RetryBudget(0, 0)}, 1, "budget"),
    ],
    ids=str,
)
def test_reasons(face, options, calls, reason, sleeps):
    """A call is given up for one reason, which its event tells, with the attempts made."""
    seen = collect(RetryExhausted)
    body = Flaky()
    with pytest.raises(ConnectionError):
        attempt(retry(name="r", base_delay=1, multiplier=1, jitter=False, **options), face, body)
    assert body.calls == calls
    assert [(event.attempts, event.reason) for event in seen] == [(calls, reason)]


@pytest.mark.parametrize("face", FACES)
def test_deadline(face, sleeps):
    """A deadline clips the last sleep, which one last attempt follows; one that has passed ends the retries."""
    seen = collect(RetryExhausted)
    body = Flaky()
    with deadline(1.5), pytest.raises(ConnectionError):
        attempt(retry(max_attempts=None, base_delay=1, multiplier=1, jitter=False), face, body)
    assert (body.calls, sleeps) == (3, [1, pytest.approx(0.5)])
    assert seen[0].reason in ("deadline", "elapsed")


@pytest.mark.parametrize("face", FACES)
def test_tenacity_wait(face, sleeps):
    """A tenacity wait decides each delay by the attempt's number."""
    policy = retry(backoff=tenacity.wait_incrementing(start=2, increment=3), max_attempts=4)
    assert attempt(policy, face, Flaky(3)) == "ok"
    assert sleeps == [2, 5, 8]


@pytest.mark.parametrize("face", FACES)
def test_success_event(face, sleeps):
    """Only a call that had failed before tells of its success, also where a clock runs from the first attempt."""
    seen = collect(RetrySucceeded)
    policy = retry(base_delay=0, max_elapsed=10)
    attempt(policy, face, Flaky(0))
    assert seen == []
    attempt(policy, face, Flaky(2))
    assert [event.attempts for event in seen] == [3]


@pytest.mark.parametrize("face", FACES)
def test_results(face, sleeps):
    """A refused result is retried and ends in an error with the last result; the event has it too."""
    seen = collect(RetryScheduled, RetryExhausted)
    policy = retry(name="r", retry_on_result=lambda result: result == "poor", max_attempts=2, base_delay=0)
    with pytest.raises(RetriesExhaustedError) as caught:
        attempt(policy, face, lambda: "poor")
    assert (caught.value.result, caught.value.attempts) == ("poor", 2)
    assert (seen[0].error, seen[0].result, seen[1].error) == (None, "poor", None)


class Fussy(Exception):
    """An error that says of itself whether to try again."""

    def __init__(self, answer):
        self.answer = answer

    def is_retryable(self):
        return self.answer


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize(
    ("options", "error", "calls"),
    [
        ({"on": ValueError}, KeyError, 1),
        ({"on": (ValueError, KeyError)}, KeyError, 3),
        ({"on": lambda error: "busy" in str(error)}, KeyError("busy"), 3),
        ({"on": lambda error: False}, KeyError, 1),
        ({"give_up_on": KeyError}, KeyError, 1),
        ({"give_up_on": lambda error: True}, KeyError, 1),
        ({}, Fussy(False), 1),
        ({"on": lambda error: True}, Fussy(False), 1),
        ({}, Fussy(True), 3),
    ],
    ids=str,
)
def test_which_errors(face, options, error, calls):
    """Type, tuple, predicate, `give_up_on` and the error itself decide together what is retried."""
    body = Flaky(error=error)
    with pytest.raises(error if isinstance(error, type) else type(error)):
        attempt(retry(base_delay=0, **options), face, body)
    assert body.calls == calls


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize(("options", "calls"), [({}, 3), ({"retry_exhausted": True}, 9)], ids=str)
def test_nested(face, options, calls):
    """Attempts multiply only where the outer retry asks for it, and a suppressed retry is told."""
    seen = collect(RetrySuppressed)
    body = Flaky()
    inner = retry(base_delay=0)(body)
    with pytest.raises(ConnectionError):
        attempt(retry(name="outer", base_delay=0, **options), face, inner)
    assert body.calls == calls
    assert [event.name for event in seen] == ([] if options else ["outer"])


def test_nested_by_cause():
    """An error raised `from` one that an inner retry gave up on is left alone too, also in a ring of causes."""
    body = Flaky()
    inner = retry(base_delay=0)(body)

    def translate():
        try:
            inner()
        except ConnectionError as error:
            raise LookupError from error

    def ring():
        first, second = ValueError(), ValueError()
        first.__cause__, second.__cause__ = second, first
        with pytest.raises(ConnectionError):
            inner()
        raise first

    with pytest.raises(LookupError):
        retry(base_delay=0).call(translate)
    assert body.calls == 3
    body.calls = 0
    with pytest.raises(ValueError, match=r"^$"):
        retry(base_delay=0).call(ring)
    assert body.calls == 9


def test_error_without_attributes():
    """An error that takes no attributes is given up like any other."""

    class Bare(Exception):
        def __setattr__(self, name, value):
            raise AttributeError(name)

    body = Flaky(error=Bare)
    with pytest.raises(Bare):
        retry(base_delay=0).call(body)
    assert body.calls == 3


@pytest.mark.parametrize("face", FACES)
def test_on_retry_that_raises(face, caplog):
    """A failing `on_retry` is logged and changes nothing; it gets the event that subscribers get."""
    told = []

    def on_retry(event):
        told.append((event.name, event.attempt, event.delay))
        raise RuntimeError

    assert attempt(retry(name="r", base_delay=0, on_retry=on_retry), face, Flaky(1)) == "ok"
    assert told == [("r", 1, 0.0)]
    assert [record.event for record in caplog.records if record.exc_info] == ["retry.on_retry_failed"]


def test_metrics():
    """The numbers tell calls by their end, attempts made again, and calls given up as exhausted."""
    policy = retry(base_delay=0, on=ConnectionError)
    policy.call(Flaky(2))
    for error in (ConnectionError, KeyError):
        with pytest.raises(error):
            policy.call(Flaky(error=error))
    assert policy.get_metrics() == (3, 1, 2, 4, 1)


# The loop form


def blocks(policy, face, body):
    """Retry a block, in the way of the face; return the numbers of its attempts."""
    numbers = []

    async def aloop():
        async for one in policy.attempts():
            with one:
                numbers.append(one.number)
                one.result = body()

    if face == "async":
        asyncio.run(asyncio.wait_for(aloop(), 5))
        return numbers
    for one in policy.attempts():
        with one:
            numbers.append(one.number)
            one.result = body()
    return numbers


@pytest.mark.parametrize("face", FACES)
def test_loop(face, sleeps):
    """A block is made again until it ends well, with the waits between, and counts as one call."""
    budget = RetryBudget(1.0)
    policy = retry(max_attempts=4, base_delay=1, jitter=False, budget=budget)
    assert blocks(policy, face, Flaky(2)) == [1, 2, 3]
    assert sleeps == [1, 2]
    assert (budget.calls, policy.get_metrics().succeeded) == (1, 1)


@pytest.mark.parametrize("face", FACES)
def test_loop_with_results(face, sleeps):
    """A block's `result` is looked at like that of a call."""
    policy = retry(retry_on_result=lambda result: result is None, base_delay=0, max_attempts=2)
    assert blocks(policy, face, lambda: 1) == [1]
    with pytest.raises(RetriesExhaustedError):
        blocks(policy, face, lambda: None)


@pytest.mark.parametrize("face", FACES)
def test_loop_without_with(face):
    """A loop whose body is not inside `with attempt:` is told so at the second turn, instead of never ending."""

    async def aloop():
        async for _ in retry().attempts():
            pass

    def loop():
        for _ in retry().attempts():
            pass

    with pytest.raises(RuntimeError, match="with attempt"):
        asyncio.run(aloop()) if face == "async" else loop()


def test_loop_disabled():
    """While everything is disabled the first attempt is the only one."""
    with registry.disabled(), pytest.raises(ConnectionError):
        blocks(retry(base_delay=0), "sync", Flaky())


def test_loop_is_an_iterator():
    """A loop that was begun by hand can be gone on with, and does not begin anew."""
    loop = iter(retry(base_delay=0).attempts())
    with next(loop):
        raise ConnectionError
    numbers = []
    for one in loop:
        with one:
            numbers.append(one.number)
    assert numbers == [2]

    async def main():
        aloop = aiter(retry(base_delay=0).attempts())
        with await anext(aloop):
            raise ConnectionError
        return [one.number async for one in aloop if not one.__exit__(None, None, None)]

    assert asyncio.run(main()) == [2]


def test_attempt_repr():
    """An attempt shows its number."""
    for one in retry().attempts():
        with one:
            assert repr(one) == "<attempt 1>"


def items():
    yield 1


async def aitems():
    yield 1


@pytest.mark.parametrize("function", [items, aitems])
def test_results_of_generators(function):
    """`retry_on_result` over a generator function is refused at decoration."""
    with pytest.raises(TypeError, match="retry_on_result"):
        retry(retry_on_result=bool)(function)
