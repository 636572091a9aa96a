"""One connection through a FaultProxy: a client, a server, and a flow each way."""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import logging
import os
import socket
import struct
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from resilient.events import log_note
from resilient.testing.network.flows import End, Flow
from resilient.testing.network.proxy_faults import DOWN, UP, ProxyFault, Way

_log = logging.getLogger("resilient.testing")

# Closing a socket with unread data would reset it; for so many seconds what still comes is read after a limit.
_GRACE = 0.5
# A reset that overtakes a client's own `connect` would look like another fault; so many seconds are left to it.
_FIRST_WORD = 0.01
# Off at once: what is unsent is dropped, and the other side is told so.
_LINGER = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)


class Side(asyncio.Protocol):
    """One end: what it sends goes into the one flow, what it is sent comes out of the other."""

    def __init__(self, link: Link, sends: Flow, gets: Flow, sock: socket.socket) -> None:
        self.sock = sock
        self.transport: asyncio.Transport | None = None
        #: It sends no more.
        self.ended = False
        #: asyncio has the socket, and closes it.
        self.made = False
        self._link = link
        self._sends = sends
        self._gets = gets

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ready to send and to be sent to."""
        assert isinstance(transport, asyncio.Transport)
        self.made = True
        self.transport = self._sends.source = self._gets.target = transport
        if self._link.over:
            transport.abort()
            return
        # So that "not blocked" means that everything has left.
        transport.set_write_buffer_limits(high=0)
        self._gets.blocked = False
        self._link.refresh()

    def data_received(self, data: bytes) -> None:
        """Some bytes came."""
        self._link.heard()
        self._sends.feed(data)

    def eof_received(self) -> bool:
        """It will send no more, and may still be sent to."""
        self.ended = True
        self._sends.feed(End.EOF)
        self._link.side_ended()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone: reset by its own doing (an error), or closed here."""
        self.ended = True
        self.transport = self._sends.source = None
        self._gets.lose_target()
        if exc is not None:
            self._sends.feed(End.RESET)
        self._link.side_ended()

    def pause_writing(self) -> None:
        """It takes no more for now."""
        self._gets.blocked = True

    def resume_writing(self) -> None:
        """Everything has left."""
        self._gets.blocked = False
        self._gets.move()

    def send_eof(self) -> None:
        """Tell it that nothing more comes."""
        # Reset meanwhile, there is nothing to end.
        if self.transport is not None:
            with suppress(OSError):
                self.transport.write_eof()

    def drop(self, *, reset: bool) -> None:
        """Close it now; what is on the way is lost."""
        if reset:
            with suppress(OSError):
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
        # Without a transport, it is closed when the connecting has ended, which may still be at work with it.
        if self.transport is not None:
            self.transport.abort()


class Link:
    """A connection that was accepted, and the one to the server that belongs to it."""

    def __init__(self, index: int, client: socket.socket, bytes_passed: dict[Way, int]) -> None:
        self.index = index
        self.over = False
        #: Its client may not know yet that it is connected.
        self.young = True
        self._bytes = bytes_passed
        self._faults: tuple[ProxyFault, ...] = ()
        self._changed = asyncio.Event()
        self._heard = asyncio.Event()
        self._up = Flow(self, UP)
        self._down = Flow(self, DOWN)
        self._sides = [Side(self, self._up, self._down, client)]
        self._closing: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    # What the proxy does with it

    def start(self, host: str, port: int, finished: Callable[[Link], None]) -> None:
        """Connect it to the server; `finished` is told when it is closed on both sides."""
        self._finished = finished
        self._task = asyncio.get_running_loop().create_task(self._open(host, port))
        self._task.add_done_callback(lambda task: self._opened())

    def set_faults(self, faults: Iterable[ProxyFault]) -> None:
        """Be under those of these faults that meet it."""
        self._faults = tuple(fault for fault in faults if fault.meets(self.index))
        self.refresh()

    def refresh(self) -> None:
        """Let what has changed have its effect."""
        self._changed.set()
        for flow in (self._up, self._down):
            flow.set_faults(self._faults)

    def reset(self) -> None:
        """End both sides by a reset."""
        self._drop(reset=True)

    def close(self) -> None:
        """End both sides, now."""
        self._drop(reset=False)

    def forget(self) -> None:
        """Close this process's copies of its sockets, as in a fork's child, without a word to the other ends."""
        for side in self._sides:
            side.sock.close()

    # What its flows and sides say

    def held(self) -> ProxyFault | None:
        """The fault that keeps everything back."""
        return next((fault for fault in self._faults if fault.settings.holds), None)

    def passed(self, way: Way, size: int) -> None:
        """Bytes were passed on."""
        self._bytes[way] += size

    def ended(self) -> None:
        """A flow has come to its end; with the other one, the connection is at its own."""
        if self._up.done and self._down.done:
            self.over = True
            for side in self._sides:
                if side.transport is not None:
                    side.transport.close()

    def cut_by(self, fault: ProxyFault) -> None:
        """End it the way the fault does."""
        fault.note(self.index)
        if fault.settings.reset_after is not None:
            self.reset()
            return
        self.over = True
        for flow in (self._up, self._down):
            flow.stop()
        for side in self._sides:
            side.send_eof()
        self._changed.set()
        self._closing = asyncio.get_running_loop().call_later(_GRACE, self.close)

    def heard(self) -> None:
        """A side has sent something."""
        self._heard.set()

    def side_ended(self) -> None:
        """A side sends no more or is gone; after a limit was reached, that is waited for."""
        if self._closing is not None and all(side.ended for side in self._sides):
            self.close()
        self._check_finished()

    # Inside

    async def _open(self, host: str, port: int) -> None:
        loop = asyncio.get_running_loop()
        try:
            client = self._sides[0]
            await loop.connect_accepted_socket(lambda: client, client.sock)
            await self._until_known()
            await self._until_let_through()
            if not self.over:
                await self._connect(host, port)
        # What a broken name, a dead server and a clock that forbids real sockets raise.
        except (OSError, UnicodeError, RuntimeError) as error:
            text, event = "FaultProxy: no connection to %s:%s: %s", "testing.not_connected"
            log_note(_log, logging.INFO, event, text, host, port, error, kind="fault_proxy", error=error)
            self.reset()
        except asyncio.CancelledError:
            self.close()
            raise

    async def _until_known(self) -> None:
        if any(fault.settings.reset_after == 0 for fault in self._faults):
            with suppress(TimeoutError):
                async with asyncio.timeout(_FIRST_WORD):
                    await self._heard.wait()
        self.young = False
        self.refresh()

    async def _until_let_through(self) -> None:
        while not self.over and (holder := self.held()) is not None:
            holder.note(self.index)
            self._changed.clear()
            await self._changed.wait()

    async def _connect(self, host: str, port: int) -> None:
        sock = await _connected(host, port)
        server = Side(self, self._down, self._up, sock)
        self._sides.append(server)
        if not self.over:
            await asyncio.get_running_loop().create_connection(lambda: server, sock=sock)

    def _drop(self, *, reset: bool) -> None:
        self.over = True
        for flow in (self._up, self._down):
            flow.stop()
        if self._closing is not None:
            self._closing.cancel()
        for side in self._sides:
            side.drop(reset=reset)
        self._changed.set()
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()

    def _opened(self) -> None:
        for side in self._sides:
            if not side.made:
                side.sock.close()
        self._check_finished()

    def _check_finished(self) -> None:
        opened = self._task is not None and self._task.done()
        if opened and all(side.transport is None for side in self._sides):
            if self._closing is not None:
                self._closing.cancel()
            self._finished(self)


async def _connected(host: str, port: int) -> socket.socket:
    """A socket connected to the first address of the host that answers."""
    loop = asyncio.get_running_loop()
    problem: OSError | None = None
    for family, address in await _addresses(host, port):
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            await loop.sock_connect(sock, address)
        except OSError as error:
            sock.close()
            problem = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise problem or OSError(f"{host} has no address")


async def _addresses(host: str, port: int) -> list[tuple[int, tuple[str, int]]]:
    with suppress(ValueError):
        version = ipaddress.ip_address(host).version
        return [(socket.AF_INET if version == 4 else socket.AF_INET6, (host, port))]
    # A thread of its own, which ends with the answer; the loop's would stay.
    pool = ThreadPoolExecutor(1, thread_name_prefix="resilient-fault-proxy-names")
    try:
        look_up = functools.partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(pool, look_up)
    finally:
        pool.shutdown(wait=False)
    return [(family, address[:2]) for family, _, _, _, address in found]  # type: ignore[misc]  # of the internet's
