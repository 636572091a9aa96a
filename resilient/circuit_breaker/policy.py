"""The circuit breaker as a policy: the machine behind a lock, and layers that need it only when something is up."""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from resilient import _checks as check
from resilient.circuit_breaker.config import CircuitBreakerConfig
from resilient.circuit_breaker.state import BreakerState, CircuitState, Epoch, Probe, Refusal
from resilient.circuit_breaker.windows import TimeWindow
from resilient.clock import CLOCK
from resilient.errors import CircuitOpenError, RejectedError
from resilient.events import HUB, CallRejected, CircuitStateChanged
from resilient.generators import Layer
from resilient.policy import BlockPolicy
from resilient.wrapping import Site

_OPEN = CircuitState.OPEN  # reading it from the enum costs more than comparing


class CircuitMetrics(NamedTuple):
    """The numbers of a circuit breaker.

    `success_count` and `failure_count` are totals since creation or `reset()`; the rates are of the window, without
    one of the totals. `consecutive_failures` is kept where they can open the circuit. `retry_after` is seconds until
    the next probe, None unless open.
    """

    state: CircuitState
    failure_count: int
    success_count: int
    failure_rate: float
    slow_call_rate: float
    consecutive_failures: int
    rejected_count: int
    state_changes: int
    probes_in_flight: int
    retry_after: float | None


class CircuitBreaker(BlockPolicy):
    """Stops calling what keeps failing, and finds out when it is well again; made by `circuit_breaker(...)`."""

    kind = "circuit_breaker"
    config: CircuitBreakerConfig

    def __init__(self, config: CircuitBreakerConfig, name: str | None) -> None:
        super().__init__(config, name)
        self._lock = threading.RLock()
        self._machine = BreakerState(config, CLOCK.monotonic())
        self._rejected = self._changes = 0
        self._telling = self._busy = False
        self._later: list[tuple[Callable[..., object], tuple[object, ...]]] = []  # an empty deque is 600 bytes
        self._understand(config)

    def _understand(self, config: CircuitBreakerConfig) -> None:
        self.config = config
        self._expected = check.matcher(config.expected_exception)
        self._ignores = check.matcher(config.ignore)
        # A call turned away by a policy further in never reached the service, so by default it says nothing about it.
        self._counts_rejections = config.expected_exception not in (Exception, BaseException)

    # Layers -------------------------------------------------------------------------------------

    def sync_layer(self, call: Layer, site: Site) -> Layer:
        """Ask for a permit if need be, call, and report what is worth reporting."""
        if self._timed:
            return self._timed_sync_layer(call)
        machine, admit, succeeded, failed = self._machine, self._admit, self._succeeded, self._failed

        def circuit_breaker(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            permit: Any = machine.epoch
            if permit.gate:
                permit = admit()
                if permit.__class__ is CircuitOpenError:
                    try:
                        raise permit
                    finally:
                        del permit  # or the frame would keep it, and it the frame
            try:
                result = call(args, kwargs)
            except BaseException as error:
                failed(permit, error, 0.0)
                raise
            permit.calls += 1
            if permit.watch:
                succeeded(permit, 0.0, False)
            return result

        return circuit_breaker

    def async_layer(self, call: Layer, site: Site) -> Layer:
        """Ask for a permit if need be, call, and report what is worth reporting."""
        if self._timed:
            return self._timed_async_layer(call)
        machine, admit, succeeded, failed = self._machine, self._admit, self._succeeded, self._failed

        async def circuit_breaker(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            permit: Any = machine.epoch
            if permit.gate:
                permit = admit()
                if permit.__class__ is CircuitOpenError:
                    try:
                        raise permit
                    finally:
                        del permit  # or the frame would keep it, and it the frame
            try:
                result = await call(args, kwargs)
            except BaseException as error:
                failed(permit, error, 0.0)
                raise
            permit.calls += 1
            if permit.watch:
                succeeded(permit, 0.0, False)
            return result

        return circuit_breaker

    @property
    def _timed(self) -> bool:
        return self.config.window_duration is not None or self.config.slow_call_duration is not None

    def _timed_sync_layer(self, call: Layer) -> Layer:
        """The same with a clock: for time windows (one reading a call) and slow calls (two)."""
        machine, admit, succeeded, failed = self._machine, self._admit, self._succeeded, self._failed
        measured, slow, rolling, clock = self._timing()

        def circuit_breaker(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            permit: Any = machine.epoch
            if permit.gate:
                permit = admit()
                if permit.__class__ is CircuitOpenError:
                    try:
                        raise permit
                    finally:
                        del permit  # or the frame would keep it, and it the frame
            started = clock.monotonic() if measured else 0.0
            try:
                result = call(args, kwargs)
            except BaseException as error:
                failed(permit, error, started)
                raise
            now = clock.monotonic()
            permit.calls += 1
            if permit.watch or now >= permit.until or now - started >= slow:
                succeeded(permit, now, now - started >= slow)
            elif rolling and permit.window.__class__ is TimeWindow:  # it may have been changed meanwhile
                permit.window.now.calls += 1
            return result

        return circuit_breaker

    def _timed_async_layer(self, call: Layer) -> Layer:
        """The same with a clock: for time windows (one reading a call) and slow calls (two)."""
        machine, admit, succeeded, failed = self._machine, self._admit, self._succeeded, self._failed
        measured, slow, rolling, clock = self._timing()

        async def circuit_breaker(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            permit: Any = machine.epoch
            if permit.gate:
                permit = admit()
                if permit.__class__ is CircuitOpenError:
                    try:
                        raise permit
                    finally:
                        del permit  # or the frame would keep it, and it the frame
            started = clock.monotonic() if measured else 0.0
            try:
                result = await call(args, kwargs)
            except BaseException as error:
                failed(permit, error, started)
                raise
            now = clock.monotonic()
            permit.calls += 1
            if permit.watch or now >= permit.until or now - started >= slow:
                succeeded(permit, now, now - started >= slow)
            elif rolling and permit.window.__class__ is TimeWindow:  # it may have been changed meanwhile
                permit.window.now.calls += 1
            return result

        return circuit_breaker

    def _timing(self) -> tuple[bool, float, bool, Any]:
        slow = self.config.slow_call_duration
        return slow is not None, math.inf if slow is None else slow, self.config.window_duration is not None, CLOCK

    # Blocks and streams ---------------------------------------------------------------------------

    def enter(self) -> tuple[Epoch | Probe, float]:
        """A permit, with the time it was given; raises CircuitOpenError."""
        permit: Any = self._machine.epoch
        if permit.gate:
            asked = self._admit()
            if isinstance(asked, CircuitOpenError):
                try:
                    raise asked
                finally:
                    del asked, permit
            permit = asked
        return permit, CLOCK.monotonic() if self.config.slow_call_duration is not None else 0.0

    async def aenter(self) -> tuple[Epoch | Probe, float]:
        """A permit, with the time it was given; raises CircuitOpenError."""
        return self.enter()

    def leave(self, permit: tuple[Epoch | Probe, float], error: BaseException | None) -> None:
        """Report how the block ended."""
        admitted, started = permit
        if error is not None:
            self._failed(admitted, error, started)
            return
        now = CLOCK.monotonic()
        admitted.calls += 1
        self._succeeded(admitted, now, self._is_slow(started, now))

    # What happens under the lock ------------------------------------------------------------------

    def _admit(self) -> Epoch | Probe | CircuitOpenError:
        """A permit, or the error to raise: raising it here would put another frame into every rejection."""
        epoch = self._machine.epoch
        now = CLOCK.monotonic()
        retry_after: float | None = epoch.until - now
        if epoch.state is _OPEN and now < epoch.until:  # the common refusal takes no lock
            reason = "open"
        else:
            with self._lock:
                permit = self._machine.admit(now)
            self._publish()
            if not isinstance(permit, Refusal):
                return permit
            reason, retry_after = permit
        self._rejected += 1
        if HUB.wants(CallRejected):
            HUB.publish(CallRejected(self.name, self.kind, reason, retry_after))
        # What CircuitOpenError(name, retry_after) does, without the frame of its __init__.
        name = self._name or self.name
        error = CircuitOpenError.__new__(CircuitOpenError, name, retry_after)
        error.name, error.retry_after = name, retry_after
        return error

    def _succeeded(self, permit: Epoch | Probe, now: float, slow: bool) -> None:
        self._report(self._machine.success, permit, now or CLOCK.monotonic(), slow)

    def _failed(self, permit: Epoch | Probe, error: BaseException, started: float) -> None:
        counts = False
        try:
            counts = self._counts(error)
        finally:
            if counts:
                now = CLOCK.monotonic()
                self._report(self._machine.failure, permit, now, self._is_slow(started, now), random.random())
            else:
                self._report(self._machine.ignored, permit)

    def _report(self, what: Callable[..., object], *args: object) -> None:
        """Tell the machine how a call has ended.

        The garbage collector and signal handlers may end a call in the middle of another one's report, in the same
        thread: then this one comes after it.
        """
        with self._lock:
            self._later.append((what, args))
            if self._busy:
                return
            self._busy = True
            try:
                while self._later:
                    step, values = self._later.pop(0)
                    step(*values)
            finally:
                self._busy = False
        self._publish()

    def _counts(self, error: BaseException) -> bool:
        if not isinstance(error, Exception) or self._ignores(error):
            return False
        if isinstance(error, RejectedError) and not self._counts_rejections:
            return False
        return self._expected(error)

    def _is_slow(self, started: float, now: float) -> bool:
        limit = self.config.slow_call_duration
        return limit is not None and now - started >= limit

    def _publish(self) -> None:
        """Tell of transitions after the lock is released, in their order: one thread at a time does the telling.

        Who comes while another is telling leaves it to that one, also a handler that changes the state itself.
        """
        while self._machine.transitions:
            with self._lock:
                if self._telling or not self._machine.transitions:
                    return
                self._telling = True
                change = self._machine.transitions.pop(0)
                self._changes += 1
            try:
                if HUB.wants(CircuitStateChanged):
                    HUB.publish(CircuitStateChanged(self.name, *change))
            finally:
                self._telling = False

    # For the owner ----------------------------------------------------------------------------------

    @property
    def state(self) -> CircuitState:
        """The state of now; an open period that is over shows as HALF_OPEN."""
        self._do(self._machine.tick, CLOCK.monotonic())
        return self._machine.epoch.state

    def get_state(self) -> CircuitState:
        """The same as `state`."""
        return self.state

    def reset(self) -> None:
        """Close the circuit and forget everything; results of calls under way are dropped."""
        self._do(self._machine.reset, CLOCK.monotonic())

    def isolate(self) -> None:
        """Let no call through until `reset()`."""
        self._do(self._machine.isolate)

    def disable(self) -> None:
        """Let every call through, uncounted, until `reset()`."""
        self._do(self._machine.disable)

    def attempt_reset(self) -> bool:
        """Go from OPEN to HALF_OPEN if the open period is over; whether the circuit is half-open now because of it."""
        before = self._machine.epoch
        self._do(self._machine.tick, CLOCK.monotonic())
        return before.state is CircuitState.OPEN and self._machine.epoch.state is CircuitState.HALF_OPEN

    def offer_probe(self) -> bool:
        """Go from OPEN to HALF_OPEN at once, as there is reason to believe that calls succeed again.

        Returns whether the circuit is half-open now because of it.
        """
        before = self._machine.epoch
        self._do(self._machine.probe)
        return before.state is CircuitState.OPEN and self._machine.epoch.state is CircuitState.HALF_OPEN

    def get_metrics(self) -> CircuitMetrics:
        """The numbers of now."""
        now = CLOCK.monotonic()
        machine = self._machine
        self._do(machine.tick, now)
        with self._lock:
            rate, slow = machine.rates(now)
            epoch = machine.epoch
            return CircuitMetrics(
                epoch.state,
                machine.failure_count,
                machine.success_count,
                rate,
                slow,
                epoch.consecutive,
                self._rejected,
                self._changes,
                len(epoch.probes or ()),
                max(0.0, epoch.until - now) if epoch.state is CircuitState.OPEN else None,
            )

    def totals(self) -> tuple[int, int]:
        """Successes and failures since creation, also those that a reset has made forget."""
        with self._lock:
            machine = self._machine
            return machine.past_successes + machine.success_count, machine.past_failures + machine.failure_count

    def apply(self, config: CircuitBreakerConfig) -> None:
        """Go on under a changed configuration, in the same state."""
        with self._lock:
            self._machine.reconfigure(config, CLOCK.monotonic())
            self._understand(config)

    def after_fork(self) -> None:
        """Replace the locks; probes of the parent's threads will never end here."""
        super().after_fork()
        self._lock = threading.RLock()
        self._telling = self._busy = False
        self._later.clear()
        self._machine.forget_probes()

    def _do(self, what: Callable[..., object], *args: object) -> None:
        with self._lock:
            what(*args)
        self._publish()
