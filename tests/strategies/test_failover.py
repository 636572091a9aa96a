"""Failover: who is asked in which order, what passes, what is told, and how it goes together with the rest."""

import asyncio
import contextlib
import copy
import functools
import gc
import inspect
import logging
import pickle
import threading
import weakref

import pytest

from resilient import (
    CallTimeoutError,
    CircuitOpenError,
    CircuitState,
    ConfigurationError,
    Pipeline,
    bulkhead,
    circuit_breaker,
    deadline,
    registry,
    retry,
    timeout,
)
from resilient.clock import CLOCK
from resilient.events import CircuitStateChanged
from resilient.strategies.failover import Failover, TargetChanged, failover

FACES = ["sync", "async"]
OPEN, CLOSED, HALF_OPEN = CircuitState.OPEN, CircuitState.CLOSED, CircuitState.HALF_OPEN


class Time:
    """A clock that stands still unless it is told to go on."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds

    async def asleep(self, seconds):
        self.now += seconds


@pytest.fixture
def time():
    source = Time()
    with CLOCK.use(source):
        yield source


class Down(Exception):
    """A target cannot be reached."""


class Target:
    """A target that answers with its name, or raises `error` while there is one; `function` is its face."""

    def __init__(self, name, face="sync"):
        self.name, self.error, self.calls, self.before = name, None, 0, lambda: None

        def work(*args, **kwargs):
            """Answer."""
            self.calls += 1
            self.before()
            if self.error is not None:
                raise self.error() if isinstance(self.error, type) else self.error
            return self.name

        async def awork(*args, **kwargs):
            """Answer."""
            return work(*args, **kwargs)

        self.function = work if face == "sync" else awork


def caller(function):
    """Return a plain function that makes one call of a sync or async one."""
    if inspect.iscoroutinefunction(function):
        return lambda *args, **kwargs: asyncio.run(asyncio.wait_for(function(*args, **kwargs), 10))
    return function


def house(face, replicas=1, **options):
    """Return the targets, the failover around them, and a plain function that calls it."""
    targets = [Target("primary", face), *(Target(f"replica-{n + 1}", face) for n in range(replicas))]
    function = failover(*(target.function for target in targets), name="db", **options)
    return targets, function, caller(function)


def notes(error):
    return getattr(error, "__notes__", [])


# Order ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("face", FACES)
def test_primary_serves(face):
    """A healthy primary answers alone, and the failover looks like it."""
    (primary, replica), function, call = house(face)
    assert call(1, key=2) == "primary"
    assert (primary.calls, replica.calls) == (1, 0)
    assert function.active == "primary"
    assert function.__name__ == primary.function.__name__
    assert function.__doc__ == "Answer."
    assert inspect.signature(function) == inspect.signature(primary.function)
    assert inspect.iscoroutinefunction(function) is (face == "async")
    assert function.__wrapped__ is primary.function


@pytest.mark.parametrize("face", FACES)
def test_fails_over_in_the_same_call(face):
    """The call that meets the failure is answered by the next target, in order."""
    targets, _, call = house(face, replicas=2)
    targets[0].error = targets[1].error = Down
    assert call() == "replica-2"
    assert [target.calls for target in targets] == [1, 1, 1]


@pytest.mark.parametrize("face", FACES)
def test_skips_open_circuits(face, time):
    """A target that has failed three times in a row is not asked until the recovery timeout has passed."""
    (primary, _), function, call = house(face)
    primary.error = Down
    for _ in range(3):
        assert call() == "replica-1"
    assert function.active == "replica-1"
    for _ in range(20):
        assert call() == "replica-1"
    assert primary.calls == 3
    time.now += 30
    assert function.active == "primary"
    assert call() == "replica-1"
    assert primary.calls == 4
    assert function.breakers[0].state is OPEN


@pytest.mark.parametrize("face", FACES)
def test_returns_to_the_primary(face, time):
    """One successful probe brings the primary back."""
    (primary, replica), function, call = house(face)
    primary.error = Down
    for _ in range(3):
        call()
    primary.error = None
    assert call() == "replica-1"
    time.now += 30
    asked = replica.calls
    assert [call(), call(), call()] == ["primary"] * 3
    assert replica.calls == asked
    assert function.breakers[0].state is CLOSED


def test_more_probes(time):
    """With half_open_calls=2, it takes two successes."""
    (primary, _), function, call = house("sync", half_open_calls=2, failure_threshold=1)
    primary.error = Down
    call()
    primary.error = None
    time.now += 30
    assert call() == "primary"
    assert function.breakers[0].state is HALF_OPEN
    assert function.active == "primary"
    assert call() == "primary"
    assert function.breakers[0].state is CLOSED


def test_others_go_on_while_the_primary_is_probed(time):
    """Of sixteen threads that come to a half-open primary, one probes it and the others get the replica's answer."""
    inside, release, answers = threading.Event(), threading.Event(), []
    error = [Down()]

    def primary():
        if error:
            raise error[0]
        inside.set()
        assert release.wait(10)
        return "primary"

    function = failover(primary, lambda: "replica-1", failure_threshold=1)
    function()
    error.clear()
    time.now += 30
    probe = threading.Thread(target=lambda: answers.append(function()))
    probe.start()
    assert inside.wait(10)
    assert function.active == "replica-1"
    crowd = [threading.Thread(target=lambda: answers.append(function())) for _ in range(15)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join(10)
    assert answers == ["replica-1"] * 15
    time.now += 30
    assert function.active == "primary"  # the probe has lost its place
    time.now -= 30
    release.set()
    probe.join(10)
    assert answers[15:] == ["primary"]
    assert function.active == "primary"


def test_others_go_on_while_the_primary_is_probed_by_a_task(time):
    """The same among tasks."""
    error = [Down()]

    async def main():
        release = asyncio.Event()

        async def primary():
            if error:
                raise error[0]
            await release.wait()
            return "primary"

        async def replica():
            return "replica-1"

        function = failover(primary, replica, failure_threshold=1)
        await function()
        error.clear()
        time.now += 30
        probe = asyncio.create_task(function())
        await asyncio.sleep(0)
        assert await asyncio.gather(*[function() for _ in range(15)]) == ["replica-1"] * 15
        release.set()
        assert await probe == "primary"
        assert await function() == "primary"

    asyncio.run(asyncio.wait_for(main(), 10))


# Errors -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("face", FACES)
def test_other_errors_pass(face):
    """An error outside `on` passes at once, unchanged and uncounted, without another target being asked."""
    (primary, replica), function, call = house(face, on=Down, failure_threshold=1)
    error = primary.error = ValueError("wrong argument")
    with pytest.raises(ValueError, match="wrong argument") as caught:
        call()
    assert caught.value is error
    assert notes(error) == []
    assert replica.calls == 0
    assert function.breakers[0].get_metrics().failure_count == 0


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("on", [(Down, OSError), lambda error: isinstance(error, Down)], ids=["tuple", "predicate"])
def test_on_in_all_forms(face, on):
    """`on` is a type, a tuple or a predicate, for the breaker and for the failover alike."""
    (primary, _), function, call = house(face, on=on)
    primary.error = Down
    assert call() == "replica-1"
    assert function.breakers[0].get_metrics().failure_count == 1
    primary.error = KeyError
    with pytest.raises(KeyError):
        call()


@pytest.mark.parametrize("face", FACES)
def test_last_error_arrives_itself(face):
    """When all that were asked fail, the last error is raised, with the primary's as its context and a note on all."""
    targets, _, call = house(face, replicas=2)
    errors = [Down("one\nand more"), Down("two"), Down("three")]
    for target, error in zip(targets, errors, strict=True):
        target.error = error
    with pytest.raises(Down) as caught:
        call()
    assert caught.value is errors[2]
    assert caught.value.__context__ is errors[0]
    assert notes(errors[2]) == ["failover db: primary failed (Down: one); replica-1 failed (Down: two)"]
    assert notes(errors[0]) == notes(errors[1]) == []


@pytest.mark.parametrize("face", FACES)
def test_notes_do_not_grow(face, time):
    """The same objects raised again and again carry one note, the present one, and keep their own."""
    (primary, replica), _, call = house(face)
    primary.error, replica.error = Down("one"), Down("two")
    replica.error.add_note("mine")
    for _ in range(3):
        with pytest.raises(Down):
            call()
    assert notes(replica.error) == ["mine", "failover db: primary failed (Down: one)"]
    time.now += 30
    with pytest.raises(Down):
        call()
    assert notes(replica.error) == ["mine", "failover db: primary failed (Down: one)"]


@pytest.mark.parametrize("face", FACES)
def test_the_same_error_from_both(face):
    """One object raised by both targets gets a note, and no circle of contexts."""
    (primary, replica), _, call = house(face)
    primary.error = replica.error = Down("both")
    with pytest.raises(Down) as caught:
        call()
    assert caught.value.__context__ is None
    assert notes(caught.value) == ["failover db: primary failed (Down: both)"]


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("failing", [0, 1])
def test_error_of_an_earlier_target(face, failing):
    """Where the circuits after it are open, the error of the last target really asked arrives, with its own context."""
    targets, function, call = house(face, replicas=2)
    for index in {1, 2} - {failing}:
        function.breakers[index].isolate()
    errors = [Down(str(index)) for index in range(3)]
    for target, error in zip(targets, errors, strict=True):
        target.error = error
    before = errors[failing].__context__ = KeyError("its own") if failing == 0 else None
    with pytest.raises(Down) as caught:
        call()
    assert caught.value is errors[failing]
    assert caught.value.__context__ is (before if failing == 0 else errors[0])
    expected = {
        0: "replica-1 was not asked, its circuit is open; replica-2 was not asked, its circuit is open",
        1: "primary failed (Down: 0); replica-2 was not asked, its circuit is open",
    }
    assert notes(caught.value) == [f"failover db: {expected[failing]}"]


@pytest.mark.parametrize("face", FACES)
def test_note_on_an_error_that_passes(face):
    """A replica's error outside `on` says too that the primary had failed before."""
    (primary, replica), _, call = house(face, on=Down)
    primary.error, replica.error = Down, ValueError
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - a bare one
        call()
    assert notes(caught.value) == ["failover db: primary failed (Down)"]


@pytest.mark.parametrize("face", FACES)
def test_all_circuits_open(face, time):
    """With every circuit open, CircuitOpenError carries the failover's name and the soonest retry_after."""
    (primary, replica), function, call = house(face, failure_threshold=1)
    primary.error = Down
    call()
    time.now += 10
    replica.error = Down
    with pytest.raises(Down):
        call()
    time.now += 5
    for _ in range(2):
        with pytest.raises(CircuitOpenError) as caught:
            call()
        assert (caught.value.name, caught.value.retry_after) == ("db", 15.0)
        assert caught.value.__context__ is None
        assert caught.value.__cause__ is None
    assert function.active is None
    assert (primary.calls, replica.calls) == (1, 2)
    for breaker in function.breakers:
        breaker.isolate()
    with pytest.raises(CircuitOpenError) as caught:
        call()
    assert caught.value.retry_after is None


@pytest.mark.parametrize("face", FACES)
def test_rejections_of_a_target(face):
    """What a target's own breaker refuses counts as a failure of that target to answer, not as its circuit's."""
    own = circuit_breaker("own", failure_threshold=1)
    (primary, replica), _, _ = house(face)
    function = failover(own(primary.function), replica.function, name="db2")
    call = caller(function)
    own.isolate()
    for _ in range(5):
        assert call() == "replica-1"
    assert function.breakers[0].state is CLOSED
    replica.error = Down
    with pytest.raises(Down) as caught:
        call()
    assert notes(caught.value) == ["failover db2: primary failed (CircuitOpenError: own: the circuit is open)"]


def test_interrupts_pass():
    """KeyboardInterrupt passes at once, whatever `on` is, and is not counted."""
    (primary, replica), function, call = house("sync", on=BaseException)
    primary.error = KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        call()
    assert replica.calls == 0
    assert function.breakers[0].get_metrics().failure_count == 0
    primary.error, replica.error = Down, KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        call()


def test_cancellation_gives_the_probe_back(time):
    """A cancelled call passes at once; the probe it was is given back, and the next call probes."""
    error, asked = [Down()], []

    async def main():
        async def primary():
            if error:
                raise error[0]
            await asyncio.sleep(30)

        async def replica():
            asked.append(1)

        function = failover(primary, replica, failure_threshold=1)
        await function()
        error.clear()
        time.now += 30
        for _ in range(3):
            task = asyncio.create_task(function())
            await asyncio.sleep(0)
            assert function.active == "replica-1"
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert function.active == "primary"
        assert len(asked) == 1

    asyncio.run(asyncio.wait_for(main(), 10))


class Awkward(Down):
    """An error that cannot even be shown."""

    def __str__(self):
        raise RuntimeError

    @property
    def __notes__(self):
        return ("fixed",)


def test_awkward_errors():
    """An error that cannot be shown, or takes no notes, is passed on all the same."""
    (primary, replica), _, call = house("sync")
    primary.error = replica.error = Awkward
    with pytest.raises(Awkward):
        call()
    replica.error = Down
    with pytest.raises(Down) as caught:
        call()
    assert notes(caught.value) == ["failover db: primary failed (Awkward)"]


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize(("fails", "isolated"), [(1, ()), (2, ()), (1, (1,)), (0, (0, 1))], ids=str)
def test_nothing_is_kept(face, fails, isolated):
    """No error is kept alive, and none is left to the garbage collector."""
    seen = []

    class Marked(Exception):
        def __init__(self):
            seen.append(weakref.ref(self))

    primary, replica = Target("primary", face), Target("replica-1", face)
    primary.error, replica.error = Marked, Marked if fails == 2 else None
    function = failover(primary.function, replica.function)
    for index in isolated:
        function.breakers[index].isolate()

    async def attempt():
        with contextlib.suppress(Marked, CircuitOpenError):
            await function()

    gc.collect()
    gc.disable()
    try:
        if face == "sync":
            with contextlib.suppress(Marked, CircuitOpenError):
                function()
            assert gc.collect() == 0
        else:
            asyncio.run(attempt())
        assert [reference() for reference in seen] == [None] * fails
    finally:
        gc.enable()


# Deadlines --------------------------------------------------------------------------------------


@pytest.mark.parametrize("face", FACES)
def test_deadline_stops(face, time):
    """Once the deadline has passed no further target is asked, and the error says so."""
    (primary, replica), _, call = house(face)

    class Late(Down):
        def __init__(self):
            time.now += 3

    primary.error = Late

    def under_deadline():
        with deadline(2):
            call()

    with pytest.raises(Late) as caught:
        under_deadline()
    assert notes(caught.value) == ["failover db: replica-1 was not asked, the deadline has passed"]
    assert replica.calls == 0
    with deadline(10):
        assert call() == "replica-1"


def test_deadline_and_skipped_targets(time):
    """A deadline that has passed is for the targets to mind: the first that is asked at all is asked."""
    (_, replica), function, _ = house("sync")
    function.breakers[0].isolate()
    with deadline(1):
        time.now += 2
        assert function() == "replica-1"
    assert replica.calls == 1


# Telling ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("face", FACES)
def test_changes_are_told(face, time, caplog):
    """An event and a line in the log when the serving target changes, and none for a single failure."""
    targets, _, call = house(face, replicas=2, failure_threshold=2)
    told = []
    with registry.subscribe(lambda e: told.append((e.name, e.old, e.new)), TargetChanged), caplog.at_level("INFO"):
        targets[0].error = Down
        call()
        targets[0].error = None
        call()
        assert told == []
        targets[0].error = Down
        call()
        call()
        targets[1].error = Down
        call()
        call()
        targets[2].error = Down
        for _ in range(2):
            with pytest.raises(Down):
                call()
        with pytest.raises(CircuitOpenError):
            call()
        time.now += 30
        for target in targets:
            target.error = None
        assert call() == "primary"
    assert told == [
        ("db", "primary", "replica-1"),
        ("db", "replica-1", "replica-2"),
        ("db", "replica-2", None),
        ("db", None, "primary"),
    ]
    lines = [(r.levelno, r.getMessage()) for r in caplog.records if r.name == "resilient.failover"]
    assert lines[0] == (logging.WARNING, "db: served by replica-1 instead of primary")
    assert lines[2:] == [
        (logging.WARNING, "db: served by no target instead of replica-2"),
        (logging.WARNING, "db: served by primary instead of none"),
    ]
    record = next(record for record in caplog.records if record.name == "resilient.failover")
    assert (record.event, record.policy, record.old, record.new) == (
        "failover.target_changed",
        "db",
        "primary",
        "replica-1",
    )


def test_changes_by_hand_are_told():
    """Isolating and resetting the primary's breaker is seen by the next call."""
    _, function, call = house("sync")
    told = []
    with registry.subscribe(lambda e: told.append((e.old, e.new)), TargetChanged):
        function.breakers[0].isolate()
        call()
        function.breakers[0].reset()
        call()
    assert told == [("primary", "replica-1"), ("replica-1", "primary")]


def test_late_success_tells_nothing():
    """A slow call that began before the circuit opened does not make the primary the serving one again."""
    inside, release = threading.Event(), threading.Event()

    def primary(slow=False):
        if not slow:
            raise Down
        inside.set()
        assert release.wait(10)

    function = failover(primary, lambda slow=False: None, failure_threshold=1)
    told = []
    with registry.subscribe(lambda e: told.append((e.old, e.new)), TargetChanged):
        thread = threading.Thread(target=function, args=(True,))
        thread.start()
        assert inside.wait(10)
        function()
        release.set()
        thread.join(10)
        function()
    assert told == [("primary", "replica-1")]


def test_a_handler_may_call():
    """A subscriber that makes a call itself, and changes what there is to tell, finds no lock taken."""
    _, function, call = house("sync")
    told = []

    def handler(event):
        told.append((event.old, event.new))
        if len(told) == 1:
            function.breakers[0].reset()
            call()

    with registry.subscribe(handler, TargetChanged):
        function.breakers[0].isolate()
        call()
    assert told == [("primary", "replica-1"), ("replica-1", "primary")]


def test_success_path_is_quiet(monkeypatch):
    """A healthy primary is called without a look at clock or lock."""
    _, function, call = house("sync")
    policy = function.policies[0]
    monkeypatch.setattr(policy, "_lock", None)
    monkeypatch.setattr(policy, "look", None)
    monkeypatch.setattr(CLOCK, "monotonic", None)
    assert call() == "primary"


# The registry -----------------------------------------------------------------------------------


def test_breakers_are_registered():
    """With a name, the breakers have names of their own; without one, those of the targets."""
    _, function, _ = house("sync", replicas=2)
    names = ["db:primary", "db:replica-1", "db:replica-2"]
    assert [breaker.name for breaker in function.breakers] == names
    assert [registry.circuit_breakers[name] for name in names] == list(function.breakers)
    assert set(registry.snapshot()["circuit_breakers"]) == set(names)

    def one():
        pass

    def two():
        pass

    automatic = failover(one, two)
    assert [breaker.name.rpartition(".")[2] for breaker in automatic.breakers] == ["one", "two"]
    assert all(registry.circuit_breakers[breaker.name] is breaker for breaker in automatic.breakers)
    assert automatic.targets == (one, two)


def test_shared_by_name():
    """Failovers of one name share what is known of the targets; another configuration is an error."""
    (primary, _), _, call = house("sync", failure_threshold=1)
    reads, writes = Target("primary"), Target("replica-1")
    other = failover(reads.function, writes.function, name="db", failure_threshold=1)
    primary.error = Down
    call()
    assert other.active == "replica-1"
    assert other() == "replica-1"
    assert reads.calls == 0
    with pytest.raises(ConfigurationError, match="failure_threshold"):
        failover(reads.function, writes.function, name="db", failure_threshold=2)


def test_disabled():
    """While the registry is disabled the primary is called straight, whatever the circuits say."""
    (primary, _), function, call = house("sync")
    function.breakers[0].isolate()
    with registry.disabled():
        assert call() == "primary"
        primary.error = Down
        with pytest.raises(Down):
            call()
    primary.error = None
    assert call() == "replica-1"
    with registry.disabled():
        late = failover(primary.function, primary.function, name="db3")
        assert late() == "primary"


@pytest.mark.parametrize("face", FACES)
def test_configured_live(face, time):
    """A breaker's options can be changed while it works, and the calls that follow go by them."""
    (primary, replica), function, call = house(face)
    registry.configure("circuit_breaker", "db:primary", failure_threshold=1)
    registry.configure("circuit_breaker", "db:replica-1", slow_call_duration=5, window_size=1)
    primary.error = Down
    call()
    call()
    assert primary.calls == 1
    replica.before = lambda: time.sleep(5)
    call()
    assert function.breakers[1].get_metrics().slow_call_rate == 1.0
    with pytest.raises(CircuitOpenError):
        call()


def test_metrics():
    """The policy shows who serves, the states, and the number of changes; all of it plain in `describe()`."""
    (primary, _), function, call = house("sync", failure_threshold=1)
    policy = function.policies[0]
    assert isinstance(policy, Failover)
    assert policy.get_metrics() == ("primary", (CLOSED, CLOSED), 0)
    primary.error = Down
    call()
    assert policy.get_metrics() == ("replica-1", (OPEN, CLOSED), 1)
    shown = policy.describe()
    assert (shown["kind"], shown["name"], shown["active"]) == ("failover", "db", "replica-1")
    assert shown["states"] == ["open", "closed"]
    assert shown["config"]["failure_threshold"] == 1


def test_forked():
    """A forked child finds no lock taken, whoever held it."""
    _, function, call = house("sync")
    policy = function.policies[0]
    lock = policy._lock
    policy._outbox._sending = True
    registry.after_fork()
    assert policy._lock is not lock
    function.breakers[0].isolate()
    told = []
    with registry.subscribe(told.append, TargetChanged):
        call()
    assert len(told) == 1


# What it goes together with ---------------------------------------------------------------------


@pytest.mark.parametrize("face", FACES)
def test_retry_around(face):
    """A retry asks all targets again; it is one proxy with one more policy."""
    (primary, replica), function, _ = house(face, failure_threshold=100)
    retried = retry(max_attempts=3, base_delay=0, name="r")(function)
    assert [policy.kind for policy in retried.policies] == ["retry", "failover"]
    assert retried.__wrapped__ is primary.function
    assert retried.policies[1].active == "primary"
    primary.error = replica.error = Down
    with pytest.raises(Down):
        caller(retried)()
    assert (primary.calls, replica.calls) == (3, 3)
    replica.error = None
    assert caller(retried)() == "replica-1"


@pytest.mark.parametrize("face", FACES)
def test_in_a_pipeline(face):
    """A failover is called through a pipeline or a policy like any function."""
    (primary, _), function, _ = house(face)
    pipeline = Pipeline(retry(max_attempts=2, base_delay=0), bulkhead(max_concurrent=2))
    primary.error = Down
    if face == "sync":
        assert pipeline.call(function) == "replica-1"
        assert pipeline(function)() == "replica-1"
    else:
        assert asyncio.run(pipeline.acall(function)) == "replica-1"
        assert asyncio.run(pipeline(function)()) == "replica-1"


@pytest.mark.parametrize("face", FACES)
def test_guarded_targets(face):
    """Targets may be guarded: the primary's policies stand further in, a replica keeps its own."""
    (primary, replica), _, _ = house(face)
    tough = retry(max_attempts=2, base_delay=0)
    function = failover(tough(primary.function), tough(replica.function), name="db2")
    assert [policy.kind for policy in function.policies] == ["failover", "retry"]
    primary.error = Down
    assert caller(function)() == "replica-1"
    assert (primary.calls, replica.calls) == (2, 1)
    replica.error = Down
    with pytest.raises(Down):
        caller(function)()
    assert (primary.calls, replica.calls) == (4, 3)
    assert function.breakers[0].get_metrics().failure_count == 2


@pytest.mark.parametrize("face", FACES)
def test_outer_retry_sees_inner_ones(face):
    """What retries of the targets have given up on is not multiplied by a retry around."""
    (primary, replica), _, _ = house(face)
    tough = retry(max_attempts=2, base_delay=0, name="inner")
    function = failover(tough(primary.function), replica.function, name="db2")
    primary.error = replica.error = Down
    with pytest.raises(Down):
        caller(retry(max_attempts=5, base_delay=0, name="outer")(function))()
    assert (primary.calls, replica.calls) == (2, 1)


def test_timeout_of_the_primary():
    """A primary that hangs is left by its own timeout, and the replica answers."""
    release = threading.Event()

    @timeout(0.05)
    def primary():
        release.wait(10)

    function = failover(primary, lambda: "replica-1", on=CallTimeoutError)
    try:
        assert function() == "replica-1"
    finally:
        release.set()


def test_timeout_of_an_async_primary():
    """The same for an async one."""

    @timeout(0.05)
    async def primary():
        await asyncio.sleep(10)

    async def replica():
        return "replica-1"

    assert asyncio.run(failover(primary, replica)()) == "replica-1"


def test_failover_of_failovers():
    """A failover can be a target of another one."""
    targets = [Target(name) for name in "abcd"]
    near = failover(targets[0].function, targets[1].function, name="near")
    far = failover(targets[2].function, targets[3].function, name="far")
    function = failover(near, far, name="all")
    assert function() == "a"
    for target, expected in zip(targets, "bcd", strict=False):
        target.error = Down
        assert function() == expected
    targets[3].error = Down
    with pytest.raises(Down):
        function()


class Repository:
    """Methods of one object as targets."""

    def __init__(self):
        self.down = False

    def on_primary(self, key):
        if self.down:
            raise Down
        return self, "primary", key

    def on_replica(self, key):
        return self, "replica-1", key

    find = failover(on_primary, on_replica, name="repository")


def test_methods():
    """A failover of methods is a method."""
    with registry.scoped():
        repository = Repository()
        assert repository.find(1) == (repository, "primary", 1)
        repository.down = True
        assert repository.find(2) == (repository, "replica-1", 2)
        assert repository.find.active == "primary"
        assert Repository.find.targets == (Repository.on_primary, Repository.on_replica)
        bound = failover(repository.on_primary, repository.on_replica)
        assert bound(3) == (repository, "replica-1", 3)


def test_other_callables():
    """Partials, objects and lambdas are targets too."""

    class Asked:
        def __call__(self, key):
            raise Down

    function = failover(Asked(), functools.partial(lambda base, key: base + key, 10))
    assert function(1) == 11
    assert type(function).__get__(function, object()) is function  # an object does not bind

    async def answer(key):
        return key

    async def down(key):
        raise Down

    hidden = failover(lambda key: down(key + 0), lambda key: answer(key + 0))
    assert asyncio.run(hidden(5)) == 5
    half = failover(lambda key: down(key + 0), answer)
    assert asyncio.run(half(6)) == 6


def test_a_replica_that_returns_a_coroutine():
    """A replica of a sync primary that turns out to return a coroutine is refused at the call."""

    async def answer(key):
        return key

    def primary():
        if down:
            raise Down

    down = []
    function = failover(primary, lambda: answer(1))
    function()
    down.append(1)
    with pytest.raises(TypeError, match="returned a coroutine while the primary is sync"):
        function()


def test_copies_and_pickles():
    """Copying gives the failover itself; it is no more pickled than any function that another name hides."""
    function = Repository.find
    assert copy.copy(function) is copy.deepcopy(function) is function
    with pytest.raises(pickle.PicklingError):
        pickle.dumps(function)


# Loud at once -----------------------------------------------------------------------------------


def sync_one():
    pass


async def async_one():
    pass


def generator():
    yield


async def async_generator():
    yield


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ((sync_one,), "needs a replica"),
        ((sync_one, async_one), "sync_one is sync and .*async_one is async: make them all"),
        ((async_one, sync_one), "async_one is async and .*sync_one is sync"),
        ((sync_one, async_one.__name__), "give it the function itself"),
        ((generator, generator), "generator function .*fail over what it calls"),
        ((sync_one, async_generator), "generator function"),
        ((staticmethod(sync_one), sync_one), "give it the function itself"),
        ((sync_one, classmethod(sync_one)), "give it the function itself"),
    ],
    ids=["alone", "mixed", "mixed2", "name", "generator", "async generator", "staticmethod", "classmethod"],
)
def test_refused_targets(targets, message):
    """What cannot be a target is refused at once, and leaves no breaker behind."""
    with pytest.raises(TypeError, match=message):
        failover(*targets, name="db")
    assert not registry.circuit_breakers


def test_refused_once_known():
    """A guarded plain function that has turned out to return coroutines counts as async."""

    async def answer(key):
        return key

    @retry
    def hidden(key):
        return answer(key)

    assert asyncio.run(hidden(1)) == 1
    with pytest.raises(TypeError, match="make them all sync"):
        failover(lambda key: key, sync_one, hidden)
    assert asyncio.run(failover(hidden, answer)(2)) == 2


def test_refused_policies():
    """A policy is not a target, though it can be called."""
    with pytest.raises(TypeError, match="is a policy"):
        failover(sync_one, retry(max_attempts=2))


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"failure_threshold": 0}, ConfigurationError),
        ({"recovery_timeout": -1}, ConfigurationError),
        ({"half_open_calls": 0}, ConfigurationError),
        ({"on": ()}, ConfigurationError),
        ({"name": ""}, ConfigurationError),
        ({"name": 5}, TypeError),
        ({"on": "Down"}, TypeError),
        ({"wrong": 1}, TypeError),
    ],
    ids=str,
)
def test_refused_options(options, kind):
    """Bad options are refused at once, by name."""
    with pytest.raises(kind, match=next(iter(options))):
        failover(sync_one, sync_one, **options)


def test_transitions_are_told_too():
    """The breakers tell of their circuits as always."""
    (primary, _), _, call = house("sync", failure_threshold=1)
    told = []
    with registry.subscribe(lambda e: told.append((e.name, e.new)), CircuitStateChanged):
        primary.error = Down
        call()
    assert told == [("db:primary", OPEN)]
