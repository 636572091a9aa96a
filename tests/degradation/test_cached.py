"""`CachedDegradation`: how old an answer may be, what is counted, which options, and how it lives in the registry."""

import json
from datetime import timedelta

import cachetools
import pytest

from resilient import CachedDegradation, ConfigurationError, Pipeline, degrade, registry, retry, timeout

from .cached_helpers import FACES, IDS, AsyncStore, Service, Store, in_threads, moved_time, outcome


@pytest.fixture(params=FACES, ids=IDS)
def face(request):
    """Run the test with plain functions and with coroutine functions."""
    return request.param


@pytest.fixture
def time_stands():
    """Time moves by `tick` only."""
    with moved_time() as moved:
        yield moved


def by_first(*args, **kwargs):
    return args[0]


def guarded(face, service, cached, **options):
    """Guard a service, with keys that are the first argument."""
    return degrade(**{"cache": cached, "key": by_first, "fallback": "spare", **options})(face.function(service))


MAKES = {
    "default": lambda: None,
    "dict": dict,
    "LRU": lambda: cachetools.LRUCache(10),
    "FIFO": lambda: cachetools.FIFOCache(10),
    "TTL": lambda: cachetools.TTLCache(10, 10**6),
    "store": Store,
    "async store": AsyncStore,
}


@pytest.fixture(params=MAKES.values(), ids=MAKES)
def backing(request, face):
    """A cache of every kind; where the function is sync, the sync twin of an async one, which is refused there."""
    made = request.param()
    return Store() if isinstance(made, AsyncStore) and not face.is_async else made


# Ages


def test_fresh_answer_needs_no_call(face, backing, time_stands):
    """An answer younger than cache_ttl is served without a call; at cache_ttl there is a new one."""
    service = Service()
    ask = guarded(face, service, CachedDegradation(backing, cache_ttl=10, fallback_ttl=20))
    assert face.call(ask, "a") == "a:1"
    time_stands.tick(9)
    assert (face.call(ask, "a"), face.call(ask, "b")) == ("a:1", "b:2")
    time_stands.tick(1)
    assert (face.call(ask, "a"), service.calls) == ("a:3", 3)


def test_order_after_a_failure(face, backing, time_stands):
    """A failed call is answered by a stale answer, then by fallback data for fallback_ttl, then by the fallback."""
    service = Service()
    cached = CachedDegradation(backing, cache_ttl=10, fallback_ttl=20)
    ask = guarded(face, service, cached)
    assert face.call(ask, "a") == "a:1"
    service.down = ConnectionError()
    time_stands.tick(29)
    cached.set_fallback_data("a", "data")
    assert face.call(ask, "a") == "a:1"
    time_stands.tick(1)
    assert face.call(ask, "a") == "data"
    time_stands.tick(18)
    assert face.call(ask, "a") == "data"
    time_stands.tick(1)
    assert face.call(ask, "a") == "spare"
    assert service.calls == 5


def test_answers_of_every_value(face, backing, time_stands):
    """None, False and an exception object are answers like any other, fresh and stale."""
    for number, value in enumerate([None, False, 0, KeyError("an answer"), (1, 2), [3.0, 4]]):
        state = Service()

        def body(key, state=state, value=value):
            state(key)
            return value

        cached = CachedDegradation(backing, cache_ttl=10, fallback_ttl=20)
        ask = guarded(face, body, cached)
        assert face.call(ask, number) is value
        assert face.call(ask, number) is value
        state.down = ConnectionError()
        time_stands.tick(10)
        assert face.call(ask, number) is value
        assert state.calls == 2


def test_error_without_a_fallback(face, time_stands):
    """Where nothing is left to serve, the call's own error passes, the same object."""
    service, error = Service(), ConnectionError()
    service.down = error
    ask = degrade(cache=CachedDegradation(), key=by_first)(face.function(service))
    assert outcome(face.call, ask, "a") is error


def test_error_outside_on(face, time_stands):
    """An error outside `on` passes, however good the stale answer; and it is no degradation event."""
    service, cached = Service(), CachedDegradation(cache_ttl=10)
    ask = guarded(face, service, cached, on=ConnectionError)
    face.call(ask, "a")
    time_stands.tick(10)
    service.down = KeyError("mine")
    assert outcome(face.call, ask, "a") is service.down
    assert cached.get_metrics().degradation_events == 0


def test_fallback_is_never_stored(face, backing, time_stands):
    """What a fallback or fallback data answered is not served as an answer later."""
    service, cached = Service(), CachedDegradation(backing, cache_ttl=10, fallback_ttl=20)
    spare = iter(["one", "two", "three"])
    ask = guarded(face, service, cached, fallback=lambda key: next(spare))
    service.down = ConnectionError()
    assert [face.call(ask, "a") for _ in range(3)] == ["one", "two", "three"]
    cached.set_fallback_data("a", "data")
    assert face.call(ask, "a") == "data"
    time_stands.tick(20)
    service.down = None
    assert face.call(ask, "a") == "a:5"


@pytest.mark.parametrize("inner_cache", [None, dict, CachedDegradation], ids=["plain", "mapping", "cached"])
def test_inner_fallback_is_never_stored(face, inner_cache, time_stands):
    """What a degrade inside answered from its fallback or its cache is not stored as an answer by the one around."""
    service, cached = Service(), CachedDegradation(cache_ttl=10)
    inner = degrade(fallback="inner", cache=None if inner_cache is None else inner_cache())
    ask = degrade(cache=cached, key=by_first, fallback="spare")(inner(face.function(service)))
    service.down = ConnectionError()
    assert face.call(ask, "a") == "inner"
    service.down = None
    assert face.call(ask, "a") == "a:2"


def test_stale_answer_of_an_inner_cache_is_never_stored(face, time_stands):
    """A stale answer of a cache inside does not become fresh in the cache around it."""
    service = Service()
    outside, inside = CachedDegradation(cache_ttl=10), CachedDegradation(cache_ttl=10, fallback_ttl=1000)
    ask = degrade(cache=outside, key=by_first)(degrade(cache=inside, key=by_first)(face.function(service)))
    assert face.call(ask, "a") == "a:1"
    time_stands.tick(500)
    service.down = ConnectionError()
    assert face.call(ask, "a") == "a:1"
    service.down = None
    assert face.call(ask, "a") == "a:3"


def test_other_caches_are_read_after_a_failure_only(face, time_stands):
    """Any other cache is not asked before the call: every call is made."""
    service = Service()
    for cache in ({}, cachetools.LRUCache(5), Store()):
        ask = degrade(cache=cache, key=by_first, fallback="spare")(face.function(service))
        before = service.calls
        face.call(ask, "a")
        face.call(ask, "a")
        assert service.calls == before + 2


def test_zero_ttls(face, backing, time_stands):
    """cache_ttl=0: never fresh, but stale after a failure. fallback_ttl=0: never stale, nor fallback data."""
    service = Service()
    never_fresh = CachedDegradation(backing, cache_ttl=0, fallback_ttl=20)
    ask = guarded(face, service, never_fresh)
    assert [face.call(ask, "a"), face.call(ask, "a")] == ["a:1", "a:2"]
    service.down = ConnectionError()
    assert face.call(ask, "a") == "a:2"
    service.down = None
    never_stale = CachedDegradation(backing, cache_ttl=10, fallback_ttl=0)
    ask = guarded(face, service, never_stale)
    answer = face.call(ask, "b")
    assert face.call(ask, "b") == answer
    time_stands.tick(10)
    service.down = ConnectionError()
    never_stale.set_fallback_data("b", "data")
    assert face.call(ask, "b") == "spare"
    neither = CachedDegradation(backing, cache_ttl=0, fallback_ttl=0)
    service.down = None
    ask = guarded(face, service, neither)
    face.call(ask, "c")
    service.down = ConnectionError()
    assert face.call(ask, "c") == "spare"


def test_timedelta(face, time_stands):
    """Ages may be given as timedelta."""
    service = Service()
    cached = CachedDegradation(cache_ttl=timedelta(minutes=1), fallback_ttl=timedelta(hours=1))
    ask = guarded(face, service, cached)
    face.call(ask, "a")
    time_stands.tick(59)
    assert face.call(ask, "a") == "a:1"
    service.down = ConnectionError()
    time_stands.tick(3600)
    assert face.call(ask, "a") == "a:1"
    time_stands.tick(1)
    assert face.call(ask, "a") == "spare"
    assert repr(cached) == "CachedDegradation(cache_ttl=60, fallback_ttl=3600)"


def test_time_of_day_set_back(face, time_stands):
    """In a cache that goes by the time of day, an answer from the future is of unknown age: it is not served."""
    service, cached = Service(), CachedDegradation(Store(), cache_ttl=10, fallback_ttl=20)
    ask = guarded(face, service, cached)
    face.call(ask, "a")
    time_stands.tick(-3600)
    service.down = ConnectionError()
    assert face.call(ask, "a") == "spare"


def test_mapping_that_outlives_the_clock(face, time_stands):
    """A mapping may be a file (`shelve`): an answer kept before a restart of the machine is not fresh for days."""
    service, cached = Service(), CachedDegradation({}, cache_ttl=10, fallback_ttl=20)
    ask = guarded(face, service, cached)
    assert face.call(ask, "a") == "a:1"
    time_stands.tick(-900)  # the monotonic clock begins anew
    assert face.call(ask, "a") == "a:2"


def test_time_is_monotonic_in_a_mapping(face, time_stands, monkeypatch):
    """A step of the time of day changes nothing for answers kept in a mapping."""
    service, cached = Service(), CachedDegradation({}, cache_ttl=10)
    ask = guarded(face, service, cached)
    face.call(ask, "a")
    monkeypatch.setattr("time.time", lambda: 0.0)
    assert face.call(ask, "a") == "a:1"


def test_freezegun_moves_the_ages(face):
    """Under freezegun the frozen time is what ages answers, in a mapping and elsewhere."""
    import freezegun

    for backing in (None, Store()):
        with freezegun.freeze_time("2026-03-01", real_asyncio=True) as frozen:
            service = Service()
            ask = guarded(face, service, CachedDegradation(backing, cache_ttl=10))
            face.call(ask, "a")
            frozen.tick(9)
            assert face.call(ask, "a") == "a:1"
            frozen.tick(1)
            assert face.call(ask, "a") == "a:2"


# By key


def test_get_data_and_delete(time_stands):
    """`get_data` gives the fresh answer or the fallback data of a key; `delete` forgets both."""
    cached = CachedDegradation(cache_ttl=10, fallback_ttl=20)
    service = Service()
    ask = guarded(FACES[0], service, cached)
    ask("a")
    cached.set_fallback_data("a", "data")
    assert cached.get_data("a") == "a:1"
    time_stands.tick(10)
    assert cached.get_data("a") == "data"
    cached.delete("a")
    cached.delete("never there")
    with pytest.raises(KeyError, match="a"):
        cached.get_data("a")
    service.down = ConnectionError()
    assert ask("a") == "spare"


def test_async_get_data_and_delete(time_stands):
    """`aget_data` and `adelete` do the same; with an async cache only they do, and the others say so."""

    async def main():
        for backing in (None, Store(), AsyncStore()):
            cached = CachedDegradation(backing)
            await cached.apreload_cache(["a"], str.upper)
            cached.set_fallback_data("b", "data")
            assert (await cached.aget_data("a"), await cached.aget_data("b")) == ("A", "data")
            await cached.adelete("a")
            await cached.adelete("b")
            for key in "ab":
                with pytest.raises(KeyError):
                    await cached.aget_data(key)

    FACES[1].call(main)
    cached = CachedDegradation(AsyncStore())
    for work, twin in [
        (lambda: cached.get_data("a"), "aget_data"),
        (lambda: cached.delete("a"), "adelete"),
        (lambda: cached.preload_cache(["a"], str), "apreload_cache"),
    ]:
        with pytest.raises(TypeError, match=twin):
            work()


def test_fallback_data_that_has_expired_is_forgotten(time_stands):
    """Fallback data that can no longer be served does not stay in memory for ever."""
    cached = CachedDegradation(cache_ttl=10, fallback_ttl=20)
    for number in range(5000):
        cached.set_fallback_data(number, "data")
        time_stands.tick(1)
    assert len(cached._fallback_data) < 1000


# Counters


def test_counters_of_a_script(face, backing, time_stands):
    """After a scripted run, every counter is exact."""
    service, cached = Service(), CachedDegradation(backing, cache_ttl=10, fallback_ttl=20)
    ask = guarded(face, service, cached)
    assert cached.get_metrics() == (0, 0, 0, 0, 0, 0.0)
    face.call(ask, "a")  # miss
    face.call(ask, "a")  # hit
    face.call(ask, "a")  # hit
    time_stands.tick(10)
    service.down = ConnectionError()
    face.call(ask, "a")  # miss, event, stale
    face.call(ask, "b")  # miss, event, nothing
    cached.set_fallback_data("b", "data")
    face.call(ask, "b")  # miss, event, data
    metrics = cached.get_metrics()
    assert metrics == (2, 4, 2, 1, 3, 2 / 6)
    assert (metrics.cache_hits, metrics.cache_misses, metrics.cache_hit_rate) == (2, 4, 2 / 6)
    assert (metrics.fallback_hits, metrics.fallback_misses, metrics.degradation_events) == (2, 1, 3)
    with pytest.raises(AttributeError):
        metrics.cache_hits = 5


def test_counters_of_unhashable_arguments(face):
    """A call that has no key is a miss, and when it fails an event without anything to serve."""
    service, cached = Service(), CachedDegradation()
    ask = degrade(cache=cached, fallback="spare")(face.function(service))
    face.call(ask, [1])
    service.down = ConnectionError()
    assert face.call(ask, [1]) == "spare"
    assert cached.get_metrics()[:5] == (0, 2, 0, 1, 1)


def test_counters_under_threads():
    """Sixteen threads lose no count."""
    cached, down = CachedDegradation({}, cache_ttl=3600), object()

    def body(key):
        if key[1] is down:
            raise ConnectionError
        return key

    ask = guarded(FACES[0], body, cached)
    threads, rounds = 16, 300

    def work(index):
        for number in range(rounds):
            ask((index, number))
            ask((index, number))
            ask((index, down, number))

    assert in_threads(threads, work, 20) == [None] * threads
    total = threads * rounds
    assert cached.get_metrics() == (total, 2 * total, 0, total, total, 1 / 3)


# Options


@pytest.mark.parametrize("option", ["cache_ttl", "fallback_ttl", "max_wait"])
@pytest.mark.parametrize("value", [-1, "60", True, float("nan"), float("inf")], ids=repr)
def test_bad_ages(option, value):
    """An impossible age is refused with the option's name and its value."""
    with pytest.raises(ConfigurationError) as refusal:
        CachedDegradation(**{option: value})
    assert f"{option}={value!r}" in str(refusal.value)
    assert "seconds" in str(refusal.value)


@pytest.mark.parametrize("cache", [5, "cache", object(), dict, [], CachedDegradation()], ids=repr)
def test_bad_caches(cache):
    """What is no cache is refused, as is a CachedDegradation in another."""
    with pytest.raises(TypeError, match="cache="):
        CachedDegradation(cache)


def test_unknown_options():
    """An unknown option is a TypeError."""
    with pytest.raises(TypeError, match="ttl"):
        CachedDegradation(ttl=5)


def test_async_cache_on_a_sync_function():
    """An async cache on a sync function is refused at decoration, saying so."""
    with pytest.raises(TypeError, match="async"):
        degrade(cache=CachedDegradation(AsyncStore()))(lambda: 1)


@pytest.mark.parametrize("is_async", [False, True])
def test_generators_are_refused(is_async):
    """The answer of a generator function cannot be kept: refused at decoration."""

    def items():
        yield 1

    async def aitems():
        yield 1

    with pytest.raises(TypeError, match="cache="):
        degrade(cache=CachedDegradation())(aitems if is_async else items)


# In the registry


def test_disabled(face, time_stands):
    """Inside `registry.disabled()` every call is made and nothing is kept, counted or served."""
    service, cached = Service(), CachedDegradation()
    ask = guarded(face, service, cached)
    with registry.disabled():
        assert [face.call(ask, "a"), face.call(ask, "a")] == ["a:1", "a:2"]
        service.down = ConnectionError()
        assert outcome(face.call, ask, "a") is service.down
    service.down = None
    assert cached.get_metrics() == (0, 0, 0, 0, 0, 0.0)
    assert face.call(ask, "a") == "a:4"
    with registry.disabled():
        assert face.call(ask, "a") == "a:5"
    assert face.call(ask, "a") == "a:4"


def test_live_change_of_the_cache(face, time_stands):
    """Another cache can be put in its place while the function is in use, also one of another kind, and back."""
    service, first, second = Service(), CachedDegradation(), CachedDegradation()
    ask = guarded(face, service, first, name="live")
    assert face.call(ask, "a") == "a:1"
    registry.configure("degrade", "live", cache=second)
    assert [face.call(ask, "a"), face.call(ask, "a")] == ["a:2", "a:2"]
    registry.configure("degrade", "live", cache={})
    assert [face.call(ask, "a"), face.call(ask, "a")] == ["a:3", "a:4"]
    registry.configure("degrade", "live", cache=first)
    assert face.call(ask, "a") == "a:1"
    registry.configure("degrade", "live", key=lambda *args: "one for all")
    assert [face.call(ask, "a"), face.call(ask, "b")] == ["a:5", "a:5"]
    with pytest.raises(TypeError):
        registry.configure("degrade", "live", cache=5)
    assert face.call(ask, "c") == "a:5"


def test_live_change_to_an_async_cache():
    """A live change to an async cache under a sync function raises and changes nothing."""
    service = Service()
    ask = guarded(FACES[0], service, CachedDegradation(), name="live")
    assert ask("a") == "a:1"
    with pytest.raises(TypeError, match="async"):
        registry.configure("degrade", "live", cache=CachedDegradation(AsyncStore()))
    assert ask("a") == "a:1"


def test_snapshot_is_json(face):
    """`registry.snapshot()` can be written as JSON and names the cache."""
    service = Service()
    ask = guarded(face, service, CachedDegradation(cache_ttl=5), name="pictured")
    face.call(ask, "a")
    text = json.dumps(registry.snapshot())
    assert "pictured" in text
    assert registry.degradations["pictured"].get_metrics().succeeded == 1


def test_methods_and_classmethods(face, time_stands):
    """Methods, classmethods and staticmethods are guarded; two instances do not share."""
    service, cached = Service(), CachedDegradation(cache_ttl=10)
    policy = degrade(cache=cached, fallback="spare")

    class Host:
        method = policy(face.function(lambda self, key: service(key)))
        of_class = classmethod(policy(face.function(lambda cls, key: service(key))))
        static = staticmethod(policy(face.function(service)))

    one, two = Host(), Host()
    assert [face.call(host.method, "a") for host in (one, two, one, two)] == ["a:1", "a:2", "a:1", "a:2"]
    assert [face.call(way, "b") for way in (Host.of_class, one.of_class, two.of_class)] == ["b:3"] * 3
    assert [face.call(way, "c") for way in (Host.static, one.static)] == ["c:4"] * 2
    service.down = ConnectionError()
    time_stands.tick(10)
    assert [face.call(one.method, "a"), face.call(two.method, "a"), face.call(Host().method, "a")] == [
        "a:1",
        "a:2",
        "spare",
    ]


def test_call_through_the_policy(face):
    """`policy.call(fn, ...)` and `acall` serve fresh answers too, and so does a pipeline with the policy in it."""
    service, cached = Service(), CachedDegradation()
    function = face.function(service)
    for policy in (
        degrade(cache=cached, key=by_first),
        Pipeline(degrade(cache=cached, key=by_first), retry(base_delay=0)),
    ):
        door = policy.acall if face.is_async else policy.call
        assert face.call(door, function, "a") == "a:1"
        assert face.call(door, function, "a") == "a:1"


def test_with_retry_and_timeout_inside(face, time_stands):
    """Other policies further in are part of the call: a fresh answer needs none of them, a failure all."""
    service, cached = Service(), CachedDegradation(cache_ttl=10)
    ask = degrade(cache=cached, key=by_first, fallback="spare")(
        retry(base_delay=0, max_attempts=3)(timeout(5)(face.function(service)))
    )
    assert [face.call(ask, "a"), face.call(ask, "a")] == ["a:1", "a:1"]
    time_stands.tick(10)
    service.down = ConnectionError()
    assert (face.call(ask, "a"), service.calls) == ("a:1", 4)


def test_refused_decoration_leaves_no_trace():
    """A decoration that was refused is over: who keeps its error can still disable the registry."""
    service = Service()
    ask = guarded(FACES[0], service, CachedDegradation())
    refusal = outcome(degrade(cache=CachedDegradation(AsyncStore())), lambda: 1)
    assert isinstance(refusal, TypeError)
    with registry.disabled():
        assert [ask("a"), ask("a")] == ["a:1", "a:2"]
