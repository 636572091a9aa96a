"""The course of a scenario, alone: whatever happens, its times fit together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient.testing import (
    ErrorInjectionConfig,
    ErrorInjectionType,
    ExpectedRecoveryBehavior,
    InjectionTiming,
    RecoveryMode,
    RecoveryTestScenario,
)
from resilient.testing.recovery.course import Course
from resilient.testing.recovery.sources import source_of

ORDER = ["baseline", "fault", "observation", "recovery"]


def course(*, during=None, delay=0.0, mode=RecoveryMode.AUTOMATIC, within=10.0, **options):
    """The course of a scenario with one fault; baseline 1 s, and 3 operations in a row needed."""
    timing = InjectionTiming.delayed(delay)
    config = ErrorInjectionConfig(ErrorInjectionType.NETWORK_FAILURE, "json:dumps", timing, during=during, seed=1)
    recover = None if mode is RecoveryMode.AUTOMATIC else int
    options = {"baseline": 1.0, "timeout": 100.0, "recover": recover, **options}
    made = RecoveryTestScenario("x", "x", "", int, config, ExpectedRecoveryBehavior(mode, within), **options)
    return Course(made, [source_of(config, 1)])


operations = st.lists(st.tuples(st.floats(0, 0.5), st.booleans()), max_size=60)


@given(operations, st.floats(0.1, 5), st.floats(0.1, 5), st.integers(1, 5))
def test_recovery_is_the_first_steady_state(steps, baseline, fault, needed):
    """It is when the first of so many successes in a row ended, after the fault, whatever came before."""
    made = course(baseline=baseline, fault=fault, steady_probes=needed)
    now, after = 0.0, []
    for pause, ok in steps:
        now += pause
        made.note(now, ok)
        if now >= baseline + fault:
            after.append((now, ok))
    runs = (after[index : index + needed] for index in range(len(after) - needed + 1))
    expected = next((one[0][0] for one in runs if all(ok for _, ok in one)), None)
    assert made.recovered_at == expected


@given(operations, st.floats(0, 10), st.floats(0, 200))
def test_phases_come_in_order(steps, exhausted, now):
    """Of two moments the later one is never in an earlier phase, and each of the four borders is where it says."""
    made = course(fault=2.0)
    at = 0.0
    for pause, ok in steps:
        at += pause
        made.note(at, ok)
    made.exhausted(max(made.baseline_end, exhausted))
    moments = sorted([0.0, now, at, made.baseline_end, made.fault_end, made.recovered_at or 0.0, 1000.0])
    ranks = [ORDER.index(made.phase_of(one)) for one in moments]
    assert ranks == sorted(ranks)
    assert made.fault_start <= made.fault_limit
    assert made.baseline_end <= made.fault_end <= made.fault_limit


@given(operations)
def test_what_is_over_stays_over(steps):
    """Without a success under way, time alone never undoes the end."""
    made, at = course(fault=2.0), 0.0
    for pause, ok in steps:
        at += pause
        if made.is_over(at):
            assert made.is_over(at + 1)
            assert made.is_over(at + 100)
            return
        made.note(at, ok)


def test_ends_when_recovered():
    """Without `observe`, it is over when it has recovered, and not before the fault has ended."""
    made = course(fault=2.0)
    assert not made.is_over(2.9)
    for at in (3.0, 3.1, 3.2):
        assert not made.is_over(at)
        made.note(at, True)
    assert made.is_over(3.2)
    assert made.recovered_at == 3.0


def test_ends_when_patience_does():
    """Who is not well by then is not waited for; who is well, and has not shown it often enough, is let go on."""
    made = course(fault=2.0, within=5.0)
    made.note(7.9, False)
    assert (made.is_over(7.9), made.is_over(8.0)) == (False, True)
    made.note(8.0, True)
    assert not made.is_over(8.1)


def test_observes_as_long_as_told():
    """With `observe`, it lasts so long after the fault, recovered or not."""
    made = course(fault=2.0, observe=4.0)
    for at in (3.0, 3.1, 3.2):
        made.note(at, True)
    assert (made.is_over(6.9), made.is_over(7.0), made.end) == (False, True, 7.0)


def test_late_is_when_the_time_is_up():
    """At the timeout it is late, and no wait reaches beyond it."""
    made = course(fault=2.0, timeout=5.0)
    assert (made.is_late(4.9), made.is_late(5.0), made.end) == (False, True, 5.0)


@pytest.mark.parametrize(
    ("options", "start", "end"),
    [
        ({"during": (2, 3)}, 3.0, 4.0),
        ({"delay": 2.0}, 3.0, 4.0),
        ({"delay": 2.0, "fault": 5.0}, 3.0, 6.0),
        ({"during": (1, 9), "fault": 5.0}, 2.0, 6.0),
        ({"during": (1, 9), "delay": 4.0}, 5.0, 10.0),
        ({}, 1.0, 2.0),
    ],
)
def test_fault_phase(options, start, end):
    """It begins and ends as the faults say, or the scenario; what is not said at all takes a second."""
    made = course(**options)
    assert (made.fault_start, made.fault_end) == (start, end)


def test_exhausted_ends_the_fault():
    """When all that may happen has, the fault ends with the last; the operation that met it is one of the fault's."""
    made = course(fault=20.0)
    made.exhausted(3.0)
    assert made.fault_end == 3.0
    assert [made.phase_of(one) for one in (1.0, 3.0, 3.1)] == ["fault", "fault", "observation"]
    made.exhausted(50.0)
    assert made.fault_end == 3.0


@pytest.mark.parametrize(("mode", "at"), [(RecoveryMode.MANUAL, 3.0), (RecoveryMode.HYBRID, 8.0)])
def test_help_is_due(mode, at):
    """By hand when the fault has ended; both ways, when half of the time to recover is over."""
    assert course(mode=mode, fault=2.0).help_at == at


def test_by_hand_is_not_over_before():
    """A scenario that is to be mended by hand is not over before that was done, however well it is."""
    made = course(mode=RecoveryMode.MANUAL, fault=2.0)
    for at in (3.0, 3.1, 3.2):
        made.note(at, True)
    assert not made.is_over(3.2)
    made.awaits_help = False
    assert made.is_over(3.2)
