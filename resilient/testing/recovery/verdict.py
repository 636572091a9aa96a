"""The verdict on a run: what was required, what was seen, and whether there was enough to see."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Sequence
from typing import Any

from resilient.testing.recovery.recording import Recording, error_text
from resilient.testing.recovery.result import Check, Operation, Phase, RecoveryTestResult, TestStatus
from resilient.testing.recovery.scenario import RecoveryTestScenario
from resilient.testing.recovery.statistics import percentile, wilson


def counted(n: int) -> str:
    """So many operations, in words."""
    return f"{n} operation{'' if n == 1 else 's'}"


PHASES = ("baseline", "fault", "observation", "recovery")


def phases(recording: Recording, operations: Sequence[Operation], end: float) -> tuple[Phase, ...]:
    """The phases that were reached, with their operations."""
    course = recording.course
    borders = [0.0, course.baseline_end, course.fault_end]
    borders += [end if course.recovered_at is None else course.recovered_at]
    made = []
    for index, name in enumerate(PHASES):
        start, stop = borders[index], borders[index + 1] if index + 1 < len(borders) else end
        if index and (start >= end or (name == "recovery" and course.recovered_at is None)):
            break
        made.append(_phase(name, start, min(stop, end), [one for one in operations if one.phase == name]))
    return tuple(made)


def _phase(name: str, start: float, end: float, operations: Sequence[Operation]) -> Phase:
    times = sorted(one.duration for one in operations)
    return Phase(
        name=name,
        start=start,
        end=end,
        operations=len(operations),
        successes=sum(one.ok for one in operations),
        average=sum(times) / len(times) if times else 0.0,
        p50=percentile(times, 0.5),
        p95=percentile(times, 0.95),
        p99=percentile(times, 0.99),
    )


def judged(result: RecoveryTestResult, recording: Recording) -> RecoveryTestResult:
    """The result with its checks, its status, and why it is that."""
    scenario = recording.scenario
    consistent, consistency = _consistency(scenario, result)
    result = dataclasses.replace(result, data_consistent=consistent)
    checks = [_recovery(scenario, recording, result), *_rates(scenario, result), *consistency]
    checks += [_probe(one, result) for one in scenario.probes]
    unclear = [*_unfired(result), *_bad_before(recording, result)]
    if recording.timed_out:
        running = f", {counted(recording.running)} had not ended" if recording.running else ""
        status = TestStatus.TIMEOUT
        reasons = [f"it was not over after timeout={scenario.timeout:g} s{running}", *unclear]
        if recording.stubborn:
            reasons.append(f"tasks that ignored their cancellation were left behind: {recording.stubborn}")
    elif unclear:
        status, reasons = TestStatus.INCONCLUSIVE, unclear
    elif any(one.passed is False for one in checks):
        status, reasons = TestStatus.FAILED, [str(one) for one in checks if one.passed is False]
    elif any(one.passed is None for one in checks):
        status, reasons = TestStatus.INCONCLUSIVE, [f"too few samples: {one}" for one in checks if one.passed is None]
    else:
        status, reasons = TestStatus.PASSED, []
    return dataclasses.replace(result, checks=tuple(checks), status=status, reasons=tuple(reasons))


def _unfired(result: RecoveryTestResult) -> list[str]:
    return [
        f"the fault never fired: {one.fault} on {one.target} hit none of {one.calls} calls"
        for one in result.faults
        if one.fired == 0
    ]


def _bad_before(recording: Recording, result: RecoveryTestResult) -> list[str]:
    scenario = recording.scenario
    least = scenario.expected_recovery.success_criteria.baseline_threshold
    # What began before the fault and ended in it says nothing of the time before.
    before = [one for one in result.operations if one.phase == PHASES[0] and one.ended <= recording.course.fault_start]
    n, successes = len(before), sum(one.ok for one in before)
    if n < scenario.steady_probes:
        return [f"too few samples: {counted(n)} in the baseline, at least {scenario.steady_probes} needed"]
    if successes / n < least:
        found = f"{successes / n:.1%} succeeded before the fault ({wilson(successes, n)}), {least:.1%} needed"
        return [f"the baseline was already bad: {found}"]
    return []


def _recovery(scenario: RecoveryTestScenario, recording: Recording, result: RecoveryTestResult) -> Check:
    most = scenario.expected_recovery.max_recovery_time
    required = f"at most {most:g} s after the end of the fault, {scenario.steady_probes} operations in a row"
    seen = result.recovery_time
    passed: bool | None
    after = [one for one in result.operations if one.ended >= recording.course.fault_end]
    if seen is not None:
        passed, observed = seen <= most, f"{seen:.3g} s"
    elif any(not one.ok for one in after):
        passed, observed = False, f"not recovered {result.duration - recording.course.fault_end:.3g} s after it"
    else:
        passed, observed = None, f"{counted(len(after))} after it"
    return Check("recovery time", passed, required, observed, weight=10.0, n=len(after))


def _rates(scenario: RecoveryTestScenario, result: RecoveryTestResult) -> list[Check]:
    criteria = scenario.expected_recovery.success_criteria
    n, made = len(result.operations), []
    if (least := criteria.success_rate_threshold) is not None:
        interval = result.success_interval
        # Enough to tell: all of the interval on one side of the threshold, or not far below it.
        is_enough = interval.upper < least or interval.lower >= least - criteria.tolerance
        passed = result.success_rate >= least if is_enough else None
        observed = f"{result.success_rate:.1%}, {interval}"
        made.append(Check("success rate", passed, f"at least {least:.1%}", observed, 10.0, n, interval))
    if (longest := criteria.response_time_threshold) is not None:
        average = result.average_response_time
        required = f"at most {longest:g} s on average"
        made.append(Check("response time", average <= longest if n else None, required, f"{average:.3g} s", 10.0, n))
    return made


def _consistency(scenario: RecoveryTestScenario, result: RecoveryTestResult) -> tuple[bool | None, list[Check]]:
    if scenario.checker is None:
        return None, []
    n = len(result.operations)
    try:
        said: Any = scenario.checker(result.operations)
        if inspect.isawaitable(said):
            if inspect.iscoroutine(said):
                said.close()
            raise TypeError("it is async, and said nothing; give a sync function")
        passed = bool(said)
        observed = "consistent" if passed else "not consistent"
    except Exception as error:
        passed, observed = False, f"the checker failed: {error_text(error)}"
    required = f"the checker says yes to the history of {n} operations"
    # Whoever gives a checker wants to know, required or not.
    return passed, [Check("data consistency", passed, required, observed, 10.0, n)]


def _probe(probe: Any, result: RecoveryTestResult) -> Check:
    try:
        said, observed = probe.judge(result)
        passed = None if said is None else bool(said)
    except Exception as error:
        passed, observed = False, f"the probe failed: {error_text(error)}"
    return Check(probe.name, passed, probe.required, observed, probe.weight)
