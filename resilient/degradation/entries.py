"""How a `CachedDegradation` keeps an answer in a mapping."""

from __future__ import annotations

from typing import Any, NamedTuple


class Entry(NamedTuple):
    """An answer, and when it was given, on the monotonic clock. Of our own making, so that it needs no checking."""

    stored_at: float
    answer: Any
