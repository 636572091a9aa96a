"""Degradation: answers during an outage."""

from __future__ import annotations

from typing import Any, Unpack

from resilient import _checks as check
from resilient.testing.recovery.expectations import Probe
from resilient.testing.recovery.result import RecoveryTestResult
from resilient.testing.recovery.scenario import RecoveryTestScenario
from resilient.testing.scenarios.seen import during, needing, told
from resilient.testing.scenarios.settings import LOAD, SLACK, Draft, Options, Settings, fault_for, made
from resilient.testing.scenarios.subject import Subject


def degrade_serves_stale(
    fn: Any, *, stale: bool | None = None, success_rate: float = 0.99, **options: Unpack[Options]
) -> RecoveryTestScenario:
    """While everything fails, `fn` still answers, by the cache or the fallback of its `@degrade`.

    `stale`: whether these answers have to be ones that were given before the fault; by default if it has a cache.
    `success_rate`: the share of operations that has to be answered. For the other options see
    `resilient.testing.scenarios`.
    """
    settings = Settings(**options)
    subject = Subject(fn, settings.args, settings.kwargs)
    degrade = subject.first("degrade")
    least = check.share("success_rate", success_rate) or 0.0
    cache = None if degrade is None else degrade.config.cache
    is_stale = cache is not None if stale is None else check.flag("stale", stale)
    slowest = min(subject.longest(0.0), 3600.0)
    # Fresh answers of a cache that knows their age need no call, so the fault is met only when they are old.
    fresh = float(getattr(cache, "cache_ttl", 0.0))
    outage = fresh + max(1.0, 2 * slowest)
    load = max(1.0, min(LOAD, 2000 / outage))
    draft = Draft(
        id="degrade-serves-stale",
        name="Degrade serves stale data" if is_stale else "Degrade serves fallbacks",
        description="Everything fails, and callers still get an answer.",
        probes=_probes(subject, degrade, is_stale, least),
        fault=fault_for(
            None if degrade is None else lambda error: bool(degrade.handles(error)),
            None if degrade is None else degrade.config.on,
        ),
        outage=outage,
        recovery=subject.settling(settings.outage or outage) + slowest + SLACK,
        load=load,
        # Where each of them waits for a breaker to let it through, one alone makes too few to judge by.
        concurrency=subject.callers((settings.load or load) * slowest),
        slowest=slowest,
        success_rate=least,
    )
    return made(subject, settings, draft)


def _probes(subject: Subject, degrade: Any, is_stale: bool, least: float) -> tuple[Probe, ...]:
    def answered(result: RecoveryTestResult) -> tuple[bool | None, str]:
        met = during(result)
        well = sum(one.ok for one in met)
        return (well >= least * len(met) if met else None), f"{well} of {len(met)} answered"

    def served(result: RecoveryTestResult) -> tuple[bool | None, str]:
        events = told(result, "FallbackServed", degrade)
        cached = sum(one.data.get("source") == "cache" for one in events)
        return bool(events), f"{cached} answers from the cache, {len(events) - cached} from the fallback"

    def known(result: RecoveryTestResult) -> tuple[bool | None, str]:
        before: list[Any] = []
        for one in result.operations:
            if one.phase == "baseline" and one.ok and one.value not in before:
                before.append(one.value)
        met = [one for one in during(result) if one.ok]
        other = sum(one.value not in before for one in met)
        return (other == 0 if met else None), f"{len(met) - other} of {len(met)} answers had been given before"

    made_of = [
        Probe("answers", f"at least {least:.1%} of the operations during the fault are answered", answered, 10.0),
        needing(subject, "degrade", "served", "the cache or the fallback has answered", served, 10.0),
    ]
    if is_stale:
        made_of.append(Probe("stale data", "every answer was one of those before the fault", known))
    return tuple(made_of)
