"""Steps and contexts as an engine makes them."""

import os
import threading
import time

from resilient.orchestrator.model import RecoveryContext, RecoveryStep


def step(kind, **parameters):
    return RecoveryStep("work", "Work", kind, parameters)


def context(run="run-1", *, undoing=False, stopped=lambda: False):
    key = f"{run}:work:rollback" if undoing else f"{run}:work"
    made = RecoveryContext(run, "plan", step_id="work", idempotency_key=key)
    made.watch(stopped)
    return made


class Stop:
    """Stops a step after a moment, and knows when."""

    def __init__(self, after=0.1):
        self._flag = threading.Event()
        self.at = 0.0
        self._timer = threading.Timer(after, self._now)
        self._timer.start()

    def _now(self):
        self.at = time.monotonic()
        self._flag.set()

    def __call__(self):
        return self._flag.is_set()

    @property
    def ago(self):
        """How many seconds ago it was that the step was stopped."""
        self._timer.join()
        return time.monotonic() - self.at


def eventually(condition, limit=10.0):
    until = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.01)


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
    except NotADirectoryError:
        os.kill(pid, 0)
        return True


def names(folder):
    return sorted(entry.name for entry in os.scandir(folder))
