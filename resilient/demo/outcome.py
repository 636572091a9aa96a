"""What a run leaves behind, and the verdict on it: data and one pure function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from resilient.demo.lines import Line
from resilient.demo.narrator import Transition
from resilient.demo.settings import Settings
from resilient.demo.traffic import Second


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of the story as it happened: from `starts` to `ends` seconds after the traffic began."""

    name: str
    starts: float
    ends: float
    text: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the service recovered through the breaker, and a sentence on it."""

    recovered: bool
    text: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything a report can be made of; times are seconds since the traffic began."""

    settings: Settings
    phases: tuple[Phase, ...]
    killed_at: float
    restarted_at: float
    lines: tuple[Line, ...]
    transitions: tuple[Transition, ...]
    event_counts: dict[str, int]
    seconds: tuple[Second, ...]
    calls: int
    snapshot: dict[str, Any]
    verdict: Verdict


def judge(transitions: Sequence[Transition], killed_at: float, ok_since: int) -> Verdict:
    """Recovered means: after the kill the breaker probed and closed, and `ok_since` then calls were answered again."""
    after = [(change.old, change.new) for change in transitions if change.at >= killed_at]
    if not any(change.new == "open" for change in transitions):
        return Verdict(False, "NOT RECOVERED: the breaker never opened, so the outage went unnoticed.")
    if ("open", "half_open") not in after:
        return Verdict(False, "NOT RECOVERED: the breaker opened, but never let a probe through.")
    if after[-1] != ("half_open", "closed"):
        state = after[-1][1].replace("_", "-")
        return Verdict(False, f"NOT RECOVERED: too many probes failed, the breaker is still {state}.")
    if not ok_since:
        return Verdict(False, "NOT RECOVERED: the breaker closed, but the service has answered no call since.")
    took = transitions[-1].at - killed_at
    return Verdict(
        True,
        f"RECOVERED: OPEN -> HALF_OPEN -> CLOSED within {took:.1f} s of the kill; "
        f"calls answered by the service since: {ok_since}.",
    )
