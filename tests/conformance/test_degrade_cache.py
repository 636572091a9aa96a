"""Degrade with a cache: what it remembers, under which key, and what it never stores."""

import gc
import threading
import weakref

import pytest
from cachetools import TTLCache

from resilient import degrade

from .helpers import Failing, in_threads, outcome
from .kinds import Script


def test_last_good_answer_is_served(face):
    """With a cache the last good answer for the same arguments is served when the call fails."""
    answers, broken = {1: "one", 2: "two"}, []

    def body(x):
        if broken:
            raise ConnectionError
        return answers[x]

    guarded = degrade(cache={})(face.function(body))
    assert (face.call(guarded, 1), face.call(guarded, 2)) == ("one", "two")
    answers[1] = "uno"
    assert face.call(guarded, 1) == "uno"
    broken.append(1)
    assert (face.call(guarded, 1), face.call(guarded, 2)) == ("uno", "two")


def test_cache_first_then_fallback(face):
    """Without a good answer for these arguments the fallback is served; without one, the error."""
    body = Failing()
    assert face.call(degrade(cache={}, fallback="spare")(face.function(body)), 1) == "spare"
    assert isinstance(outcome(face.call, degrade(cache={})(face.function(body)), 1), ConnectionError)


def test_fallback_value_is_never_stored(face):
    """What a fallback served is never served later as a last good answer."""
    cache, spare = {}, iter(["first", "second"])
    guarded = degrade(cache=cache, fallback=lambda x: next(spare))(face.function(Failing()))
    assert (face.call(guarded, 1), face.call(guarded, 1)) == ("first", "second")
    assert not cache


def test_cached_none_is_an_answer(face):
    """A good answer None is remembered like any other."""
    body = Failing(None)
    guarded = degrade(cache={}, fallback="spare")(face.function(lambda: body() and None))
    face.call(guarded)
    body.error = ConnectionError
    assert face.call(guarded) is None


class Same:
    """Equal to every other of its class with the same value."""

    def __init__(self, value):
        self.value = value

    def __eq__(self, other):
        return isinstance(other, Same) and self.value == other.value

    def __hash__(self):
        return hash(self.value)


class Other(Same):
    pass


class Plain:
    pass


@pytest.mark.parametrize(
    ("stored", "asked"),
    [
        (1, True),
        (1, 1.0),
        (True, 1.0),
        (0, False),
        ("1", 1),
        (b"1", "1"),
        ((1,), (True,)),
        ((1, (2,)), (1, (2.0,))),
        (frozenset({1}), frozenset({True})),
        (Plain(), Plain()),
        (Same(1), Same(2)),
        (Same(1), Other(1)),
        (None, "None"),
    ],
    ids=repr,
)
def test_keys_are_kept_apart(face, stored, asked):
    """Arguments that are merely equal, or look alike, do not share an answer."""
    body = Failing(None)
    guarded = degrade(cache={}, fallback="spare")(face.function(body))
    face.call(guarded, stored)
    body.error = ConnectionError
    assert face.call(guarded, asked) == "spare"
    assert face.call(guarded, stored) == "ok"


@pytest.mark.parametrize("make", [lambda: (1, "a"), lambda: Same(3), lambda: frozenset({1, 2}), lambda: 10**30])
def test_equal_arguments_share_an_answer(face, make):
    """Equal values of one type share an answer, also when they are different objects."""
    body = Failing(None)
    guarded = degrade(cache={}, fallback="spare")(face.function(body))
    face.call(guarded, make(), key=make())
    body.error = ConnectionError
    assert face.call(guarded, make(), key=make()) == "ok"


def test_positional_and_keyword_do_not_collide(face):
    """f("x", 1) and f(x=1) do not share an answer."""
    body = Failing(None)
    guarded = degrade(cache={}, fallback="spare")(face.function(body))
    face.call(guarded, x=1)
    body.error = ConnectionError
    assert face.call(guarded, "x", 1) == "spare"
    assert face.call(guarded, ("x", 1)) == "spare"


def test_instances_do_not_share(face):
    """Two instances of a class have answers of their own."""
    broken = []

    def get(self):
        if broken:
            raise ConnectionError
        return self.name

    class Host:
        method = degrade(cache={}, fallback="spare")(face.function(get))

        def __init__(self, name):
            self.name = name

    one, two, three = Host("one"), Host("two"), Host("three")
    assert (face.call(one.method), face.call(two.method)) == ("one", "two")
    broken.append(1)
    assert [face.call(host.method) for host in (one, two, three)] == ["one", "two", "spare"]


def test_instances_die_and_leave_nothing(face):
    """A cached answer keeps no instance alive, and a new instance at the same address does not inherit it."""
    broken = []

    def get(self):
        if broken:
            raise ConnectionError
        return "old"

    cache = {}

    class Host:
        method = degrade(cache=cache, fallback="spare")(face.function(get))

    host = Host()
    reference = weakref.ref(host)
    face.call(host.method)
    del host
    gc.collect()
    assert reference() is None
    assert not cache
    broken.append(1)
    for _ in range(50):
        assert face.call(Host().method) == "spare"


def test_failing_keys_leak_nothing(face):
    """Calls that fail leave no entry in the cache and keep none of their arguments alive."""
    cache, references = {}, []
    guarded = degrade(cache=cache, fallback="spare")(face.function(Failing()))
    for _ in range(50):
        argument = Plain()
        references.append(weakref.ref(argument))
        face.call(guarded, argument)
    del argument
    gc.collect()
    assert not cache
    assert not any(reference() for reference in references)


def test_unhashable_arguments_are_not_cached(face):
    """Arguments without a hash are simply not cached; the call works and the fallback is served."""
    body, cache = Failing(None), {}
    guarded = degrade(cache=cache, fallback="spare")(face.function(body))
    assert face.call(guarded, [1]) == "ok"
    body.error = ConnectionError
    assert face.call(guarded, [1]) == "spare"
    assert not cache


def test_key_function(face):
    """`key=` says which arguments share an answer."""
    body = Failing(None)
    guarded = degrade(cache={}, fallback="spare", key=lambda request: request["id"])(face.function(body))
    face.call(guarded, {"id": 1, "trace": 1})
    body.error = ConnectionError
    assert face.call(guarded, {"id": 1, "trace": 2}) == "ok"
    assert face.call(guarded, {"id": 2, "trace": 1}) == "spare"


def test_two_functions_with_one_cache_do_not_share(face):
    """Functions with policies of their own over one cache object do not read each other's answers."""
    cache, first, second = {}, Script(answer="first"), Failing()
    face.call(degrade(cache=cache, fallback="spare", name="one")(face.function(lambda x: first.step())), 1)
    assert face.call(degrade(cache=cache, fallback="spare", name="two")(face.function(second)), 1) == "spare"


def test_one_policy_on_two_functions_does_not_share(face):
    """One degrade policy on two functions keeps their answers apart."""
    policy = degrade(cache={}, fallback="spare")
    face.call(policy(face.function(lambda x: "first")), 1)
    assert face.call(policy(face.function(Failing())), 1) == "spare"


def test_ttl_cache_of_cachetools(face):
    """A cachetools cache can be plugged in; what it dropped is not served."""
    now, body = [0.0], Failing(None)
    guarded = degrade(cache=TTLCache(10, 60, timer=lambda: now[0]), fallback="spare")(face.function(body))
    face.call(guarded, 1)
    body.error = ConnectionError
    now[0] = 59
    assert face.call(guarded, 1) == "ok"
    now[0] = 61
    assert face.call(guarded, 1) == "spare"


class Store:
    """A cache with get, set and delete only."""

    def __init__(self):
        self.data = {}

    def get(self, key):
        return self.data.get(key)

    def set(self, key, value):
        self.data[key] = value

    def delete(self, key):
        self.data.pop(key, None)


class AsyncStore(Store):
    """The same, async."""

    async def get(self, key):
        return Store.get(self, key)

    async def set(self, key, value):
        Store.set(self, key, value)

    async def delete(self, key):
        Store.delete(self, key)


def test_get_set_delete_cache(face):
    """A cache with get, set and delete works; on async functions also when they are async."""
    for store in [Store(), AsyncStore()] if face.is_async else [Store()]:
        body = Failing(None)
        guarded = degrade(cache=store, fallback="spare")(face.function(body))
        face.call(guarded, 1)
        body.error = ConnectionError
        assert (face.call(guarded, 1), face.call(guarded, 2)) == ("ok", "spare")


def test_async_cache_on_a_sync_function_is_refused():
    """An async cache on a sync function raises TypeError at decoration."""

    def function():
        return 1

    with pytest.raises(TypeError, match=r"\w"):
        degrade(cache=AsyncStore(), fallback=1)(function)


class Broken(dict):
    """A mapping whose every access fails."""

    def _fail(self, *args):
        raise OSError("the cache is down")

    __getitem__ = __setitem__ = __delitem__ = __contains__ = get = pop = setdefault = update = _fail


def test_broken_cache_never_breaks_a_good_call(face):
    """A cache that raises breaks neither a good call nor the fallback."""
    body = Failing(None)
    guarded = degrade(cache=Broken(), fallback="spare")(face.function(body))
    assert face.call(guarded, 1) == "ok"
    body.error = ConnectionError
    assert face.call(guarded, 1) == "spare"


def test_cache_under_a_crowd():
    """Threads that fill and read one cache never see an answer of another key."""
    broken = threading.Event()

    def body(x):
        if broken.is_set():
            raise ConnectionError
        return x

    guarded = degrade(cache={}, fallback="spare")(body)
    in_threads(8, lambda index: [guarded((index, number)) for number in range(50)])
    broken.set()
    served = in_threads(8, lambda index: [guarded((index, number)) for number in range(50)])
    assert served == [[(index, number) for number in range(50)] for index in range(8)]
