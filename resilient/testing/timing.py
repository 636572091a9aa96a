"""When a fault may happen: at once, after a while, or when something is so."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from resilient import _checks as check


class Moment(NamedTuple):
    """What a condition is asked about: seconds and calls since the injection began, and the registry's pictures."""

    elapsed: float
    calls: int
    fired: int
    breakers: Mapping[str, Any]


class InjectionTiming:
    """When an injection begins: `IMMEDIATE`, `delayed(seconds)`, `random(max_seconds)` or `when(predicate)`."""

    IMMEDIATE: InjectionTiming

    def __init__(self, text: str, start: Callable[[str], float], predicate: Callable[[Moment], object] | None) -> None:
        self._text = text
        self._start = start
        self.predicate = predicate

    def start(self, seed: str) -> float:
        """Seconds from the injection's beginning until faults may happen."""
        return self._start(seed)

    @classmethod
    def delayed(cls, seconds: float) -> InjectionTiming:
        """Only after so many seconds."""
        wait = check.seconds("seconds", seconds)
        return cls(f"delayed({wait:g})", lambda seed: wait, None)

    @classmethod
    def random(cls, max_seconds: float) -> InjectionTiming:
        """Only after a time of up to so many seconds, which the seed decides."""
        most = check.seconds("max_seconds", max_seconds)
        return cls(f"random({most:g})", lambda seed: most * random.Random(f"{seed}:start").random(), None)

    @classmethod
    def when(cls, predicate: Callable[[Moment], object]) -> InjectionTiming:
        """Only while `predicate(moment)` is true: it sees `elapsed`, `calls`, `fired`, and `breakers` by name."""
        if not callable(predicate):
            raise TypeError(f"predicate={predicate!r}: must be callable")
        return cls("when(...)", lambda seed: 0.0, predicate)

    def __repr__(self) -> str:
        return f"InjectionTiming.{self._text}"


InjectionTiming.IMMEDIATE = InjectionTiming("IMMEDIATE", lambda seed: 0.0, None)
