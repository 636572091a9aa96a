"""Resilience for functions, sync and async: retry, circuit breaker, bulkhead, timeout, degrade.

from resilient import circuit_breaker, registry, retry

@retry(on=ConnectionError)
@circuit_breaker("payments", failure_threshold=5)
def charge(order): ...

registry.circuit_breakers["payments"].state
"""

import sys as _sys
import warnings as _warnings

from resilient._registry import Registry, registry
from resilient.bulkhead import Bulkhead, bulkhead
from resilient.circuit_breaker import CircuitBreaker, CircuitState, circuit_breaker
from resilient.deadlines import deadline, remaining_time
from resilient.degrade import Degradation, degrade
from resilient.errors import (
    BulkheadClosedError,
    BulkheadFullError,
    CallTimeoutError,
    CircuitOpenError,
    ConfigurationError,
    DegradationError,
    RejectedError,
    ResilienceError,
    RetriesExhaustedError,
)
from resilient.events import Event
from resilient.logs import log_event as _log_event  # noqa: F401  (its import starts the logging)
from resilient.pipeline import Finding, Pipeline
from resilient.retry import RetryPolicy, retry
from resilient.retry.budget import RetryBudget
from resilient.timeout import Timeout, timeout

__version__ = "0.1.0"

if not getattr(_sys, "_is_gil_enabled", lambda: True)():
    _warnings.warn(
        "resilient counts calls and places exactly only where the GIL is enabled: start Python with PYTHON_GIL=1",
        RuntimeWarning,
        stacklevel=2,
    )

__all__ = [
    "Bulkhead",
    "BulkheadClosedError",
    "BulkheadFullError",
    "CallTimeoutError",
    "CircuitBreaker",
    "CircuitOpenError",
    "CircuitState",
    "ConfigurationError",
    "Degradation",
    "DegradationError",
    "Event",
    "Finding",
    "Pipeline",
    "Registry",
    "RejectedError",
    "ResilienceError",
    "RetriesExhaustedError",
    "RetryBudget",
    "RetryPolicy",
    "Timeout",
    "bulkhead",
    "circuit_breaker",
    "deadline",
    "degrade",
    "registry",
    "remaining_time",
    "retry",
    "timeout",
]
