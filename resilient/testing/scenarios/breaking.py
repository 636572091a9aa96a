"""Breakers: open while everything fails, and closed again when it does not."""

from __future__ import annotations

import math
from typing import Any, Unpack

from resilient import _checks as check
from resilient.testing import faults
from resilient.testing.recovery.expectations import Probe
from resilient.testing.recovery.result import RecoveryTestResult
from resilient.testing.recovery.scenario import RecoveryTestScenario
from resilient.testing.scenarios.seen import needing, told, window
from resilient.testing.scenarios.settings import LOAD, SLACK, Draft, Options, Settings, fault_for, lasting, made
from resilient.testing.scenarios.subject import Breaking, Subject, breaking
from resilient.timeout import Timeout

#: Calls that come when it has opened, at least, and calls per second, at most.
_TURNED_AWAY, _MOST_LOAD = 5, 1000.0
#: Seconds of nothing but failures in which it has to open, unless `outage` says otherwise.
_LONGEST_OPENING = 600.0


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
    fault = fault_for(*_expected(breaker))
    hang = lasting(settings.fault or fault)
    figures = Breaking(5, 1.0, 1) if breaker is None else breaking(breaker, load, _is_slow(subject, settings, breaker))
    slowest = min(subject.longest(hang), 3600.0)
    call = min(subject.longest(hang, upto=breaker), 600.0)  # seconds, of one that fails
    # As many as open it, and some to be turned away, even if none of them calls twice meanwhile.
    wanted = min(load * slowest, max(figures.calls + _TURNED_AWAY, load * call))
    callers = settings.concurrency or subject.callers(wanted)
    one_round = call if callers >= figures.calls else min(subject.longest(hang, closed=True), 600.0)
    opening = figures.calls / load + math.ceil(figures.calls / callers) * one_round
    # Who needs longer than that never opens in a real outage; the probe tells how many failures it needs.
    opening = min(opening, call + _longest_opening(breaker))
    outage = settings.outage or opening + max(figures.longest / 2, 10 / load)
    recovery = subject.settling(outage) + 2 * (figures.probes + 3) / load + slowest + SLACK
    draft = Draft(
        id="breaker-opens-and-recovers",
        name="Breaker opens and recovers",
        description="Everything fails; the breaker spares what it guards, and closes when it is well again.",
        probes=_probes(subject, breaker, figures, load, callers - 1 if call or settings.is_foreign else 0),
        fault=fault,
        outage=outage,
        recovery=recovery,
        # To the end: callers may be served by something else long before the breaker is closed.
        observe=recovery,
        load=load,
        concurrency=callers,
        slowest=slowest,
    )
    return made(subject, settings, draft)


def _load(breaker: Any) -> float:
    """Few calls where it stays open for minutes, but enough to fill a window of seconds, or to meet a moment."""
    if breaker is None:
        return LOAD
    config = breaker.config
    load: float = max(2.0, min(LOAD, 600 / max(config.recovery_timeout, 1.0)))
    needed = config.failure_threshold if config.failure_rate_threshold is None else config.minimum
    load = max(load, min(LOAD, max(needed, config.count_window or 0) / 60))
    if shortest := _shortest(breaker):
        load = max(load, min(_MOST_LOAD, 4 / shortest))
    if config.window_duration is not None:
        load = max(load, 4 * max(config.minimum, config.failure_threshold) / config.window_duration)
    return load


def _longest_opening(breaker: Any) -> float:
    """In so many seconds it has to open; what went well before has to leave its window in them."""
    window = None if breaker is None else breaker.config.window_duration
    return max(_LONGEST_OPENING, 1.2 * (window or 0.0))


def _shortest(breaker: Any) -> float:
    """The shortest that it may stay open, in seconds."""
    config = breaker.config
    return float(config.recovery_timeout * (1 - config.recovery_jitter))


def _is_slow(subject: Subject, settings: Settings, breaker: Any) -> bool:
    """Whether the fault is one that lets calls take too long for the breaker, and does not let them fail."""
    longest, fault = breaker.config.slow_call_duration, settings.fault
    hang = lasting(fault)
    if longest is None or hang < longest or not isinstance(fault, faults.Latency):
        return False
    inside = subject.policies[subject.policies.index(breaker) :]
    return all(one.longest > hang for one in inside if isinstance(one, Timeout))


def _expected(breaker: Any) -> tuple[Any, Any]:
    """Which errors count, and the types that the configuration names."""
    if breaker is None:
        return None, ()
    counts, ignores = check.matcher(breaker.config.expected_exception), check.matcher(breaker.config.ignore)
    return (lambda error: counts(error) and not ignores(error)), breaker.config.expected_exception


def _probes(subject: Subject, breaker: Any, figures: Breaking, load: float, under_way: int) -> tuple[Probe, ...]:
    """`under_way`: calls that may be in the function already when the last one that is needed opens the breaker."""

    inside = 1.0 if breaker is None else subject.attempts_inside(breaker)
    outer = subject.attempts_inside(None) / inside if math.isfinite(inside) else math.inf

    def opened(result: RecoveryTestResult) -> tuple[bool | None, str]:
        start, end = window(result)
        times = [one.at for one in told(result, "CircuitStateChanged", breaker, new="OPEN")]
        before = sum(at < start for at in times)
        within = [at for at in times if start <= at <= end]
        if before:
            return False, f"it opened {before} times before the fault"
        if not within:
            text = f"it did not open within {end - start:.3g} s, in which {result.fired} calls failed"
            return False, text + f"; it needs {figures.calls}"
        return True, f"open {within[0] - start:.3g} s after the fault began"

    def refused(result: RecoveryTestResult) -> tuple[bool | None, str]:
        count = len(told(result, "CallRejected", breaker))
        text = f"{count} calls turned away"
        if count or figures.longest > 1 / load:
            return count > 0, text
        if not figures.longest:
            return False, f"{text}: with recovery_timeout=0 it lets calls through at once"
        return None, f"{text}: it stays open for {figures.longest:.3g} s, and calls come every {1 / load:.3g} s"

    def spared(result: RecoveryTestResult) -> tuple[bool | None, str]:
        rounds = _rounds(result, breaker)
        # Where a retry around it adds calls to those of the load, a window of seconds holds more of them.
        more = outer if breaker.config.failure_rate_threshold and breaker.config.window_duration else 1
        most = (figures.calls * more + under_way + rounds * figures.probes) * inside
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


def _rounds(result: RecoveryTestResult, breaker: Any) -> int:
    """How often it may have let its probes through during the fault."""
    start, end = window(result)
    changes = told(result, "CircuitStateChanged", breaker)
    rounds = 0
    for number, one in enumerate(changes):
        if one.data["new"] == "HALF_OPEN" and start <= one.at <= end:
            over = changes[number + 1].at if number + 1 < len(changes) else end
            # A probe that takes longer than its lease gives its place to another.
            rounds += 1 + math.floor(max(0.0, min(over, end) - one.at) / breaker.config.lease)
    return rounds
