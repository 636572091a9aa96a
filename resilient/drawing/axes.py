"""Round numbers along an axis."""

from __future__ import annotations

import math


def nice(most: float) -> float:
    """The round number with which an axis ends that has to hold `most`."""
    if most <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(most))
    return next(power * one for one in (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 12) if power * one >= most * 1.02)


def ticks(end: float, wanted: int) -> list[float]:
    """Round numbers from 0 to `end`, about as many as `wanted`."""
    rough = end / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * one for one in (1, 2, 2.5, 5, 10) if power * one >= rough * 0.999)
    return [number * step for number in range(int(end / step + 1e-9) + 1)]
