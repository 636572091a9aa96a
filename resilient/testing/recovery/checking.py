"""What can be said against a scenario before it runs."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from resilient import _checks as check
from resilient.testing.recovery.configs import NETWORK, ErrorInjectionConfig
from resilient.testing.recovery.expectations import ExpectedRecoveryBehavior, Probe, RecoveryMode

if TYPE_CHECKING:
    from resilient.testing.recovery.scenario import RecoveryTestScenario


def check_scenario(scenario: RecoveryTestScenario) -> None:
    """Raise ConfigurationError, or TypeError for what is of a wrong kind, with what to do instead."""
    for name in ("id", "name"):
        value = getattr(scenario, name)
        if not isinstance(value, str) or not value.strip():
            raise check.bad(name, value, "must be a text, not empty")
    if not callable(scenario.workload):
        raise TypeError(f"workload={scenario.workload!r}: must be a function without arguments")
    _check_call("workload", scenario.workload, 0)
    if not isinstance(scenario.description, str):
        raise check.bad("description", scenario.description, "must be a text")
    _check_injections(scenario.error_injection)
    if not isinstance(scenario.expected_recovery, ExpectedRecoveryBehavior):
        raise check.bad("expected_recovery", scenario.expected_recovery, "must be ExpectedRecoveryBehavior(...)")
    _check_numbers(scenario)
    _check_times(scenario)
    _check_helpers(scenario)


def _check_numbers(scenario: RecoveryTestScenario) -> None:
    object.__setattr__(scenario, "timeout", check.seconds("timeout", scenario.timeout, positive=True))
    for name in ("baseline", "fault", "observe"):
        object.__setattr__(scenario, name, check.optional_seconds(name, getattr(scenario, name), positive=True))
    check.count("concurrency", scenario.concurrency)
    check.count("steady_probes", scenario.steady_probes)
    check.number("weight", scenario.weight, least=0)
    if scenario.load is not None and check.number("load", scenario.load, least=0) == 0:
        raise check.bad("load", scenario.load, "must be calls per second, greater than 0")
    if not any(scenario.virtual_time is one for one in (True, False, None)):
        raise check.bad("virtual_time", scenario.virtual_time, "must be True, False or None")


def _check_times(scenario: RecoveryTestScenario) -> None:
    """What could never happen in the time there is."""
    for one in scenario.injections:
        if one.source == NETWORK and scenario.virtual_time is True:
            raise check.bad("virtual_time", True, "a FaultProxy has real sockets, which know no virtual time; use None")
        if scenario.fault is not None and one.during is not None and one.during[0] >= scenario.fault:
            raise check.bad("during", one.during, f"begins when the fault phase, fault={scenario.fault:g}, is over")


def _check_helpers(scenario: RecoveryTestScenario) -> None:
    expected = scenario.expected_recovery
    for name in ("checker", "recover"):
        if (given := getattr(scenario, name)) is None:
            continue
        if not callable(given):
            raise TypeError(f"{name}={given!r}: must be a function")
        _check_call(name, given, int(name == "checker"))
    if scenario.checker is not None and inspect.iscoroutinefunction(scenario.checker):
        raise TypeError("checker: must not be async; it is called once, with the history")
    if expected.success_criteria.data_consistency_required and scenario.checker is None:
        raise check.bad("checker", None, "data_consistency_required needs a function of the history that says yes")
    if expected.recovery_mode is not RecoveryMode.AUTOMATIC and scenario.recover is None:
        mode = expected.recovery_mode.name
        raise check.bad("recover", None, f"RecoveryMode.{mode} needs a function that makes it well")
    if not isinstance(scenario.probes, Sequence):
        raise check.bad("probes", scenario.probes, "must be a tuple of Probe(...) objects")
    object.__setattr__(scenario, "probes", tuple(scenario.probes))
    for probe in scenario.probes:
        if not isinstance(probe, Probe):
            raise check.bad("probes", probe, "must be Probe(...) objects")


def _check_injections(given: Any) -> None:
    if isinstance(given, (str, Mapping)) or not isinstance(given, (ErrorInjectionConfig, Sequence)):
        raise check.bad("error_injection", given, "must be ErrorInjectionConfig(...), or several")
    several = [given] if isinstance(given, ErrorInjectionConfig) else list(given)
    if not several or not all(isinstance(one, ErrorInjectionConfig) for one in several):
        raise check.bad("error_injection", given, "must be ErrorInjectionConfig(...), or several")


def _check_call(name: str, function: Any, arguments: int) -> None:
    try:
        inspect.signature(function).bind(*[None] * arguments)
    except TypeError as error:
        given = "the history as its only argument" if arguments else "no arguments"
        remedy = f"must be callable with {given} ({error}); write a lambda around it"
        raise check.bad(name, getattr(function, "__qualname__", function), remedy) from None
    except ValueError:  # a builtin that does not tell
        return
