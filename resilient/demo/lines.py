"""One line of the live picture, before anyone decided how it looks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Line:
    """Something that happened `at` seconds after the traffic began; `kind` is the column it is shown under."""

    at: float
    kind: str
    text: str
