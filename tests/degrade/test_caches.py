"""Caches users bring: mappings, cachetools, get/set/delete, sync and async, whole and broken."""

import asyncio
import gc

import cachetools
import pytest

from resilient import degrade
from resilient.degrade.caches import AnswerCache

FACES = ["sync", "async"]


class Store:
    """A cache with get, set and delete, as many servers' clients are."""

    def __init__(self, broken=()):
        self.kept, self.broken = {}, broken

    def get(self, key):
        if "get" in self.broken:
            raise OSError
        return self.kept.get(key)

    def set(self, key, value):
        if "set" in self.broken:
            raise OSError
        self.kept[key] = value

    def delete(self, key):
        self.kept.pop(key, None)


class AsyncStore(Store):
    """The same, awaited."""

    async def get(self, key):
        return Store.get(self, key)

    async def set(self, key, value):
        Store.set(self, key, value)


class HalfAsyncStore(Store):
    """Only its writing is awaited."""

    async def set(self, key, value):
        Store.set(self, key, value)


class BrokenMapping(dict):
    """A mapping that fails whatever is asked of it."""

    def __getitem__(self, key):
        raise OSError

    def __setitem__(self, key, value):
        raise OSError

    def __iter__(self):
        raise OSError


class Service:
    """Answers with a number that grows, or fails."""

    def __init__(self):
        self.answers, self.down = 0, False

    def __call__(self, *args, **kwargs):
        if self.down:
            raise ConnectionError
        self.answers += 1
        return self.answers


def guarded(service, face, **options):
    """Guard a service with a cache, in the way of the face; return a plain function."""
    if face == "sync":
        return degrade(**options)(service)

    @degrade(**options)
    async def ask(*args, **kwargs):
        return service(*args, **kwargs)

    return lambda *args, **kwargs: asyncio.run(asyncio.wait_for(ask(*args, **kwargs), 5))


CACHES = [
    ("sync", dict),
    ("async", dict),
    ("sync", lambda: cachetools.LRUCache(10)),
    ("async", lambda: cachetools.TTLCache(10, 60)),
    ("sync", Store),
    ("async", Store),
    ("async", AsyncStore),
    ("async", HalfAsyncStore),
]


@pytest.mark.parametrize(("face", "make"), CACHES)
def test_last_good_answer(face, make):
    """Every kind of cache serves the last good answer of the same arguments, and only of those."""
    service = Service()
    ask = guarded(service, face, cache=make(), fallback="spare")
    assert [ask(1), ask(2), ask(1)] == [1, 2, 3]
    service.down = True
    assert [ask(1), ask(2), ask(3), ask([])] == [3, 2, "spare", "spare"]
    service.down = False
    assert ask(1) == 4


@pytest.mark.parametrize("broken", [("get",), ("set",), ("get", "set")], ids=str)
@pytest.mark.parametrize(("face", "make"), [("sync", Store), ("async", Store), ("async", AsyncStore)])
def test_broken_caches(face, make, broken, caplog):
    """A cache that fails is logged and as good as empty: answers come, and so do fallbacks."""
    service = Service()
    ask = guarded(service, face, cache=make(broken), fallback="spare")
    assert ask(1) == 1
    service.down = True
    assert ask(1) == (1 if broken == () else "spare")
    logged = [record.event for record in caplog.records if hasattr(record, "event")]
    assert logged.count("degrade.cache_failed") == len(broken)


@pytest.mark.parametrize("face", FACES)
def test_broken_mapping(face, caplog):
    """A mapping that fails does not break a call either, nor the death of an argument."""
    service = Service()
    ask = guarded(service, face, cache=BrokenMapping(), fallback="spare")
    thing = Service()
    assert ask(thing) == 1
    service.down = True
    assert ask(thing) == "spare"
    del thing
    gc.collect()
    assert {record.event for record in caplog.records if hasattr(record, "event")} >= {"degrade.cache_failed"}


@pytest.mark.parametrize(("face", "make"), [("sync", dict), ("async", AsyncStore)])
def test_keys_of_ones_own(face, make):
    """With `key=` calls share an answer as that function says, unhashable arguments included."""
    service, cache = Service(), make()
    ask = guarded(service, face, cache=cache, key=lambda items, **_: f"n{len(items)}", fallback="spare")
    assert ask([1, 2], verbose=True) == 1
    service.down = True
    assert (ask([3, 4]), ask([1])) == (1, "spare")
    assert list(getattr(cache, "kept", cache)) == ["n2"]


@pytest.mark.parametrize("face", FACES)
def test_key_that_fails(face, caplog):
    """A failing `key=` breaks no call; it is logged, before each call and when an answer is looked for."""
    service = Service()
    ask = guarded(service, face, cache={}, key=lambda: "never right", fallback="spare")
    assert ask(1) == 1
    service.down = True
    assert ask(1) == "spare"
    assert [record.event for record in caplog.records if record.exc_info] == ["degrade.cache_failed"] * 3


def test_entries_die_with_their_objects():
    """Entries of an object that has died are dropped, from nested arguments too, and others stay."""
    cache, one, two = {}, Service(), Service()
    ask = degrade(cache=cache)(lambda *args: "answer")
    for arguments in [(one,), ((one, 1),), (frozenset([one]), two), (two,), (1,)]:
        ask(*arguments)
    assert len(cache) == 5
    del one, arguments
    gc.collect()
    assert len(cache) == 2


def test_functions_do_not_share_answers():
    """Two functions that share a cache do not share answers; nor does a store that knows them by name."""
    cache, store = {}, Store()
    first, second = (degrade(cache=cache)(lambda x, answer=answer: answer) for answer in (1, 2))
    assert (first(0), second(0), len(cache)) == (1, 2, 2)
    degrade(cache=store)(str)(5)
    assert next(iter(store.kept))[0] == "builtins.str"


def test_answer_of_none():
    """A mapping knows an answer that is None from no answer; a store's `get` cannot tell."""
    for cache, expected in ((AnswerCache({}, None, str), True), (AnswerCache(Store(), None, str), False)):
        cache.store(cache.key((1,), {}), None)
        assert (cache.load((1,), {}) is None) is expected
