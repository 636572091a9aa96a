"""The WSGI face of the status app."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from resilient.web.messages import LONGEST_BODY, Refused, Request, Response, Stream, as_json

if TYPE_CHECKING:
    from resilient.web.app import Answer, StatusApp

Environ = dict[str, Any]
StartResponse = Callable[..., Any]

#: So much of a body that is too long is read away, so that the client reads our answer instead of an error.
_READ_AWAY = 1024 * 1024
#: What our own server says of itself in the environ: it has threads enough for all streams.
OURS = "resilient.server"
#: Streams at a time under other servers, whose threads, often four or eight, have an application to serve.
MOST_THREADS = 2
#: Lines that come within so many seconds are sent together.
_TOGETHER = 0.05


class Wsgi:
    """A status app as a WSGI application."""

    def __init__(self, app: StatusApp) -> None:
        self._app = app

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        answer = self._answer(environ)
        if isinstance(answer, Response):
            start_response(f"{answer.status} {answer.reason}", answer.all_headers())
            return [b"" if environ["REQUEST_METHOD"] == "HEAD" else answer.body]
        start_response("200 OK", answer.all_headers())
        return _Lines(answer)

    def _answer(self, environ: Environ) -> Answer:
        try:
            request = _request(environ)
        except Refused as refused:
            return as_json(refused.status, {"error": refused.text})
        if request.path == "/api/events" and not environ.get("wsgi.multithread"):
            # A stream would be all that this worker does. The page asks again and again instead.
            text = "this server works on one request at a time, and has no place for streams; ask /api/snapshot"
            return as_json(503, {"error": text}, Retry_After="60")
        return self._app.handle(request) if request.path != "/api/events" else self._stream(request, environ)

    def _stream(self, request: Request, environ: Environ) -> Answer:
        """A stream, unless those that are open might take the last threads of a server that is not ours."""
        ours = bool(environ.get(OURS))
        if not ours and self._app.feed.threads >= MOST_THREADS:
            text = f"{MOST_THREADS} streams hold a thread each already; ask /api/snapshot instead"
            return as_json(503, {"error": text}, Retry_After="30")
        answer = self._app.handle(request)
        if isinstance(answer, Stream):
            answer.listener.holds_thread = not ours
        return answer


class _Lines:
    """The parts of a stream; the server closes it when the client has gone."""

    def __init__(self, stream: Stream) -> None:
        self._listener = stream.listener
        self._parts = self._all(stream)

    def __iter__(self) -> Iterator[bytes]:
        return self._parts

    def _all(self, stream: Stream) -> Iterator[bytes]:
        listener = stream.listener
        try:
            yield stream.first
            end = time.monotonic() + listener.lifetime
            while not listener.closed and time.monotonic() < end:
                if listener.wait(listener.heartbeat) and not listener.closed:
                    time.sleep(_TOGETHER)
                yield listener.take() or b": still here\n\n"
        finally:
            listener.close()

    def close(self) -> None:
        """Give the place back, also where nothing was ever read."""
        self._listener.close()


def _request(environ: Environ) -> Request:
    headers = {key[5:].replace("_", "-").lower(): value for key, value in environ.items() if key.startswith("HTTP_")}
    headers["content-type"] = environ.get("CONTENT_TYPE") or ""
    prefix = _text(environ.get("SCRIPT_NAME", "")).rstrip("/")
    path = _text(environ.get("PATH_INFO", ""))
    method = environ["REQUEST_METHOD"]
    return Request(
        method,
        path if path or prefix else "/",
        prefix,
        environ.get("QUERY_STRING", ""),
        headers,
        _body(environ) if method == "POST" else b"",
        environ.get("REMOTE_ADDR") or "",
        environ.get("wsgi.url_scheme") == "https",
    )


def _text(raw: str) -> str:
    """A path as the client meant it: WSGI hands its bytes over as if they were Latin-1."""
    return raw.encode("latin-1", "replace").decode("utf-8", "replace")


def _body(environ: Environ) -> bytes:
    """The body, as far as it is needed to see that it is too long."""
    source, given = environ["wsgi.input"], environ.get("CONTENT_LENGTH") or ""
    if not given:
        found: bytes = source.read(LONGEST_BODY + 1) if environ.get("wsgi.input_terminated") else b""
        return found
    if not given.isascii() or not given.isdigit():
        raise Refused(400, "Content-Length must be a number")
    length = int(given[:18])
    body: bytes = source.read(min(length, LONGEST_BODY + 1))
    if length > LONGEST_BODY:
        source.read(min(length - len(body), _READ_AWAY))
    return body
