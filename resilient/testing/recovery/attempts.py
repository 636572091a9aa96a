"""One run of a scenario: in which time, from which seeds, and what came of it; again where that was not to be."""

from __future__ import annotations

import asyncio
import inspect
import math
import random
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from resilient._registry import registry
from resilient.retry.budget import RetryBudget
from resilient.testing import seeds
from resilient.testing.clocks import real_sockets
from resilient.testing.clocks.virtual_clock import VirtualClock
from resilient.testing.guard import check_allowed
from resilient.testing.recovery import running, tasks, threads
from resilient.testing.recovery.collector import RecoveryMetricsCollector
from resilient.testing.recovery.configs import NETWORK, check_seed
from resilient.testing.recovery.recording import Recording, error_text
from resilient.testing.recovery.result import FaultRecord, Operation, RecoveryTestResult, TestStatus
from resilient.testing.recovery.scenario import RecoveryTestScenario
from resilient.testing.recovery.sources import source_of
from resilient.testing.recovery.statistics import percentile, wilson
from resilient.testing.recovery.verdict import judged, phases
from resilient.testing.simulation.state import KeptState, start_afresh


class _Runs:
    """The scenarios that run in this process: one in virtual time runs alone, as there is one time for all."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._virtual = False

    @property
    def any(self) -> bool:
        """Whether some scenario is running."""
        return self._count > 0

    @contextmanager
    def claimed(self, *, virtual: bool) -> Iterator[None]:
        """Run inside the block, or raise RuntimeError."""
        with self._lock:
            if self._virtual or (virtual and self._count):
                raise RuntimeError(
                    "another scenario is running in this process, and one in virtual time has to run alone: "
                    "run them one after the other, or both with virtual_time=False"
                )
            self._count += 1
            self._virtual = virtual
        try:
            yield
        finally:
            with self._lock:
                self._count -= 1
                self._virtual = False


_RUNS = _Runs()


class Attempts:
    """A run, and where it turns out that it needs real time, or an event loop, another."""

    def __init__(
        self,
        scenario: RecoveryTestScenario,
        seed: int | str | None,
        collector: RecoveryMetricsCollector,
        *,
        allow_in_production: bool,
    ) -> None:
        check_seed(seed)
        check_surroundings(allow_in_production)
        self.allow_in_production = allow_in_production
        self.scenario = scenario
        # Known before the first run, so that the second meets the same faults.
        self.seeds = _seeds_for(seed, [config.seed for config in scenario.injections])
        self.given = seed is not None or scenario.injections[0].seed is not None
        self.collector = collector
        self.is_async = inspect.iscoroutinefunction(scenario.workload)
        has_network = any(one.source == NETWORK for one in scenario.injections)
        wants_virtual = scenario.virtual_time or (scenario.virtual_time is None and not _RUNS.any)
        self.is_virtual = wants_virtual and VirtualClock.in_use() is None and not has_network

    def __iter__(self) -> Iterator[Attempt]:
        attempt = Attempt(self)
        yield attempt
        while attempt.is_to_repeat:
            attempt = Attempt(self)
            yield attempt


def _seeds_for(seed: int | str | None, given: list[int | str | None]) -> list[int | str]:
    """A seed for each fault; from one they all follow, where one is given, or none."""
    first = next((one for one in (seed, given[0]) if one is not None), None)
    start = seeds.fresh() if first is None else first
    own = [None if seed is not None else one for one in given]
    return [start, *(f"{start}:{number}" if one is None else one for number, one in enumerate(own[1:], 1))]


class Attempt:
    """One run of a scenario, in the time it is to have."""

    result: RecoveryTestResult

    def __init__(self, plan: Attempts) -> None:
        self._plan = plan
        self._stack = ExitStack()
        self._refusals = real_sockets.refusals
        self.is_to_repeat = False

    def __enter__(self) -> Attempt:
        plan = self._plan
        with ExitStack() as stack:
            stack.enter_context(_RUNS.claimed(virtual=plan.is_virtual))
            if plan.is_virtual:
                stack.enter_context(_own_time())
            running.check_real_time()
            if VirtualClock.in_use() is not None:
                stack.enter_context(_own_draws(plan.seeds[0]))
            pairs = zip(plan.scenario.injections, plan.seeds, strict=True)
            allowed = plan.allow_in_production
            sources = [source_of(one, seed, allow_in_production=allowed) for one, seed in pairs]
            self._started_at = time.time()
            self._recording = Recording(plan.scenario, sources, plan.collector)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, tb: Any) -> bool:
        self._stack.close()
        if isinstance(error, running.IsAsyncError):
            self._plan.is_async = self.is_to_repeat = True
            return True
        if (error is None or isinstance(error, Exception)) and self._needs_real_time():
            self._plan.is_virtual, self.is_to_repeat = False, True
        return self.is_to_repeat

    def _needs_real_time(self) -> bool:
        is_free = self._plan.is_virtual and self._plan.scenario.virtual_time is None
        return is_free and real_sockets.refusals > self._refusals

    def run(self) -> None:
        if self._plan.is_async:
            if asyncio._get_running_loop() is not None:
                raise RuntimeError("the workload is async, and a loop is running here: await arun_test_scenario(...)")
            tasks.run_in_own_loop(self._recording)
        else:
            threads.run_sync(self._recording)
        self._conclude()

    async def arun(self) -> None:
        if self._plan.is_async:
            await tasks.run_async(self._recording)
        else:
            recording = self._recording
            await tasks.finished_thread(lambda: threads.run_sync(recording), recording.abandon)
        self._conclude()

    def _conclude(self) -> None:
        recording, plan = self._recording, self._plan
        course, duration = recording.course, recording.now()
        recovered = course.recovered_at
        operations = recording.operations()
        faults = tuple(one.record(recording.origin, duration) for one in recording.sources)
        _tell_faults(recording, faults, duration)
        result = _result(
            plan.scenario,
            operations,
            seed=plan.seeds[0],
            replay=seeds.command(given=plan.given),
            started_at=self._started_at,
            duration=duration,
            recovery_time=None if recovered is None else _between(course.fault_end, recovered),
            recovery_time_from_start=None if recovered is None else _between(course.fault_start, recovered),
            phases=phases(recording, operations, duration),
            faults=faults,
            events=tuple(recording.collector.events),
            metrics=dict(recording.collector.collect_metrics(plan.scenario.id)),
            error_logs=recording.error_logs,
        )
        self.result = judged(result, recording)


def _result(scenario: RecoveryTestScenario, operations: tuple[Operation, ...], **found: Any) -> RecoveryTestResult:
    """A result without a verdict: what follows from the scenario and its operations, and what else was found."""
    times = sorted(one.duration for one in operations)
    n, successes = len(operations), sum(one.ok for one in operations)
    known: dict[str, Any] = {
        "scenario_id": scenario.id,
        "scenario_name": scenario.name,
        "description": scenario.description,
        "execution_id": uuid.uuid4().hex,
        "status": TestStatus.INCONCLUSIVE,
        "reasons": (),
        "completed_at": time.time(),
        "duration": 0.0,
        "success_rate": successes / n if n else 0.0,
        "success_interval": wilson(successes, n),
        "average_response_time": sum(times) / n if n else 0.0,
        "p50": percentile(times, 0.5),
        "p95": percentile(times, 0.95),
        "p99": percentile(times, 0.99),
        "recovery_time": None,
        "recovery_time_from_start": None,
        "data_consistent": None,
        "checks": (),
        "phases": (),
        "faults": (),
        "events": (),
        "operations": operations,
        "metrics": {},
        "weight": scenario.weight,
        "source": scenario.source,
    }
    return RecoveryTestResult(**{**known, **found})


def _between(start: float, end: float) -> float:
    """Seconds from one moment to another. Less than a microsecond is what adding moments up leaves of none."""
    took = end - start
    return took if took >= 1e-6 else 0.0


def check_surroundings(allow_in_production: bool) -> None:
    """Raise InjectionRefusedError in production, and ConfigurationError where no scenario could run."""
    check_allowed(allow_in_production)
    running.check_clock()


def unable(scenario: RecoveryTestScenario, error: Exception) -> RecoveryTestResult:
    """The result of a scenario that could not be run, as with a target that is not there."""
    text = error_text(error)
    return _result(
        scenario,
        (),
        reasons=(f"it could not be run: {text}",),
        seed="",
        replay=seeds.command(),
        started_at=time.time(),
        error_logs=(text,),
    )


def _tell_faults(recording: Recording, faults: tuple[FaultRecord, ...], duration: float) -> None:
    for source, record in zip(recording.sources, faults, strict=True):
        began = source.began
        if began is None or began - recording.origin > duration:
            continue
        ended = min(recording.origin + recording.course.fault_end, source.ended or began)
        recording.collector.tell("fault begins", record.fault, f"on {record.target}", began)
        if ended - recording.origin <= duration:
            recording.collector.tell("fault ends", record.fault, f"fired {record.fired} times", max(began, ended))


@contextmanager
def _own_draws(seed: int | str) -> Iterator[None]:
    """Let what is drawn by chance, such as the jitter of retries, follow from the seed, too.

    Not in real time, in which nothing happens twice at the same moment anyway.
    """
    before = random.getstate()
    random.seed(f"{seed}")
    try:
        yield
    finally:
        random.setstate(before)


@contextmanager
def _own_time() -> Iterator[None]:
    """A virtual clock that jumps. Policies are afterwards as they were: what they saw in it lies in the future."""
    names = ("circuit_breakers", "bulkheads", "retries", "timeouts", "degradations")
    kept = KeptState(policy for name in names for policy in getattr(registry, name).values())
    try:
        with VirtualClock(autojump=True) as clock:
            # From a whole second on, so that no time is rounded differently in the next run.
            clock.advance(math.ceil(clock.monotonic()) - clock.monotonic())
            # What a budget grants follows from when it was last asked, in real time.
            start_afresh(one for one in kept.objects if isinstance(one, RetryBudget))
            yield
    finally:
        kept.restore()
