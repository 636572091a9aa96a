"""The timeout as a policy."""

from __future__ import annotations

import asyncio
import signal
import threading
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from resilient.clock import CLOCK
from resilient.deadlines import DUE, OwnedDue
from resilient.errors import CallTimeoutError
from resilient.events import HUB, CallTimedOut
from resilient.generators import Layer
from resilient.meters import Distribution, Histogram
from resilient.policy import BlockPolicy, Policy, running_loop
from resilient.timeout.config import TimeoutConfig
from resilient.timeout.timers import (
    Alarm,
    AlarmRang,
    Calls,
    LoopTimer,
    LoopTimers,
    Running,
    VaryingTimer,
    next_number,
)
from resilient.timeout.workers import AbandonedCall, hire
from resilient.wrapping import Site

if TYPE_CHECKING:
    from resilient.timeout.smart import SmartTimeout


class TimeoutMetrics(NamedTuple):
    """The numbers of a timeout: its limit in seconds, calls that passed it, and threads still at work on such calls."""

    limit: float
    timed_out: int
    abandoned: int
    max_abandoned: int


class Timeout(BlockPolicy):
    """Limits how long a call may take; made by `timeout(...)`."""

    kind = "timeout"
    config: TimeoutConfig

    def __init__(self, config: TimeoutConfig, name: str | None) -> None:
        super().__init__(config, name)
        self._lock = threading.RLock()  # re-entrant: the garbage collector may run a guarded call anywhere
        self._abandoned = self._timed_out = 0
        self._timers: LoopTimers | None = None  # made for the first async function
        self._durations = Histogram("recovery_timeout_duration_seconds")

    @property
    def abandoned(self) -> int:
        """How many threads still work on calls whose callers have stopped waiting."""
        return self._abandoned

    @property
    def limit(self) -> float:
        """The limit in seconds; of a SmartTimeout, the one that the next call gets."""
        return self.config.seconds

    @property
    def longest(self) -> float:
        """The longest limit in seconds that a call may get."""
        smart = self.config.smart
        return self.config.seconds if smart is None else smart.max_timeout

    # Sync ---------------------------------------------------------------------------------------

    def sync_layer(self, call: Layer, site: Site) -> Layer:
        """Call, in the way of the method, and raise when the limit passes first."""
        if self.config.method == "signal":
            layer = self._signal_layer(call)
        elif self.config.method == "cooperative":
            layer = self._cooperative_layer(call)
        else:
            layer = self._thread_layer(call, site)
        smart = self.config.smart
        return layer if smart is None else self._measured(layer, smart)

    def _measured(self, layer: Layer, smart: SmartTimeout) -> Layer:
        """Tell a SmartTimeout how long each call takes."""

        def timeout(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            own, started = smart.current_limit(), CLOCK.monotonic()
            try:
                result = layer(args, kwargs)
            except Exception as error:
                self._learn(smart, error, own, CLOCK.monotonic() - started)
                raise
            smart.record(CLOCK.monotonic() - started)
            return result

        return timeout

    def _learn(self, smart: SmartTimeout, error: BaseException, own: float, took: float) -> None:
        """Tell a SmartTimeout of a call that failed after so long, or that we have ended; `own` was its limit."""
        if not isinstance(error, CallTimeoutError) or error._by is not self or isinstance(error._due, OwnedDue):
            if isinstance(error, Exception):
                smart.record_error(took)
        elif not error.detail and error.limit > 0:  # else the call was not even made
            smart.record_timeout(error.limit, own)
            error._by = None  # told once, also where this policy is around itself

    def _thread_layer(self, call: Layer, site: Site) -> Layer:
        def timeout(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            limit, due, clipped = self._limits()
            if self._abandoned and self._abandoned >= self.config.max_abandoned:
                raise self._expired(limit, f"{self._abandoned} earlier calls have not ended yet; not called")
            worker = None
            try:
                worker = hire()
                worker.begin(call, args, kwargs, due)
                in_time = CLOCK.acquire(worker.finished, limit)
                abandoned = None if in_time else worker.abandon()
            except BaseException:  # Ctrl-C while waiting
                if worker is not None:
                    self._count(worker.dismiss(), site.outer)
                raise
            if abandoned is not None:
                self._count(abandoned, site.outer)
                error = self._expired(limit, due=clipped)
                error._worker = abandoned, list(site.outer)
                try:
                    raise error
                finally:
                    del error  # or the frame would keep it, and it the frame
            try:
                return worker.collect()
            except CallTimeoutError as inner:
                if inner._due != due or clipped:
                    raise
                raise self._expired(limit) from inner

        return timeout

    def _limits(self) -> tuple[float, float, float | None]:
        """The limit for a sync call that begins now, the moment it ends, and that moment again if a deadline set it."""
        limit, now, deadline = self.limit, CLOCK.monotonic(), DUE.get()
        due, clipped = now + limit, None
        if deadline is not None and deadline < due:
            due = clipped = deadline
            limit = deadline - now
        if limit <= 0:
            raise self._expired(max(0.0, limit), due=clipped)
        return limit, due, clipped

    def _count(self, abandoned: AbandonedCall | None, outer: tuple[Policy, ...]) -> None:
        """Account for a call that goes on without its caller."""
        if abandoned is None:
            return
        self._abandoned += 1
        abandoned.when_done(self._one_ended)
        for policy in outer:
            policy.keep_until_done(abandoned)

    def _one_ended(self) -> None:
        self._abandoned -= 1

    def _cooperative_layer(self, call: Layer) -> Layer:
        def timeout(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            limit, due, clipped = self._limits()
            token = DUE.set(OwnedDue(due))
            try:
                result = call(args, kwargs)
            except CallTimeoutError as error:
                if error._due != due or clipped:
                    raise
                raise self._expired(limit) from error
            finally:
                DUE.reset(token)
            late = CLOCK.monotonic() - due
            if late > 0:
                raise self._expired(limit, due=clipped, late=late)
            return result

        return timeout

    def _signal_layer(self, call: Layer) -> Layer:
        if not hasattr(signal, "setitimer"):
            raise TypeError("timeout(method='signal') needs signal.setitimer, which this platform lacks")

        def timeout(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            limit, due, clipped = self._limits()
            if threading.current_thread() is not threading.main_thread():
                raise RuntimeError(f"{self.name}: timeout(method='signal') works in the main thread only")
            alarm = Alarm(limit)
            try:
                alarm.start()
                result = call(args, kwargs)
                # Where the clock is not the real one, no alarm rings.
                if CLOCK.monotonic() <= due:
                    return result
            except AlarmRang as rang:
                if rang.alarm is not alarm:
                    raise
            finally:
                alarm.armed = False  # here, before any call at which it could still ring
                alarm.stop()
            raise self._expired(limit, due=clipped)

        return timeout

    # Async --------------------------------------------------------------------------------------

    def async_layer(self, call: Layer, site: Site) -> Layer:
        """Await, and cancel the call when the limit passes first."""
        self._refuse_method()

        start, timers = self._start, self._loop_timers()
        running_loop, current_task = asyncio.get_running_loop, asyncio.current_task
        smart = self.config.smart
        if smart is not None:
            return self._smart_layer(call, smart)
        limit = self.config.seconds

        async def timeout(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            loop = running_loop()
            task = current_task(loop)
            timer = timers.latest
            if task is None or limit <= 0 or timers.loop() is not loop or DUE.get() is not None or not timer.armed:
                calls, number, task, cancelling, allowed = start()
            else:  # the same as `_start` for the usual case, without the call
                number, calls, allowed, cancelling = next_number(), timer.calls, limit, task.cancelling()
                calls[number] = task, loop.time() + limit
            try:
                result = await call(args, kwargs)
            except BaseException as error:
                if calls.pop(number, None) is None:
                    self._ended(task, cancelling, allowed, error)
                raise
            if calls.pop(number, None) is None:
                task.uncancel()  # the call has swallowed our cancellation, and has an answer
            return result

        return timeout

    def _smart_layer(self, call: Layer, smart: SmartTimeout) -> Layer:
        """The same for a limit that may be another for each call, and is told how long each takes."""
        start, current_limit, record = self._start, smart.current_limit, smart.record
        timers: Any = self._loop_timers()  # of VaryingTimers
        running_loop, current_task = asyncio.get_running_loop, asyncio.current_task

        async def timeout(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            loop = running_loop()
            task = current_task(loop)
            timer = timers.latest  # before the question whose it is, as another loop may come in between
            own, started = current_limit(), loop.time()
            if task is None or timers.loop() is not loop or DUE.get() is not None:
                calls, number, task, cancelling, allowed = start()
            else:  # the same as `_start` for the usual case, without the call
                number, allowed, cancelling, due = next_number(), own, task.cancelling(), started + own
                calls = timer.calls
                calls[number] = task, due
                if due < timer.set_for:
                    timer.set(loop, due)
            try:
                result = await call(args, kwargs)
            except BaseException as error:
                took = loop.time() - started
                try:
                    if calls.pop(number, None) is None:
                        self._ended(task, cancelling, allowed, error)
                except CallTimeoutError as ours:
                    self._learn(smart, ours, own, took)
                    raise
                self._learn(smart, error, own, took)
                raise
            if calls.pop(number, None) is None:
                task.uncancel()
            record(loop.time() - started)
            return result

        return timeout

    def _start(self) -> tuple[Calls, int, asyncio.Task[Any], int, float]:
        """Put the current task under the limit."""
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        if task is None:
            raise RuntimeError(f"{self.name}: an async timeout works inside an asyncio task only")
        limit, deadline = self.config.seconds, DUE.get()
        timers = self._loop_timers()
        timer, in_order = timers.latest, True
        if deadline is not None:
            left = deadline - CLOCK.monotonic()
            if left < limit:
                limit, timer, in_order = left, LoopTimer(), False  # ends out of order, so it has a timer of its own
        if limit <= 0:
            raise self._expired(max(0.0, limit))
        if in_order and timers.loop() is not loop:
            timer = timers.of(loop)
        number = next_number()
        timer.watch(loop, number, task, loop.time() + limit)
        return timer.calls, number, task, task.cancelling(), limit

    def _loop_timers(self) -> LoopTimers:
        if self._timers is None:
            with self._lock:
                if self._timers is None:
                    self._timers = LoopTimers(LoopTimer if self.config.smart is None else VaryingTimer)
        return self._timers

    def _ended(self, task: asyncio.Task[Any], cancelling: int, limit: float, error: BaseException) -> None:
        """Raise for a call that we have cancelled, unless the caller has cancelled it too."""
        ours = task.uncancel() <= cancelling
        if ours and isinstance(error, asyncio.CancelledError):
            raise self._expired(limit) from error

    def _refuse_method(self) -> None:
        if self.config.method != "thread":
            raise TypeError(
                f"timeout(method={self.config.method!r}) is for sync functions; leave it out for async ones"
            )

    # Blocks -------------------------------------------------------------------------------------

    def generator_layer(self, call: Layer, site: Site) -> Layer:
        """Not for generators: their consumer decides how long they take."""
        return Policy.generator_layer(self, call, site)

    def async_generator_layer(self, call: Layer, site: Site) -> Layer:
        """Not for async generators: their consumer decides how long they take."""
        return Policy.async_generator_layer(self, call, site)

    def enter(self) -> NoReturn:
        """Not for sync blocks: nothing can end one from outside."""
        raise TypeError("`with timeout(...)` cannot end a sync block: guard a function, or use `async with`")

    def __enter__(self) -> NoReturn:
        self.enter()

    async def aenter(self) -> Running:
        """Put the current task under the limit."""
        self._refuse_method()
        smart = self.config.smart
        own, started = self.config.seconds, asyncio.get_running_loop().time()
        return Running(*self._start(), own, started, smart)

    def leave(self, permit: Running, error: BaseException | None) -> None:
        """End of the block."""
        smart = permit.smart
        loop = None if smart is None else running_loop()
        took = -1.0 if loop is None else loop.time() - permit.started  # closed by the garbage collector: nobody knows
        try:
            if permit.calls.pop(permit.number, None) is None:
                if error is None:
                    permit.task.uncancel()
                else:
                    self._ended(permit.task, permit.cancelling, permit.limit, error)
        except CallTimeoutError as ours:
            if smart is not None:
                self._learn(smart, ours, permit.own, took)
            raise
        if smart is not None and error is None:
            smart.record(took)
        elif smart is not None and error is not None:
            self._learn(smart, error, permit.own, took)

    # Common -------------------------------------------------------------------------------------

    def _expired(self, limit: float, detail: str = "", due: float | None = None, late: float = 0.0) -> CallTimeoutError:
        """Count and tell a call that has not ended in time, `late` seconds after its limit; the error to raise."""
        if not isinstance(due, OwnedDue):
            self._timed_out += 1
            self._durations.observe(0.0 if detail else limit + late, self.name)
            if HUB.wants(CallTimedOut):
                HUB.publish(CallTimedOut(self.name, limit, self._abandoned))
        error = CallTimeoutError(self.name, limit, detail)
        error._due, error._by = due, self
        return error

    def durations(self) -> Distribution:
        """How long callers waited before a call was ended; 0 for calls that were not even made."""
        return self._durations.distribution()

    def apply(self, config: TimeoutConfig) -> None:
        """Go on with another limit; calls under way keep theirs."""
        self.config = config
        with self._lock:
            # Calls are in order only as long as their limits are equal.
            self._timers = None

    def get_metrics(self) -> TimeoutMetrics:
        """The numbers of now."""
        return TimeoutMetrics(self.limit, self._timed_out, self._abandoned, self.config.max_abandoned)

    def after_fork(self) -> None:
        """Replace the locks; abandoned threads have stayed in the parent."""
        super().after_fork()
        self._lock = threading.RLock()
        self._abandoned = 0
        if self._timers is not None:
            self._timers.after_fork()
        if self.config.smart is not None:
            self.config.smart.after_fork()
