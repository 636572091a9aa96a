"""The service's process, seen from its parent: start it, kill it, start it again on the same port."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

from resilient.demo.settings import Settings

SCRIPT = Path(__file__).with_name("service.py")


class ServiceFailure(Exception):
    """The service could not be started; the message says why."""


class Service:
    """A context manager that never leaves a process behind."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process: subprocess.Popen[str] | None = None
        self._starts = 0
        self.port = 0

    @property
    def pid(self) -> int:
        """The process id of the running service, 0 when there is none."""
        return self._process.pid if self._process else 0

    def start(self) -> None:
        """Start the process and wait until it listens; from the second time on, at the same port."""
        settings = self._settings
        options: dict[str, Any] = {
            "--port": self.port,
            "--latency": settings.latency,
            "--error-rate": settings.error_rate,
            "--stall": settings.stall,
            "--stall-rate": settings.stall_rate,
            "--seed": settings.seed + self._starts,
        }
        # -I: the script needs the standard library alone, and no environment variable shall change it.
        command = [sys.executable, "-I", str(SCRIPT), *(str(part) for pair in options.items() for part in pair)]
        self._process = subprocess.Popen(  # noqa: S603 - nothing but our own script, without a shell
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        self._starts += 1
        self.port = self._read_port(self._process)

    def kill(self) -> None:
        """End the process at once, without a chance to say goodbye (SIGKILL)."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    @staticmethod
    def _read_port(process: subprocess.Popen[str]) -> int:
        line = process.stdout.readline() if process.stdout else ""
        greeting: dict[str, Any] = json.loads(line) if line else {}
        if "port" not in greeting:
            raise ServiceFailure(f"the service did not start: {greeting.get('error', 'its process ended at once')}")
        return int(greeting["port"])

    def __enter__(self) -> Service:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.kill()
