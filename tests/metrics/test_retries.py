"""What the metrics of a retry say is what the script did, whatever way a call takes."""

import asyncio
from contextlib import suppress

import pytest
import tenacity

from resilient import RetryBudget, deadline, registry, retry
from resilient.testing import VirtualClock

from .helpers import Script, call, loop

DOWN = ConnectionError("down")


@pytest.fixture
def numbers(scrape):
    """Return attempts, successes and failures of a retry."""

    def read(name="r"):
        return tuple(scrape(f"recovery_retry_{what}_total", name=name) for what in ("attempts", "success", "failure"))

    return read


@pytest.fixture
def added(scrape):
    """Return how many calls the latency of a retry knows of, and the seconds that retrying has added to them."""

    def read(name="r"):
        return tuple(scrape(f"recovery_retry_latency_seconds_{what}", name=name) for what in ("count", "sum"))

    return read


def quick(**options):
    return retry(name="r", **{"max_attempts": 3, "base_delay": 0, "jitter": False, **options})


@pytest.mark.parametrize("way", [call, loop], ids=["call", "loop"])
@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (["ok"], (1, 1, 0)),
        ([DOWN, "ok"], (2, 1, 0)),
        ([DOWN], (3, 0, 1)),
        ([KeyError("no retry for this")], (1, 0, 1)),
        ([DOWN, KeyError("no retry for this")], (2, 0, 1)),
        (["poor", "ok"], (2, 1, 0)),
        (["poor"], (3, 0, 1)),
        ([DOWN, "poor", "ok"], (3, 1, 0)),
    ],
    ids=str,
)
def test_every_end(numbers, added, face, way, answers, expected):
    """Every attempt is counted, each call that ended is counted once, and the histogram knows of the same calls."""
    policy = quick(on=ConnectionError, retry_on_result=lambda result: result == "poor")
    body = Script(*answers)
    way(policy, face, body)

    assert numbers() == expected
    assert body.calls == expected[0]
    assert added()[0] == expected[1] + expected[2]


def test_many_calls_add_up(numbers, scrape, face):
    """Over several calls the numbers are sums, and the calls by result say the same."""
    policy = quick()
    for answers in (["ok"], [DOWN, "ok"], [DOWN], [DOWN, DOWN, "ok"]):
        call(policy, face, Script(*answers))

    assert numbers() == (1 + 2 + 3 + 3, 3, 1)
    assert scrape.of("r", "recovery_calls_total") == {
        ("calls_total", "retry", "success"): 3,
        ("calls_total", "retry", "failure"): 1,
    }


@pytest.mark.parametrize("way", [call, loop], ids=["call", "loop"])
def test_added_seconds(added, scrape, face, way):
    """What is added runs from the end of the first failed attempt to the end of the call; it is 0 without one."""
    policy = quick(base_delay=1.0, multiplier=3.0)
    with VirtualClock(autojump=True):
        for answers in (["ok"], [DOWN, "ok"], [DOWN, DOWN, "ok"], [DOWN]):
            way(policy, face, Script(*answers))

    assert added() == (4, 0 + 1 + 4 + 4)
    buckets = scrape.buckets("recovery_retry_latency_seconds", name="r")
    assert buckets == {"0.005": 1, "1.0": 1, "5.0": 2}


def test_attempts_take_time_too(added):
    """The time of the second attempt is among the seconds added; that of the first is not."""
    policy = quick(base_delay=1.0)
    with VirtualClock() as clock:
        times = iter([10.0, 100.0])

        def slow():
            clock.advance(next(times))
            if policy.tally.retries == 0:
                raise DOWN
            return "ok"

        with suppress(ConnectionError):
            asyncio.run(_advancing(policy, slow, clock))

    assert added() == (1, 101.0)


async def _advancing(policy, body, clock):
    async def abody():
        return body()

    task = asyncio.ensure_future(policy.acall(abody))
    for _ in range(5):
        await asyncio.sleep(0)
    clock.advance(1.0)
    await task


@pytest.mark.parametrize(
    ("options", "attempts", "reason"),
    [
        ({"max_attempts": 2}, 2, "attempts"),
        ({"max_attempts": None, "max_elapsed": 2.5}, 4, "elapsed"),
        ({"max_attempts": None, "stop": tenacity.stop_after_attempt(3)}, 3, "stop"),
        ({"budget": RetryBudget(0, 0)}, 1, "budget"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_reasons(numbers, scrape, face, options, attempts, reason):
    """A call that is given up is counted under the limit that was reached, and under no other."""
    with VirtualClock(autojump=True):
        call(quick(base_delay=1.0, multiplier=1.0, **options), face, Script(DOWN))

    assert numbers() == (attempts, 0, 1)
    given_up = scrape.of("r", "recovery_retry_exhausted_total")
    assert given_up.pop(("retry_exhausted_total", reason)) == 1
    assert not any(given_up.values())


def test_a_deadline_is_a_reason(numbers, scrape):
    """Where a deadline leaves no time, the reason is the deadline."""
    policy = quick(max_attempts=None, base_delay=1.0, multiplier=1.0)
    with VirtualClock(autojump=True), suppress(ConnectionError, TimeoutError), deadline(2.5):
        policy.call(Script(DOWN))

    assert numbers() == (4, 0, 1)
    assert scrape("recovery_retry_exhausted_total", name="r", reason="deadline") == 1


def test_a_budget_tells_what_is_left(scrape, face):
    """Tokens are the retries that would be granted now, and refusals are counted."""
    policy = quick(budget=RetryBudget(ratio=0, min_per_second=3))
    with VirtualClock():
        before = scrape("recovery_retry_budget_tokens", name="r")
        for _ in range(3):
            call(policy, face, Script(DOWN))
        after = scrape("recovery_retry_budget_tokens", name="r")

    retried = policy.get_metrics().retries
    assert before - after == retried > 0
    assert after < 1
    refused = scrape("recovery_retry_budget_refusals_total", name="r")
    assert refused == scrape("recovery_retry_exhausted_total", name="r", reason="budget") > 0


def raising(*_):
    raise ZeroDivisionError


@pytest.mark.parametrize("way", [call, loop], ids=["call", "loop"])
@pytest.mark.parametrize(
    ("options", "answer"),
    [
        ({"on": raising}, DOWN),
        ({"give_up_on": raising}, DOWN),
        ({"retry_on_result": raising}, "answer"),
        ({"backoff": raising, "base_delay": 1}, DOWN),
        ({"stop": raising}, DOWN),
    ],
    ids=["on", "give_up_on", "retry_on_result", "backoff", "stop"],
)
def test_a_function_of_the_user_that_raises(numbers, added, face, way, options, answer):
    """The attempt counts; the call ended neither well nor badly as far as anybody could judge."""
    way(quick(**options), face, Script(answer))

    assert numbers() == (1, 0, 0)
    assert added() == (0, 0)


class Stopped(BaseException):
    """What is no Exception, as an interrupt is none."""


@pytest.mark.parametrize("way", [call, loop], ids=["call", "loop"])
def test_interrupted_in_an_attempt(numbers, added, face, way):
    """An attempt that is interrupted is counted, and its call is neither a success nor a failure."""
    with suppress(Stopped):
        way(quick(), face, Script(DOWN, Stopped()))

    assert numbers() == (2, 0, 0)
    assert added() == (0, 0)


@pytest.mark.parametrize("form", ["call", "loop"])
@pytest.mark.parametrize(("fails", "attempts"), [(True, 1), (False, 1)], ids=["in the sleep", "in the attempt"])
def test_cancelled(numbers, added, form, fails, attempts):
    """A task that is cancelled leaves the attempts that were made, wherever it stood."""
    policy = quick(base_delay=30)

    async def body():
        if fails:
            raise DOWN
        await asyncio.sleep(30)

    async def in_a_loop():
        async for attempt in policy.attempts():
            with attempt:
                await body()

    async def main():
        task = asyncio.ensure_future(policy.acall(body) if form == "call" else in_a_loop())
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
    assert numbers() == (attempts, 0, 0)
    assert added() == (0, 0)


def test_a_loop_that_is_left(numbers, added):
    """A loop left by `break` inside its block ended well, as no error came of it."""
    for attempt in quick().attempts():
        with attempt:
            break

    assert numbers() == (1, 1, 0)
    assert added() == (1, 0)


def test_generators(numbers, added, face):
    """A stream is started again until its first item, and what happens after that is no attempt."""
    script = Script(DOWN, "item")

    @quick()
    def stream():
        yield script()
        raise DOWN

    @quick()
    async def astream():
        yield script()
        raise DOWN

    async def main():
        return [item async for item in astream()]

    with suppress(ConnectionError):
        asyncio.run(main()) if face == "async" else list(stream())

    assert numbers() == (2, 1, 0)
    assert added()[0] == 1


def test_a_retry_around_a_retry(numbers, added, face):
    """What the inner one has given up on is one failed attempt of the outer one, and no more."""
    inner, outer = retry(max_attempts=2, base_delay=0, jitter=False, name="inner"), quick()

    @outer
    @inner
    def fetch():
        raise DOWN

    @outer
    @inner
    async def afetch():
        raise DOWN

    with suppress(ConnectionError):
        asyncio.run(afetch()) if face == "async" else fetch()

    assert (numbers("inner"), numbers("r")) == ((2, 0, 1), (1, 0, 1))
    assert (added("inner")[0], added("r")[0]) == (1, 1)


def test_switched_off(numbers, added, face):
    """What passes through unguarded is not counted."""
    policy = quick()
    guarded = policy(Script("ok"))
    with registry.disabled():
        guarded()
        call(policy, face, Script("ok"))
        loop(policy, face, Script("ok"))

    assert numbers() == (0, 0, 0)
    assert added() == (0, 0)


def test_decorated_functions_share_their_policy(numbers):
    """Functions under one name count together."""
    quick()(Script("ok"))()
    quick()(Script(DOWN, "ok"))()

    assert numbers() == (3, 2, 0)
