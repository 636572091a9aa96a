"""The pure machine against the model, by random stories of many calls that overlap."""

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

from resilient.circuit_breaker.config import CircuitBreakerConfig
from resilient.circuit_breaker.state import BreakerState, Probe, Refusal

from .model import CLOSED, DISABLED, HALF_OPEN, ISOLATED, OPEN, Model

SLOW = {"slow_call_duration": 1.0, "slow_call_rate_threshold": 0.5}
CONSECUTIVE = [{"failure_threshold": 1}, {"failure_threshold": 3}, {"failure_threshold": 2, **SLOW}]
COUNT = [
    {"window_size": 4, "failure_threshold": 2},
    {"window_size": 6, "failure_threshold": 2, "minimum_calls": 3, **SLOW},
    {"window_size": 4, "failure_rate_threshold": 0.5},
    {"window_size": 5, "failure_rate_threshold": 0.4, "minimum_calls": 2},
    {"window_size": 3, "failure_rate_threshold": 1.0, "minimum_calls": 1, **SLOW},
]
TIME = [
    {"window_duration": 10.0, "failure_threshold": 2},
    {"window_duration": 10.0, "failure_threshold": 2, "minimum_calls": 4, **SLOW},
    {"window_duration": 10.0, "failure_rate_threshold": 0.5, "minimum_calls": 3},
    {"window_duration": 10.0, "failure_rate_threshold": 0.25},
]
RECOVERY = st.fixed_dictionaries(
    {
        "half_open_calls": st.integers(1, 4),
        "recovery_timeout": st.sampled_from([0.0, 5.0, 20.0]),
        "probe_timeout": st.sampled_from([None, 3.0]),
        "recovery_multiplier": st.sampled_from([1.0, 2.0]),
        "max_recovery_timeout": st.sampled_from([None, 40.0]),
        "recovery_jitter": st.sampled_from([0.0, 0.5]),
    }
)


class Stories(RuleBasedStateMachine):
    """Calls begin, overlap and end in any order while the owner turns the knobs; machine and model must agree."""

    shapes = CONSECUTIVE

    @initialize(data=st.data(), recovery=RECOVERY)
    def begin(self, data, recovery):
        options = {**recovery, **data.draw(st.sampled_from(self.shapes))}
        self.now = 100.0
        self.machine = BreakerState(CircuitBreakerConfig(**options), self.now)
        self.model = Model(options)
        self.running = []

    @rule(seconds=st.sampled_from([1, 1, 2, 4, 11, 25]))
    def wait(self, seconds):
        self.now += seconds

    @rule()
    def admit(self):
        epoch = self.machine.epoch
        permit = self.machine.admit(self.now) if epoch.gate else epoch
        expected = self.model.admit(self.now)
        if isinstance(permit, Refusal):
            assert permit.reason == expected
            assert permit.retry_after is None or permit.retry_after > 0
        else:
            assert not isinstance(expected, str), f"let in, though {expected}"
            self.running.append((permit, expected))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), failed=st.booleans(), slow=st.booleans(), draw=st.sampled_from([0.0, 0.5, 0.75]))
    def end(self, data, failed, slow, draw):
        permit, twin = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        slow = slow and self.machine.config.slow_call_duration is not None
        self.model.ended(twin, self.now, failed, slow, draw if failed else 0.5)
        if failed:
            self.machine.failure(permit, self.now, slow, draw)
        else:
            self.succeed(permit, slow)

    @precondition(lambda self: self.machine.epoch.state is CLOSED)
    @rule()
    def outage(self):
        """Fail until the circuit opens and wait its period out, or few stories would come as far as the probes."""
        for _ in range(12):
            if self.machine.epoch.state is CLOSED:
                self.machine.failure(self.machine.epoch, self.now)
                self.model.ended(self.model.admit(self.now), self.now, failed=True, slow=False, draw=0.5)
        if self.machine.epoch.state is OPEN:
            self.now = max(self.now, self.machine.epoch.until)
            self.admit()

    def succeed(self, permit, slow):
        """Count a success as the layers do: without a report, unless something is pending."""
        permit.calls += 1
        timed = self.machine.config.window_duration is not None
        if permit.watch or slow or self.now >= permit.until:
            self.machine.success(permit, self.now, slow)
        elif timed:
            permit.window.now.calls += 1

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def cancel(self, data):
        permit, twin = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        self.machine.ignored(permit)
        self.model.ignored(twin)

    @rule(seldom=st.integers(0, 5))
    def reset(self, seldom):
        if seldom:
            return
        self.machine.reset(self.now)
        self.model.go(CLOSED)
        self.model.failures = self.model.successes = self.model.rounds = 0

    @rule(by_hand=st.sampled_from(["isolate", "disable", "", "", "", "", "", ""]))
    def set_by_hand(self, by_hand):
        if not by_hand:
            return
        getattr(self.machine, by_hand)()
        self.model.go({"isolate": ISOLATED, "disable": DISABLED}[by_hand])

    @rule()
    def look(self):
        self.machine.tick(self.now)
        self.model.tick(self.now)

    @invariant()
    def agree(self):
        machine, model = self.machine, self.model
        assert machine.epoch.state is model.state
        assert (machine.failure_count, machine.success_count) == (model.failures, model.successes)
        assert [change[:2] for change in machine.transitions] == model.changes
        assert all(change.old is not change.new for change in machine.transitions)

    @invariant()
    def places_are_never_exceeded(self):
        epoch = self.machine.epoch
        if epoch.state is not HALF_OPEN:
            return
        assert len(epoch.probes) + epoch.good + epoch.bad <= self.machine.config.half_open_calls
        held = [permit for permit, _ in self.running if isinstance(permit, Probe) and permit in epoch.probes]
        assert len(held) == len(epoch.probes), "a place nobody holds"

    @invariant()
    def rates_are_those_of_the_window(self):
        if self.machine.epoch.state is not CLOSED or not self.machine.config.windowed:
            return
        calls, failures, slow = self.model.window(self.now)
        expected = (failures / calls, slow / calls) if calls else (0.0, 0.0)
        assert self.machine.rates(self.now) == expected


class CountStories(Stories):
    """The same with the last calls looked at."""

    shapes = COUNT


class TimeStories(Stories):
    """The same with the last seconds looked at."""

    shapes = TIME


@pytest.mark.parametrize("stories", [Stories, CountStories, TimeStories], ids=["consecutive", "count", "time"])
def test_machine(stories):
    """Whatever calls do, the machine has the states, totals, rates, places and transitions of the model."""
    run_state_machine_as_test(stories, settings=settings(max_examples=120, stateful_step_count=40))
