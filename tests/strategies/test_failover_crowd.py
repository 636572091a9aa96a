"""Failover under chance: targets that go up and down at random, against a model, and under many threads and tasks."""

import asyncio
import inspect
import itertools
import random
import sys
import threading

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from resilient import CircuitOpenError, registry
from resilient.clock import CLOCK
from resilient.strategies.failover import TargetChanged, failover

RECOVERY, THRESHOLD, TARGETS = 30.0, 3, 3
LABELS = ["primary", "replica-1", "replica-2"]


class Down(Exception):
    """A target cannot be reached."""


class Wrong(Exception):
    """The call itself is at fault."""


class Model:
    """What is known of one target, written down once more in the simplest way: one call at a time, one probe."""

    def __init__(self):
        self.up, self.recovered, self.streak, self.until = True, 0.0, 0, None

    def ask(self, now, wrong):
        """Return what a call comes to: answer, down, wrong, or refused."""
        if self.until is not None and now < self.until:
            return "refused"
        if wrong and self.up:
            return "wrong"
        if self.up:
            self.streak, self.until = 0, None
            return "answer"
        self.streak += 1
        if self.until is not None or self.streak >= THRESHOLD:
            self.streak, self.until = 0, now + RECOVERY
        return "down"


class Targets(RuleBasedStateMachine):
    """Calls, failures, recoveries and time in any order, in the way of one face."""

    face = "sync"

    @initialize()
    def begin(self):
        self.now, self.asked, self.wrong = 1000.0, [], False
        self.exits = [registry.scoped(), CLOCK.use(self)]
        for context in self.exits:
            context.__enter__()
        self.models = [Model() for _ in range(TARGETS)]
        self.function = failover(*(self.target(index) for index in range(TARGETS)), on=Down, name="db")
        self.told = []
        registry.subscribe(lambda event: self.told.append((event.old, event.new)), TargetChanged)

    def target(self, index):
        def work():
            self.asked.append(index)
            if not self.models[index].up:
                raise Down(index)
            if self.wrong:
                raise Wrong(index)
            return index

        async def awork():
            return work()

        return work if self.face == "sync" else awork

    def monotonic(self):
        return self.now

    sleep = asleep = None

    def call(self, wrong=False):
        self.asked, self.wrong = [], wrong
        try:
            return self.function() if self.face == "sync" else asyncio.run(self.function())
        except Exception as error:  # noqa: BLE001 - compared with what the model expects
            return error

    @rule(index=st.integers(0, TARGETS - 1))
    def turn(self, index):
        """A target goes down, or up again."""
        model = self.models[index]
        model.up = not model.up
        model.recovered = self.now

    @rule(seconds=st.sampled_from([0.5, 7.0, 15.0, 29.5, 30.0, 31.0]))
    def wait(self, seconds):
        """Time passes."""
        self.now += seconds

    @rule(wrong=st.booleans() | st.just(False))
    def ask(self, wrong):
        """A call asks who the model asks, in order, and fails only where all that could be asked have failed."""
        active, asked, expected = self.function.active, [], None
        for index, model in enumerate(self.models):
            came = model.ask(self.now, wrong)
            if came == "refused":
                continue
            asked.append(index)
            if came in ("answer", "wrong"):
                expected = came, index
                break
        result = self.call(wrong)
        assert self.asked == asked
        assert active == (LABELS[asked[0]] if asked else None)
        if expected is None and asked:
            assert type(result) is Down
            assert result.args == (asked[-1],)
        elif expected is None:
            assert type(result) is CircuitOpenError
            assert result.retry_after == pytest.approx(min(model.until for model in self.models) - self.now)
        elif expected[0] == "answer":
            assert result == expected[1]
        else:
            assert type(result) is Wrong

    @rule()
    def fail_often(self):
        """A burst of calls, so that circuits open."""
        for _ in range(THRESHOLD):
            self.ask(False)

    @precondition(lambda self: self.models[0].up and self.now >= self.models[0].recovered + RECOVERY)
    @rule()
    def primary_is_back(self):
        """One recovery timeout after the primary has recovered, the next call is its own."""
        self.models[0].ask(self.now, False)
        assert self.call() == 0
        assert self.asked == [0]

    @invariant()
    def changes_make_a_chain(self):
        """Every change begins where the last one ended, and the last is where calls are served now."""
        before = "primary"
        for old, new in self.told:
            assert old == before
            assert old != new
            before = new
        assert before == [*LABELS, None][self.function.policies[0].serving]

    def teardown(self):
        for context in reversed(getattr(self, "exits", [])):
            context.__exit__(None, None, None)


class AsyncTargets(Targets):
    """The same for coroutine functions."""

    face = "async"


TestTargets = Targets.TestCase
TestTargets.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAsyncTargets = AsyncTargets.TestCase
TestAsyncTargets.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)


# Crowds -----------------------------------------------------------------------------------------

THREADS, CALLS = 16, 250


def in_threads(body):
    """Run the body in sixteen threads that switch at every chance; raise what one of them raises."""
    together, errors = threading.Barrier(THREADS), []

    def work(number):
        try:
            together.wait(20)
            body(number)
        except BaseException as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    finally:
        sys.setswitchinterval(before)
    assert not any(thread.is_alive() for thread in threads)
    if errors:
        raise errors[0]


class Shaky:
    """A target that is down at random; counts its calls and failures exactly."""

    def __init__(self, share):
        self.share, self.lock, self.calls, self.failures = share, threading.Lock(), 0, 0

    def __call__(self):
        fails = random.random() < self.share  # noqa: S311 - chance is what is wanted
        with self.lock:
            self.calls += 1
            self.failures += fails
        if fails:
            raise Down
        return self

    def arm(self, face):
        async def acall():
            await asyncio.sleep(0)
            return self()

        return self.__call__ if face == "sync" else acall


def swarm(function, note):
    """Make many calls from threads (or tasks in each thread), and note each outcome."""

    def work(_):
        for _ in range(CALLS):
            try:
                note(function())
            except (Down, CircuitOpenError) as error:
                note(type(error))

    async def atask():
        try:
            note(await function())
        except (Down, CircuitOpenError) as error:
            note(type(error))

    async def many():
        for _ in range(10):
            await asyncio.gather(*[atask() for _ in range(CALLS // 10)])

    in_threads((lambda _: asyncio.run(many())) if inspect.iscoroutinefunction(function) else work)


FACES = pytest.mark.parametrize("face", ["sync", "async"])


@FACES
def test_counts_match(face):
    """Every call is counted once by the breaker of every target it asked, as what it was there."""
    targets = [Shaky(0.5), Shaky(0.5), Shaky(0.5)]
    function = failover(*(target.arm(face) for target in targets), failure_threshold=10**6)
    outcomes = []
    swarm(function, outcomes.append)
    assert len(outcomes) == THREADS * CALLS
    assert targets[0].calls == THREADS * CALLS
    for before, after in zip(targets, [*targets[1:], None], strict=True):
        passed_on = outcomes.count(Down) if after is None else after.calls
        assert before.failures == passed_on
        assert outcomes.count(before) == before.calls - before.failures
    for target, breaker in zip(targets, function.breakers, strict=True):
        numbers = breaker.get_metrics()
        assert (numbers.failure_count, numbers.success_count) == (target.failures, target.calls - target.failures)


@FACES
def test_a_sound_replica_answers_all(face):
    """With one target that never fails, no call fails, however the others open, half-open and close."""
    targets = [Shaky(0.6), Shaky(0.6), Shaky(0)]
    function = failover(*(target.arm(face) for target in targets), recovery_timeout=0.001)
    outcomes, told = [], []
    with registry.subscribe(lambda event: told.append((event.old, event.new)), TargetChanged):
        swarm(function, outcomes.append)
    assert not {Down, CircuitOpenError} & {outcome for outcome in outcomes if isinstance(outcome, type)}
    assert [outcomes.count(target) for target in targets] == [target.calls - target.failures for target in targets]
    assert len(outcomes) == THREADS * CALLS
    assert told[0][0] == "primary"
    assert all(one[1] == two[0] for one, two in itertools.pairwise(told))
    assert told[-1][1] == [*LABELS, None][function.policies[0].serving]


@FACES
def test_back_at_the_primary_after_a_storm(face):
    """After all have been down under a crowd, one recovery timeout later every call is the primary's again."""
    now = [1000.0]

    class Time:
        sleep = asleep = None

        def monotonic(self):
            return now[0]

    targets = [Shaky(1), Shaky(1)]
    function = failover(*(target.arm(face) for target in targets))
    outcomes = []
    with CLOCK.use(Time()):
        swarm(function, outcomes.append)
        assert set(outcomes) == {Down, CircuitOpenError}
        assert all(target.calls < 3 * THREADS * 25 for target in targets)
        assert function.active is None
        for target in targets:
            target.share = 0
        now[0] += 30
        assert (function() if face == "sync" else asyncio.run(function())) is targets[0]
        outcomes.clear()
        swarm(function, outcomes.append)
    assert set(outcomes) == {targets[0]}
    assert function.active == "primary"
