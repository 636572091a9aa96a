"""A bookshop's orders over HTTP, kept in a SQLite file. Started by supervisor.py, with the database as its argument.

GET /health answers 200, or 503 where the database cannot be read; POST /orders with a title as its body takes an order
and answers with its number, or with 500 where it cannot. The first line that is printed is the service's address.
"""

from __future__ import annotations

import json
import os
import socketserver
import sqlite3
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Orders:
    """The orders, through one connection that stays open as long as the service runs."""

    def __init__(self, database: str) -> None:
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(database, check_same_thread=False)

    def place(self, title: str) -> int:
        """Keep an order, and return its number."""
        with self._lock, self._connection:
            cursor = self._connection.execute("insert into orders (title) values (?)", (title,))
        return cursor.lastrowid or 0

    def check(self) -> int:
        """Read every page of the database; returns the number of orders, raises sqlite3.Error where it is damaged."""
        with self._lock:
            (answer,) = self._connection.execute("pragma quick_check(1)").fetchone()
            if answer != "ok":
                raise sqlite3.DatabaseError(answer)
            (count,) = self._connection.execute("select count(*) from orders").fetchone()
        return int(count)


class OrderServer(ThreadingHTTPServer):
    """Listens on the loopback interface, at a port that the system chooses."""

    def __init__(self, orders: Orders) -> None:
        self.orders = orders
        super().__init__(("127.0.0.1", 0), OrderHandler)

    def server_bind(self) -> None:
        """Bind without the look-up of a host name that HTTPServer makes, which may ask a name server and wait."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", int(self.server_address[1])


class OrderHandler(BaseHTTPRequestHandler):
    """Answers in JSON, errors of the database included."""

    server: OrderServer

    def do_GET(self) -> None:
        """Say whether the database can be read."""
        if self.path != "/health":
            self._answer(404, {"error": "there is /health, and /orders to post to"})
            return
        try:
            self._answer(200, {"orders": self.server.orders.check()})
        except sqlite3.Error as error:
            self._answer(503, {"error": str(error)})

    def do_POST(self) -> None:
        """Take an order."""
        title = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        if self.path != "/orders" or not title:
            self._answer(404, {"error": "post the title of a book to /orders"})
            return
        try:
            self._answer(201, {"order": self.server.orders.place(title)})
        except sqlite3.Error as error:
            self._answer(500, {"error": str(error)})

    def _answer(self, status: int, content: dict[str, object]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Requests are no news."""


def main() -> None:
    """Serve until stdin is closed."""
    server = OrderServer(Orders(sys.argv[1]))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"http://127.0.0.1:{server.server_port}\n")
    sys.stdout.flush()
    sys.stdin.read()  # until the supervisor ends it, or has ended itself
    os._exit(0)


if __name__ == "__main__":
    main()
