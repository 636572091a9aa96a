"""Clock and deadlines: one time for all policies, exchangeable; deadlines only shorten."""

import asyncio
import contextvars
import threading
import time
from datetime import timedelta

import pytest

from resilient import circuit_breaker, deadline, remaining_time, retry
from resilient.clock import CLOCK
from resilient.deadlines import clip

from .helpers import fail, outcome, run


class Source:
    """A time that passes by sleeping only."""

    def __init__(self):
        self.now, self.slept = 1000.0, []

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds

    async def asleep(self, seconds):
        self.sleep(seconds)


@pytest.mark.parametrize("face", ["sync", "async"])
def test_another_clock(face):
    """Inside `use` every policy, also one made before, reads and sleeps by the other time."""
    source, policy = Source(), retry(base_delay=30, max_attempts=3, multiplier=1, jitter=False)

    async def afail():
        fail()

    with CLOCK.use(source):
        breaker = circuit_breaker("b", failure_threshold=1, recovery_timeout=60)
        outcome(breaker.call, fail)
        outcome(policy.call, fail) if face == "sync" else run(_quietly(policy.acall(afail)))
        assert breaker.state.value == "half_open"
    assert source.slept == [30, 30]
    assert abs(CLOCK.monotonic() - time.monotonic()) < 5


async def _quietly(awaitable):
    await asyncio.gather(awaitable, return_exceptions=True)


def test_clock_comes_back_after_an_error():
    """An error inside `use` puts the old clock back too."""
    before = CLOCK.monotonic
    with pytest.raises(ConnectionError), CLOCK.use(Source()):
        fail()
    assert CLOCK.monotonic is before


def test_default_clock_is_looked_up(monkeypatch):
    """The default clock finds `time.sleep` and `time.monotonic` when it is called, so that patching reaches it."""
    slept = []
    monkeypatch.setattr(time, "sleep", slept.append)
    outcome(retry(base_delay=3, jitter=False, max_attempts=2).call, fail)
    assert slept == [3]


def test_deadlines_nest():
    """A deadline inside another can only shorten it, and leaving it brings the outer one back."""
    source = Source()
    with CLOCK.use(source):
        assert remaining_time() is None
        with deadline(10):
            with deadline(timedelta(seconds=3)):
                assert remaining_time() == 3
                with deadline(60):
                    assert remaining_time() == 3
                source.now += 4
                assert remaining_time() == 0.0
            assert remaining_time() == 6
            assert (clip(100), clip(2)) == (6, 2)
        assert remaining_time() is None
        assert clip(100) == 100


def test_deadline_used_twice():
    """One deadline object counts from each entering anew, also within itself."""
    source, limit = Source(), deadline(5)
    with CLOCK.use(source):
        with limit:
            source.now += 2
            with limit:
                assert remaining_time() == 3
            assert remaining_time() == 3
        with limit:
            assert remaining_time() == 5
    assert repr(limit) == "deadline(5)"


def test_deadlines_belong_to_their_context():
    """Another thread, and a task begun before, know nothing of a deadline; a task begun inside inherits it."""
    seen = []

    async def main():
        early = asyncio.ensure_future(look())
        with deadline(5):
            inside = asyncio.ensure_future(look())
            thread = threading.Thread(target=lambda: seen.append(remaining_time()), daemon=True)
            thread.start()
            thread.join(5)
        return await early, await inside

    async def look():
        return remaining_time()

    early, inside = run(main())
    assert early is None
    assert 0 < inside <= 5
    assert seen == [None]
    assert contextvars.copy_context().run(remaining_time) is None
