"""A TCP proxy on this machine that makes the network between a client and a server as bad as a test needs it."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import weakref
from types import TracebackType
from typing import Any

from resilient import _checks as check
from resilient.testing import seeds
from resilient.testing.guard import check_allowed
from resilient.testing.network.connections import Link
from resilient.testing.network.home import Home
from resilient.testing.network.listener import HOST, Listener
from resilient.testing.network.proxy_faults import DOWN, UP, ProxyFault, Settings, Way, checked

_proxies: weakref.WeakSet[FaultProxy] = weakref.WeakSet()


class FaultProxy:
    """A real TCP proxy on 127.0.0.1 before a server, with faults that can be added and removed while it runs.

        async with FaultProxy("127.0.0.1", 5432, seed=7) as proxy:
            database = await connect(proxy.host, proxy.port)
            proxy.add(latency=0.05, jitter=0.01)        # every answer 50 ms later, give or take 10
            proxy.add(reset_after=1024, rate=0.1)       # one connection in ten is reset within its answers
            proxy.blackhole()                           # silence
            proxy.restore()                             # as if nothing had been

    With `async with` it works in the running event loop; with plain `with` in a thread of its own, for clients in
    other threads and processes. Everything on it can be called from any thread. It is used once.

    host, port: the server. seed: which connections a fault with a `rate` meets, and how delays vary; the same seed
    gives the same for the same connection, by the order in which they are accepted (None: one is drawn, see `seed`).
    allow_in_production: proceed even where the environment variable RESILIENT_ENV says production.

    Raises ConfigurationError for values that cannot work, InjectionRefusedError in production, and on entering
    RuntimeError if a VirtualClock is in use, which no real socket follows.
    """

    def __init__(self, host: str, port: int, seed: int | None = None, *, allow_in_production: bool = False) -> None:
        check_allowed(check.flag("allow_in_production", allow_in_production))
        _check_server(host, port, seed)
        self._server = (host, port)
        self._seed = seeds.fresh() if seed is None else seed
        self._faults: tuple[ProxyFault, ...] = ()
        self._numbers = itertools.count(1)
        self._bytes: dict[Way, int] = {UP: 0, DOWN: 0}
        self._accepted = 0
        self._links: set[Link] = set()
        self._listener: Listener | None = None
        self._home = Home(self._begin, self._stop)
        self._used = False
        self.owned = False  # somebody ends it who is not the test itself
        _proxies.add(self)

    # The block

    async def __aenter__(self) -> FaultProxy:
        # The event loop that Windows uses for asyncio cannot tell when a port has a client.
        if self._runs_for_its_owner() or isinstance(
            asyncio.get_running_loop(), getattr(asyncio, "ProactorEventLoop", ())
        ):
            return self.__enter__()
        self._bind()
        self._home.settle()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: Any) -> None:
        if self._home.thread is not None:
            self._home.end_thread()
        else:
            await self._home.aleave()

    def __enter__(self) -> FaultProxy:
        if self._runs_for_its_owner():
            return self  # somebody has started it already; the block only ends it
        listener = self._bind()
        try:
            self._home.start_thread(f"resilient-fault-proxy-{listener.port}")
        except BaseException:
            listener.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._home.end_thread()

    def _runs_for_its_owner(self) -> bool:
        return self.owned and self._home.loop is not None

    # Where it is, and what went through

    @property
    def host(self) -> str:
        """The address where clients connect."""
        return HOST

    @property
    def port(self) -> int:
        """The port where clients connect; RuntimeError before the block is entered."""
        if self._listener is None:
            raise RuntimeError("the FaultProxy has no port yet: enter it, `with proxy:` or `async with proxy:`")
        return self._listener.port

    @property
    def address(self) -> tuple[str, int]:
        """Both, as sockets take them."""
        return self.host, self.port

    @property
    def seed(self) -> int:
        """What all its draws come from; pass it to have the same again."""
        return self._seed

    @property
    def faults(self) -> tuple[ProxyFault, ...]:
        """The faults in force."""
        return self._faults

    @property
    def connections(self) -> int:
        """The number of connections accepted so far."""
        return self._accepted

    @property
    def active(self) -> int:
        """The number of connections that are open."""
        return len(self._links)

    @property
    def bytes_up(self) -> int:
        """The bytes passed on from clients to the server."""
        return self._bytes[UP]

    @property
    def bytes_down(self) -> int:
        """The bytes passed on from the server to clients."""
        return self._bytes[DOWN]

    def __repr__(self) -> str:
        here = "not entered" if self._listener is None else f"{HOST}:{self.port}"
        host, port = self._server
        return f"<FaultProxy {here} -> {host}:{port}, seed={self._seed}, faults={list(self._faults)}>"

    # Faults

    def add(
        self,
        *,
        latency: float | None = None,
        jitter: float | None = None,
        bandwidth: float | None = None,
        reset_after: int | None = None,
        limit_data: int | None = None,
        rate: float = 1.0,
        direction: str | None = None,
    ) -> ProxyFault:
        """Add a fault, at once and for open connections too; several add up. Returns it, to be removed and counted.

        latency: seconds by which answers come later, without fewer of them passing in a second.
        jitter: seconds by which that varies, up and down and never below 0; the order of the bytes stays.
        bandwidth: bytes that pass in a second, per connection, each way.
        reset_after: a connection is reset on both sides when so many bytes of answers have passed; 0: at once.
        limit_data: a connection ends in order, on both sides, when so many bytes of answers have passed.
        rate: the share of connections it meets, from 0 to 1.
        direction: "downstream" (answers), "upstream" (requests) or "both", each counted for itself, where that
        should not be as said above.
        Bytes are counted, per connection, from when the fault is added.
        Raises ConfigurationError, which names what is wrong, and RuntimeError after the block.
        """
        given = {
            "latency": latency,
            "jitter": jitter,
            "bandwidth": bandwidth,
            "reset_after": reset_after,
            "limit_data": limit_data,
            "rate": rate,
            "direction": direction,
        }
        return self._put(checked(given))

    def blackhole(self) -> ProxyFault:
        """Pass nothing on, either way, and let connections be: what is sent arrives when this is over."""
        return self._put(Settings(holds=True))

    def refuse(self) -> ProxyFault:
        """Refuse new connections and reset those that are open; the port stays this proxy's own."""
        return self._put(Settings(refuses=True))

    def restore(self) -> None:
        """Remove every fault; connections that are open go on."""
        self._home.run(lambda: self._change(()))

    def _put(self, settings: Settings) -> ProxyFault:
        return self._home.run(lambda: self._put_here(settings))

    def _put_here(self, settings: Settings) -> ProxyFault:
        if self._used and self._home.loop is None:
            raise RuntimeError("the FaultProxy was left, and is used once: make another one")
        fault = ProxyFault(settings, self._seed, next(self._numbers), self._remove)
        self._change((*self._faults, fault))
        return fault

    def _remove(self, fault: ProxyFault) -> None:
        self._home.run(lambda: self._change(tuple(one for one in self._faults if one is not fault)))

    def _change(self, faults: tuple[ProxyFault, ...]) -> None:
        for fault in self._faults:
            fault.active = fault in faults
        self._faults = faults
        loop = self._home.loop
        if loop is None or self._listener is None:
            return
        refusing = next((fault for fault in faults if fault.settings.refuses), None)
        self._listener.listen(loop, refusing is None)
        for link in tuple(self._links):
            if refusing is not None:
                refusing.note(link.index)
                link.reset()
            else:
                link.set_faults(faults)

    # Inside

    def _bind(self) -> Listener:
        if self._used:
            raise RuntimeError("a FaultProxy is used once: make another one for the next block")
        listener = self._listener = Listener(self._accept)
        self._used = True
        return listener

    def _begin(self) -> None:
        self._change(self._faults)

    def _accept(self, client: socket.socket) -> None:
        link = Link(self._accepted, client, self._bytes)
        self._accepted += 1
        self._links.add(link)
        link.start(*self._server, self._links.discard)
        link.set_faults(self._faults)

    async def _stop(self) -> None:
        """Close everything, and wait until it is closed."""
        if self._listener is not None:
            self._listener.close()
        for link in tuple(self._links):
            link.close()
        while self._links:
            await asyncio.sleep(0)

    def _forget(self) -> None:
        """Close what a fork's child has of it, so that what the parent closes is closed."""
        self._home.forget()
        if self._listener is not None:
            self._listener.forget()
        for link in tuple(self._links):
            link.forget()
        self._links.clear()


def _check_server(host: Any, port: Any, seed: Any) -> None:
    if not isinstance(host, str) or not host.strip():
        raise check.bad("host", host, "must be the server's name or address, such as '127.0.0.1'")
    if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= 65535:
        raise check.bad("port", port, "must be the server's port, a whole number from 1 to 65535")
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
        raise check.bad("seed", seed, "must be a whole number, or None for a drawn one")


def _forget_all() -> None:
    for proxy in tuple(_proxies):
        proxy._forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
