"""Real servers on loopback for the tests, and the simplest of clients."""

import contextlib
import http.client
import socket
import threading
import time
from urllib.parse import urlsplit

import uvicorn


def wait_until(done, seconds=10):
    """Wait until `done()` is true; whether it became so in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if done():
            return True
        time.sleep(0.01)
    return False


@contextlib.contextmanager
def uvicorn_of(application, **options):
    """Serve an ASGI application by a real uvicorn in a thread; gives its address."""
    config = uvicorn.Config(application, port=0, log_config=None, timeout_graceful_shutdown=1, **options)
    server = uvicorn.Server(config)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        assert wait_until(lambda: server.started)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join(10)
            assert not thread.is_alive()


def fetch(url, method="GET", body=None, **headers):
    """One request without following anything; gives status, headers and body."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    try:
        connection.request(method, parts._replace(scheme="", netloc="").geturl(), body, named)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


@contextlib.contextmanager
def streaming(url):
    """An open stream of events; gives a function that reads until some bytes have come."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as connection:
        connection.sendall(f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())
        got = b""

        def read_until(wanted):
            nonlocal got
            while wanted not in got:
                part = connection.recv(65536)
                assert part, f"the stream ended without {wanted!r}: {got!r}"
                got += part
            return got

        yield read_until
