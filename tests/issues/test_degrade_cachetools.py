"""One lock around all cachetools caches used to deadlock forked children and caches that call cached functions."""

import gc
import os
import threading

import cachetools
import pytest

from resilient import degrade

from .helpers import Elsewhere, at_line, child, run

STEPS = 60

FORKED = """
    import os, threading, time, warnings
    import cachetools
    from resilient import degrade

    warnings.simplefilter("ignore")  # that a process with threads forks is what this is about
    storing, go_on, parent = threading.Event(), threading.Event(), os.getpid()

    class Slow(cachetools.TTLCache):
        def __setitem__(self, key, value, **options):
            if os.getpid() == parent:
                storing.set()
                go_on.wait(10)
            super().__setitem__(key, value, **options)

    @degrade(cache=Slow(10, 60))
    def same(x):
        return x

    @degrade(cache=cachetools.TTLCache(10, 60))
    def other(x):
        return x

    @degrade(cache=cachetools.LRUCache(10))
    def failing(x, good):
        if not good:
            raise ConnectionError
        return x

    threading.Thread(target=same, args=(1,), daemon=True).start()
    storing.wait(5)
    child = os.fork()
    if child == 0:
        good = (same(2), other(1), failing(3, True)) == (2, 1, 3)
        os._exit(0 if good else 1)
    end, ended, status = time.monotonic() + 4, 0, None
    while not ended and time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        time.sleep(0.005)
    go_on.set()
    if not ended:
        os.kill(child, 9)
        os.waitpid(child, 0)
    print("ended" if ended else "hung", status)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_fork_while_a_thread_stores():
    """A child forked while a thread stores can use that cache, and any other."""
    assert child(FORKED) == "ended 0"


POPPED = """
    import asyncio, threading
    import cachetools
    from resilient import degrade

    evicted = []

    @degrade(cache=cachetools.LRUCache(10))
    def audit(key):
        evicted.append(key)
        return key

    class Audited(cachetools.LRUCache):
        def popitem(self):
            key, value = super().popitem()
            audit("evicted")
            return key, value

    class Closing:
        def __del__(self):
            audit("closed")

    class Unclosed:
        def __del__(self):
            cache_of_own("again")

    cache = Audited(1) if CASE == "popitem" else cachetools.LRUCache(1)

    @degrade(cache=cache)
    def cache_of_own(x):
        return x if CASE == "popitem" else Closing()

    @degrade(cache=cache)
    async def aown(x):
        return x if CASE == "popitem" else Closing()

    def use():
        if FACE == "sync":
            cache_of_own(1), cache_of_own(2), cache_of_own(3)
        else:
            async def go():
                await aown(1), await aown(2), await aown(3)
            asyncio.run(go())

    use()
    print(len(evicted) >= 2, len(cache))
"""


@pytest.mark.parametrize("face", ["sync", "async"])
@pytest.mark.parametrize("case", ["popitem", "del"])
def test_cache_that_calls_a_cached_function(case, face):
    """An overridden `popitem`, or the `__del__` of an evicted answer, may call another cached function."""
    assert child(POPPED.replace("CASE", repr(case)).replace("FACE", repr(face))) == "True 1"


def objects(cache):
    class Thing:
        @degrade(cache=cache)
        def look(self, x):
            return x

        @degrade(cache=cache)
        async def alook(self, x):
            return x

    return Thing


MAKES = [
    lambda kind=cachetools.Cache: kind(100),
    lambda: cachetools.LRUCache(100),
    lambda: cachetools.LFUCache(100),
    lambda: cachetools.TTLCache(100, 60),
]


@pytest.mark.parametrize("make", MAKES, ids=["Cache", "LRUCache", "LFUCache", "TTLCache"])
def test_answers_of_dead_objects(make):
    """The answers of an object that is gone leave the cache by its next use."""
    cache = make()
    kind = objects(cache)
    first, second = kind(), kind()
    assert [first.look(1), first.look(2), run(first.alook(3)), second.look(4)] == [1, 2, 3, 4]
    assert len(cache) == 4
    del first
    gc.collect()
    second.look(4)
    assert len(cache) == 1
    del second
    gc.collect()
    run(kind().alook(5))
    gc.collect()
    kind().look(6)
    gc.collect()
    assert len(cache) <= 1


class Slow(cachetools.LRUCache):
    """Waits in the middle of storing."""

    def __init__(self):
        super().__init__(100)
        self.inside, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()

    def __setitem__(self, key, value, **options):
        self.inside.set()
        assert self.go_on.wait(5)
        super().__setitem__(key, value, **options)


def test_death_while_a_thread_stores():
    """An object may die while another thread stores: nobody waits, and its answers are gone by the next use."""
    cache = Slow()
    kind = objects(cache)
    dying, living = kind(), kind()
    dying.look(1)
    dying.look(2)
    cache.inside.clear()
    cache.go_on.clear()
    storing = Elsewhere(lambda: living.look(3))
    storing()
    assert cache.inside.wait(5)
    things = [dying]
    del dying
    death = threading.Thread(target=things.clear, daemon=True)
    death.start()
    death.join(2)
    waited = death.is_alive()
    cache.go_on.set()
    storing.end()
    assert not waited
    gc.collect()
    living.look(3)
    assert len(cache) == 1
    assert living.look(3) == 3


@pytest.mark.parametrize("make", MAKES, ids=["Cache", "LRUCache", "LFUCache", "TTLCache"])
def test_storing_while_an_object_dies(make, caplog):
    """At whatever line of cleaning up another thread stores, all answers of the dead go, and nothing is logged."""
    for step in range(STEPS):
        cache = make()
        kind = objects(cache)
        living, things = kind(), [kind()]
        for number in range(3):
            things[0].look(number)

        def die(things=things, living=living):
            things.clear()
            living.look(0)

        storing = Elsewhere(lambda living=living: [living.look(number) for number in range(1, 4)])
        reached = at_line(step, storing, die, "/cachetools/", "degrade/caches.py")
        if not reached:
            break
        storing.end()
        assert living.look(0) == 0
        assert len(cache) == cache.currsize == 4, f"line {step}"
    assert caplog.records == []


def test_objects_that_die_in_threads():
    """Objects that come and go in several threads leave nothing behind, and break nothing."""
    cache = cachetools.LRUCache(50)
    kind = objects(cache)

    def work():
        for number in range(60):
            thing = kind()
            thing.look(number)
            thing.look(-number)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert not any(thread.is_alive() for thread in threads)
    gc.collect()
    last = kind()
    last.look(0)
    last.look(0)
    assert len(cache) == cache.currsize == 1
