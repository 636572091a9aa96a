"""Plans that a breaker starts: once, when it opens and stays open."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING

from resilient._registry import Registry
from resilient.circuit_breaker import CircuitState
from resilient.clock import CLOCK
from resilient.events import CircuitStateChanged, log_failure, log_note
from resilient.orchestrator.errors import PlanLockedError
from resilient.orchestrator.forks import Survivor, tell_of_forks
from resilient.orchestrator.model import ExecutionStatus

if TYPE_CHECKING:
    from resilient.orchestrator.orchestrator import RecoveryOrchestrator

_log = logging.getLogger("resilient.orchestrator")

_UNHEALTHY = (CircuitState.OPEN, CircuitState.HALF_OPEN)


class Trigger(Survivor):
    """Starts a plan when a breaker opens. Call it, or leave its `with` block, to end that.

    `execution_id` is the one it started last, None before.
    """

    def __init__(
        self,
        orchestrator: RecoveryOrchestrator,
        registry: Registry,
        breaker: str,
        plan: str,
        *,
        start: Callable[[], str],
        after: float,
        cooldown: float,
    ) -> None:
        self.breaker = breaker
        self.plan = plan
        self.execution_id: str | None = None
        self._orchestrator = orchestrator
        self._registry = registry
        self._start = start
        self._after = after
        self._cooldown = cooldown
        self._quiet_until: float | None = None
        self._reset()
        self._unsubscribe = registry.subscribe(self._on_change, CircuitStateChanged)
        tell_of_forks(self)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._watching = False
        self._opened, self._openings = 0.0, 0
        self._stopped = threading.Event()

    @property
    def active(self) -> bool:
        """Whether it still watches the breaker."""
        return not self._stopped.is_set()

    def _on_change(self, event: CircuitStateChanged) -> None:
        """Called in the thread of the call that opened the breaker, so nothing is done here but to start a thread."""
        if event.name != self.breaker or event.new is not CircuitState.OPEN:
            return
        with self._lock:
            self._opened = CLOCK.monotonic()
            self._openings += 1
            if self._watching or not self.active:
                return
            self._watching = True
        try:
            name = f"resilient-trigger-{self.breaker}"
            threading.Thread(target=self._watch, name=name, daemon=True).start()
        except BaseException:
            self._watching = False
            raise

    def _watch(self) -> None:
        recovered = False
        while True:
            seen = self._openings
            try:
                self._wait()
                if self.active and self._is_unhealthy() and self._may_run():
                    recovered = self._run()
                    seen = self._openings  # what happened meanwhile was what the plan was about
            except Exception:
                text, names = "the plan %s, triggered by breaker %s, failed", (self.plan, self.breaker)
                event = "orchestrator.trigger_failed"
                log_failure(_log, event, text, *names, kind="recovery", policy=self.plan, breaker=self.breaker)
            with self._lock:
                if seen == self._openings or not self.active:
                    self._watching = False
                    break
        # Not before: the probe may fail at once, and that is to be seen.
        if recovered:
            self._offer_probe()

    def _wait(self) -> None:
        """Wait until the last opening is long enough ago."""
        while self.active and (left := self._opened + self._after - CLOCK.monotonic()) > 0:
            CLOCK.sleep(min(left, 0.1))

    def _is_unhealthy(self) -> bool:
        breaker = self._registry.circuit_breakers.get(self.breaker)
        return breaker is not None and breaker.state in _UNHEALTHY

    def _may_run(self) -> bool:
        """Whether the last run that such a trigger started, in this process or another, is long enough ago."""
        if self._quiet_until is not None and CLOCK.monotonic() < self._quiet_until:
            return False
        now = datetime.now(UTC)
        for one in self._orchestrator.history(self.plan, limit=20):
            if one.trigger == self.breaker and one.completed_at is not None:
                # The last one was ours: then the monotonic clock has just said that it is long enough ago.
                ago = (now - one.completed_at).total_seconds()
                return one.execution_id == self.execution_id or not 0 <= ago < self._cooldown
        return True

    def _run(self) -> bool:
        """Carry out the plan; whether it completed."""
        try:
            execution_id = self._start()
        except PlanLockedError as locked:
            text, said = "breaker %s opened, and %s", (self.breaker, locked)
            event, plan, name = "orchestrator.trigger_locked", self.plan, self.breaker
            log_note(_log, logging.INFO, event, text, *said, kind="recovery", policy=plan, limited=False, breaker=name)
            return False
        self.execution_id = execution_id
        execution = self._orchestrator.wait_for(execution_id)
        self._quiet_until = CLOCK.monotonic() + self._cooldown
        return execution.status is ExecutionStatus.COMPLETED

    def _offer_probe(self) -> None:
        breaker = self._registry.circuit_breakers.get(self.breaker)
        if breaker is not None:
            breaker.offer_probe()

    def __call__(self) -> None:
        self._stopped.set()
        self._unsubscribe()

    def __enter__(self) -> Trigger:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self()

    def after_fork(self) -> None:
        """Watch on in a forked child: whatever was under way is the parent's."""
        stopped = not self.active
        self._reset()
        if stopped:
            self._stopped.set()
