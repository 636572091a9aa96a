"""The port of a FaultProxy: open, or refusing for real."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress

HOST = "127.0.0.1"
_BACKLOG = 1024
# Connections taken at once, before others on the event loop have their turn.
_BATCH = 64
# How long, in seconds, nothing is accepted after the system had no room for another connection.
_PAUSE = 0.05


class Listener:
    """Hands over each connection that a client makes, in that order; raises RuntimeError under a VirtualClock."""

    def __init__(self, accept: Callable[[socket.socket], None]) -> None:
        self._accept = accept
        self._socket: socket.socket | None = _bound(0)
        self.port: int = self._socket.getsockname()[1]
        self._loop: asyncio.AbstractEventLoop | None = None

    def listen(self, loop: asyncio.AbstractEventLoop, wanted: bool) -> None:
        """Accept connections from now on, or have them refused; OSError if the port was lost meanwhile."""
        if wanted and self._loop is None:
            if self._socket is None:
                self._socket = _bound(self.port)
            self._socket.listen(_BACKLOG)
            self._loop = loop
            loop.add_reader(self._socket, self._take)
        elif not wanted and self._loop is not None:
            self.close()
            # Bound and not listening, it refuses, and nobody else is given the port.
            self._socket = _bound(self.port)

    def close(self) -> None:
        """Give the port up; connections nobody has accepted are reset."""
        if self._socket is not None and self._loop is not None:
            self._loop.remove_reader(self._socket)
            # Closing alone leaves it open where a process that was forked has not closed its copy yet.
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        self._loop = None
        self.forget()

    def forget(self) -> None:
        """Close this process's copy of the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _take(self) -> None:
        for _ in range(_BATCH):
            if self._socket is None:
                return
            try:
                client, _address = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:
                self._wait_for_room()
                return
            client.setblocking(False)
            self._accept(client)

    def _wait_for_room(self) -> None:
        """Do not ask again at once, and in vain, as long as there are no file descriptors left."""
        loop, sock = self._loop, self._socket
        if loop is None or sock is None:
            return
        loop.remove_reader(sock)
        loop.call_later(_PAUSE, lambda: loop.add_reader(sock, self._take) if self._socket is sock else None)


def _bound(port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        # Elsewhere than on POSIX this would let others take the port.
        if os.name == "posix":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((HOST, port))
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock
