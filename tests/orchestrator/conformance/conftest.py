"""What every test of an engine gets: the engine, other processes, and a limit."""

import os
import signal

import pytest

from .helpers import Bench, Stage
from .kits import memory_kit, sqlite_kit
from .processes import Nursery
from .wreck import Wrecks

TEST_LIMIT = 120.0
#: An engine that other processes can share is in both.
KITS = {"memory": memory_kit, "sqlite": sqlite_kit}
DURABLE = {"sqlite": sqlite_kit}

# Processes are killed and stopped here, which other systems do in other ways.
collect_ignore_glob = [] if hasattr(os, "fork") else ["test_*.py"]


@pytest.fixture(autouse=True)
def _watchdog():
    """Turn a hang of the main thread into a failure."""

    def bark(signum, frame):
        pytest.fail(f"still running after {TEST_LIMIT} s", pytrace=True)

    previous = signal.signal(signal.SIGALRM, bark)
    signal.setitimer(signal.ITIMER_REAL, TEST_LIMIT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


@pytest.fixture(params=KITS.values(), ids=KITS)
def kit(request, tmp_path):
    """An engine, and all the orchestrators a test wants on it."""
    made = request.param(tmp_path)
    yield made
    made.close()


@pytest.fixture(params=DURABLE.values(), ids=DURABLE)
def durable(request):
    """Makes kits that other processes can share."""
    made = []

    def make(folder):
        folder.mkdir(exist_ok=True)
        made.append(request.param(folder))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture(scope="session")
def nursery():
    made = Nursery()
    yield made
    made.close()


@pytest.fixture
def wrecks(nursery, durable, tmp_path):
    return Wrecks(nursery, durable, tmp_path)


@pytest.fixture
def orchestrator(kit):
    return kit.orchestrator(lease=5.0)


@pytest.fixture
def bench(orchestrator):
    return Bench(orchestrator)


@pytest.fixture
def stage(bench):
    made = Stage(bench)
    yield made
    made.go.set()
