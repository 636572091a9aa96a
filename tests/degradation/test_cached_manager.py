"""`CachedDegradation` under a `DegradationManager`: what a spared service is answered with, and what is told of it."""

import threading
import time

import pytest

from resilient import CachedDegradation, DegradationManager, DegradationMode, degrade

from .cached_helpers import FACES, IDS, Elsewhere, Service, eventually, in_threads, moved_time


@pytest.fixture(params=FACES, ids=IDS)
def face(request):
    """Run the test with plain functions and with coroutine functions."""
    return request.param


class Reported:
    """A manager with the two methods only."""

    def __init__(self):
        self.degraded, self.told, self.asked = False, [], 0

    def is_degraded(self, service):
        self.asked += 1
        return self.degraded

    def record(self, service, ok):
        self.told.append(ok)


def test_order_while_degraded(face):
    """Degraded: fresh without a question, then stale, fallback data, the fallback; the service is not called."""
    for manager in (Reported(), DegradationManager()):
        with moved_time() as moved:
            service, cached = Service(), CachedDegradation(cache_ttl=10, fallback_ttl=20)
            ask = degrade(cache=cached, key=lambda key: key, fallback="spare", manager=manager, service="s")(
                face.function(service)
            )
            assert face.call(ask, "a") == "a:1"
            if isinstance(manager, Reported):
                manager.degraded, manager.asked = True, 0
            else:
                manager.force_degradation(DegradationMode.FULL)
            assert face.call(ask, "a") == "a:1"
            assert getattr(manager, "asked", 0) == 0
            moved.tick(15)
            assert face.call(ask, "a") == "a:1"
            cached.set_fallback_data("b", "data")
            assert [face.call(ask, "b"), face.call(ask, "c")] == ["data", "spare"]
            assert service.calls == 1
            assert cached.get_metrics()[:5] == (1, 4, 2, 1, 3)


def test_degraded_without_an_answer_calls(face):
    """Degraded, with nothing to serve and no fallback, the call is made, and its answer is kept."""
    manager, service = Reported(), Service()
    manager.degraded = True
    ask = degrade(cache=CachedDegradation(), key=lambda key: key, manager=manager)(face.function(service))
    assert [face.call(ask, "a"), face.call(ask, "a")] == ["a:1", "a:1"]
    assert manager.told == [True]


def test_hits_tell_the_manager_nothing(face):
    """Only real calls are reported: a fresh answer says nothing about the service."""
    manager, service = Reported(), Service()
    ask = degrade(cache=CachedDegradation(), key=lambda key: key, manager=manager)(face.function(service))
    for _ in range(3):
        face.call(ask, "a")
    assert manager.told == [True]


def test_shared_failure_is_reported_once():
    """However many wait for a call that fails, the manager hears of one failure; each waiter is answered."""
    for manager in (Reported(), DegradationManager()):
        release, inside, calls = threading.Event(), threading.Event(), []

        def body(key, release=release, inside=inside, calls=calls):
            calls.append(key)
            inside.set()
            release.wait(5)
            raise ConnectionError

        cached = CachedDegradation()
        ask = degrade(cache=cached, key=lambda key: key, fallback="spare", manager=manager, service="s")(body)
        first = Elsewhere(ask, "a")
        assert inside.wait(5)
        others = [Elsewhere(ask, "a") for _ in range(8)]
        eventually(lambda cached=cached: cached.get_metrics().cache_misses == 9)
        time.sleep(0.03)
        release.set()
        assert [one.result() for one in (first, *others)] == ["spare"] * 9
        assert calls == ["a"]
        if isinstance(manager, Reported):
            assert manager.told == [False]
        else:
            assert manager.get_metrics().services["s"].calls == 1
        assert cached.get_metrics()[:5] == (0, 9, 0, 9, 9)


def test_fallbacks_of_a_spared_service_run_side_by_side():
    """While the service is spared there is no call to share: callers of one key do not queue for their fallbacks."""
    manager, together = Reported(), threading.Barrier(8)
    manager.degraded = True

    def spare(key):
        together.wait(1)
        return "spare"

    ask = degrade(cache=CachedDegradation(), key=lambda key: key, fallback=spare, manager=manager)(lambda key: "called")
    assert in_threads(8, lambda index: ask("a"), 12) == ["spare"] * 8


def test_fallback_that_asks_for_something_else():
    """A fallback of a spared service that calls the function for other arguments answers nobody else's call."""
    manager, inside, release = Reported(), threading.Event(), threading.Event()

    def body(things):
        return f"answer for {things}"

    class Later(Reported):
        """Degraded for the first question only."""

        def is_degraded(self, service):
            self.asked += 1
            return self.asked == 1

    manager = Later()

    def spare(things):
        inside.set()
        release.wait(5)
        time.sleep(0.03)
        return ask(["other"])

    ask = degrade(cache=CachedDegradation(), fallback=spare, manager=manager)(body)
    first = Elsewhere(ask, "mine")
    assert inside.wait(5)
    second = Elsewhere(ask, "mine")
    time.sleep(0.02)
    release.set()
    assert first.result() == "answer for ['other']"
    assert second.result() == "answer for mine"
