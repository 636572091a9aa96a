"""FaultProxy between real clients and real servers: HTTP libraries and Redis."""

import asyncio
import http.client
import http.server
import threading
import time
import urllib.error
import urllib.request

import httpx
import pytest
import redis
import requests

from resilient import retry
from resilient.testing.network.proxy import FaultProxy

from .proxy_helpers import eventually, running_redis


class Page(http.server.BaseHTTPRequestHandler):
    """A page of some length, over connections that are kept."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "5000")
        self.end_headers()
        self.wfile.write(b"x" * 5000)

    def log_message(self, *args):
        """Say nothing."""


@pytest.fixture(scope="module")
def page():
    """The port of an HTTP server."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        server.handle_error = lambda *args: None
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(page):
    """A proxy before it."""
    with FaultProxy("127.0.0.1", page, seed=7) as proxy:
        yield proxy


@pytest.fixture
def url(proxy):
    """Where clients go."""
    return f"http://127.0.0.1:{proxy.port}/"


def test_urllib_meets_each_fault(proxy, url):
    """Without faults the page comes; each fault is the error that the library has for it."""

    def fetched():
        with urllib.request.urlopen(url, timeout=0.2) as answer:  # noqa: S310 - our own server
            return len(answer.read())

    assert fetched() == 5000
    proxy.refuse()
    with pytest.raises(urllib.error.URLError) as refused:
        fetched()
    assert isinstance(refused.value.reason, ConnectionRefusedError)
    proxy.restore()
    proxy.blackhole()
    with pytest.raises(TimeoutError):
        fetched()
    proxy.restore()
    proxy.add(limit_data=1000)
    with pytest.raises(http.client.IncompleteRead):
        fetched()
    proxy.restore()
    assert fetched() == 5000


def test_requests_session_loses_its_kept_connection(proxy, url):
    """A connection that is kept between requests is under the faults that come later."""
    with requests.Session() as session:
        assert len(session.get(url, timeout=5).content) == 5000
        assert len(session.get(url, timeout=5).content) == 5000
        assert proxy.connections == 1
        proxy.add(reset_after=1000)
        with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
            session.get(url, timeout=5)
        proxy.restore()
        assert len(session.get(url, timeout=5).content) == 5000


def test_httpx_sees_latency_and_timeouts(proxy, url):
    """An answer that is late by more than the client waits is its read timeout."""
    with httpx.Client(timeout=0.1) as client:
        assert client.get(url).status_code == 200
        proxy.add(latency=0.05)
        start = time.monotonic()
        assert client.get(url).status_code == 200
        assert time.monotonic() - start >= 0.05
        proxy.add(latency=0.1)
        with pytest.raises(httpx.ReadTimeout):
            client.get(url)


async def _statuses(proxy, count):
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{proxy.port}", timeout=5) as client:
        return [(await client.get("/")).status_code for _ in range(count)]


def test_httpx_in_the_loop_of_the_proxy(page):
    """Client and proxy share an event loop."""

    async def main():
        async with FaultProxy("127.0.0.1", page) as proxy:
            return await _statuses(proxy, 3)

    assert asyncio.run(main()) == [200, 200, 200]


def test_retry_gets_through_a_line_that_resets(proxy, url):
    """Policies meet real faults: with three attempts in ten lost, every call succeeds in the end."""
    fault = proxy.add(reset_after=0, rate=0.3)
    fetched = retry(max_attempts=10, on=requests.ConnectionError, base_delay=0.001)(requests.get)
    assert [fetched(url, timeout=5).status_code for _ in range(20)] == [200] * 20
    assert fault.fired == proxy.connections - 20
    assert fault.fired > 0


def test_redis_meets_each_fault(tmp_path):
    """A real Redis behind it: pipelines pass, and refusals, resets and silence are the client's own errors."""
    with running_redis(tmp_path) as port, FaultProxy("127.0.0.1", port) as proxy:
        client = redis.Redis(port=proxy.port, socket_timeout=0.2, retry=None)
        with client:
            pipeline = client.pipeline()
            for number in range(1000):
                pipeline.set(f"key{number}", b"x" * 100)
            assert all(pipeline.execute())
            assert client.get("key999") == b"x" * 100
            proxy.blackhole()
            with pytest.raises(redis.TimeoutError):
                client.get("key1")
            proxy.restore()
            assert client.get("key1") == b"x" * 100
            proxy.add(reset_after=50)
            with pytest.raises(redis.ConnectionError):
                client.get("key1")
            proxy.restore()
            proxy.refuse()
            with pytest.raises(redis.ConnectionError, match="refused"):
                client.get("key1")
            proxy.restore()
            assert client.get("key1") == b"x" * 100
        assert eventually(lambda: proxy.active == 0)
