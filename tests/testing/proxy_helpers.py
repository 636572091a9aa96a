"""Servers behind a FaultProxy, and clients before it, for its tests."""

import contextlib
import os
import shutil
import socket
import subprocess
import threading
import time

import pytest

WAIT = 10.0


def eventually(condition, seconds=WAIT):
    """Whether the condition holds before so many seconds have passed."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


class Server:
    """A TCP server in threads: calls `answer(connection, data)` for what comes, and notes in `ends` how each ended."""

    def __init__(self, answer, host="127.0.0.1"):
        self.answer = answer
        self.received = []
        self.ends = []
        self.threads = []
        self.open = []
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socket = socket.create_server((host, 0), family=family, backlog=512)
        self.port = self.socket.getsockname()[1]

    def __enter__(self):
        self._start(self._accept)
        return self

    def __exit__(self, *error):
        self.stop()
        for thread in self.threads:
            thread.join(WAIT)
            assert not thread.is_alive()

    def stop(self):
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        for connection in list(self.open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _start(self, work, *args):
        thread = threading.Thread(target=work, args=args, daemon=True)
        self.threads.append(thread)
        thread.start()

    def _accept(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.open.append(connection)
            self._start(self._serve, connection)

    def _serve(self, connection):
        with connection:
            try:
                while data := connection.recv(1 << 16):
                    self.received.append(data)
                    self.answer(connection, data)
                self.ends.append("eof")
            except ConnectionResetError:
                self.ends.append("reset")
            except OSError as error:
                self.ends.append(type(error).__name__)
            self.open.remove(connection)


def echo(connection, data):
    """Send back what came."""
    connection.sendall(data)


def sized(connection, data):
    """Send as many bytes as were asked for."""
    connection.sendall(bytes(int(data)))


def swallow(connection, data):
    """Answer nothing."""


def connect(proxy, timeout=WAIT):
    """Connect a plain client."""
    client = socket.create_connection(proxy.address, timeout)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def reset(client):
    """Close a socket by a reset."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    client.close()


def read(client, size):
    """Read so many bytes, or fewer if the stream ends."""
    parts = []
    while size > 0 and (part := client.recv(min(size, 1 << 18))):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def read_on(client, size=1 << 16):
    """Read until the stream ends, into a list that is there after an error too."""
    parts = []

    def go():
        while part := client.recv(size):
            parts.append(part)

    return parts, go


def send_on(client, most):
    """Send until so many bytes are sent, into a list that is there after an error too."""
    sizes = []

    def go():
        while sum(sizes) < most:
            sizes.append(client.send(bytes(1 << 18)))

    return sizes, go


def asked(client, data=b"hello"):
    """The answer of an echo server."""
    client.sendall(data)
    return read(client, len(data))


def outcome(proxy):
    """How one exchange through the proxy goes: "answered", or the kind of error."""
    try:
        with connect(proxy) as client:
            return "answered" if asked(client) == b"hello" else "cut"
    except OSError as error:
        return type(error).__name__


def free_port():
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def running_redis(folder):
    """A Redis server of our own; its port."""
    server = shutil.which("redis-server")
    if server is None:
        if os.environ.get("RESILIENT_REQUIRE_SERVERS"):
            pytest.fail("redis-server is not on PATH, and RESILIENT_REQUIRE_SERVERS is set")
        pytest.skip("redis-server is not on PATH")
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    running = subprocess.Popen([server, *options], stdout=subprocess.DEVNULL)  # noqa: S603 - a server of our own

    def answers():
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    try:
        assert eventually(answers)
        yield port
    finally:
        running.terminate()
        running.wait(WAIT)
