"""Keys of `CachedDegradation`; and caches that are broken, or hold what others have put there, break no call."""

import gc
import weakref

import cachetools
import pytest

from resilient import CachedDegradation, degrade

from .cached_helpers import FACES, IDS, AsyncStore, Service, Store, moved_time, outcome


@pytest.fixture(params=FACES, ids=IDS)
def face(request):
    """Run the test with plain functions and with coroutine functions."""
    return request.param


@pytest.fixture(autouse=True)
def time_stands():
    """Time moves by `tick` only."""
    with moved_time() as moved:
        yield moved


# Without key=


def test_equal_but_different_arguments(face):
    """1, True, 1.0 and "1" do not share an answer; positional and keyword do not; equal ones do."""
    service = Service()
    for backing in (None, {}, Store()):
        ask = degrade(cache=CachedDegradation(backing))(face.function(lambda *args, **kwargs: service()))
        calls = [((1,), {}), ((True,), {}), ((1.0,), {}), (("1",), {}), ((), {"x": 1}), (((1,),), {}), (((True,),), {})]
        first = [face.call(ask, *args, **kwargs) for args, kwargs in calls]
        assert len(set(first)) == len(calls)
        assert [face.call(ask, *args, **kwargs) for args, kwargs in calls] == first


def test_two_functions(face):
    """Two functions with one CachedDegradation do not share; also two under one policy, and two of one name."""
    cached = CachedDegradation()
    policy = degrade(cache=cached)

    def make(answer):
        return face.function(lambda x: answer)

    one, two, three = policy(make(1)), policy(make(2)), degrade(cache=cached)(make(3))
    assert [face.call(ask, 0) for ask in (one, two, three, one, two, three)] == [1, 2, 3] * 2


def test_two_instances_and_their_death(face):
    """Instances do not share, are not kept alive, and leave nothing behind; nor does a new one at the old address."""
    cache = {}
    cached, service = CachedDegradation(cache), Service()

    class Host:
        method = degrade(cache=cached)(face.function(lambda self: service(id(self))))

    one, two = Host(), Host()
    answers = [face.call(one.method), face.call(two.method)]
    assert answers == [face.call(one.method), face.call(two.method)]
    assert len(set(answers)) == 2
    gone = weakref.ref(one)
    del one
    gc.collect()
    assert gone() is None
    assert len(cache) == 1
    seen = {face.call(Host().method) for _ in range(30)}
    assert len(seen) == 30


def test_failing_keys_leak_nothing(face):
    """Calls that fail leave nothing: no entry, no argument, no flight."""
    cache, references = {}, []
    cached = CachedDegradation(cache)

    def body(argument):
        raise ConnectionError

    ask = degrade(cache=cached, fallback="spare")(face.function(body))

    class Argument:
        pass

    for _ in range(50):
        argument = Argument()
        references.append(weakref.ref(argument))
        assert face.call(ask, argument) == "spare"
    del argument
    gc.collect()
    assert cache == {}
    assert not any(reference() for reference in references)
    assert not cached.flights._by_key


def test_unhashable_arguments(face):
    """Unhashable arguments are called each time, answered by the fallback when that fails, and never kept."""
    cache, service = {}, Service()
    ask = degrade(cache=CachedDegradation(cache), fallback="spare")(face.function(service))
    assert [face.call(ask, []), face.call(ask, [])] == ["[]:1", "[]:2"]
    service.down = ConnectionError()
    assert face.call(ask, []) == "spare"
    assert cache == {}


# With key=


def test_keys_are_used_as_they_are(face):
    """The results of `key=` are the cache's keys: preloaded answers and fallback data are found under them."""
    for backing in (None, {}, Store()):
        service, cached = Service(), CachedDegradation(backing, cache_ttl=10)
        ask = degrade(cache=cached, key=lambda user, **_: ("user", user["id"]))(face.function(service))
        cached.preload_cache([("user", 1)], lambda key: f"preloaded {key[1]}")
        assert face.call(ask, {"id": 1}, trace="x") == "preloaded 1"
        cached.set_fallback_data(("user", 2), "data")
        service.down = ConnectionError()
        assert face.call(ask, {"id": 2}) == "data"
        service.down = None
        face.call(ask, {"id": 3})
        assert ("user", 3) in getattr(cached.cache, "kept", cached.cache)


def test_functions_share_by_key(face):
    """Two functions whose `key=` give the same share the answer."""
    cached = CachedDegradation()
    one = degrade(cache=cached, key=lambda x: x)(face.function(lambda x: "one"))
    two = degrade(cache=cached, key=lambda x: x)(face.function(lambda x: "two"))
    assert [face.call(one, 1), face.call(two, 1), face.call(two, 2), face.call(one, 2)] == ["one", "one", "two", "two"]


def test_key_that_raises(face, caplog):
    """A `key=` that raises breaks no call: it is made each time, and a failed one gets the fallback."""
    service, cache = Service(), {}
    ask = degrade(cache=CachedDegradation(cache), key=lambda: 1, fallback="spare")(face.function(service))
    assert [face.call(ask, "a"), face.call(ask, "a")] == ["a:1", "a:2"]
    service.down = ConnectionError()
    assert face.call(ask, "a") == "spare"
    assert cache == {}
    assert "degrade.cache_failed" in {getattr(record, "event", None) for record in caplog.records}


class BadHash:
    def __init__(self, error):
        self.error = error

    def __hash__(self):
        raise self.error


@pytest.mark.parametrize("backing", [dict, Store, lambda: cachetools.LRUCache(5)], ids=["dict", "store", "LRU"])
@pytest.mark.parametrize(
    "key", [[1], {}, BadHash(TypeError()), BadHash(ValueError())], ids=["list", "dict", "TypeError", "ValueError"]
)
@pytest.mark.parametrize("fallback", [True, False], ids=["fallback", "none"])
def test_unhashable_key(face, backing, key, fallback):
    """A `key=` whose result cannot be hashed breaks no call, neither a good one nor a failed one."""
    service = Service()
    options = {"fallback": "spare"} if fallback else {}
    ask = degrade(cache=CachedDegradation(backing()), key=lambda x: key, **options)(face.function(service))
    assert face.call(ask, "a") == "a:1"
    service.down = ConnectionError()
    assert outcome(face.call, ask, "a") == ("spare" if fallback else service.down)


class BadEquality:
    def __hash__(self):
        return 1

    def __eq__(self, other):
        raise ValueError("not to be compared")


def test_key_that_cannot_be_compared(face):
    """Keys whose comparison raises break no call."""
    service = Service()
    ask = degrade(cache=CachedDegradation({}), key=lambda *args: BadEquality(), fallback="spare")(
        face.function(service)
    )
    assert [face.call(ask, "a"), face.call(ask, "a")] == ["a:1", "a:2"]
    service.down = ConnectionError()
    assert face.call(ask, "a") == "spare"


def test_key_of_arguments_that_the_call_changes(face):
    """An answer belongs to the key with which the call came, whatever the function then does with its arguments."""

    def body(items):
        total = 0
        while items:
            total += items.pop()
        return total

    ask = degrade(cache=CachedDegradation(), key=tuple)(face.function(body))
    assert face.call(ask, [1, 2, 3]) == 6
    assert face.call(ask, []) == 0
    assert face.call(ask, [1, 2, 3]) == 6


def test_async_key_is_refused():
    """A `key=` that is a coroutine function is refused at decoration: its result would be another key each time."""

    async def key(x):
        return x

    with pytest.raises((TypeError, ValueError), match="key"):
        degrade(cache=CachedDegradation(), key=key)(lambda x: x)


# Broken caches


class BrokenMapping(dict):
    """A mapping that fails whatever is asked of it."""

    def _fail(self, *args):
        raise OSError("the cache is down")

    __getitem__ = __setitem__ = __delitem__ = __contains__ = __iter__ = get = pop = setdefault = update = _fail


@pytest.mark.parametrize("broken", [("get",), ("set",), ("delete",), ("get", "set", "delete")], ids=str)
@pytest.mark.parametrize("kind", [Store, AsyncStore])
def test_broken_store(face, kind, broken, time_stands):
    """A cache that fails is logged and as good as empty; fallback data is served all the same."""
    kind = kind if face.is_async else Store  # an async one is refused for a sync function
    service, cached = Service(), CachedDegradation(kind(broken), cache_ttl=10)
    ask = degrade(cache=cached, key=lambda x: x, fallback="spare")(face.function(service))
    assert face.call(ask, "a") == "a:1"
    time_stands.tick(10)
    service.down = ConnectionError()
    assert face.call(ask, "a") == ("a:1" if broken == ("delete",) else "spare")
    cached.set_fallback_data("b", "data")
    assert face.call(ask, "b") == "data"
    face.call(cached.adelete, "b") if face.is_async else cached.delete("b")
    assert face.call(ask, "b") == "spare"


def test_broken_mapping(face):
    """A mapping that fails breaks no call."""
    service = Service()
    ask = degrade(cache=CachedDegradation(BrokenMapping()), fallback="spare")(face.function(service))
    assert [face.call(ask, "a"), face.call(ask, "a")] == ["a:1", "a:2"]
    service.down = ConnectionError()
    assert face.call(ask, "a") == "spare"


FOREIGN = [
    None,
    5,
    "ab",
    b"ab",
    {},
    [],
    (),
    (1,),
    (None, 1),
    ("1", 1),
    [float("nan"), 1],
    (float("inf"), 1),
    (float("-inf"), 1),
    (10**400, 1),
    (-(10**400), 1),
    (1, 2, 3),
    {"time": 1},
]


@pytest.mark.parametrize("foreign", FOREIGN, ids=[str(index) for index in range(len(FOREIGN))])
@pytest.mark.parametrize("kind", ["mapping", "store"])
def test_foreign_values(face, kind, foreign):
    """What somebody else has put into the cache is no answer, and breaks no call."""
    service, backing = Service(), {} if kind == "mapping" else Store()
    kept = getattr(backing, "kept", backing)
    kept["a"] = kept["b"] = foreign
    ask = degrade(cache=CachedDegradation(backing), key=lambda x: x, fallback="spare")(face.function(service))
    assert [face.call(ask, "a"), face.call(ask, "a")] == ["a:1", "a:1"]
    service.down = ConnectionError()
    assert face.call(ask, "b") == "spare"


def test_store_that_keeps_lists():
    """A store that turns tuples into lists, as JSON does, works."""

    class Json(Store):
        def get(self, key):
            kept = super().get(key)
            return None if kept is None else list(kept)

    service = Service()
    ask = degrade(cache=CachedDegradation(Json()), key=lambda x: x)(service)
    assert [ask("a"), ask("a")] == ["a:1", "a:1"]


class PromisingStore(Store):
    """A store of plain functions that give awaitables, as `redis.asyncio` has."""

    def __init__(self):
        super().__init__()
        self.inner = AsyncStore()
        self.kept = self.inner.kept

    def get(self, key):
        return self.inner.get(key)

    def set(self, key, value):
        return self.inner.set(key, value)

    def delete(self, key):
        return self.inner.delete(key)


@pytest.mark.filterwarnings("ignore:coroutine")
def test_store_whose_functions_give_awaitables():
    """On an async function, a store whose plain functions return awaitables is awaited, like an async one."""
    service, store = Service(), PromisingStore()
    ask = degrade(cache=CachedDegradation(store), key=lambda x: x)(FACES[1].function(service))
    assert [FACES[1].call(ask, "a"), FACES[1].call(ask, "a")] == ["a:1", "a:1"]


@pytest.mark.filterwarnings("ignore:coroutine")
def test_store_that_only_deletes_asynchronously():
    """A store of which only `delete` is async: `adelete` deletes."""

    class Half(Store):
        async def delete(self, key):
            Store.delete(self, key)

    store = Half()
    cached = CachedDegradation(store)
    cached.preload_cache(["a"], str.upper)
    FACES[1].call(cached.adelete, "a")
    assert store.kept == {}
