"""A scripted outage against a real pipeline, in virtual time: minutes of it, with thousands of clients, in seconds."""

from __future__ import annotations

import asyncio
import contextvars
import random
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

from resilient._registry import registry
from resilient.circuit_breaker import CircuitBreaker
from resilient.clock import CLOCK
from resilient.deadlines import DUE
from resilient.events import HUB
from resilient.pipeline import Pipeline
from resilient.policy import Composable
from resilient.testing.clocks.real_sockets import forbidden
from resilient.testing.clocks.virtual_clock import VirtualClock
from resilient.testing.simulation.arguments import checked_plan, maker
from resilient.testing.simulation.counts import Plan, time_to_recover, timeline
from resilient.testing.simulation.dependency import Service, dependency, service
from resilient.testing.simulation.loop import SimulatedTime, SimulationLoop
from resilient.testing.simulation.result import Interval, Simulation
from resilient.testing.simulation.state import KeptState, start_afresh
from resilient.testing.simulation.traffic import Traffic

__all__ = ["Interval", "Simulation", "simulate"]

_LOOK = 0.1  # real seconds between two looks whether a simulation is still wanted

T = TypeVar("T")
_running = threading.Lock()


def simulate(
    pipeline: Any,
    outage: tuple[float, float],
    load: float,
    duration: float | None = None,
    seed: int | str | None = None,
    clients: int = 1,
    *,
    latency: float = 0.05,
    failure: Any = "error",
    failure_latency: float | None = None,
    capacity: float | None = None,
    answer: Any = None,
    interval: float | None = None,
) -> Simulation:
    """Replay an outage of a dependency that is called through a pipeline, and measure what users see of it.

    The pipeline itself runs, in virtual time: `await pipeline.acall(dependency)` for each user call. Its policies begin
    as new ones and are afterwards as they were before. The same seed gives the same result.

    Args:
        pipeline: what guards the calls: a `Pipeline`, a policy, a strategy, or a decorated function, for its policies;
            all clients share it, as threads of one process do. Or a callable that makes one: then each client has its
            own, as processes of a fleet have.
        outage: its (start, end), in seconds since the beginning.
        load: user calls per second of all clients together, evenly spaced; calls do not wait for each other.
        duration: seconds in all; None: as long after the outage as it lasted, at least 60 s.
        seed: decides when each client begins, and the jitter of the policies; None: one is made, see `.seed`.
        clients: how many there are.
        latency: seconds the dependency takes to answer.
        failure: what calls in the outage meet: "error" (refused), "hang" (no answer before its end), "slow", an
            exception, or a fault of `resilient.testing.faults`.
        failure_latency: seconds until the error (0), until a call that hangs ends as TimeoutError (None: it is answered
            when the outage ends; math.inf: never), or until a slow answer (10 times the latency).
        capacity: calls per second that the dependency can serve; others wait in line, and are served even if their
            callers have gone. None: any number.
        answer: what the dependency answers, for policies that look at it.
        interval: seconds of one interval of the timeline; None: a 120th of the duration or so.

    Raises:
        ConfigurationError: a value that cannot be meant, or more than 20 million calls.
        TypeError: a pipeline or failure of the wrong kind.
        RuntimeError: a `VirtualClock` or another simulation is in use; too many calls under way at once.
    """
    plan = checked_plan(outage, load, duration, seed, clients, interval)
    settings = service(plan.outage, plan.duration, latency, failure, failure_latency, capacity, answer)
    make = maker(pipeline)
    with _alone():
        loop = SimulationLoop()
        return _beside_a_running_loop(lambda: _simulate(loop, make, settings, plan), loop.stop)


# Surroundings -------------------------------------------------------------------------------------


@contextmanager
def _alone() -> Iterator[None]:
    """There is one time for the whole process."""
    if VirtualClock._current is not None:
        raise RuntimeError("a VirtualClock is in use, and a simulation has a time of its own: simulate outside it")
    if not _running.acquire(blocking=False):
        raise RuntimeError("a simulation is running already: there is one time for the whole process")
    try:
        yield
    finally:
        _running.release()


def _beside_a_running_loop(run: Callable[[], T], stop: Callable[[], object]) -> T:
    """Run here; where an event loop is running, in a thread, as one loop cannot run inside another."""
    context = contextvars.copy_context()
    context.run(DUE.set, None)  # a deadline around us is about real time
    if asyncio._get_running_loop() is None:
        return context.run(run)
    results: list[T] = []
    errors: list[BaseException] = []

    def in_thread() -> None:
        try:
            results.append(context.run(run))
        except BaseException as error:  # raised again in the thread that asked
            errors.append(error)

    thread = threading.Thread(target=in_thread, name="resilient-simulation", daemon=True)
    thread.start()
    try:
        _wait(thread)
    except BaseException:  # Ctrl-C
        stop()
        thread.join()
        raise
    if errors:
        raise errors[0]
    return results[0]


def _wait(thread: threading.Thread) -> None:
    """Wait for the thread, and no longer than until our task is cancelled: so `asyncio.run` passes a Ctrl-C on."""
    task = asyncio.current_task()
    cancelled = 0 if task is None else task.cancelling()
    while thread.is_alive():
        thread.join(_LOOK)
        if task is not None and task.cancelling() > cancelled:
            raise asyncio.CancelledError


@contextmanager
def _surroundings(loop: SimulationLoop, seed: int | str) -> Iterator[None]:
    """Virtual time, the seed's random numbers, an empty registry, and nobody who takes it for real."""
    before, lines, log = random.getstate(), HUB.lines, HUB.log
    with ExitStack() as stack:
        stack.enter_context(registry.scoped())
        stack.enter_context(CLOCK.use(SimulatedTime(loop)))
        stack.enter_context(forbidden("a simulation is running, and a real socket knows nothing of its time"))
        stack.callback(random.setstate, before)
        random.seed(f"{seed}")
        try:
            HUB.lines, HUB.log = {}, _no_log
            yield
        finally:
            HUB.lines, HUB.log = lines, log


def _no_log(event: object) -> None:
    """What happens in a simulation is no news."""


# The run ------------------------------------------------------------------------------------------


def _simulate(loop: SimulationLoop, make: tuple[Callable[[], Any], bool], settings: Service, plan: Plan) -> Simulation:
    try:
        with _surroundings(loop, plan.seed):
            traffic = Traffic(plan, loop)
            target = dependency(settings, loop, traffic.reached)
            text = _carry_out(make, target, traffic)
    finally:
        loop.close()
    return _result(text, settings, traffic)


def _carry_out(make: tuple[Callable[[], Any], bool], target: Callable[[], Awaitable[Any]], traffic: Traffic) -> str:
    """Run it, and leave the policies as they were; returns how the pipeline shows itself."""
    factory, own = make
    pipelines = []
    for _ in range(traffic.plan.clients if own else 1):
        with registry.scoped():  # the same names, and yet not the same policies
            pipelines.append(factory())
    kept = KeptState(pipelines)
    try:
        start_afresh(kept.objects)
        guarded = []
        for pipeline in pipelines:
            with registry.scoped():
                guarded.append(_guarded(pipeline, target))
        breakers = Counter(one.name for one in kept.objects if isinstance(one, CircuitBreaker))
        text = _text(pipelines[0])
        traffic.run(guarded, breakers)
    finally:
        kept.restore()
    return text


def _guarded(pipeline: Any, target: Callable[[], Awaitable[Any]]) -> Callable[[], Awaitable[Any]]:
    """What each user call awaits."""
    if isinstance(pipeline, Composable):
        pipeline._bind_parts(target)
        # The same layers as `acall` puts together, but once, and not for each call.
        if type(pipeline).acall is Composable.acall and type(pipeline).__call__ is Composable.__call__:
            decorated: Callable[[], Awaitable[Any]] = pipeline(target)
            return decorated
    return lambda: pipeline.acall(target)


def _text(pipeline: Any) -> str:
    parts = getattr(pipeline, "parts", ())
    kinds = " > ".join(str(part.kind) for part in parts) or type(pipeline).__name__
    name = pipeline.name if isinstance(pipeline, Pipeline) else ""
    return f"{name} ({kinds})" if name not in ("", "pipeline") else kinds


def _result(text: str, settings: Service, traffic: Traffic) -> Simulation:
    plan = traffic.plan
    intervals = timeline(traffic.bins, plan.duration)
    total = {
        name: sum(getattr(one, name) for one in intervals)
        for name in ("calls", "successes", "degraded", "failures", "rejected", "dependency_calls")
    }
    ended = total["successes"] + total["failures"]
    return Simulation(
        pipeline=text,
        seed=plan.seed,
        outage=plan.outage,
        failure=settings.how,
        load=plan.load,
        clients=plan.clients,
        duration=plan.duration,
        **total,
        unfinished=total["calls"] - ended,
        outage_calls=traffic.outage_calls,
        outage_dependency_calls=traffic.outage_reached,
        time_to_recover=time_to_recover(traffic.bins, plan) if traffic.outage_calls else None,
        average=traffic.times.average,
        p50=traffic.times.percentile(0.5),
        p95=traffic.times.percentile(0.95),
        p99=traffic.times.percentile(0.99),
        timeline=intervals,
        events_left_out=traffic.events_left_out,
    )
