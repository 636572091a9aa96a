"""The rest of the public contract: pipelines and their check, errors, policies as objects."""

import re

import pytest

import resilient
from resilient import (
    BulkheadClosedError,
    BulkheadFullError,
    CallTimeoutError,
    CircuitOpenError,
    ConfigurationError,
    DegradationError,
    Pipeline,
    RejectedError,
    ResilienceError,
    RetriesExhaustedError,
    bulkhead,
    circuit_breaker,
    degrade,
    errors,
    registry,
    retry,
    timeout,
)
from resilient.events import (
    CallRejected,
    CallTimedOut,
    CircuitStateChanged,
    FallbackFailed,
    FallbackServed,
    RetryExhausted,
    RetryScheduled,
    RetrySucceeded,
)

from .helpers import Failing, outcome, revived
from .kinds import Script

# Errors


@pytest.mark.parametrize(
    ("error", "parents"),
    [
        (ConfigurationError, [ResilienceError]),
        (RejectedError, [ResilienceError]),
        (CircuitOpenError, [RejectedError]),
        (BulkheadFullError, [RejectedError]),
        (BulkheadClosedError, [RejectedError]),
        (CallTimeoutError, [ResilienceError, TimeoutError]),
        (RetriesExhaustedError, [ResilienceError]),
        (DegradationError, [ResilienceError]),
    ],
    ids=lambda thing: getattr(thing, "__name__", ""),
)
def test_error_tree(error, parents):
    """The errors form the documented tree, and resilient and resilient.errors show the same classes."""
    assert all(issubclass(error, parent) for parent in parents)
    assert issubclass(error, Exception)
    assert getattr(errors, error.__name__) is error


def raised_errors():
    """Raise each error the way a user would meet it."""
    breaker = circuit_breaker("x")
    breaker.isolate()
    closed = bulkhead("closed")
    closed.close()
    full = bulkhead("full", max_concurrent=1, max_wait=0)

    def configure():
        retry(max_attempts=0)

    with full:
        yield CircuitOpenError, outcome(breaker.call, int)
        yield BulkheadClosedError, outcome(closed.call, int)
        yield BulkheadFullError, outcome(full.call, int)
        yield CallTimeoutError, outcome(timeout(0, name="t").call, int)
        yield RetriesExhaustedError, outcome(retry(retry_on_result=lambda r: True, base_delay=0).call, int)
        yield DegradationError, outcome(degrade(fallback=[Failing()], name="d").call, Failing())
        yield ConfigurationError, outcome(configure)


def test_errors_pickle_with_their_data():
    """Every error, as really raised, survives pickling with its text and its data, and is new every time."""
    for error, again in zip(raised_errors(), _second(), strict=True):
        expected, instance = error
        assert type(instance) is expected
        assert instance is not again[1]
        clone = revived(instance)
        assert (type(clone), str(clone)) == (expected, str(instance))
        for field in ("name", "retry_after", "limit"):
            assert getattr(clone, field, None) == getattr(instance, field, None)
        assert isinstance(instance.is_retryable(), bool)


def _second():
    with registry.scoped():
        return list(raised_errors())


# Pipelines


def test_pipeline_order(face):
    """The first policy of a Pipeline is the outermost: a retry around a timeout sees its error."""
    body = Failing(None)
    pipeline = Pipeline(degrade(fallback="spare"), retry(max_attempts=3, base_delay=0), timeout(0))
    assert face.via(pipeline, face.function(body)) == "spare"
    assert body.calls == 0
    pipeline = Pipeline(retry(max_attempts=3, base_delay=0), degrade(fallback="spare"))
    failing = Failing()
    assert face.via(pipeline, face.function(failing)) == "spare"
    assert failing.calls == 1


def test_pipeline_in_a_pipeline(face):
    """A Pipeline is a policy and may stand in another, and under and over decorators."""
    script = Script(failures=2)
    inner = Pipeline(retry(max_attempts=3, base_delay=0), timeout(5))
    guarded = degrade(fallback="spare")(Pipeline(circuit_breaker("b"), inner)(face.function(script.step)))
    assert face.call(guarded) == "ok"
    assert script.calls == 3
    assert registry.circuit_breakers["b"].get_metrics().success_count == 1


def test_pipeline_refuses_what_is_no_policy():
    """A Pipeline of something else raises TypeError."""
    with pytest.raises(TypeError):
        Pipeline(retry(), lambda function: function)


def texts(pipeline):
    findings = list(pipeline.check())
    assert all(finding.severity and str(finding) for finding in findings)
    return findings, "\n".join(str(finding) for finding in findings)


def test_check_finds_an_attempt_longer_than_the_total():
    """`check()` tells of an attempt timeout that is not shorter than the total timeout."""
    _, bad = texts(Pipeline(timeout(5), retry(max_attempts=2, base_delay=0), timeout(10)))
    _, good = texts(Pipeline(timeout(50), retry(max_attempts=2, base_delay=0), timeout(10)))
    assert "10" in bad
    assert "5" in bad
    assert bad != good
    assert len(bad) > len(good)


def test_check_gives_the_call_amplification():
    """`check()` gives the number of calls nested retries may make, as a number."""
    pipeline = Pipeline(
        retry(max_attempts=4, base_delay=0, retry_exhausted=True), retry(max_attempts=5, base_delay=0), timeout(1)
    )
    _, text = texts(pipeline)
    assert re.search(r"\b20\b", text)


def test_check_gives_the_worst_case_duration():
    """`check()` gives the worst-case duration of one call in seconds."""
    _, text = texts(Pipeline(retry(max_attempts=3, base_delay=1, jitter=False), timeout(10)))
    assert re.search(r"\b33(\.0+)?\b", text)


def test_check_knows_a_retry_that_gives_up_too_soon_for_its_breaker():
    """`check()` looks at a retry outside a breaker: one that cannot outlast the open period is told."""
    breaker = circuit_breaker("b", recovery_timeout=1000)
    _, alone = texts(Pipeline(retry(max_attempts=3, base_delay=0, max_elapsed=1)))
    _, around = texts(Pipeline(retry(max_attempts=3, base_delay=0, max_elapsed=1), breaker))
    assert around != alone


# Events


def collect(*types):
    seen = []
    registry.subscribe(seen.append, *types)
    return seen


def test_retry_events(face, sleeps):
    """Retry tells of every wait, of success after a failure, and of giving up."""
    seen = collect(RetryScheduled, RetrySucceeded, RetryExhausted)
    policy = retry(name="r", base_delay=1, jitter=False)
    face.via(policy, face.function(Script(failures=1).step))
    raised = ConnectionError()
    outcome(face.via, policy, face.function(Failing(raised)))
    face.via(policy, face.function(Failing(None)))
    assert [type(event) for event in seen] == [
        RetryScheduled,
        RetrySucceeded,
        RetryScheduled,
        RetryScheduled,
        RetryExhausted,
    ]
    assert {event.name for event in seen} == {"r"}
    assert (seen[0].attempt, seen[0].delay, type(seen[0].error)) == (1, 1.0, ConnectionError)
    assert seen[1].attempts == 2
    assert (seen[4].attempts, seen[4].error) == (3, raised)
    assert seen[4].reason


def test_breaker_events(face, clock):
    """The breaker tells of each change of state and of each rejection."""
    seen = collect(CircuitStateChanged, CallRejected)
    breaker = circuit_breaker("b", failure_threshold=1, recovery_timeout=60, half_open_calls=1)
    outcome(face.via, breaker, face.function(Failing()))
    outcome(face.via, breaker, face.function(Failing()))
    clock.tick(60)
    face.via(breaker, face.function(Failing(None)))
    changes = [(event.old.name, event.new.name) for event in seen if isinstance(event, CircuitStateChanged)]
    assert changes == [("CLOSED", "OPEN"), ("OPEN", "HALF_OPEN"), ("HALF_OPEN", "CLOSED")]
    assert seen[0].retry_after == pytest.approx(60)
    rejection = seen[1]
    assert (type(rejection), rejection.name, rejection.kind) == (CallRejected, "b", "circuit_breaker")
    assert rejection.retry_after == pytest.approx(60)


def test_bulkhead_timeout_and_fallback_events(face):
    """Bulkhead, timeout and degrade tell of what they did."""
    seen = collect(CallRejected, CallTimedOut, FallbackServed, FallbackFailed)
    bulk = bulkhead("h", max_concurrent=1, max_wait=0)
    with bulk:
        outcome(face.via, bulk, face.function(int))
    outcome(face.via, timeout(0, name="t"), face.function(int))
    outcome(face.via, degrade(fallback=1, name="d"), face.function(Failing()))
    outcome(face.via, degrade(fallback=[Failing()], name="f"), face.function(Failing()))
    assert [(type(event), event.name) for event in seen] == [
        (CallRejected, "h"),
        (CallTimedOut, "t"),
        (FallbackServed, "d"),
        (FallbackFailed, "f"),
    ]
    assert (seen[0].kind, seen[1].limit) == ("bulkhead", 0)
    assert isinstance(seen[2].error, ConnectionError)


# Policies as objects


def test_public_names():
    """Everything the contract names is importable from the front door."""
    names = [
        *("retry", "circuit_breaker", "bulkhead", "timeout", "degrade", "registry", "Pipeline", "deadline"),
        *("remaining_time", "RetryBudget"),
    ]
    assert [name for name in names if not hasattr(resilient, name)] == []
    assert set(names) <= set(resilient.__all__)


@pytest.mark.parametrize("make", [retry, circuit_breaker, bulkhead, lambda: timeout(1)], ids=str)
def test_policies_guard_only_callables(make):
    """`policy.call` of something that cannot be called raises TypeError."""
    with pytest.raises(TypeError):
        make().call(3)


def test_call_and_acall_share_state(face):
    """`policy.call` and `policy.acall` guard with one and the same state."""
    breaker = circuit_breaker("b", failure_threshold=2)
    for _ in range(2):
        outcome(face.via, breaker, face.function(Failing()))
    assert isinstance(outcome(breaker.call, Failing(None)), CircuitOpenError)
