"""Faults that really happen, and time that passes when it is told to.

with inject("payments", faults.NetworkFailure("reset"), rate=0.3, seed=7) as injection:
    exercise_the_service()
assert injection.fired > 0
"""

from __future__ import annotations

from typing import TYPE_CHECKING as _TYPE_CHECKING

if _TYPE_CHECKING:
    from resilient.testing import faults, scenarios
    from resilient.testing.capturing import capture_events, instant
    from resilient.testing.clocks.virtual_clock import VirtualClock
    from resilient.testing.files import load_scenarios
    from resilient.testing.guard import InjectionRefusedError
    from resilient.testing.injection import Injection, inject
    from resilient.testing.network.proxy import FaultProxy
    from resilient.testing.network.proxy_faults import ProxyFault
    from resilient.testing.recovery.collector import RecoveryMetricsCollector
    from resilient.testing.recovery.configs import ErrorInjectionConfig, ErrorInjectionType
    from resilient.testing.recovery.expectations import ExpectedRecoveryBehavior, Probe, RecoveryMode, SuccessCriteria
    from resilient.testing.recovery.framework import RecoveryTestFramework
    from resilient.testing.recovery.report import TestReport
    from resilient.testing.recovery.result import (
        Check,
        FaultRecord,
        Operation,
        Phase,
        RecoveryTestResult,
        TestStatus,
        TimelineEvent,
    )
    from resilient.testing.recovery.scenario import RecoveryTestScenario
    from resilient.testing.simulation import Simulation, simulate
    from resilient.testing.timing import InjectionTiming, Moment

__all__ = [
    "Check",
    "ErrorInjectionConfig",
    "ErrorInjectionType",
    "ExpectedRecoveryBehavior",
    "FaultProxy",
    "FaultRecord",
    "Injection",
    "InjectionRefusedError",
    "InjectionTiming",
    "Moment",
    "Operation",
    "Phase",
    "Probe",
    "ProxyFault",
    "RecoveryMetricsCollector",
    "RecoveryMode",
    "RecoveryTestFramework",
    "RecoveryTestResult",
    "RecoveryTestScenario",
    "Simulation",
    "SuccessCriteria",
    "TestReport",
    "TestStatus",
    "TimelineEvent",
    "VirtualClock",
    "capture_events",
    "faults",
    "inject",
    "instant",
    "load_scenarios",
    "scenarios",
    "simulate",
]

#: Loaded when first used: the plugin is loaded wherever pytest is, and need not bring all of this along.
_LAZY = {
    "Check": "recovery.result",
    "ErrorInjectionConfig": "recovery.configs",
    "ErrorInjectionType": "recovery.configs",
    "ExpectedRecoveryBehavior": "recovery.expectations",
    "FaultProxy": "network.proxy",
    "FaultRecord": "recovery.result",
    "Injection": "injection",
    "InjectionRefusedError": "guard",
    "InjectionTiming": "timing",
    "Moment": "timing",
    "Operation": "recovery.result",
    "Phase": "recovery.result",
    "Probe": "recovery.expectations",
    "ProxyFault": "network.proxy_faults",
    "RecoveryMetricsCollector": "recovery.collector",
    "RecoveryMode": "recovery.expectations",
    "RecoveryTestFramework": "recovery.framework",
    "RecoveryTestResult": "recovery.result",
    "RecoveryTestScenario": "recovery.scenario",
    "Simulation": "simulation",
    "SuccessCriteria": "recovery.expectations",
    "TestReport": "recovery.report",
    "TestStatus": "recovery.result",
    "TimelineEvent": "recovery.result",
    "VirtualClock": "clocks.virtual_clock",
    "capture_events": "capturing",
    "faults": "",
    "inject": "injection",
    "instant": "capturing",
    "load_scenarios": "files",
    "scenarios": "",
    "simulate": "simulation",
}


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = _LAZY[name]
    found = getattr(import_module(f"{__name__}.{home}"), name) if home else import_module(f"{__name__}.{name}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
