"""Other processes as the tests see them."""

import json
import os
import signal
import subprocess
import sys
import threading
from itertools import count
from pathlib import Path

from .helpers import PATIENCE

HERE = Path(__file__).parent
SERVE = "import sys; sys.path.append(sys.argv[1]); from conformance.programs import serve; serve()"


class Child:
    """Another process."""

    def __init__(self, folder, number):
        self.folder = folder
        self.number = number
        self.pid = 0
        self.code = None
        self.began = threading.Event()
        self.ended = threading.Event()

    def send(self, number):
        os.kill(self.pid, number)

    def wait(self):
        """Its exit code; negative is the signal that killed it."""
        assert self.ended.wait(PATIENCE), f"process {self.pid} goes on: {self.errors}"
        return self.code

    @property
    def told(self):
        """What its program returned."""
        assert self.wait() == 0, f"exit code {self.code}: {self.errors}"
        return json.loads((self.folder / f"{self.number}.json").read_text())

    @property
    def errors(self):
        return (self.folder / f"{self.number}.err").read_text()


class Nursery:
    """Where children come from."""

    def __init__(self):
        command = [sys.executable, "-c", SERVE, str(HERE.parent)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)  # noqa: S603 - this very suite
        self._lock = threading.Lock()
        self._numbers = count(1)
        self._children = {}
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def start(self, program, folder, **job):
        """A process that carries out a program."""
        with self._lock:
            child = Child(folder, next(self._numbers))
            self._children[child.number] = child
            line = json.dumps({"program": program, "folder": str(folder), "number": child.number, **job})
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        assert child.began.wait(PATIENCE), "no process came"
        return child

    def _listen(self):
        for line in self._process.stdout:
            what, number, value = line.split()
            child = self._children[int(number)]
            if what == "began":
                child.pid = int(value)
                child.began.set()
            else:
                child.code = int(value)
                child.ended.set()

    def close(self):
        for child in self._children.values():
            if not child.ended.is_set():
                os.kill(child.pid, signal.SIGKILL)
                child.ended.wait(PATIENCE)
        self._process.stdin.close()
        assert self._process.wait(PATIENCE) == 0
        self._listener.join(PATIENCE)
        self._process.stdout.close()
