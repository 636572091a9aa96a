"""Where the faults of a scenario come from: an injection, a fault proxy, or two functions that break and mend."""

from __future__ import annotations

import dataclasses
import inspect
import math
import socket
from typing import TYPE_CHECKING, Any

from resilient.clock import CLOCK
from resilient.testing import seeds
from resilient.testing.faults import Fault
from resilient.testing.injection import Injection, inject
from resilient.testing.network.proxy import FaultProxy
from resilient.testing.recovery.configs import HOOKS, IN_PROCESS, NETWORK, ErrorInjectionConfig, fault_of
from resilient.testing.recovery.result import FaultRecord

if TYPE_CHECKING:
    from contextlib import ExitStack


class Source:
    """One fault of a scenario. `start` and `end` count from the beginning of the fault phase; end None: with it."""

    #: Whether somebody has to begin and end it in time; an injection does that by itself.
    timed = False
    allow_in_production = False

    def __init__(self, config: ErrorInjectionConfig, seed: int | str) -> None:
        self.config = config
        self.seed = seed
        # Both count from the same beginning, here as in an injection.
        self.start = max(config.injection_timing.start(f"{seed}:{self.label}"), (config.during or (0.0, 0.0))[0])
        self.end: float | None = None if config.during is None else config.during[1]
        self.began: float | None = None  # moments of the clock
        self.ended: float | None = None

    @property
    def label(self) -> str:
        """What goes wrong, in words that stay the same."""
        kind = self.config.injection_type
        return kind.label if isinstance(kind, Fault) else kind.value

    def enter(self, stack: ExitStack, opens: float, closes: float) -> None:
        """Get ready before the run; faults may happen between two moments of the clock."""

    def begin(self) -> None:
        """Break it, now."""

    def finish(self) -> None:
        """Mend it, now; again is harmless."""

    @property
    def calls(self) -> int:
        """How many calls or connections could have been hit."""
        return 0

    @property
    def fired(self) -> int:
        """How many were."""
        return 0

    @property
    def exhausted_at(self) -> float | None:
        """When the last of `max_count` happened; None: there is more to come."""
        return None

    def record(self, origin: float, until: float = math.inf) -> FaultRecord:
        """What it did; times from `origin` on, when the run ended `until` seconds later."""
        target = "the surroundings" if self.config.target is None else self.config.target
        began = self.began is not None and self.began - origin <= until
        last = self.ended if self.exhausted_at is None else self.exhausted_at
        return FaultRecord(
            target=target if isinstance(target, str) else getattr(target, "__qualname__", repr(target)),
            fault=self.label,
            rate=self.config.error_rate,
            seed=self.seed,
            # What a closed port refuses is seen as a hit only.
            calls=max(self.calls, self.fired),
            fired=self.fired,
            start=self.began - origin if began and self.began is not None else None,
            end=min(last - origin, until) if began and last is not None else None,
        )


class InProcess(Source):
    """Calls of a function, or inside a policy."""

    def __init__(self, config: ErrorInjectionConfig, seed: int | str) -> None:
        self._fault = fault_of(config)
        super().__init__(config, seed)
        self._injection: Injection | None = None

    @property
    def label(self) -> str:
        return self._fault.label

    def enter(self, stack: ExitStack, opens: float, closes: float) -> None:
        config = self.config
        start, end = config.during or (0.0, None)
        limit = closes - opens
        end = limit if end is None else min(end, limit)
        self._injection = inject(
            config.target,
            self._fault,
            config.error_rate,
            self.seed,
            config.injection_timing,
            (min(start, end), end),
            config.max_count,
            allow_in_production=self.allow_in_production,
        )
        self._injection.owned = True
        self._injection._opens = opens
        stack.enter_context(self._injection)
        self.began, self.ended = opens + self.start, opens + end

    @property
    def calls(self) -> int:
        return 0 if self._injection is None else self._injection._met

    @property
    def fired(self) -> int:
        return 0 if self._injection is None else self._injection.fired

    @property
    def exhausted_at(self) -> float | None:
        most, injection = self.config.max_count, self._injection
        return None if most is None or injection is None or injection.fired < most else injection._last_fired


class Network(Source):
    """Connections through a fault proxy."""

    timed = True

    def __init__(self, config: ErrorInjectionConfig, seed: int | str) -> None:
        super().__init__(config, seed)
        self._proxy: FaultProxy = config.target
        self._fault: Any = None
        self._first: int = self._proxy.connections
        self._before = self._after = self._refused = 0

    @property
    def label(self) -> str:
        given = ", ".join(f"{name}={value}" for name, value in self.config.parameters.items())
        return f"network({given or 'kind=reset'})"

    def begin(self) -> None:
        options = dict(self.config.parameters)
        # Connections that stand already can be hit, too.
        self._before = self._proxy.connections - self._proxy.active
        kind = options.pop("kind", None if options else "reset")
        self.began = CLOCK.monotonic()
        if kind == "refused":
            self._fault = self._proxy.refuse()
            self._refused = _is_refused(self._proxy)
        elif kind == "blackhole":
            self._fault = self._proxy.blackhole()
        else:
            if kind == "reset":
                options.setdefault("reset_after", 0)
            self._fault = self._proxy.add(rate=self.config.error_rate, **options)

    def finish(self) -> None:
        if self._fault is not None and self.ended is None:
            self._fault.remove()
            self._after = self._proxy.connections
            self.ended = CLOCK.monotonic()

    @property
    def calls(self) -> int:
        if self.began is None:
            return 0
        last: int = self._proxy.connections if self.ended is None else self._after
        return last - self._before

    @property
    def fired(self) -> int:
        if self._fault is None:
            return 0
        met: int = self._fault.fired
        # What a closed port refuses never reaches the proxy. That the port refuses was seen, and that it is used.
        is_used = self._proxy.connections > min(self._first, self._before)
        return met + (self._refused if is_used else 0)

    def record(self, origin: float, until: float = math.inf) -> FaultRecord:
        return dataclasses.replace(super().record(origin, until), target=repr(self._proxy))


def _is_refused(proxy: FaultProxy) -> int:
    try:
        socket.create_connection(proxy.address, timeout=1).close()
    except ConnectionRefusedError:
        return 1
    except OSError:
        return 0
    return 0


class Hooks(Source):
    """Two functions of the user's: `begin` breaks something, and `end` mends it."""

    timed = True

    @property
    def label(self) -> str:
        begin = self.config.parameters["begin"]
        return str(getattr(begin, "__qualname__", repr(begin)))

    def begin(self) -> None:
        self.began = CLOCK.monotonic()
        _called("begin", self.config.parameters["begin"])
        if self.ended is not None:  # by somebody who could wait no longer: what is broken only now is mended again
            self._mend()

    def finish(self) -> None:
        if self.began is not None and self.ended is None:
            self.ended = CLOCK.monotonic()
            self._mend()

    def _mend(self) -> None:
        if (end := self.config.parameters.get("end")) is not None:
            _called("end", end)

    @property
    def fired(self) -> int:
        return int(self.began is not None)

    calls = fired


def _called(name: str, hook: Any) -> None:
    said = hook()
    if inspect.isawaitable(said):
        if inspect.iscoroutine(said):
            said.close()
        raise TypeError(f"parameters: {name} is async, and nothing would have happened; give a sync function")


def source_of(config: ErrorInjectionConfig, seed: int | str | None, *, allow_in_production: bool = False) -> Source:
    """What makes the fault of a configuration happen, with `seed`, its own, or a new one."""
    chosen = seed if seed is not None else config.seed if config.seed is not None else seeds.fresh()
    source = _KINDS[config.source](config, chosen)
    source.allow_in_production = allow_in_production
    return source


_KINDS: dict[str, type[Source]] = {IN_PROCESS: InProcess, NETWORK: Network, HOOKS: Hooks}
