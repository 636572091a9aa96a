"""Plans that a breaker starts: once, when it opens and stays open, and with a probe at their end."""

import logging
import os
import threading
import time
from datetime import timedelta

import pytest

from resilient import CircuitOpenError, CircuitState, circuit_breaker, registry
from resilient._registry import Registry
from resilient.errors import ConfigurationError
from resilient.events import CircuitStateChanged
from resilient.orchestrator import (
    ExecutionStatus,
    MemoryJournal,
    PlanInvalidError,
    PlanNotFoundError,
    RecoveryOrchestrator,
    RecoveryPlan,
    RecoveryStep,
    SqliteJournal,
)
from resilient.orchestrator import triggers as triggers_module


def fail():
    raise ConnectionError


def ok():
    return "ok"


def eventually(condition, seconds=5.0):
    """Whether it becomes true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def breaker_named(name="payments", **options):
    settings = {"failure_threshold": 1, "recovery_timeout": 600, "half_open_calls": 1, **options}
    return circuit_breaker(name, **settings)


def open_(breaker):
    """Let one call through that fails, whatever state it is in."""
    breaker.reset()
    with pytest.raises(ConnectionError):
        breaker.call(fail)
    assert breaker.state in (CircuitState.OPEN, CircuitState.HALF_OPEN)


class Scene:
    """An orchestrator with a plan of one step, which waits until it is let go."""

    def __init__(self, journal=None, *, error=None, **options):
        self.orchestrator = RecoveryOrchestrator(journal, **options)
        self.ran = []
        self.release = threading.Event()
        self.release.set()
        self.error = error

        def work(step, context):
            self.ran.append(context.parameters)
            assert self.release.wait(5)
            if self.error is not None:
                raise self.error

        self.orchestrator.register_step_executor("restart", work)
        self.orchestrator.register_plan(RecoveryPlan("restart", "Restart", [RecoveryStep("a", "A", "restart")]))

    def settled(self, count=1):
        """Whether so many executions have ended, and no more have begun."""
        done = eventually(lambda: [one.status.ended for one in self.orchestrator.history()] == [True] * count)
        time.sleep(0.03)
        return done and len(self.orchestrator.history()) == count


@pytest.fixture
def scenes():
    made = []

    def make(*args, **options):
        made.append(Scene(*args, **options))
        return made[-1]

    yield make
    for one in made:
        one.release.set()
        one.orchestrator.close()


@pytest.fixture
def scene(scenes):
    return scenes()


def quiet(trigger):
    """Whether nothing of the trigger is under way any more."""
    return eventually(lambda: not trigger._watching)


# Starting


def test_an_opening_breaker_starts_the_plan_once(scene):
    """When the breaker opens, the plan runs once, with its parameters, and the journal says what has started it."""
    breaker = breaker_named()
    with scene.orchestrator.on_open("payments", plan="restart", parameters={"host": "db1"}) as trigger:
        open_(breaker)
        assert scene.settled()
    assert scene.ran == [{"host": "db1"}]
    (execution,) = scene.orchestrator.history()
    assert (execution.trigger, execution.execution_id) == ("payments", trigger.execution_id)
    assert execution.status is ExecutionStatus.COMPLETED


def test_the_caller_does_not_wait(scene):
    """The call that opened the breaker returns before the plan has ended."""
    breaker = breaker_named()
    scene.release.clear()
    with scene.orchestrator.on_open("payments", plan="restart"):
        open_(breaker)
        assert eventually(lambda: scene.ran)
        assert not scene.orchestrator.history()[0].status.ended
        scene.release.set()
        assert scene.settled()


def test_other_breakers_start_nothing(scene):
    """A breaker of another name, and other changes of this one, start nothing."""
    breaker, other = breaker_named(), breaker_named("orders")
    with scene.orchestrator.on_open("payments", plan="restart"):
        open_(other)
        breaker.isolate()
        breaker.reset()
        breaker.disable()
        breaker.reset()
        assert scene.settled(0)


def test_a_breaker_that_is_made_later_counts(scene):
    """A trigger may be set up before the breaker exists."""
    with scene.orchestrator.on_open("payments", plan="restart"):
        open_(breaker_named())
        assert scene.settled()


def test_a_breaker_that_closes_in_time_starts_nothing(scene):
    """A breaker that is closed again before `after` is over starts nothing; the next opening is watched again."""
    breaker = breaker_named()
    with scene.orchestrator.on_open("payments", plan="restart", after=0.1) as trigger:
        open_(breaker)
        breaker.reset()
        assert quiet(trigger)
        assert scene.settled(0)
        open_(breaker)
        time.sleep(0.03)
        assert not scene.ran
        assert scene.settled()


def test_a_breaker_that_is_still_not_closed_starts_it(scene):
    """Half-open is not closed: a breaker that only tries again when `after` is over starts the plan."""
    breaker = breaker_named()
    with scene.orchestrator.on_open("payments", plan="restart", after=timedelta(milliseconds=50)):
        open_(breaker)
        breaker.offer_probe()
        assert breaker.state is CircuitState.HALF_OPEN
        assert scene.settled()


# Once at a time


def test_many_openings_are_one(scene):
    """Eight threads that open the breaker at the same moment, again and again, start one execution."""
    breaker = breaker_named()
    scene.release.clear()
    start = threading.Barrier(8)

    def go():
        start.wait()
        for _ in range(20):
            breaker.reset()
            with pytest.raises((ConnectionError, CircuitOpenError)):
                breaker.call(fail)

    with scene.orchestrator.on_open("payments", plan="restart", cooldown=0):
        threads = [threading.Thread(target=go) for _ in range(8)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        open_(breaker)
        assert eventually(lambda: scene.ran)
        assert len(scene.orchestrator.history()) == 1
        scene.release.set()
        assert scene.settled()


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_two_orchestrators_share_a_journal(scenes, tmp_path, kind):
    """Of two orchestrators that watch the same breaker and share a journal, one carries the plan out."""
    journal = MemoryJournal() if kind == "memory" else None
    both = [scenes(journal or SqliteJournal(tmp_path / "r.db")) for _ in range(2)]
    breaker = breaker_named()
    for one in both:
        one.release.clear()
    triggers = [one.orchestrator.on_open("payments", plan="restart") for one in both]
    open_(breaker)
    assert eventually(lambda: sum(len(one.ran) for one in both) == 1)
    assert eventually(lambda: sum(not one._watching for one in triggers) == 1)
    for one in both:
        one.release.set()
    assert all(map(quiet, triggers))
    open_(breaker)
    assert all(map(quiet, triggers)), "the cooldown holds for both"
    assert sum(len(one.ran) for one in both) == 1


def test_a_recovery_under_way_is_left_alone(scene, caplog):
    """While the plan is being carried out an opening starts nothing, which is no error but a line in the log."""
    breaker = breaker_named()
    scene.release.clear()
    execution_id = scene.orchestrator.start_plan("restart")
    caplog.set_level(logging.INFO, "resilient.orchestrator")
    with scene.orchestrator.on_open("payments", plan="restart") as trigger:
        open_(breaker)
        assert quiet(trigger)
    assert len(scene.orchestrator.history()) == 1
    (line,) = [one.message for one in caplog.records if one.message.startswith("breaker payments opened")]
    assert execution_id in line
    own = [one for one in caplog.records if one.name == "resilient.orchestrator"]
    assert not [one for one in own if one.levelno >= logging.WARNING]


# Cooldown


def test_a_cooldown_follows_the_end(scene, monkeypatch):
    """Within `cooldown` seconds after the end of its execution another opening starts nothing; after it, it does."""
    later = [0.0]
    real = time.monotonic
    monkeypatch.setattr(triggers_module.CLOCK, "monotonic", lambda: real() + later[0])
    breaker = breaker_named()
    with scene.orchestrator.on_open("payments", plan="restart", cooldown=100) as trigger:
        open_(breaker)
        assert scene.settled()
        assert quiet(trigger)
        later[0] = 90.0
        open_(breaker)
        assert quiet(trigger)
        assert scene.settled(1)
        later[0] = 101.0
        with_time(monkeypatch, 101.0)
        open_(breaker)
        assert scene.settled(2)


def with_time(monkeypatch, seconds):
    """Let the time of day be later (earlier), for everyone who asks."""
    real = triggers_module.datetime

    class Shifted(real):
        @classmethod
        def now(cls, tz=None):
            return real.now(tz) + timedelta(seconds=seconds)

    monkeypatch.setattr(triggers_module, "datetime", Shifted)


def test_no_cooldown(scene):
    """With a cooldown of 0 every opening after the end of the last execution starts the plan."""
    breaker = breaker_named()
    with scene.orchestrator.on_open("payments", plan="restart", cooldown=0) as trigger:
        for count in range(1, 4):
            open_(breaker)
            assert scene.settled(count)
            assert quiet(trigger)


def test_an_execution_that_failed_has_a_cooldown_too(scene):
    """A plan that could not help is not started again and again."""
    scene.error = OSError("no")
    breaker = breaker_named()
    with scene.orchestrator.on_open("payments", plan="restart", cooldown=100) as trigger:
        open_(breaker)
        assert scene.settled()
        assert quiet(trigger)
        open_(breaker)
        assert scene.settled(1)


def test_the_cooldown_outlives_the_process(scenes, tmp_path):
    """A process that starts anew finds in the journal when its predecessor's execution ended."""
    first = scenes(SqliteJournal(tmp_path / "r.db"))
    breaker = breaker_named()
    first.orchestrator.on_open("payments", plan="restart", cooldown=100)
    open_(breaker)
    assert first.settled()
    first.orchestrator.close()
    second = scenes(SqliteJournal(tmp_path / "r.db"))
    with second.orchestrator.on_open("payments", plan="restart", cooldown=100) as trigger:
        open_(breaker)
        assert quiet(trigger)
        assert second.settled(1)
        assert second.ran == []


def test_what_a_person_started_has_no_cooldown(scene):
    """An execution that nobody's breaker started does not keep a breaker from starting one."""
    breaker = breaker_named()
    scene.orchestrator.execute_plan("restart")
    with scene.orchestrator.on_open("payments", plan="restart", cooldown=100):
        open_(breaker)
        assert scene.settled(2)


def test_a_clock_that_is_set_back_does_not_prolong_the_cooldown(scene, monkeypatch):
    """In the process that carried it out the cooldown is over when its seconds are, whatever the time of day says."""
    breaker = breaker_named()
    with scene.orchestrator.on_open("payments", plan="restart", cooldown=0.05) as trigger:
        open_(breaker)
        assert scene.settled()
        assert quiet(trigger)
        with_time(monkeypatch, -3600.0)
        time.sleep(0.06)
        open_(breaker)
        assert scene.settled(2)


# The probe


def test_a_completed_plan_offers_a_probe(scene):
    """After the plan the breaker is half-open long before its time, and the next call goes through and closes it."""
    breaker = breaker_named()
    with scene.orchestrator.on_open("payments", plan="restart"):
        open_(breaker)
        assert eventually(lambda: breaker.state is CircuitState.HALF_OPEN)
    assert breaker.call(ok) == "ok"
    assert breaker.state is CircuitState.CLOSED


def test_a_failed_plan_offers_none(scene):
    """After a plan that did not complete the breaker stays open for its time."""
    scene.error = OSError("no")
    breaker = breaker_named()
    with scene.orchestrator.on_open("payments", plan="restart") as trigger:
        open_(breaker)
        assert scene.settled()
        assert quiet(trigger)
    assert breaker.state is CircuitState.OPEN


def test_a_probe_that_fails_at_once_is_seen(scene):
    """A breaker that opens again while it is offered the probe starts the plan again, where the cooldown lets it."""
    breaker = breaker_named()
    tried = []

    def on_change(event):
        if event.new is CircuitState.HALF_OPEN and not tried:
            tried.append(1)
            with pytest.raises(ConnectionError):
                breaker.call(fail)

    with (
        registry.subscribe(on_change, CircuitStateChanged),
        scene.orchestrator.on_open("payments", plan="restart", cooldown=0),
    ):
        open_(breaker)
        assert scene.settled(2)
    assert eventually(lambda: breaker.state is CircuitState.HALF_OPEN)


def test_a_registry_of_ones_own(scenes):
    """An orchestrator watches the breakers of the registry it was given, and no others of the same name."""
    scene = scenes(registry=Registry())
    with scene.orchestrator.on_open("payments", plan="restart") as trigger:
        open_(breaker_named())
        assert quiet(trigger)
        assert scene.settled(0)


# Leaving


@pytest.mark.parametrize("how", ["call", "block", "close"])
def test_leaving_ends_it(scene, how):
    """After the trigger was called, its block left, or the orchestrator closed, an opening starts nothing."""
    breaker = breaker_named()
    if how == "block":
        with scene.orchestrator.on_open("payments", plan="restart") as trigger:
            assert trigger.active
    else:
        trigger = scene.orchestrator.on_open("payments", plan="restart")
        (trigger if how == "call" else scene.orchestrator.close)()
    trigger()
    assert not trigger.active
    open_(breaker)
    assert scene.settled(0)


def test_leaving_while_it_waits(scene):
    """A trigger that is ended while it waits for `after` starts nothing, and its thread goes soon."""
    breaker = breaker_named()
    trigger = scene.orchestrator.on_open("payments", plan="restart", after=60)
    open_(breaker)
    trigger()
    assert quiet(trigger)
    assert scene.settled(0)


def test_leaving_does_not_end_what_runs(scene):
    """An execution that was started goes on when its trigger is ended."""
    breaker = breaker_named()
    scene.release.clear()
    with scene.orchestrator.on_open("payments", plan="restart"):
        open_(breaker)
        assert eventually(lambda: scene.ran)
    scene.release.set()
    assert scene.settled()


def test_a_forked_child_watches_too(scene):
    """In a forked child the trigger starts the plan there; in the parent it is as if nothing had happened."""
    breaker = breaker_named()
    with scene.orchestrator.on_open("payments", plan="restart") as trigger:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                open_(breaker)
                code = 0 if scene.settled() and quiet(trigger) else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert scene.ran == []
        open_(breaker)
        assert scene.settled()


# What goes wrong


def test_a_journal_that_fails_is_logged(scene, monkeypatch, caplog):
    """Whatever goes wrong on the way is logged, and the next opening is watched again."""
    breaker = breaker_named()
    with scene.orchestrator.on_open("payments", plan="restart") as trigger:
        with monkeypatch.context() as broken:
            broken.setattr(scene.orchestrator, "history", lambda *args, **options: 1 / 0)
            open_(breaker)
            assert quiet(trigger)
        assert "triggered by breaker payments" in caplog.text
        open_(breaker)
        assert scene.settled()


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        ({"plan": "gone"}, PlanNotFoundError, "'gone'.*registered: 'restart'"),
        ({"after": -1}, ConfigurationError, "after=-1: must be seconds"),
        ({"after": "soon"}, ConfigurationError, "after='soon': must be seconds"),
        ({"cooldown": -0.5}, ConfigurationError, "cooldown=-0.5: must be seconds"),
        ({"cooldown": None}, ConfigurationError, "cooldown=None: must be seconds"),
        ({"parameters": [1]}, TypeError, "parameters: must be a mapping"),
        ({"parameters": {"x": object()}}, PlanInvalidError, r"parameters\.x: expected JSON-ready values"),
    ],
)
def test_bad_settings_are_refused(scene, given, kind, words):
    """What cannot work is refused by name and value, and nothing watches."""
    with pytest.raises(kind, match=words):
        scene.orchestrator.on_open("payments", **{"plan": "restart", **given})
    open_(breaker_named())
    assert scene.settled(0)


@pytest.mark.parametrize("name", [None, "", 5], ids=repr)
def test_a_breaker_has_a_name(scene, name):
    """What can be no name of a breaker is refused by its value."""
    with pytest.raises((TypeError, ConfigurationError), match=f"breaker_name={name!r}: must be "):
        scene.orchestrator.on_open(name, plan="restart")
