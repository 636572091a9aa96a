"""The manager against a model, by random stories of many calls that overlap."""

import asyncio
import math
from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from resilient import degrade, registry
from resilient.clock import CLOCK
from resilient.degradation import DegradationManager, DegradationMode, DegradationModeChanged, ServiceHealthChanged

from .manager_helpers import Virtual

NORMAL, PARTIAL, FULL = DegradationMode.NORMAL, DegradationMode.PARTIAL, DegradationMode.FULL
OPTIONS = [
    {"minimum_calls": 5, "window_size": 20},
    {"degradation_threshold": 0.3, "recovery_threshold": 0.1, "minimum_calls": 3, "window_size": 8},
    {"degradation_threshold": 0.5, "recovery_threshold": 0.2, "minimum_calls": 1, "window_size": 4},
    {"degradation_threshold": 0.34, "recovery_threshold": 0.26, "minimum_calls": 2, "window_size": 5},
    {"degradation_threshold": 0.2, "recovery_threshold": 0.1, "minimum_calls": 2, "window_size": 5},
]
NAMES = ["a", "b", "c", "d"]


class Excluded(Exception):
    """An error outside `on=`."""


class Pause:
    """What a call waits for: whoever drives it sends a result, or throws."""

    def __await__(self):
        yield


class Twin:
    """A service in the words of the contract."""

    def __init__(self, options):
        self.options = options
        self.moving, self.last, self.calls = 0.0, deque(maxlen=options["window_size"]), 0
        self.degraded, self.age = False, 0
        self.begin()

    def begin(self):
        """Count anew what has happened since the last change of health."""
        self.errors = self.successes = self.made = self.real = 0

    @property
    def window(self):
        return sum(self.last) / len(self.last) if self.last else 0.0

    def ended(self, failed):
        """Account for an outcome; whether the health has changed."""
        low, high = self.options["recovery_threshold"], self.options["degradation_threshold"]
        was_clear = max(self.moving, self.window) < low
        self.moving = self.moving * 0.9 + 0.1 * failed
        self.last.append(failed)
        self.calls += 1
        self.errors += failed
        self.successes += not failed
        if self.degraded:
            changes = not failed and max(self.moving, self.window) < low
        else:
            enough = self.calls >= self.options["minimum_calls"] and not was_clear
            changes = failed and enough and min(self.moving, self.window) > high
        if changes:
            self.change()
        return changes

    def change(self):
        """Go from healthy to degraded, or back."""
        if self.degraded:
            # From above the one threshold to below the other, a success taking a tenth off each time.
            ratio = self.options["degradation_threshold"] / self.options["recovery_threshold"]
            assert self.successes >= math.log(ratio) / -math.log(0.9) - 1e-6
        else:
            assert self.errors >= 2
        self.degraded = not self.degraded
        self.age += 1
        self.begin()


class Stories(RuleBasedStateMachine):
    """Calls of several services begin, overlap and end in any order, while time passes and modes are forced."""

    @initialize(options=st.sampled_from(OPTIONS), services=st.integers(1, 4), trickle=st.sampled_from([0.0, 0.1, 5.0]))
    def begin(self, options, services, trickle):
        self.clock = Virtual()
        self.using = CLOCK.use(self.clock)
        self.using.__enter__()
        self.options = {"degradation_threshold": 0.1, "recovery_threshold": 0.05} | options
        self.manager = DegradationManager(trickle_interval=trickle, **self.options)
        self.functions, self.twins, self.running = {}, {}, []
        for name in NAMES[:services]:
            self.functions[name] = self.guarded(name)
            self.twins[name] = Twin(self.options)
        self.mode, self.forced, self.health_changes = NORMAL, None, 0
        self.events = []
        self.listening = registry.subscribe(self.events.append, DegradationModeChanged, ServiceHealthChanged)

    def teardown(self):
        if hasattr(self, "using"):
            self.listening()
            for call, _, _ in self.running:
                call.close()
            self.using.__exit__(None, None, None)

    def guarded(self, name):
        @degrade(fallback="spared", manager=self.manager, service=name, on=(ConnectionError, OSError))
        async def function():
            await Pause()
            return "real"

        return function

    # What happens

    def start(self, name):
        """Begin a call; returns it, or None where it was spared, which the contract must allow."""
        twin, call = self.twins[name], self.functions[name]()
        spared = False
        try:
            call.send(None)
        except StopIteration as end:
            spared, answer = True, end.value
        assert not spared or answer == "spared"
        gate = self.forced is FULL or (self.forced is not NORMAL and twin.degraded)
        assert gate or not spared, "a healthy service was spared"
        assert spared or self.forced is not FULL, "a real call in spite of full degradation"
        if gate and self.forced is not FULL:
            twin.made += 1
            twin.real += not spared
            assert twin.real * 2 < twin.made, "half of the calls to a degraded service were real"
        return None if spared else call

    def finish(self, call, name, age, how):
        """Let a call end: ok, error, excluded or cancelled."""
        twin = self.twins[name]
        errors = {"error": ConnectionError(), "excluded": Excluded(), "cancelled": asyncio.CancelledError()}
        result = None
        try:
            if how in errors:
                call.throw(errors[how])
            else:
                call.send(None)
        except StopIteration as end:
            result = end.value
        except (Excluded, asyncio.CancelledError) as error:
            result = error
        assert result == {"ok": "real", "error": "spared"}.get(how, errors.get(how))
        if how in ("ok", "error") and age == twin.age and twin.ended(how == "error"):
            self.health_changes += 1
            self.work_out_the_mode()
            self.health_changed(name)

    def health_changed(self, name):
        """Let calls of the former age go, which tell nothing any more."""
        for pending in [pending for pending in self.running if pending[1] == name]:
            self.running.remove(pending)
            pending[0].close()

    def work_out_the_mode(self):
        degraded, services = sum(twin.degraded for twin in self.twins.values()), len(self.twins)
        low, high = self.options["recovery_threshold"], self.options["degradation_threshold"]
        if self.forced is not None:
            self.mode = self.forced
        elif degraded == services:
            self.mode = FULL
        elif degraded / services > high:
            self.mode = PARTIAL
        elif degraded / services < low:
            self.mode = NORMAL
        elif self.mode is FULL:
            self.mode = PARTIAL

    names = st.sampled_from(NAMES)

    def chosen(self, name):
        return NAMES[NAMES.index(name) % len(self.functions)]

    @rule(name=names)
    def call(self, name):
        name = self.chosen(name)
        call = self.start(name)
        if call is not None:
            self.running.append((call, name, self.twins[name].age))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), how=st.sampled_from(["ok", "ok", "error", "error", "excluded", "cancelled"]))
    def end(self, data, how):
        call, name, age = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        self.finish(call, name, age, how)

    @rule(name=names, pattern=st.text("x.", min_size=1, max_size=5), times=st.integers(1, 12), pace=st.floats(0, 1))
    def traffic(self, name, pattern, times, pace):
        """Call one service many times, one call after the other."""
        name = self.chosen(name)
        for letter in pattern * times:
            self.clock.now += pace
            call = self.start(name)
            if call is not None:
                self.finish(call, name, self.twins[name].age, "error" if letter == "x" else "ok")

    @rule(how_many=st.integers(1, 4))
    def outage(self, how_many):
        """Let services fail until they are degraded, or few stories would come as far as full degradation."""
        for name in list(self.twins)[:how_many]:
            for _ in range(30 if self.forced is not FULL else 0):
                if not self.twins[name].degraded:
                    self.finish(self.start(name), name, self.twins[name].age, "error")

    @rule(name=names)
    def recover(self, name):
        """Let a service work, under steady traffic, until it must be healthy, or few stories would come as far."""
        name = self.chosen(name)
        for _ in range(2000 if self.twins[name].degraded and self.forced is not FULL else 0):
            self.clock.now += 2
            call = self.start(name)
            if call is not None:
                self.finish(call, name, self.twins[name].age, "ok")
            if not self.twins[name].degraded:
                break
        assert self.forced is FULL or not self.twins[name].degraded

    @rule(mode=st.sampled_from([None, None, None, NORMAL, PARTIAL, FULL]), seldom=st.integers(0, 2))
    def force(self, mode, seldom):
        if seldom:
            return
        self.manager.force_degradation(mode)
        before, self.forced = self.forced, mode
        self.work_out_the_mode()
        if before is not None and mode is None:
            # Inside the band either mode is right, as there is no measured one to come from.
            share = sum(twin.degraded for twin in self.twins.values()) / len(self.twins)
            if self.options["recovery_threshold"] <= share <= self.options["degradation_threshold"]:
                assert self.manager.get_current_mode() in (NORMAL, PARTIAL)
                self.mode = self.manager.get_current_mode()

    @rule()
    def evaluate(self):
        assert self.manager.evaluate() is self.mode

    # What must hold

    @invariant()
    def rates_and_health(self):
        services = self.manager.get_metrics().services
        for name, twin in self.twins.items():
            health = services[name]
            assert health.calls == twin.calls
            assert math.isclose(health.moving_rate, twin.moving, abs_tol=1e-9)
            assert math.isclose(health.window_rate, twin.window, abs_tol=1e-9)
            assert health.degraded is twin.degraded

    @invariant()
    def mode_fits(self):
        degraded = {name for name, twin in self.twins.items() if twin.degraded}
        assert self.manager.get_current_mode() is self.mode
        assert self.manager.degraded_services == degraded
        for name in self.twins:
            spared = self.forced is FULL or (self.forced is not NORMAL and name in degraded)
            assert self.manager.is_degraded(name) is spared

    @invariant()
    def nothing_flaps(self):
        """Health events alternate and tell of each change; each measured mode change belongs to one of them."""
        modes = [event for event in self.events if isinstance(event, DegradationModeChanged)]
        healths = [event for event in self.events if isinstance(event, ServiceHealthChanged)]
        assert len(healths) == self.health_changes
        for name in self.twins:
            told = [event.degraded for event in healths if event.service == name]
            assert told == [number % 2 == 0 for number in range(len(told))]
        assert [event.old for event in modes] == ["normal", *(event.new for event in modes)][: len(modes)]
        assert all(event.old != event.new for event in modes)
        assert sum(event.reason == "measured" for event in modes) <= len(healths)


class LateStories(Stories):
    """The same, where calls that began before a change of health end after it, and tell nothing any more."""

    def health_changed(self, name):
        pass


@pytest.mark.parametrize("stories", [Stories, LateStories], ids=["in time", "late"])
def test_machine(stories):
    """Whatever calls do, rates, health, mode and events are those of the contract."""
    run_state_machine_as_test(stories, settings=settings(max_examples=100, stateful_step_count=40))
