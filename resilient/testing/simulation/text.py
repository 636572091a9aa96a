"""Numbers of a simulation as people read them."""

from __future__ import annotations


def amount(value: float) -> str:
    """A number with as many digits as mean something."""
    if value and abs(value) < 0.1:
        return f"{value:.2g}"
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.3g}"


def seconds(value: float) -> str:
    """A duration in seconds or milliseconds."""
    return f"{amount(value * 1000)} ms" if 0 < value < 1 else f"{amount(value)} s"


def recovery(took: float | None) -> str:
    """How long a recovery took, in words."""
    if took is None:
        return "not recovered by the end"
    return f"recovered {seconds(took)} after the outage" if took else "recovered at once"
