"""The bulkhead's ways in and out beside the common one: blocks, breakers, forks, closing, live changes."""

import asyncio
import threading

import pytest

from resilient import (
    BulkheadClosedError,
    BulkheadFullError,
    CircuitOpenError,
    CircuitState,
    bulkhead,
    circuit_breaker,
    deadline,
    registry,
)
from resilient.clock import CLOCK

FACES = ["sync", "async"]


def enter_and_leave(policy, face, error=None):
    """Pass through a block of the policy, in the way of the face."""

    async def block():
        async with policy:
            if error is not None:
                raise error

    if face == "async":
        asyncio.run(asyncio.wait_for(block(), 5))
        return
    with policy:
        if error is not None:
            raise error


def idle(policy, places):
    return (policy.active_requests, policy.available_permits, policy.queue_length) == (0, places, 0)


@pytest.mark.parametrize("face", FACES)
def test_block_with_a_breaker(face):
    """A block passes the built-in breaker first, tells it how it ended, and is turned away while it is open."""
    breaker = circuit_breaker("b", failure_threshold=2)
    policy = bulkhead("h", max_concurrent=1, circuit_breaker=breaker)
    enter_and_leave(policy, face)
    for _ in range(2):
        with pytest.raises(ConnectionError):
            enter_and_leave(policy, face, ConnectionError())
    with pytest.raises(CircuitOpenError):
        enter_and_leave(policy, face)
    assert breaker.get_metrics()[1:3] == (2, 1)
    assert idle(policy, 1)


@pytest.mark.parametrize("face", FACES)
def test_block_turned_away_gives_its_permit_back(face, clock):
    """A probe of the built-in breaker that then finds the bulkhead full gives its place back, and says nothing."""
    breaker = circuit_breaker("b", failure_threshold=1, recovery_timeout=10, half_open_calls=1)
    policy = bulkhead("h", max_concurrent=1, max_wait=0, circuit_breaker=breaker)
    with pytest.raises(ConnectionError):
        enter_and_leave(policy, face, ConnectionError())
    clock.tick(10)
    policy._places.add(-1)
    with pytest.raises(BulkheadFullError):
        enter_and_leave(policy, face)
    assert breaker.get_metrics().probes_in_flight == 0
    policy._places.add(+1)
    enter_and_leave(policy, face)
    assert breaker.state is CircuitState.CLOSED


@pytest.mark.parametrize("face", FACES)
def test_block_turned_away_leaves_no_trace(face):
    """Without a breaker, too, a block that finds the bulkhead full changes nothing but the count of rejections."""
    policy = bulkhead("h", max_concurrent=1, max_wait=0)
    policy._places.add(-1)
    with pytest.raises(BulkheadFullError):
        enter_and_leave(policy, face)
    policy._places.add(+1)
    assert idle(policy, 1)
    assert policy.get_metrics().rejected == 1


@pytest.mark.parametrize("face", FACES)
def test_close_wakes_those_who_wait(face):
    """Closing sends waiters away at once, lets those inside end, and may be done twice."""
    policy = bulkhead("h", max_concurrent=1, max_wait=None)
    held = policy.enter()
    outcomes = []

    def wait():
        try:
            enter_and_leave(policy, face)
        except BulkheadClosedError as error:
            outcomes.append(error.name)

    waiter = threading.Thread(target=wait, daemon=True)
    waiter.start()
    while not policy.queue_length and waiter.is_alive():
        threading.Event().wait(0.001)
    policy.close()
    policy.close()
    waiter.join(5)
    assert outcomes == ["h"]
    assert policy.active_requests == 1
    policy.leave(held, None)
    assert (policy.active_requests, policy.available_permits) == (0, 0)
    with pytest.raises(BulkheadClosedError):
        enter_and_leave(policy, face)
    assert policy.get_metrics().closed


def test_closing_while_somebody_lines_up():
    """Who lines up in the very moment of closing is sent away at once too, and does not sit out `max_wait`."""
    policy = bulkhead("h", max_concurrent=1, max_wait=None)
    policy.enter()
    outcomes = []

    class Closing:
        """A clock that is read between the look at `closed` and the line, as another thread may come in between."""

        sleep = asleep = None
        readings = 0

        def monotonic(self):
            self.readings += 1
            if self.readings == 2:  # the first is the deadline's own
                policy.close()
            return 0.0

    def wait():
        try:
            with deadline(0.2):
                policy.call(int)
        except BaseException as error:  # noqa: BLE001 - looked at below
            outcomes.append(type(error))

    with CLOCK.use(Closing()):
        waiter = threading.Thread(target=wait, daemon=True)
        waiter.start()
        waiter.join(0.1)
        in_time = not waiter.is_alive()
        waiter.join(5)
    assert outcomes == [BulkheadClosedError]
    assert in_time


@pytest.mark.parametrize("closed", [False, True])
def test_after_fork(closed):
    """A forked child begins with all places free and nobody waiting; a closed bulkhead stays closed."""
    policy = bulkhead("h", max_concurrent=2)
    held = policy.enter()
    old = policy._places
    if closed:
        policy.close()
    old.lock.acquire()
    policy.after_fork()
    assert (policy.active_requests, policy.available_permits) == (0, 0 if closed else 2)
    policy.leave(held, None)
    assert policy.active_requests == 0


def test_more_places_let_waiters_in():
    """A live change of `max_concurrent` lets those in who wait; fewer places take effect as calls end."""
    policy = bulkhead("h", max_concurrent=1)
    first = policy.enter()
    second = []
    waiter = threading.Thread(target=lambda: second.append(policy.enter()), daemon=True)
    waiter.start()
    while not policy.queue_length and waiter.is_alive():
        threading.Event().wait(0.001)
    registry.configure("bulkhead", "h", max_concurrent=2)
    waiter.join(5)
    assert policy.active_requests == 2
    registry.configure("bulkhead", "h", max_concurrent=1)
    assert (policy.active_requests, policy.available_permits) == (2, 0)
    policy.leave(first, None)
    policy.leave(second[0], None)
    assert idle(policy, 1)


@pytest.mark.parametrize("face", FACES)
def test_deadline_shortens_the_wait(face, clock):
    """A deadline that has passed allows no wait at all."""
    policy = bulkhead("h", max_concurrent=1, max_wait=None)
    held = policy.enter()
    with deadline(1):
        clock.tick(2)
        with pytest.raises(BulkheadFullError):
            enter_and_leave(policy, face)
    policy.leave(held, None)
    assert idle(policy, 1)


def test_permit_of_a_breaker_taken_away():
    """A block that entered past a breaker leaves in order after the breaker was taken away by a live change."""
    breaker = circuit_breaker("b")
    policy = bulkhead("h", max_concurrent=1, circuit_breaker=breaker)
    with policy:
        registry.configure("bulkhead", "h", circuit_breaker=None)
    assert idle(policy, 1)
