"""Resilience for functions, sync and async: retry, circuit breaker, bulkhead, timeout, degrade.

from resilient import circuit_breaker, registry, retry

@retry(on=ConnectionError)
@circuit_breaker("payments", failure_threshold=5)
def charge(order): ...

registry.circuit_breakers["payments"].state
"""

import sys as _sys
import warnings as _warnings
from typing import TYPE_CHECKING as _TYPE_CHECKING

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
    UnknownNameError,
)
from resilient.events import Event
from resilient.logs import log_event as _log_event  # noqa: F401  (its import starts the logging)
from resilient.pipeline import Finding, Pipeline
from resilient.retry import RetryPolicy, retry
from resilient.retry.budget import RetryBudget
from resilient.timeout import Timeout, timeout

if _TYPE_CHECKING:
    from resilient.degradation import (
        CachedDegradation,
        DegradableService,
        DegradationConfig,
        DegradationManager,
        DegradationMode,
        FallbackStrategy,
        TieredTimeout,
        TimeoutTier,
    )
    from resilient.strategies import RecoveryStrategyConfig, failover
    from resilient.timeout.smart import SmartTimeout

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
    "CachedDegradation",
    "CallTimeoutError",
    "CircuitBreaker",
    "CircuitOpenError",
    "CircuitState",
    "ConfigurationError",
    "DegradableService",
    "Degradation",
    "DegradationConfig",
    "DegradationError",
    "DegradationManager",
    "DegradationMode",
    "Event",
    "FallbackStrategy",
    "Finding",
    "Pipeline",
    "RecoveryStrategyConfig",
    "Registry",
    "RejectedError",
    "ResilienceError",
    "RetriesExhaustedError",
    "RetryBudget",
    "RetryPolicy",
    "SmartTimeout",
    "TieredTimeout",
    "Timeout",
    "TimeoutTier",
    "UnknownNameError",
    "bulkhead",
    "circuit_breaker",
    "deadline",
    "degrade",
    "failover",
    "registry",
    "remaining_time",
    "retry",
    "timeout",
]

#: Loaded when they are first asked for: whoever only decorates does not wait for them.
_LAZY = {
    "CachedDegradation": "resilient.degradation",
    "DegradableService": "resilient.degradation",
    "DegradationConfig": "resilient.degradation",
    "DegradationManager": "resilient.degradation",
    "DegradationMode": "resilient.degradation",
    "FallbackStrategy": "resilient.degradation",
    "RecoveryStrategyConfig": "resilient.strategies",
    "SmartTimeout": "resilient.timeout.smart",
    "TieredTimeout": "resilient.degradation",
    "TimeoutTier": "resilient.degradation",
    "degradation": "",
    "failover": "resilient.strategies",
    "metrics": "",
    "orchestrator": "",
    "strategies": "",
    "web": "",
}


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = _LAZY[name]
    found = getattr(import_module(module), name) if module else import_module(f"{__name__}.{name}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
