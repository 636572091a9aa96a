"""A small server for the status app, for programs that have none: the standard library's, with threads."""

from __future__ import annotations

import errno
import io
import socket
import sys
import threading
import time
from socketserver import ThreadingMixIn
from types import TracebackType
from typing import Any
from wsgiref.simple_server import ServerHandler, WSGIRequestHandler, WSGIServer

from resilient.errors import ConfigurationError
from resilient.events import log_failure
from resilient.web.app import StatusApp
from resilient.web.messages import LOGGER
from resilient.web.wsgi import OURS

#: Connections at the same time; what comes beyond is closed at once.
MOST_CONNECTIONS = 128
#: Seconds after which a client that neither sends nor reads is given up.
PATIENCE = 30.0


class _Handler(ServerHandler):
    wsgi_multithread = True
    server_software = "resilient"

    def log_exception(self, exc_info: Any) -> None:
        """Clients that have gone are nothing to write about; else it goes into our log."""
        if not isinstance(exc_info[1], OSError):
            log_failure(LOGGER, "web.failed", "an answer could not be given", kind="web")


class _Arriving(io.RawIOBase):
    """What a client sends: all of it in time, not each byte, or a hundred slow ones would take all places."""

    def __init__(self, connection: socket.socket, seconds: float) -> None:
        super().__init__()
        self._connection = connection
        self._seconds = seconds
        self._end = time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("the request took too long to arrive")
        self._connection.settimeout(left)
        try:
            return self._connection.recv_into(buffer)
        finally:
            self._connection.settimeout(self._seconds)


class _Requests(WSGIRequestHandler):
    timeout = PATIENCE

    def setup(self) -> None:
        """Give the whole request one time to arrive in."""
        super().setup()
        self.rfile.close()
        self.rfile = io.BufferedReader(_Arriving(self.connection, self.timeout))

    def handle(self) -> None:
        """Answer one request, and close the connection."""
        self.raw_requestline = self.rfile.readline(65537)
        if len(self.raw_requestline) > 65536:
            self.requestline, self.request_version, self.command = "", "", ""
            self.send_error(414)
            return
        if not self.parse_request():
            return
        environ: dict[str, Any] = {**self.get_environ(), OURS: True}
        output: Any = self.wfile
        handler = _Handler(self.rfile, output, sys.stderr, environ, multithread=True, multiprocess=False)
        vars(handler)["request_handler"] = self
        server: Any = self.server
        handler.run(server.get_app())

    def address_string(self) -> str:
        """The address as a number: a name would have to be asked for."""
        return str(self.client_address[0])

    def log_message(self, format: str, *args: Any) -> None:
        """Not each request: the page asks all the time."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, host: str, port: int) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._places = threading.BoundedSemaphore(MOST_CONNECTIONS)
        super().__init__((host, port), _Requests)

    def server_bind(self) -> None:
        """Take the port; not by way of the host's name, which may take its time."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread, if there is a place left."""
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, and give the place back."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that have gone are nothing to write about."""
        if not isinstance(sys.exception(), OSError):
            log_failure(LOGGER, "web.failed", "a request could not be answered", kind="web")


class StatusServer:
    """A running server; made by `serve(...)`. Ends at the end of its `with` block, or by `close()`."""

    def __init__(self, app: StatusApp, host: str, port: int) -> None:
        self._app = app
        self._server = _listening(host, port)
        self._server.set_app(app.wsgi)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="resilient-web-server", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._server.serve_forever(poll_interval=0.05)
        finally:
            self._server.server_close()
            self._ended.set()

    @property
    def port(self) -> int:
        """The port, also where it was chosen by the system."""
        return self._server.server_port

    @property
    def url(self) -> str:
        """The address of the page."""
        host = self._server.server_name
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - an address to open, not to bind
        return f"http://[{host}]:{self.port}/" if ":" in host else f"http://{host}:{self.port}/"

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the server has ended, at most `timeout` seconds; whether it has."""
        return self._ended.wait(timeout)

    def close(self) -> None:
        """End the server and the streams of its app; twice is harmless."""
        self._app.feed.close()
        if not self._ended.is_set():
            self._server.shutdown()
            self._ended.wait(5)

    def __enter__(self) -> StatusServer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<StatusServer {self.url}>"


def serve(app: StatusApp, host: str = "127.0.0.1", port: int = 8000) -> StatusServer:
    """Serve a status app by threads of this process, and return at once; `.url` is where the page is.

    For a look from the same machine: it speaks plain HTTP, and belongs behind a proxy where others are to see it.

    Args:
        app: what `status_app` has returned.
        host: the address to listen on; only this machine at first.
        port: the port to listen on; 0 takes any that is free.

    Raises:
        ConfigurationError: the port is in use or not allowed, or the host has no such address.
        TypeError: app, host or port is not what it must be.
    """
    if not isinstance(app, StatusApp):
        raise TypeError(f"app: must be what status_app(registry) returns, not {type(app).__name__}")
    if not isinstance(host, str):
        raise TypeError(f"host={host!r}: must be an address or a name, such as 127.0.0.1")
    if isinstance(port, bool) or not isinstance(port, int):
        raise TypeError(f"port={port!r}: must be a whole number")
    if not 0 <= port <= 65535:
        raise ConfigurationError(f"port={port!r}: must be from 1 to 65535, or 0 for any that is free")
    return StatusServer(app, host, port)


def _listening(host: str, port: int) -> _Server:
    try:
        return _Server(host, port)
    except OSError as error:
        why = error.strerror or str(error)
        if error.errno == errno.EADDRINUSE:
            text = f"port={port!r}: is in use on {host}; end what uses it, give another, or 0 for any that is free"
        elif error.errno in (errno.EACCES, errno.EPERM):
            text = f"port={port!r}: is not allowed ({why}); give one from 1024 on, or 0 for any that is free"
        else:
            text = f"host={host!r}: cannot be listened on ({why}); give an address of this machine, such as 127.0.0.1"
        raise ConfigurationError(text) from None
