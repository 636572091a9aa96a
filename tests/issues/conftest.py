"""Fixtures of this folder: time that stands still."""

import sys

import pytest

from resilient.clock import CLOCK


class Time:
    """A clock that stands still unless it is told to go on."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds

    async def asleep(self, seconds):
        self.now += seconds


@pytest.fixture
def time():
    """Put a clock of the test's own in place of the real one; `time.now += seconds` moves it."""
    source = Time()
    with CLOCK.use(source):
        yield source


@pytest.fixture
def untraced():
    """Let no tracer run in this thread: an interrupt in the middle of one may leave its locks taken."""
    tracer = sys.gettrace()
    sys.settrace(None)
    yield
    sys.settrace(tracer)
