"""RecoveryTestFramework with sync workloads: the four verdicts for their reasons, and times that are exact."""

import dataclasses
import random
import threading
import time

import pytest

from resilient import ConfigurationError, UnknownNameError, circuit_breaker, retry
from resilient.clock import CLOCK
from resilient.testing import (
    ErrorInjectionConfig,
    ErrorInjectionType,
    FaultProxy,
    InjectionTiming,
    Probe,
    RecoveryMode,
    RecoveryTestFramework,
    SuccessCriteria,
    TestStatus,
    VirtualClock,
    faults,
)

from .proxy_helpers import Server, asked, connect, echo
from .recovery_helpers import REFUSED, refused, run, scenario


def plain():
    """A function that some policy guards, and that is well."""
    return circuit_breaker(failure_threshold=1_000_000)(lambda: "answer")


def payments(recovery_timeout=30):
    """A function behind a breaker."""
    return circuit_breaker("payments", failure_threshold=5, recovery_timeout=recovery_timeout)(lambda: "paid")


# The four verdicts


def test_recovered_passes():
    """A fault that fired, and a system that is well again in time: PASSED, with nothing to explain."""
    call = plain()
    result = run(scenario(call, refused(call)))
    assert (result.status, result.reasons, result.fired, result.score) == (TestStatus.PASSED, (), 10, 100)
    assert "PASSED" in result.explain()
    result.assert_ok()


@pytest.mark.parametrize("kind", ["no call", "rate 0", "never so", "elsewhere"])
def test_unfired_is_inconclusive(kind):
    """A fault that never happened proves nothing, though all the rest was fine; the text says how many calls it saw."""
    call, other = plain(), plain()
    config = {
        "no call": lambda: refused(other),
        "rate 0": lambda: refused(call, error_rate=0.0),
        "never so": lambda: refused(call, injection_timing=InjectionTiming.when(lambda moment: False)),
        "elsewhere": lambda: refused("json:dumps"),
    }[kind]()
    criteria = SuccessCriteria(0.9, 1.0, data_consistency_required=True)
    result = run(scenario(call, config, criteria=criteria, checker=lambda history: True, observe=10.0))
    assert result.status is TestStatus.INCONCLUSIVE
    assert result.success_rate == 1
    seen = 10 if kind in ("rate 0", "never so") else 0
    assert "the fault never fired" in result.reasons[0]
    assert f"hit none of {seen} calls" in result.reasons[0]
    assert result.score == 0
    with pytest.raises(AssertionError, match="never fired"):
        result.assert_ok()


def test_one_of_several_faults_unfired_is_inconclusive():
    """Each fault of a scenario has to have happened."""
    call = plain()
    result = run(scenario(call, [refused(call), refused("json:dumps")]))
    assert result.status is TestStatus.INCONCLUSIVE
    assert len(result.reasons) == 1
    assert "json:dumps" in result.reasons[0]


def test_bad_baseline_is_inconclusive():
    """What failed before the fault says nothing about recovery; the text has the rate, the interval and n."""
    calls = iter(range(10_000))

    @circuit_breaker(failure_threshold=1_000_000)
    def flaky():
        if next(calls) in (1, 2):
            raise ValueError("bad")

    result = run(scenario(flaky, refused(flaky)))
    assert result.status is TestStatus.INCONCLUSIVE
    assert "the baseline was already bad: 80.0% succeeded" in result.reasons[0]
    assert "n=10" in result.reasons[0]
    assert "95.0% needed" in result.reasons[0]


def test_baseline_threshold_is_the_users():
    """A system that is allowed to fail a little before the fault is judged all the same."""
    calls = iter(range(10_000))

    @circuit_breaker(failure_threshold=1_000_000)
    def flaky():
        if next(calls) in (1, 2):
            raise ValueError("bad")

    assert run(scenario(flaky, refused(flaky), criteria=SuccessCriteria(baseline_threshold=0.8))).passed


def test_short_baseline_is_inconclusive():
    """Fewer operations before the fault than it takes to count as steady prove nothing."""
    call = plain()
    result = run(scenario(call, refused(call), load=1, baseline=2, fault=3))
    assert result.status is TestStatus.INCONCLUSIVE
    assert "too few samples: 2 operations in the baseline, at least 3 needed" in result.reasons[0]


def test_too_few_samples_is_inconclusive():
    """A rate above its threshold by an interval that reaches far below it is undecided; the text has n."""
    call = plain()
    made = scenario(call, refused(call, max_count=1), criteria=SuccessCriteria(0.9), observe=1.0)
    result = run(made)
    assert 0.9 < result.success_rate < 1
    assert result.status is TestStatus.INCONCLUSIVE
    assert result.reasons[0].startswith("too few samples: undecided: success rate:")
    assert f"n={len(result.operations)}" in result.reasons[0]
    longer = run(dataclasses.replace(made, observe=60.0))
    assert longer.status is TestStatus.PASSED


def test_few_samples_suffice_where_they_are_clear():
    """A rate whose whole interval lies below the threshold FAILED, however few there were."""
    call = plain()
    result = run(scenario(call, refused(call, during=(0, 5)), criteria=SuccessCriteria(0.9)))
    assert result.status is TestStatus.FAILED
    assert result.success_interval.upper < 0.9


def test_low_success_rate_fails():
    """The reason names the bound, what was seen, and how much is known of it."""
    call = plain()
    result = run(scenario(call, refused(call), criteria=SuccessCriteria(0.99), observe=8.0))
    assert result.status is TestStatus.FAILED
    assert result.reasons[0].startswith("FAILED: success rate: 90.0%, ")
    assert "n=100" in result.reasons[0]
    assert "required: at least 99.0%" in result.reasons[0]


def test_slow_answers_fail():
    """The average of all response times has to be within its bound; both are in the reason."""
    call = plain()
    config = ErrorInjectionConfig(ErrorInjectionType.LATENCY, call, parameters={"seconds": 0.5}, seed=1)
    result = run(scenario(call, config, criteria=SuccessCriteria(response_time_threshold=0.1), concurrency=10))
    assert result.status is TestStatus.FAILED
    assert "response time: " in result.reasons[0]
    assert "required: at most 0.1 s on average" in result.reasons[0]
    fault = next(one for one in result.phases if one.name == "fault")
    assert (fault.p50, fault.p99, fault.average) == pytest.approx((0.5, 0.5, 0.5), abs=1e-6)


def test_late_recovery_fails():
    """Being well again after `max_recovery_time` is too late, and both numbers are told."""
    call = payments()
    result = run(scenario(call, refused(call), within=20.0, observe=60.0))
    assert result.status is TestStatus.FAILED
    assert "recovery time: 29.4 s, required: at most 20 s after the end of the fault" in result.reasons[0]


def test_no_recovery_fails():
    """A system that stays broken FAILED when `max_recovery_time` is over, and is not waited for any longer."""
    call = payments(recovery_timeout=1000)
    result = run(scenario(call, refused(call), within=20.0))
    assert result.status is TestStatus.FAILED
    assert result.recovery_time is result.recovery_time_from_start is None
    assert result.duration == pytest.approx(22, abs=0.2)
    assert "not recovered 20 s after it" in result.reasons[0]


def test_inconsistent_fails():
    """A checker that says no makes it FAILED, whatever else was fine."""
    call = plain()
    result = run(scenario(call, refused(call), checker=lambda history: False))
    assert (result.status, result.data_consistent) == (TestStatus.FAILED, False)
    assert "data consistency: not consistent" in result.reasons[0]


def test_probe_fails():
    """A requirement of the user's own fails the scenario with its own words, and weighs in the score."""
    call = plain()
    probe = Probe("cheap", "at most 1 call", lambda result: (False, f"{len(result.operations)} calls"), weight=10)
    result = run(scenario(call, refused(call), probes=(probe,)))
    assert result.status is TestStatus.FAILED
    assert result.reasons == (f"FAILED: cheap: {len(result.operations)} calls, required: at most 1 call",)
    assert result.score == 50


@pytest.mark.parametrize("virtual", [True, False])
@pytest.mark.parametrize("within", [0.05, 100.0])
def test_hung_workload_times_out(virtual, within):
    """A call that never returns makes it TIMEOUT, also when there is nothing left to wait for but that call."""
    release = threading.Event()

    @circuit_breaker(failure_threshold=1_000_000)
    def call():
        return "answer"

    def workload():
        try:
            return call()
        except ConnectionRefusedError:
            release.wait(30)

    made = scenario(workload, refused(call), baseline=0.05, fault=0.02, load=100, within=within, timeout=0.3)
    began = time.monotonic()
    result = run(dataclasses.replace(made, virtual_time=virtual))
    release.set()
    assert time.monotonic() - began < 10
    assert result.status is TestStatus.TIMEOUT
    assert "timeout=0.3 s, 1 operation had not ended" in result.reasons[0]
    assert result.duration == pytest.approx(0.3, abs=0.2)
    assert result.score == 0


def test_timeout_in_the_baseline_has_no_fault():
    """A scenario that ends before its fault could begin is TIMEOUT, and its record of the fault is empty."""
    call = plain()
    result = run(scenario(call, refused(call), baseline=10, timeout=5))
    assert result.status is TestStatus.TIMEOUT
    assert [one.name for one in result.phases] == ["baseline"]
    assert (result.faults[0].start, result.faults[0].end, result.fired) == (None, None, 0)
    assert not any(one.kind.startswith("fault") for one in result.events)


# Times


@pytest.mark.parametrize("uptime", [0.0, 0.1, 12345.678, 98765.4321, 3_000_000.3])
def test_recovery_time_is_exact(monkeypatch, uptime):
    """A breaker that opens at 1.4 s and lets a probe through 30 s later: 29.4 s after a fault that ended at 2 s.

    Whatever the machine's own clock shows, and the same to the last bit in each of several runs.
    """
    real = time.monotonic
    monkeypatch.setattr("resilient.testing.clocks.virtual_clock.time", _Shifted(lambda: real() + uptime))
    seen = set()
    for _ in range(4):
        with _scoped():
            call = payments()
            result = run(scenario(call, refused(call)))
        assert result.passed
        seen.add((result.recovery_time, result.recovery_time_from_start, len(result.operations), result.fired))
    (found,) = seen
    assert found == (pytest.approx(29.4, abs=1e-6), pytest.approx(30.4, abs=1e-6), 317, 5)


class _Shifted:
    """The module `time`, with another monotonic clock."""

    def __init__(self, monotonic):
        self.monotonic = monotonic

    def __getattr__(self, name):
        return getattr(time, name)


def _scoped():
    from resilient import registry

    return registry.scoped()


def test_twenty_runs_agree():
    """Twenty runs of one scenario have the same operations at the same times with the same outcomes."""
    seen = set()
    for _ in range(20):
        with _scoped():
            call = payments()
            result = run(scenario(call, refused(call, error_rate=0.7)))
        seen.add(tuple((one.started, one.ended, one.phase, type(one.error)) for one in result.operations))
    assert len(seen) == 1


@pytest.mark.parametrize("border", [0.1, 0.3, 0.7, 1 / 3])
def test_odd_times_end(border):
    """Borders that floating point cannot hold neither hang a scenario nor hide its end."""
    call = plain()
    result = run(scenario(call, refused(call), baseline=border, fault=border, observe=border, load=30, timeout=5))
    assert result.duration == pytest.approx(3 * border, abs=0.05)
    assert result.status in (TestStatus.PASSED, TestStatus.INCONCLUSIVE)


def test_phases_cover_the_run():
    """Baseline, fault, observation and recovery follow each other without a gap, and hold every operation."""
    call = payments()
    result = run(scenario(call, refused(call), observe=40.0))
    assert [one.name for one in result.phases] == ["baseline", "fault", "observation", "recovery"]
    starts, ends = [one.start for one in result.phases], [one.end for one in result.phases]
    assert [starts[0], *ends] == [*starts, result.duration]
    assert ends == pytest.approx([1.0, 2.0, 31.4, 42.0], abs=1e-6)
    for phase in result.phases:
        own = [one for one in result.operations if one.phase == phase.name]
        assert (phase.operations, phase.successes) == (len(own), sum(one.ok for one in own))
        assert all(phase.start <= one.started <= phase.end for one in own)
    assert sum(one.operations for one in result.phases) == len(result.operations)
    assert [one.success_rate for one in result.phases] == [1.0, 0.0, 0.0, 1.0]


def test_success_rate_covers_the_whole_run():
    """All operations count, those of the baseline and of the recovery too."""
    call = plain()
    result = run(scenario(call, refused(call), observe=8.0))
    assert (len(result.operations), result.success_rate) == (100, 0.9)
    assert result.success_interval.n == 100
    assert result.success_interval.lower < 0.9 < result.success_interval.upper


def test_load_is_honoured():
    """So many calls begin in a second as were asked for, at equal distances."""
    call = plain()
    result = run(scenario(call, refused(call), load=25, observe=2.0))
    assert [one.started for one in result.operations] == pytest.approx([n / 25 for n in range(100)], abs=1e-6)


def test_load_is_shared_by_threads():
    """The load is that of all threads together, and slow calls of several threads overlap."""
    made = plain()

    def slow():
        CLOCK.sleep(0.5)
        return made()

    result = run(scenario(slow, refused(made), load=10, concurrency=8, observe=2.0))
    assert [one.started for one in result.operations] == pytest.approx([n / 10 for n in range(40)], abs=1e-6)
    assert {round(one.duration, 6) for one in result.operations} == {0.5}


def test_slow_workload_gets_behind_the_load():
    """Who cannot keep up is called one after the other, and never twice at once by one thread."""
    made = plain()

    def slow():
        CLOCK.sleep(0.5)
        return made()

    result = run(scenario(slow, refused(made, during=(0, 4)), load=10, observe=2.0, baseline=3.0))
    pairs = zip(result.operations, result.operations[1:], strict=False)
    assert all(second.started >= first.ended for first, second in pairs)


# When, how often, by whom


def test_max_count_ends_the_fault():
    """When all faults that may happen have happened, observation begins, and the record says so."""
    call = plain()
    result = run(scenario(call, refused(call, max_count=2, during=(0, 50))))
    assert result.fired == 2
    assert result.faults[0].end == pytest.approx(1.1, abs=1e-6)
    assert result.recovery_time == pytest.approx(0.1, abs=1e-6)
    fault = next(one for one in result.phases if one.name == "fault")
    assert (fault.operations, fault.successes) == (2, 0)
    assert result.duration < 2


def test_max_count_of_one_at_the_very_beginning():
    """The only operation that was hit belongs to the fault phase, though that took no time at all."""
    call = plain()
    result = run(scenario(call, refused(call, max_count=1)))
    hit = next(one for one in result.operations if not one.ok)
    assert hit.phase == "fault"
    assert result.passed


def test_during():
    """A window counts from the beginning of the fault phase, and its end is that of the fault."""
    call = plain()
    result = run(scenario(call, refused(call, during=(2, 3))))
    assert [one.started for one in result.operations if not one.ok] == pytest.approx(
        [3 + n / 10 for n in range(10)], abs=1e-6
    )
    assert (result.faults[0].start, result.faults[0].end) == pytest.approx((3, 4))
    assert result.recovery_time_from_start == pytest.approx(1, abs=1e-6)
    assert result.recovery_time == pytest.approx(0, abs=1e-6)


def test_delayed():
    """A delayed fault begins later, and lasts as long as one that is not."""
    call = plain()
    result = run(scenario(call, refused(call, injection_timing=InjectionTiming.delayed(2))))
    failed = [one.started for one in result.operations if not one.ok]
    assert (failed[0], failed[-1], len(failed)) == (pytest.approx(3, abs=1e-6), pytest.approx(3.9, abs=1e-6), 10)
    assert result.recovery_time_from_start == pytest.approx(1, abs=1e-6)


def test_random_beginning():
    """A random beginning is decided by the seed, and the record tells which it was."""
    starts = {}
    for seed in (1, 1, 2):
        call = plain()
        config = refused(call, injection_timing=InjectionTiming.random(5), seed=seed)
        result = run(scenario(call, config))
        first = next(one.started for one in result.operations if not one.ok)
        assert 0 <= first - result.faults[0].start <= 0.1 + 1e-6
        starts.setdefault(seed, set()).add(result.faults[0].start)
    assert len(starts[1]) == 1
    assert starts[1] != starts[2]


def test_when():
    """A condition on the calls so far decides which are hit."""
    call = plain()
    timing = InjectionTiming.when(lambda moment: moment.calls > 7)
    result = run(scenario(call, refused(call, injection_timing=timing)))
    assert [one.started for one in result.operations if not one.ok] == pytest.approx([1.7, 1.8, 1.9], abs=1e-6)


def test_several_faults():
    """Several faults each have their time, their record, and their seed; recovery counts from the end of the last."""
    call = plain()
    configs = [
        refused(call, during=(0, 1), seed=None),
        ErrorInjectionConfig(ErrorInjectionType.LATENCY, call, during=(2, 3), parameters={"seconds": 0.05}),
    ]
    result = run(scenario(call, configs), seed=5)
    assert [one.fired for one in result.faults] == [10, 10]
    assert [one.start for one in result.faults] == pytest.approx([1, 3])
    assert len({one.seed for one in result.faults}) == 2
    assert result.recovery_time_from_start - result.recovery_time == pytest.approx(3, abs=1e-6)
    kinds = [one.kind for one in result.events if one.kind.startswith("fault")]
    assert kinds == ["fault begins", "fault ends", "fault begins", "fault ends"]


@pytest.mark.parametrize("kind", list(ErrorInjectionType))
def test_every_type_happens(kind):
    """Each type of fault happens at a decorated function, given the parameters it needs."""
    parameters = {
        ErrorInjectionType.LATENCY: {"seconds": 0.01},
        ErrorInjectionType.CORRUPT_RESULT: {"fn": lambda value: value + "!"},
        ErrorInjectionType.CUSTOM: {"callable": lambda: None},
    }.get(kind, {})
    call = plain()
    result = run(scenario(call, ErrorInjectionConfig(kind, call, parameters=parameters, seed=1)))
    assert (result.passed, result.fired) == (True, 10)
    corrupted = [one.value for one in result.operations if one.phase == "fault" and one.value == "answer!"]
    assert len(corrupted) == (10 if kind is ErrorInjectionType.CORRUPT_RESULT else 0)


def test_fault_object():
    """A fault of one's own is injected itself."""
    call = plain()
    result = run(scenario(call, ErrorInjectionConfig(faults.NetworkFailure("reset"), call, seed=1)))
    assert {type(one.error) for one in result.operations} == {type(None), ConnectionResetError}


def test_retry_absorbs():
    """Faults happen inside the policies: the operations never see what a retry takes away."""
    call = retry(max_attempts=5, on=OSError, base_delay=0.001, jitter=False)(lambda: "answer")
    result = run(scenario(call, refused(call, error_rate=0.5), criteria=SuccessCriteria(0.5)))
    assert result.fired > 5
    assert sum(one.kind == "RetryScheduled" for one in result.events) >= 5
    assert result.success_rate > 0.9


@pytest.mark.parametrize("mode", [RecoveryMode.MANUAL, RecoveryMode.HYBRID])
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_recover_is_called(mode, kind):
    """Somebody mends it, sync or async: at the fault's end, or by half of the time if it has not mended itself."""
    call = payments(recovery_timeout=1000)
    breaker = call.policies[0]

    async def areset():
        breaker.reset()

    recover = areset if kind == "async" else breaker.reset
    result = run(scenario(call, refused(call), mode=mode, within=20.0, recover=recover))
    assert result.passed, result.explain()
    expected = 0.0 if mode is RecoveryMode.MANUAL else 10.0
    assert result.recovery_time == pytest.approx(expected, abs=0.100001)
    (told,) = (one for one in result.events if one.kind == "help")
    assert told.at == pytest.approx(2 + expected, abs=1e-6)


def test_recover_is_not_called_for_who_recovers():
    """In HYBRID mode a system that mends itself is let alone; in MANUAL mode it is mended in any case, once."""
    counts = []
    for mode in (RecoveryMode.HYBRID, RecoveryMode.MANUAL, RecoveryMode.AUTOMATIC):
        call, calls = plain(), []
        assert run(scenario(call, refused(call), mode=mode, recover=lambda calls=calls: calls.append(1))).passed
        counts.append(len(calls))
    assert counts == [0, 1, 0]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_failing_recover_fails(kind):
    """Help that fails itself is told, and the scenario FAILED."""

    async def afail():
        raise ValueError("no spare part")

    def fail():
        raise ValueError("no spare part")

    call = payments(recovery_timeout=1000)
    recover = afail if kind == "async" else fail
    result = run(scenario(call, refused(call), mode=RecoveryMode.MANUAL, within=5.0, recover=recover))
    assert result.status is TestStatus.FAILED
    assert "ValueError: no spare part (1 x)" in result.error_logs
    assert any(one.kind == "help failed" for one in result.events)


def test_hung_recover_times_out():
    """Help that never returns keeps nobody waiting for longer than the timeout."""
    call = payments(recovery_timeout=1000)
    release = threading.Event()
    made = scenario(call, refused(call), mode=RecoveryMode.MANUAL, recover=lambda: release.wait(30), timeout=10)
    began = time.monotonic()
    result = run(made)
    release.set()
    assert time.monotonic() - began < 10
    assert result.status is TestStatus.TIMEOUT
    assert any("recover() had not returned" in one for one in result.error_logs)


# The checker


def test_checker_sees_all_operations_in_order():
    """The history is every operation, in the order in which they began, with values, errors and phases."""
    values = iter(range(10_000))
    histories = []
    call = circuit_breaker(failure_threshold=1_000_000)(lambda: next(values))

    def checker(history):
        histories.append(history)
        return True

    result = run(scenario(call, refused(call), checker=checker, observe=2.0))
    (history,) = histories
    assert history == result.operations
    assert [one.number for one in history] == list(range(40))
    assert [one.value for one in history if one.ok] == list(range(30))
    assert [type(one.error) for one in history[10:20]] == [ConnectionRefusedError] * 10
    assert [one.phase for one in history] == ["baseline"] * 10 + ["fault"] * 10 + ["recovery"] * 20
    assert result.data_consistent is True


def test_checker_sees_operations_of_threads_in_order():
    """With 8 threads the history is still in the order of beginnings, and no operation is missing or twice."""
    made = plain()

    def slow():
        CLOCK.sleep(0.3)
        return made()

    result = run(scenario(slow, refused(made), concurrency=8, load=20, observe=2.0, checker=lambda history: True))
    starts = [one.started for one in result.operations]
    assert starts == sorted(starts)
    assert len({one.number for one in result.operations}) == len(starts) == 80


def test_checker_that_raises_fails():
    """A checker that fails itself is no yes."""
    call = plain()

    def checker(history):
        raise LookupError("row 7")

    result = run(scenario(call, refused(call), checker=checker))
    assert result.status is TestStatus.FAILED
    assert "the checker failed: LookupError: row 7" in result.reasons[0]


@pytest.mark.parametrize("said", [None, 0, "", []])
def test_checker_has_to_say_yes(said):
    """What is not true is no."""
    call = plain()
    assert run(scenario(call, refused(call), checker=lambda history: said)).status is TestStatus.FAILED


def test_checker_that_turns_out_async_fails():
    """A coroutine is no yes, though it is true as an object."""

    async def yes():
        return True

    call = plain()
    result = run(scenario(call, refused(call), checker=lambda history: yes()))
    assert result.status is TestStatus.FAILED
    assert "async" in result.reasons[0]


# The framework


def test_run_all_reports_each():
    """All scenarios run, one after the other; one that fails does not keep the next from running."""
    framework = RecoveryTestFramework()
    good, bad = plain(), payments(recovery_timeout=1000)
    framework.add_scenario(dataclasses.replace(scenario(bad, refused(bad), within=5.0), id="bad"))
    framework.add_scenario(dataclasses.replace(scenario(good, refused(good)), id="good"))
    report = framework.run_all_tests()
    assert [(one.scenario_id, one.passed) for one in report.results] == [("bad", False), ("good", True)]
    assert framework.get_test_results() == list(report.results)
    assert framework.run_test_scenario("good").passed
    assert [one.scenario_id for one in framework.run_test_scenarios(["good"]).results] == ["good"]
    assert len(framework.get_test_results()) == 4


def test_framework_refuses():
    """An id twice, an unknown id, and what is no scenario: each error names it."""
    framework, call = RecoveryTestFramework(), plain()
    made = scenario(call, refused(call))
    framework.add_scenario(made)
    with pytest.raises(ConfigurationError, match="id='one': is the id of another"):
        framework.add_scenario(made)
    with pytest.raises(TypeError, match="scenario='x'"):
        framework.add_scenario("x")
    with pytest.raises(UnknownNameError, match=r"scenario='two'.*known: one"):
        framework.run_test_scenario("two")
    with pytest.raises(TypeError, match="metrics_collector=1"):
        RecoveryTestFramework(1)
    with pytest.raises(ConfigurationError, match=r"seed=1\.5"):
        framework.run_test_scenario("one", seed=1.5)


def test_clock_that_stands_still_is_refused():
    """In a virtual time that nobody lets pass a scenario would never end, and says so instead."""
    call = plain()
    with VirtualClock(), pytest.raises(ConfigurationError, match=r"autojump=True"):
        run(scenario(call, refused(call)))


def test_own_clock_is_used():
    """In a virtual clock of the user's the scenario takes its time from that."""
    call = plain()
    with VirtualClock(autojump=True) as clock:
        before = clock.monotonic()
        result = run(scenario(call, refused(call), virtual_time=None))
        assert clock.monotonic() - before == pytest.approx(result.duration, abs=1e-6)
    assert result.passed


def test_scenario_alone(capsys):
    """A scenario runs without a framework, and `assert_ok` prints the verdict and raises unless it passed."""
    call = plain()
    assert scenario(call, refused(call)).assert_ok(seed=4).seed == 4
    assert "PASSED" in capsys.readouterr().out
    made = scenario(call, refused(call, error_rate=0.0))
    with pytest.raises(AssertionError, match="never fired"):
        made.assert_ok()


def test_error_text_tells_all():
    """A failed assertion names the bound, what was seen, the seed, and the command for the same again."""
    call = payments()
    result = run(scenario(call, refused(call), within=20.0, observe=60.0), seed=77)
    with pytest.raises(AssertionError) as caught:
        result.assert_ok()
    text = str(caught.value)
    for part in ("29.4 s", "at most 20 s", "seed 77", f"the same again: {result.replay}", "hit 5 of"):
        assert part in text, text


def test_results_hold_no_frames():
    """Errors of a result, and those behind them, hold no traceback; the result cannot be changed."""
    made = plain()

    def wrapped():
        try:
            return made()
        except OSError as error:
            raise ValueError("wrapped") from error

    result = run(scenario(wrapped, refused(made)))
    errors = [one.error for one in result.operations if one.error is not None]
    assert len(errors) == 10
    for error in errors:
        assert error.__traceback__ is None
        assert isinstance(error.__cause__, ConnectionRefusedError)
        assert error.__cause__.__traceback__ is None
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.status = TestStatus.PASSED


# A real network


@pytest.mark.parametrize("kind", ["reset", "refused", "blackhole", "latency"])
def test_network(kind):
    """Faults of a proxy before a real server: its clients are hit in the fault phase, and nothing is left of it."""
    options = {"latency": 0.05} if kind == "latency" else {"kind": kind}
    with Server(echo) as server, FaultProxy("127.0.0.1", server.port, seed=1) as proxy:

        def workload():
            with connect(proxy, timeout=0.3) as client:
                assert asked(client) == b"hello"

        injection_type = ErrorInjectionType.LATENCY if kind == "latency" else REFUSED
        config = ErrorInjectionConfig(injection_type, proxy, parameters=options)
        times = {"baseline": 0.4, "fault": 0.6, "within": 5.0, "timeout": 20}
        # A machine that is busy may be late now and then; that is not what is looked at here.
        criteria = SuccessCriteria(baseline_threshold=0.5)
        made = scenario(workload, config, criteria=criteria, virtual_time=None, load=50, **times)
        result = run(made)
        assert proxy.faults == ()
        assert result.passed, result.explain()
        hit = [one for one in result.operations if one.phase == "fault"]
        if kind == "latency":
            assert max(one.duration for one in hit) >= 0.05
        else:
            expected = {"reset": ConnectionResetError, "refused": ConnectionRefusedError, "blackhole": TimeoutError}
            assert expected[kind] in {type(one.error) for one in hit}


# Functions that begin and end


def test_hooks_are_called_once():
    """`begin` breaks it when the fault begins, and `end` mends it when that is over, each once."""
    told, state = [], {"broken": False}

    def switch(broken):
        state["broken"] = broken
        told.append((broken, CLOCK.monotonic()))

    def workload():
        if state["broken"]:
            raise OSError("broken")

    parameters = {"begin": lambda: switch(True), "end": lambda: switch(False)}
    config = ErrorInjectionConfig(ErrorInjectionType.CUSTOM, parameters=parameters, during=(1, 3))
    result = run(scenario(workload, config, load=7))
    assert result.passed, result.explain()
    assert [one for one, _ in told] == [True, False]
    assert told[1][1] - told[0][1] == pytest.approx(2, abs=1e-5)
    assert all(2 <= one.started <= 4.00001 for one in result.operations if not one.ok)


@pytest.mark.parametrize("crash", ["workload", "begin", "timeout"])
def test_hooks_end_whatever_happens(crash):
    """What was begun is ended once, also when the workload crashes, the beginning fails, or time is up."""
    told = []

    def begin():
        told.append("begin")
        if crash == "begin":
            raise LookupError("cannot break it")

    def workload():
        if told and crash == "workload":
            raise SystemExit(3)
        if told and crash == "timeout":
            CLOCK.sleep(1000)

    parameters = {"begin": begin, "end": lambda: told.append("end")}
    made = scenario(workload, ErrorInjectionConfig(ErrorInjectionType.CUSTOM, parameters=parameters), timeout=5)
    if crash == "timeout":
        assert run(made).status is TestStatus.TIMEOUT
    else:
        with pytest.raises(SystemExit if crash == "workload" else LookupError):
            run(made)
    assert told == ["begin", "end"]


def test_hook_that_turns_out_async_is_refused():
    """A coroutine that nobody awaits has broken nothing, and is not taken for a fault."""

    async def begin():
        raise AssertionError("never runs")

    parameters = {"begin": lambda: begin()}  # noqa: PLW0108 - not known to be async
    with pytest.raises(TypeError, match="begin is async"):
        run(scenario(lambda: None, ErrorInjectionConfig(ErrorInjectionType.CUSTOM, parameters=parameters)))


def test_one_that_cannot_be_run_does_not_stop_the_others():
    """A target that is not there makes its scenario INCONCLUSIVE in a report, with the reason, and raises alone."""
    framework = RecoveryTestFramework()
    call = plain()
    framework.add_scenario(dataclasses.replace(scenario(plain(), refused("no such policy")), id="first"))
    framework.add_scenario(dataclasses.replace(scenario(call, refused(call)), id="second"))
    report = framework.run_all_tests(seed=1)
    assert report.results[0].status is TestStatus.INCONCLUSIVE
    assert "it could not be run: UnknownNameError" in report.results[0].reasons[0]
    assert report.results[1].fired > 0
    with pytest.raises(UnknownNameError, match="no such policy"):
        framework.run_test_scenario("first")


def plain_function():
    """A function that nothing guards, which is workload and target at once."""
    return 1


def test_a_plain_function_as_workload_and_target():
    """A function that is replaced where it is defined is called as whoever looks it up there would."""
    result = run(scenario(plain_function, refused(plain_function, max_count=3)))
    assert result.fired == 3
    assert sum(not one.ok for one in result.operations) == 3


def test_jitter_follows_from_the_seed_in_virtual_time():
    """The waits of retries with jitter are the same with the same seed, and the module's numbers go on as before."""

    @retry(max_attempts=4, base_delay=0.5, jitter="full")
    def call():
        return 1

    random.seed(5)
    expected = random.random()  # noqa: S311 - not a secret
    random.seed(5)
    runs = [run(scenario(call, refused(call, error_rate=0.5, seed=None)), seed=seed) for seed in (1, 1, 2)]
    assert random.random() == expected  # noqa: S311 - as above
    times = [[(one.started, one.ended) for one in result.operations] for result in runs]
    assert times[0] == times[1] != times[2]


def test_hits_are_calls():
    """A proxy that refuses never sees whom it refuses; its record has no more hits than calls all the same."""
    with Server(echo) as server, FaultProxy("127.0.0.1", server.port, seed=1) as proxy:

        @retry(max_attempts=3, base_delay=0.01, on=OSError)
        def ask():
            with connect(proxy) as client:
                return asked(client)

        config = ErrorInjectionConfig(REFUSED, proxy, parameters={"kind": "refused"}, during=(0, 0.2))
        result = run(scenario(ask, config, virtual_time=False, baseline=0.2, load=50, within=5.0))
    assert result.fired >= 1
    assert all(one.calls >= one.fired for one in result.faults)
