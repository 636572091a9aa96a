"""Adapting to trouble: sparing services that fail, answers from a cache, tiers of limits, and calls made later."""

from __future__ import annotations

from resilient.degradation.cached import CachedDegradation, CacheMetrics, PreloadResult
from resilient.degradation.config import DegradableService, DegradationConfig, DegradationMode
from resilient.degradation.events import (
    CallQueued,
    DegradationModeChanged,
    QueuedCallEnded,
    QueuedCallFailed,
    QueuedCallRepeated,
    ServiceHealthChanged,
)
from resilient.degradation.manager import DegradationManager, ManagerMetrics, ServiceHealth, managers
from resilient.degradation.queues import (
    CallQueue,
    MemoryQueue,
    QueuedCall,
    QueuedCallStatus,
    QueueFullError,
    Receipt,
    RedisQueue,
    SqliteQueue,
)
from resilient.degradation.tiered import FallbackStrategy, TieredTimeout, TierMetrics, TimeoutTier

__all__ = [
    "CacheMetrics",
    "CachedDegradation",
    "CallQueue",
    "CallQueued",
    "DegradableService",
    "DegradationConfig",
    "DegradationManager",
    "DegradationMode",
    "DegradationModeChanged",
    "FallbackStrategy",
    "ManagerMetrics",
    "MemoryQueue",
    "PreloadResult",
    "QueueFullError",
    "QueuedCall",
    "QueuedCallEnded",
    "QueuedCallFailed",
    "QueuedCallRepeated",
    "QueuedCallStatus",
    "Receipt",
    "RedisQueue",
    "ServiceHealth",
    "ServiceHealthChanged",
    "SqliteQueue",
    "TierMetrics",
    "TieredTimeout",
    "TimeoutTier",
    "managers",
]
