"""Where a FaultProxy is served: in the event loop that runs, or in a thread of its own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

_T = TypeVar("_T")

# How long, in seconds, a change from another thread waits for the event loop, and after what it looks whether there
# still is one.
_PATIENCE = 10.0
_LOOK = 0.1


class Home:
    """The event loop of a proxy.

    begin: called in the loop when it serves. stop: awaited there at the end.
    """

    def __init__(self, begin: Callable[[], None], stop: Callable[[], Awaitable[None]]) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.thread: threading.Thread | None = None
        self._begin = begin
        self._stop = stop
        self._ident: int | None = None
        self._leave: Callable[[], object] = bool
        self._leaving = False

    def settle(self) -> None:
        """Serve in the event loop that runs."""
        self.loop = asyncio.get_running_loop()
        self._ident = threading.get_ident()
        self._begin()

    async def aleave(self) -> None:
        """Serve no more; a change from now on is made where it is asked for."""
        self.loop = None
        await self._stop()

    def start_thread(self, name: str) -> None:
        """Serve in a thread of its own; raises what went wrong there."""
        started: concurrent.futures.Future[None] = concurrent.futures.Future()
        self.thread = threading.Thread(target=self._serve, args=(started,), name=name, daemon=True)
        try:
            self.thread.start()
            started.result()
        except BaseException:
            self.end_thread()
            raise

    def end_thread(self) -> None:
        """Serve no more, and return when the thread has ended."""
        self._leaving = True
        with suppress(RuntimeError):  # left already
            self._leave()
        if self.thread is not None and self.thread.ident is not None:
            self.thread.join()

    def forget(self) -> None:
        """Be nowhere, as in a fork's child, where the thread and the loop are not."""
        self.loop = None
        self._leave = bool

    def run(self, change: Callable[[], _T]) -> _T:
        """Make a change in the loop's thread, and return when it is made.

        Raises RuntimeError if the loop does not come to it.
        """
        loop = self.loop
        if loop is None or threading.get_ident() == self._ident:
            return change()
        answer: concurrent.futures.Future[_T] = concurrent.futures.Future()
        try:
            loop.call_soon_threadsafe(_answer, answer, change)
        except RuntimeError:  # closed meanwhile
            return change()
        for _ in range(round(_PATIENCE / _LOOK)):
            concurrent.futures.wait([answer], _LOOK)
            if answer.done():
                return answer.result()
            if self.loop is not loop and answer.cancel():
                return change()
        if answer.cancel():
            raise RuntimeError(
                f"the event loop of the FaultProxy did nothing for {_PATIENCE:g} s: do not block it, "
                "or use `with` instead of `async with`, which gives the proxy a thread of its own"
            )
        return answer.result()

    def _serve(self, started: concurrent.futures.Future[None]) -> None:
        try:
            # Its own kind of loop: what a test exchanges for its own code must not change how the network behaves.
            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                runner.run(self._serve_until_left(started))
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    async def _serve_until_left(self, started: concurrent.futures.Future[None]) -> None:
        loop, left = asyncio.get_running_loop(), asyncio.Event()
        self._leave = lambda: loop.call_soon_threadsafe(left.set)
        try:
            self.settle()
            started.set_result(None)
            if not self._leaving:  # else interrupted while it was starting
                await left.wait()
        finally:
            await self.aleave()


def _answer(answer: concurrent.futures.Future[_T], change: Callable[[], _T]) -> None:
    if not answer.set_running_or_notify_cancel():
        return
    try:
        answer.set_result(change())
    except Exception as error:
        answer.set_exception(error)
