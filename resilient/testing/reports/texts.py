"""How numbers, moments and other people's texts are shown in all reports."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from resilient.testing.recovery.result import TestStatus

NOTHING = "–"  # noqa: RUF001 - a dash where there is no value
RESULTS: dict[bool | None, str] = {True: "ok", False: "failed", None: "undecided"}
STATUSES = tuple(TestStatus)


def seconds(value: float | None) -> str:
    """A duration with a unit that suits it."""
    if value is None or not math.isfinite(value):
        return NOTHING
    if value == 0 or abs(value) >= 999.5:
        return f"{value:,.0f} s"
    if abs(value) >= 0.9995:
        return f"{value:.3g} s"
    if abs(value) >= 0.0000005:
        return f"{_amount(value * 1000)} ms"
    return "0 ms"


def moment(value: float | None) -> str:
    """A time since the scenario began, always in seconds, as the axis has it."""
    if value is None or not math.isfinite(value):
        return NOTHING
    return f"{value:,.0f} s" if abs(value) >= 1000 else f"{0.0 if abs(value) < 1e-6 else value:.4g} s"


def percent(value: float | None) -> str:
    """A share; only all is 100 %, and only none is 0 %."""
    if value is None or not math.isfinite(value):
        return NOTHING
    shown = f"{value:.1%}"
    shown = "99.9%" if shown == "100.0%" and value < 1 else "0.1%" if shown == "0.0%" and value > 0 else shown
    return shown.replace(".0%", "%").replace("%", " %")


def count(value: int, one: str, many: str = "") -> str:
    """So many of something."""
    return f"{value:,} {one if value == 1 else many or one + 's'}"


def score(value: float) -> str:
    """A resilience score; only a full one is 100."""
    return "99" if 99 <= value < 100 else f"{value:.0f}"


def when(unix: float) -> str:
    """A Unix time, in words, in UTC."""
    return f"{_calendar(unix):%Y-%m-%d %H:%M:%S} UTC"


def stamp(unix: float) -> str:
    """A Unix time as JUnit has it: in UTC, without saying so."""
    return f"{_calendar(unix):%Y-%m-%dT%H:%M:%S}"


def _calendar(unix: float) -> datetime:
    try:
        return datetime.fromtimestamp(unix, UTC)
    except (OverflowError, ValueError, OSError):  # a clock, or a file, that says what no calendar holds
        return datetime.fromtimestamp(0, UTC)


def _amount(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}" if abs(value) >= 0.001 else f"{value:.4f}"
