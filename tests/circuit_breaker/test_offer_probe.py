"""Offering a probe: whoever has reason to believe that a service works again lets calls try before the time is over."""

import asyncio
import threading

import pytest

from resilient import CircuitOpenError, CircuitState, circuit_breaker, registry
from resilient.events import CircuitStateChanged


def fail():
    raise ConnectionError


def opened(name="b", **options):
    breaker = circuit_breaker(name, failure_threshold=1, **{"recovery_timeout": 600, **options})
    with pytest.raises(ConnectionError):
        breaker.call(fail)
    assert breaker.state is CircuitState.OPEN
    return breaker


def ok():
    return "ok"


def call(breaker, face, function=ok):
    """One call through the breaker."""
    if face == "sync":
        return breaker.call(function)

    async def afunction():
        return function()

    return asyncio.run(breaker.acall(afunction))


FACES = pytest.mark.parametrize("face", ["sync", "async"])


@FACES
def test_an_open_circuit_takes_the_offer(face):
    """An open circuit is half-open at once, long before its time, and calls that succeed close it."""
    breaker = opened(half_open_calls=1)
    with pytest.raises(CircuitOpenError):
        call(breaker, face)
    assert breaker.offer_probe() is True
    assert breaker.state is CircuitState.HALF_OPEN
    assert call(breaker, face) == "ok"
    assert breaker.state is CircuitState.CLOSED


@FACES
def test_a_failing_probe_opens_again(face):
    """A probe that fails opens the circuit for a whole period, after which it can be offered again."""
    breaker = opened(half_open_calls=1)
    breaker.offer_probe()
    with pytest.raises(ConnectionError):
        call(breaker, face, fail)
    assert breaker.state is CircuitState.OPEN
    with pytest.raises(CircuitOpenError) as caught:
        call(breaker, face)
    assert caught.value.retry_after > 590
    assert breaker.offer_probe() is True


@pytest.mark.parametrize("state", ["closed", "half-open", "isolated", "disabled"])
def test_other_states_stay_as_they_are(state):
    """Where the circuit is not open the offer changes nothing, is answered by False, and is no event."""
    breaker = opened() if state == "half-open" else circuit_breaker("b")
    if state == "half-open":
        breaker.offer_probe()
    elif state == "isolated":
        breaker.isolate()
    elif state == "disabled":
        breaker.disable()
    before, seen = breaker.state, []
    with registry.subscribe(seen.append, CircuitStateChanged):
        assert breaker.offer_probe() is False
    assert (breaker.state, seen) == (before, [])


def test_an_offer_does_not_free_places_of_a_round_under_way():
    """While probes are under way, another offer lets no more through than `half_open_calls`."""
    breaker = opened(half_open_calls=1)
    breaker.offer_probe()
    with breaker:
        assert breaker.offer_probe() is False
        with pytest.raises(CircuitOpenError):
            breaker.call(ok)
    assert breaker.state is CircuitState.CLOSED


def test_the_offer_is_an_event():
    """Listeners hear of one change from open to half-open, with its reason, and may use the breaker in it."""
    breaker, seen = opened(half_open_calls=1), []

    def listen(event):
        seen.append((event.name, event.old, event.new, event.reason, breaker.state))

    with registry.subscribe(listen, CircuitStateChanged):
        breaker.offer_probe()
    open_, half = CircuitState.OPEN, CircuitState.HALF_OPEN
    assert seen == [("b", open_, half, "probe offered", half)]


def test_an_offer_when_the_time_is_over_anyway(clock):
    """When the open period is over but no call has come yet, the offer is what makes the circuit half-open."""
    breaker = opened(recovery_timeout=10, half_open_calls=1)
    clock.tick(11)
    assert breaker.offer_probe() is True
    assert breaker.call(ok) == "ok"
    assert breaker.state is CircuitState.CLOSED


def test_a_late_result_of_before_is_not_a_probe():
    """A call that began before the circuit opened says nothing about it after the offer."""
    breaker = circuit_breaker("b", failure_threshold=1, recovery_timeout=600, half_open_calls=1)
    with breaker:
        with pytest.raises(ConnectionError):
            breaker.call(fail)
        breaker.offer_probe()
    assert breaker.state is CircuitState.HALF_OPEN


def test_the_open_period_that_follows_is_a_later_one(clock):
    """A probe that fails after an offer counts as a round, so that a growing open period grows."""
    breaker = opened(recovery_timeout=10, recovery_multiplier=3, half_open_calls=1)
    breaker.offer_probe()
    with pytest.raises(ConnectionError):
        breaker.call(fail)
    clock.tick(29)
    with pytest.raises(CircuitOpenError):
        breaker.call(ok)
    clock.tick(1)
    assert breaker.call(ok) == "ok"


def test_one_of_many_offers_is_taken():
    """Of sixteen offers at the same moment one is taken, and there is one event."""
    breaker, answers, seen = opened(), [], []
    start = threading.Barrier(16)

    def offer():
        start.wait()
        answers.append(breaker.offer_probe())

    threads = [threading.Thread(target=offer) for _ in range(16)]
    with registry.subscribe(seen.append, CircuitStateChanged):
        for one in threads:
            one.start()
        for one in threads:
            one.join()
    assert (answers.count(True), len(seen)) == (1, 1)


def test_no_more_probes_than_allowed_get_through():
    """After an offer, sixteen calls of threads at once are `half_open_calls` probes; the others are turned away."""
    breaker = opened(half_open_calls=3)
    breaker.offer_probe()
    inside, refused, release = [], [], threading.Event()

    def body():
        inside.append(1)
        assert release.wait(5)

    def one():
        try:
            breaker.call(body)
        except CircuitOpenError:
            refused.append(1)
            if len(refused) == 13:
                release.set()

    threads = [threading.Thread(target=one) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(inside), len(refused), breaker.state) == (3, 13, CircuitState.CLOSED)


def test_no_more_async_probes_than_allowed_get_through():
    """After an offer, sixteen tasks at once are `half_open_calls` probes; the others are turned away."""
    breaker = opened(half_open_calls=3)
    breaker.offer_probe()
    inside, refused = [], []

    async def main():
        release = asyncio.Event()

        async def body():
            inside.append(1)
            await release.wait()

        async def one():
            try:
                await breaker.acall(body)
            except CircuitOpenError:
                refused.append(1)
                if len(refused) == 13:
                    release.set()

        await asyncio.gather(*(one() for _ in range(16)))

    asyncio.run(main())
    assert (len(inside), len(refused), breaker.state) == (3, 13, CircuitState.CLOSED)
