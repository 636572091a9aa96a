"""Other libraries with the same patterns, configured as closely alike as they allow, with their logging off."""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from .candidates import Decorator, Library
from .loops import Trouble


def tenacity() -> Library:
    lib: Any = import_module("tenacity")

    def retry() -> Decorator:
        decorator: Decorator = lib.retry(
            stop=lib.stop_after_attempt(3), retry=lib.retry_if_exception_type(Exception), reraise=True
        )
        return decorator

    both = {"retry": retry, "retry, two failures, then success": retry}
    return Library("tenacity", Exception, sync=both | {"method with retry": retry}, asynchronous=both)


def stamina() -> Library:
    lib: Any = import_module("stamina")
    import_module("stamina.instrumentation").set_on_retry_hooks(())

    def retry() -> Decorator:
        decorator: Decorator = lib.retry(
            on=Exception, attempts=3, timeout=None, wait_initial=0, wait_max=0, wait_jitter=0
        )
        return decorator

    both = {"retry": retry, "retry, two failures, then success": retry}
    return Library("stamina", Exception, sync=both | {"method with retry": retry}, asynchronous=both)


def circuitbreaker() -> Library:
    lib: Any = import_module("circuitbreaker")
    both: dict[str, Callable[[], Decorator]] = {
        "breaker, consecutive": lambda: lib.CircuitBreaker(failure_threshold=5, recovery_timeout=60),
        "breaker, open: rejection": lambda: lib.CircuitBreaker(failure_threshold=1, recovery_timeout=3600),
    }
    return Library("circuitbreaker", lib.CircuitBreakerError, sync=both, asynchronous=both)


def pybreaker() -> Library:
    """Sync only: for coroutine functions it needs tornado."""
    lib: Any = import_module("pybreaker")
    sync: dict[str, Callable[[], Decorator]] = {
        "breaker, consecutive": lambda: lib.CircuitBreaker(fail_max=5, reset_timeout=60),
        "breaker, open: rejection": lambda: lib.CircuitBreaker(fail_max=1, reset_timeout=3600),
    }
    return Library("pybreaker", lib.CircuitBreakerError, sync=sync, asynchronous={})


def pyresilience() -> Library:
    lib: Any = import_module("pyresilience")
    fallback, retry = lib.FallbackConfig, lib.RetryConfig
    breaker, bulkhead, timeout = lib.CircuitBreakerConfig, lib.BulkheadConfig, lib.TimeoutConfig

    def four(**more: Any) -> Decorator:
        decorator: Decorator = lib.resilient(
            fallback=fallback(handler=0),
            retry=retry(max_attempts=3),
            circuit_breaker=breaker(failure_threshold=5),
            bulkhead=bulkhead(max_concurrent=100, max_wait=30),
            **more,
        )
        return decorator

    both: dict[str, Callable[[], Decorator]] = {
        "retry": lambda: lib.resilient(retry=retry(max_attempts=3)),
        "breaker, consecutive": lambda: lib.resilient(circuit_breaker=breaker(failure_threshold=5)),
        "bulkhead": lambda: lib.resilient(bulkhead=bulkhead(max_concurrent=100, max_wait=30)),
        "degrade": lambda: lib.resilient(fallback=fallback(handler=0)),
        "degrade, retry, breaker, bulkhead": four,
        "breaker, open: rejection": lambda: lib.resilient(
            circuit_breaker=breaker(failure_threshold=1, recovery_timeout=3600, error_types=(Trouble,))
        ),
        "retry, two failures, then success": lambda: lib.resilient(retry=retry(max_attempts=3, delay=0, jitter=False)),
    }
    return Library(
        "pyresilience",
        lib.CircuitOpenError,
        sync=both
        | {
            "breaker, window of 100 calls": lambda: lib.resilient(
                circuit_breaker=breaker(sliding_window_size=100, failure_rate_threshold=0.5)
            ),
            "method with retry": both["retry"],
            "timeout in a thread": lambda: lib.resilient(timeout=timeout(seconds=30)),
        },
        asynchronous=both
        | {
            "degrade, retry, breaker, bulkhead, timeout": lambda: four(timeout=timeout(seconds=30)),
            "timeout, no suspension": lambda: lib.resilient(timeout=timeout(seconds=30)),
            "timeout, one suspension": lambda: lib.resilient(timeout=timeout(seconds=30)),
        },
    )


def nopanic() -> Library:
    """Its breaker always judges the failure rate of a time window."""
    lib: Any = import_module("nopanic")

    def four(*more: Any) -> Decorator:
        decorator: Decorator = lib.compose(
            lib.fallback(0), lib.retry(3), lib.circuit_breaker(), lib.bulkhead(100, max_wait=30), *more
        )
        return decorator

    both: dict[str, Callable[[], Decorator]] = {
        "retry": lambda: lib.retry(3),
        "breaker, consecutive": lib.circuit_breaker,
        "bulkhead": lambda: lib.bulkhead(100, max_wait=30),
        "degrade": lambda: lib.fallback(0),
        "degrade, retry, breaker, bulkhead": four,
        "breaker, open: rejection": lambda: lib.circuit_breaker(min_calls=1, reset_timeout=3600),
        "retry, two failures, then success": lambda: lib.retry(3, backoff=0),
    }
    return Library(
        "nopanic",
        lib.CircuitOpen,
        sync=both
        | {
            "method with retry": both["retry"],
            "timeout in a thread": lambda: lib.timeout(30),
        },
        asynchronous=both
        | {
            "degrade, retry, breaker, bulkhead, timeout": lambda: four(lib.timeout(30)),
            "timeout, no suspension": lambda: lib.timeout(30),
            "timeout, one suspension": lambda: lib.timeout(30),
        },
    )


RIVALS: dict[str, Callable[[], Library]] = {
    make.__name__: make for make in (tenacity, stamina, circuitbreaker, pybreaker, pyresilience, nopanic)
}


def installed() -> tuple[list[Library], dict[str, str]]:
    """The rivals that are here, and the version of each by name, or why it is missing."""
    libraries, versions = [], {}
    for name, make in RIVALS.items():
        try:
            library = make()
        except ImportError as error:
            versions[name] = f"missing ({error})"
            continue
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        libraries.append(library)
        versions[name] = version_of(name)
    return libraries, versions


def version_of(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "source tree"
