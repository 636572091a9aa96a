"""A whole strategy as one frozen object: five sections, presets, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeAlias

from resilient.bulkhead import BulkheadConfig
from resilient.circuit_breaker import CircuitBreakerConfig
from resilient.degradation.config import DegradationConfig
from resilient.degradation.manager import DegradationManager
from resilient.errors import ConfigurationError
from resilient.pipeline import Pipeline
from resilient.policy import F, Policy
from resilient.retry import RetryConfig
from resilient.strategies.building import all_or_nothing, build, manager_of
from resilient.strategies.options import names
from resilient.strategies.problems import listed, shown
from resilient.strategies.settings import (
    BulkheadSettings,
    CircuitBreakerSettings,
    DegradationSettings,
    LeftOut,
    RetrySettings,
    TimeoutSettings,
)
from resilient.strategies.validation import SECTIONS, problems
from resilient.timeout import TimeoutConfig

Options: TypeAlias = "Mapping[str, Any] | Literal[False] | None"

#: The rooms' own configurations, which a section may be given as.
_OWN: dict[str, type[Any]] = {
    "retry": RetryConfig,
    "circuit_breaker": CircuitBreakerConfig,
    "degradation": DegradationConfig,
    "timeout": TimeoutConfig,
    "bulkhead": BulkheadConfig,
}
_DEFAULTS: dict[str, Any] = {section: kind() for section, kind in SECTIONS.items()}
_KEEP: Any = object()


@dataclass(frozen=True, init=False)
class RecoveryStrategyConfig:
    """What a kind of service needs to be called safely, usable as one decorator.

        @RecoveryStrategyConfig.for_database()
        def load(id): ...

    Each section is settings, a dict merged over the section's defaults, a room's own configuration, or None for a
    pattern that is not used. A strategy with problems can be made and looked at; `validate()` names all of them, and
    decorating raises. Without a name, each decorated function gets policies of its own; with one, the policies are
    registered under it, and shared by all functions that this strategy, or an equal one of that name, decorates.

    Sync functions run in worker threads (`timeout.method="thread"`), so what is bound to a thread, such as a `sqlite3`
    connection or a session in a `threading.local`, breaks: `.replace(timeout={"method": "cooperative"})` keeps sync
    functions in the caller's thread.

    Outermost first, a call passes degrade, retry, circuit breaker, bulkhead and timeout (`timeout.total` per attempt).
    """

    retry: RetrySettings | None
    circuit_breaker: CircuitBreakerSettings | None
    degradation: DegradationSettings | None
    timeout: TimeoutSettings | None
    bulkhead: BulkheadSettings | None
    name: str | None
    #: Keys that were given and mean nothing, after their sections.
    unknown: tuple[tuple[str, str], ...] = field(init=False, repr=False)

    def __init__(
        self,
        retry: RetrySettings | RetryConfig | Options = _DEFAULTS["retry"],
        circuit_breaker: CircuitBreakerSettings | CircuitBreakerConfig | Options = _DEFAULTS["circuit_breaker"],
        degradation: DegradationSettings | DegradationConfig | Options = _DEFAULTS["degradation"],
        timeout: TimeoutSettings | TimeoutConfig | Options = _DEFAULTS["timeout"],
        bulkhead: BulkheadSettings | BulkheadConfig | Options = _DEFAULTS["bulkhead"],
        name: str | None = None,
    ) -> None:
        given = {
            "retry": retry,
            "circuit_breaker": circuit_breaker,
            "degradation": degradation,
            "timeout": timeout,
            "bulkhead": bulkhead,
        }
        self._take(given, _DEFAULTS, name)

    def _take(self, given: Mapping[str, Any], base: Mapping[str, Any], name: Any, strange: Any = ()) -> None:
        put = object.__setattr__
        for section, value in given.items():
            settings, keys = _settings(section, value, base[section])
            put(self, section, settings)
            strange = (*strange, *((section, key) for key in keys))
        put(self, "name", name)
        put(self, "unknown", strange)

    # Presets ------------------------------------------------------------------------------------

    @classmethod
    def for_database(cls, name: str | None = None) -> RecoveryStrategyConfig:
        """Few and quick attempts, a circuit that opens early: a database in trouble needs less load, not more.

        Sync functions run in worker threads. Where a connection is bound to its thread (`sqlite3`, a session in a
        `threading.local`), use `for_database().replace(timeout={"method": "cooperative"})`, and the driver's timeout.
        """
        return cls(
            retry={"max_attempts": 2, "base_delay": 0.05, "max_delay": 5.0, "multiplier": 1.5, "jitter": False},
            circuit_breaker={"failure_threshold": 3, "recovery_timeout": 30.0, "half_open_calls": 5},
            name=name,
        )

    @classmethod
    def for_external_api(cls, name: str | None = None) -> RecoveryStrategyConfig:
        """Patient retries and tight time limits, for a service in other hands."""
        return cls(
            retry={"max_attempts": 3, "base_delay": 0.2, "max_delay": 30.0, "multiplier": 2.5, "jitter": True},
            timeout={"connect": LeftOut(3.0), "read": LeftOut(10.0), "write": LeftOut(10.0), "total": 15.0},
            name=name,
        )

    @classmethod
    def for_cache(cls, name: str | None = None) -> RecoveryStrategyConfig:
        """A single attempt and early degradation: whoever asks a cache can do without it."""
        return cls(
            retry={"max_attempts": 1, "base_delay": 0.01, "max_delay": 0.1, "multiplier": 1.0, "jitter": False},
            degradation={
                "auto_degradation_enabled": True,
                "degradation_threshold": 0.05,
                "recovery_threshold": 0.02,
                "monitoring_interval": 10.0,
            },
            name=name,
        )

    # Copies -------------------------------------------------------------------------------------

    def replace(
        self,
        *,
        retry: RetrySettings | RetryConfig | Options = _KEEP,
        circuit_breaker: CircuitBreakerSettings | CircuitBreakerConfig | Options = _KEEP,
        degradation: DegradationSettings | DegradationConfig | Options = _KEEP,
        timeout: TimeoutSettings | TimeoutConfig | Options = _KEEP,
        bulkhead: BulkheadSettings | BulkheadConfig | Options = _KEEP,
        name: str | None = _KEEP,
    ) -> RecoveryStrategyConfig:
        """A copy with other sections, or another name; a dict is merged over the section as it is here."""
        given = {
            "retry": retry,
            "circuit_breaker": circuit_breaker,
            "degradation": degradation,
            "timeout": timeout,
            "bulkhead": bulkhead,
        }
        now = {section: getattr(self, section) for section in SECTIONS}
        changed = {section: now[section] if value is _KEEP else value for section, value in given.items()}
        base = {section: _DEFAULTS[section] if value is None else value for section, value in now.items()}
        strange = tuple(one for one in self.unknown if _keeps_unknown(given[one[0]]))
        copy = object.__new__(type(self))
        copy._take(changed, base, self.name if name is _KEEP else name, strange)
        return copy

    def with_fallback(self, fallback: Any) -> RecoveryStrategyConfig:
        """A copy that answers with this when the call fails: a value, a callable, or a list with callables."""
        return self.replace(degradation={"fallback": fallback})

    # Use ----------------------------------------------------------------------------------------

    def validate(self) -> list[str]:
        """All problems, each with path, value and what would be right; an empty list when the strategy works."""
        return [str(one) for one in problems(self)]

    def __call__(self, fn: F, /) -> F:
        """Decorate a function, method, classmethod, staticmethod or any other callable.

        Raises ConfigurationError, with all problems, where there are any; TypeError for what cannot be guarded.
        """
        with all_or_nothing():
            return self.pipeline()(fn)

    def pipeline(self, name: str | None = None) -> Pipeline:
        """A pipeline of the policies; its `call` and `acall` make single calls, its `check()` reviews the numbers.

        Raises ConfigurationError, with all problems, where there are any.
        """
        return Pipeline(*self.policies(), name=name or self.name)

    def policies(self) -> tuple[Policy, ...]:
        """The policies, outermost first: new ones, or, for a strategy with a name, the registered ones.

        Raises ConfigurationError, with all problems, where there are any, and where policies of that name are
        defined differently.
        """
        found = self.validate()
        if found:
            whose = "the strategy" if self.name is None else f"the strategy {self.name!r}"
            raise ConfigurationError(listed(f"{whose} cannot work", found))
        return build(self)

    @property
    def manager(self) -> DegradationManager:
        """The manager of a strategy with a name, which decides when the service is spared.

        A strategy without a name has one for each function: `fn.policies[0].config.manager`.
        Raises ConfigurationError (UnknownNameError) where there is none, or none yet.
        """
        return manager_of(self.name)


def _settings(section: str, given: Any, base: Any) -> tuple[Any, tuple[str, ...]]:
    """What was given for a section as settings, and the keys that mean nothing; what is none of that stays as it is."""
    kind, own = SECTIONS[section], _OWN[section]
    if given is False:
        return None, ()
    if isinstance(given, own):
        written = {one.name: getattr(given, one.name) for one in fields(own)}
        given = {"total" if name == "limit" else name: value for name, value in written.items()}
    if not isinstance(given, Mapping):
        return given, ()
    known = set(names(kind))
    options = {key: value for key, value in given.items() if key in known}
    strange = tuple(key if isinstance(key, str) else shown(key) for key in given if key not in known)
    return (base if isinstance(base, kind) else _DEFAULTS[section]).merged(options), strange


def _keeps_unknown(given: Any) -> bool:
    """Whether a section that is replaced by this keeps the keys that mean nothing in it."""
    return given is _KEEP or isinstance(given, Mapping)
