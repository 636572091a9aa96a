"""What a FaultProxy does to the connections that go through it, and the draws that decide which ones it meets."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal

from resilient import _checks as check
from resilient.errors import ConfigurationError

Way = Literal["upstream", "downstream"]
UP: Way = "upstream"
DOWN: Way = "downstream"
_WAYS: dict[str, tuple[Way, ...]] = {UP: (UP,), DOWN: (DOWN,), "both": (UP, DOWN)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What one fault does. Durations are seconds, sizes bytes; None: not that."""

    latency: float | None = None
    jitter: float | None = None
    bandwidth: float | None = None
    reset_after: int | None = None
    limit_data: int | None = None
    rate: float = 1.0
    direction: str | None = None
    holds: bool = False
    refuses: bool = False

    def __str__(self) -> str:
        if self.holds or self.refuses:
            return "blackhole" if self.holds else "refuse"
        set_ones = (one.name for one in fields(self) if getattr(self, one.name) != one.default)
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in set_ones)


def checked(given: dict[str, Any]) -> Settings:
    """The settings that `add` was given; raises ConfigurationError for what cannot work."""
    latency = check.optional_seconds("latency", given["latency"])
    jitter = check.optional_seconds("jitter", given["jitter"])
    bandwidth = None if given["bandwidth"] is None else check.number("bandwidth", given["bandwidth"], least=1)
    reset_after = check.count("reset_after", given["reset_after"], least=0, none="no reset")
    limit_data = check.count("limit_data", given["limit_data"], least=0, none="no limit")
    if given["rate"] is None:
        raise check.bad("rate", None, "must be a fraction from 0 to 1; leave it out for all connections")
    if given["direction"] is not None and given["direction"] not in _WAYS:
        raise check.bad("direction", given["direction"], f"must be one of {', '.join(map(repr, _WAYS))}")
    if {latency, jitter, bandwidth, reset_after, limit_data} == {None}:
        raise ConfigurationError("add(): name what to do: latency=, jitter=, bandwidth=, reset_after= or limit_data=")
    if reset_after is not None and limit_data is not None:
        raise check.bad("limit_data", limit_data, f"goes not with reset_after={reset_after}: a connection ends one way")
    return Settings(
        latency=latency,
        jitter=jitter,
        bandwidth=bandwidth,
        reset_after=reset_after,
        limit_data=limit_data,
        rate=check.share("rate", given["rate"], zero=True) or 0.0,
        direction=given["direction"],
    )


class ProxyFault:
    """A fault of a FaultProxy: `remove()` ends it, `fired` says on how many connections it had an effect.

    `connections` are their numbers, in the order in which the proxy accepted them, from 0. Which ones a fault with a
    `rate` meets is drawn from the proxy's seed, the fault's own number and the connection's, and from nothing else.
    """

    __slots__ = ("_end", "_met", "_seed", "active", "number", "settings")

    def __init__(self, settings: Settings, seed: int, number: int, end: Callable[[ProxyFault], None]) -> None:
        self.settings = settings
        self.number = number
        self.active = True
        self._seed = seed
        self._end = end
        self._met: dict[int, None] = {}

    def remove(self) -> None:
        """End this fault, at once; nothing if it has ended."""
        self._end(self)

    @property
    def fired(self) -> int:
        """The number of connections on which it had an effect; for `refuse`, of those that were open and got reset."""
        return len(self._met)

    @property
    def connections(self) -> tuple[int, ...]:
        """The numbers of those connections."""
        return tuple(sorted(self._met))

    def __repr__(self) -> str:
        state = "" if self.active else ", removed"
        return f"<ProxyFault {self.number}: {self.settings}, fired={self.fired}{state}>"

    # What the proxy asks

    def meets(self, index: int) -> bool:
        """Whether it concerns the connection with this number."""
        rate = self.settings.rate
        return rate >= 1 or self._draws(index).random() < rate

    def delays(self, way: Way) -> bool:
        """Whether it makes late what flows this way."""
        return bool(self.settings.latency or self.settings.jitter) and self._concerns(way, DOWN)

    def slows(self, way: Way) -> bool:
        """Whether it limits how much flows this way in a second; a slow line is slow both ways."""
        return self.settings.bandwidth is not None and self._concerns(way, "both")

    def cuts(self, way: Way) -> bool:
        """Whether it ends the connection after so many bytes this way."""
        return self.cuts_after is not None and self._concerns(way, DOWN)

    @property
    def cuts_after(self) -> int | None:
        """The bytes after which it ends a connection."""
        settings = self.settings
        return settings.limit_data if settings.reset_after is None else settings.reset_after

    def note(self, index: int) -> None:
        """Count an effect on a connection."""
        self._met[index] = None

    def draws_for(self, index: int, way: Way) -> random.Random:
        """The random numbers of its delays on one way of a connection."""
        return self._draws(index, way)

    def delay(self, draws: random.Random) -> float:
        """The seconds by which it delays what comes next."""
        jitter = self.settings.jitter
        swing = draws.uniform(-jitter, jitter) if jitter else 0.0
        return max(0.0, (self.settings.latency or 0.0) + swing)

    def _concerns(self, way: Way, default: str) -> bool:
        return way in _WAYS[self.settings.direction or default]

    def _draws(self, *about: object) -> random.Random:
        return random.Random(":".join(map(str, (self._seed, self.number, *about))))
