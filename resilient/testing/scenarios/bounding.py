"""Timeouts: the slowest calls take no longer than they may."""

from __future__ import annotations

import math
from typing import Any, Unpack

from resilient import _checks as check
from resilient.errors import CallTimeoutError, RejectedError
from resilient.testing import faults
from resilient.testing.recovery.expectations import Probe
from resilient.testing.recovery.result import RecoveryTestResult
from resilient.testing.recovery.scenario import RecoveryTestScenario
from resilient.testing.recovery.statistics import percentile
from resilient.testing.scenarios.retrying import LEAST_OPERATIONS
from resilient.testing.scenarios.seen import during, needing, told
from resilient.testing.scenarios.settings import LOAD, SLACK, Draft, Options, Settings, made
from resilient.testing.scenarios.subject import Subject


def timeout_bounds_tail(
    fn: Any,
    *,
    limit: float | None = None,
    latency: float | None = None,
    tolerance: float = 0.25,
    **options: Unpack[Options],
) -> RecoveryTestScenario:
    """While every call hangs, 99 of 100 operations of `fn` end within its limits, by its `@timeout`.

    `limit`: seconds that they may take; by default what timeouts and retries together allow. `latency`: seconds that
    calls hang; by default far longer. `tolerance`: seconds that a busy machine may add. For the other options see
    `resilient.testing.scenarios`.
    """
    settings = Settings(**options)
    subject = Subject(fn, settings.args, settings.kwargs)
    timeout = subject.first("timeout")
    extra = check.seconds("tolerance", tolerance)
    most = check.optional_seconds("limit", limit, positive=True)
    if most is None:
        most = subject.longest(math.inf) if timeout is not None else 0.2
    finite = most if math.isfinite(most) else 60.0
    hang = check.optional_seconds("latency", latency, positive=True) or 2 * (finite + extra) + SLACK
    concurrency = 4
    # Enough for all of them to take as long as they may, and few where others answer quickly meanwhile.
    outage = settings.outage or 8 * finite + 2 * LEAST_OPERATIONS / (settings.load or LOAD)
    load = settings.load or min(LOAD, 240 / outage)
    draft = Draft(
        id="timeout-bounds-tail",
        name="Timeout bounds the tail",
        description="Every call hangs, and nobody waits longer than the timeout says.",
        probes=_probes(subject, timeout, most, extra, hang),
        fault=faults.Latency(hang),
        outage=outage,
        recovery=subject.settling(outage) + hang + finite + SLACK,
        load=load,
        concurrency=concurrency,
        slowest=max(hang, finite),
    )
    return made(subject, settings, draft)


def _probes(subject: Subject, timeout: Any, most: float, tolerance: float, hang: float) -> tuple[Probe, ...]:
    def tail(result: RecoveryTestResult) -> tuple[bool | None, str]:
        times = sorted(one.duration for one in during(result))
        slow = percentile(times, 0.99)
        text = f"p99 {slow:.3g} s of {len(times)} operations, in calls that hang for {hang:.3g} s"
        if slow > most + tolerance:
            return False, text
        return (True if len(times) >= LEAST_OPERATIONS else None), text

    def ended(result: RecoveryTestResult) -> tuple[bool | None, str]:
        count = len(told(result, "CallTimedOut", timeout))
        return count > 0, f"{count} calls ended by the timeout"

    def plainly(result: RecoveryTestResult) -> tuple[bool | None, str]:
        errors = [one.error for one in during(result) if one.error is not None]
        other = sorted({type(one).__name__ for one in errors if not isinstance(one, (CallTimeoutError, RejectedError))})
        return not other, f"{len(errors)} operations failed" + (f", some by {', '.join(other)}" if other else "")

    required = f"p99 of the operations that meet the fault is at most {most:.3g} s, and {tolerance:g} s for the machine"
    if timeout is not None and math.isinf(most):
        required, tail = "operations have a limit", lambda result: (False, "retries without max_attempts have none")
    return (
        needing(subject, "timeout", "tail", required, tail, 10.0),
        needing(subject, "timeout", "ends calls", "the timeout itself ends calls that hang", ended),
        Probe("errors", "operations fail by CallTimeoutError, or are turned away, and by nothing else", plainly),
    )
