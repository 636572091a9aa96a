"""`CachedDegradation` against a model that knows only the contract: whatever happens, in whatever order."""

import cachetools
import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from resilient import CachedDegradation, degrade

from .cached_helpers import FACES, AsyncStore, Store, moved_time

KEYS = st.sampled_from("abc")


class Model(RuleBasedStateMachine):
    """Keys with an answer and its time, fallback data and its time; and what a call must give by them."""

    face = FACES[0]
    make = dict
    #: Whether the cache keeps everything; one that forgets may answer with less, never with more.
    keeps = True

    def __init__(self):
        super().__init__()
        self.time = moved_time()
        self.moved = self.time.__enter__()
        self.down, self.calls = False, 0
        self.stored, self.data = {}, {}
        self.counted = [0, 0, 0, 0, 0]

    def teardown(self):
        self.time.__exit__(None, None, None)

    @initialize(ttl=st.integers(0, 5), longer=st.integers(0, 5), inner=st.booleans())
    def begin(self, ttl, longer, inner):
        self.ttl, self.longer, self.inner = ttl, longer, inner
        self.cached = CachedDegradation(type(self).make(), cache_ttl=ttl, fallback_ttl=longer)

        def body(key):
            self.calls += 1
            if self.down:
                raise ConnectionError
            return f"{key}{self.calls}"

        function = self.face.function(body)
        if inner:
            function = degrade(fallback="inner")(function)
        self.ask = degrade(cache=self.cached, key=lambda key: key, fallback="spare")(function)

    def age(self, kept, key):
        return self.moved.now - kept[key][0] if key in kept else float("inf")

    @rule(key=KEYS)
    def call(self, key):
        before = self.calls
        got = self.face.call(self.ask, key)
        called = self.calls - before
        if called == 0:
            assert self.age(self.stored, key) < self.ttl
            assert got == self.stored[key][1]
            self.counted[0] += 1
            return
        self.counted[1] += 1
        assert called == 1
        if self.keeps:
            assert self.age(self.stored, key) >= self.ttl
        if not self.down:
            assert got == f"{key}{self.calls}"
            self.stored[key] = self.moved.now, got
        elif self.inner:
            assert got == "inner"
        else:
            self.failed(key, got)

    def failed(self, key, got):
        stale = self.age(self.stored, key) < self.ttl + self.longer
        data = self.age(self.data, key) < self.longer
        allowed = [self.stored[key][1]] if stale else []
        if not stale or not self.keeps:
            allowed.append(self.data[key][1] if data else "spare")
        assert got in allowed
        self.counted[3 if got == "spare" else 2] += 1
        self.counted[4] += 1

    @rule(key=KEYS, value=st.integers(0, 3))
    def give(self, key, value):
        self.cached.set_fallback_data(key, f"data{value}")
        self.data[key] = self.moved.now, f"data{value}"

    @rule(key=KEYS)
    def forget(self, key):
        self.face.call(self.cached.adelete, key) if self.face.is_async else self.cached.delete(key)
        self.stored.pop(key, None)
        self.data.pop(key, None)

    @rule(keys=st.lists(KEYS, max_size=3), bad=st.booleans())
    def preload(self, keys, bad):
        def load(key):
            if bad and key == "a":
                raise OSError
            return f"loaded {key}"

        work = self.cached.apreload_cache if self.face.is_async else self.cached.preload_cache
        done = self.face.call(work, keys, load)
        wrong = keys.count("a") if bad else 0
        assert (done.successes, done.failures) == (len(keys) - wrong, wrong)
        for key in keys:
            if not (bad and key == "a"):
                self.stored[key] = self.moved.now, f"loaded {key}"

    @rule(seconds=st.integers(0, 6))
    def wait(self, seconds):
        self.moved.tick(seconds)

    @rule(down=st.booleans())
    def turn(self, down):
        self.down = down

    @invariant()
    def counts(self):
        metrics = self.cached.get_metrics() if hasattr(self, "cached") else None
        if metrics is not None:
            assert list(metrics[:5]) == self.counted
            lookups = self.counted[0] + self.counted[1]
            assert metrics.cache_hit_rate == (self.counted[0] / lookups if lookups else 0)


def model(name, make, *, is_async=False, keeps=True, examples=40):
    """A test case of the model for one kind of cache and one face."""
    kind = type(name, (Model,), {"face": FACES[is_async], "make": staticmethod(make), "keeps": keeps})
    case = kind.TestCase
    case.settings = settings(max_examples=15 if is_async else examples, stateful_step_count=30)
    case.__module__ = __name__
    case.__name__ = case.__qualname__ = name
    return case


def ttl_cache():
    return cachetools.TTLCache(2, 10**6)


TestDict = model("TestDict", dict, examples=100)
TestDefault = model("TestDefault", lambda: None)
TestStore = model("TestStore", Store)
TestLRUOfTwo = model("TestLRUOfTwo", lambda: cachetools.LRUCache(2), keeps=False)
TestFIFOOfOne = model("TestFIFOOfOne", lambda: cachetools.FIFOCache(1), keeps=False)
TestTTLOfTwo = model("TestTTLOfTwo", ttl_cache, keeps=False)
TestAsyncDict = model("TestAsyncDict", dict, is_async=True)
TestAsyncStore = model("TestAsyncStore", AsyncStore, is_async=True)
TestAsyncSyncStore = model("TestAsyncSyncStore", Store, is_async=True)
TestAsyncLRUOfTwo = model("TestAsyncLRUOfTwo", lambda: cachetools.LRUCache(2), is_async=True, keeps=False)
