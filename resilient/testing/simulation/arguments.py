"""What a simulation is asked for, checked."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from resilient import _checks as check
from resilient.pipeline import Pipeline
from resilient.policy import Composable
from resilient.strategies import RecoveryStrategyConfig
from resilient.testing import seeds
from resilient.testing.simulation.counts import Plan
from resilient.testing.simulation.dependency import checked_outage

MOST_CALLS = 20_000_000
MOST_CLIENTS = 1_000_000
MOST_INTERVALS = 100_000
_LEAST_AFTERWARDS = 60.0
_INTERVALS = 120


def checked_plan(outage: Any, load: Any, duration: Any, seed: Any, clients: Any, interval: Any) -> Plan:
    """Who calls how often and for how long; raises ConfigurationError or TypeError."""
    window, rate = checked_outage(outage), _load(load)
    long = window[1] + max(window[1] - window[0], _LEAST_AFTERWARDS) if duration is None else duration
    seconds = check.seconds("duration", long, positive=True)
    count = _clients(clients, rate * seconds, seconds)
    return Plan(rate, count, seconds, _interval(interval, seconds), window, _seed(seed))


def _load(load: Any) -> float:
    rate = check.number("load", load, least=0)
    if not rate:
        raise check.bad("load", load, "must be calls per second, greater than 0")
    return rate


def _clients(clients: Any, calls: float, duration: float) -> int:
    count: int = check.count("clients", clients)
    if count > MOST_CLIENTS:
        raise check.bad(
            "clients", clients, f"must be at most {MOST_CLIENTS:,}; fewer with more load each show the same"
        )
    if calls > MOST_CALLS:
        raise check.bad(
            "load",
            calls / duration,
            f"makes {calls:,.0f} calls in {duration:g} s, and {MOST_CALLS:,} are the most; choose a smaller load or a "
            "shorter duration: ratios stay the same where limits such as max_concurrent shrink alike",
        )
    return count


def _interval(interval: Any, duration: float) -> float:
    if interval is not None:
        step = check.seconds("interval", interval, positive=True)
        if duration / step > MOST_INTERVALS:
            raise check.bad("interval", interval, f"makes more than {MOST_INTERVALS:,} intervals; choose a longer one")
        return step
    rough = duration / _INTERVALS
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * nice for nice in (1, 2, 5, 10) if power * nice >= rough * 0.999)


def _seed(seed: Any) -> int | str:
    if seed is None:
        return seeds.fresh()
    if isinstance(seed, bool) or not isinstance(seed, (int, str)):
        raise TypeError(f"seed={seed!r}: must be a whole number, a string, or None")
    return seed


def maker(given: Any) -> tuple[Callable[[], Any], bool]:
    """What makes a pipeline, and whether each client has its own."""
    if isinstance(given, RecoveryStrategyConfig):
        return given.pipeline, False
    _refuse_half(given)
    if _guards(given):
        return lambda: given, False
    policies = getattr(given, "policies", None)
    if isinstance(policies, tuple) and policies:
        return lambda: Pipeline(*policies, name=getattr(given, "__qualname__", None)), False
    if callable(given) and not isinstance(given, type):
        return lambda: _made(given), True
    raise TypeError(
        f"pipeline={given!r}: must be a Pipeline, a policy such as retry(), a RecoveryStrategyConfig, or a callable "
        "without arguments that makes one"
    )


def _made(factory: Callable[[], Any]) -> Any:
    made = factory()
    if isinstance(made, RecoveryStrategyConfig):
        made = made.pipeline()
    _refuse_half(made)
    if not _guards(made):
        raise TypeError(f"pipeline: {factory!r} made {made!r}, which has no method acall; return a Pipeline or policy")
    return made


def _refuse_half(given: Any) -> None:
    cls = type(given)
    if isinstance(given, Composable) and cls.call is not Composable.call and cls.acall is Composable.acall:
        raise TypeError(f"pipeline: {cls.__name__} has a `call` of its own, and a simulation awaits: add an `acall`")


def _guards(given: Any) -> bool:
    return not isinstance(given, type) and callable(getattr(given, "acall", None))
