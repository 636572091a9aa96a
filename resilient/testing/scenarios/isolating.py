"""Bulkheads: a slow dependency keeps few callers busy, and nobody else."""

from __future__ import annotations

import asyncio
import inspect
import math
import threading
from collections.abc import Callable
from typing import Any, Unpack

from resilient import _checks as check
from resilient.clock import CLOCK
from resilient.errors import BulkheadFullError
from resilient.testing import faults
from resilient.testing.recovery.expectations import Probe
from resilient.testing.recovery.result import RecoveryTestResult
from resilient.testing.recovery.scenario import RecoveryTestScenario
from resilient.testing.recovery.statistics import percentile
from resilient.testing.scenarios.seen import during, needing, told
from resilient.testing.scenarios.settings import LOAD, SLACK, Draft, Options, Settings, made
from resilient.testing.scenarios.subject import CALL, Call, Subject
from resilient.timeout import Timeout

#: The thread or task of a scenario that calls the bystander.
_APART = "resilient-workload-0"
#: Callers at once where there is no bulkhead to ask for its limit.
_UNLIMITED = 10
#: Seconds that the bystander sleeps where none is given.
_NAP = 0.01
#: Calls of the bystander while others hang: enough for percentiles, however long that is.
_CALLS_ASIDE = 100


class Hanging(faults.Latency):
    """Latency that counts how many calls hang at once."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self._lock = threading.Lock()
        self._inside: dict[Call | None, int] = {}
        self.peak = 0

    def seconds(self) -> float:
        """A call begins to hang."""
        call = CALL.get()
        with self._lock:
            self._inside[call] = self._inside.get(call, 0) + 1
            self.peak = max(self.peak, sum(self._inside.values()))
        return super().seconds()

    def before(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """It has hung long enough."""
        call = CALL.get()
        with self._lock:
            left = self._inside.pop(call, 1) - 1
            if left:
                self._inside[call] = left

    @property
    def hangs(self) -> bool:
        """Whether some call hangs now."""
        return bool(self._inside)

    def cancelled(self, call: Call) -> None:
        """An async operation is over, and with it what of it hung; calls of sync ones go on in their threads."""
        with self._lock:
            self._inside.pop(call, None)

    def forget(self) -> None:
        """Begin anew."""
        with self._lock:
            self._inside.clear()
            self.peak = 0

    @property
    def label(self) -> str:
        return f"Latency({self._seconds:g})"


class Aside:
    """What a call of the bystander came to: how long it took, in seconds, and how it failed."""

    __slots__ = ("error", "seconds")

    def __init__(self, seconds: float, error: Exception | None) -> None:
        self.seconds = seconds
        self.error = error

    def __repr__(self) -> str:
        return f"<bystander: {self.seconds:.3g} s>"


def bulkhead_isolates(
    fn: Any,
    *,
    bystander: Callable[[], Any] | None = None,
    latency: float | None = None,
    tolerance: float = 0.25,
    **options: Unpack[Options],
) -> RecoveryTestScenario:
    """While calls of `fn` hang, its `@bulkhead` keeps all but `max_concurrent` of its callers out, and others unharmed.

    `bystander`: a function that has nothing to do with the slow dependency, sync or async as `fn` is, and is called
    without arguments all the time: it must stay as fast as before. By default one that sleeps for a moment, which
    shows whether the process, or its event loop, still responds. `latency`: seconds that calls hang; by default
    longer than anybody may wait. `tolerance`: seconds that a busy machine may add. For the other options see
    `resilient.testing.scenarios`; `concurrency` has to exceed max_concurrent.
    """
    settings = Settings(**options)
    subject = Subject(fn, settings.args, settings.kwargs)
    bulkhead = subject.first("bulkhead")
    extra = check.seconds("tolerance", tolerance)
    limit = 0 if bulkhead is None else bulkhead.config.max_concurrent
    callers = _UNLIMITED if bulkhead is None else limit + max(2, min(limit, 10))
    wait = 0.0 if bulkhead is None else bulkhead.config.max_wait or 0.0
    load = settings.load or _load(subject, callers, max(1.0, 1.5 * wait))
    hang = check.optional_seconds("latency", latency, positive=True) or max(1.0, 1.5 * wait) + 4 * callers / load
    slowest = min(subject.longest(hang), 3600.0)
    fault = Hanging(hang)
    draft = Draft(
        id="bulkhead-isolates",
        name="Bulkhead isolates a slow dependency",
        description="Every call hangs; few callers are kept busy by that, and nobody else.",
        probes=_probes(subject, bulkhead, fault, extra),
        fault=fault,
        outage=hang,
        recovery=subject.settling(settings.outage or hang) + slowest + SLACK,
        load=load,
        concurrency=callers + 1,
        slowest=slowest,
        workload=_workload(subject, fault, bystander, (settings.outage or hang) / _CALLS_ASIDE),
    )
    return made(subject, settings, draft)


def _load(subject: Subject, callers: int, hang: float) -> float:
    """All of them call before the first is let go: by a timeout, or after `hang` seconds."""
    limits = [one.longest for one in subject.policies if isinstance(one, Timeout)]
    soonest = min(1.0, *limits) if limits else hang
    return max(LOAD, 4 * callers / max(soonest, 0.01))


# Those who call


def _own() -> None:
    """Nothing but a short sleep, from which it has to be woken in time."""
    CLOCK.sleep(_NAP)


async def _aown() -> None:
    """The same in an event loop: who blocks it, blocks this."""
    await CLOCK.asleep(_NAP)


def _workload(subject: Subject, fault: Hanging, given: Callable[[], Any] | None, pause: float) -> Callable[[], Any]:
    """`pause`: seconds between two calls of the bystander while others hang, be that for minutes."""
    if given is not None and inspect.iscoroutinefunction(given) and not subject.is_async:
        raise check.bad("bystander", getattr(given, "__qualname__", given), "must be sync, as fn is")
    own: Callable[[], Any] = _aown if subject.is_async else _own
    bystander = own if given is None else given
    call = subject.workload()

    def work() -> Any:
        if threading.current_thread().name == _APART:
            aside = _aside(bystander)
            if fault.hangs:
                CLOCK.sleep(pause)
            return aside
        return call()

    async def awork() -> Any:
        task = asyncio.current_task()
        if task is not None and task.get_name() == _APART:
            aside = await _awaited_aside(bystander)
            if fault.hangs:
                await CLOCK.asleep(pause)
            return aside
        try:
            return await call()
        finally:
            if (mine := CALL.get()) is not None:
                fault.cancelled(mine)

    return awork if subject.is_async else work


def _aside(bystander: Callable[[], Any]) -> Aside:
    began, failed = CLOCK.monotonic(), None
    try:
        bystander()
    except Exception as error:
        failed = error
    return Aside(CLOCK.monotonic() - began, failed)


async def _awaited_aside(bystander: Callable[[], Any]) -> Aside:
    began, failed = CLOCK.monotonic(), None
    try:
        said = bystander()
        if inspect.isawaitable(said):
            await said
    except Exception as error:
        failed = error
    return Aside(CLOCK.monotonic() - began, failed)


# Probes


def _probes(subject: Subject, bulkhead: Any, fault: Hanging, tolerance: float) -> tuple[Probe, ...]:
    limit = 0 if bulkhead is None else bulkhead.config.max_concurrent

    def kept(result: RecoveryTestResult) -> tuple[bool | None, str]:
        peak = fault.peak
        fault.forget()
        text = f"{peak} calls hung at once, {limit} may"
        if peak > limit:
            return False, text
        return (True if peak == limit else None), text

    def without(result: RecoveryTestResult) -> tuple[bool | None, str]:
        peak = fault.peak
        fault.forget()
        return False, f"{peak} calls hung at once; {subject.lacks('bulkhead')}"

    def refused(result: RecoveryTestResult) -> tuple[bool | None, str]:
        return _refused(result, subject, bulkhead, tolerance)

    def unharmed(result: RecoveryTestResult) -> tuple[bool | None, str]:
        return _unharmed(result, tolerance)

    inside = "calls inside at once: not more than max_concurrent, and as many"
    return (
        Probe("isolation", inside, without if bulkhead is None else kept, 10.0),
        needing(subject, "bulkhead", "turned away", "others are turned away, within max_wait", refused),
        Probe("bystander", f"others as fast as before, and {tolerance:g} s for the machine", unharmed, 10.0),
    )


def _refused(result: RecoveryTestResult, subject: Subject, bulkhead: Any, tolerance: float) -> tuple[bool | None, str]:
    config, count = bulkhead.config, len(told(result, "CallRejected", bulkhead, kind="bulkhead"))
    times = [one.duration for one in during(result) if isinstance(one.error, BulkheadFullError)]
    longest, text = max(times, default=0.0), f"{count} calls turned away"
    if config.max_wait is None:
        if config.max_queue is None:
            return False, f"{text}: with max_wait=None and max_queue=None everybody waits"
        return count > 0, text
    # Each attempt of a retry around the bulkhead may wait so long.
    outer = subject.attempts_inside(None) / subject.attempts_inside(bulkhead)
    most = config.max_wait * outer + subject.waits(math.inf) + tolerance
    return count > 0 and longest <= most, f"{text}, after {longest:.3g} s at most, {most:.3g} s allowed"


def _unharmed(result: RecoveryTestResult, tolerance: float) -> tuple[bool | None, str]:
    calls = [(one.phase, one.value) for one in result.operations if isinstance(one.value, Aside)]
    before = sorted(one.seconds for phase, one in calls if phase == "baseline")
    met = [one for phase, one in calls if phase == "fault"]
    failed = sum(one.error is not None for one in met)
    usual, slow = percentile(before, 0.95), percentile(sorted(one.seconds for one in met), 0.95)
    text = f"p95 {slow:.3g} s, before {usual:.3g} s, {failed} of {len(met)} calls failed"
    if failed or slow > usual + tolerance:
        return False, text
    return (True if before and met else None), text
