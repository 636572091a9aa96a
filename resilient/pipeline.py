"""Several policies as one, and what is questionable about how they are put together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from resilient import _checks as check
from resilient.bulkhead import Bulkhead
from resilient.circuit_breaker import CircuitBreaker
from resilient.degrade import Degradation
from resilient.errors import BulkheadFullError, CircuitOpenError
from resilient.policy import Composable, Policy
from resilient.retry import RetryPolicy
from resilient.timeout import Timeout


class Finding(NamedTuple):
    """Something `Pipeline.check()` has found; `severity`: error, warning or info."""

    severity: str
    code: str
    message: str
    numbers: Mapping[str, float | None]

    def __str__(self) -> str:
        return f"{self.severity}: {self.message}"


class Pipeline(Composable):
    """Policies in a fixed order, outermost first, used like one: as a decorator, or as `call` / `acall`.

    guarded = Pipeline(degrade(fallback=None), retry(max_attempts=2), timeout(1), name="lookup")
    """

    kind = "pipeline"

    def __init__(self, *policies: Composable, name: str | None = None) -> None:
        if not policies:
            raise TypeError("a pipeline needs at least one policy")
        for policy in policies:
            if not isinstance(policy, Composable):
                raise TypeError(f"{policy!r} is not a policy; write retry(...), circuit_breaker(...), and so on")
        self.name = check.policy_name(name) or "pipeline"
        self._parts = tuple(part for policy in policies for part in policy.parts)

    @property
    def parts(self) -> tuple[Policy, ...]:
        """The policies, outermost first."""
        return self._parts

    @property
    def policies(self) -> tuple[Policy, ...]:
        """The policies, outermost first."""
        return self._parts

    def check(self) -> list[Finding]:
        """What is wrong or remarkable about this order and these numbers, worst first; the last is the sum of it."""
        found = [*_timeouts(self._parts), *_retries(self._parts), *_places(self._parts)]
        found.sort(key=lambda finding: ("error", "warning", "info").index(finding.severity))
        return [*found, _summary(self._parts)]

    def __repr__(self) -> str:
        return f"<pipeline {self.name}: {' > '.join(map(repr, self._parts))}>"


def _timeouts(parts: tuple[Policy, ...]) -> Iterable[Finding]:
    """An attempt that may take as long as all attempts together leaves no time for a second."""
    total: Any
    attempt: Any
    for index, total in enumerate(parts):
        if total.kind != Timeout.kind:  # a plain one, or a tier with a limit for its first try
            continue
        inner = parts[index + 1 :]
        for place, attempt in enumerate(inner):
            if attempt.kind != Timeout.kind or attempt.limit < total.limit:
                continue
            retried = attempt.amplification > 1 or any(isinstance(one, RetryPolicy) for one in inner[:place])
            yield Finding(
                "error" if retried else "warning",
                "attempt_timeout_exceeds_total",
                f"{attempt!r} allows one attempt {attempt.limit:g} s, {total!r} around it allows {total.limit:g} s "
                f"for {'all attempts together, so there is never a second one' if retried else 'the same call'}",
                {"attempt_timeout": attempt.limit, "total_timeout": total.limit},
            )


def _retries(parts: tuple[Policy, ...]) -> Iterable[Finding]:
    for index, outer in enumerate(parts):
        if not isinstance(outer, RetryPolicy):
            continue
        for inner in parts[index + 1 :]:
            if isinstance(inner, Bulkhead) and inner.config.circuit_breaker is not None:
                yield from _retry_around_breaker(outer, inner.config.circuit_breaker)
            if isinstance(inner, CircuitBreaker):
                yield from _retry_around_breaker(outer, inner)
            elif isinstance(inner, RetryPolicy) and outer.config.retry_exhausted:
                attempts = _attempts(outer) * _attempts(inner)
                yield Finding(
                    "warning",
                    "retries_multiply",
                    f"{outer!r} retries what {inner!r} has given up on: up to {attempts:g} calls",
                    {"attempts": attempts},
                )
            elif inner.kind == Timeout.kind and inner.amplification > 1 and _attempts(outer) > 1:
                attempts = _attempts(outer) * inner.amplification
                yield Finding(
                    "warning",
                    "retries_multiply",
                    f"{outer!r} around {inner!r}, which tries {inner.amplification:g} times itself: up to "
                    f"{attempts:g} calls",
                    {"attempts": attempts},
                )
            elif isinstance(inner, Degradation):
                yield Finding(
                    "warning",
                    "degrade_inside_retry",
                    f"{inner!r} answers for failures before {outer!r} around it can see them",
                    {"max_attempts": _attempts(outer)},
                )


def _retry_around_breaker(outer: RetryPolicy, breaker: CircuitBreaker) -> Iterable[Finding]:
    """An open circuit asks to wait `retry_after`: up to the whole open period, for every attempt."""
    open_error = CircuitOpenError(breaker.name, 1.0)
    if not outer.accepts(open_error) or _attempts(outer) == 1:
        return
    config = breaker.config
    period = _open_period(breaker)
    longest = outer.config.max_elapsed
    if longest is not None and longest >= period:
        return
    bound = "no max_elapsed bounds that" if longest is None else f"max_elapsed={longest:g} s ends before that"
    yield Finding(
        "warning",
        "retry_outside_breaker",
        f"{outer!r} around {breaker!r} also retries its rejections and waits their retry_after, up to {period:g} s "
        f"each time ({bound}); give_up_on=CircuitOpenError fails at once",
        {"recovery_timeout": float(config.recovery_timeout), "longest_wait": period, "max_elapsed": longest},
    )


def _places(parts: tuple[Policy, ...]) -> Iterable[Finding]:
    for index, outer in enumerate(parts):
        for inner in parts[index + 1 :]:
            if isinstance(outer, Bulkhead) and isinstance(inner, RetryPolicy):
                waiting = _waits(inner)
                yield Finding(
                    "info",
                    "bulkhead_outside_retry",
                    f"{outer!r} keeps a place while {inner!r} inside it sleeps, up to {waiting:g} s",
                    {"sleeping": waiting},
                )
            if isinstance(outer, RetryPolicy) and isinstance(inner, Bulkhead):
                full = BulkheadFullError(inner.name)
                if outer.accepts(full) and inner.config.max_wait is None:
                    yield Finding(
                        "info",
                        "bulkhead_waits_without_limit",
                        f"{inner!r} lets callers wait without a limit, so {outer!r} around it never sees it full",
                        {"max_wait": None},
                    )


def _summary(parts: tuple[Policy, ...]) -> Finding:
    seconds, calls = _worst_case(parts), math.prod(_attempts(part) for part in _multiplying(parts))
    calls *= math.prod(part.amplification for part in parts)
    duration = "without a limit" if math.isinf(seconds) else f"at most {seconds:g} s"
    times = "without a limit" if math.isinf(calls) else f"at most {calls:g}"
    return Finding(
        "info",
        "worst_case",
        f"one call takes {duration} and calls the function {times} times",
        {
            "worst_case_seconds": None if math.isinf(seconds) else seconds,
            "amplification": None if math.isinf(calls) else calls,
        },
    )


def _multiplying(parts: tuple[Policy, ...]) -> Iterable[Policy]:
    """The retries whose attempts multiply: the innermost, and those outside that retry exhausted errors."""
    retries = [part for part in parts if isinstance(part, RetryPolicy)]
    return [part for part in retries if part is retries[-1] or part.config.retry_exhausted]


def _attempts(policy: Any) -> float:
    return math.inf if policy.config.max_attempts is None else policy.config.max_attempts


def _open_period(breaker: CircuitBreaker) -> float:
    config = breaker.config
    longest: Any = config.max_recovery_timeout
    if longest is not None and config.recovery_multiplier > 1:
        return float(longest)
    return float(config.recovery_timeout) * (1 + config.recovery_jitter)


def _waits(policy: RetryPolicy) -> float:
    """The longest a retry sleeps in all, errors that ask for more left aside."""
    config = policy.config
    waits = (_attempts(policy) - 1) * config.max_delay if config.max_delay else 0.0
    if isinstance(config.backoff, str) and not math.isinf(waits) and config.max_attempts is not None:
        waits = math.fsum(policy.longest_delay(attempt) for attempt in range(1, min(config.max_attempts, 10_000)))
    return waits if config.max_elapsed is None else min(waits, float(config.max_elapsed))


def _worst_case(parts: tuple[Policy, ...]) -> float:
    """The longest a call can take, by what limits there are, from the inside out."""
    seconds = math.inf
    for part in reversed(parts):
        if isinstance(part, Timeout):
            seconds = min(seconds, part.longest)
        elif isinstance(part, Bulkhead):
            wait: Any = part.config.max_wait
            seconds += math.inf if wait is None else wait
        elif isinstance(part, RetryPolicy):
            by_count = (seconds * _attempts(part) if seconds else 0.0) + _waits(part)
            longest = part.config.max_elapsed
            # max_elapsed bounds when the last attempt begins, not when it ends.
            seconds = by_count if longest is None else min(by_count, seconds + longest)
        else:
            seconds = part.bound(seconds)
    return seconds
