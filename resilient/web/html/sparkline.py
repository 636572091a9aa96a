"""The last two minutes of a policy as a small drawing, and in words."""

from __future__ import annotations

from resilient.drawing.markup import Markup, tag
from resilient.web.html.parts import per_second

#: Seconds that the drawing shows, which are its width, and its height.
WIDTH, HEIGHT = 120, 30
_BASE, _TOP = 28.5, 2.0


def sparkline(points: list[tuple[float, float, float]], *, counts_calls: bool = True) -> Markup:
    """Calls per second as an area, and those that did not go well before it."""
    bad = [(at, wrong) for at, _, wrong in points]
    calls = [(at, all_) for at, all_, _ in points] if counts_calls else bad
    most = max((value for _, value in calls), default=0.0)
    what = "Calls" if counts_calls else "Calls that took too long"
    words = f"{what} in the last two minutes: at most {per_second(most)} per second" if most else f"{what}: none"
    drawn: list[Markup | None] = [
        tag("path", d=f"M0 {_BASE}H{WIDTH}", class_="base", vector_effect="non-scaling-stroke")
    ]
    if most > 0:
        drawn = [_area(calls, most, "calls"), _area(bad, most, "failed"), *drawn]
    return tag(
        "svg",
        tag("title", words),
        *drawn,
        class_="spark",
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        preserveAspectRatio="none",
        role="img",
        aria_label=words,
    )


def _area(values: list[tuple[float, float]], most: float, look: str) -> Markup | None:
    if not any(value for _, value in values):
        return None
    steps, before = [f"M{_x(values[0][0] - 2)} {_BASE}"], None
    for at, value in values:
        y = f"{_BASE - (_BASE - _TOP) * value / most:.1f}"
        steps.append(f"{'' if y == before else f'V{y}'}H{_x(at)}")
        before = y
    return tag("path", d=f"{''.join(steps)}V{_BASE}z", class_=look)


def _x(at: float) -> str:
    return f"{min(max(WIDTH + at, 0.0), WIDTH):.0f}"
