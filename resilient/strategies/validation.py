"""All problems of a section at once.

The rooms' own configurations are the only judges of an option. They stop at the first objection, so each option is
shown to its room alone, and then together with those that it has to agree with.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Container, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from resilient import _checks as check
from resilient._checks import differing
from resilient.bulkhead import BulkheadConfig
from resilient.circuit_breaker import CircuitBreakerConfig
from resilient.degradation.cached import CachedDegradation
from resilient.degradation.config import DegradationConfig
from resilient.degrade import DegradeConfig
from resilient.errors import ConfigurationError
from resilient.retry import RetryConfig
from resilient.strategies.filters import FILTERS, resolved
from resilient.strategies.options import names, values
from resilient.strategies.problems import Problem, problem, shown, unknown
from resilient.strategies.settings import (
    CLIENT_LIMITS,
    BulkheadSettings,
    CircuitBreakerSettings,
    DegradationSettings,
    RetrySettings,
    Settings,
    TimeoutSettings,
)
from resilient.timeout import TimeoutConfig

if TYPE_CHECKING:
    from resilient.strategies.config import RecoveryStrategyConfig

#: The sections of a strategy, in the order of its constructor.
SECTIONS: dict[str, type[Settings]] = {
    "retry": RetrySettings,
    "circuit_breaker": CircuitBreakerSettings,
    "degradation": DegradationSettings,
    "timeout": TimeoutSettings,
    "bulkhead": BulkheadSettings,
}

Given = Mapping[str, Any]

#: What a manager decides by; the other options of the section say what is answered.
HEALTH = (
    "auto_degradation_enabled",
    "degradation_threshold",
    "recovery_threshold",
    "monitoring_interval",
    "minimum_calls",
    "window_size",
    "trickle_interval",
)
CACHE = ("cache_ttl", "fallback_ttl", "cache_size")
ANSWERS = ("fallback", "on", "fallback_limit")


class Judge(NamedTuple):
    """Who decides on options: a room's configuration, or a function that raises as one does.

    options: those it knows. company: what an option needs beside it, so that only its own value can be objected to.
    together: options that have to agree with each other.
    """

    config: Callable[..., object]
    options: tuple[str, ...]
    company: Mapping[str, Given] = {}
    together: tuple[tuple[str, ...], ...] = ()

    def objection(self, given: Given) -> str:
        """What the room says against these values; empty if nothing."""
        try:
            self.config(**given)
        except Exception as error:
            return str(error) or type(error).__name__
        return ""

    def alone(self, given: Given) -> dict[str, str]:
        """The objections to single options."""
        said = {
            name: self.objection({**self.company.get(name, {}), name: given[name]})
            for name in self.options
            if name in given
        }
        return {name: text for name, text in said.items() if text}

    def all_together(self, given: Given) -> Iterator[tuple[tuple[str, ...], str]]:
        """The objections to options that are fine alone."""
        for group in self.together:
            if all(name in given for name in group):
                yield group, self.objection({name: given[name] for name in group})


def _cache_config(cache_size: Any = None, **seconds: Any) -> None:
    check.count("cache_size", cache_size, none="the default")
    given = {name: value for name, value in seconds.items() if value is not None}
    CachedDegradation({}, **given)
    for name, value in {**given, "cache_size": cache_size}.items():
        if value is not None and "cache_ttl" not in given:
            raise check.bad(name, value, "needs cache_ttl=, without which no answers are kept")


def _answer_config(on: Any = Exception, fallback_limit: Any = None) -> None:
    DegradeConfig(None, on, fallback_limit=fallback_limit)


def _total_config(total: Any = 1.0, method: str = "thread", max_abandoned: int = 64) -> None:
    if not hasattr(total, "current_limit"):  # a SmartTimeout
        check.seconds("total", total, positive=True)
    TimeoutConfig(total, method, max_abandoned)


def _client_config(total: Any = None, **limits: Any) -> None:
    whole = None if total is None or hasattr(total, "current_limit") else check.seconds("total", total)
    for name, limit in limits.items():
        own = check.optional_seconds(name, limit, positive=True)
        if own is not None and whole is not None and own > whole:
            raise check.bad(name, own, f"must not exceed total={whole!r}, which ends the call before")


JUDGES: dict[str, tuple[Judge, ...]] = {
    "retry": (
        Judge(
            RetryConfig,
            names(RetrySettings),
            {"base_delay": {"max_delay": check.LONGEST}, "max_delay": {"base_delay": 0}},
            (("base_delay", "max_delay"),),
        ),
    ),
    "circuit_breaker": (
        Judge(
            CircuitBreakerConfig,
            names(CircuitBreakerSettings),
            {
                "minimum_calls": {"window_duration": 1},
                "slow_call_rate_threshold": {"slow_call_duration": 1},
                "max_recovery_timeout": {"recovery_timeout": 0},
            },
            (
                ("window_size", "window_duration"),
                ("slow_call_rate_threshold", "slow_call_duration"),
                ("minimum_calls", "window_size", "window_duration", "failure_rate_threshold", "slow_call_duration"),
                ("max_recovery_timeout", "recovery_timeout"),
            ),
        ),
    ),
    "degradation": (
        Judge(
            DegradationConfig,
            HEALTH,
            {
                "degradation_threshold": {"recovery_threshold": 0.0},
                "recovery_threshold": {"degradation_threshold": math.nextafter(1, 0)},
                "minimum_calls": {"window_size": sys.maxsize},
                "window_size": {"minimum_calls": 1},
            },
            (("degradation_threshold", "recovery_threshold"), ("minimum_calls", "window_size")),
        ),
        Judge(
            _cache_config,
            CACHE,
            {"fallback_ttl": {"cache_ttl": 1}, "cache_size": {"cache_ttl": 1}},
            (("cache_ttl", "fallback_ttl"), ("cache_ttl", "cache_size")),
        ),
        Judge(_answer_config, ("on", "fallback_limit")),
    ),
    "timeout": (
        Judge(_total_config, ("total", "method", "max_abandoned")),
        Judge(_client_config, CLIENT_LIMITS, {}, tuple((name, "total") for name in CLIENT_LIMITS)),
    ),
    "bulkhead": (Judge(BulkheadConfig, names(BulkheadSettings)),),
}

_OPTION = re.compile(r"(\w+)(=.*)", re.DOTALL)


def problems(
    strategy: RecoveryStrategyConfig, written: Mapping[str, Any] | None = None, *, live: bool = False
) -> list[Problem]:
    """Everything that is wrong with a strategy, section by section.

    written: the options that were written, by section; by default those that are not as in no strategy at all.
    live: the strategy is for policies that are there, whose options those left out are: only single ones are judged.
    """
    found = list(_name_problems(strategy.name))
    for section, kind in SECTIONS.items():
        settings = getattr(strategy, section)
        found += (unknown(path, names(kind)) for path in strategy.unknown if path[0] == section)
        if isinstance(settings, kind):
            options = _changed(settings) if written is None else written.get(section) or ()
            found += _section_problems(section, settings, options, live)
        elif settings is not None:
            remedy = f"must be a {kind.__name__}, a dict of options, or None for a pattern that is not used"
            found.append(problem([section], settings, remedy))
    if not live and all(getattr(strategy, section) is None for section in SECTIONS):
        found.append(Problem((), f"all patterns are switched off; use at least one of {', '.join(SECTIONS)}"))
    return found


def _name_problems(name: Any) -> Iterator[Problem]:
    try:
        check.policy_name(name)
    except Exception as error:  # as the judge's, also a repr that fails
        yield problem(["name"], name, str(error).rpartition(": ")[2])


def _changed(settings: Settings) -> tuple[str, ...]:
    return tuple(differing(type(settings)(), settings, names(settings)))


def _section_problems(section: str, settings: Settings, written: Container[str], live: bool) -> list[Problem]:
    """Every problem of a section's settings, with paths from the section on."""
    given, found = {}, []
    for name, value in values(settings):
        try:
            given[name] = _bounded(name, resolved(name, value))
        except ConfigurationError as error:
            found.append(problem((name,), value, str(error)))
    found += _alone(section, settings, given)
    fine = {name: value for name, value in given.items() if not any(name in one.path for one in found)}
    if not live:
        found += _together(section, fine, written)
    return [one.under(section) for one in found]


class _Container:
    """Stands for a list or the like where none is allowed, as those who object to it show it, at whatever size."""

    def __init__(self, value: Any) -> None:
        self.text = shown(value)

    def __repr__(self) -> str:
        return self.text


def _bounded(name: str, value: Any) -> Any:
    allowed = name == "fallback" or name in FILTERS
    return _Container(value) if isinstance(value, (list, tuple, dict, set)) and not allowed else value


def _alone(section: str, settings: Settings, given: Given) -> Iterator[Problem]:
    for judge in JUDGES[section]:
        for name, said in judge.alone(given).items():
            yield problem((name,), getattr(settings, name), _without_value(said, name, given[name]))


def _without_value(said: str, name: str, value: Any) -> str:
    """The objection without `name=value: ` in front, which it shows at full length."""
    try:
        return said.removeprefix(f"{name}={value!r}: ")
    except Exception:  # a repr that fails
        return said


def _together(section: str, fine: Given, written: Container[str]) -> Iterator[Problem]:
    said = {text: group for judge in JUDGES[section] for group, text in judge.all_together(fine) if text}
    for text, group in said.items():
        option = _OPTION.fullmatch(text)
        yield _between(option[1], option[2], group, fine, written) if option else Problem((), f": {text}")


def _between(name: str, said: str, group: tuple[str, ...], fine: Given, written: Container[str]) -> Problem:
    """A problem between options, as one of an option that was written."""
    left_out = [other for other in group if other not in written]
    guilty = next((other for other in group if other in written and f"{other}=" in said), name)
    if name in written or guilty == name:
        for other in left_out:
            said = said.replace(f" {other}={fine[other]!r}", f" {other}={fine[other]!r} (default)")
        return Problem((name,), said)
    value, _, remedy = said.partition(": ")
    return Problem((guilty,), f"={shown(fine[guilty])}: does not fit {name}{value} (default), which {remedy}")
