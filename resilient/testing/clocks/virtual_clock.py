"""Time that passes when it is told to, for every policy, in threads and in event loops."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from queue import SimpleQueue
from time import perf_counter
from types import FrameType, TracebackType

from resilient import _checks as check
from resilient.clock import CLOCK
from resilient.testing.clocks import virtual_loops
from resilient.testing.clocks.real_sockets import forbidden
from resilient.testing.clocks.waiting import (
    any_runs,
    frames,
    is_known,
    surely_waits,
    tells,
    times,
    waits,
    waits_if_known,
)
from resilient.testing.undisturbed import Undisturbed

#: Whoever stands still for so long (real seconds) in code that is not known to wait is taken to wait all the same.
PATIENCE = 1.0
_LOOK = 0.0005  # real seconds between two looks at who still works
_LOOKS = 3  # looks at which nobody may have moved, where only looking tells


class Sleeper:
    """One thread or event loop that waits for a moment (None: for something else).

    `stirred` says whether it has been woken by something else meanwhile, and has only not run yet; None: nothing else
    wakes it.
    """

    __slots__ = ("due", "exact", "stirred", "thread", "wake")

    def __init__(
        self, due: float | None, wake: Callable[[], object], stirred: Callable[[], bool] | None, exact: bool
    ) -> None:
        self.due = due
        self.stirred = stirred
        self.exact = exact  # whether `stirred` misses no moment
        self.thread = threading.get_ident()
        self.wake = wake


class VirtualClock:
    """The time of all policies inside the block: `advance(seconds)` makes it pass, at once.

    Event loops follow it too: asyncio's sleeps, timeouts and timers. Where the user's own code calls `time.sleep` or
    `time.monotonic`, that remains real.

        with VirtualClock() as clock:
            with pytest.raises(ConnectionError):
                charge(order)           # opens the breaker
            clock.advance(60)
            charge(order)               # the probe

    With `autojump`, time jumps to the next moment that anybody waits for whenever everybody waits: retries and
    timeouts then take no time, and always happen in the same order.
    It refuses to be mixed with real sockets, which know nothing of it, and to be used twice at once.
    """

    _current: VirtualClock | None = None

    def __init__(self, *, autojump: bool = False) -> None:
        self.autojump = check.flag("autojump", autojump)
        self._now = 0.0
        self._changed = threading.Condition(threading.RLock())
        self._bystanders: dict[int, tuple[tuple[int, int], int]] = {}
        self._sleepers: set[Sleeper] = set()
        self._active = False
        self._next_look = 0.0  # by the real clock
        self._stack = ExitStack()
        self._jumper: threading.Thread | None = None
        # Not an Event, whose lock an interrupt may leave taken: whoever waits puts something in, if nothing is in.
        self._wanted: SimpleQueue[None] = SimpleQueue()

    # The block

    def __enter__(self) -> VirtualClock:
        if VirtualClock._current is not None:
            raise RuntimeError("a VirtualClock is in use already: there is one time for the whole process")
        try:
            with Undisturbed(), ExitStack() as stack:
                stack.callback(self._leave)
                VirtualClock._current = self
                # From where the real one stands, so that moments noted before the block still lie in the past.
                self._now = time.monotonic()
                self._active = True
                self._note_bystanders(self._standing())
                stack.enter_context(CLOCK.use(self))
                stack.enter_context(virtual_loops.follow(self))
                stack.enter_context(forbidden("a VirtualClock is in use, and a real socket would not follow it"))
                if self.autojump:
                    self._jumper = threading.Thread(target=self._watch, name="resilient-virtual-clock", daemon=True)
                    self._jumper.start()
                self._stack = stack.pop_all()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        try:
            with Undisturbed():
                self._stack.close()
        except BaseException:
            self._stack.close()  # interrupted before it began
            raise

    def _leave(self) -> None:
        VirtualClock._current = None
        with self._changed:
            self._active = False
            self._rouse()
        self._wanted.put(None)
        if self._jumper is not None and self._jumper.ident is not None:
            self._jumper.join()

    @classmethod
    def in_use(cls) -> VirtualClock | None:
        """The one whose block is being executed."""
        return cls._current

    @property
    def is_active(self) -> bool:
        """Whether the block is being executed."""
        return self._active

    # What policies ask

    def monotonic(self) -> float:
        """The time, in seconds from an arbitrary moment."""
        return self._now

    def sleep(self, seconds: float, /) -> None:
        """Return when so many seconds have passed by this clock."""
        if seconds < 0:
            raise ValueError("sleep length must be non-negative")
        self._wait_until(lambda: False, seconds)

    def asleep(self, seconds: float, /) -> Awaitable[None]:
        """The same in an event loop, whose time is this one."""
        return asyncio.sleep(seconds)

    def acquire(self, lock: threading.Lock, seconds: float, /) -> bool:
        """Acquire a lock within so many seconds by this clock (-1: whenever); whether it was."""
        if lock.acquire(False):
            return True
        with self._changed:
            due = None if seconds < 0 else self._now + seconds
            # Not exact: who has just got the lock, and does not run yet, leaves it as locked as it was.
            sleeper = self._lie_down(due, self._changed.notify_all, lambda: not lock.locked(), exact=False)
        try:
            pause = _LOOK
            while self._active and (sleeper.due is None or self._now < sleeper.due):
                # Whoever releases the lock does not tell the clock, so it is looked for.
                if lock.acquire(True, pause):
                    return True
                pause = min(pause * 2, 0.02)
                self._look_now_and_then()
            return lock.acquire(True, seconds) if not self._active and sleeper.due is None else lock.acquire(False)
        finally:
            with self._changed:
                self._sleepers.discard(sleeper)

    def _look_now_and_then(self) -> None:
        """See whether time may jump, unless somebody has just looked.

        Of many who wait for locks each asks again and again; all of them looking would keep those who work from it.
        """
        if perf_counter() < self._next_look:
            return
        with self._changed:
            began = perf_counter()
            self._jump_if_alone()
            ended = perf_counter()
            self._next_look = ended + 2 * (ended - began)

    def _wait_until(self, done: Callable[[], bool], seconds: float) -> None:
        """Return when `done()` says so, after so many seconds at the latest; who makes it so calls `_stir`."""
        with self._changed:
            sleeper = self._lie_down(self._now + seconds, self._changed.notify_all, done)
            try:
                while self._active and self._now < sleeper.due and not done():  # type: ignore[operator]  # it is a moment
                    if not self._jump_if_alone():
                        self._changed.wait()
            finally:
                self._sleepers.discard(sleeper)

    def _stir(self) -> None:
        """Let those who `_wait_until` something look again."""
        with self._changed:
            self._changed.notify_all()

    # What tests do

    def advance(self, seconds: float) -> None:
        """Let so many seconds pass: whoever waits is woken at its moment, one moment after the other.

        Threads get to run in between. Inside an event loop this is one step; there, `aadvance` lets tasks run.
        """
        end = self._now + check.seconds("seconds", seconds)
        self._await_quiet()  # who has just begun has yet to say what he waits for
        while (due := self._next_due(end)) is not None:
            self._set(due)
        self._set(end)

    async def aadvance(self, seconds: float) -> None:
        """As `advance`, from within an event loop, whose tasks run at each moment on the way."""
        end = self._now + check.seconds("seconds", seconds)
        loop = asyncio.get_running_loop()
        while True:
            await virtual_loops.settled(loop)
            due = min(filter(None, (self._next_due(end), virtual_loops.next_timer(loop, end))), default=None)
            if due is None:
                break
            self._set(due)
        self._set(end)
        await virtual_loops.settled(loop)

    def _next_due(self, end: float) -> float | None:
        with self._changed:
            dues = [one.due for one in self._sleepers if one.due is not None and self._now < one.due <= end]
        return min(dues, default=None)

    def _set(self, now: float) -> None:
        """Let it be so late, and threads that wait for this clock run until they wait again, or really work."""
        with self._changed:
            # Before they are woken: who gets up at once, and lies down again later, is missing from them meanwhile.
            waiting = bool(self._sleepers)
            self._now = max(self._now, now)
            self._rouse()
        if waiting:
            self._await_quiet()

    def _await_quiet(self) -> None:
        """Let other threads run until they wait, or really work."""
        end = time.monotonic() + PATIENCE
        while not self._is_quiet() and time.monotonic() < end:
            time.sleep(_LOOK)

    def _rouse(self) -> None:
        self._changed.notify_all()
        for sleeper in list(self._sleepers):
            sleeper.wake()

    # Jumping

    def _lie_down(
        self,
        due: float | None,
        wake: Callable[[], object],
        stirred: Callable[[], bool] | None = None,
        *,
        exact: bool = True,
    ) -> Sleeper:
        """Note one who waits; the caller has the lock."""
        sleeper = Sleeper(due, wake, stirred, exact)
        self._sleepers.add(sleeper)
        if self._wanted.empty():
            self._wanted.put(None)
        return sleeper

    def _jump_if_alone(self) -> bool:
        """Jump at once where nobody else can still be working; the caller has the lock."""
        return self.autojump and self._is_quiet(surely=True) and self._jump()

    def _jump(self) -> bool:
        dues = [one.due for one in self._sleepers if one.due is not None]
        if not self._active or not dues or min(dues) <= self._now or self._is_stirred():
            return False
        self._now = min(dues)
        self._rouse()
        return True

    def _watch(self) -> None:
        """Jump whenever everybody waits; the thread of a clock with `autojump`."""
        while self.is_active:
            self._wanted.get()
            looks, before = 0, None
            while self._sleepers and self.is_active:
                state = self._standing()
                looks = looks + 1 if state == before else 0
                stands = looks >= _LOOKS and self._is_quiet()
                if stands or looks * _LOOK >= PATIENCE or self._is_quiet(surely=True):
                    if looks * _LOOK >= PATIENCE:
                        # Whoever has stood still so long needs no second second until he moves.
                        self._note_bystanders(state)
                    self._jump_from(state)
                    looks, before = 0, None
                else:
                    before = state
                time.sleep(_LOOK)

    def _after_fork(self) -> None:
        """In a forked child there are no other threads, whatever they had begun; and the one that jumps is missing."""
        self._changed = threading.Condition(threading.RLock())
        self._wanted = SimpleQueue()
        self._sleepers = {one for one in self._sleepers if one.thread == threading.get_ident()}
        if self.autojump:
            self._jumper = threading.Thread(target=self._watch, name="resilient-virtual-clock", daemon=True)
            self._jumper.start()

    def _jump_from(self, state: dict[int, tuple[int, int]]) -> None:
        with self._changed:
            # Nobody may have moved since they were looked at.
            if self._standing() == state:
                self._jump()

    def _standing(self) -> dict[int, tuple[int, int]]:
        me = threading.get_ident()
        return {ident: (id(frame), frame.f_lasti) for ident, frame in frames().items() if ident != me}

    def _is_stirred(self) -> bool:
        return any(one.stirred is not None and one.stirred() for one in list(self._sleepers))

    def _is_quiet(self, *, surely: bool = False) -> bool:
        """Whether all other threads wait: for this clock, or for each other; `surely`: where that needs no guess."""
        with self._changed:
            if self._is_stirred() or any(one.due is not None and one.due <= self._now for one in self._sleepers):
                return False  # woken, and not yet up
            # From one moment: who waits in it goes on only when somebody who works in it lets him.
            standing = frames()
            sleeping = {one.thread for one in self._sleepers if one.exact or not surely}
        sleeping.add(threading.get_ident())
        if self._jumper is not None and self._jumper.ident is not None:
            sleeping.add(self._jumper.ident)
        others = [ident for ident in standing if ident not in sleeping]
        if surely:
            unsure = [ident for ident in others if not surely_waits(standing[ident])]
            # Where the system tells who runs, those who stand still since before the block are no guess, either.
            return not unsure or (
                tells()
                and all(waits_if_known(standing[ident]) for ident in unsure)
                and self._stand_still(unsure, standing)
                and not any_runs(unsure)
            )
        unsure = [ident for ident in others if not waits(standing[ident])]
        # Not where it is known what is waited for: who was woken there, and has not run yet, has not moved either.
        if any(is_known(standing[ident]) for ident in unsure) or not self._stand_still(unsure, standing):
            return False
        return not any_runs(ident for ident in others if not is_known(standing[ident]))

    def _note_bystanders(self, state: dict[int, tuple[int, int]]) -> None:
        spent = times(state)
        self._bystanders.update({ident: (place, spent[ident]) for ident, place in state.items()})

    def _stand_still(self, idents: list[int], standing: dict[int, FrameType]) -> bool:
        """Whether threads are where they were when they were noted: before the block, or after standing for long."""
        noted = [self._bystanders.get(ident) for ident in idents]
        places = [(id(standing[ident]), standing[ident].f_lasti) for ident in idents]
        if any(one is None or one[0] != place for one, place in zip(noted, places, strict=True)):
            return False
        # Who computes without a call stands in the same place whenever one looks, but has run meanwhile.
        spent = times(idents)
        return all(one is not None and one[1] == spent[ident] for one, ident in zip(noted, idents, strict=True))


def _after_fork() -> None:
    if VirtualClock._current is not None:
        VirtualClock._current._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
