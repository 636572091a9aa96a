"""The service that the shop depends on: prices, stock, recommendations, freight and invoices, over HTTP.

    python server.py PORT

Port 0 is any that is free. The first line that is printed is the port. It ends when its stdin is closed.
"""

import json
import os
import socketserver
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ANSWERS = {
    "price": {"price": 5},
    "reserve": {"reserved": True},
    "similar": ["Emma", "Persuasion"],
    "freight": {"cost": 2},
    "invoice": {"pages": 1},
    "checkout": {"ok": True},
    "health": {"ok": True},
}


class Server(ThreadingHTTPServer):
    """Listens on the loopback interface."""

    request_queue_size = 128

    def server_bind(self) -> None:
        """Bind without looking up the name of the machine, for which a name server might have to be waited."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", int(self.server_address[1])


class Handler(BaseHTTPRequestHandler):
    """Answers in JSON."""

    def do_GET(self) -> None:
        """The answer to a question, whatever book it is about."""
        answer = ANSWERS.get(self.path.split("/")[1])
        body = json.dumps(answer).encode()
        self.send_response(404 if answer is None else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Requests are no news."""


def main() -> None:
    """Serve until stdin is closed."""
    server = Server(("127.0.0.1", int(sys.argv[1])), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
