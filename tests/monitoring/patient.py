"""A process with every ailment that the alerts know, and /metrics. Started by conftest.py; not a test.

It prints its port, then reads a word from each line of stdin: `sick` makes everything go wrong, `well` ends that.
Without stdin it ends.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from contextlib import ExitStack, suppress

from resilient import (
    BulkheadFullError,
    CachedDegradation,
    CallTimeoutError,
    CircuitOpenError,
    CircuitState,
    DegradationManager,
    DegradationMode,
    RetryBudget,
    bulkhead,
    circuit_breaker,
    degrade,
    registry,
    retry,
    timeout,
)
from resilient.demo.monitor import monitored
from resilient.events import CircuitStateChanged
from resilient.orchestrator import RecoveryOrchestrator, RecoveryPlan, RecoveryStep
from resilient.testing import faults, inject

TICK = 0.02

is_sick = threading.Event()


class Trouble(ConnectionError):
    """What everything here raises while it is sick."""


def call() -> int:
    """What most of the policies guard."""
    if is_sick.is_set():
        raise Trouble
    return 1


def attempt(function, *expected) -> None:
    with suppress(Trouble, *expected):
        function()


class Breakers:
    """One that guards a service which is down, one that flaps, one that is isolated by hand."""

    def __init__(self) -> None:
        self.down = circuit_breaker("down", failure_threshold=3, recovery_timeout=0.1, half_open_calls=1)
        self.flaps = circuit_breaker("flaps", failure_threshold=1, recovery_timeout=0.05, half_open_calls=1)
        self.isolated = circuit_breaker("isolated", half_open_calls=1)
        self._good = True

    def tick(self) -> None:
        attempt(self.down(call), CircuitOpenError)
        attempt(self.flaps(self._half_the_time), CircuitOpenError)
        attempt(self.isolated(call), CircuitOpenError)

    def _half_the_time(self) -> None:
        self._good = not self._good or not is_sick.is_set()
        if not self._good:
            raise Trouble

    def turn(self, sick: bool) -> None:
        if sick:
            self.isolated.isolate()
        elif self.isolated.state is CircuitState.ISOLATED:
            self.isolated.reset()


class Retries:
    """One that makes three attempts of every call, one that may make hardly any."""

    def __init__(self) -> None:
        self._storm = retry(max_attempts=3, base_delay=0, on=Trouble, name="storm")(call)
        budget = RetryBudget(ratio=0.01, min_per_second=0, window=2)
        self._thrifty = retry(max_attempts=2, base_delay=0, on=Trouble, budget=budget, name="thrifty")(call)

    def tick(self) -> None:
        attempt(self._storm)
        attempt(self._thrifty)

    def turn(self, sick: bool) -> None:
        pass


class Timeouts:
    """Calls that hang until all is well."""

    def __init__(self) -> None:
        self._well = threading.Event()
        self._well.set()
        self._hang = timeout(0.01, name="hangs", max_abandoned=20)(lambda: self._well.wait(60))
        self._left = 0

    def tick(self) -> None:
        if self._left:
            self._left -= 1
            attempt(self._hang, CallTimeoutError)
        elif not is_sick.is_set():
            attempt(self._hang, CallTimeoutError)  # those that hung may still be on their way home

    def turn(self, sick: bool) -> None:
        self._left = 20 if sick else 0
        (self._well.clear if sick else self._well.set)()


class Bulkheads:
    """All places taken."""

    def __init__(self) -> None:
        self._places = bulkhead("narrow", max_concurrent=2, max_wait=0)
        self._taken = ExitStack()

    def tick(self) -> None:
        attempt(self._places(call), BulkheadFullError)

    def turn(self, sick: bool) -> None:
        self._taken.close()
        for _ in range(2 if sick else 0):
            self._taken.enter_context(self._places)


class Degradations:
    """A manager in full mode, a fallback that answers most callers, a cache that is asked."""

    def __init__(self) -> None:
        self._manager = DegradationManager(name="shop")
        self._similar = degrade(fallback=0, manager=self._manager, service="similar", name="similar")(call)
        self._prices = degrade(fallback=0, on=Trouble, name="prices")(call)
        cache = CachedDegradation(cache_ttl=0.05, fallback_ttl=60)
        self._titles = degrade(cache=cache, key=lambda: "all", fallback=0, name="titles")(call)

    def tick(self) -> None:
        self._similar(), self._prices(), self._titles()

    def turn(self, sick: bool) -> None:
        self._manager.force_degradation(DegradationMode.FULL if sick else None)


class Recoveries:
    """A plan that fails, and one that waits for a person."""

    def __init__(self) -> None:
        self._orchestrator = RecoveryOrchestrator()
        self._orchestrator.register_step_executor("repair", lambda step, context: call())
        for name, kind in (("repair", "repair"), ("waits", "approval")):
            self._orchestrator.register_plan(RecoveryPlan(name, name, [RecoveryStep("one", "The only step", kind)]))
        self._waiting = ""
        self._orchestrator.start_plan("repair")

    def tick(self) -> None:
        pass

    def turn(self, sick: bool) -> None:
        if sick:
            self._orchestrator.start_plan("repair")
            self._waiting = self._orchestrator.start_plan("waits")
        elif self._waiting:
            self._orchestrator.approve(self._waiting, "one", by="the test")


class Handlers:
    """A subscriber that raises."""

    def __init__(self) -> None:
        self._unsubscribe = None

    def tick(self) -> None:
        pass

    def turn(self, sick: bool) -> None:
        if sick:
            self._unsubscribe = registry.subscribe(self._raise, CircuitStateChanged)
        elif self._unsubscribe is not None:
            self._unsubscribe()

    @staticmethod
    def _raise(event: object) -> None:
        raise Trouble


def injected() -> int:
    """Meets an injected fault once, as the dashboard shows those too."""
    return 1


def main() -> None:
    logging.getLogger("resilient").addHandler(logging.NullHandler())
    logging.getLogger("resilient").propagate = False
    parts = [kind() for kind in (Breakers, Retries, Timeouts, Bulkheads, Degradations, Recoveries, Handlers)]
    guarded = retry(max_attempts=2, base_delay=0, name="injected")(injected)
    with inject(guarded, faults.NetworkFailure("reset"), max_count=1):
        guarded()
    threading.Thread(target=obey, args=(parts,), daemon=True).start()
    with monitored(0) as server:
        sys.stdout.write(f"{json.dumps({'port': server.port})}\n")
        sys.stdout.flush()
        while True:
            for part in parts:
                part.tick()
            time.sleep(TICK)


def obey(parts: list) -> None:
    """Do what the test says, as long as there is one."""
    for line in sys.stdin:
        sick = line.strip() == "sick"
        (is_sick.set if sick else is_sick.clear)()
        for part in parts:
            part.turn(sick)
    os._exit(0)


if __name__ == "__main__":
    main()
