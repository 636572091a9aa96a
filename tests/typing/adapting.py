"""What type checkers know of what adapts: limits, tiers, managers, caches, strategies, failover. Never run."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import assert_type

from resilient import (
    CachedDegradation,
    DegradableService,
    DegradationConfig,
    DegradationManager,
    DegradationMode,
    FallbackStrategy,
    Pipeline,
    RecoveryStrategyConfig,
    SmartTimeout,
    TieredTimeout,
    TimeoutTier,
    degrade,
    failover,
    registry,
    strategies,
    timeout,
)
from resilient.degradation import CacheMetrics, MemoryQueue, PreloadResult, Receipt, ServiceHealth, SqliteQueue

smart = SmartTimeout(base_timeout=2, statistic="p95", load_source=lambda: 50.0)
assert_type(smart.current_limit(), float)
assert_type(smart.get_stats().timeout_count, int)


@timeout(smart)
async def load(key: str) -> bytes:
    return key.encode()


async def use() -> None:
    assert_type(await load("a"), bytes)


SmartTimeout("2")  # type: ignore[arg-type]

manager = DegradationManager(DegradationConfig(minimum_calls=5), name="shop")
assert_type(manager.get_current_mode(), DegradationMode)
assert_type(manager.get_metrics().services, Mapping[str, ServiceHealth])
assert_type(manager.degraded_services, frozenset[str])


@degrade(fallback=[], manager=manager, service="recommendations", cache=CachedDegradation(cache_ttl=5))
def recommend(user: int) -> list[str]:
    return [str(user)]


assert_type(recommend(1), list[str])
recommend("1")  # type: ignore[arg-type]


class Prices:
    """A service, as the protocol wants it."""

    def execute_full(self, book: str) -> float:
        return float(book)

    async def execute_degraded(self, book: str) -> float:
        return float(book)

    def should_degrade(self) -> bool:
        return False


manager.register_service("prices", Prices())


def takes_service(service: DegradableService) -> None: ...


async def aload(key: int) -> str:
    return str(key)


async def preload(cached: CachedDegradation) -> None:
    assert_type(cached.preload_cache([1, 2], str), PreloadResult)
    assert_type(await cached.preload_cache([1, 2], aload), PreloadResult)
    assert_type(await cached.apreload_cache([1, 2], str), PreloadResult)
    assert_type(cached.get_metrics(), CacheMetrics)


tiers = TieredTimeout(FallbackStrategy.QUEUE_AND_RETRY, queue=MemoryQueue(10)).add_tier(TimeoutTier("report", 60, 1, 2))
assert_type(tiers, TieredTimeout)
assert_type(tiers.tiers, Mapping[str, TimeoutTier])
TieredTimeout(queue=SqliteQueue("calls.db"))
TieredTimeout(degraded=Prices()).add_tier(TimeoutTier("slow", timedelta(seconds=9), 1, 1.0), degraded=Prices())
TieredTimeout(degraded=float)
TieredTimeout(degraded=3)  # type: ignore[arg-type]
TieredTimeout(queue=MemoryQueue)  # type: ignore[arg-type]
assert_type(TimeoutTier("slow", timedelta(seconds=9), 1, 1.0).base_timeout, float)
TimeoutTier("slow", "9", 1, 1.0)  # type: ignore[arg-type]


@tiers("external_api")
def charge(amount: int) -> str:
    return str(amount)


assert_type(charge(1), str)
assert_type(tiers.execute("database_query", charge, 1), str)
assert_type(tiers.execute("external_api", Prices(), "Emma"), float)
tiers.execute("external_api", Prices(), 1)  # type: ignore[call-overload]


class Covers:
    """A service with async ways."""

    async def execute_full(self, book: str) -> bytes:
        return book.encode()

    async def execute_degraded(self, book: str) -> bytes:
        return b""


async def execute(service: DegradableService) -> None:
    assert_type(await tiers.aexecute("external_api", Covers(), "Emma"), bytes)
    assert_type(await tiers.aexecute("external_api", aload, 1), str)
    tiers.execute("external_api", service, 1)
    await tiers.aexecute("external_api", service, 1)


# With QUEUE_AND_RETRY the answer may be a receipt.
answer: str | Receipt = tiers.execute("database_query", charge, 1)
if isinstance(answer, Receipt):
    answer.result(timeout=1)


async def wait_for(receipt: Receipt) -> None:
    assert_type(receipt.id, str)
    await receipt


@RecoveryStrategyConfig.for_database()
def find(order: int) -> dict[str, int]:
    return {"order": order}


assert_type(find(1), dict[str, int])
assert_type(RecoveryStrategyConfig().validate(), list[str])
assert_type(RecoveryStrategyConfig().pipeline(), Pipeline)
assert_type(strategies.load("strategies.toml")["payments"], RecoveryStrategyConfig)
registry.configure_from("strategies.toml")

find_anywhere = failover(find, find, name="orders")
assert_type(find_anywhere(1), dict[str, int])
assert_type(find_anywhere.active, str | None)
