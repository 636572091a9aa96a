"""The options of `@bulkhead`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from resilient import _checks as check
from resilient._registry import registry
from resilient.circuit_breaker import CircuitBreaker
from resilient.errors import ConfigurationError


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class BulkheadConfig(check.Options):
    """The options of `@bulkhead`, checked and in their internal form."""

    max_concurrent: int = 100
    max_wait: float | None = 30.0
    max_queue: int | None = None
    circuit_breaker: CircuitBreaker | None = None

    def __post_init__(self) -> None:
        put = object.__setattr__
        check.count("max_concurrent", self.max_concurrent)
        put(self, "max_wait", check.optional_seconds("max_wait", self.max_wait))
        check.count("max_queue", self.max_queue, least=0, none="no limit")
        breaker: Any = self.circuit_breaker
        if isinstance(breaker, str):
            try:
                breaker = registry.circuit_breakers[breaker]
            except KeyError as error:
                raise ConfigurationError(f"circuit_breaker={breaker!r}: {error.args[0]}") from None
            put(self, "circuit_breaker", breaker)
        if breaker is not None and not isinstance(breaker, CircuitBreaker):
            raise TypeError(f"circuit_breaker={breaker!r}: must be a circuit breaker policy, or the name of one")
