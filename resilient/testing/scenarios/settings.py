"""What the ready scenarios have in common: the options they all take, and how a scenario is made of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict

from resilient import _checks as check
from resilient.testing import faults
from resilient.testing.faults import Fault
from resilient.testing.recovery.configs import IN_PROCESS, ErrorInjectionConfig, ErrorInjectionType, fault_of
from resilient.testing.recovery.expectations import ExpectedRecoveryBehavior, Probe, SuccessCriteria
from resilient.testing.recovery.scenario import RecoveryTestScenario
from resilient.testing.scenarios.subject import Subject
from resilient.testing.timing import InjectionTiming

#: Calls per second, where a scenario needs no other.
LOAD = 50.0
#: Seconds that a slow machine may add to any wait.
SLACK = 1.0


class Options(TypedDict, total=False):
    """The options that every ready scenario takes; each is described in `resilient.testing.scenarios`."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    fault: Fault | ErrorInjectionType | ErrorInjectionConfig | None
    seed: int | str | None
    load: float | None
    concurrency: int | None
    baseline: float | None
    outage: float | None
    max_recovery_time: float | None
    timeout: float | None
    virtual_time: bool | None
    weight: float
    id: str | None


@dataclass(frozen=True, slots=True)
class Settings:
    """The same with their defaults. None: as the scenario finds best."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    fault: Fault | ErrorInjectionType | ErrorInjectionConfig | None = None
    seed: int | str | None = None
    load: float | None = None
    concurrency: int | None = None
    baseline: float | None = None
    outage: float | None = None
    max_recovery_time: float | None = None
    timeout: float | None = None
    virtual_time: bool | None = None
    weight: float = 1.0
    id: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.args, tuple):
            raise check.bad("args", type(self.args).__name__, "must be a tuple, such as (7,)")
        if not isinstance(self.kwargs, Mapping):
            raise check.bad("kwargs", type(self.kwargs).__name__, "must be a mapping of names to values")
        for name in ("baseline", "outage", "timeout"):
            check.optional_seconds(name, getattr(self, name), positive=True)
        check.optional_seconds("max_recovery_time", self.max_recovery_time)
        if self.load is not None and check.number("load", self.load, least=0) == 0:
            raise check.bad("load", self.load, "must be calls per second, greater than 0")
        check.count("concurrency", self.concurrency, none="as the scenario needs")

    @property
    def is_foreign(self) -> bool:
        """Whether the fault is all the caller's own, place, rate and time included."""
        return isinstance(self.fault, ErrorInjectionConfig)


@dataclass(frozen=True, slots=True)
class Draft:
    """What a ready scenario settles where its caller has not. Times in seconds, loads in calls per second."""

    id: str
    name: str
    description: str
    probes: tuple[Probe, ...]
    fault: Fault
    outage: float
    recovery: float  # that it may take after the end of the fault
    rate: float = 1.0
    timing: InjectionTiming = InjectionTiming.IMMEDIATE
    max_count: int | None = None
    observe: float | None = None
    load: float = LOAD
    concurrency: int = 1
    slowest: float = 0.0  # an operation that begins last may take so long
    success_rate: float | None = None
    workload: Callable[[], Any] | None = None


def made(subject: Subject, settings: Settings, draft: Draft) -> RecoveryTestScenario:
    """The scenario that a draft and the caller's settings come to."""
    load = settings.load or draft.load
    baseline = settings.baseline or max(1.0, 10 / load)
    outage = settings.outage or draft.outage
    recovery = draft.recovery if settings.max_recovery_time is None else settings.max_recovery_time
    observe = None if draft.observe is None else max(draft.observe, recovery)
    planned = baseline + outage + max(recovery, observe or 0.0) + draft.slowest
    return RecoveryTestScenario(
        id=settings.id or f"{draft.id}:{subject.name}",
        name=draft.name,
        description=draft.description,
        workload=draft.workload or subject.workload(),
        error_injection=_injection(subject, settings, draft),
        expected_recovery=ExpectedRecoveryBehavior(
            max_recovery_time=recovery, success_criteria=SuccessCriteria(draft.success_rate)
        ),
        timeout=settings.timeout or 2 * planned + 60,
        load=load,
        concurrency=settings.concurrency or draft.concurrency,
        baseline=baseline,
        fault=outage,
        observe=observe,
        probes=draft.probes,
        virtual_time=settings.virtual_time,
        weight=settings.weight,
    )


def _injection(subject: Subject, settings: Settings, draft: Draft) -> ErrorInjectionConfig:
    given = settings.fault
    if isinstance(given, ErrorInjectionConfig):
        return given if settings.seed is None else dataclasses.replace(given, seed=settings.seed)
    return ErrorInjectionConfig(
        draft.fault if given is None else given,
        subject.target,
        injection_timing=draft.timing,
        error_rate=draft.rate,
        max_count=draft.max_count,
        seed=settings.seed,
    )


# Faults


def fault_for(accepts: Callable[[Exception], bool] | None, named: Any = ()) -> Fault:
    """A fault that a policy acts upon; `named` is what its configuration names: a type of error, or several."""
    found: Fault
    for found in (faults.NetworkFailure("reset"), faults.ServiceUnavailable(), faults.DatabaseTimeout()):
        if accepts is None or _meets(found, accepts):
            return found
    for kind in named if isinstance(named, tuple) else (named,):
        if isinstance(kind, type) and _meets(found := _raising(kind), accepts):
            return found
    # One that it does not act upon, which the scenario will show.
    return faults.NetworkFailure("reset")


def lasting(given: Fault | ErrorInjectionType | ErrorInjectionConfig | None) -> float:
    """Seconds that a call takes longer by a fault, where that can be known."""
    if isinstance(given, ErrorInjectionConfig):
        given = fault_of(given) if given.source == IN_PROCESS else None
    return given.seconds() if isinstance(given, Fault) else 0.0


def _meets(fault: Fault, accepts: Callable[[Exception], bool] | None) -> bool:
    try:
        fault.before((), {})
    except Exception as error:
        return accepts is not None and bool(accepts(error))
    return False


def _raising(kind: type[BaseException]) -> Fault:
    def action(*args: Any, **kwargs: Any) -> None:
        raise kind("injected")

    # By which decisions are drawn, so it has to stay the same from run to run.
    action.__qualname__ = f"raise {kind.__qualname__}"
    return faults.Custom(action)
