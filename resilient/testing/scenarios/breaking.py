"""Breakers: open while everything fails, and closed again when it does not."""

from __future__ import annotations

import math
from typing import Any, Unpack

from resilient import _checks as check
from resilient.testing.recovery.expectations import Probe
from resilient.testing.recovery.result import RecoveryTestResult
from resilient.testing.recovery.scenario import RecoveryTestScenario
from resilient.testing.scenarios.seen import needing, told, window
from resilient.testing.scenarios.settings import LOAD, SLACK, Draft, Options, Settings, fault_for, made
from resilient.testing.scenarios.subject import Breaking, Subject, breaking


def breaker_opens_and_recovers(fn: Any, **options: Unpack[Options]) -> RecoveryTestScenario:
    """While everything fails, the breaker of `fn` opens and turns calls away; afterwards it closes by itself.

    How long the fault lasts, and how long recovery may take, follows from the breaker's own configuration. In virtual
    time a recovery_timeout of minutes takes milliseconds; with real sockets it takes minutes, so let the tests
    configure a short one. For the options see `resilient.testing.scenarios`.
    """
    settings = Settings(**options)
    subject = Subject(fn, settings.args, settings.kwargs)
    breaker = subject.first("circuit_breaker")
    load = settings.load or _load(breaker)
    figures = Breaking(5, 1.0, 1) if breaker is None else breaking(breaker, load)
    call = min(subject.longest(0.0, upto=breaker), 600.0)  # seconds, of one that fails
    opening = figures.calls * (call + 1 / load)
    outage = settings.outage or opening + max(figures.longest / 2, 10 / load)
    slowest = min(subject.longest(0.0), 3600.0)
    recovery = subject.settling(outage) + 2 * (figures.probes + 3) / load + slowest + SLACK
    draft = Draft(
        id="breaker-opens-and-recovers",
        name="Breaker opens and recovers",
        description="Everything fails; the breaker spares what it guards, and closes when it is well again.",
        probes=_probes(subject, breaker, figures),
        fault=fault_for(*_expected(breaker)),
        outage=outage,
        recovery=recovery,
        # To the end: callers may be served by something else long before the breaker is closed.
        observe=recovery,
        load=load,
        slowest=slowest,
    )
    return made(subject, settings, draft)


def _load(breaker: Any) -> float:
    """Few calls where it stays open for minutes, but enough to fill a window of seconds."""
    if breaker is None:
        return LOAD
    config = breaker.config
    load: float = max(2.0, min(LOAD, 600 / max(config.recovery_timeout, 1.0)))
    if config.window_duration is not None:
        load = max(load, 4 * max(config.minimum, config.failure_threshold) / config.window_duration)
    return load


def _expected(breaker: Any) -> tuple[Any, Any]:
    """Which errors count, and the types that the configuration names."""
    if breaker is None:
        return None, ()
    counts, ignores = check.matcher(breaker.config.expected_exception), check.matcher(breaker.config.ignore)
    return (lambda error: counts(error) and not ignores(error)), breaker.config.expected_exception


def _probes(subject: Subject, breaker: Any, figures: Breaking) -> tuple[Probe, ...]:
    def opened(result: RecoveryTestResult) -> tuple[bool | None, str]:
        start, end = window(result)
        times = [one.at for one in told(result, "CircuitStateChanged", breaker, new="OPEN")]
        before = sum(at < start for at in times)
        within = [at for at in times if start <= at <= end]
        if before:
            return False, f"it opened {before} times before the fault"
        if not within:
            return False, f"it did not open within {end - start:.3g} s, in which {result.fired} calls failed"
        return True, f"open {within[0] - start:.3g} s after the fault began"

    def refused(result: RecoveryTestResult) -> tuple[bool | None, str]:
        count = len(told(result, "CallRejected", breaker))
        return count > 0, f"{count} calls turned away"

    def spared(result: RecoveryTestResult) -> tuple[bool | None, str]:
        start, end = window(result)
        halves = told(result, "CircuitStateChanged", breaker, new="HALF_OPEN")
        rounds = sum(start <= one.at <= end for one in halves)
        most = (figures.calls + rounds * figures.probes) * subject.attempts_inside(breaker)
        if math.isinf(most):
            return None, f"{result.fired} calls; one operation may make any number of them"
        return result.fired <= most, f"{result.fired} calls reached it, at most {most:g} allowed"

    def closed(result: RecoveryTestResult) -> tuple[bool | None, str]:
        changes = told(result, "CircuitStateChanged", breaker)
        if not changes or changes[-1].data["new"] != "CLOSED":
            state = changes[-1].data["new"] if changes else "never anything but CLOSED"
            return False, f"{state} at the end, {result.duration - window(result)[1]:.3g} s after the fault"
        return True, f"closed {changes[-1].at - window(result)[1]:.3g} s after the end of the fault"

    kind, calls = "circuit_breaker", f"{figures.calls} failures to open, {figures.probes} probes each time it tries"
    return (
        needing(subject, kind, "opens", "the breaker opens during the fault, and not before", opened, 10.0),
        needing(subject, kind, "turns away", "calls are turned away while it is open", refused),
        needing(subject, kind, "spares", f"calls during the fault: {calls}, times attempts inside it", spared),
        needing(subject, kind, "closes", "the breaker is closed at the end", closed, 10.0),
    )
