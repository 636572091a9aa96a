"""`CachedDegradation` under conditions once handled wrongly: nesting, hanging calls, preloads, exotic errors."""

import asyncio
import os
import threading
import time
from collections import UserDict

import pytest

from resilient import CachedDegradation, DegradationError, DegradationManager, deadline, degrade
from resilient.degradation.flights import Flight, Outcome, waiting_for

from .cached_helpers import outcome, run


def in_threads(count, call):
    """Call in so many threads at once; the seconds and answers of each."""
    done = []

    def work():
        begun = time.monotonic()
        answer = outcome(call)
        done.append((time.monotonic() - begun, answer))

    threads = [threading.Thread(target=work, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    return done


def test_loader_that_reads_another_cached_function():
    """What a loader reads elsewhere, fresh, degraded or not, says nothing about what it loads."""
    books = CachedDegradation()
    settings = degrade(cache=CachedDegradation())(lambda: {"url": "x/"})
    discount = degrade(fallback=0)(lambda: 1 / 0)
    settings()
    assert books.preload_cache(["b", "c"], lambda b: settings()["url"] + b)[:2] == (2, 0)
    assert books.get_data("b") == "x/b"
    assert books.preload_cache(["d"], lambda b: b * (1 + discount()))[:2] == (1, 0)
    assert books.get_data("d") == "d"


def test_loader_that_is_guarded_itself():
    """A guarded loader's fallback is not stored; a fresh answer that is there already counts as loaded."""
    cached, down = CachedDegradation(), True

    @degrade(cache=cached, key=str, fallback="spare")
    def load(key):
        if down:
            raise ConnectionError
        return key * 2

    assert cached.preload_cache(["a"], load)[:2] == (0, 1)
    down = False
    assert [load("a"), load("a")] == ["aa", "aa"]
    assert cached.preload_cache(["a", "b"], load)[:2] == (2, 0)


def test_waiters_of_a_hanging_call():
    """Nobody waits for a hanging call much longer than max_wait, however many wait."""
    release, begun = threading.Event(), []

    @degrade(cache=CachedDegradation(max_wait=0.1))
    def hang():
        begun.append(None)
        release.wait(3)
        return len(begun)

    threads = [threading.Thread(target=hang, daemon=True) for _ in range(9)]
    for thread in threads:
        thread.start()
    until = time.monotonic() + 1.5
    while len(begun) < 9 and time.monotonic() < until:
        time.sleep(0.01)
    release.set()
    for thread in threads:
        thread.join(5)
    assert len(begun) == 9


@pytest.mark.parametrize("outer", [CachedDegradation, dict])
@pytest.mark.parametrize("middle", [CachedDegradation, dict])
def test_fallback_inside_two_caches(outer, middle):
    """A fallback is kept by none of the caches around it, however many there are."""
    down = True

    @degrade(cache=outer(), fallback="outermost")
    @degrade(cache=middle())
    @degrade(fallback="spare")
    def ask(x):
        if down:
            raise ConnectionError
        return "real"

    assert ask(1) == "spare"
    down = False
    assert ask(1) == "real"


class Coded(Exception):
    """An error that keeps its data in slots, and takes other arguments than it passes on."""

    __slots__ = ("code",)
    made = 0

    def __init__(self, *, code):
        super().__init__("coded")
        Coded.made += 1
        self.code = code


def test_copies_of_errors():
    """A waiter's error has all that the original has: slots, private attributes, notes, name, context; made once."""
    Coded.made = 0
    original = Coded(code=503)
    original._private = "kept"
    original.add_note("row 17")
    original.__context__ = KeyError("root")
    for error in (original, ImportError("no", name="mod")):
        gate = threading.Event()

        @degrade(cache=CachedDegradation(), key=lambda: "k")
        def fail(gate=gate, error=error):
            gate.wait(2)
            raise error

        threading.Timer(0.05, gate.set).start()
        got = [answer for _, answer in in_threads(3, fail)]
        assert sum(one is error for one in got) == 1
        for one in got:
            assert (type(one), str(one)) == (type(error), str(error))
            assert getattr(one, "code", None) == getattr(error, "code", None)
            assert getattr(one, "name", None) == getattr(error, "name", None)
            assert getattr(one, "__notes__", None) == getattr(error, "__notes__", None)
            assert repr(one.__context__) == repr(error.__context__)
    assert Coded.made == 1


@pytest.mark.parametrize("face", ["sync", "async"])
def test_deleted_while_called(face):
    """An answer of a call that began before `delete` is not kept."""
    cached, begun, release = CachedDegradation(), threading.Event(), threading.Event()
    price = 1

    def read():
        now = price
        begun.set()
        assert release.wait(2)
        return now

    if face == "sync":
        ask = degrade(cache=cached, key=lambda: "a")(read)
    else:
        aask = degrade(cache=cached, key=lambda: "a")(lambda: asyncio.to_thread(read))

        def ask():
            return run(aask())

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    assert begun.wait(2)
    price = 2
    cached.delete("a")
    release.set()
    thread.join(2)
    assert ask() == 2


def test_nested_caches_share_calls():
    """Calls inside of other cached calls share one call too, where they do not wait for each other."""
    calls = 0

    @degrade(cache=CachedDegradation())
    async def settings():
        nonlocal calls
        calls += 1
        await asyncio.sleep(0.02)
        return calls

    @degrade(cache=CachedDegradation())
    async def page(number):
        return number, await settings()

    async def main():
        return await asyncio.gather(*(page(number) for number in range(50)))

    assert run(main()) == [(number, 1) for number in range(50)]
    assert calls == 1


def test_circles_of_waiting():
    """A caller does not wait where that would close a circle, directly or through others."""
    one, two, three = Flight(), Flight(), Flight()

    class Caller:
        def __init__(self, *around):
            import weakref

            self.around = tuple(map(weakref.ref, around))

    with (
        waiting_for(two, Caller(one)) as first,
        waiting_for(three, Caller(two)) as second,
        waiting_for(one, Caller(three)) as third,
    ):
        assert (first, second, third) == (True, True, False)
    with waiting_for(one, Caller(three)) as later:
        assert later
    with waiting_for(one, Caller()) as outside:
        assert outside
    assert not one.waits_for
    assert not three.waits_for


def test_key_that_cannot_be_compared():
    """A key whose comparison fails breaks no call, and leaves no trace for later calls."""

    class Odd:
        def __hash__(self):
            return 1

        def __eq__(self, other):
            raise ValueError

    calls = []

    @degrade(cache=CachedDegradation(), key=lambda key: key)
    def ask(key):
        calls.append(key)
        if len(calls) == 1:
            assert ask(Odd()) == 2
        return len(calls)

    assert ask(Odd()) == 2
    begun = []

    @degrade(cache=CachedDegradation())
    def other():
        begun.append(None)
        time.sleep(0.05)
        return 1

    assert {answer for _, answer in in_threads(4, other)} == {1}
    assert len(begun) == 1


def test_fork_inside_a_call():
    """A child that is forked inside of a cached call ends that call, whoever waits for it in the parent."""
    flight = Flight()
    waiter = threading.Thread(target=lambda: flight.wait(2), daemon=True)
    cached, read = CachedDegradation(), []

    @degrade(cache=cached, key=lambda: "k")
    def forks():
        time.sleep(0.05)
        read.append(os.fork())
        return "answer"

    others = [threading.Thread(target=forks, daemon=True) for _ in range(3)]
    waiter.start()
    for other in others:
        other.start()
    answer = forks()
    if read and read[0] == 0:
        os._exit(0 if answer == "answer" else 1)
    for other in others:
        other.join(3)
    flight.land(Outcome("x"))
    assert answer == "answer"
    assert os.waitstatus_to_exitcode(os.waitpid(read[0], 0)[1]) == 0


def test_deadline_of_the_leader_is_its_own():
    """A rejection that came of the leader's deadline is not passed on to one without."""
    from resilient import bulkhead

    place, released = bulkhead(max_concurrent=1, max_wait=5), threading.Event()
    taken = threading.Thread(target=lambda: place.call(lambda: released.wait(2)), daemon=True)
    taken.start()
    time.sleep(0.02)

    @degrade(cache=CachedDegradation(), key=lambda: "k")
    @place
    def ask():
        return "answer"

    got = []

    def leader():
        with deadline(0.1):
            got.append(outcome(ask))

    thread = threading.Thread(target=leader, daemon=True)
    thread.start()
    time.sleep(0.03)
    threading.Timer(0.2, released.set).start()
    assert ask() == "answer"
    thread.join(2)
    assert isinstance(got[0], Exception)


def test_full_fallbacks_of_a_spared_service():
    """Where a service is spared and all fallbacks have their hands full, the call is refused, and not made."""
    manager, real, inside, release = DegradationManager(trickle_interval=60), [], threading.Event(), threading.Event()

    def slow():
        inside.set()
        release.wait(2)
        return "spare"

    @degrade(fallback=slow, fallback_limit=1, manager=manager, service="s")
    def ask():
        real.append(None)
        return "real"

    for _ in range(20):
        manager.record("s", ok=False)
    first = threading.Thread(target=ask, daemon=True)
    first.start()
    assert inside.wait(2)
    with pytest.raises(DegradationError):
        ask()
    release.set()
    first.join(2)
    assert not real


def test_mappings_that_may_be_files():
    """Only what surely dies with the process has ages of the monotonic clock."""

    class Shelf(UserDict):
        """As persistent dictionaries are made."""

    for cache, monotonic in (({}, True), (UserDict(), True), (Shelf(), False)):
        assert CachedDegradation(cache).store.in_process is monotonic


class Expiring:
    """A cache that wants to know for how long to keep a value."""

    def __init__(self):
        self.kept = {}

    def get(self, key):
        return self.kept.get(key, (None,))[0]

    def set(self, key, value, ttl):
        self.kept[key] = value, ttl

    def delete(self, key):
        self.kept.pop(key, None)


class AsyncExpiring(Expiring):
    """The same, awaited."""

    async def get(self, key):
        return Expiring.get(self, key)

    async def set(self, key, value, ttl):
        Expiring.set(self, key, value, ttl)


@pytest.mark.parametrize("kind", [Expiring, AsyncExpiring])
def test_cache_that_expires_by_itself(kind):
    """A cache whose `set` has a ttl is told for how long the answer may be of use."""
    cache = kind()
    policy = degrade(cache=CachedDegradation(cache, 10, 20), key=lambda: "k")
    if kind is Expiring:
        assert [policy(lambda: 1)(), policy(lambda: 2)()] == [1, 1]
    else:

        @policy
        async def ask():
            return 1

        assert [run(ask()), run(ask())] == [1, 1]
    assert cache.kept["k"][1] == 30
