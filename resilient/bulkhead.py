"""Bulkhead: at most so many calls at once, the rest wait in order or are turned away."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, NamedTuple, overload

from resilient import _checks as check
from resilient._checks import Seconds
from resilient._registry import registry
from resilient.circuit_breaker import CircuitBreaker
from resilient.deadlines import clip, remaining_time
from resilient.errors import BulkheadClosedError, BulkheadFullError, ConfigurationError, RejectedError
from resilient.events import HUB, CallRejected
from resilient.generators import Layer
from resilient.policy import BlockPolicy, F, Policy, running_loop, warn_if_loop_blocked
from resilient.wrapping import Site


@dataclass(frozen=True, slots=True)
class BulkheadConfig:
    """The options of `@bulkhead`, checked and in their internal form."""

    max_concurrent: int = 100
    max_wait: float | None = 30.0
    max_queue: int | None = None
    circuit_breaker: CircuitBreaker | None = None

    def __post_init__(self) -> None:
        put = object.__setattr__
        check.count("max_concurrent", self.max_concurrent)
        put(self, "max_wait", check.optional_seconds("max_wait", self.max_wait))
        check.count("max_queue", self.max_queue, least=0, none="no limit")
        breaker: Any = self.circuit_breaker
        if isinstance(breaker, str):
            try:
                breaker = registry.circuit_breakers[breaker]
            except KeyError as error:
                raise ConfigurationError(f"circuit_breaker={breaker!r}: {error.args[0]}") from None
            put(self, "circuit_breaker", breaker)
        if breaker is not None and not isinstance(breaker, CircuitBreaker):
            raise TypeError(f"circuit_breaker={breaker!r}: must be a circuit breaker policy, or the name of one")


class BulkheadMetrics(NamedTuple):
    """The numbers of a bulkhead: calls inside, free places, callers waiting; totals of calls let in and turned away."""

    active_requests: int
    available_permits: int
    queue_length: int
    max_concurrent: int
    admitted: int
    rejected: int
    closed: bool


_CLOSED = 1 << 60


class Ticket:
    """A caller's place in the queue: a thread with a lock to wake it, or a task with a future."""

    __slots__ = ("future", "gate", "held", "loop")

    def __init__(self) -> None:
        self.held = False
        self.gate: threading.Lock | None = None
        self.future: asyncio.Future[None] | None = None
        self.loop: asyncio.AbstractEventLoop | None = None

    def wake(self) -> bool:
        """Let the caller go on; False when its event loop is closed."""
        if self.gate is not None:
            self.gate.release()
        elif self.loop is not None and self.loop is not running_loop():
            try:
                self.loop.call_soon_threadsafe(self.wake_here)
            except RuntimeError:
                return False
        else:
            self.wake_here()
        return True

    def wake_here(self) -> None:
        """Let a task of this loop go on."""
        if self.future is not None and not self.future.done():
            self.future.set_result(None)


class Places:
    """The places of a bulkhead and the queue for them.

    `free` may be decremented without the lock by `if free > 0 and not queue: free -= 1`, on one line without a call, as
    the interpreter switches threads only at calls and backward jumps; every path that waits takes the lock.
    `free` is below zero while abandoned calls keep more places than there are.
    """

    __slots__ = ("admitted", "closed", "free", "lock", "queue")

    def __init__(self, free: int) -> None:
        self.free = free
        self.queue: OrderedDict[Ticket, None] = OrderedDict()
        self.lock = threading.Lock()
        self.admitted = 0
        self.closed = False

    def enqueue(self, ticket: Ticket, limit: int | None) -> bool:
        """Get in line; False when the line is full. The caller looks again afterwards with `hand_on`."""
        with self.lock:
            if limit is not None and len(self.queue) >= limit and (self.free <= 0 or self.queue):
                return False
            self.queue[ticket] = None
        self.hand_on()
        return True

    def hand_on(self) -> None:
        """Give free places to those in front of the queue."""
        while True:
            with self.lock:
                if self.closed or not self.queue or self.free <= 0:
                    return
                self.free -= 1  # directly after the look at it, see above
                ticket, _ = self.queue.popitem(last=False)
                ticket.held = True
                self.admitted += 1
            if not ticket.wake():
                self.leave(ticket)

    def leave(self, ticket: Ticket) -> None:
        """Give back what the ticket holds, a place or a position in the queue; twice is harmless."""
        with self.lock:
            held, ticket.held = ticket.held, False
            if not held:
                self.queue.pop(ticket, None)
                return
            self.free += 1
        if self.queue:
            self.hand_on()

    def add(self, places: int) -> None:
        """Change how many there are."""
        with self.lock:
            self.free += places
        self.hand_on()

    def close(self) -> None:
        """Let nobody in any more, and send those who wait away."""
        with self.lock:
            if self.closed:
                return
            self.closed = True
            self.free -= _CLOSED  # so that the fast path needs no look at `closed`
            waiting = list(self.queue)
            self.queue.clear()
        for ticket in waiting:
            ticket.wake()


class Bulkhead(BlockPolicy):
    """Limits how many calls are made at once; made by `bulkhead(...)`."""

    kind = "bulkhead"
    config: BulkheadConfig

    def __init__(self, config: BulkheadConfig, name: str | None) -> None:
        super().__init__(config, name)
        self._places = Places(config.max_concurrent)
        self._rejected = 0

    # Layers -------------------------------------------------------------------------------------

    def sync_layer(self, call: Layer, site: Site) -> Layer:
        """Take a place, call, give it back."""

        def bulkhead(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            places = self._places
            # Nothing may come between taking the place and `try`: no call, so no switch and no signal.
            if places.free > 0 and not places.queue:
                places.free -= 1
            else:
                return self._crowded(places, call, args, kwargs)
            try:
                places.admitted += 1
                return call(args, kwargs)
            except BaseException as error:
                self._keep_for_abandoned(error, places)
                raise
            finally:
                places.free += 1
                if places.queue:
                    places.hand_on()

        return self._with_breaker(bulkhead, "sync_layer", site)

    def async_layer(self, call: Layer, site: Site) -> Layer:
        """Take a place, call, give it back."""

        async def bulkhead(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            places = self._places
            # Nothing may come between taking the place and `try`: no call, so no switch and no signal.
            if places.free > 0 and not places.queue:
                places.free -= 1
            else:
                return await self._acrowded(places, call, args, kwargs)
            try:
                places.admitted += 1
                return await call(args, kwargs)
            except BaseException as error:
                self._keep_for_abandoned(error, places)
                raise
            finally:
                places.free += 1
                if places.queue:
                    places.hand_on()

        return self._with_breaker(bulkhead, "async_layer", site)

    def _with_breaker(self, layer: Layer, kind: str, site: Site) -> Layer:
        # The breaker is the outer one: while it is open nobody needs to wait for a place.
        breaker = self.config.circuit_breaker
        return layer if breaker is None else getattr(breaker, kind)(layer, site)

    def _crowded(self, places: Places, call: Layer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The whole call for one who may have to wait."""
        ticket = Ticket()
        try:
            self._wait(places, ticket)
            return call(args, kwargs)
        except BaseException as error:
            self._keep_for_abandoned(error, places)
            raise
        finally:
            places.leave(ticket)

    async def _acrowded(self, places: Places, call: Layer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The whole call for one who may have to wait."""
        ticket = Ticket()
        try:
            await self._await(places, ticket)
            return await call(args, kwargs)
        except BaseException as error:
            self._keep_for_abandoned(error, places)
            raise
        finally:
            places.leave(ticket)

    # Waiting ------------------------------------------------------------------------------------

    def _wait(self, places: Places, ticket: Ticket) -> None:
        """Obtain a place for the ticket, or raise."""
        ticket.gate = gate = threading.Lock()
        gate.acquire()
        limit = self._line_up(places, ticket)
        if not ticket.held:
            warn_if_loop_blocked(f"bulkhead {self.name} waits")
            gate.acquire(timeout=-1 if limit is None else min(limit, threading.TIMEOUT_MAX))
        self._admitted(places, ticket)

    async def _await(self, places: Places, ticket: Ticket) -> None:
        """Obtain a place for the ticket, or raise."""
        ticket.loop = loop = asyncio.get_running_loop()
        ticket.future = loop.create_future()
        limit = self._line_up(places, ticket)
        if not ticket.held:
            alarm = None if limit is None else loop.call_later(limit, ticket.wake_here)
            try:
                await ticket.future
            finally:
                if alarm is not None:
                    alarm.cancel()
        self._admitted(places, ticket)

    def _line_up(self, places: Places, ticket: Ticket) -> float | None:
        """Get in line, or be turned away at once; returns how long to wait."""
        if places.closed:
            raise self._refusal(BulkheadClosedError, "closed")
        longest = self.config.max_wait
        limit = remaining_time() if longest is None else clip(longest)
        if not places.enqueue(ticket, 0 if limit is not None and limit <= 0 else self.config.max_queue):
            raise self._refusal(BulkheadFullError, "full")
        return limit

    def _admitted(self, places: Places, ticket: Ticket) -> None:
        """Raise unless the ticket holds a place; one given at the last moment counts."""
        with places.lock:
            if ticket.held:
                return
            places.queue.pop(ticket, None)
        if places.closed:
            raise self._refusal(BulkheadClosedError, "closed")
        raise self._refusal(BulkheadFullError, "timeout")

    def _refusal(self, error: type[RejectedError], reason: str) -> RejectedError:
        self._rejected += 1
        if CallRejected in HUB.by_type:
            HUB.publish(CallRejected(self.name, self.kind, reason, None))
        return error(self.name)

    # Abandoned calls ------------------------------------------------------------------------------

    def keep_until_done(self, job: Any) -> None:
        """Keep a place for a call whose caller has stopped waiting, until it really ends."""
        places = self._places
        places.add(-1)
        job.when_done(lambda: places.add(+1))

    def _keep_for_abandoned(self, error: BaseException, places: Places) -> None:
        """Keep the place of a call that a timeout further in has abandoned and that was not in our own chain."""
        kept = getattr(error, "_worker", None)
        if kept is not None and places is self._places and self not in kept[1]:
            kept[1].append(self)
            self.keep_until_done(kept[0])

    # Blocks and streams -----------------------------------------------------------------------------

    def enter(self) -> tuple[Any, Places, Ticket]:
        """A place (and the permit of the built-in breaker); raises BulkheadFullError or BulkheadClosedError."""
        breaker = self.config.circuit_breaker
        permit = None if breaker is None else breaker.enter()
        places, ticket = self._places, Ticket()
        try:
            self._wait(places, ticket)
        except BaseException as error:
            places.leave(ticket)
            if breaker is not None and permit is not None:
                breaker.leave(permit, error)
            raise
        return permit, places, ticket

    async def aenter(self) -> tuple[Any, Places, Ticket]:
        """A place (and the permit of the built-in breaker); raises BulkheadFullError or BulkheadClosedError."""
        breaker = self.config.circuit_breaker
        permit = None if breaker is None else breaker.enter()
        places, ticket = self._places, Ticket()
        try:
            await self._await(places, ticket)
        except BaseException as error:
            places.leave(ticket)
            if breaker is not None and permit is not None:
                breaker.leave(permit, error)
            raise
        return permit, places, ticket

    def leave(self, permit: tuple[Any, Places, Ticket], error: BaseException | None) -> None:
        """Give the place back."""
        admission, places, ticket = permit
        if error is not None:
            self._keep_for_abandoned(error, places)
        places.leave(ticket)
        if admission is not None and self.config.circuit_breaker is not None:
            self.config.circuit_breaker.leave(admission, error)

    # For the owner ----------------------------------------------------------------------------------

    def close(self) -> None:
        """Let nobody in any more, for good: callers and waiters get BulkheadClosedError; calls inside go on."""
        self._places.close()

    @property
    def active_requests(self) -> int:
        """Calls inside, abandoned ones that still work included."""
        places = self._places
        return self.config.max_concurrent - places.free - (_CLOSED if places.closed else 0)

    @property
    def available_permits(self) -> int:
        """Free places."""
        return max(0, self._places.free)

    @property
    def queue_length(self) -> int:
        """Callers waiting for a place."""
        return len(self._places.queue)

    def get_metrics(self) -> BulkheadMetrics:
        """The numbers of now."""
        places = self._places
        return BulkheadMetrics(
            self.active_requests,
            self.available_permits,
            self.queue_length,
            self.config.max_concurrent,
            places.admitted,
            self._rejected,
            places.closed,
        )

    def apply(self, config: BulkheadConfig) -> None:
        """Go on with another number of places; calls inside stay, and those who wait may get in."""
        more = config.max_concurrent - self.config.max_concurrent
        self.config = config
        self._places.add(more)

    def after_fork(self) -> None:
        """Start with all places free: calls of the parent's threads will never end here."""
        super().after_fork()
        old, self._places = self._places, Places(self.config.max_concurrent)
        if old.closed:
            self._places.close()
        # The forking thread may be inside, and will leave the old places.
        old.lock = threading.Lock()
        old.queue.clear()


@overload
def bulkhead(fn: F, /) -> F: ...
@overload
def bulkhead(
    fn_or_name: str | None = None,
    /,
    *,
    max_concurrent: int = 100,
    max_wait: Seconds | None = 30.0,
    max_queue: int | None = None,
    circuit_breaker: CircuitBreaker | str | None = None,
    name: str | None = None,
) -> Bulkhead: ...
def bulkhead(
    fn_or_name: Any = None,
    /,
    *,
    max_concurrent: int = 100,
    max_wait: Any = 30.0,
    max_queue: int | None = None,
    circuit_breaker: Any = None,
    name: str | None = None,
) -> Any:
    """Let at most `max_concurrent` calls in at once, over all threads, tasks and event loops together.

    Use bare, with a name, with options, as `policy.call`, or as `with policy:` / `async with policy:`. Those who wait
    get in first come, first served. A sync call that a timeout has abandoned keeps its place until it really ends.

    Args:
        max_concurrent: places.
        max_wait: seconds or timedelta to wait for one; 0 for not at all, None for as long as it takes.
        max_queue: how many may wait at once; None for any number.
        circuit_breaker: a breaker policy, or the name of a registered one, that guards the same calls; while it is
            open nobody waits.
        name: for the registry, the same as the first argument; automatic if left out.

    Raises:
        BulkheadFullError: (at the call) the queue is full, or no place became free in time.
        BulkheadClosedError: (at the call) the bulkhead was closed.
        ConfigurationError: an option has an impossible value, or the name is taken by another configuration.
    """
    fn, name = check.function_or_name(fn_or_name, name)
    config = BulkheadConfig(max_concurrent, max_wait, max_queue, circuit_breaker)
    policy = registry.obtain("bulkhead", name, config, lambda: Bulkhead(config, name))
    return policy if fn is None else policy(fn)
