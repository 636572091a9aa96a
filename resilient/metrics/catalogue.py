"""Every metric by name: what it says, its labels, its buckets, and how series that share a label come together."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from resilient.meters import CALL_BUCKETS, MODE_BUCKETS, STEP_BUCKETS


class Type(Enum):
    """What Prometheus calls the type of a metric."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Together(Enum):
    """What becomes of the values of two policies that have to share one series, or of several processes."""

    SUM = "sum"
    MOST = "max"
    LEAST = "min"


@dataclass(frozen=True, slots=True)
class Definition:
    """One metric. `name` is the full one, a counter's with `_total`."""

    name: str
    type: Type
    text: str
    labels: tuple[str, ...] = ("name",)
    buckets: tuple[float, ...] = ()
    together: Together = Together.SUM
    #: In several processes each has a series of its own, as no sum or maximum would mean anything.
    by_process: bool = False


_C, _G, _H = Type.COUNTER, Type.GAUGE, Type.HISTOGRAM

_SPECIFIED = (
    Definition("recovery_retry_attempts_total", _C, "Attempts, the first ones included."),
    Definition("recovery_retry_success_total", _C, "Calls that ended with an answer."),
    Definition("recovery_retry_failure_total", _C, "Calls that ended with an error."),
    Definition(
        "recovery_retry_latency_seconds",
        _H,
        "What retrying added to a call: from its first failed attempt to its end; 0 where there was no second one.",
        buckets=CALL_BUCKETS,
    ),
    Definition(
        "recovery_circuit_breaker_state",
        _G,
        "0 closed, 1 open, 2 half-open. Isolated counts as open, disabled as closed.",
        together=Together.MOST,
        by_process=True,
    ),
    Definition("recovery_circuit_breaker_failures_total", _C, "Calls that counted as failures."),
    Definition("recovery_circuit_breaker_successes_total", _C, "Calls that counted as successes."),
    Definition("recovery_circuit_breaker_state_changes_total", _C, "Changes from one state to another."),
    Definition(
        "recovery_degradation_events_total", _C, "Calls that were answered otherwise: by a cache or a fallback."
    ),
    Definition(
        "recovery_degradation_mode_duration_seconds",
        _H,
        "How long a manager was in a degraded mode, once that is over.",
        ("name", "state"),
        MODE_BUCKETS,
    ),
    Definition(
        "recovery_degradation_success_rate",
        _G,
        "Of the calls without a real answer, the share that was answered otherwise. NaN before the first.",
        together=Together.LEAST,
        by_process=True,
    ),
    Definition("recovery_timeout_events_total", _C, "Calls that were ended by their limit."),
    Definition(
        "recovery_timeout_duration_seconds",
        _H,
        "How long callers waited until their call was ended by its limit.",
        buckets=CALL_BUCKETS,
    ),
    Definition("recovery_bulkhead_rejections_total", _C, "Calls that were turned away."),
    Definition("recovery_bulkhead_active_connections", _G, "Calls inside now."),
    Definition("recovery_bulkhead_queue_size", _G, "Callers waiting for a place now."),
)

_FURTHER = (
    Definition(
        "recovery_calls_total", _C, "Calls by the kind of policy and by how they ended.", ("kind", "name", "result")
    ),
    Definition("recovery_circuit_breaker_rejections_total", _C, "Calls that were turned away."),
    Definition(
        "recovery_circuit_breaker_failure_rate",
        _G,
        "Share of failures in the window, or since creation where there is none.",
        together=Together.MOST,
    ),
    Definition(
        "recovery_circuit_breaker_forced",
        _G,
        "1 while a breaker is isolated or disabled by hand.",
        ("name", "state"),
    ),
    Definition("recovery_retry_exhausted_total", _C, "Calls given up, by which limit was reached.", ("name", "reason")),
    Definition("recovery_retry_budget_tokens", _G, "Retries that the budget would grant now.", together=Together.LEAST),
    Definition("recovery_retry_budget_refusals_total", _C, "Retries that the budget did not grant."),
    Definition("recovery_timeout_limit_seconds", _G, "The limit that the next call gets.", together=Together.MOST),
    Definition("recovery_timeout_abandoned_threads", _G, "Threads that still work on calls nobody waits for."),
    Definition("recovery_bulkhead_capacity", _G, "Places."),
    Definition(
        "recovery_cache_requests_total",
        _C,
        "Look-ups in a CachedDegradation: hit, miss; after a failure: stale, or nothing.",
        ("name", "result"),
    ),
    Definition(
        "recovery_degradation_mode", _G, "A manager's mode: 0 normal, 1 partial, 2 full.", together=Together.MOST
    ),
    Definition("recovery_degradation_mode_changes_total", _C, "A manager's changes of mode."),
    Definition("recovery_degradation_degraded_services", _G, "Services that a manager spares now."),
    Definition("recovery_executions_total", _C, "Executions of recovery plans that have ended.", ("name", "result")),
    Definition("recovery_executions_running", _G, "Executions of recovery plans under way in this process."),
    Definition(
        "recovery_step_duration_seconds",
        _H,
        "How long a step took, its retries and waiting for a decision included.",
        ("name", "step", "result"),
        STEP_BUCKETS,
    ),
    Definition("recovery_injected_faults_total", _C, "Calls that met an injected fault.", ("name", "fault")),
    Definition("recovery_event_handler_failures_total", _C, "Subscribers and log handlers that raised.", ()),
)

#: All metrics, those of the specification first.
CATALOGUE: dict[str, Definition] = {one.name: one for one in (*_SPECIFIED, *_FURTHER)}
SPECIFIED: tuple[str, ...] = tuple(one.name for one in _SPECIFIED)
