"""The verdict, from operations that were made up: each rule at its border, without running anything."""

import dataclasses
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient.testing import (
    ErrorInjectionConfig,
    ErrorInjectionType,
    ExpectedRecoveryBehavior,
    FaultRecord,
    Operation,
    Probe,
    RecoveryMetricsCollector,
    RecoveryTestResult,
    RecoveryTestScenario,
    SuccessCriteria,
    TestStatus,
)
from resilient.testing.recovery.recording import Recording
from resilient.testing.recovery.sources import source_of
from resilient.testing.recovery.statistics import percentile, wilson
from resilient.testing.recovery.verdict import judged, phases

RECORD = FaultRecord("target", "fault", 1.0, 7, calls=10, fired=5, start=1.0, end=2.0)


def operations(*counts, rate=10, duration=0.01):
    """So many good and bad ones, alternately: baseline 1 s, fault 1 s, then what comes after."""
    outcomes = [index % 2 == 0 for index, count in enumerate(counts) for _ in range(count)]
    return [
        Operation(number, number / rate, number / rate + duration, "", error=None if ok else OSError("broken"))
        for number, ok in enumerate(outcomes)
    ]


def verdict(made, *, criteria=None, fired=5, duration=None, timed_out=False, within=60.0, **options):
    """What is said of them."""
    config = ErrorInjectionConfig(ErrorInjectionType.NETWORK_FAILURE, "json:dumps", seed=7)
    expected = ExpectedRecoveryBehavior(max_recovery_time=within, success_criteria=criteria or SuccessCriteria())
    options = {"baseline": 1.0, "fault": 1.0, **options}
    scenario = RecoveryTestScenario("x", "x", "", int, config, expected, **options)
    recording = Recording(scenario, [source_of(config, 7)], RecoveryMetricsCollector())
    recording.timed_out = timed_out
    for one in sorted(made, key=lambda one: one.ended):
        recording.course.note(one.ended, one.ok)
    history = tuple(dataclasses.replace(one, phase=recording.course.phase_of(one.started)) for one in made)
    return judged(_result(recording, history, fired, duration), recording)


def _result(recording, history, fired, duration):
    times = sorted(one.duration for one in history)
    end = duration or max((one.ended for one in history), default=3.0)
    good = sum(one.ok for one in history)
    recovered, fault_end = recording.course.recovered_at, recording.course.fault_end
    values = dict.fromkeys(one.name for one in dataclasses.fields(RecoveryTestResult))
    values |= {
        "scenario_name": "a name",
        "scenario_id": "x",
        "status": TestStatus.INCONCLUSIVE,
        "seed": 7,
        "replay": "again",
        "duration": end,
        "success_rate": good / len(history) if history else 0.0,
        "success_interval": wilson(good, len(history)),
        "average_response_time": sum(times) / len(times) if times else 0.0,
        "p99": percentile(times, 0.99),
        "recovery_time": None if recovered is None else recovered - fault_end,
        "phases": phases(recording, history, end),
        "faults": (dataclasses.replace(RECORD, fired=fired),),
        "operations": history,
    }
    return RecoveryTestResult(**values)


def test_well_again_passes():
    """Good, bad in the fault, good again: PASSED."""
    assert verdict(operations(10, 10, 10)).status is TestStatus.PASSED


def test_unfired_goes_before_all():
    """A fault that never fired makes it INCONCLUSIVE, also where it would have failed."""
    result = verdict(operations(10, 30), fired=0)
    assert (result.status, len(result.reasons)) == (TestStatus.INCONCLUSIVE, 1)
    assert "the fault never fired: fault on target hit none of 10 calls" in result.explain()


def test_timeout_goes_before_all():
    """A run that was not over is TIMEOUT, and tells what else was unclear."""
    result = verdict(operations(10), fired=0, timed_out=True, duration=60.0)
    assert result.status is TestStatus.TIMEOUT
    assert "timeout=60 s" in result.reasons[0]
    assert "never fired" in result.reasons[1]


@pytest.mark.parametrize(("bad", "status"), [(1, TestStatus.PASSED), (2, TestStatus.INCONCLUSIVE)])
def test_baseline_border(bad, status):
    """At 95 % before the fault it counts, below it is inconclusive."""
    made = operations(20 - bad, bad, 0, 20, 20, rate=20)
    assert verdict(made).status is status


@pytest.mark.parametrize(("within", "status"), [(1.01, TestStatus.PASSED), (1.0, TestStatus.FAILED)])
def test_recovery_border(within, status):
    """Recovered just within the time it passed, a little later it failed."""
    assert verdict(operations(10, 20, 10), within=within).status is status


@pytest.mark.parametrize(("after", "status"), [(2, TestStatus.INCONCLUSIVE), (3, TestStatus.PASSED)])
def test_too_few_after_the_fault(after, status):
    """Fewer good operations after the fault than it takes, and no bad one: nobody can tell."""
    result = verdict(operations(10, 10, after))
    assert result.status is status
    if after == 2:
        assert result.reasons[0].startswith("too few samples: undecided: recovery time: 2 operations after it")


def test_bad_after_the_fault_fails():
    """One that failed after the fault, and no steady state: FAILED."""
    result = verdict(operations(10, 11, 2))
    assert result.status is TestStatus.FAILED
    assert "not recovered" in result.reasons[0]


@given(st.integers(3, 400), st.integers(0, 400), st.integers(3, 400), st.floats(0, 1), st.floats(0, 0.5))
def test_rate_rule(before, bad, after, least, tolerance):
    """Below for sure: failed. Above as observed, and not far below for sure: passed. Else nobody can tell, with n."""
    made = operations(before, bad, after, rate=10)
    criteria = SuccessCriteria(least, tolerance=tolerance, baseline_threshold=0.0)
    result = verdict(made, criteria=criteria, within=10_000.0)
    (check,) = (one for one in result.checks if one.name == "success rate")
    n = before + bad + after
    interval = wilson(before + after, n)
    share = (before + after) / n
    enough = interval.upper < least or interval.lower >= least - tolerance
    assert check.passed == ((share >= least) if enough else None)
    assert (check.n, check.interval) == (n, interval)
    assert f"n={n}" in str(check)
    if interval.upper < least:
        assert check.passed is False


@pytest.mark.parametrize(("longest", "status"), [(0.02, TestStatus.PASSED), (0.009, TestStatus.FAILED)])
def test_response_time_border(longest, status):
    """The average has to be within the bound."""
    criteria = SuccessCriteria(response_time_threshold=longest)
    assert verdict(operations(10, 10, 10), criteria=criteria).status is status


def test_all_failures_are_told():
    """Each requirement that was not met is a reason of its own."""
    criteria = SuccessCriteria(0.99, 0.001, data_consistency_required=True)
    result = verdict(operations(10, 30, 1), criteria=criteria, checker=lambda history: False, within=0.5)
    names = [one.split(": ")[1] for one in result.reasons]
    assert names == ["recovery time", "success rate", "response time", "data consistency"]
    assert result.score == 0


def test_probe_that_cannot_tell_is_inconclusive():
    """A requirement of the user's own may be undecided; one that raises has failed."""
    unsure = Probe("unsure", "something", lambda result: (None, "nothing seen"))
    assert verdict(operations(10, 10, 10), probes=(unsure,)).status is TestStatus.INCONCLUSIVE
    broken = Probe("broken", "something", lambda result: 1 / 0)
    result = verdict(operations(10, 10, 10), probes=(broken,))
    assert result.status is TestStatus.FAILED
    assert "the probe failed: ZeroDivisionError" in result.reasons[0]


def test_checker_counts_even_if_not_required():
    """Whoever gives a checker wants its answer to count."""
    result = verdict(operations(10, 10, 10), checker=lambda history: False)
    assert (result.status, result.data_consistent) == (TestStatus.FAILED, False)
    assert verdict(operations(10, 10, 10)).data_consistent is None


def test_score_is_weighted():
    """The score is the weighted share of what was met: 10 of 10 + 30 here, and 0 where nothing can be said."""
    probe = Probe("heavy", "something", lambda result: (False, "no"), weight=30)
    assert verdict(operations(10, 10, 10), probes=(probe,)).score == 25
    assert verdict(operations(10, 10, 10), fired=0).score == 0


@given(st.integers(0, 30), st.integers(0, 40), st.integers(0, 30), st.floats(0.1, 12))
def test_phases_cover_any_run(before, bad, after, duration):
    """Whatever happened, phases follow each other from 0 to the end, and every operation is in one of them."""
    made = [one for one in operations(before, bad, after) if one.ended <= duration]
    result = verdict(made, duration=duration)
    found = result.phases
    assert found[0].start == 0
    assert found[-1].end == duration
    assert all(one.end == other.start for one, other in pairwise(found))
    assert all(one.start <= one.end for one in found)
    assert sum(one.operations for one in found) == len(made)


def test_explain_has_all():
    """The text has the verdict, each check, what the faults hit, the seed and the command, each once."""
    text = verdict(operations(10, 10, 10), criteria=SuccessCriteria(0.9)).explain()
    assert text.splitlines()[0] == "a name (x): FAILED"
    for part in ("success rate: 66.7%", "recovery time: ", "hit 5 of 10 calls", "seed 7", "the same again: again"):
        assert text.count(part) == 1, text
