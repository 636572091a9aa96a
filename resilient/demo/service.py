"""The service of the demo: it keeps stock, answers over HTTP, and is not quite reliable.

Runs as a script in a process of its own, on the standard library alone:

    python service.py --port 0 --latency 0.03 --error-rate 0.1 --seed 7

It prints {"port": ...} once it listens, and exits when its stdin is closed, so it never outlives its parent.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import socketserver
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BIND_PATIENCE = 3.0


class Habits:
    """How the service behaves: drawn per request from one seeded source."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._random = random.Random(options.seed)  # noqa: S311 - weather, not secrets
        self._lock = threading.Lock()

    def draw(self) -> tuple[float, bool]:
        """Seconds to take for the next request, and whether to answer it with a 503."""
        with self._lock:
            spread, stall, fail = self._random.random(), self._random.random(), self._random.random()
        delay = self._options.latency * (0.5 + spread)
        if stall < self._options.stall_rate:
            delay = self._options.stall
        return delay, fail < self._options.error_rate


class StockServer(ThreadingHTTPServer):
    """Listens on the loopback interface, one thread per request."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, habits: Habits) -> None:
        self.habits = habits
        super().__init__(("127.0.0.1", port), StockHandler)

    def server_bind(self) -> None:
        """Bind without the host name lookup of `HTTPServer`, which may ask a name server and wait."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that hung up is no news."""


class StockHandler(BaseHTTPRequestHandler):
    """Answers `GET /stock/<item>` with {"item": ..., "stock": ...}."""

    server: StockServer

    def do_GET(self) -> None:
        """Take a while, then answer or fail."""
        delay, fail = self.server.habits.draw()
        time.sleep(delay)
        item = self.path.rpartition("/")[2]
        if fail:
            self._answer(503, {"error": "overloaded"})
        elif self.path.startswith("/stock/") and item.isdigit():
            self._answer(200, {"item": int(item), "stock": int(item) * 37 % 101})
        else:
            self._answer(404, {"error": "no such page"})

    def _answer(self, status: int, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the parent tells the story."""


def bind(port: int, habits: Habits) -> StockServer:
    """Take the port; after a kill the system may need a moment to give it free."""
    give_up = time.monotonic() + BIND_PATIENCE
    while True:
        try:
            return StockServer(port, habits)
        except OSError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.05)


def exit_with_parent() -> None:
    """Wait until the parent closes our stdin, by exiting or by being killed, and end the process."""
    while sys.stdin.buffer.read(1024):
        pass
    os._exit(0)


def report(**facts: Any) -> None:
    """Tell the parent, who reads our stdout, in a line of JSON."""
    sys.stdout.write(f"{json.dumps(facts)}\n")
    sys.stdout.flush()


def main() -> None:
    """Serve until killed or orphaned."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.03)
    parser.add_argument("--error-rate", type=float, default=0.0)
    parser.add_argument("--stall", type=float, default=1.0)
    parser.add_argument("--stall-rate", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    # Ctrl-C in a terminal reaches the whole process group; the parent decides what becomes of us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=exit_with_parent, daemon=True).start()
    try:
        server = bind(options.port, Habits(options))
    except OSError as error:
        report(error=str(error))
        sys.exit(1)
    report(port=server.server_port)
    server.serve_forever(poll_interval=0.1)


if __name__ == "__main__":
    main()
