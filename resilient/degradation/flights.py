"""One caller makes a call, the others wait for what comes of it: single flight, across threads, tasks and loops.

A caller who is inside of such a call, or waits for one, never waits for another: two that wait for each other would do
so for ever. It calls by itself then, which costs a call too many and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from typing import Any, Final, NamedTuple


class Outcome(NamedTuple):
    """What came of a call: an answer, or an error. `genuine` is False for an answer that a fallback inside gave."""

    answer: Any = None
    error: Exception | None = None
    genuine: bool = True


#: The call ended without an outcome for others: not made after all, cancelled, or cut short by its caller's deadline.
NOTHING: Final = Outcome()


class Flight:
    """A call under way, and those who wait for it; also one of the calls that a context is inside of."""

    __slots__ = ("_outcome", "_wakers", "discarded", "outer", "taken")

    def __init__(self) -> None:
        self._outcome: Future[Outcome] | None = Future()
        self._outcome.set_running_or_notify_cancel()  # so that a waiter who is cancelled does not cancel it for all
        #: What wakes the tasks that wait, by the futures they wait for.
        self._wakers: dict[object, Callable[[], object]] = {}
        self.outer: Flight | None = None
        self.taken = False
        #: The key was deleted meanwhile: the answer is not to be kept.
        self.discarded = False

    @property
    def landed(self) -> bool:
        """Whether it is over."""
        outcome = self._outcome
        return outcome is None or outcome.done()

    def land(self, outcome: Outcome) -> None:
        """Tell those who wait; only the first outcome counts."""
        future = self._outcome
        if future is not None and not future.done():
            future.set_result(outcome)
            while self._wakers:
                with suppress(KeyError, RuntimeError):  # another took it; its loop is closed
                    self._wakers.popitem()[1]()

    def wait(self, seconds: float | None) -> Outcome:
        """The outcome; TimeoutError after so many seconds."""
        future = self._outcome
        return NOTHING if future is None else future.result(seconds)

    async def await_outcome(self, seconds: float | None) -> Outcome:
        """The outcome; TimeoutError after so many seconds."""
        future = self._outcome
        if future is None:
            return NOTHING
        loop = asyncio.get_running_loop()
        woken: asyncio.Future[None] = loop.create_future()
        self._wakers[woken] = partial(loop.call_soon_threadsafe, _wake, woken)
        try:
            # Not wait_for, which until Python 3.12 may lose the waiter's cancellation.
            if not future.done():
                await asyncio.wait((woken,), timeout=seconds)
        finally:
            self._wakers.pop(woken, None)  # the call may go on for long
        if not future.done():
            raise TimeoutError
        return future.result()

    def enter(self) -> bool:
        """Be what this context is inside of; whether it may wait for others."""
        outer = _inside.get()
        # A task may have been started by a call that is over since, with a copy of its context.
        while outer is not None and outer.landed:
            outer = outer.outer
        self.outer = outer
        _inside.set(self)
        return outer is None

    def leave(self) -> None:
        """End it, wherever that happens: a coroutine may be closed in another context than it began in."""
        self.land(NOTHING)
        if _inside.get() is self:
            _inside.set(self.outer)
        self.outer = None
        self._outcome = None  # a copy of the context may outlive the answer by far


def _wake(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)


_inside: ContextVar[Flight | None] = ContextVar("resilient_flight", default=None)


def take() -> Flight | None:
    """The flight that this very call is, handed out once: calls further in are others."""
    flight = _inside.get()
    if flight is None or flight.taken:
        return None
    flight.taken = True
    return flight


class Flights:
    """The flights of one cache by key."""

    __slots__ = ("_by_key",)

    def __init__(self) -> None:
        self._by_key: dict[Hashable, Flight] = {}

    def join(self, key: Hashable, mine: Flight) -> Flight:
        """The flight of this key: `mine`, if there is no other under way."""
        while True:
            flight = self._by_key.setdefault(key, mine)
            if flight is mine or not flight.landed:
                return flight
            self.end(key, flight)  # whoever made it was interrupted on the way out

    def end(self, key: Hashable, flight: Flight) -> None:
        """Let the next caller make a new flight."""
        if self._by_key.get(key) is flight:
            self._by_key.pop(key, None)

    def discard(self, key: Hashable) -> None:
        """Let the flight of this key, if any, leave no answer behind."""
        flight = self._by_key.pop(key, None)
        if flight is not None:
            flight.discarded = True

    def after_fork(self) -> None:
        """Forget the flights of threads that have stayed in the parent."""
        self._by_key.clear()

    def __len__(self) -> int:
        return len(self._by_key)
