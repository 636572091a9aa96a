"""The breaker's layers and its owner's methods, where the machine meets clock, lock and listeners."""

import asyncio
import threading

import pytest

from resilient import CircuitOpenError, CircuitState, circuit_breaker, registry
from resilient.circuit_breaker.state import BreakerState, Epoch, Probe
from resilient.events import CallRejected, CircuitStateChanged

FACES = ["sync", "async"]
SHAPES = [{}, {"window_duration": 60, "failure_threshold": 5}, {"slow_call_duration": 60}]


def caller(breaker, face, body):
    """Guard a body; return a plain function that makes one call of it."""
    if face == "sync":
        return breaker(body)

    @breaker
    async def abody():
        return body()

    return lambda: asyncio.run(abody())


def fail():
    raise ConnectionError


def failing(breaker, times=1):
    for _ in range(times):
        with pytest.raises(ConnectionError):
            breaker.call(fail)


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("shape", SHAPES, ids=["plain", "time window", "slow calls"])
def test_layers_refuse_and_probe(face, shape, clock):
    """Each of the layers refuses while open, and lets a probe through that closes the circuit."""
    breaker = circuit_breaker("b", recovery_timeout=10, half_open_calls=1, **shape)
    failing(breaker, 5)
    call = caller(breaker, face, lambda: "ok")
    with pytest.raises(CircuitOpenError):
        call()
    clock.tick(10)
    assert call() == "ok"
    assert breaker.state is CircuitState.CLOSED
    assert breaker.get_metrics().success_count == 1


@pytest.mark.parametrize("face", FACES)
def test_slow_calls_open(face, clock):
    """Calls that answer, but slowly, open the circuit at their rate, and their rate is shown."""
    breaker = circuit_breaker("b", slow_call_duration=2, slow_call_rate_threshold=0.5, window_size=4)
    fast = caller(breaker, face, lambda: "ok")
    slow = caller(breaker, face, lambda: clock.tick(2))
    for call in (fast, slow, fast):
        call()
    assert breaker.state is CircuitState.CLOSED
    slow()
    assert breaker.state is CircuitState.OPEN
    assert (breaker.get_metrics().slow_call_rate, breaker.get_metrics().failure_count) == (0.5, 0)


@pytest.mark.parametrize("face", FACES)
def test_time_window_forgets(face, clock):
    """Failures that have left the time window do not open the circuit, and successes in it count in its rate."""
    breaker = circuit_breaker("b", window_duration=10, failure_threshold=2)
    failing(breaker)
    clock.tick(12)
    failing(breaker)
    for _ in range(3):
        caller(breaker, face, int)()
    assert breaker.state is CircuitState.CLOSED
    assert breaker.get_metrics().failure_rate == 0.25


def test_disabled_counts_nothing():
    """A disabled breaker lets everything through uncounted, also what ends after `reset()`."""
    breaker = circuit_breaker("b", failure_threshold=1)
    breaker.disable()
    failing(breaker, 3)
    assert breaker.call(int) == 0
    numbers = breaker.get_metrics()
    assert (numbers.state, numbers.failure_count, numbers.success_count) == (CircuitState.DISABLED, 0, 0)
    breaker.reset()
    assert breaker.get_state() is CircuitState.CLOSED


def test_attempt_reset(clock):
    """`attempt_reset()` goes to half-open once the open period is over, and says whether it did."""
    breaker = circuit_breaker("b", failure_threshold=1, recovery_timeout=10)
    assert not breaker.attempt_reset()
    failing(breaker)
    assert not breaker.attempt_reset()
    clock.tick(10)
    assert breaker.attempt_reset()
    assert not breaker.attempt_reset()


def test_open_period_grows(clock):
    """Every failed half-open round multiplies the open period up to its maximum; closing begins anew."""
    breaker = circuit_breaker(
        "b",
        failure_threshold=1,
        recovery_timeout=10,
        recovery_multiplier=2,
        max_recovery_timeout=35,
        half_open_calls=1,
    )
    periods = []
    for _ in range(4):
        failing(breaker)
        periods.append(breaker.get_metrics().retry_after)
        clock.tick(periods[-1])
    assert periods == pytest.approx([10, 20, 35, 35])
    assert breaker.call(int) == 0
    failing(breaker)
    assert breaker.get_metrics().retry_after == pytest.approx(10)


def test_open_period_never_overflows():
    """A growth beyond what a float can hold stays at the maximum."""
    config = circuit_breaker(recovery_multiplier=1e300, max_recovery_timeout=100).config
    machine = BreakerState(config, 0.0)
    machine.rounds = 50
    for _ in range(config.failure_threshold):
        machine.failure(machine.epoch, 0.0)
    assert machine.epoch.until == 100


@pytest.mark.parametrize(
    ("options", "change"),
    [
        ({"window_size": 4, "failure_threshold": 3}, {"window_size": 8}),
        ({"failure_threshold": 3}, {"failure_threshold": 3, "recovery_timeout": 5}),
    ],
    ids=str,
)
def test_configure_keeps_what_was_counted(options, change):
    """A live change keeps the failures seen so far, and the next one too many opens."""
    breaker = circuit_breaker("b", **options)
    failing(breaker, 2)
    registry.configure("circuit_breaker", "b", **change)
    assert breaker.get_metrics().failure_count == 2
    failing(breaker)
    assert breaker.state is CircuitState.OPEN


def test_configure_another_kind_of_window():
    """Going over to another kind of window begins with an empty one and keeps totals, without a transition."""
    seen = []
    registry.subscribe(seen.append, CircuitStateChanged)
    breaker = circuit_breaker("b", failure_threshold=3)
    failing(breaker, 2)
    registry.configure("circuit_breaker", "b", window_duration=10, failure_threshold=2)
    assert (breaker.get_metrics().failure_count, breaker.get_metrics().failure_rate) == (2, 0.0)
    failing(breaker)
    assert breaker.state is CircuitState.CLOSED
    assert seen == []
    failing(breaker)
    assert breaker.state is CircuitState.OPEN


def test_slow_call_window_resized():
    """Slow calls noted before a live change of the window's size still count."""
    breaker = circuit_breaker("b", slow_call_duration=1, slow_call_rate_threshold=0.5, window_size=4)
    machine = breaker._machine
    for _ in range(2):
        machine.epoch.calls += 1
        machine.success(machine.epoch, 0.0, slow=True)
    registry.configure("circuit_breaker", "b", window_size=3)
    assert breaker.get_metrics().slow_call_rate == 1.0


def test_round_begins_anew_when_its_size_changes(clock):
    """A live change during a half-open round drops its probes, so that no round has another size than configured."""
    breaker = circuit_breaker("b", failure_threshold=1, recovery_timeout=10, half_open_calls=2)
    failing(breaker)
    clock.tick(10)
    probe, _ = breaker.enter()
    assert isinstance(probe, Probe)
    registry.configure("circuit_breaker", "b", half_open_calls=1)
    assert breaker.get_metrics().probes_in_flight == 0
    breaker.leave((probe, 0.0), None)
    assert breaker.state is CircuitState.HALF_OPEN
    assert breaker.call(int) == 0
    assert breaker.state is CircuitState.CLOSED


def test_rejections(clock):
    """Open tells the rest of the period, isolated nothing, and each is counted and published with its reason."""
    seen = []
    registry.subscribe(seen.append, CallRejected)
    breaker = circuit_breaker("b", failure_threshold=1, recovery_timeout=10, half_open_calls=1)
    failing(breaker)
    clock.tick(4)
    with pytest.raises(CircuitOpenError):
        breaker.call(int)
    clock.tick(6)
    probe = breaker.enter()
    with pytest.raises(CircuitOpenError):
        breaker.call(int)
    breaker.leave(probe, KeyboardInterrupt())
    breaker.isolate()
    with pytest.raises(CircuitOpenError):
        breaker.call(int)
    assert [(e.reason, e.retry_after) for e in seen] == [
        ("open", pytest.approx(6)),
        ("probing", pytest.approx(10)),
        ("isolated", None),
    ]
    assert breaker.get_metrics().rejected_count == 3


def test_transitions_arrive_in_order():
    """A handler that changes the state is told of its own change after it has returned; nothing is told twice."""
    breaker = circuit_breaker("b", failure_threshold=1)
    seen, inside = [], []

    def handler(event):
        assert not inside, "told while telling"
        inside.append(1)
        seen.append((event.old.value, event.new.value))
        if event.new is CircuitState.OPEN:
            breaker.reset()
        inside.clear()

    registry.subscribe(handler, CircuitStateChanged)
    failing(breaker)
    assert seen == [("closed", "open"), ("open", "closed")]
    assert breaker.get_metrics().state_changes == 2


def test_listeners_run_outside_the_lock():
    """While a handler works, other threads call through the breaker and read it."""
    breaker = circuit_breaker("b", failure_threshold=1)
    answers = []

    def handler(event):
        other = threading.Thread(target=lambda: answers.append(breaker.get_metrics().state), daemon=True)
        other.start()
        other.join(5)

    registry.subscribe(handler, CircuitStateChanged)
    failing(breaker)
    assert answers == [CircuitState.OPEN]


def test_after_fork_frees_lock_and_probes(clock):
    """In a forked child the lock is free, whoever held it, and the parent's probes keep no places."""
    breaker = circuit_breaker("b", failure_threshold=1, recovery_timeout=10, half_open_calls=1)
    failing(breaker)
    clock.tick(10)
    probe = breaker.enter()
    breaker._lock.acquire()
    breaker.after_fork()
    assert breaker.get_metrics().probes_in_flight == 0
    breaker.leave(probe, None)
    assert breaker.state is CircuitState.HALF_OPEN
    assert breaker.call(int) == 0
    assert breaker.state is CircuitState.CLOSED


def test_dead_epoch_swallows_late_counts():
    """What a late call writes into an old epoch is seen by nobody."""
    breaker = circuit_breaker("b")
    old = breaker._machine.epoch
    breaker.reset()
    old.calls += 5
    breaker._machine.failure(old, 0.0)
    breaker._machine.success(old, 0.0)
    assert isinstance(breaker._machine.epoch, Epoch)
    assert breaker.get_metrics()[1:3] == (0, 0)


def test_consecutive_failures_end_with_a_success():
    """Under every rule a success ends the streak of failures that the metrics show."""
    breaker = circuit_breaker("b", failure_rate_threshold=0.9, window_size=10, minimum_calls=1)
    breaker.call(int)
    failing(breaker)
    breaker.call(int)
    assert breaker.get_metrics().consecutive_failures == 0


def test_configure_to_consecutive_failures():
    """After a live change from a rate to consecutive failures, failures with successes between do not open."""
    breaker = circuit_breaker("b", failure_rate_threshold=0.9, window_size=10, minimum_calls=1, failure_threshold=3)
    for _ in range(3):
        breaker.call(int)
        failing(breaker)
    breaker.call(int)
    registry.configure("circuit_breaker", "b", failure_rate_threshold=None, window_size=None, minimum_calls=None)
    failing(breaker)
    assert breaker.state is CircuitState.CLOSED
