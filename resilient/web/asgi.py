"""The ASGI face of the status app, for event loops of asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from resilient.web.feed import Listener
from resilient.web.messages import LONGEST_BODY, Request, Response, Stream, error_of

if TYPE_CHECKING:
    from resilient.web.app import Answer, StatusApp

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

#: Lines that come within so many seconds are sent together.
_TOGETHER = 0.05


class Asgi:
    """A status app as an ASGI 3 application. An object, as servers ask whether its `__call__` is async."""

    def __init__(self, app: StatusApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or follow the life of the server."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                self._app.rest()  # not closed: another server may start with it
                await send({"type": "lifespan.shutdown.complete"})
                return
            await send({"type": "lifespan.startup.complete"})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await _body(receive) if scope["method"] == "POST" else b""
        if body is None:
            return
        request = _request(scope, body)
        answer: Answer
        if self._app.is_quick(request):
            answer = self._app.handle(request)
        elif self._app.is_closed:
            answer = error_of(503, "the status page is closed")
        else:
            # It reads journals and makes pages: the loop has better things to do.
            answer = await self._handled_elsewhere(request)
        if isinstance(answer, Response):
            await _start(send, answer.status, answer.all_headers())
            shown = b"" if request.method == "HEAD" else answer.body
            await send({"type": "http.response.body", "body": shown})
        else:
            await self._stream(answer, receive, send)

    async def _handled_elsewhere(self, request: Request) -> Answer:
        future = self._app.pool.submit(self._app.handle, request)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            future.add_done_callback(_give_back)  # a stream that nobody will read
            raise

    async def _stream(self, stream: Stream, receive: Receive, send: Send) -> None:
        listener, loop, news = stream.listener, asyncio.get_running_loop(), asyncio.Event()
        listener.tell = lambda: loop.call_soon_threadsafe(news.set)
        if listener.wait(0):  # something has happened since it began to listen, of which nobody was told
            news.set()
        gone = asyncio.ensure_future(_until_gone(receive))
        try:
            await _start(send, stream.status, stream.all_headers())
            await send(_part(stream.first))
            end = loop.time() + listener.lifetime
            while not listener.closed and not gone.done() and loop.time() < end:
                await _wait(news, gone, listener)
                if not gone.done():
                    await send(_part(listener.take() or b": still here\n\n"))
            if not gone.done():
                await send({"type": "http.response.body", "body": b""})
        finally:
            listener.close()
            gone.cancel()


async def _wait(news: asyncio.Event, gone: asyncio.Future[None], listener: Listener) -> None:
    """Wait for news, a heartbeat's time at most, and then a little for more of them."""
    waiter: asyncio.Future[Any] = asyncio.ensure_future(news.wait())
    try:
        both: set[asyncio.Future[Any]] = {waiter, gone}
        await asyncio.wait(both, timeout=listener.heartbeat, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiter.cancel()
    if news.is_set() and not listener.closed:
        await asyncio.wait({gone}, timeout=_TOGETHER)
    news.clear()


async def _until_gone(receive: Receive) -> None:
    with suppress(Exception):  # whatever a server says of a client that is not there
        while (await receive())["type"] != "http.disconnect":
            pass


async def _body(receive: Receive) -> bytes | None:
    """The body, as far as it is needed to see that it is too long; None where the client has gone."""
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        size += len(message.get("body", b""))
        if size - LONGEST_BODY <= 0:
            parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts) if size <= LONGEST_BODY else b" " * (LONGEST_BODY + 1)


async def _start(send: Send, status: int, headers: Iterable[tuple[str, str]]) -> None:
    raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    await send({"type": "http.response.start", "status": status, "headers": raw})


def _part(body: bytes) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": True}


def _request(scope: Scope, body: bytes) -> Request:
    path, prefix = scope["path"], scope.get("root_path", "").rstrip("/")
    # The whole path, as the specification has it, or only what follows the prefix, as some frameworks have it.
    if prefix and (path == prefix or path.startswith(f"{prefix}/")):
        path = path[len(prefix) :]
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        headers[key] = f"{headers[key]}{'; ' if key == 'cookie' else ', '}{text}" if key in headers else text
    client = scope.get("client")
    return Request(
        scope["method"],
        path if path or prefix else "/",
        prefix,
        scope.get("query_string", b"").decode("latin-1"),
        headers,
        body,
        str(client[0]) if client else "",
        scope.get("scheme") == "https",
    )


def _give_back(future: Any) -> None:
    if not future.cancelled() and isinstance(future.result(), Stream):
        future.result().listener.close()
