"""The places of a bulkhead, and the line of those who wait for one."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict

from resilient.policy import running_loop

CLOSED = 1 << 60


class Ticket:
    """A caller's place in the queue: a thread with a lock to wake it, or a task with a future."""

    __slots__ = ("future", "gate", "held", "loop")

    def __init__(self) -> None:
        self.held = False
        self.gate: threading.Lock | None = None
        self.future: asyncio.Future[None] | None = None
        self.loop: asyncio.AbstractEventLoop | None = None

    def wake(self) -> bool:
        """Let the caller go on; False when its event loop is closed. Twice is harmless."""
        if self.gate is not None:
            if self.gate.locked():
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
        self.lock = threading.RLock()
        self.admitted = 0
        self.closed = False

    def enqueue(self, ticket: Ticket, limit: int | None) -> bool:
        """Get in line; False when the line is full. The caller looks again afterwards with `hand_on`."""
        with self.lock:
            if self.closed:
                return False
            if limit is not None and len(self.queue) >= limit and (self.free <= 0 or self.queue):
                return False
            self.queue[ticket] = None
        self.hand_on()
        return True

    def hand_on(self) -> None:
        """Give free places to those in front of the queue.

        May be interrupted at any call, by Ctrl-C or by the garbage collector leaving a place in the same thread, and
        begun again: a place changes hands within one line without a call.
        """
        while True:
            with self.lock:
                if self.closed or self.free <= 0 or not self.queue:
                    return
                try:
                    ticket = next(iter(self.queue))
                except (RuntimeError, StopIteration):
                    continue  # the garbage collector has come between the two calls, and changed the queue
                before = ticket.held
                # On one line, so that nothing can come between the look, the place and the ticket.
                self.free, ticket.held = self.free - (self.free > 0 and not ticket.held), ticket.held or self.free > 0
                if not ticket.held:
                    return  # the place has just gone to somebody else
                self.admitted += not before
                try:
                    woken = ticket.wake()
                except BaseException:
                    ticket.wake()
                    raise
                finally:
                    self.queue.pop(ticket, None)
                if not woken and ticket.held:  # its event loop is closed
                    ticket.held = False
                    self.free += 1

    def leave(self, ticket: Ticket) -> None:
        """Give back what the ticket holds, a place or a position in the queue; twice is harmless."""
        with self.lock:
            self.queue.pop(ticket, None)
            self.free, ticket.held = self.free + ticket.held, False  # on one line, as in `hand_on`
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
            self.free -= CLOSED  # so that the fast path needs no look at `closed`
            waiting = list(self.queue)
            self.queue.clear()
        for ticket in waiting:
            ticket.wake()
