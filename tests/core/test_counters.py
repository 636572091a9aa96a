"""Counters are exact under threads that switch at every chance, and limits hold in mixed company."""

import asyncio
import contextlib
import threading

import pytest

from resilient import RetryBudget, bulkhead, circuit_breaker, degrade, registry, retry, timeout
from resilient.events import Event, FallbackServed

from .helpers import WAIT, fail, in_threads, run

pytestmark = pytest.mark.usefixtures("silence")
THREADS, CALLS = 8, 600


def traffic(call):
    """Make, in each thread, many calls of which every fourth fails."""

    def work():
        for number in range(CALLS):
            with contextlib.suppress(ConnectionError):
                call(fail if number % 4 == 0 else int)

    in_threads(*[work] * THREADS)


ALL, BAD = THREADS * CALLS, THREADS * CALLS // 4


@pytest.mark.parametrize(
    "options",
    [
        {"failure_threshold": 10**6},
        {"window_size": 10**5, "failure_rate_threshold": 1.0},
        {"window_duration": 3600, "failure_rate_threshold": 1.0},
        {"slow_call_duration": 3600, "failure_threshold": 10**6},
    ],
    ids=["consecutive", "count", "time", "slow"],
)
def test_breaker(options):
    """No success and no failure is lost or counted twice, in the totals and in the window."""
    breaker = circuit_breaker("b", **options)
    traffic(breaker(lambda body: body()))
    numbers = breaker.get_metrics()
    assert (numbers.failure_count, numbers.success_count) == (BAD, ALL - BAD)
    if "failure_rate_threshold" in options:
        assert numbers.failure_rate == 0.25


def test_retry_and_budget():
    """Calls by their end, retries, and the calls of a budget are exact."""
    budget = RetryBudget(1.0)
    policy = retry(base_delay=0, max_attempts=2, budget=budget)
    traffic(policy(lambda body: body()))
    assert policy.get_metrics() == (ALL, ALL - BAD, BAD, BAD, BAD)
    assert budget.get_metrics()[:3] == (ALL, BAD, 0)


def test_bulkhead():
    """Every call in and out is counted, whether or not it had to wait, and all places come back."""
    policy = bulkhead("h", max_concurrent=3, max_wait=WAIT)
    traffic(policy(lambda body: body()))
    assert policy.get_metrics() == (0, 3, 0, 3, ALL, 0, False)


def test_bulkhead_rejections():
    """Every call turned away is counted."""
    policy = bulkhead("h", max_concurrent=1, max_wait=0)
    with policy:
        rejected = []

        def work():
            for _ in range(CALLS):
                try:
                    policy.call(int)
                except Exception:  # noqa: BLE001 - counted
                    rejected.append(1)

        in_threads(*[work] * THREADS)
    assert policy.get_metrics().rejected == len(rejected) == ALL


def test_timeout():
    """Every call that passed its limit is counted."""
    policy, inside = timeout(0), timeout(WAIT)

    def work():
        for _ in range(100):
            with contextlib.suppress(TimeoutError):
                policy.call(int)
        for _ in range(20):
            assert inside.call(int) == 0

    in_threads(*[work] * THREADS)
    assert policy.get_metrics().timed_out == THREADS * 100
    assert inside.get_metrics()[1:3] == (0, 0)


@pytest.mark.parametrize("cached", [False, True])
def test_degrade(cached):
    """Every answer is counted under its source, and no place for fallbacks is lost."""
    seen = []
    registry.subscribe(seen.append, FallbackServed)
    policy = degrade(fallback="spare", fallback_limit=100, **({"cache": {}} if cached else {}))
    traffic(policy(lambda body: body()))
    assert policy.get_metrics() == (ALL - BAD, 0, BAD, 0, 0)
    assert len(seen) == BAD


def test_events():
    """Handlers come and go while others publish; one that stays misses nothing."""
    seen, bad = [], []
    registry.subscribe(seen.append, FallbackServed)
    guarded = degrade(fallback="spare")(fail)

    def call():
        for _ in range(CALLS):
            guarded()

    def come_and_go():
        for _ in range(CALLS // 4):
            with registry.subscribe(bad.append, Event):
                pass

    in_threads(*[call] * 4, *[come_and_go] * 4)
    assert len(seen) == 4 * CALLS


class Inside:
    """Counts who is inside at once."""

    def __init__(self):
        self.lock, self.now, self.peak, self.total = threading.Lock(), 0, 0, 0

    def step(self, by):
        with self.lock:
            self.now += by
            self.total += by > 0
            self.peak = max(self.peak, self.now)


def company(policy, inside, calls=30):
    """Let four threads and two event loops of six tasks call through one policy, all at once."""

    @policy
    def stay():
        inside.step(+1)
        threading.Event().wait(0.0002)
        inside.step(-1)

    @policy
    async def astay():
        inside.step(+1)
        await asyncio.sleep(0)
        inside.step(-1)

    def work():
        for _ in range(calls):
            with contextlib.suppress(Exception):
                stay()

    async def aworker():
        for _ in range(calls):
            with contextlib.suppress(Exception):
                await astay()

    async def aworkers():
        await asyncio.gather(*(aworker() for _ in range(6)))

    in_threads(*[work] * 4, *[lambda: run(aworkers())] * 2)
    return calls * (4 + 12)


def test_bulkhead_in_company():
    """Threads, tasks and two event loops on one bulkhead: never too many inside, and everybody gets in."""
    inside, policy = Inside(), bulkhead("h", max_concurrent=3, max_wait=WAIT)
    made = company(policy, inside)
    assert inside.peak <= 3
    assert (inside.total, inside.now) == (made, 0)
    assert policy.get_metrics() == (0, 3, 0, 3, made, 0, False)


def test_breaker_in_company(clock):
    """Threads, tasks and two event loops on one half-open breaker: never more probes than it has places for."""
    breaker = circuit_breaker("b", failure_threshold=1, recovery_timeout=60, half_open_calls=3)
    with contextlib.suppress(ConnectionError):
        breaker.call(fail)
    clock.tick(60)
    held = [breaker.enter()]  # as long as this probe runs, the round cannot end
    inside = Inside()
    made = company(breaker, inside)
    assert (inside.peak <= 2, inside.total) == (True, 2)
    numbers = breaker.get_metrics()
    assert (numbers.rejected_count, numbers.success_count, numbers.probes_in_flight) == (made - 2, 2, 1)
    breaker.leave(held[0], None)
    assert breaker.get_metrics().state.value == "closed"


def test_closed_breaker_in_company():
    """Threads, tasks and two event loops on one closed breaker: every call is counted once."""
    breaker, inside = circuit_breaker("b"), Inside()
    made = company(breaker, inside)
    assert breaker.get_metrics().success_count == inside.total == made
