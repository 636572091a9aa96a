"""A degradation with a cache around one with a fallback used to remember the fallback's answer."""

import asyncio

import pytest

from resilient import degrade, timeout


@pytest.mark.parametrize("between", [[], [timeout(5)]], ids=["direct", "timeout between"])
def test_cache_around_a_fallback(between):
    """What a fallback further in answers is not remembered as a good answer, sync."""
    cache = {}

    def fail(x):
        raise ConnectionError

    guarded = degrade(fallback="spare")(fail)
    for policy in between:
        guarded = policy(guarded)
    guarded = degrade(cache=cache)(guarded)
    assert guarded(1) == "spare"
    assert cache == {}


def test_cache_around_an_async_fallback():
    """What a fallback further in answers is not remembered as a good answer, async."""
    cache = {}

    @degrade(cache=cache)
    @degrade(fallback="spare")
    async def fail(x):
        raise ConnectionError

    assert asyncio.run(fail(1)) == "spare"
    assert cache == {}


def test_cache_around_a_good_answer():
    """A good answer is remembered, although another degradation inside could have answered."""
    cache = {}
    guarded = degrade(cache=cache)(degrade(fallback="spare")(lambda x: x * 2))
    assert guarded(2) == 4
    assert list(cache.values()) == [4]
