"""The breaker under a crowd, across generations, contexts and clocks, and what it leaves behind."""

import asyncio
import threading

import pytest

from resilient import CircuitOpenError, circuit_breaker, registry
from resilient.events import CircuitStateChanged

from .helpers import Failing, Inside, aeventually, crowd, feed, in_threads, outcome, run, state, tripped


def rejected(results):
    return sum(isinstance(result, CircuitOpenError) for result in results)


def launch(face, breaker, body):
    """Start one guarded call that stays inside; return a function that waits for its end and gives its outcome."""
    got = []

    def work():
        got.append(outcome(face.via, breaker, face.function(body)))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()

    def finish():
        thread.join(5)
        assert got, "the call never ended"
        return got[0]

    return finish


class Held:
    """A body that stays inside until `go(error)` says how to end."""

    def __init__(self):
        self.entered, self.ended, self.error = threading.Event(), threading.Event(), None

    def __call__(self):
        self.entered.set()
        assert self.ended.wait(5), "never released"
        if self.error:
            raise self.error
        return "held"

    def go(self, error=None):
        self.error = error
        self.ended.set()


def held_call(face, breaker):
    body = Held()
    finish = launch(face, breaker, body)
    assert body.entered.wait(5), "the call was not admitted"
    return body, finish


# Half-open and the crowd


def test_half_open_admits_at_most_its_calls(clock):
    """16 threads and 50 tasks that arrive together at a half-open breaker: at most `half_open_calls` get in."""
    breaker, inside = tripped(half_open_calls=3), Inside()
    clock.tick(60)
    done = []

    def guarded():
        try:
            return breaker.call(inside.enter)
        finally:
            done.append(1)
            inside.release.set() if len(done) >= 16 + 50 - 3 else None

    async def aguarded():
        try:
            return await breaker.acall(inside.aenter)
        finally:
            done.append(1)
            inside.release.set() if len(done) >= 16 + 50 - 3 else None

    results = crowd(guarded, aguarded, threads=16, loops=2, tasks=25)
    assert inside.peak == 3
    assert rejected(results) == 16 + 50 - 3
    assert state(breaker) == "CLOSED"


def test_half_open_admits_a_round_at_most_when_probes_are_quick(clock):
    """Quick probes do not let the crowd through before the verdict: one round's worth of calls is made."""
    breaker, body = tripped(half_open_calls=2), Failing()
    clock.tick(60)
    results = in_threads(16, lambda index: breaker.call(body))
    assert body.calls == 2
    assert rejected(results) == 14
    assert state(breaker) == "OPEN"


def test_cancelled_probe_gives_its_place_back(clock):
    """A cancelled probe task neither closes nor opens, and the next task gets its place."""
    breaker = tripped(half_open_calls=1)
    clock.tick(60)

    async def go():
        probe = asyncio.ensure_future(breaker.acall(asyncio.sleep, 5))
        await asyncio.sleep(0.01)
        with pytest.raises(CircuitOpenError):
            await breaker.acall(asyncio.sleep, 0)
        probe.cancel()
        with pytest.raises(asyncio.CancelledError):
            await probe
        assert state(breaker) == "HALF_OPEN"
        await breaker.acall(asyncio.sleep, 0)

    run(go())
    assert state(breaker) == "CLOSED"


@pytest.mark.parametrize(("options", "lease"), [({"probe_timeout": 5}, 5), ({}, 60)], ids=["given", "default"])
def test_hung_probe_loses_its_place(clock, face, options, lease):
    """A probe that hangs loses its place after `probe_timeout` (by default `recovery_timeout`)."""
    breaker = tripped(half_open_calls=1, **options)
    clock.tick(60)
    body, finish = held_call(face, breaker)
    clock.tick(lease - 1)
    assert isinstance(outcome(face.via, breaker, face.function(Failing(None))), CircuitOpenError)
    clock.tick(2)
    assert face.via(breaker, face.function(Failing(None))) == "ok"
    assert state(breaker) == "CLOSED"
    body.go(ConnectionError("late"))
    assert isinstance(finish(), ConnectionError)
    assert state(breaker) == "CLOSED"


def test_result_of_a_lost_probe_is_dropped(clock, face):
    """A probe that lost its place says nothing when it ends after all, also while still half-open."""
    breaker = tripped(half_open_calls=2, probe_timeout=5)
    clock.tick(60)
    body, finish = held_call(face, breaker)
    clock.tick(6)
    feed(face, breaker, "S")
    assert state(breaker) == "HALF_OPEN"
    body.go()
    assert finish() == "held"
    assert state(breaker) == "HALF_OPEN"
    feed(face, breaker, "S")
    assert state(breaker) == "CLOSED"


# Generations


def test_late_success_does_not_close(clock, face):
    """A call admitted before the opening cannot close the breaker, neither OPEN nor HALF_OPEN."""
    breaker = circuit_breaker("b", failure_threshold=1, recovery_timeout=60, half_open_calls=1)
    first, second = held_call(face, breaker), held_call(face, breaker)
    feed(face, breaker, "F")
    first[0].go()
    assert first[1]() == "held"
    assert state(breaker) == "OPEN"
    clock.tick(60)
    assert state(breaker) == "HALF_OPEN"
    second[0].go()
    assert second[1]() == "held"
    assert state(breaker) == "HALF_OPEN"


def test_late_failure_does_not_open(clock, face):
    """A call admitted before the opening cannot open a half-open or a closed-again breaker."""
    breaker = circuit_breaker("b", failure_threshold=1, recovery_timeout=60, half_open_calls=1)
    first, second = held_call(face, breaker), held_call(face, breaker)
    feed(face, breaker, "F")
    clock.tick(60)
    assert state(breaker) == "HALF_OPEN"
    first[0].go(ConnectionError())
    first[1]()
    assert state(breaker) == "HALF_OPEN"
    feed(face, breaker, "S")
    second[0].go(ConnectionError())
    second[1]()
    assert state(breaker) == "CLOSED"


def test_late_failure_does_not_prolong(clock, face):
    """A call that fails while the breaker is open already does not restart the open period."""
    breaker = circuit_breaker("b", failure_threshold=1, recovery_timeout=60)
    body, finish = held_call(face, breaker)
    feed(face, breaker, "F")
    clock.tick(50)
    body.go(ConnectionError())
    finish()
    clock.tick(10)
    assert state(breaker) == "HALF_OPEN"


@pytest.mark.parametrize("command", ["reset", "isolate"])
def test_commands_start_a_new_generation(face, command):
    """What was admitted before `reset()` or `isolate()` says nothing afterwards."""
    breaker = circuit_breaker("b", failure_threshold=1)
    body, finish = held_call(face, breaker)
    getattr(breaker, command)()
    before = breaker.get_metrics()
    body.go(ConnectionError())
    finish()
    assert breaker.get_metrics().state is before.state
    assert breaker.get_metrics().failure_count == before.failure_count


@pytest.mark.parametrize(("command", "then"), [("reset", "CLOSED"), ("isolate", "ISOLATED")])
@pytest.mark.parametrize("error", [None, ConnectionError()], ids=["good", "bad"])
def test_commands_drop_the_probes_in_flight(clock, face, command, then, error):
    """A probe in flight when `reset()` or `isolate()` is called changes nothing when it ends."""
    breaker = tripped(half_open_calls=1)
    clock.tick(60)
    body, finish = held_call(face, breaker)
    getattr(breaker, command)()
    body.go(error)
    finish()
    assert state(breaker) == then


# Nobody waits


def test_closed_calls_never_wait_for_each_other():
    """Eight threads are inside one closed breaker at the same time."""
    breaker, meeting = circuit_breaker("b"), threading.Barrier(8)
    results = in_threads(8, lambda index: breaker.call(meeting.wait, 5))
    assert sorted(results) == list(range(8))


def test_closed_tasks_never_wait_for_each_other():
    """Fifty tasks are inside one closed breaker at the same time."""
    breaker, inside = circuit_breaker("b"), Inside()

    async def go():
        tasks = [asyncio.ensure_future(breaker.acall(inside.aenter)) for _ in range(50)]
        await aeventually(lambda: inside.now == 50)
        inside.release.set()
        await asyncio.gather(*tasks)

    run(go())
    assert breaker.get_metrics().success_count == 50


def test_two_breakers_calling_each_other_do_not_deadlock():
    """A→B in one thread and B→A in another, both failing and both changing state, never wait for each other."""
    left, right = (circuit_breaker(name, failure_threshold=1, recovery_timeout=0) for name in ("left", "right"))
    breakers = {"left": left, "right": right}
    registry.subscribe(lambda event: [one.state for one in breakers.values()], CircuitStateChanged)
    meeting = threading.Barrier(2)

    def nest(outer, inner):
        def body():
            meeting.wait(5)
            return inner.call(Failing())

        return [outcome(outer.call, body) for _ in range(3)]

    both = in_threads(2, lambda index: nest(left, right) if index else nest(right, left))
    assert all(isinstance(error, Exception) for errors in both for error in errors)


def test_counts_are_exact_under_threads_and_tasks():
    """Eight threads and two event loops: not one success or failure is lost."""
    breaker = circuit_breaker("b", failure_threshold=10**9)

    def guarded():
        for number in range(500):
            outcome(breaker.call, Failing(ConnectionError if number % 5 == 0 else None))

    async def aguarded():
        for number in range(100):
            try:
                await breaker.acall(asyncio.sleep, 0)
            except CircuitOpenError:
                raise AssertionError(number) from None

    results = crowd(guarded, aguarded, threads=8, loops=2, tasks=5)
    assert results == [None] * (8 + 10)
    metrics = breaker.get_metrics()
    assert (metrics.failure_count, metrics.success_count) == (8 * 100, 8 * 400 + 10 * 100)


def test_callbacks_run_outside_locks():
    """A subscriber may read, reset and call the breaker, even from another thread, while it is told of a change."""
    breaker, seen = circuit_breaker("b", failure_threshold=1), []

    def handler(event):
        if event.new.name != "OPEN":
            return
        seen.extend(in_threads(1, lambda index: (state(breaker), breaker.get_metrics().failure_count), limit=2))
        breaker.reset()
        seen.append(breaker.call(Failing(None)))

    registry.subscribe(handler, CircuitStateChanged)
    outcome(breaker.call, Failing())
    assert seen == [("OPEN", 1), "ok"]
    assert state(breaker) == "CLOSED"


def test_predicates_run_outside_locks():
    """The user's predicate may read the breaker from another thread."""
    seen = []

    def predicate(error):
        seen.extend(in_threads(1, lambda index: breaker.get_metrics().success_count, limit=2))
        return True

    breaker = circuit_breaker("b", failure_threshold=1, expected_exception=predicate)
    outcome(breaker.call, Failing())
    assert (seen, state(breaker)) == ([0], "OPEN")
