"""The bulkhead as a policy: take a place, call, give it back."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, NamedTuple

from resilient.bulkhead.config import BulkheadConfig
from resilient.bulkhead.state import CLOSED, Places, Ticket
from resilient.circuit_breaker import CircuitBreaker
from resilient.clock import CLOCK
from resilient.deadlines import clip, remaining_time
from resilient.errors import BulkheadClosedError, BulkheadFullError, RejectedError
from resilient.events import HUB, CallRejected
from resilient.generators import Layer
from resilient.policy import BlockPolicy, Policy, warn_if_loop_blocked
from resilient.wrapping import Site


class BulkheadMetrics(NamedTuple):
    """The numbers of a bulkhead: calls inside, free places, callers waiting; totals of calls let in and turned away."""

    active_requests: int
    available_permits: int
    queue_length: int
    max_concurrent: int
    admitted: int
    rejected: int
    closed: bool


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
                    try:
                        places.hand_on()
                    except BaseException:  # Ctrl-C: those who wait still have to be woken
                        places.hand_on()
                        raise

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
                    try:
                        places.hand_on()
                    except BaseException:  # Ctrl-C: those who wait still have to be woken
                        places.hand_on()
                        raise

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
            try:
                places.leave(ticket)
            except BaseException:  # Ctrl-C on the way: the place has to be given back all the same
                places.leave(ticket)
                raise

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
            try:
                places.leave(ticket)
            except BaseException:  # Ctrl-C on the way: the place has to be given back all the same
                places.leave(ticket)
                raise

    # Waiting ------------------------------------------------------------------------------------

    def _wait(self, places: Places, ticket: Ticket) -> None:
        """Obtain a place for the ticket, or raise."""
        ticket.gate = gate = threading.Lock()
        gate.acquire()
        limit = self._line_up(places, ticket)
        if not ticket.held:
            warn_if_loop_blocked(f"bulkhead {self.name} waits")
            CLOCK.acquire(gate, -1 if limit is None else limit)
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
        longest = self.config.max_wait
        limit = remaining_time() if longest is None else clip(longest)
        if not places.enqueue(ticket, 0 if limit is not None and limit <= 0 else self.config.max_queue):
            raise self._refusal(*((BulkheadClosedError, "closed") if places.closed else (BulkheadFullError, "full")))
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
        if HUB.wants(CallRejected):
            HUB.publish(CallRejected(self.name, self.kind, reason, None))
        return error(self.name)

    def uses(self) -> tuple[Policy, ...]:
        """The built-in breaker, if there is one."""
        breaker = self.config.circuit_breaker
        return () if breaker is None else (breaker,)

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

    def enter(self) -> tuple[tuple[CircuitBreaker | None, Any], Places, Ticket]:
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
        return (breaker, permit), places, ticket

    async def aenter(self) -> tuple[tuple[CircuitBreaker | None, Any], Places, Ticket]:
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
        return (breaker, permit), places, ticket

    def leave(
        self, permit: tuple[tuple[CircuitBreaker | None, Any], Places, Ticket], error: BaseException | None
    ) -> None:
        """Give the place back."""
        (breaker, admission), places, ticket = permit
        if error is not None:
            self._keep_for_abandoned(error, places)
        places.leave(ticket)
        if breaker is not None:
            breaker.leave(admission, error)

    # For the owner ----------------------------------------------------------------------------------

    def close(self) -> None:
        """Let nobody in any more, for good: callers and waiters get BulkheadClosedError; calls inside go on."""
        self._places.close()

    @property
    def active_requests(self) -> int:
        """Calls inside, abandoned ones that still work included."""
        places = self._places
        return self.config.max_concurrent - places.free - (CLOSED if places.closed else 0)

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
        old.lock = threading.RLock()
        old.queue.clear()
