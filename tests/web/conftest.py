"""An app per test, closed at its end, and a clock that tests move."""

import contextlib
import logging

import pytest

from resilient import registry
from resilient.clock import CLOCK
from resilient.web import status_app

from .asking import TOKEN


class HandClock:
    """Time that stands still until it is moved."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds, /):
        self.now += seconds

    async def asleep(self, seconds, /):
        self.now += seconds


@pytest.fixture
def clock():
    """The time of the policies and of the app."""
    hand = HandClock()
    with CLOCK.use(hand):
        yield hand


@pytest.fixture
def make():
    """`make(**options)` gives an app that is closed when the test ends."""
    with contextlib.ExitStack() as stack:

        def made(**options):
            app = status_app(registry, **options)
            stack.callback(app.close)
            return app

        yield made


@pytest.fixture
def app(make):
    """An app that only shows."""
    return make()


@pytest.fixture
def acting(make):
    """An app whose token is TOKEN."""
    return make(token=TOKEN)


@pytest.fixture
def told():
    """The records of `resilient.web`."""
    found = []
    handler = logging.Handler()
    handler.emit = found.append
    logger = logging.getLogger("resilient.web")
    logger.addHandler(handler)
    before = logger.level
    logger.setLevel(logging.INFO)
    yield found
    logger.setLevel(before)
    logger.removeHandler(handler)
