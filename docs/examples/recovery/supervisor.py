"""Keeps a service running, and restarts it when it is asked to, as systemd and supervisord do.

    python supervisor.py run FOLDER         starts service.py on FOLDER/orders.db, until its own stdin is closed
    python supervisor.py restart FOLDER     has the one that runs start it anew, and prints the new address

FOLDER/service.json says where the service is, and which process. FOLDER/supervisor.json says where to ask for a
restart.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import threading
from contextlib import suppress
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Listener
from pathlib import Path


class Supervisor:
    """One service, and what is known about it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> str:
        """Start the service; returns its address when it listens."""
        command = [sys.executable, str(Path(__file__).with_name("service.py")), str(self._folder / "orders.db")]
        # Its stdin is a pipe, so that it ends with this process, however this process ends.
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603
        assert self._process.stdout is not None
        address = self._process.stdout.readline().strip()
        if not address:
            raise RuntimeError("the service has ended before it listened")
        write(self._folder / "service.json", {"address": address, "pid": self._process.pid})
        return address

    def stop(self) -> None:
        """End the service, and wait until it is gone."""
        if self._process is not None:
            try:
                self._process.communicate(timeout=5)  # closes its stdin
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.communicate()

    def restart(self) -> str:
        """End it and start it anew; returns the new address."""
        self.stop()
        return self.start()


def write(file: Path, content: dict[str, object]) -> None:
    """Write a file in one step, so that nobody reads half of it."""
    draft = file.with_suffix(".new")
    draft.write_text(json.dumps(content), encoding="utf-8")
    os.replace(draft, file)


def serve(listener: Listener, supervisor: Supervisor) -> None:
    """Restart the service for everybody who asks."""
    while True:
        with suppress(OSError, EOFError, AuthenticationError), listener.accept() as caller:
            try:
                caller.send((True, supervisor.restart()))
            except (OSError, RuntimeError) as error:
                caller.send((False, str(error)))


def run(folder: Path) -> None:
    """Keep the service running until nobody holds the other end of stdin."""
    supervisor, key = Supervisor(folder), secrets.token_bytes(16)
    with Listener(("127.0.0.1", 0), authkey=key) as listener:
        supervisor.start()
        write(folder / "supervisor.json", {"address": listener.address, "key": key.hex()})
        threading.Thread(target=serve, args=(listener, supervisor), daemon=True).start()
        try:
            sys.stdin.read()
        finally:
            supervisor.stop()
            os._exit(0)


def restart(folder: Path) -> None:
    """Ask the supervisor of a folder for a restart, and wait for it."""
    where = json.loads((folder / "supervisor.json").read_text(encoding="utf-8"))
    with Client(tuple(where["address"]), authkey=bytes.fromhex(where["key"])) as connection:
        done, said = connection.recv()
    sys.stdout.write(f"{said}\n") if done else sys.exit(f"the service was not restarted: {said}")


if __name__ == "__main__":
    {"run": run, "restart": restart}[sys.argv[1]](Path(sys.argv[2]))
