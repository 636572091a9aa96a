"""Queues of calls to be made later: in memory, in an SQLite file, or on a Redis server."""

from __future__ import annotations

from resilient.degradation.queues.calls import QueuedCall
from resilient.degradation.queues.durable import DurableQueue, RedisQueue, SqliteQueue
from resilient.degradation.queues.memory import MemoryQueue
from resilient.degradation.queues.protocol import CallQueue, QueuedCallStatus, QueueFullError
from resilient.degradation.queues.receipts import Receipt

__all__ = [
    "CallQueue",
    "DurableQueue",
    "MemoryQueue",
    "QueueFullError",
    "QueuedCall",
    "QueuedCallStatus",
    "Receipt",
    "RedisQueue",
    "SqliteQueue",
]
