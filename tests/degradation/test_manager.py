"""The degradation manager: services, measurement, modes, force, events, live options, crowds."""

import asyncio
import gc
import itertools
import logging
import math
import os
import pickle
import threading
import weakref
from collections import deque
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient import ConfigurationError, DegradationError, ResilienceError, degrade, registry
from resilient.degradation import (
    DegradableService,
    DegradationConfig,
    DegradationManager,
    DegradationMode,
    DegradationModeChanged,
    ServiceHealthChanged,
    managers,
)

from .manager_helpers import (
    WAIT,
    Async,
    Guarded,
    Service,
    Sync,
    drive,
    frequent_switches,
    in_threads,
    interpreter,
    outcome,
    run,
)

NORMAL, PARTIAL, FULL = DegradationMode.NORMAL, DegradationMode.PARTIAL, DegradationMode.FULL
QUICK = {"minimum_calls": 2, "window_size": 10}


def break_service(guarded, calls=40):
    """Let calls fail until the service is degraded."""
    for _ in range(calls):
        guarded(ConnectionError())


def heal(guarded, virtual, seconds=60.0):
    """Let a service work again, under steady traffic."""
    for _ in range(int(seconds * 20)):
        virtual.now += 0.05
        guarded()


@pytest.fixture
def events():
    """Collect the events of managers."""
    seen = []
    with registry.subscribe(seen.append, DegradationModeChanged, ServiceHealthChanged):
        yield seen


def modes(events):
    return [(event.old, event.new, event.reason) for event in events if isinstance(event, DegradationModeChanged)]


def healths(events):
    return [(event.service, event.degraded) for event in events if isinstance(event, ServiceHealthChanged)]


# Options


def test_defaults():
    """The options have the specification's defaults; a config or its options by keyword say the same."""
    config = DegradationManager().config
    assert config.auto_degradation_enabled is True
    assert (config.degradation_threshold, config.recovery_threshold) == (0.1, 0.05)
    assert (config.monitoring_interval, config.minimum_calls) == (30, 10)
    assert DegradationManager(DegradationConfig(minimum_calls=3)).config == DegradationManager(minimum_calls=3).config
    assert DegradationManager(monitoring_interval=timedelta(minutes=1)).config.monitoring_interval == 60.0


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("auto_degradation_enabled", "yes"),
        ("auto_degradation_enabled", None),
        ("degradation_threshold", 0),
        ("degradation_threshold", 1),
        ("degradation_threshold", 10),
        ("degradation_threshold", -0.1),
        ("degradation_threshold", math.nan),
        ("degradation_threshold", None),
        ("degradation_threshold", True),
        ("recovery_threshold", 0.1),
        ("recovery_threshold", 0.2),
        ("recovery_threshold", -0.1),
        ("recovery_threshold", "0.01"),
        ("recovery_threshold", None),
        ("monitoring_interval", 0),
        ("monitoring_interval", -1),
        ("monitoring_interval", math.inf),
        ("monitoring_interval", "30"),
        ("monitoring_interval", None),
        ("minimum_calls", 0),
        ("minimum_calls", 2.5),
        ("minimum_calls", True),
        ("window_size", 0),
        ("window_size", 9),
        ("window_size", None),
        ("trickle_interval", -1),
        ("trickle_interval", math.nan),
        ("trickle_interval", None),
    ],
)
def test_bad_options(option, value):
    """An impossible option is a ConfigurationError that names it, its value and what would do, by either way in."""
    for make in (DegradationConfig, DegradationManager, DegradationManager().configure):
        with pytest.raises(ConfigurationError) as caught:
            make(**{option: value})
        text = str(caught.value)
        assert option in text
        assert repr(value) in text
        assert "must" in text
        assert len(text) > len(f"{option}={value!r}: must be ")


def test_bad_ways_in():
    """Unknown options, a config beside options, and what is no config are TypeErrors."""
    for make in (
        lambda: DegradationManager(no_such_option=1),
        lambda: DegradationManager().configure(no_such_option=1),
        lambda: DegradationManager(DegradationConfig(), minimum_calls=3),
        lambda: DegradationManager({"minimum_calls": 3}),
    ):
        with pytest.raises(TypeError):
            make()


def test_managers():
    """All managers that are alive can be found, by name in their events; none is kept alive by that."""
    manager = DegradationManager(name="shop")
    assert manager in managers()
    assert "shop" in repr(manager)
    reference = weakref.ref(manager)
    manager.register_service("s", Service())
    Guarded(Sync(), manager, "t")()
    del manager
    gc.collect()
    assert reference() is None


# Services


def test_execute(face):
    """A healthy service is called the full way, with all its arguments, whatever their names."""
    manager, service = DegradationManager(), face.service()
    assert isinstance(service, DegradableService)
    manager.register_service("s", service)
    kwargs = {"name": 1, "self": 2, "service": 3, "error": 4, "args": 5}
    assert face.execute(manager, "s", 1, **kwargs) == ("full", (1,), kwargs)
    service.failing = ConnectionError()
    assert face.execute(manager, "s", 1, **kwargs) == ("degraded", (1,), kwargs)
    assert (service.full, service.spared, service.asked) == (2, 1, 2)
    assert manager.services == ("s",)


def as_async(name):
    """An async method that does what the sync one does."""

    async def method(self, *args, **kwargs):
        return getattr(Service, name)(self, *args, **kwargs)

    return method


METHODS = ("execute_full", "execute_degraded", "should_degrade")


@pytest.mark.parametrize("number", range(8))
def test_each_method_sync_or_async(number):
    """Each of the three methods may be sync or async by itself, when called by `aexecute_service`."""
    asynchronous = [name for bit, name in enumerate(METHODS) if number >> bit & 1]
    manager, service = (
        DegradationManager(),
        type("Mixed", (Service,), {name: as_async(name) for name in asynchronous})(),
    )
    manager.register_service("s", service)
    assert drive(manager.aexecute_service("s", 1)) == ("full", (1,), {}), asynchronous
    service.failing = ConnectionError()
    assert drive(manager.aexecute_service("s", 2)) == ("degraded", (2,), {}), asynchronous
    service.wish = True
    assert drive(manager.aexecute_service("s", 3)) == ("degraded", (3,), {}), asynchronous
    assert service.full == 2


def test_refused_service_leaves_nothing():
    """A service that cannot be registered is not half known afterwards."""
    manager = DegradationManager()
    for broken in (object(), None, type("Half", (), {"execute_full": lambda self: 1})()):
        with pytest.raises(TypeError, match="execute_degraded"):
            manager.register_service("s", broken)
    assert manager.services == ()
    with pytest.raises(ConfigurationError):
        manager.register_service("", Service())
    assert manager.services == ()


def test_registered_twice():
    """The same object twice is once; another under the same name is refused, and both are named."""
    manager, first, second = DegradationManager(), Service(), Service()
    manager.register_service("s", first)
    manager.register_service("s", first)
    with pytest.raises(ConfigurationError, match="'s'"):
        manager.register_service("s", second)
    manager.execute_service("s")
    assert (first.full, second.full) == (1, 0)


def test_unknown_service(face):
    """A name nobody registered is an error that is a KeyError and a ConfigurationError, and lists those known."""
    manager = DegradationManager()
    with pytest.raises(KeyError, match="none"):
        face.execute(manager, "nobody")
    manager.register_service("payments", face.service())
    manager.register_service("mail", face.service())
    with pytest.raises(KeyError) as caught:
        face.execute(manager, "nobody")
    assert isinstance(caught.value, ConfigurationError)
    assert isinstance(caught.value, ResilienceError)
    for text in (str(caught.value), str(pickle.loads(pickle.dumps(caught.value)))):  # noqa: S301 - our own pickle
        assert "'nobody'" in text
        assert "mail, payments" in text
        assert not text.startswith(("'", '"'))
    assert manager.services == ("payments", "mail")


@pytest.mark.parametrize("names", [["execute_full", "execute_degraded"], ["should_degrade"], METHODS], ids=str)
def test_async_service_called_sync(names):
    """`execute_service` refuses a service with an async method, naming the remedy, before anything is called."""
    manager, service = DegradationManager(), type("Mixed", (Service,), {name: as_async(name) for name in names})()
    manager.register_service("s", service)
    with pytest.raises(TypeError, match="aexecute_service"):
        manager.execute_service("s")
    assert (service.full, service.spared, service.asked) == (0, 0, 0)


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
def test_plain_function_that_returns_an_opinion_to_await():
    """A plain `should_degrade` that returns a coroutine is awaited by the async door, and taken for no opinion by the
    sync one: a coroutine object is not a yes.
    """

    class Lazy(Service):
        def should_degrade(self):
            return as_async("should_degrade")(self)

    manager = DegradationManager()
    manager.register_service("s", Lazy())
    assert drive(manager.aexecute_service("s"))[0] == "full"
    answer = outcome(manager.execute_service, "s")
    gc.collect()
    assert isinstance(answer, TypeError) or answer[0] == "full"
    assert not manager.is_degraded("s")


def test_both_ways_failed(face):
    """When the degraded way fails too, DegradationError has both errors, the first as its cause."""
    manager, service = DegradationManager(**QUICK), face.service(ConnectionError("full"))
    service.degraded_failing = LookupError("degraded")
    manager.register_service("s", service)
    with pytest.raises(DegradationError) as caught:
        face.execute(manager, "s")
    assert caught.value.__cause__ is service.failing
    assert "degraded" in repr(caught.value.errors)
    manager.force_degradation(FULL)
    with pytest.raises(DegradationError):
        face.execute(manager, "s")


def test_unregister(face):
    """A service that is forgotten is unknown, does not count for the mode, and is not kept alive."""
    manager, service, other = DegradationManager(**QUICK), face.service(ConnectionError()), face.service()
    manager.register_service("s", service)
    manager.register_service("t", other)
    for _ in range(9):
        face.execute(manager, "s")
        face.execute(manager, "t")
    assert manager.get_current_mode() is PARTIAL
    reference = weakref.ref(service)
    manager.unregister_service("s")
    assert manager.get_current_mode() is NORMAL
    with pytest.raises(KeyError):
        face.execute(manager, "s")
    with pytest.raises(KeyError):
        manager.unregister_service("s")
    del service
    gc.collect()
    assert reference() is None


def test_new_service_counts_for_the_mode(face):
    """A healthy service that joins ends the full mode: not all are degraded any more."""
    manager, service = DegradationManager(**QUICK), face.service(ConnectionError())
    manager.register_service("s", service)
    for _ in range(9):
        face.execute(manager, "s")
    assert manager.get_current_mode() is FULL
    manager.register_service("t", face.service())
    assert manager.get_current_mode() is PARTIAL


# Measurement


@given(text=st.text("x.", max_size=150), window=st.integers(2, 60), minimum=st.integers(1, 60), face=st.booleans())
def test_rates(text, window, minimum, face):
    """Moving and window rate are those of a plain model, whatever the outcomes, also while the service is spared."""
    manager = DegradationManager(window_size=max(window, minimum), minimum_calls=minimum)
    guarded = Guarded(Async() if face else Sync(), manager, "s")
    moving, last = 0.0, deque(maxlen=max(window, minimum))
    for letter in text:
        before = guarded.real
        guarded.outcomes(letter)
        if guarded.real > before:
            failed = letter == "x"
            moving = moving * 0.9 + 0.1 * failed
            last.append(failed)
        health = manager.get_metrics().services["s"]
        assert health.moving_rate == pytest.approx(moving, abs=1e-12)
        assert health.window_rate == pytest.approx(sum(last) / len(last) if last else 0.0)
        assert health.calls == guarded.real


def test_degraded_only_when_both_rates_exceed(face):
    """Neither a burst in a long good history nor a bad history that is over degrades a service; both together do."""
    manager = DegradationManager(window_size=100)
    guarded = Guarded(face, manager, "s")
    guarded.outcomes("." * 100 + "xxx")
    health = manager.get_metrics().services["s"]
    assert health.moving_rate > 0.1 > health.window_rate
    assert not health.degraded
    guarded.outcomes("xxxxxxxx")
    health = manager.get_metrics().services["s"]
    assert min(health.moving_rate, health.window_rate) > 0.1
    assert health.degraded
    assert manager.is_degraded("s")
    assert manager.degraded_services == {"s"}


def test_minimum_calls(face):
    """Before `minimum_calls` outcomes nothing is degraded, however bad they are."""
    guarded = Guarded(face, manager := DegradationManager(minimum_calls=7), "s")
    guarded.outcomes("xxxxxx")
    assert not manager.is_degraded("s")
    guarded.outcomes("x")
    assert manager.is_degraded("s")


@pytest.mark.parametrize("options", [{"minimum_calls": 1, "window_size": 1, "degradation_threshold": 0.05}, {}])
@given(text=st.text("x.", max_size=60))
def test_one_error_is_not_enough(options, text):
    """One error never leads from both rates under the recovery threshold to a degraded service."""
    options = {"recovery_threshold": 0.04, **options}
    guarded = Guarded(Sync(), manager := DegradationManager(**options), "s")
    for letter in text:
        before = manager.get_metrics().services["s"]
        guarded.outcomes(letter)
        after = manager.get_metrics().services["s"]
        if max(before.moving_rate, before.window_rate) < 0.04:
            assert before.degraded or not after.degraded


def test_recovery(face, virtual):
    """A degraded service is healthy again when both rates are under the recovery threshold, and not before."""
    guarded = Guarded(face, manager := DegradationManager(), "s")
    break_service(guarded)
    for _ in range(10_000):
        virtual.now += 0.1
        real = guarded.real
        guarded()
        health = manager.get_metrics().services["s"]
        if not health.degraded:
            break
        if guarded.real > real:
            assert max(health.moving_rate, health.window_rate) >= 0.05
    assert not health.degraded
    assert max(health.moving_rate, health.window_rate) < 0.05
    assert [guarded() for _ in range(20)] == ["real"] * 20


def test_recovery_threshold_of_zero(face, virtual):
    """A threshold of 0 can be met: after enough successes the service is healthy."""
    guarded = Guarded(face, manager := DegradationManager(recovery_threshold=0, **QUICK), "s")
    break_service(guarded)
    heal(guarded, virtual, 300)
    assert not manager.is_degraded("s")


def test_record():
    """Calls made elsewhere are accounted for by `record`, for services that need not be known before."""
    manager = DegradationManager(**QUICK)
    for _ in range(5):
        manager.record("elsewhere", False)
    assert manager.is_degraded("elsewhere")
    assert manager.get_current_mode() is FULL
    for _ in range(100):
        manager.record("elsewhere", True)
    assert not manager.is_degraded("elsewhere")
    assert manager.get_metrics().services["elsewhere"].calls == 105


# The trickle


@pytest.mark.parametrize("per_second", [1, 10, 100, 1000])
def test_trickle(face, virtual, per_second):
    """Of the calls to a degraded service some get through: several a second if there are many, never half of them."""
    guarded = Guarded(face, manager := DegradationManager(), "s")
    while not manager.is_degraded("s"):
        guarded(ConnectionError())
    guarded.real, seconds = 0, 30
    for number in range(1, per_second * seconds + 1):
        virtual.now += 1 / per_second
        guarded(ConnectionError())
        assert guarded.real * 2 < number
    assert guarded.real >= seconds * min(3, per_second / 4)
    assert guarded.real <= seconds * 12


def test_trickle_interval(face, virtual):
    """Between two real calls lies at least `trickle_interval`."""
    guarded = Guarded(face, manager := DegradationManager(trickle_interval=timedelta(seconds=2), **QUICK), "s")
    while not manager.is_degraded("s"):
        guarded(ConnectionError())
    times, real = [], guarded.real
    for _ in range(1000):
        virtual.now += 0.01
        guarded(ConnectionError())
        if guarded.real > real:
            times.append(virtual.now)
            real = guarded.real
    assert len(times) >= 4
    assert all(later - earlier >= 2 - 1e-9 for earlier, later in itertools.pairwise(times))


def test_trickle_after_a_second_outage(face, virtual):
    """Each time the service is degraded anew, the first calls are spared, as they were the first time."""
    guarded = Guarded(face, manager := DegradationManager(**QUICK), "s")
    for _ in range(3):
        while not manager.is_degraded("s"):
            guarded(ConnectionError())
        assert guarded() == "spared"
        heal(guarded, virtual)
        assert not manager.is_degraded("s")


def test_no_trickle_against_its_own_word(face, virtual):
    """While a service says itself that it is to be spared, no call gets through; afterwards they all do."""
    manager, service = DegradationManager(**QUICK), face.service(wish=True)
    manager.register_service("s", service)
    for _ in range(300):
        virtual.now += 1
        assert face.execute(manager, "s")[0] == "degraded"
    assert (service.full, service.spared) == (0, 300)
    assert manager.is_degraded("s")
    service.wish = False
    assert face.execute(manager, "s")[0] == "full"
    assert not manager.is_degraded("s")


def test_opinion_that_fails(face, caplog):
    """A `should_degrade` that raises is logged, and the call goes on."""
    manager, service = DegradationManager(name="shop"), face.service(wish=ValueError("no idea"))
    manager.register_service("s", service)
    assert face.execute(manager, "s")[0] == "full"
    assert [(record.name, record.levelno) for record in caplog.records] == [("resilient.degradation", logging.ERROR)]
    assert "shop" in caplog.text
    assert "no idea" in caplog.text


def test_opinion_without_truth(face, caplog):
    """An opinion that has no truth value is a `should_degrade` that failed, too."""

    class Neither:
        def __bool__(self):
            raise ValueError("neither yes nor no")

    manager = DegradationManager()
    manager.register_service("s", face.service(wish=Neither()))
    assert face.execute(manager, "s")[0] == "full"
    assert "neither yes nor no" in caplog.text


# Modes


def test_modes_by_measurement(face, virtual, events):
    """Normal -> Partial -> Full -> Partial -> Normal, each by measurement of several services alone."""
    manager = DegradationManager(name="shop")
    services = [Guarded(face, manager, name) for name in "abc"]
    seen = [manager.get_current_mode()]

    def note():
        if manager.get_current_mode() is not seen[-1]:
            seen.append(manager.get_current_mode())

    for work in (lambda one: break_service(one, 12), lambda one: heal(one, virtual)):
        for one in services:
            work(one)
            note()
    assert seen == [NORMAL, PARTIAL, FULL, PARTIAL, NORMAL]
    assert [(old, new) for old, new, _ in modes(events)] == list(itertools.pairwise(seen))
    assert {reason for *_, reason in modes(events)} == {"measured"}
    assert healths(events) == [(name, degraded) for degraded in (True, False) for name in "abc"]
    assert manager.get_metrics().mode_changes == 4
    assert all(event.name == "shop" for event in events)
    changes = [event for event in events if isinstance(event, DegradationModeChanged)]
    assert [event.degraded for event in changes] == [("a",), ("a", "b", "c"), ("b", "c"), ()]


def test_mode_hysteresis(virtual):
    """The share of degraded services has to pass one threshold to be partial, and the other to be normal again."""
    manager = DegradationManager(degradation_threshold=0.3, recovery_threshold=0.15, **QUICK)
    services = [Guarded(Sync(), manager, str(number)) for number in range(10)]
    seen = []
    for one in services[:4]:
        break_service(one)
        seen.append(manager.get_current_mode())
    for one in services[:4]:
        heal(one, virtual)
        seen.append(manager.get_current_mode())
    assert seen == [NORMAL, NORMAL, NORMAL, PARTIAL, PARTIAL, PARTIAL, NORMAL, NORMAL]


def test_own_word_counts_for_the_mode(face):
    """A service degraded by its own word counts for the mode like one degraded by measurement."""
    manager, services = DegradationManager(), [face.service() for _ in range(2)]
    for name, one in zip("ab", services, strict=True):
        manager.register_service(name, one)
    seen = []
    for wishes in [(False, False), (True, False), (True, True), (False, True), (False, False)]:
        for name, one, wish in zip("ab", services, wishes, strict=True):
            one.wish = wish
            face.execute(manager, name)
        seen.append(manager.get_current_mode())
    assert seen == [NORMAL, PARTIAL, FULL, PARTIAL, NORMAL]


def test_inside_the_band_nothing_changes(virtual, events):
    """While both rates stay between the thresholds nothing changes, from whichever side they came."""
    manager = DegradationManager(degradation_threshold=0.5, recovery_threshold=0.05, **QUICK)
    healthy, degraded = Guarded(Sync(), manager, "healthy"), Guarded(Sync(), manager, "degraded")
    break_service(degraded, 12)
    events.clear()
    for one in (healthy, degraded):
        for number in range(2000):
            virtual.now += 0.2
            real = one.real
            one(ConnectionError() if one.real % 5 == 0 else None)
            health = manager.get_metrics().services[(one is degraded and "degraded") or "healthy"]
            if number > 500 and one.real > real:
                assert min(health.moving_rate, health.window_rate) > 0.05
                assert max(health.moving_rate, health.window_rate) < 0.5
    assert events == []
    assert manager.degraded_services == {"degraded"}


# Force


@pytest.mark.parametrize("mode", [FULL, "full"])
def test_forced_full(face, virtual, mode):
    """Full by force: no call is real, for as long as it is forced, and each is answered in the degraded way."""
    manager, service = DegradationManager(**QUICK), face.service()
    manager.register_service("s", service)
    guarded = Guarded(face, manager, "t")
    manager.force_degradation(mode)
    for _ in range(300):
        virtual.now += 10
        assert face.execute(manager, "s")[0] == "degraded"
        assert guarded() == "spared"
        manager.evaluate()
    assert (service.full, guarded.real) == (0, 0)
    assert manager.get_current_mode() is FULL
    assert manager.get_metrics().forced
    assert manager.is_degraded("s")
    late = Guarded(face, manager, "late")
    assert late() == "spared"
    manager.force_degradation(None)
    assert manager.get_current_mode() is NORMAL
    assert face.execute(manager, "s")[0] == "full"
    assert guarded() == "real"
    assert not manager.get_metrics().forced


def test_forced_normal(face, virtual):
    """Normal by force: nothing is spared, whatever is measured or wished; measurement goes on."""
    manager, service = DegradationManager(**QUICK), face.service(ConnectionError(), wish=True)
    manager.register_service("s", service)
    guarded = Guarded(face, manager, "t")
    manager.force_degradation(NORMAL)
    for _ in range(100):
        guarded(ConnectionError())
        face.execute(manager, "s")
        manager.evaluate()
    assert (service.full, guarded.real) == (100, 100)
    assert manager.get_current_mode() is NORMAL
    assert not manager.is_degraded("t")
    manager.force_degradation(None)
    assert manager.get_current_mode() is FULL
    assert manager.is_degraded("t")
    assert guarded() == "spared"


def test_forced_partial(face):
    """Partial by force: the mode holds, and services are spared as measured."""
    manager = DegradationManager(**QUICK)
    good, bad = Guarded(face, manager, "good"), Guarded(face, manager, "bad")
    manager.force_degradation(PARTIAL)
    break_service(bad, 5)
    assert [good() for _ in range(5)] == ["real"] * 5
    assert bad() == "spared"
    break_service(good, 20)
    assert good() == "spared"
    assert manager.get_current_mode() is PARTIAL
    manager.force_degradation(None)
    assert manager.get_current_mode() is FULL


@pytest.mark.parametrize("forced", [NORMAL, PARTIAL, FULL])
@pytest.mark.parametrize("degraded", [0, 1, 2])
def test_force_from_any_mode(forced, degraded, virtual, events):
    """A forced mode holds from whatever mode it was set; None goes by measurement again."""
    manager = DegradationManager(**QUICK)
    services = [Guarded(Sync(), manager, name) for name in "ab"]
    for one in services[:degraded]:
        break_service(one)
    before = manager.get_current_mode()
    assert before is [NORMAL, PARTIAL, FULL][degraded]
    events.clear()
    manager.force_degradation(forced)
    manager.force_degradation(forced)
    for one in services:
        heal(one, virtual, 5)
        break_service(one)
        assert manager.get_current_mode() is forced
    manager.configure(degradation_threshold=0.2)
    assert manager.get_current_mode() is forced
    manager.force_degradation(None)
    manager.force_degradation(None)
    after = manager.get_current_mode()
    assert after is (before if forced is FULL else FULL)
    changes = [(before.value, forced.value, "forced"), (forced.value, after.value, "released")]
    assert modes(events) == [change for change in changes if change[0] != change[1]]


@pytest.mark.parametrize("value", ["FULL!", "", 1, True, [], object()])
def test_bad_mode(value):
    """What is no mode is refused with the modes there are, and changes nothing."""
    manager = DegradationManager()
    manager.force_degradation(FULL)
    with pytest.raises(ConfigurationError) as caught:
        manager.force_degradation(value)
    for word in ("mode", repr(value), "NORMAL", "PARTIAL", "FULL", "None"):
        assert word in str(caught.value)
    assert manager.get_current_mode() is FULL
    assert manager.get_metrics().forced


# Telling


def test_health_events_alternate(face, events):
    """A service is told of when it begins to be spared and when that ends, not when a second reason comes or goes."""
    manager, service = DegradationManager(**QUICK), face.service(ConnectionError())
    manager.register_service("s", service)
    for wish in (False, False, False, True, True, False, False):
        service.wish = wish
        face.execute(manager, "s")
    assert healths(events) == [("s", True)]


def test_same_opinion_from_many_threads(events):
    """An opinion that several threads bring at once is told once."""
    logging.disable()
    try:
        for number in range(150):
            manager, name = DegradationManager(), f"s{number}"
            manager.register_service(name, Service(wish=True))
            with frequent_switches():
                in_threads(8, lambda _, manager=manager, name=name: manager.execute_service(name))
    finally:
        logging.disable(logging.NOTSET)
    assert len(healths(events)) == 150


def test_log_lines(face, virtual, caplog):
    """Each change of health and mode is a line of `resilient.degradation`, with its data in `extra`."""
    guarded = Guarded(face, DegradationManager(name="shop", **QUICK), "stock")
    break_service(guarded)
    lines = [record for record in caplog.records if record.name == "resilient.degradation"]
    assert len(lines) == 2
    assert all("shop" in record.getMessage() and record.levelno == logging.WARNING for record in lines)
    assert any("stock is degraded" in record.getMessage() for record in lines)
    assert any("normal -> full" in record.getMessage() for record in lines)
    assert {record.new for record in lines if hasattr(record, "new")} == {"full"}
    caplog.clear()
    heal(guarded, virtual)
    assert any("stock is healthy again" in line for line in caplog.messages)
    assert any("full -> normal" in line for line in caplog.messages)


def test_handlers_may_call_back(face, virtual):
    """A handler may call the manager and the guarded functions from another thread: no lock is held."""
    manager, service = DegradationManager(**QUICK), face.service()
    guarded, other = Guarded(face, manager, "s"), Guarded(face, manager, "other")
    manager.register_service("opinionated", service)
    stuck, told = [], []

    def use():
        manager.get_metrics()
        manager.evaluate()
        manager.is_degraded("s")
        other()
        with registry.disabled():
            pass

    def handler(event):
        thread = threading.Thread(target=use, daemon=True)
        thread.start()
        thread.join(WAIT)
        told.append(event)
        if thread.is_alive():
            stuck.append(event)

    with registry.subscribe(handler, DegradationModeChanged, ServiceHealthChanged):
        for change in (
            lambda: break_service(guarded, 3),
            lambda: manager.configure(auto_degradation_enabled=False),
            lambda: manager.configure(auto_degradation_enabled=True),
            lambda: break_service(guarded, 3),
            lambda: heal(guarded, virtual),
            lambda: manager.force_degradation(FULL),
            lambda: manager.force_degradation(None),
            lambda: setattr(service, "wish", True),
            lambda: face.execute(manager, "opinionated"),
            lambda: manager.unregister_service("opinionated"),
        ):
            change()
    assert len(told) >= 8
    assert not stuck


def test_handler_that_raises(face, caplog):
    """What a handler raises is logged, and neither call nor manager notices."""

    def handler(event):
        raise ValueError("handler")

    guarded = Guarded(face, manager := DegradationManager(**QUICK), "s")
    with registry.subscribe(handler, DegradationModeChanged, ServiceHealthChanged):
        assert guarded.outcomes("xxx") == ["spared"] * 3
        manager.force_degradation(NORMAL)
    assert manager.get_current_mode() is NORMAL


def test_metrics_are_a_picture():
    """Metrics do not change after they were taken, and cannot be changed."""
    guarded = Guarded(Sync(), manager := DegradationManager(**QUICK), "s")
    before = manager.get_metrics()
    break_service(guarded)
    assert before.services["s"].calls == 0
    assert before.mode is NORMAL
    with pytest.raises(AttributeError):
        before.services["s"].calls = 3
    after = manager.get_metrics()
    assert (after.mode, after.forced, after.mode_changes) == (FULL, False, 1)


# Live options


def test_configure_nothing_by_a_bad_change():
    """A bad change among good ones changes nothing."""
    manager = DegradationManager(**QUICK)
    guarded = Guarded(Sync(), manager, "s")
    break_service(guarded)
    before = manager.config
    for changes in (
        {"auto_degradation_enabled": False, "recovery_threshold": 2},
        {"auto_degradation_enabled": False, "window_size": 1},
        {"degradation_threshold": 0.01},
        {"auto_degradation_enabled": False, "unknown": 1},
    ):
        with pytest.raises((ConfigurationError, TypeError)):
            manager.configure(**changes)
        assert manager.config == before
        assert manager.is_degraded("s")


def test_configure_thresholds(face, virtual):
    """Changed thresholds hold for services there already are, degraded or not."""
    guarded = Guarded(face, manager := DegradationManager(degradation_threshold=0.9, **QUICK), "s")
    guarded.outcomes("x.x.x.x.x.x.x.")
    assert not manager.is_degraded("s")
    manager.configure(degradation_threshold=0.2)
    guarded.outcomes("x")
    assert manager.is_degraded("s")
    manager.configure(degradation_threshold=0.99, recovery_threshold=0.98)
    assert not manager.is_degraded("s")
    assert manager.get_current_mode() is NORMAL
    assert guarded() == "real"


def test_configure_minimum_calls(face):
    """A higher minimum holds for the next errors; measurements stay."""
    guarded = Guarded(face, manager := DegradationManager(), "s")
    guarded.outcomes("x" * 9)
    manager.configure(minimum_calls=20)
    guarded.outcomes("x" * 10)
    assert not manager.is_degraded("s")
    assert manager.get_metrics().services["s"].calls == 19
    guarded.outcomes("x")
    assert manager.is_degraded("s")


def test_configure_trickle(face, virtual):
    """A changed trickle holds for services that are degraded already."""
    guarded = Guarded(face, manager := DegradationManager(**QUICK), "s")
    break_service(guarded)
    manager.configure(trickle_interval=1000)
    virtual.now += 1
    guarded.outcomes("xxx")
    real = guarded.real
    for _ in range(100):
        virtual.now += 1
        guarded(ConnectionError())
    assert guarded.real == real


def test_configure_shorter_window(face):
    """A shorter window looks at the last calls only, at once."""
    guarded = Guarded(face, manager := DegradationManager(degradation_threshold=0.9, window_size=50), "s")
    guarded.outcomes("x" * 10 + "." * 40)
    assert manager.get_metrics().services["s"].window_rate == pytest.approx(0.2)
    manager.configure(window_size=45)
    assert manager.get_metrics().services["s"].window_rate == pytest.approx(5 / 45)
    manager.configure(window_size=40)
    assert manager.get_metrics().services["s"].window_rate == 0


def test_auto_switched_off(face, events):
    """Switching measured degradation off ends it, and none begins; wishes and force still count."""
    manager, service = DegradationManager(**QUICK), face.service()
    manager.register_service("s", service)
    guarded = Guarded(face, manager, "t")
    break_service(guarded)
    assert manager.is_degraded("t")
    manager.configure(auto_degradation_enabled=False)
    assert not manager.is_degraded("t")
    assert manager.get_current_mode() is NORMAL
    assert healths(events) == [("t", True), ("t", False)]
    real = guarded.real
    break_service(guarded, 100)
    assert guarded.real == real + 100
    service.wish = True
    assert face.execute(manager, "s")[0] == "degraded"
    assert manager.get_current_mode() is PARTIAL
    manager.force_degradation(FULL)
    assert guarded() == "spared"
    manager.force_degradation(None)
    assert guarded() == "real"


def test_auto_off_from_the_start(face):
    """Without measured degradation failed calls are still answered in the degraded way, and rates are measured."""
    guarded = Guarded(face, manager := DegradationManager(auto_degradation_enabled=False), "s")
    assert guarded.outcomes("x" * 100) == ["spared"] * 100
    assert guarded.real == 100
    assert manager.get_metrics().services["s"].window_rate == 1.0
    assert manager.get_current_mode() is NORMAL
    manager.configure(auto_degradation_enabled=True)
    guarded.outcomes("x")
    assert manager.is_degraded("s")


# Crowds


def test_threads_count_exactly():
    """No outcome of 16 threads is lost or counted twice."""
    manager = DegradationManager(degradation_threshold=0.9, window_size=16_000)

    @degrade(fallback=None, manager=manager, service="s")
    def work(fails):
        if fails:
            raise ConnectionError

    def body(index):
        for number in range(1000):
            work(number % 4 == 0)

    with frequent_switches():
        assert in_threads(16, body) == [None] * 16
    health = manager.get_metrics().services["s"]
    assert health.calls == 16_000
    assert health.window_rate == pytest.approx(0.25)


def test_tasks_count_exactly():
    """No outcome of many tasks that overlap is lost or counted twice."""
    manager = DegradationManager(degradation_threshold=0.9, window_size=1000)

    @degrade(fallback=None, manager=manager, service="s")
    async def work(fails):
        await asyncio.sleep(0)
        if fails:
            raise ConnectionError

    async def main():
        await asyncio.gather(*(work(number % 4 == 0) for number in range(1000)))

    run(main())
    health = manager.get_metrics().services["s"]
    assert (health.calls, health.window_rate) == (1000, pytest.approx(0.25))


def test_threads_leave_a_mode_that_fits(virtual):
    """Whatever 16 threads do to services, force and options, the mode fits the services in the end."""
    manager = DegradationManager(trickle_interval=0, **QUICK)
    services = [Guarded(Sync(), manager, str(number)) for number in range(4)]

    def body(index):
        for number in range(150):
            one = services[(index + number) % 4]
            one(ConnectionError() if (number // 25 + index) % 2 else None)
            if index == 0 and number % 10 == 0:
                manager.force_degradation([FULL, NORMAL, PARTIAL, None][number // 10 % 4])
            if index == 1 and number % 10 == 0:
                manager.configure(auto_degradation_enabled=number % 20 == 0)
            if index == 2:
                manager.evaluate()

    def check(metrics):
        degraded = [one.degraded for one in metrics.services.values()]
        return FULL if all(degraded) else PARTIAL if any(degraded) else NORMAL

    with frequent_switches():
        assert in_threads(16, body) == [None] * 16
    manager.force_degradation(None)
    manager.configure(auto_degradation_enabled=True)
    metrics = manager.get_metrics()
    assert metrics.mode is check(metrics)
    for name, health in metrics.services.items():
        assert manager.is_degraded(name) is health.degraded
    for one in services:
        heal(one, virtual, 60)
    assert manager.get_current_mode() is NORMAL
    assert [one() for one in services] == ["real"] * 4


def test_trickle_of_threads():
    """Of calls that 16 threads make at once, fewer than half are real while the service is degraded."""
    manager = DegradationManager(trickle_interval=0, **QUICK)
    calls = []

    @degrade(fallback=None, manager=manager, service="s")
    def work():
        calls.append(None)
        raise ConnectionError

    while not manager.is_degraded("s"):
        work()
    calls.clear()
    with frequent_switches():
        in_threads(16, lambda _: [work() for _ in range(200)])
    assert 0 < len(calls) < 16 * 200 / 2


def test_registering_beside_the_registry():
    """Registering a service while another thread switches all policies off and on does not deadlock."""
    out, err, status = interpreter("""
        manager = DegradationManager()
        guarded = degrade(fallback=1, manager=manager, service="f")(lambda: 1)
        stop = time.monotonic() + 1.5

        def registering():
            number = 0
            while time.monotonic() < stop:
                number += 1
                manager.register_service(f"s{number}", Service())
                manager.unregister_service(f"s{number}")

        def switching():
            while time.monotonic() < stop:
                with registry.disabled():
                    pass

        sys.setswitchinterval(1e-6)
        threads = [threading.Thread(target=work, daemon=True) for work in (registering, switching) * 2]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(3)
        print("deadlock" if any(thread.is_alive() for thread in threads) else "fine", flush=True)
        os._exit(0)
    """)
    assert (status, out) == (0, "fine"), err


def test_no_user_code_under_the_lock():
    """What a service's attributes do when they are looked up runs outside the manager's lock."""
    manager, stuck = DegradationManager(), []

    class Curious(Service):
        def __getattribute__(self, name):
            if name.startswith(("execute", "should")):
                thread = threading.Thread(target=manager.get_metrics, daemon=True)
                thread.start()
                thread.join(0 if stuck else 2)
                if thread.is_alive():
                    stuck.append(name)
            return super().__getattribute__(name)

    manager.register_service("s", Curious())
    assert manager.execute_service("s")[0] == "full"
    assert stuck == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_fork():
    """A child forked while another thread has the lock and a monitor runs can use the manager, and monitor anew."""
    out, err, status = interpreter("""
        manager = DegradationManager(monitoring_interval=0.02, minimum_calls=2)
        service = Service()
        manager.register_service("s", service)

        @degrade(fallback="spared", manager=manager, service="f")
        def failing():
            raise ConnectionError

        [failing() for _ in range(5)]
        manager.start_monitoring()
        taken, leave = threading.Event(), threading.Event()

        def hold():
            with manager.lock:
                taken.set()
                leave.wait(10)

        threading.Thread(target=hold, daemon=True).start()
        assert taken.wait(5)
        child = os.fork()
        if child == 0:
            signal.alarm(8)
            try:
                assert not manager.monitoring
                assert manager.execute_service("s") == "full"
                assert manager.is_degraded("f") and failing() == "spared"
                assert manager.get_current_mode().value == "partial"
                asked = threading.Event()
                service.should_degrade = asked.set
                manager.start_monitoring()
                assert asked.wait(5) and manager.monitoring
                manager.stop_monitoring()
                manager.force_degradation("full")
                os._exit(0)
            except BaseException as error:
                print(repr(error), flush=True)
                os._exit(1)
        _, status = os.waitpid(child, 0)
        leave.set()
        assert manager.monitoring
        assert manager.get_current_mode().value == "partial"
        print("fine" if status == 0 else status, flush=True)
    """)
    assert (status, out) == (0, "fine"), err


# Company


class Marked(Exception):
    """An exception that can be referred to weakly."""


def test_errors_are_not_kept_alive(face):
    """Neither manager nor service keeps an exception, of a call or of an opinion."""
    manager, service = DegradationManager(**QUICK), face.service()
    manager.register_service("s", service)
    references = []
    logging.disable()
    try:
        for _ in range(5):
            service.failing, service.wish = Marked(), Marked()
            references += [weakref.ref(service.failing), weakref.ref(service.wish)]
            face.execute(manager, "s")
            service.failing, service.wish = None, False
    finally:
        logging.disable(logging.NOTSET)
    gc.collect()
    assert [reference() for reference in references] == [None] * 10


def test_disabled(face):
    """Inside `registry.disabled()` services are called the full way and errors pass; nothing is measured."""
    manager, service = DegradationManager(**QUICK), face.service()
    manager.register_service("s", service)
    manager.force_degradation(FULL)
    with registry.disabled():
        assert face.execute(manager, "s")[0] == "full"
        service.failing = ConnectionError()
        assert outcome(face.execute, manager, "s") is service.failing
    assert face.execute(manager, "s")[0] == "degraded"
    assert manager.get_metrics().services["s"].calls == 0


def test_cancelled(face):
    """A cancelled call, or an interrupted one, counts as nothing and passes."""
    for error in (asyncio.CancelledError(), KeyboardInterrupt(), SystemExit()):
        manager, service = DegradationManager(**QUICK), face.service(error)
        manager.register_service("s", service)
        for _ in range(5):
            assert type(outcome(face.execute, manager, "s")) is type(error)
        assert manager.get_metrics().services["s"].calls == 0
        assert service.spared == 0
        assert not manager.is_degraded("s")
