"""What is to go wrong in a scenario: where, how, when, and how often."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import FunctionType, MethodType
from typing import Any

from resilient import _checks as check
from resilient.errors import ConfigurationError
from resilient.testing import faults
from resilient.testing.faults import Fault
from resilient.testing.network.proxy import FaultProxy
from resilient.testing.network.proxy_faults import checked
from resilient.testing.timing import InjectionTiming
from resilient.wrapping import Guarded

IN_PROCESS, NETWORK, HOOKS = "in process", "network", "hooks"

_HOOKS = frozenset({"begin", "end"})
_PROXY_KINDS = ("reset", "refused", "blackhole")


class ErrorInjectionType(Enum):
    """What goes wrong; the words are those of scenario files."""

    NETWORK_FAILURE = "network_failure"
    DATABASE_TIMEOUT = "database_timeout"
    SERVICE_UNAVAILABLE = "service_unavailable"
    RESOURCE_EXHAUSTION = "resource_exhaustion"
    CONFIGURATION_ERROR = "configuration_error"
    LATENCY = "latency"
    CORRUPT_RESULT = "corrupt_result"
    CUSTOM = "custom"


#: The fault of each type; `parameters` are its arguments.
FAULTS: Mapping[ErrorInjectionType, Callable[..., Fault]] = {
    ErrorInjectionType.NETWORK_FAILURE: faults.NetworkFailure,
    ErrorInjectionType.DATABASE_TIMEOUT: faults.DatabaseTimeout,
    ErrorInjectionType.SERVICE_UNAVAILABLE: faults.ServiceUnavailable,
    ErrorInjectionType.RESOURCE_EXHAUSTION: faults.ResourceExhaustion,
    ErrorInjectionType.CONFIGURATION_ERROR: faults.ConfigurationError,
    ErrorInjectionType.LATENCY: faults.Latency,
    ErrorInjectionType.CORRUPT_RESULT: faults.CorruptResult,
    ErrorInjectionType.CUSTOM: faults.Custom,
}


@dataclass(frozen=True, slots=True)
class ErrorInjectionConfig:
    """One fault of a scenario.

    `injection_type`: what goes wrong, or a fault of `resilient.testing.faults` itself. `target`: as for `inject`, or a
    running `FaultProxy` (then `parameters` are those of its `add`, or `kind`: refused, reset or blackhole), or, for
    CUSTOM, None with `parameters={"begin": ..., "end": ...}`, two callables that break something and mend it.
    `injection_timing`, `during` and `max_count` count from the beginning of the fault phase; `error_rate` is the share
    of calls that is hit; `parameters` are the fault's own, such as {"kind": "reset"}; without a `seed` one is made.
    """

    injection_type: ErrorInjectionType | Fault
    target: Any = None
    injection_timing: InjectionTiming = InjectionTiming.IMMEDIATE
    error_rate: float = 1.0
    during: tuple[float, float] | None = None
    max_count: int | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    seed: int | str | None = None

    def __post_init__(self) -> None:
        _check(self)
        # A copy: who changes theirs later does not change what was checked.
        object.__setattr__(self, "parameters", dict(self.parameters))
        if self.during is not None:
            start, end = self.during
            object.__setattr__(self, "during", (check.seconds("during", start), check.seconds("during", end)))

    @property
    def source(self) -> str:
        """Where the fault happens: in a function, on the network, or by functions that begin and end it."""
        if isinstance(self.target, FaultProxy):
            return NETWORK
        is_custom = self.injection_type is ErrorInjectionType.CUSTOM
        return HOOKS if is_custom and not _HOOKS.isdisjoint(self.parameters) else IN_PROCESS


def fault_of(config: ErrorInjectionConfig) -> Fault:
    """The fault that a configuration means."""
    kind = config.injection_type
    if isinstance(kind, Fault):
        if config.parameters:
            raise check.bad("parameters", sorted(map(str, config.parameters)), f"{kind!r} has its parameters already")
        return kind
    make: Callable[..., Fault] = FAULTS[kind]
    _check_names(kind.value, config.parameters, inspect.signature(make).parameters)
    try:
        return make(**config.parameters)
    except TypeError as error:
        raise ConfigurationError(f"parameters of {kind.value}: {error}") from None


def _check_names(kind: str, given: Mapping[str, Any], known: Mapping[str, inspect.Parameter]) -> None:
    """Raise ConfigurationError for names that a fault does not have, and for those that it has to have."""
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, 1)
            guess = f"did you mean {near[0]}? " if near else ""
            remedy = f"unknown key {name}; {guess}allowed: {', '.join(known)}"
            raise ConfigurationError(f"parameters of {kind}: {remedy}")
    missing = [one.name for one in known.values() if one.default is one.empty and one.name not in given]
    if missing:
        raise ConfigurationError(f"parameters of {kind}: needs {', '.join(missing)}")


def check_seed(seed: Any) -> None:
    """Raise ConfigurationError for what cannot be a seed."""
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, (int, str))):
        raise check.bad("seed", seed, "must be a whole number or a text, or None for one that is made")


def _check(config: ErrorInjectionConfig) -> None:
    """Raise ConfigurationError for what cannot be injected."""
    kind: object = config.injection_type
    if not isinstance(kind, (ErrorInjectionType, Fault)):
        remedy = "must be an ErrorInjectionType, or a fault of resilient.testing.faults"
        raise check.bad("injection_type", kind, remedy)
    if not isinstance(config.injection_timing, InjectionTiming):
        raise check.bad("injection_timing", config.injection_timing, "must be an InjectionTiming")
    parameters: object = config.parameters
    if not isinstance(parameters, Mapping):
        raise check.bad("parameters", type(parameters).__name__, "must be a mapping of names to values")
    check_seed(config.seed)
    if check.share("error_rate", config.error_rate, zero=True) is None:
        raise check.bad("error_rate", None, "must be a fraction from 0 to 1; leave it out for all calls")
    check.count("max_count", config.max_count, none="no limit")
    if config.during is not None:
        _check_window(config.during)
    kind_of = config.source
    if kind_of == IN_PROCESS:
        _check_target(config.target)
        fault_of(config)
    else:
        _check_outside(config)


def _check_window(during: Any) -> None:
    try:
        start, end = during
    except (TypeError, ValueError):
        raise check.bad("during", during, "must be a pair of seconds (start, end)") from None
    if check.seconds("during", start) >= check.seconds("during", end):
        raise check.bad("during", during, "must end after it starts")


def _check_target(target: Any) -> None:
    is_method = isinstance(target, MethodType) and isinstance(target.__func__, Guarded)
    if not (is_method or isinstance(target, (Guarded, FunctionType)) or (isinstance(target, str) and target.strip())):
        remedy = 'must be a decorated function, a policy\'s name, a path "package.module:function", or a FaultProxy'
        raise check.bad("target", target, remedy)
    if not isinstance(target, Guarded) and isinstance(target, FunctionType) and "<" in target.__qualname__:
        remedy = "is a local function or a lambda, which cannot be replaced; decorate it, or take one that it calls"
        raise check.bad("target", target.__qualname__, remedy)


def _check_outside(config: ErrorInjectionConfig) -> None:
    """What only injections can do is refused elsewhere, or it would silently not happen."""
    if config.max_count is not None:
        raise check.bad("max_count", config.max_count, "only calls of functions can be counted; use `during`")
    if config.injection_timing.predicate is not None:
        remedy = "only calls of functions can be asked about; use InjectionTiming.delayed"
        raise check.bad("injection_timing", config.injection_timing, remedy)
    if config.source == HOOKS:
        _check_hooks(config)
    else:
        _check_network(config)


def _check_hooks(config: ErrorInjectionConfig) -> None:
    for name, hook in config.parameters.items():
        if name not in _HOOKS or not callable(hook):
            raise check.bad("parameters", name, "must be two callables, begin and end")
        if inspect.iscoroutinefunction(hook):
            raise check.bad("parameters", name, "must be a sync function; it is called in a thread")
    if "begin" not in config.parameters:
        raise check.bad("parameters", "end", "needs `begin` beside it")
    if config.error_rate != 1:
        raise check.bad("error_rate", config.error_rate, "functions that begin and end cannot have a rate")


def _check_network(config: ErrorInjectionConfig) -> None:
    kind = config.parameters.get("kind")
    if config.injection_type not in (ErrorInjectionType.NETWORK_FAILURE, ErrorInjectionType.LATENCY):
        raise check.bad("injection_type", config.injection_type, "must be NETWORK_FAILURE or LATENCY for a FaultProxy")
    if config.injection_type is ErrorInjectionType.LATENCY and config.parameters.get("latency") is None:
        raise check.bad("parameters", sorted(map(str, config.parameters)), "needs `latency`, in seconds")
    if kind is not None and kind not in _PROXY_KINDS:
        raise check.bad("kind", kind, f"must be one of {', '.join(_PROXY_KINDS)}")
    if kind in ("refused", "blackhole") and (config.error_rate != 1 or len(config.parameters) > 1):
        raise check.bad("kind", kind, "concerns all connections: leave error_rate and other parameters out")
    if kind in ("reset", None):
        _check_add(config.parameters)


def _check_add(parameters: Mapping[str, Any]) -> None:
    """What the proxy's `add` would refuse when the fault begins is refused now."""
    known = ("latency", "jitter", "bandwidth", "reset_after", "limit_data", "direction")
    for name in parameters:
        if name not in (*known, "kind"):
            raise check.bad("parameters", name, f"must be kind, or among {', '.join(known)}")
    is_reset = not parameters or "kind" in parameters
    options = {name: value for name, value in parameters.items() if name != "kind"}
    checked({**dict.fromkeys(known), "rate": 1.0, **({"reset_after": 0} if is_reset else {}), **options})
