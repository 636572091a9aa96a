"""The numbers behind a verdict: shares with what is known of them, and percentiles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

#: The 97.5 % point of the normal distribution: an interval of 95 % has it on both sides.
Z95 = 1.959963984540054


class Interval(NamedTuple):
    """Where a share lies, as far as `n` observations tell."""

    lower: float
    upper: float
    n: int

    def __str__(self) -> str:
        return f"{self.lower:.1%} to {self.upper:.1%} (95 %, n={self.n})"


def wilson(successes: int, n: int, z: float = Z95) -> Interval:
    """Wilson's score interval of a share (Wilson 1927, J. Am. Stat. Assoc. 22:209); 0 to 1 without observations."""
    if n == 0:
        return Interval(0.0, 1.0, 0)
    share, square = successes / n, z * z
    middle = (share + square / (2 * n)) / (1 + square / n)
    half = z / (1 + square / n) * math.sqrt(share * (1 - share) / n + square / (4 * n * n))
    # The ends are exact where all or none succeeded; floating point would miss them by a little.
    lower = 0.0 if successes == 0 else max(0.0, middle - half)
    upper = 1.0 if successes == n else min(1.0, middle + half)
    return Interval(lower, upper, n)


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the ordered values does not exceed (nearest rank); 0 of none."""
    if not ordered:
        return 0.0
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
