"""What flows one way through a connection of a FaultProxy: kept in order, passed on when its time has come."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from enum import Enum
from typing import NamedTuple, Protocol

from resilient.testing.network.proxy_faults import ProxyFault, Way

# What one way of a connection keeps at most, in bytes; delayed data is kept for longer, and must not be slower for it.
_ROOM = 1 << 20
_ROOM_DELAYED = 16 << 20
# A slow line takes its data in pieces that last so long (seconds, but bytes at least), and up to so far ahead.
_PIECE = 0.005
_LEAST = 64
_AHEAD = 0.05


class End(Enum):
    """How a stream ends: in order, or by a reset."""

    EOF = "end of stream"
    RESET = "reset"


class Chunk(NamedTuple):
    """Bytes or an end, when it came (loop time), and how much later each fault makes it, in seconds."""

    data: bytes | End
    arrived: float
    lags: tuple[tuple[ProxyFault, float], ...]

    def due(self) -> float:
        """When it is to be passed on; faults that have ended delay nothing any more."""
        return self.arrived + sum(lag for fault, lag in self.lags if fault.active)


class Connection(Protocol):
    """What a flow asks of the connection it belongs to."""

    index: int
    young: bool

    @property
    def over(self) -> bool:
        """Whether nothing is passed on any more."""

    def held(self) -> ProxyFault | None:
        """The fault that keeps everything back."""

    def passed(self, way: Way, size: int) -> None:
        """Bytes were passed on."""

    def ended(self) -> None:
        """A flow has come to its end in order."""

    def reset(self) -> None:
        """End both sides by a reset."""

    def cut_by(self, fault: ProxyFault) -> None:
        """End the connection the way the fault does."""


class Flow:
    """One way of a connection, from its source to its target; used in the loop's thread only."""

    def __init__(self, connection: Connection, way: Way) -> None:
        self.way = way
        self.source: asyncio.Transport | None = None
        self.target: asyncio.Transport | None = None
        #: Its target takes nothing at the moment: not connected, still busy, or gone.
        self.blocked = True
        #: Its source has sent all it had.
        self.finished = False
        #: The end was passed on.
        self.done = False
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._faults: tuple[ProxyFault, ...] = ()
        self._chunks: deque[Chunk] = deque()
        self._size = 0
        self._passed: dict[ProxyFault, int] = {}
        self._draws: dict[ProxyFault, random.Random] = {}
        self._line_free = 0.0
        self._paused = False
        self._timers: dict[str, asyncio.TimerHandle] = {}

    # From outside

    def set_faults(self, faults: Iterable[ProxyFault]) -> None:
        """These faults are in force from now on."""
        self._faults = tuple(faults)
        self._passed = {fault: self._passed.get(fault, 0) for fault in self._faults if fault.cuts(self.way)}
        if self._slowest() is None:
            self._line_free = 0.0
        self.move()

    def feed(self, data: bytes | End) -> None:
        """Take what the source sent."""
        self.finished = self.finished or isinstance(data, End)
        if self._connection.over:
            return
        lags = tuple(self._lags())
        for fault, _ in lags:
            fault.note(self._connection.index)
        chunks = [Chunk(data, self._loop.time(), lags)] if isinstance(data, End) else self._pieces(data, lags)
        for chunk in chunks:
            self._chunks.append(chunk)
            self._size += _size(chunk)
        if self._timers.get("move") is None:
            self.move()
        else:
            self._steer()

    def move(self) -> None:
        """Pass on what is due; called whenever something has changed."""
        self._cancel("move")
        while not self._connection.over:
            spent = self._spent()
            if spent is not None:
                self._connection.cut_by(spent)
                return
            if not self._next_is_due():
                break
            self._pass_on(self._chunks.popleft())
        self._steer()

    def lose_target(self) -> None:
        """The target is gone: what is on the way to it is dropped."""
        self.target = None
        self.blocked = True
        self._chunks.clear()
        self._size = 0

    def stop(self) -> None:
        """Forget everything, and let the source be read if it is not gone."""
        for name in tuple(self._timers):
            self._cancel(name)
        self._chunks.clear()
        self._size = 0
        self._let_read(True)

    # Coming in

    def _lags(self) -> Iterator[tuple[ProxyFault, float]]:
        for fault in self._faults:
            if fault.delays(self.way):
                if fault not in self._draws:
                    self._draws[fault] = fault.draws_for(self._connection.index, self.way)
                yield fault, fault.delay(self._draws[fault])

    def _pieces(self, data: bytes, lags: tuple[tuple[ProxyFault, float], ...]) -> Iterator[Chunk]:
        """The data as it gets through the line: in one piece, or bit by bit where that is slow."""
        now = self._loop.time()
        slow = self._slowest()
        if slow is None:
            yield Chunk(data, now, lags)
            return
        speed, fault = slow
        fault.note(self._connection.index)
        step = max(_LEAST, int(speed * _PIECE))
        for start in range(0, len(data), step):
            piece = data[start : start + step]
            self._line_free = max(self._line_free, now) + len(piece) / speed
            yield Chunk(piece, now, (*lags, (fault, self._line_free - now)))

    def _slowest(self) -> tuple[float, ProxyFault] | None:
        limits = [(fault.settings.bandwidth or 0.0, fault) for fault in self._faults if fault.slows(self.way)]
        return min(limits, key=lambda limit: limit[0], default=None)

    def _steer(self) -> None:
        """Read on, or let the source wait, so that only so much is kept here."""
        self._cancel("read")
        if self._connection.over:
            return
        delayed = any(fault.delays(self.way) or fault.slows(self.way) for fault in self._faults)
        full = self._size >= (_ROOM_DELAYED if delayed else _ROOM)
        ahead = self._line_free - self._loop.time() - _AHEAD
        self._let_read(not full and ahead <= 0)
        if not full and ahead > 0:
            self._timers["read"] = self._loop.call_later(ahead, self._steer)

    def _let_read(self, wanted: bool) -> None:
        # After its end, reading on would only bring that end again.
        if self.source is None or self.finished or wanted is not self._paused:
            return
        self._paused = not wanted
        if wanted:
            self.source.resume_reading()
        else:
            self.source.pause_reading()

    # Going out

    def _next_is_due(self) -> bool:
        if self.blocked:
            self._let_reset_overtake()
        if not self._chunks or (self.blocked and self._chunks[0].data is not End.RESET):
            return False
        holder = self._connection.held()
        if holder is not None:
            holder.note(self._connection.index)
            return False
        wait = self._chunks[0].due() - self._loop.time()
        if wait > 0:
            self._timers["move"] = self._loop.call_later(wait, self.move)
        return wait <= 0

    def _let_reset_overtake(self) -> None:
        """A reset does not wait until somebody reads what was sent before it."""
        if self._chunks and self._chunks[-1].data is End.RESET:
            last = self._chunks[-1]
            self._chunks.clear()
            self._chunks.append(last)
            self._size = 0

    def _pass_on(self, chunk: Chunk) -> None:
        self._size -= _size(chunk)
        if chunk.data is End.RESET or self.target is None:
            self._connection.reset()
        elif isinstance(chunk.data, End):
            self.done = True
            # Reset meanwhile, there is nothing to end.
            with suppress(OSError):
                self.target.write_eof()
            self._connection.ended()
        else:
            left = (fault.cuts_after - sent for fault, sent in self._passed.items() if fault.cuts_after is not None)
            data = chunk.data[: min(left, default=len(chunk.data))]
            self._passed = {fault: sent + len(data) for fault, sent in self._passed.items()}
            self._connection.passed(self.way, len(data))
            self.target.write(data)

    def _spent(self) -> ProxyFault | None:
        """The fault that has let through as much as it does, all of which has left."""
        if self._connection.young:
            return None
        spent = (fault for fault, sent in self._passed.items() if sent >= (fault.cuts_after or 0))
        return next((fault for fault in spent if not self.blocked or fault.settings.reset_after == 0), None)

    def _cancel(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()


def _size(chunk: Chunk) -> int:
    return 0 if isinstance(chunk.data, End) else len(chunk.data)
