"""What the tests of queues share: the jobs under the name that every process knows, bounded waits, processes."""

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

import resilient

HERE = Path(__file__).parent
WAIT = 20.0


def load_jobs():
    """Import `queue_jobs` under its bare name, so that pickles of its functions mean the same in every process."""
    if "queue_jobs" not in sys.modules:
        spec = importlib.util.spec_from_file_location("queue_jobs", HERE / "queue_jobs.py")
        module = sys.modules["queue_jobs"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules["queue_jobs"]


jobs = load_jobs()


def process(*arguments, code=None):
    """Start a Python process that runs `queue_jobs`, or a piece of code."""
    places = [str(Path(resilient.__file__).parents[1]), str(HERE)]
    command = ["-c", code] if code else [str(HERE / "queue_jobs.py"), *map(str, arguments)]
    return subprocess.Popen(  # noqa: S603 - our own code
        [sys.executable, *command],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(places)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(child):
    """Wait for a process; return what it has said, how it ended, and its errors."""
    out, err = child.communicate(timeout=WAIT)
    return out.strip(), child.returncode, err


def eventually(question, limit=WAIT):
    """Wait until the answer is true, and return it."""
    end = time.monotonic() + limit
    while not (answer := question()):
        assert time.monotonic() < end, "it has not come true"
        time.sleep(0.005)
    return answer
