"""Strategies: all patterns for a kind of service as one frozen object, one decorator, or one table of a file.

@RecoveryStrategyConfig.for_external_api().with_fallback([])
def recommendations(user): ...

strategies.load("strategies.toml")["payments"]
"""

from __future__ import annotations

from resilient.strategies.config import RecoveryStrategyConfig
from resilient.strategies.failover import FailoverMetrics, TargetChanged, failover
from resilient.strategies.files import Strategies, load
from resilient.strategies.live import Change, Report, configure_from
from resilient.strategies.models import schema
from resilient.strategies.patterns import (
    GUIDE,
    Recommendation,
    cache_miss_storm,
    database_failover,
    external_api,
    resource_shortage,
    service_overload,
    transient_network,
)
from resilient.strategies.settings import (
    BulkheadSettings,
    CircuitBreakerSettings,
    DegradationSettings,
    RetrySettings,
    TimeoutSettings,
)

__all__ = [
    "GUIDE",
    "BulkheadSettings",
    "Change",
    "CircuitBreakerSettings",
    "DegradationSettings",
    "FailoverMetrics",
    "Recommendation",
    "RecoveryStrategyConfig",
    "Report",
    "RetrySettings",
    "Strategies",
    "TargetChanged",
    "TimeoutSettings",
    "cache_miss_storm",
    "configure_from",
    "database_failover",
    "external_api",
    "failover",
    "load",
    "resource_shortage",
    "schema",
    "service_overload",
    "transient_network",
]
