"""The dependency of a simulation: it answers, has an outage, and may have only so much capacity."""

from __future__ import annotations

import copy
import errno
import math
import os
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from resilient import _checks as check
from resilient.testing.faults import Fault
from resilient.testing.happening import happen
from resilient.testing.simulation.loop import SimulationLoop
from resilient.wrapping import Kind

WAYS = ("error", "hang", "slow")
_SLOWER = 10  # times its latency, where nothing else was asked for


class Service(NamedTuple):
    """How the dependency behaves; times in seconds, `capacity` in calls per second."""

    outage: tuple[float, float]
    latency: float
    failure: Any
    failure_latency: float | None
    capacity: float | None
    answer: Any

    @property
    def how(self) -> str:
        """What the outage is, in a word."""
        failure = self.failure
        if isinstance(failure, Fault):
            return failure.label
        if isinstance(failure, str):
            return failure
        return (failure if isinstance(failure, type) else type(failure)).__name__


def service(
    outage: Any, duration: float, latency: Any, failure: Any, failure_latency: Any, capacity: Any, answer: Any
) -> Service:
    """A service that makes sense; raises ConfigurationError or TypeError."""
    window = checked_outage(outage)
    if window[1] > duration:
        raise check.bad(
            "outage", outage, f"must end within duration={duration:g}; the time after it shows the recovery"
        )
    wait = check.seconds("latency", latency)
    if failure_latency is not None and failure_latency != math.inf:
        failure_latency = check.seconds("failure_latency", failure_latency)
    if failure_latency == math.inf and failure != "hang":
        raise check.bad("failure_latency", failure_latency, 'only failure="hang" can last for ever; give seconds')
    if capacity is not None and not check.number("capacity", capacity, least=0):
        raise check.bad("capacity", capacity, "must be calls per second, greater than 0, or None for no limit")
    return Service(window, wait, _failure(failure), failure_latency, capacity, answer)


def checked_outage(outage: Any) -> tuple[float, float]:
    """The outage's start and end."""
    if not isinstance(outage, (tuple, list)) or len(outage) != 2:
        raise check.bad("outage", outage, "must be (start, end) in seconds, such as (10, 40)")
    start, end = check.seconds("outage start", outage[0]), check.seconds("outage end", outage[1])
    if start >= end:
        raise check.bad("outage", outage, "must end after it starts")
    return start, end


def _failure(given: Any) -> Any:
    if isinstance(given, Fault) or (isinstance(given, str) and given in WAYS):
        return given
    if isinstance(given, BaseException):
        _another(given)
        return given
    if isinstance(given, type) and issubclass(given, Exception):
        try:
            return given("simulated outage")
        except Exception as error:
            raise TypeError(
                f"failure={given.__name__}: cannot be made of one text ({type(error).__name__}); give an instance"
            ) from error
    raise TypeError(
        f"failure={given!r}: must be one of {', '.join(WAYS)}, an exception, or a fault of resilient.testing.faults"
    )


def _another(error: BaseException) -> BaseException:
    """An exception of its own for each call: a traceback shared by thousands would never end."""
    try:
        made = copy.copy(error)
    except Exception as failure:
        raise TypeError(
            f"failure: {type(error).__name__} cannot be copied ({failure}); give a Custom fault that raises it"
        ) from failure
    return made.with_traceback(None)


def dependency(settings: Service, loop: SimulationLoop, reached: Callable[[], object]) -> Callable[[], Awaitable[Any]]:
    """The function that policies guard; `reached` is told of each call that gets here."""
    start, end = settings.outage
    latency, answer, pause = settings.latency, settings.answer, loop.pause
    served = _served(settings, loop)
    fails = _failing(settings, loop, served)

    async def dependency() -> Any:
        reached()
        if start <= loop.now < end:
            return await fails()
        if served is not None:
            await pause(served(loop.now))
        elif latency:
            await pause(latency)
        return answer

    dependency.__module__, dependency.__qualname__ = "simulated", "dependency"
    return dependency


def _served(settings: Service, loop: SimulationLoop) -> Callable[[float], float] | None:
    """How long it takes from now until a call that is its turn at `arrival` at the earliest is answered."""
    # One server and one line without end. Whoever stands in it is served, also where his caller has long gone.
    if settings.capacity is None:
        return None
    each, free = 1 / settings.capacity, 0.0

    def served(arrival: float) -> float:
        nonlocal free
        free = max(free, arrival) + each
        return free + settings.latency - loop.now

    return served


def _failing(
    settings: Service, loop: SimulationLoop, served: Callable[[float], float] | None
) -> Callable[[], Awaitable[Any]]:
    failure, after = settings.failure, settings.failure_latency
    if isinstance(failure, Fault):
        return _with_fault(settings, loop, served, failure)
    if failure == "hang":
        return _hanging(settings, loop, served)
    if failure == "slow":
        slow = settings.latency * _SLOWER if after is None else after

        async def fails() -> Any:
            await loop.pause(slow if served is None else served(loop.now) + slow - settings.latency)
            return settings.answer

        return fails
    error = failure
    if failure == "error":
        error = ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))

    async def fails_with_error() -> Any:
        if after:
            await loop.pause(after)
        raise _another(error)

    return fails_with_error


def _hanging(
    settings: Service, loop: SimulationLoop, served: Callable[[float], float] | None
) -> Callable[[], Awaitable[Any]]:
    """No answer before the outage's end: the callers stand in line meanwhile."""
    end, after = settings.outage[1], settings.failure_latency

    async def fails() -> Any:
        answered = end - loop.now + settings.latency if served is None else served(end)
        if after == math.inf:
            await loop.create_future()
        if after is None or answered <= after:
            await loop.pause(answered)
            return settings.answer
        await loop.pause(after)
        raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))

    return fails


def _with_fault(
    settings: Service, loop: SimulationLoop, served: Callable[[float], float] | None, fault: Fault
) -> Callable[[], Awaitable[Any]]:
    async def serve() -> Any:
        await loop.pause(settings.latency if served is None else served(loop.now))
        return settings.answer

    async def fails() -> Any:
        return await happen(Kind.ASYNC, fault, "", serve, (), {})

    return fails
