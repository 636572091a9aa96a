"""Timeout: a call must answer within its limit; the caller goes on when it does not."""

from __future__ import annotations

import asyncio
import itertools
import signal
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from types import FrameType
from typing import Any, NamedTuple, NoReturn, cast

from resilient import _checks as check
from resilient._registry import registry
from resilient.clock import CLOCK
from resilient.deadlines import DUE, OwnedDue
from resilient.errors import CallTimeoutError
from resilient.events import HUB, CallTimedOut
from resilient.generators import Layer
from resilient.policy import BlockPolicy, Policy
from resilient.workers import AbandonedCall, Worker, hire
from resilient.wrapping import Site

METHODS = ("thread", "signal", "cooperative")


@dataclass(frozen=True, slots=True)
class TimeoutConfig:
    """The options of `timeout`, checked and in their internal form."""

    limit: float
    method: str = "thread"
    max_abandoned: int = 64

    def __post_init__(self) -> None:
        object.__setattr__(self, "limit", check.seconds("limit", self.limit))
        if self.limit > threading.TIMEOUT_MAX:
            raise check.bad("limit", self.limit, f"must be at most {threading.TIMEOUT_MAX:.0f} s")
        if self.method not in METHODS:
            raise check.bad("method", self.method, f"must be one of {', '.join(METHODS)}")
        check.count("max_abandoned", self.max_abandoned, least=0)


class TimeoutMetrics(NamedTuple):
    """The numbers of a timeout: its limit in seconds, calls that passed it, and threads still at work on such calls."""

    limit: float
    timed_out: int
    abandoned: int
    max_abandoned: int


#: The async calls under a limit by a number of their own: their task, and when they are due. One that is missing when
#: it ends has been cancelled by us.
_Calls = dict[int, tuple[asyncio.Task[Any], float]]
_number = itertools.count().__next__


class _LoopTimer:
    """The running calls of one policy in one event loop, and one timer for them all: equal limits expire in order.

    Holds no reference to the loop, so that a loop that is done with can go.
    """

    __slots__ = ("__weakref__", "armed", "calls")

    def __init__(self) -> None:
        self.calls: _Calls = {}
        self.armed = False

    def fire(self) -> None:
        """Cancel what is due, and set the timer for the next."""
        self.armed = False
        loop = asyncio.get_running_loop()
        now = loop.time()
        for number, (task, due) in list(self.calls.items()):
            if due > now:
                self.armed = True
                loop.call_at(due, self.fire)
                return
            del self.calls[number]
            task.cancel()


class _Running(NamedTuple):
    """A block under its limit."""

    calls: _Calls
    number: int
    task: asyncio.Task[Any]
    cancelling: int
    limit: float


class Timeout(BlockPolicy):
    """Limits how long a call may take; made by `timeout(...)`."""

    kind = "timeout"
    config: TimeoutConfig

    def __init__(self, config: TimeoutConfig, name: str | None) -> None:
        super().__init__(config, name)
        self._lock = threading.Lock()
        self._abandoned = self._timed_out = 0
        self._timers: weakref.WeakKeyDictionary[Any, _LoopTimer] = weakref.WeakKeyDictionary()
        self._latest: tuple[Callable[[], Any], _LoopTimer] = (lambda: None, _LoopTimer())

    @property
    def abandoned(self) -> int:
        """How many threads still work on calls whose callers have stopped waiting."""
        return self._abandoned

    @property
    def limit(self) -> float:
        """The limit in seconds."""
        return self.config.limit

    # Sync ---------------------------------------------------------------------------------------

    def sync_layer(self, call: Layer, site: Site) -> Layer:
        """Call, in the way of the method, and raise when the limit passes first."""
        if self.config.method == "signal":
            return self._signal_layer(call)
        if self.config.method == "cooperative":
            return self._cooperative_layer(call)

        def timeout(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            limit, due, clipped = self._limits()
            if self._abandoned and self._abandoned >= self.config.max_abandoned:
                raise self._expired(limit, f"{self._abandoned} earlier calls have not ended yet; not called")
            worker = hire()
            worker.begin(call, args, kwargs, due)
            try:
                in_time = worker.finished.acquire(True, limit)
            except BaseException:  # Ctrl-C while waiting
                self._abandon(worker, site.outer)
                raise
            if not in_time:
                abandoned = self._abandon(worker, site.outer)
                if abandoned is not None:
                    error = self._expired(limit, due=clipped)
                    error._worker = abandoned, list(site.outer)
                    raise error
            try:
                return worker.collect()
            except CallTimeoutError as error:
                if error._due != due or clipped:
                    raise
                raise self._expired(limit) from error

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

    def _abandon(self, worker: Worker, outer: tuple[Policy, ...]) -> AbandonedCall | None:
        """Stop waiting for the call; None when it has ended at the last moment."""
        abandoned = worker.abandon()
        if abandoned is not None:
            with self._lock:
                self._abandoned += 1
            abandoned.when_done(self._one_ended)
            for policy in outer:
                policy.keep_until_done(abandoned)
        return abandoned

    def _one_ended(self) -> None:
        with self._lock:
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
            if CLOCK.monotonic() > due:
                raise self._expired(limit, due=clipped)
            return result

        return timeout

    def _signal_layer(self, call: Layer) -> Layer:
        if not hasattr(signal, "setitimer"):
            raise TypeError("timeout(method='signal') needs signal.setitimer, which this platform lacks")

        def timeout(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            limit, _, clipped = self._limits()
            if threading.current_thread() is not threading.main_thread():
                raise RuntimeError(f"{self.name}: timeout(method='signal') works in the main thread only")
            alarm = _Alarm(limit)
            try:
                with alarm:
                    return call(args, kwargs)
            except _AlarmRang as rang:
                if rang.alarm is not alarm:
                    raise
            raise self._expired(limit, due=clipped)

        return timeout

    # Async --------------------------------------------------------------------------------------

    def async_layer(self, call: Layer, site: Site) -> Layer:
        """Await, and cancel the call when the limit passes first."""
        self._refuse_method()

        async def timeout(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            calls, number, task, cancelling, limit = start()
            try:
                result = await call(args, kwargs)
            except BaseException as error:
                if calls.pop(number, None) is None:
                    self._ended(task, cancelling, limit, error)
                raise
            if calls.pop(number, None) is None:
                task.uncancel()  # the call has swallowed our cancellation, and has an answer
            return result

        start = self._start
        return timeout

    def _start(self) -> tuple[_Calls, int, asyncio.Task[Any], int, float]:
        """Put the current task under the limit."""
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        if task is None:
            raise RuntimeError(f"{self.name}: an async timeout works inside an asyncio task only")
        limit, deadline = self.config.limit, DUE.get()
        known, timer = self._latest
        if deadline is not None:
            left = deadline - CLOCK.monotonic()
            if left < limit:
                limit, timer = left, _LoopTimer()  # not in order with the others, so with a timer of its own
        if limit <= 0:
            raise self._expired(max(0.0, limit))
        if limit is self.config.limit and known() is not loop:
            timer = self._timer(loop)
        due = loop.time() + limit
        number = _number()
        timer.calls[number] = task, due
        if not timer.armed:
            timer.armed = True
            loop.call_at(due, timer.fire)
        return timer.calls, number, task, task.cancelling(), limit

    def _timer(self, loop: asyncio.AbstractEventLoop) -> _LoopTimer:
        with self._lock:
            timer = self._timers.get(loop)
            if timer is None:
                timer = self._timers[loop] = _LoopTimer()
            self._latest = (weakref.ref(loop), timer)
        return timer

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

    async def aenter(self) -> _Running:
        """Put the current task under the limit."""
        self._refuse_method()
        return _Running(*self._start())

    def leave(self, permit: _Running, error: BaseException | None) -> None:
        """End of the block."""
        if permit.calls.pop(permit.number, None) is not None:
            return
        if error is None:
            permit.task.uncancel()
        else:
            self._ended(permit.task, permit.cancelling, permit.limit, error)

    # Common -------------------------------------------------------------------------------------

    def _expired(self, limit: float, detail: str = "", due: float | None = None) -> CallTimeoutError:
        """Count and tell a call that has not ended in time; returns the error to raise."""
        if not isinstance(due, OwnedDue):
            with self._lock:
                self._timed_out += 1
            if HUB.wants(CallTimedOut):
                HUB.publish(CallTimedOut(self.name, limit, self._abandoned))
        error = CallTimeoutError(self.name, limit, detail)
        error._due = due
        return error

    def get_metrics(self) -> TimeoutMetrics:
        """The numbers of now."""
        return TimeoutMetrics(self.limit, self._timed_out, self._abandoned, self.config.max_abandoned)

    def after_fork(self) -> None:
        """Replace the locks; abandoned threads have stayed in the parent."""
        super().after_fork()
        self._lock = threading.Lock()
        self._abandoned = 0


class _AlarmRang(BaseException):
    """Raised by our signal handler in the main thread; not an Exception, so that user code does not swallow it."""

    def __init__(self, alarm: _Alarm) -> None:
        self.alarm = alarm


class _Alarm:
    """SIGALRM for a block, put back as it was afterwards, also when another alarm is under way around it."""

    __slots__ = ("_handler", "_outer", "_set_at", "armed", "limit")

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.armed = False

    def __enter__(self) -> None:
        self._set_at = CLOCK.monotonic()
        self._outer, _ = signal.getitimer(signal.ITIMER_REAL)
        if self._outer and self._outer <= self.limit:
            return  # the outer alarm rings first
        self._handler = signal.signal(signal.SIGALRM, self._ring)
        self.armed = True
        signal.setitimer(signal.ITIMER_REAL, self.limit)

    def __exit__(self, *_: object) -> None:
        if not self.armed:
            return
        self.armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._handler)
        if self._outer:
            left = self._outer - (CLOCK.monotonic() - self._set_at)
            signal.setitimer(signal.ITIMER_REAL, max(left, 1e-6))

    def _ring(self, number: int, frame: FrameType | None) -> None:
        if self.armed:
            raise _AlarmRang(self)


def timeout(
    limit: float | timedelta, /, *, method: str = "thread", max_abandoned: int = 64, name: str | None = None
) -> Timeout:
    """Raise CallTimeoutError when a call has not ended within `limit`, in seconds or as a timedelta.

    Use as a decorator, as `policy.call`, or as `async with timeout(2):`. An async call is cancelled. A sync call runs
    in a worker thread, which carries the caller's context variables, but not its thread-locals; a call that passes its
    limit is abandoned: its thread goes on, is counted in `policy.abandoned`, and its answer is dropped.
    A deadline in force shortens the limit; inside the call, the limit is a deadline itself (sync).

    Args:
        limit: seconds or timedelta; 0 fails at once.
        method: for sync functions: "thread"; "signal" (main thread only, raises inside the call at any point);
            "cooperative" (sets a deadline for what is called, and checks when the call returns).
        max_abandoned: so many abandoned threads at most; then new calls fail at once.
        name: for the registry; automatic if left out.

    Raises:
        CallTimeoutError: (at the call) the limit has passed, or too many abandoned calls have not ended.
        ConfigurationError: an option has an impossible value.
        TypeError: around a generator function or a sync `with` block.
    """
    if callable(limit):
        raise TypeError("timeout needs its limit first: @timeout(2)")
    config = TimeoutConfig(cast(Any, limit), method, max_abandoned)
    policy_name = check.policy_name(name)
    return registry.obtain("timeout", policy_name, config, lambda: Timeout(config, policy_name))
