"""The function that a ready scenario is about: how it is called, and what its policies say of themselves."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from typing import Any, NamedTuple

from resilient.circuit_breaker.windows import SLICES
from resilient.policy import Policy
from resilient.retry import RetryPolicy
from resilient.timeout import Timeout
from resilient.wrapping import Guarded, describe, guard

#: Threads or tasks that call at once, at most, where a scenario needs many.
_MOST_CALLERS = 100
#: How policies are written, by their kind.
DECORATORS = {
    "retry": "@retry",
    "circuit_breaker": "@circuit_breaker",
    "bulkhead": "@bulkhead",
    "timeout": "@timeout",
    "degrade": "@degrade",
}


class Call:
    """One operation: how many of its attempts the fault has hit so far."""

    __slots__ = ("hits",)

    def __init__(self) -> None:
        self.hits = 0


#: The operation under way; attempts in other threads see it too, as they run in copies of the caller's context.
CALL: ContextVar[Call | None] = ContextVar("resilient_scenario_call", default=None)


class Breaking(NamedTuple):
    """What a breaker's configuration comes to in numbers."""

    calls: int  # failures in a row until it is open, at most
    longest: float  # seconds until it lets probes through
    probes: int


class Subject:
    """A function with its policies, outermost first, those of functions that it wraps included."""

    def __init__(self, fn: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None) -> None:
        if not callable(fn):
            raise TypeError(f"fn={fn!r}: must be a function, such as one with @retry")
        layers = list(_layers(fn))
        if not layers:
            # Without any policy there is no seam to inject at; an empty chain has one.
            fn = guard(fn, ())
            layers = [fn]
        self.fn = fn
        self.target: Any = layers[-1]
        self.name = describe(self.target)
        self.policies: tuple[Policy, ...] = tuple(_all(one for layer in layers for one in layer.policies))
        self._args, self._kwargs = args, dict(kwargs or {})
        self.is_async = inspect.iscoroutinefunction(fn)

    def workload(self) -> Callable[[], Any]:
        """One operation."""
        fn, args, kwargs = self.fn, self._args, self._kwargs

        def call() -> Any:
            CALL.set(Call())
            return fn(*args, **kwargs)

        async def acall() -> Any:
            CALL.set(Call())
            return await fn(*args, **kwargs)

        return acall if self.is_async else call

    def first(self, kind: str) -> Any:
        """The outermost policy of this kind; None without one."""
        return next((one for one in self.policies if one.kind == kind), None)

    def lacks(self, kind: str) -> str:
        """That there is none, in words."""
        there = ", ".join(DECORATORS.get(one.kind, one.kind) for one in self.policies) or "none"
        return f"{self.name} has no {DECORATORS[kind]} (its policies: {there})"

    # Figures

    def attempts_inside(self, policy: Policy | None) -> float:
        """How many calls of the function one call through this policy may make; of None: one through them all."""
        inner = self.policies if policy is None else self.policies[self.policies.index(policy) :]
        return math.prod(_attempts(one) for one in inner)

    def longest(self, seconds: float, upto: Policy | None = None, *, closed: bool = False) -> float:
        """The longest an operation may take, in seconds, if the function takes so long; may be infinite.

        `upto`: only through this policy and those inside it. `closed`: while no breaker is open, and asks to wait.
        """
        period = 0.0  # what a retry may be asked to wait for, by a breaker inside it
        for policy in reversed(self.policies):
            if isinstance(policy, Timeout):
                seconds = min(seconds, policy.longest)
            elif isinstance(policy, RetryPolicy):
                seconds = _retried(policy, seconds, period)
            elif policy.kind == "bulkhead":
                wait = policy.config.max_wait
                seconds += math.inf if wait is None else wait
            elif policy.kind == "circuit_breaker":
                period = 0.0 if closed else max(period, open_period(policy, 1))
            else:
                seconds = policy.bound(seconds)
            if policy is upto:
                break
        return seconds

    def callers(self, wanted: float) -> int:
        """So many threads or tasks, from one to a hundred, but no more than its bulkheads let in at once."""
        room: list[int] = [one.config.max_concurrent for one in self.policies if one.kind == "bulkhead"]
        return max(1, math.ceil(min(wanted, _MOST_CALLERS, *room)))

    def waits(self, usual: float = 0.0) -> float:
        """Seconds that an operation whose attempts all fail at once may take; `usual` where there is no limit."""
        waited = math.fsum(_waits(one) for one in self.policies if isinstance(one, RetryPolicy))
        return waited if math.isfinite(waited) else usual

    def settling(self, outage: float) -> float:
        """Seconds after an outage until its breakers let calls through again, at most."""
        breakers = [one for one in self.policies if one.kind == "circuit_breaker"]
        return max((open_period(one, 1 + _rounds(one, outage)) for one in breakers), default=0.0)


def breaking(policy: Any, load: float, slow: bool = False) -> Breaking:
    """A breaker in numbers, at so many calls per second; `slow`: by calls that take too long, and do not fail."""
    config = policy.config
    calls = config.failure_threshold
    if config.failure_rate_threshold is not None or slow:
        # A time window may hold a tenth more than its time, and what went well before has to leave it.
        within = config.count_window or 1 + math.ceil(load * config.window_duration * (1 + 1 / SLICES))
        calls = max(config.minimum, within)
    elif config.minimum_calls is not None:
        calls = max(calls, config.minimum_calls)
    return Breaking(calls, open_period(policy, 1), config.half_open_calls)


def open_period(policy: Any, rounds: int) -> float:
    """The longest open period of a breaker that has opened so often in a row, in seconds."""
    config = policy.config
    growth = float(config.recovery_multiplier) ** min(rounds - 1, 30)
    period = config.recovery_timeout * growth
    if config.max_recovery_timeout is not None:
        period = min(period, config.max_recovery_timeout)
    return float(period * (1 + config.recovery_jitter))


def _rounds(policy: Any, outage: float) -> int:
    period = policy.config.recovery_timeout
    return math.ceil(outage / period) if period else 1


def _layers(fn: Any) -> Iterable[Guarded]:
    """The guarded functions that a function is made of, outermost first."""
    for _ in range(32):
        if isinstance(fn, functools.partial):
            fn = fn.func
        found = getattr(fn, "__func__", fn)
        if isinstance(found, Guarded):
            yield fn
        fn = getattr(found, "__wrapped__", None)
        if fn is None:
            return


def _all(policies: Iterable[Policy]) -> Iterable[Policy]:
    """The policies, and before each those that it has built in, which are further out."""
    for policy in policies:
        yield from policy.uses()
        yield policy


def _attempts(policy: Policy) -> float:
    if isinstance(policy, RetryPolicy):
        return math.inf if policy.max_attempts is None else policy.max_attempts
    return policy.amplification


def _waits(retry: RetryPolicy) -> float:
    attempts = retry.max_attempts
    waits = math.inf if attempts is None else math.fsum(retry.longest_delay(n) for n in range(1, attempts))
    longest = retry.config.max_elapsed
    return waits if longest is None else min(waits, longest)


def _retried(retry: RetryPolicy, seconds: float, period: float) -> float:
    attempts = _attempts(retry)
    asked = 0.0 if attempts <= 1 or not period else (attempts - 1) * period
    total = (seconds * attempts if seconds else 0.0) + _waits(retry) + asked
    longest = retry.config.max_elapsed
    return total if longest is None else min(total, seconds + longest)


def absorbable(retry: RetryPolicy) -> int:
    """How many failed attempts in a row a retry makes good, in the time it has."""
    most = (retry.max_attempts or 3) - 1
    longest = retry.config.max_elapsed
    if longest is None:
        return most
    waited, count = 0.0, 0
    while count < most:
        waited += retry.longest_delay(count + 1)
        if waited >= longest:
            break
        count += 1
    return count
