"""Faults that really happen, and time that passes when it is told to.

with inject("payments", faults.NetworkFailure("reset"), rate=0.3, seed=7) as injection:
    exercise_the_service()
assert injection.fired > 0
"""

from __future__ import annotations

from resilient.testing import faults
from resilient.testing.capturing import capture_events, instant
from resilient.testing.guard import InjectionRefusedError
from resilient.testing.injection import Injection, inject
from resilient.testing.proxy import FaultProxy
from resilient.testing.proxy_faults import ProxyFault
from resilient.testing.timing import InjectionTiming, Moment
from resilient.testing.virtual_clock import VirtualClock

__all__ = [
    "FaultProxy",
    "Injection",
    "InjectionRefusedError",
    "InjectionTiming",
    "Moment",
    "ProxyFault",
    "VirtualClock",
    "capture_events",
    "faults",
    "inject",
    "instant",
]
