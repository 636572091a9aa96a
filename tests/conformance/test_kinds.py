"""Every policy over every kind of callable: it really guards, or is refused at decoration."""

import asyncio
import threading
import time

import pytest

from resilient import (
    BulkheadFullError,
    CallTimeoutError,
    CircuitOpenError,
    Pipeline,
    bulkhead,
    circuit_breaker,
    degrade,
    registry,
    retry,
    timeout,
)

from .helpers import aoutcome, attempted, outcome, run
from .kinds import CALL_KINDS, KINDS, Script

every_kind = pytest.mark.parametrize("kind", KINDS, ids=str)
every_call = pytest.mark.parametrize("kind", CALL_KINDS, ids=str)


def expected(kind):
    return ["ok", "end"] if kind.streams else "ok"


def build(kind, script, policy):
    """Decorate; only a stream may be refused, and then only with TypeError. None means refused."""
    if not kind.streams:
        return kind.build(script, policy)
    return attempted(lambda policy: kind.build(script, policy), policy)


def nested(kind, script, target):
    """Let the first call try a second one while it is inside; return where the second's outcome lands."""
    second = []

    def during():
        if script.calls > 1:
            return None
        if kind.flavour in ("sync", "generator"):
            second.append(outcome(kind.start, target))
            return None
        return asecond()

    async def asecond():
        second.append(await aoutcome(kind.start(target)))

    script.during = during
    return second


@every_kind
def test_retry_retries(kind):
    """A call that fails twice is made three times and then answers, without a duplicated item."""
    script = Script(failures=2)
    target = build(kind, script, retry(max_attempts=3, on=ConnectionError, base_delay=0))
    if target is not None:
        assert kind.drive(target) == expected(kind)
        assert script.calls == 3


@every_kind
def test_retry_gives_up_with_the_error_itself(kind):
    """After the last attempt the caller gets the exception of that attempt."""
    script = Script(failures=9)
    target = build(kind, script, retry(max_attempts=2, base_delay=0))
    if target is not None:
        with pytest.raises(ConnectionError, match="call 2 fails"):
            kind.drive(target)
        assert script.calls == 2


@every_kind
def test_breaker_opens(kind):
    """Two failures open the breaker: the third call is rejected without being made."""
    script = Script(failures=9)
    target = build(kind, script, circuit_breaker("b", failure_threshold=2, recovery_timeout=60))
    if target is not None:
        for _ in range(2):
            with pytest.raises(ConnectionError):
                kind.drive(target)
        with pytest.raises(CircuitOpenError):
            kind.drive(target)
        assert script.calls == 2


@every_kind
def test_breaker_counts_successes(kind):
    """Every call that ends well is one success."""
    target = build(kind, Script(), circuit_breaker("b"))
    if target is not None:
        for _ in range(3):
            assert kind.drive(target) == expected(kind)
        assert registry.circuit_breakers["b"].get_metrics().success_count == 3


@every_kind
def test_bulkhead_limits(kind):
    """While the only place is taken a second call is refused; afterwards the place is free again."""
    script = Script()
    target = build(kind, script, bulkhead("b", max_concurrent=1, max_wait=0))
    if target is not None:
        second = nested(kind, script, target)
        assert kind.drive(target) == expected(kind)
        assert isinstance(second[0], BulkheadFullError)
        assert kind.drive(target) == expected(kind)
        assert registry.bulkheads["b"].active_requests == 0


@every_kind
def test_timeout_fires(kind):
    """A call that takes longer than its limit ends with CallTimeoutError, long before it would end itself."""
    release = threading.Event()
    script = Script()
    script.during = (lambda: asyncio.sleep(3)) if "async" in kind.flavour else (lambda: release.wait(3))
    target = build(kind, script, timeout(0.05))
    if target is not None:
        started = time.monotonic()
        try:
            with pytest.raises(CallTimeoutError):
                kind.drive(target)
        finally:
            release.set()
        assert time.monotonic() - started < 2


@every_kind
def test_timeout_passes_a_fast_call(kind):
    """A call within its limit answers as if there were none."""
    target = build(kind, Script(), timeout(5))
    if target is not None:
        assert kind.drive(target) == expected(kind)


@every_kind
def test_degrade_serves(kind):
    """A failing call answers with the fallback."""
    script = Script(failures=9)
    target = build(kind, script, degrade(fallback=["spare"] if kind.streams else "spare"))
    if target is not None:
        assert kind.drive(target) in ("spare", ["spare"], [["spare"]])
        assert script.calls == 1


@every_kind
def test_degrade_passes_a_good_call(kind):
    """A call that works is not touched."""
    target = build(kind, Script(), degrade(fallback=["spare"] if kind.streams else "spare"))
    if target is not None:
        assert kind.drive(target) == expected(kind)


@every_kind
def test_pipeline_guards(kind):
    """A Pipeline applies each of its policies, the outermost first."""
    script = Script(failures=2)
    policy = Pipeline(
        retry(max_attempts=3, base_delay=0),
        circuit_breaker("p", failure_threshold=5),
        bulkhead("p", max_concurrent=1, max_wait=0),
    )
    target = build(kind, script, policy)
    if target is not None:
        assert kind.drive(target) == expected(kind)
        metrics = registry.circuit_breakers["p"].get_metrics()
        assert (metrics.failure_count, metrics.success_count) == (2, 1)
        assert registry.bulkheads["p"].active_requests == 0


@every_kind
def test_stacked_decorators_guard(kind):
    """Stacked decorators guard like a Pipeline in the order they are written."""
    script = Script(failures=2)

    def stack(target):
        return retry(max_attempts=3, base_delay=0)(circuit_breaker("s", failure_threshold=2)(target))

    target = build(kind, script, stack)
    if target is not None:
        with pytest.raises((ConnectionError, CircuitOpenError)):
            kind.drive(target)
        assert script.calls == 2


@every_call
@pytest.mark.parametrize(
    ("policy", "given", "calls"),
    [
        (lambda: retry(max_attempts=3, base_delay=0), "ok", 3),
        (lambda: circuit_breaker("b", failure_threshold=1), "ConnectionError", 1),
        (lambda: degrade(fallback="spare"), "spare", 1),
        (lambda: Pipeline(degrade(fallback="spare"), retry(max_attempts=2, base_delay=0)), "spare", 2),
    ],
    ids=["retry", "circuit_breaker", "degrade", "Pipeline"],
)
def test_call_and_acall_guard(kind, policy, given, calls):
    """`policy.call(fn)` and `await policy.acall(fn)` guard every kind like the decorator does."""
    script = Script(failures=2)
    target = kind.build(script, lambda thing: thing)
    policy = policy()
    got = outcome(policy.call, target) if kind.flavour == "sync" else run(aoutcome(policy.acall(target)))
    assert (type(got).__name__ if isinstance(got, Exception) else got) == given
    assert script.calls == calls


@every_call
def test_arguments_and_result_pass_through(kind):
    """Six policies around a call change neither its arguments nor the identity of its answer."""
    answer = object()
    script = Script(answer=answer)

    def stack(thing):
        for policy in (timeout(5), bulkhead("x"), circuit_breaker("x"), retry(base_delay=0), degrade(fallback=1)):
            thing = policy(thing)
        return thing

    assert kind.drive(kind.build(script, stack)) is answer
    assert script.calls == 1


@pytest.mark.parametrize("policy", [retry, circuit_breaker, bulkhead], ids=lambda policy: policy.__name__)
@every_call
def test_bare_decorator_guards(kind, policy):
    """`@policy` without parentheses is `@policy()`."""
    script = Script()
    assert kind.drive(kind.build(script, policy)) == "ok"
    assert script.calls == 1
    target = kind.build(script, policy)
    holder = getattr(target, "__func__", target)
    if kind.shape in ("function", "partial", "callable_object", "lambda"):
        assert len(holder.policies) == 1
