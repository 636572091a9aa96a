"""Fixtures of this folder: virtual time, and the sync and the async face of everything."""

import pytest

from resilient.clock import CLOCK

from .manager_helpers import Async, Sync, Virtual


@pytest.fixture
def virtual():
    """Put a clock behind everything that only moves when told to: `virtual.now += seconds`."""
    source = Virtual()
    with CLOCK.use(source):
        yield source


@pytest.fixture(params=[Sync(), Async()], ids=["sync", "async"])
def face(request):
    """Return the sync and the async way to use the same thing."""
    return request.param
