"""The parts of the other libraries. Where one has several ways to do a thing, the one that does it best is taken."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from importlib import import_module
from itertools import count
from typing import Any

from .comparison_libraries import Block, Decorator, Harmless, Parts, resilient_parts


def tenacity() -> Parts:
    lib: Any = import_module("tenacity")
    stop, fixed = lib.stop_after_attempt, lib.wait_fixed
    return Parts(
        "tenacity",
        retry=lambda attempts, delay: lib.retry(stop=stop(attempts), wait=fixed(delay)),
        retry_anything=lambda: lib.retry(stop=stop(3), retry=lib.retry_if_exception(lambda error: True), reraise=True),
        retry_spread=lambda: lib.retry(stop=stop(20), wait=lib.wait_random_exponential(max=1)),
        retry_within=lambda limit, delay: lib.retry(stop=stop(3) | lib.stop_before_delay(limit), wait=fixed(delay)),
        retry_when_told=lambda: lib.retry(stop=stop(3), wait=lib.wait_exception(lambda error: error.retry_after)),
        restarted=lambda: lib.retry(stop=stop(3)),
    )


def stamina() -> Parts:
    lib: Any = import_module("stamina")
    import_module("stamina.instrumentation").set_on_retry_hooks(())

    def retry(on: Any = Exception, attempts: int = 3, timeout: float | None = None, delay: float = 0) -> Any:
        waits = {"wait_initial": delay, "wait_max": delay, "wait_jitter": 0, "wait_exp_base": 1}
        return lib.retry(on=on, attempts=attempts, timeout=timeout, **waits)

    return Parts(
        "stamina",
        retry=lambda attempts, delay: retry(attempts=attempts, delay=delay),
        retry_anything=lambda: retry(on=lambda error: True),
        retry_spread=lambda: lib.retry(on=Exception, attempts=20, timeout=None, wait_initial=1, wait_max=1),
        retry_within=lambda limit, delay: retry(timeout=limit, delay=delay),
        retry_when_told=lambda: retry(on=lambda error: timedelta(seconds=error.retry_after)),
        restarted=retry,
    )


def backoff() -> Parts:
    lib: Any = import_module("backoff")

    def retry(attempts: int = 3, delay: float = 0, on: Any = Exception, limit: float | None = None) -> Any:
        return lib.on_exception(
            lib.constant, on, interval=delay, max_tries=attempts, max_time=limit, jitter=None, logger=None
        )

    return Parts(
        "backoff",
        retry=retry,
        retry_anything=lambda: retry(on=BaseException),
        retry_spread=lambda: lib.on_exception(
            lib.expo, Exception, base=1, factor=1, max_value=1, max_tries=20, logger=None
        ),
        retry_within=lambda limit, delay: retry(delay=delay, limit=limit),
        retry_when_told=lambda: lib.on_exception(
            lib.runtime, Exception, value=lambda error: error.retry_after, max_tries=3, jitter=None, logger=None
        ),
        restarted=retry,
    )


def pybreaker() -> Parts:
    lib: Any = import_module("pybreaker")

    def breaker(recovery: float = 60) -> Any:
        return lib.CircuitBreaker(fail_max=3, reset_timeout=recovery, exclude=[Harmless])

    def block(recovery: float) -> Block:
        calling: Block = breaker(recovery).calling
        return calling

    def stored() -> tuple[Decorator, Decorator]:
        store = lib.CircuitMemoryStorage(lib.STATE_CLOSED)
        return (
            lib.CircuitBreaker(fail_max=3, state_storage=store),
            lib.CircuitBreaker(fail_max=3, state_storage=store),
        )

    return Parts(
        "pybreaker",
        asyncio=False,
        breaker=breaker,
        rejection=lib.CircuitBreakerError,
        block=block,
        stored=stored,
    )


def circuitbreaker() -> Parts:
    lib: Any = import_module("circuitbreaker")

    def breaker(recovery: float = 60) -> Any:
        return lib.CircuitBreaker(
            failure_threshold=3,
            recovery_timeout=recovery,
            expected_exception=lambda kind, error: issubclass(kind, Exception) and not issubclass(kind, Harmless),
        )

    def block(recovery: float) -> Block:
        one = breaker(recovery)
        return lambda: one

    return Parts("circuitbreaker", breaker=breaker, rejection=lib.CircuitBreakerError, block=block)


def pyresilience() -> Parts:
    lib: Any = import_module("pyresilience")
    names = count()
    registry = lib.ResilienceRegistry()

    def shared(**options: Any) -> Any:
        """The registry's decorator, which lets functions share what they are guarded by."""
        name = f"probe {next(names)}"
        registry.register(name, lib.ResilienceConfig(**options))
        return registry.decorator(name)

    def retry(attempts: int = 3, delay: float = 0, **more: Any) -> Any:
        return lib.RetryConfig(max_attempts=attempts, delay=delay, backoff_factor=1, **({"jitter": False} | more))

    def breaker(recovery: float = 60, **more: Any) -> Any:
        options = {"failure_threshold": 3, "success_threshold": 1, "ignore_on": (Harmless,)} | more
        return shared(circuit_breaker=lib.CircuitBreakerConfig(recovery_timeout=recovery, **options))

    def budgeted() -> tuple[Decorator, Decorator]:
        one = shared(retry=retry(), retry_budget=lib.RetryBudgetConfig(max_retries=4, refill_rate=0.1))
        return one, one

    return Parts(
        "pyresilience",
        retry=lambda attempts, delay: shared(retry=retry(attempts, delay)),
        retry_anything=lambda: shared(retry=retry(retry_on=(BaseException,))),
        retry_spread=lambda: shared(retry=retry(20, 1, max_delay=1, jitter=True)),
        retry_within=lambda limit, delay: shared(
            retry=retry(3, delay), timeout=lib.TimeoutConfig(seconds=limit, per_attempt=False)
        ),
        retry_when_told=lambda: shared(retry=retry(delay_func=lambda attempt, error: error.retry_after)),
        retry_on_budget=budgeted,
        breaker=breaker,
        rejection=lib.CircuitOpenError,
        by_rate=lambda: breaker(sliding_window_size=10, failure_rate_threshold=0.5),
        by_slowness=lambda: breaker(sliding_window_size=5, slow_call_duration=0.01),
        bulkhead=lambda: shared(bulkhead=lib.BulkheadConfig(max_concurrent=1, max_wait=1)),
        timeout=lambda limit: shared(timeout=lib.TimeoutConfig(seconds=limit)),
        cached=lambda value: shared(cache=lib.CacheConfig(), fallback=lib.FallbackConfig(handler=value)),
        rate_limit=lambda: shared(rate_limiter=lib.RateLimiterConfig(max_calls=2, period=60)),
        restarted=lambda: shared(retry=retry()),
    )


def nopanic() -> Parts:
    lib: Any = import_module("nopanic")

    def breaker(recovery: float = 60, **more: Any) -> Any:
        healthy: Callable[[BaseException], bool] = lambda error: not isinstance(error, Harmless)  # noqa: E731
        return lib.circuit_breaker(**({"min_calls": 3, "reset_timeout": recovery, "on": healthy} | more))

    def budgeted() -> tuple[Decorator, Decorator]:
        budget = lib.RetryBudget(ratio=0.1, min_retries_per_sec=0)
        return lib.retry(3, backoff=0, budget=budget), lib.retry(3, backoff=0, budget=budget)

    return Parts(
        "nopanic",
        retry=lambda attempts, delay: lib.retry(attempts, backoff=delay),
        retry_anything=lambda: lib.retry(3, on=lambda error: True, backoff=0),
        retry_spread=lambda: lib.retry(20, backoff=lib.backoff.full_jitter(1, cap=1)),
        retry_within=lambda limit, delay: lib.retry(3, backoff=delay, max_time=limit),
        retry_when_told=lambda: lib.retry(3, backoff=0.001),
        retry_on_budget=budgeted,
        breaker=breaker,
        rejection=lib.CircuitOpen,
        block=lambda recovery: breaker(recovery).guard,
        by_rate=lambda: breaker(min_calls=10),
        by_slowness=lambda: breaker(min_calls=5, slow_call_duration=0.01),
        bulkhead=lambda: lib.bulkhead(1, max_wait=1),
        timeout=lib.timeout,
        cached=lambda value: lib.compose(lib.fallback(value), lib.cache(60)),
        deadline=lib.deadline,
        hedge=lambda delay: lib.hedge(delay=delay),
        rate_limit=lambda: lib.rate_limit(2, per=60, max_wait=0),
        keyed=lambda: lib.keyed(lambda key: breaker(), key=lambda key, action: key),
        restarted=lambda: lib.retry(3, backoff=0),
    )


LIBRARIES: dict[str, Callable[[], Parts]] = {"resilient": resilient_parts} | {
    make.__name__: make for make in (tenacity, stamina, backoff, pybreaker, circuitbreaker, pyresilience, nopanic)
}
