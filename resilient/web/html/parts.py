"""Small parts of the page: numbers, moments, badges, tables and forms."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from resilient.drawing.markup import Markup, join, tag

NOTHING = "–"  # noqa: RUF001 - a dash where there is no value

#: Shapes that tell states apart for eyes that see no colour; each fills a square of 12 by 12.
_SHAPES = {
    "dot": "M6 1a5 5 0 1 0 .01 0z",
    "square": "M1 1h10v10h-10z",
    "triangle": "M6 0.5l5.8 11h-11.6z",
    "diamond": "M6 0l6 6-6 6-6-6z",
    "ring": "M6 0a6 6 0 1 0 .01 0zM6 3a3 3 0 1 1-.01 0z",
    "bar": "M0 4.5h12v3h-12z",
}
#: What a state is called, the colours it has, and its shape.
STATES = {
    "open": ("Open", "bad", "square"),
    "isolated": ("Isolated", "unsure", "diamond"),
    "half_open": ("Half-open", "late", "triangle"),
    "closed": ("Closed", "good", "dot"),
    "disabled": ("Disabled", "calm", "ring"),
    "full": ("Full", "late", "triangle"),
    "rejecting": ("Rejecting", "late", "triangle"),
    "shut": ("Shut", "calm", "ring"),
    "free": ("Free", "good", "dot"),
    "stuck": ("Stuck threads", "late", "triangle"),
    "too slow": ("Too slow", "late", "triangle"),
    "giving up": ("Giving up", "late", "triangle"),
    "degraded": ("Degraded", "late", "triangle"),
    "fine": ("Fine", "good", "dot"),
    "pending": ("Pending", "calm", "ring"),
    "running": ("Running", "calm", "bar"),
    "waiting_approval": ("Waiting for approval", "late", "triangle"),
    "completed": ("Completed", "good", "dot"),
    "failed": ("Failed", "bad", "square"),
    "cancelled": ("Cancelled", "calm", "ring"),
    "rolling_back": ("Rolling back", "late", "bar"),
    "rolled_back": ("Rolled back", "unsure", "diamond"),
    "rollback_failed": ("Rollback failed", "bad", "square"),
    "normal": ("Normal", "good", "dot"),
    "partial": ("Partly degraded", "late", "triangle"),
}
KINDS = {
    "circuit_breaker": "Circuit breaker",
    "bulkhead": "Bulkhead",
    "retry": "Retry",
    "timeout": "Timeout",
    "degrade": "Degradation",
}


def shapes() -> Markup:
    """What the badges use; once a page, outside of what is swapped."""
    drawn = (
        tag("symbol", tag("path", d=path, fill_rule="evenodd"), id=f"shape-{name}", viewBox="0 0 12 12")
        for name, path in _SHAPES.items()
    )
    return tag("svg", *drawn, class_="defs", aria_hidden="true")


def badge(state: str) -> Markup:
    """A state, by its word, its colour and its shape."""
    words, look, shape = STATES.get(state, (state, "calm", "ring"))
    icon = tag("svg", tag("use", href=f"#shape-{shape}"), aria_hidden="true")
    return tag("span", icon, words, class_=f"badge {look}")


def per_second(value: float | None) -> str:
    """A rate, as exact as it can be read."""
    if value is None:
        return NOTHING
    if value == 0:
        return "0"
    if value >= 99.5:
        return f"{value:,.0f}"
    return "<0.01" if value < 0.01 else f"{value:.2g}" if value < 10 else f"{value:.1f}"


def share(value: float | None) -> str:
    """A share in per cent; only all is 100 %, and only none is 0 %."""
    if value is None:
        return NOTHING
    rounded = f"{value:.0%}"
    if (rounded == "100%" and value < 1) or (rounded == "0%" and value > 0):
        return ">99 %" if value > 0.5 else "<1 %"
    return rounded.replace("%", " %")


def moment(value: datetime | str | None) -> Markup | str:
    """A time of day in UTC, with its date for machines and for who points at it."""
    if value is None:
        return NOTHING
    when = datetime.fromisoformat(value) if isinstance(value, str) else value
    stamp = when.isoformat(timespec="seconds")
    return tag("time", f"{when:%H:%M:%S}", datetime=stamp, title=f"{when:%Y-%m-%d %H:%M:%S} UTC")


def ago(seconds: float) -> str:
    """How long it lasts, in words."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def shown(value: Any) -> str:
    """A value of a metric or an option."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    return ", ".join(map(shown, value)) or "none" if isinstance(value, list) else str(value)


def pairs(values: Mapping[str, Any]) -> Markup:
    """Names with their values."""
    return tag(
        "dl",
        *(tag("div", tag("dt", name.replace("_", " ")), tag("dd", shown(value))) for name, value in values.items()),
        class_="pairs",
    )


def ident(*parts: str) -> str:
    """A short name for an element that stays the same as long as what it is about."""
    return "e" + hashlib.blake2s("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()


def entry(**attributes: Any) -> Markup:
    """An input."""
    return Markup(tag("input", **attributes).removesuffix("</input>"))


def form(base: str, action: str, csrf: str, hidden: Mapping[str, str], *children: object) -> Markup:
    """A form for an action."""
    fields = {**hidden, "csrf": csrf}
    unseen = (entry(type="hidden", name=name, value=value) for name, value in fields.items())
    return tag("form", *unseen, *children, method="post", action=f"{base}actions/{action}")


def field(words: str, name: str, ident: str, **more: Any) -> Markup:
    """A labelled input."""
    label = tag("label", words, for_=ident)
    return tag("div", label, entry(id=ident, name=name, autocomplete="off", **more), class_="grow")


def listed(items: Iterable[Markup]) -> Markup:
    """A list without dots."""
    return tag("ol", join(*items), class_="plain")
