"""Reading a result: what happened while the fault was in force, and what of it a policy has told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from resilient.testing.recovery.expectations import Probe
from resilient.testing.recovery.result import Operation, RecoveryTestResult, TimelineEvent
from resilient.testing.scenarios.subject import Subject

Judge = Callable[[RecoveryTestResult], tuple[bool | None, str]]


def window(result: RecoveryTestResult) -> tuple[float, float]:
    """From when to when the fault was in force, in seconds since the scenario began."""
    fault = result.faults[0]
    start = result.phases[0].end if fault.start is None else fault.start
    ends = [one.end for one in result.phases if one.name == "fault"]
    return start, ends[0] if ends else start


def told(result: RecoveryTestResult, event: str, policy: Any, /, **data: Any) -> list[TimelineEvent]:
    """The events of one kind that a policy has published, those with these data."""
    return [
        one
        for one in result.events
        if one.kind == event
        and one.name == policy.name
        and all(one.data.get(name) == value for name, value in data.items())
    ]


def during(result: RecoveryTestResult) -> Sequence[Operation]:
    """The operations that began while the fault was in force."""
    return [one for one in result.operations if one.phase == "fault"]


def needing(subject: Subject, kind: str, name: str, required: str, judge: Judge, weight: float = 5.0) -> Probe:
    """A probe that fails where the function has no such policy."""
    if subject.first(kind) is not None:
        return Probe(name, required, judge, weight)
    return Probe(name, required, lambda result: (False, subject.lacks(kind)), weight)
