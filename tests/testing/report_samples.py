"""Results made by hand, so that reports can be tested with what no run would show so soon."""

from __future__ import annotations

import dataclasses

from resilient.testing.recovery.report import TestReport
from resilient.testing.recovery.result import (
    Check,
    FaultRecord,
    Operation,
    Phase,
    RecoveryTestResult,
    TestStatus,
    TimelineEvent,
)
from resilient.testing.recovery.statistics import wilson

NASTY = "<script>alert(1)</script> \"'&` | pipe\nline \x00\x1b[31m \ud800 ]]> {{x}}"


def operations(number=60, end=6.0, fault=(1.0, 3.0)):
    """Calls that fail during a fault."""
    made = []
    for index in range(number):
        at = end * index / number
        phase = "baseline" if at < fault[0] else "fault" if at < fault[1] else "recovery"
        error = ConnectionError("refused") if phase == "fault" else None
        value = None if error else {"secret": "hunter2"}
        took = end * (0.0001 + 0.00001 * (index % 7))
        made.append(Operation(index, at, at + took, phase, value, error))
    return tuple(made)


def opened(name, start, end):
    """The events of a breaker that opens and closes again."""
    steps = [
        ("CLOSED", "OPEN", start),
        ("OPEN", "HALF_OPEN", end),
        ("HALF_OPEN", "CLOSED", end + 0.001 * (end - start)),
    ]
    return [
        TimelineEvent(
            at, "CircuitStateChanged", name, f"{old} -> {new}", {"old": old, "new": new, "reason": "failures"}
        )
        for old, new, at in steps
    ]


def events(end=6.0, fault=(1.0, 3.0), breakers=1, name="payments"):
    """What policies and the framework told, in order."""
    made = [event for number in range(breakers) for event in opened(f"{name} {number}", fault[0], fault[1])]
    made.append(TimelineEvent(fault[1] + 0.05 * end, "recovered", "s", "0.3 s after the end of the fault"))
    kinds = ("RetryScheduled", "CallRejected", "FallbackServed", "CallTimedOut")
    made += [TimelineEvent(fault[0] + 0.01 * end * n, kind, name, "") for n, kind in enumerate(kinds)]
    return tuple(sorted(made, key=lambda one: one.at))


def phases(end=6.0, fault=(1.0, 3.0)):
    """All four of them."""
    borders = [0.0, *fault, fault[1] + 0.05 * end, end]
    names = ("baseline", "fault", "observation", "recovery")
    return tuple(
        Phase(name, start, stop, 10, 0 if name == "fault" else 10, 0.001, 0.001, 0.002, 0.003)
        for name, start, stop in zip(names, borders, borders[1:], strict=False)
    )


def result(**changes):
    """A result that passed, but for the changes."""
    interval = wilson(40, 60)
    made = RecoveryTestResult(
        scenario_id="payments",
        scenario_name="Payments recover",
        description="The bank is away for two seconds.",
        execution_id="0123abcd",
        status=TestStatus.PASSED,
        reasons=(),
        seed=7,
        replay="RESILIENT_SEED=7 python run.py",
        started_at=1_700_000_000.0,
        completed_at=1_700_000_006.0,
        duration=6.0,
        success_rate=40 / 60,
        success_interval=interval,
        average_response_time=0.001,
        p50=0.001,
        p95=0.002,
        p99=0.003,
        recovery_time=0.3,
        recovery_time_from_start=2.3,
        data_consistent=None,
        checks=(
            Check("recovery time", True, "at most 5 s", "0.3 s", 10.0, 30),
            Check("success rate", True, "at least 60%", "66.7%", 10.0, 60, interval),
        ),
        phases=phases(),
        faults=(FaultRecord("payments", "NetworkFailure('refused')", 1.0, 7, 20, 20, 1.0, 3.0),),
        events=events(),
        operations=operations(),
        metrics={"operations": 60},
        error_logs=("ConnectionError: refused (20 x)",),
        source={"id": "payments", "load": 10},
    )
    return dataclasses.replace(made, **changes)


def failed(**changes):
    """One that failed, and did not recover."""
    checks = (
        Check("recovery time", False, "at most 5 s", "not recovered", 10.0, 30),
        Check("success rate", True, "at least 60%", "66.7%", 5.0),
        Check("ledger", None, "nothing lost", "no answer", 5.0),
    )
    given = {
        "status": TestStatus.FAILED,
        "reasons": (str(checks[0]),),
        "checks": checks,
        "recovery_time": None,
        "recovery_time_from_start": None,
        "scenario_id": "search",
        "scenario_name": "Search does not recover",
    }
    return result(**given | changes)


def of_status(status, why):
    """One that ended otherwise."""
    name = f"One that is {status.value}"
    return result(status=status, reasons=(why,), scenario_id=status.value, scenario_name=name, seed="a seed")


def mixed():
    """A report with one result of each status."""
    timeout = of_status(TestStatus.TIMEOUT, "it was not over after timeout=6 s")
    unclear = of_status(TestStatus.INCONCLUSIVE, "the fault never fired")
    return TestReport([result(), failed(), timeout, unclear])


def nasty():
    """A report with every text that somebody else may give full of what reports use as markup."""
    check = Check(NASTY, False, NASTY, NASTY, 1.0)
    return TestReport(
        [
            result(
                status=TestStatus.FAILED,
                scenario_id=NASTY,
                scenario_name=NASTY,
                description=NASTY,
                reasons=(NASTY,),
                seed=NASTY,
                replay=f"{NASTY} ``` ````",
                checks=(check,),
                faults=(FaultRecord(NASTY, NASTY, 0.5, NASTY, 2, 1, 1.0, None),),
                events=(
                    *opened(NASTY, 1, 3),
                    TimelineEvent(1.0, NASTY, NASTY, NASTY),
                    TimelineEvent(1.0, "RetryScheduled", NASTY, NASTY),
                ),
                operations=(Operation(0, 0.0, 1.0, "fault", None, ValueError(NASTY)),),
                error_logs=(NASTY,),
                phases=(Phase(NASTY, 0.0, 6.0, 1, 0, 1.0, 1.0, 1.0, 1.0),),
            )
        ]
    )


def long(end, number=200, **changes):
    """A result whose run took so many seconds."""
    fault = (end / 4, end / 2)
    return result(
        duration=end,
        operations=operations(number, end, fault),
        events=events(end, fault),
        phases=phases(end, fault),
        faults=(FaultRecord("payments", "NetworkFailure('refused')", 1.0, 7, 20, 20, *fault),),
        **changes,
    )
