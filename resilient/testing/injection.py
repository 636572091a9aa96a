"""Injecting faults: which calls they meet is drawn from the seed, the fault, the place and the number of the call."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from hashlib import blake2b
from types import TracebackType
from typing import Any

from resilient import _checks as check
from resilient._registry import registry
from resilient.clock import CLOCK
from resilient.testing import seeds, targets
from resilient.testing.faults import Fault
from resilient.testing.guard import check_allowed
from resilient.testing.happening import happen
from resilient.testing.timing import InjectionTiming, Moment
from resilient.testing.undisturbed import Undisturbed
from resilient.wrapping import Kind, describe

#: Injections in force: who leaves one here has leaked it.
ACTIVE: list[Injection] = []


class Fired:
    """How many calls met which fault at which target, over all injections of the process; these numbers never fall."""

    __slots__ = ("_counts", "_lock")

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], int] = {}
        self._lock = threading.RLock()  # the garbage collector may run a target anywhere

    def add(self, target: str, fault: str) -> None:
        """Count one."""
        with self._lock:
            self._counts[target, fault] = self._counts.get((target, fault), 0) + 1

    def totals(self) -> dict[tuple[str, str], int]:
        """A copy of now, by target and fault."""
        with self._lock:
            return dict(self._counts)

    def after_fork(self) -> None:
        """Replace the lock in a forked child."""
        self._lock = threading.RLock()


FIRED = Fired()
registry.fork_hooks.append(FIRED.after_fork)


class Injection:
    """Faults in force within a `with` block. `calls` counts the calls that came by, `fired` those that were hit."""

    def __init__(
        self,
        target: Any,
        fault: Fault,
        *,
        rate: float,
        seed: int | str,
        timing: InjectionTiming,
        during: tuple[float, float] | None,
        max_count: int | None,
        allow_in_production: bool,
    ) -> None:
        self.target = target
        self.fault = fault
        self.rate = rate
        self.seed = seed
        self.timing = timing
        self.during = during
        self.max_count = max_count
        self.began: float | None = None
        self.ended: float | None = None
        self.owned = False  # somebody takes it away who is not the test itself
        #: From when on calls count, by the clock; None: from its beginning.
        self._opens: float | None = None
        self._last_fired: float | None = None
        self._met = 0  # calls that came by while it was in force
        self._allowed = allow_in_production
        self._lock = threading.RLock()  # the garbage collector may run a target anywhere
        self._calls = self._fired = 0
        self._numbers: dict[str, int] = {}
        self._stack = ExitStack()
        self._about = target if isinstance(target, str) else describe(target)
        self._start = timing.start(f"{seed}:{fault.label}")

    @property
    def calls(self) -> int:
        """How many calls came by."""
        return self._calls

    @property
    def fired(self) -> int:
        """How many of them met the fault."""
        return self._fired

    # The block

    def __enter__(self) -> Injection:
        check_allowed(self._allowed)
        if self.owned and self.began is not None and self.ended is None:
            return self  # somebody put it in force already; the block only ends it
        if self.began is not None:
            raise RuntimeError(f"{self!r} was in force already; make a new injection for each block")
        self.began = CLOCK.monotonic()
        try:
            with Undisturbed(), ExitStack() as stack:
                targets.enter(self.target, self._stand_in, stack)
                ACTIVE.append(self)
                stack.callback(ACTIVE.remove, self)
                self._stack = stack.pop_all()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.remove()

    async def __aenter__(self) -> Injection:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.remove()

    def remove(self) -> None:
        """Take the faults away; doing so twice is harmless."""
        with self._lock:
            # Before anything else: who has taken a stand-in for the function keeps it, and is to meet nothing any more.
            if self.began is not None and self.ended is None:
                self.ended = CLOCK.monotonic()
        try:
            with Undisturbed():
                self._stack.close()
        except BaseException:
            self._stack.close()  # interrupted before it began
            raise

    # Deciding

    def _hits(self, site: str) -> bool:
        """Whether this call meets the fault."""
        with self._lock:
            opens = self.began if self._opens is None else self._opens
            elapsed = CLOCK.monotonic() - (opens or 0.0)
            if elapsed < 0 or self.ended is not None:
                return False
            self._calls += 1
            number = self._numbers[site] = self._numbers.get(site, -1) + 1
            self._met += self._is_due(elapsed) and (self.max_count is None or self._fired < self.max_count)
            if self.timing.predicate is None:
                # At once, or a later call could be the last of `max_count` in the place of this one.
                return self._is_due(elapsed) and self._drawn(site, number) and self._take()
        if not (self._is_due(elapsed) and self._drawn(site, number) and self._condition_holds(elapsed)):
            return False
        with self._lock:
            return self._take()

    def _take(self) -> bool:
        """Whether one more may be hit; the caller has the lock."""
        if self.max_count is not None and self._fired >= self.max_count:
            return False
        self._fired += 1
        FIRED.add(self._about, type(self.fault).__name__)
        self._last_fired = CLOCK.monotonic()
        return True

    def _drawn(self, site: str, number: int) -> bool:
        # From the call alone: a generator that is shared would give other calls other numbers under threads. And by a
        # hash, as making a generator for each call takes ten times as long.
        if self.rate >= 1:
            return True
        about = f"{self.seed}:{self.fault.label}:{site}:{number}".encode()
        return int.from_bytes(blake2b(about, digest_size=8).digest()) < self.rate * 2**64

    def _is_due(self, elapsed: float) -> bool:
        return elapsed >= self._start and (self.during is None or self.during[0] <= elapsed < self.during[1])

    def _condition_holds(self, elapsed: float) -> bool:
        predicate = self.timing.predicate
        if predicate is None:
            return True
        breakers = {name: one.get_metrics() for name, one in registry.circuit_breakers.items()}
        return bool(predicate(Moment(elapsed, self._calls, self._fired, breakers)))

    # Happening

    def _stand_in(self, function: Any, site: str, kind: Kind | None) -> Any:
        module = (getattr(function, "__module__", None) or "").partition(".")[0]

        def stand_in(wrapped: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if not self._hits(site):
                return wrapped(*args, **kwargs)
            return happen(kind, self.fault, module, wrapped, args, kwargs)

        return targets.like(function, stand_in)

    def __repr__(self) -> str:
        rate = "" if self.rate >= 1 else f", rate={self.rate:g}"
        return f"inject({self.target!r}, {self.fault!r}{rate}, seed={self.seed!r})"


def inject(
    target: Any,
    fault: Fault,
    rate: float = 1.0,
    seed: int | str | None = None,
    timing: InjectionTiming = InjectionTiming.IMMEDIATE,
    during: tuple[float, float] | None = None,
    max_count: int | None = None,
    *,
    allow_in_production: bool = False,
) -> Injection:
    """Let calls of `target` meet a fault inside a `with` (or `async with`) block.

    `target`: a decorated function, or the name of a policy (both: inside all policies, in the place of the user's own
    code), or the path of any importable function, "package.module:Class.method", which is replaced meanwhile.
    `rate`: the share of calls that meet it, drawn from `(seed, fault, target, number of the call)`, so that the same
    seed hits the same calls, in threads and tasks too; without a seed one is made, and shown.
    `timing` says when it begins, `during=(start, end)` within which seconds, `max_count` how often at most.

        with inject("payments", faults.NetworkFailure("reset"), rate=0.3, seed=7) as injection:
            ...
        assert injection.fired > 0

    Raises InjectionRefusedError where the environment variable RESILIENT_ENV says production, unless
    `allow_in_production`; UnknownNameError for a target that cannot be found.
    """
    if not isinstance(fault, Fault):
        raise TypeError(f"fault={fault!r}: must be one of resilient.testing.faults, such as faults.Latency(0.1)")
    if not isinstance(timing, InjectionTiming):
        raise TypeError(f"timing={timing!r}: must be an InjectionTiming, such as InjectionTiming.delayed(5)")
    return Injection(
        target,
        fault,
        rate=check.share("rate", rate, zero=True) or 0.0,
        seed=seeds.fresh() if seed is None else seed,
        timing=timing,
        during=_window(during),
        max_count=check.count("max_count", max_count, none="no limit"),
        allow_in_production=allow_in_production,
    )


def _window(during: Any) -> tuple[float, float] | None:
    if during is None:
        return None
    if not isinstance(during, tuple) or len(during) != 2:
        raise check.bad("during", during, "must be a pair of seconds, (start, end)")
    start, end = check.seconds("during", during[0]), check.seconds("during", during[1])
    if start >= end:
        raise check.bad("during", during, "must end after it has started")
    return start, end
