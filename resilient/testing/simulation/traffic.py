"""The users of a simulation: when they call, what becomes of their calls, and what is counted of it."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

from resilient.degradation.events import DegradationModeChanged
from resilient.errors import RejectedError
from resilient.events import HUB, CallRejected, CircuitStateChanged, Event, FallbackServed, Subscription
from resilient.testing.recovery.result import TimelineEvent
from resilient.testing.simulation.counts import Bin, Plan, Times
from resilient.testing.simulation.loop import SimulationLoop

#: How many events a timeline holds: thousands of clients with a breaker each make more than anybody reads.
MOST_EVENTS = 10_000
#: How many calls may be under way at once, before the memory for them is worth an error.
MOST_UNDER_WAY = 250_000


class Call:
    """One user call."""

    __slots__ = ("degraded", "in_outage", "rejected")

    def __init__(self, in_outage: bool) -> None:
        self.in_outage = in_outage
        self.rejected = self.degraded = False


_current: ContextVar[Call | None] = ContextVar("resilient_simulated_call", default=None)


class Traffic:
    """Calls the guarded functions of all clients, and counts."""

    def __init__(self, plan: Plan, loop: SimulationLoop) -> None:
        self.plan = plan
        self.bins = [Bin(0.0)]
        self.now = self.bins[0]
        self.outage_calls = self.outage_reached = self.events_left_out = 0
        self.times = Times()
        self.tasks: set[asyncio.Task[None]] = set()
        self.error: BaseException | None = None
        self._loop = loop
        self._states: dict[str, Counter[str]] = {}
        self._events = 0
        self._over = False

    # Before, and after -----------------------------------------------------------------------------

    def run(self, guarded: list[Callable[[], Awaitable[Any]]], breakers: Counter[str]) -> None:
        """Let users call until the end; `guarded` are the functions they call in turn, `breakers` those there are."""
        self._states = {name: Counter(closed=count) for name, count in breakers.items()}
        self._schedule(guarded)
        loop, plan = self._loop, self.plan
        if plan.interval < plan.duration:
            loop.at(plan.interval, self._next_bin)
        loop.at(plan.duration, loop.stop)
        with self._listening():
            try:
                loop.run_forever()
            finally:
                self._over = True
                self._keep_states()
                loop.cancel_all(self.tasks)
        if self.error is not None:
            raise self.error

    def _schedule(self, guarded: list[Callable[[], Awaitable[Any]]]) -> None:
        """Each client calls at its own beat, which begins at a moment that its seed decides."""
        plan = self.plan
        period = plan.clients / plan.load
        phases = [random.Random(f"{plan.seed}:{client}").random() * period for client in range(plan.clients)]
        order = sorted(range(plan.clients), key=phases.__getitem__)
        loop, tasks, clients = self._loop, self.tasks, plan.clients
        beats = [(phases[client], guarded[client % len(guarded)]) for client in order]
        number = 0

        def arrive() -> None:
            nonlocal number
            task = loop.create_task(self._call(beats[number % clients][1]))
            tasks.add(task)
            number += 1
            when = beats[number % clients][0] + number // clients * period
            if len(tasks) > MOST_UNDER_WAY:
                self._stop(_too_many())
            elif when < plan.duration:
                loop.at(when, arrive)

        if beats[0][0] < plan.duration:
            loop.at(beats[0][0], arrive)

    def _stop(self, error: BaseException) -> None:
        self.error = error
        self._loop.stop()

    def _next_bin(self) -> None:
        self._keep_states()
        time = len(self.bins) * self.plan.interval
        self.now = Bin(time)
        self.bins.append(self.now)
        following = len(self.bins) * self.plan.interval
        if following < self.plan.duration - 1e-9:
            self._loop.at(following, self._next_bin)

    def _keep_states(self) -> None:
        self.now.breakers = {
            name: {state: count for state, count in states.items() if count} for name, states in self._states.items()
        }

    # A call ------------------------------------------------------------------------------------------

    async def _call(self, guarded: Callable[[], Awaitable[Any]]) -> None:
        loop = self._loop
        began = loop.now
        outage = self.plan.outage
        call = Call(outage[0] <= began < outage[1])
        _current.set(call)
        self.now.calls += 1
        if call.in_outage:
            self.outage_calls += 1
        ok = False
        try:
            await guarded()
            ok = True
        except Exception as error:
            if isinstance(error, RejectedError):
                self._turned_away(call)
        except (KeyboardInterrupt, SystemExit) as error:
            self._stop(error)  # kept in the task, it would be called an exception that nobody retrieved
        finally:
            self.tasks.discard(asyncio.current_task(loop))
            if not self._over:
                self._ended(call, ok, loop.now - began)

    def _ended(self, call: Call, ok: bool, took: float) -> None:
        now = self.now
        self.times.add(took)
        if not ok:
            now.failures += 1
            now.turned = None
            return
        now.successes += 1
        if call.degraded:
            now.degraded += 1
            now.turned = None
            return
        now.answered += 1
        now.took += took
        if now.turned is None:
            now.turned = self._loop.now

    def reached(self) -> None:
        """A call has reached the dependency."""
        if self._over:
            return
        self.now.reached += 1
        call = _current.get()
        if call is not None and call.in_outage:
            self.outage_reached += 1

    # Events ------------------------------------------------------------------------------------------

    def _listening(self) -> Subscription:
        kinds = (CallRejected, FallbackServed, CircuitStateChanged, DegradationModeChanged)
        return HUB.subscribe(self._heard, *kinds)

    def _heard(self, event: Event) -> None:
        if self._over:
            return
        call = _current.get()
        if isinstance(event, CallRejected):
            if call is not None:
                self._turned_away(call)
        elif isinstance(event, FallbackServed):
            if call is not None:
                call.degraded = True
        elif isinstance(event, CircuitStateChanged):
            old, new = event.old.value, event.new.value
            states = self._states.setdefault(event.name, Counter({old: 1}))
            states[old] -= 1
            states[new] += 1
            self._note(event, f"{old} to {new}: {event.reason}", {"old": old, "new": new, "reason": event.reason})
        elif isinstance(event, DegradationModeChanged):
            data = {"old": event.old, "new": event.new, "reason": event.reason}
            self._note(event, f"{event.old} to {event.new}: {event.reason}", data)

    def _turned_away(self, call: Call) -> None:
        if not call.rejected:
            call.rejected = True
            if not self._over:
                self.now.rejected += 1

    def _note(self, event: Event, text: str, data: dict[str, Any]) -> None:
        self._events += 1
        if self._events > MOST_EVENTS:
            self.events_left_out += 1
        else:
            self.now.events.append(TimelineEvent(self._loop.now, type(event).__name__, event.name, text, data))


def _too_many() -> RuntimeError:
    return RuntimeError(
        f"more than {MOST_UNDER_WAY:,} calls are under way at once, as nothing ends or rejects them in time: add a "
        "timeout or a bulkhead to the pipeline, or simulate a smaller load; where retries wait for an open "
        "breaker to close, give them max_elapsed= or give_up_on=CircuitOpenError, or put the timeout around the retry"
    )
