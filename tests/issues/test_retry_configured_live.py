"""A `max_elapsed` set while a call was being retried used to end its retries at once."""

import pytest

from resilient import registry, retry
from resilient.events import RetryExhausted

from .helpers import aoutcome, outcome, run


class Service:
    """Fails after `seconds` each; sets max_elapsed in its second call."""

    def __init__(self, time, seconds, **changes):
        self.time, self.seconds, self.changes, self.calls = time, seconds, changes, 0
        self.ends = []
        registry.subscribe(lambda event: self.ends.append((event.attempts, event.reason)), RetryExhausted)

    def __call__(self):
        self.calls += 1
        self.time.now += self.seconds
        if self.calls == 2:
            registry.configure("retry", "it", **self.changes)
        raise ConnectionError

    async def acall(self):
        self()

    def loop(self):
        for attempt in registry.retries["it"].attempts():
            with attempt:
                self()

    def ask(self, form):
        policy = retry(name="it", max_attempts=6, base_delay=0)
        if form == "sync":
            outcome(policy(self.__call__))
        elif form == "async":
            run(aoutcome(policy(self.acall)))
        else:
            outcome(self.loop)


@pytest.mark.parametrize("form", ["sync", "async", "loop"])
def test_max_elapsed_set_during_an_attempt(form, time):
    """The time counts from then: with enough of it all attempts are made."""
    service = Service(time, 1, max_elapsed=60)
    service.ask(form)
    assert service.ends == [(6, "attempts")]


@pytest.mark.parametrize("form", ["sync", "async"])
def test_max_elapsed_set_during_an_attempt_and_passed(form, time):
    """The time counts from then, and ends the retries when it has passed."""
    service = Service(time, 25, max_elapsed=60)
    service.ask(form)
    assert service.ends == [(5, "elapsed")]


@pytest.mark.parametrize("start", [0.0, 1000.0])
def test_max_elapsed_on_a_clock_from_zero(start, time):
    """A `max_elapsed` that was there from the beginning counts from there, whatever that clock shows."""
    time.now = start
    calls = []

    @retry(max_attempts=5, base_delay=0, max_elapsed=10)
    def work():
        calls.append(1)
        time.now += 20
        raise ConnectionError

    outcome(work)
    assert len(calls) == 1


@pytest.mark.parametrize("form", ["sync", "async", "loop"])
def test_stop_set_during_an_attempt(form, time):
    """A tenacity stop set meanwhile counts from then, too."""
    tenacity = pytest.importorskip("tenacity")
    service = Service(time, 1, stop=tenacity.stop_after_delay(60))
    service.ask(form)
    assert service.ends == [(6, "attempts")]
