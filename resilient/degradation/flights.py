"""One caller makes a call, the others wait for what comes of it: single flight, across threads, tasks and loops.

A caller that is inside of such calls itself waits for another only where that other does not wait for one of them:
two that wait for each other would do so for ever. It calls by itself then, which costs a call too many and no more.

No lock is held while anything is told, and nothing here keeps a flight alive but the frame of the call: one whose frame
is gone, however that came about, is over.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, Final, NamedTuple

from resilient.clock import CLOCK


class Outcome(NamedTuple):
    """What came of a call: an answer, or an error. `genuine` is False for an answer that a fallback inside gave."""

    answer: Any = None
    error: Exception | None = None
    genuine: bool = True


#: The call ended without an outcome for others: not made after all, cancelled, or cut short by its caller's deadline.
NOTHING: Final = Outcome()


class Flight:
    """A call under way, and those who wait for it."""

    __slots__ = ("__weakref__", "_outcome", "_wakers", "around", "discarded", "landed", "taken", "waits_for")

    def __init__(self) -> None:
        self._outcome = NOTHING
        #: Whether it is over.
        self.landed = False
        #: What wakes those who wait, by who they are.
        self._wakers: dict[object, Callable[[Outcome], object]] = {}
        #: The flights it is inside of.
        self.around: Inside = ()
        #: The flights that something inside of it waits for.
        self.waits_for: list[Flight] = []
        self.taken = False
        #: The key was deleted, or others went ahead: the answer is not to be kept.
        self.discarded = False

    def land(self, outcome: Outcome) -> None:
        """Tell those who wait; only the first outcome counts."""
        try:
            if not self.landed:
                self._outcome = outcome
                self.landed = True
        finally:
            # Forgotten only once it is woken: after an interrupt in between, `leave` does it again. Those who come
            # later see that the flight has landed.
            for waiter, wake in list(self._wakers.items()):
                with suppress(RuntimeError):  # its loop is closed; its gate is open already
                    wake(self._outcome)
                self._wakers.pop(waiter, None)

    def wait(self, seconds: float | None) -> Outcome:
        """The outcome; TimeoutError after so many seconds."""
        gate = threading.Lock()
        gate.acquire()
        got: list[Outcome] = []

        def wake(outcome: Outcome) -> None:
            got.append(outcome)
            gate.release()

        self._wakers[gate] = wake
        try:
            if not self.landed:
                CLOCK.acquire(gate, -1 if seconds is None else seconds)
        finally:
            self._wakers.pop(gate, None)
        return self._delivered(got)

    async def await_outcome(self, seconds: float | None) -> Outcome:
        """The outcome; TimeoutError after so many seconds."""
        loop = asyncio.get_running_loop()
        woken: asyncio.Future[None] = loop.create_future()
        got: list[Outcome] = []

        def wake(outcome: Outcome) -> None:
            got.append(outcome)
            loop.call_soon_threadsafe(_wake, woken)

        self._wakers[woken] = wake
        try:
            # Not wait_for, which until Python 3.12 may lose the waiter's cancellation.
            if not self.landed:
                await asyncio.wait((woken,), timeout=seconds)
        finally:
            self._wakers.pop(woken, None)  # the call may go on for long
        return self._delivered(got)

    def _delivered(self, got: list[Outcome]) -> Outcome:
        if got:
            return got.pop()  # the errors' tracebacks have frames that have the list
        if not self.landed:
            raise TimeoutError
        return self._outcome

    def enter(self) -> None:
        """Be what this context is inside of."""
        self.around = tuple(one for one in _inside.get() if not is_over(one()))
        _inside.set((*self.around, weakref.ref(self)))

    def leave(self) -> None:
        """End it, wherever that happens: a coroutine may be closed in another context than it began in."""
        try:
            inside = _inside.get()
            if inside and inside[-1]() is self:
                _inside.set(self.around)
        finally:
            self.land(NOTHING)
            self._outcome = NOTHING  # those who waited have got it; nobody else is to keep it alive

    def may_be_kept(self) -> bool:
        """Whether the answer may be stored; not a mere attribute, as that may change between two looks."""
        return not self.discarded

    def forget_waiters(self) -> None:
        """In a forked child: those who wait have stayed in the parent."""
        self._wakers = {}


Inside = tuple["weakref.ref[Flight]", ...]
_inside: ContextVar[Inside] = ContextVar("resilient_flights", default=())
#: Guards `waits_for` of all flights: who waits for whom is decided by one at a time.
_waiting = threading.RLock()


def is_over(flight: Flight | None) -> bool:
    """Whether a flight has ended, in order or not."""
    return flight is None or flight.landed


def _wake(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)


def take() -> Flight | None:
    """The flight that this very call is, handed out once: calls further in are others."""
    inside = _inside.get()
    flight = inside[-1]() if inside else None
    if flight is None or flight.landed or flight.taken:
        return None
    flight.taken = True
    return flight


@contextmanager
def waiting_for(target: Flight, mine: Flight) -> Iterator[bool]:
    """Whether a caller (`mine`, with the flights around it) may wait for another; it is known to wait meanwhile."""
    around = [flight for flight in (one() for one in mine.around) if flight is not None and not flight.landed]
    if not around:
        yield True
        return
    with _waiting:
        may = not _reaches(target, around)
        if may:
            for flight in around:
                flight.waits_for.append(target)
    try:
        yield may
    finally:
        if may:
            with _waiting:
                for flight in around:
                    with suppress(ValueError):
                        flight.waits_for.remove(target)


def _reaches(target: Flight, around: list[Flight]) -> bool:
    """Whether the end of `target` depends on the end of one of these."""
    seen, todo = set[int](), [target]
    while todo:
        flight = todo.pop()
        if flight in around:
            return True
        if id(flight) not in seen and not flight.landed:
            seen.add(id(flight))
            todo += flight.waits_for
    return False


class Flights:
    """The flights of one cache by key."""

    __slots__ = ("_by_key", "_calls", "_lock")

    def __init__(self) -> None:
        self._by_key: dict[Hashable, weakref.ref[Flight]] = {}
        # All calls under way by key, also those that nobody waits for.
        self._calls: dict[Hashable, list[Flight]] = {}
        self._lock = threading.RLock()

    def join(self, key: Hashable, mine: Flight) -> Flight:
        """The flight of this key: `mine`, if there is no other under way."""
        reference = weakref.ref(mine)
        while True:
            found = self._by_key.setdefault(key, reference)
            flight = found()
            if flight is mine:
                return mine
            if flight is not None and not flight.landed:
                return flight
            self._remove(key, found)  # whoever made it was interrupted on the way out

    def end(self, key: Hashable, flight: Flight) -> None:
        """Let the next caller make a new flight."""
        with suppress(Exception):  # a key that cannot be compared with others was never among them
            found = self._by_key.get(key)
            if found is not None and found() is flight:
                self._remove(key, found)

    def _remove(self, key: Hashable, found: weakref.ref[Flight]) -> None:
        with self._lock:
            if self._by_key.get(key) is found:
                del self._by_key[key]

    @contextmanager
    def calling(self, key: Hashable, flight: Flight) -> Iterator[None]:
        """A call whose answer is to be kept under this key, for `discard` to know of."""
        with self._lock, suppress(Exception):  # as in `end`
            self._calls.setdefault(key, []).append(flight)
        try:
            yield
        finally:
            with self._lock, suppress(Exception):
                calls = self._calls.get(key, [])
                calls[:] = [one for one in calls if one is not flight]
                if not calls:
                    self._calls.pop(key, None)

    def discard(self, key: Hashable) -> None:
        """Let no call under way leave an answer behind for this key."""
        with self._lock:
            self._by_key.pop(key, None)
            for flight in self._calls.get(key, ()):
                flight.discarded = True

    def after_fork(self) -> None:
        """Forget the flights of threads that have stayed in the parent, and those who wait for the one of this."""
        self._lock = threading.RLock()
        for flights in self._calls.values():
            for flight in flights:
                flight.forget_waiters()
        self._by_key.clear()

    def __len__(self) -> int:
        return len(self._by_key)


def after_fork() -> None:
    """Replace the lock in a forked child."""
    global _waiting  # noqa: PLW0603 - another thread may have held it
    _waiting = threading.RLock()
    for reference in _inside.get():
        flight = reference()
        if flight is not None:
            flight.forget_waiters()
            flight.waits_for.clear()
