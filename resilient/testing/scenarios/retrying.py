"""Retries: whether they make good what is soon over, and how much they add to what is not."""

from __future__ import annotations

import math
from typing import Any, Unpack

from resilient import _checks as check
from resilient.testing.recovery.expectations import Probe
from resilient.testing.recovery.result import RecoveryTestResult
from resilient.testing.recovery.scenario import RecoveryTestScenario
from resilient.testing.scenarios.seen import during, needing, told, window
from resilient.testing.scenarios.settings import LOAD, SLACK, Draft, Options, Settings, fault_for, made
from resilient.testing.scenarios.subject import CALL, Subject, absorbable
from resilient.testing.timing import InjectionTiming, Moment

#: Calls that have to be hit before retries are judged, and operations before their storm is.
LEAST_HITS, LEAST_OPERATIONS = 10, 20
_MOST_HITS = 30


def retry_absorbs_transient_faults(
    fn: Any, *, rate: float = 0.3, success_rate: float | None = None, **options: Unpack[Options]
) -> RecoveryTestScenario:
    """Faults that are soon over do not reach the callers of `fn`: its `@retry` makes them good.

    A share `rate` of the attempts fails, but never so many of one operation in a row that the attempts of the retry
    could not make them good; it ends after 30 of them. `success_rate`: the share of operations of the whole run that
    has to succeed; 0.99, or, where `fault` is an ErrorInjectionConfig, between what its rate leaves with and without
    the retry. For the other options see `resilient.testing.scenarios`.
    """
    settings = Settings(**options)
    subject = Subject(fn, settings.args, settings.kwargs)
    retry = subject.first("retry")
    share = check.share("rate", rate) or 0.0
    load = settings.load or LOAD
    most = 1 if retry is None else max(1, absorbable(retry))
    least = _least_success(success_rate, settings, retry)
    draft = Draft(
        id="retry-absorbs-transient-faults",
        name="Retry absorbs transient faults",
        description="Attempts fail for a moment, and the retry makes them good.",
        probes=_absorbing(subject, retry, least),
        fault=fault_for(None if retry is None else retry.accepts, None if retry is None else retry.config.on),
        rate=_affordable(retry, share, load),
        timing=InjectionTiming.when(_within(most)),
        max_count=_MOST_HITS,
        outage=20 * _MOST_HITS / load + _MOST_HITS * subject.waits(1.0),
        recovery=subject.settling(1.0) + subject.waits(60.0) + SLACK,
        slowest=subject.waits(60.0),
        success_rate=least,
    )
    return made(subject, settings, draft)


def _within(most: int) -> Any:
    """Whether an operation has met the fault less often than its retry can make good."""

    def predicate(moment: Moment) -> bool:
        call = CALL.get()
        if call is None:
            return True
        # Only asked about attempts that are drawn; this one will be hit.
        call.hits += call.hits < most + 1
        return call.hits <= most

    return predicate


def _affordable(retry: Any, rate: float, load: float) -> float:
    """A share of attempts whose retries the budget pays for."""
    budget = None if retry is None else retry.config.budget
    if budget is None:
        return rate
    paid: float = (budget.ratio + budget.min_per_second / load) / 2
    return max(0.01, min(rate, paid))


def _least_success(given: float | None, settings: Settings, retry: Any) -> float:
    if given is not None:
        return check.share("success_rate", given, zero=True) or 0.0
    if not settings.is_foreign:
        return 0.99
    rate: float = settings.fault.error_rate  # type: ignore[union-attr]  # as `is_foreign` says
    attempts = 1 if retry is None else retry.max_attempts or 10
    return 1 - math.sqrt(rate * rate**attempts)


def _absorbing(subject: Subject, retry: Any, least: float) -> tuple[Probe, ...]:
    def saved(result: RecoveryTestResult) -> tuple[bool | None, str]:
        again = len(told(result, "RetryScheduled", retry))
        well = len(told(result, "RetrySucceeded", retry))
        text = f"{result.fired} attempts failed, {again} were made again, and so {well} operations succeeded"
        if result.fired < LEAST_HITS:
            return None, text
        return well > 0, text

    def callers(result: RecoveryTestResult) -> tuple[bool | None, str]:
        met = during(result)
        failed = sum(not one.ok for one in met)
        text = f"{failed} of {len(met)} failed, {result.fired} attempts did"
        if not met or result.fired < LEAST_HITS:
            return None, text
        return failed <= (1 - least) * len(met), text

    need = f"after at least {LEAST_HITS} failed attempts"
    return (
        needing(subject, "retry", "retries", f"operations saved by a second attempt, {need}", saved, 10.0),
        Probe("callers", f"at least {least:.1%} of the operations during the fault succeed", callers, 10.0),
    )


def retry_storm_bounded(fn: Any, *, factor: float = 2.0, **options: Unpack[Options]) -> RecoveryTestScenario:
    """While everything fails, `fn` makes at most `factor` calls of what it depends on per operation of its callers.

    What keeps the storm small may be a breaker, a retry budget, or few attempts; without any retry there is none.
    Where `fn` only calls the decorated function, its policies cannot be seen, and the result is INCONCLUSIVE.
    For the other options see `resilient.testing.scenarios`.
    """
    settings = Settings(**options)
    subject = Subject(fn, settings.args, settings.kwargs)
    most = check.number("factor", factor, least=1)
    retry = subject.first("retry")
    slowest = min(subject.longest(0.0), 3600.0)
    load, concurrency = settings.load or LOAD, 10
    # So long that those under way when it ends are few among them all.
    outage = max(4.0, 8 * subject.waits(1.0), 3 * slowest, 200 / load)
    draft = Draft(
        id="retry-storm-bounded",
        name="Retry storm stays bounded",
        description="Everything fails, and the retries of all callers are not to make it worse.",
        probes=(
            Probe("storm", f"at most {most:g} calls per operation while everything fails", _storm(subject, most), 10.0),
        ),
        fault=fault_for(None if retry is None else retry.accepts, None if retry is None else retry.config.on),
        outage=outage,
        recovery=subject.settling(settings.outage or outage) + slowest + SLACK,
        load=LOAD if slowest < 10 else max(1.0, LOAD * 10 / slowest),
        concurrency=concurrency,
        slowest=slowest,
    )
    return made(subject, settings, draft)


def _storm(subject: Subject, most: float) -> Any:
    def judge(result: RecoveryTestResult) -> tuple[bool | None, str]:
        if not subject.policies:
            # The fault hits around it, once per operation, whatever the policies inside would make of that.
            return None, f"{subject.name} has no policies that can be seen; give the decorated function itself"
        start, end = window(result)
        operations = len(during(result))
        # Those that began before are under way in it too.
        operations += sum(one.started < start < one.ended for one in result.operations)
        # Of a fault that hits every call, those it has hit are all that came while it was in force.
        calls = result.fired
        if operations < LEAST_OPERATIONS:
            return None, f"{operations} operations within {end - start:.3g} s, at least {LEAST_OPERATIONS} needed"
        factor = calls / operations
        return factor <= most, f"{calls} calls for {operations} operations, {factor:.2f} per operation"

    return judge
