"""The registry: names, sharing, snapshots, events, live configuration, switching off, scopes."""

import asyncio
import json

import pytest

from resilient import (
    CircuitOpenError,
    ConfigurationError,
    Pipeline,
    bulkhead,
    circuit_breaker,
    degrade,
    registry,
    retry,
    timeout,
)
from resilient.events import CallRejected, CircuitStateChanged, RetryScheduled

from .helpers import Failing, in_threads, outcome, run

ROOMS = {
    "retry": ("retries", retry, {"max_attempts": 7}),
    "circuit_breaker": ("circuit_breakers", circuit_breaker, {"failure_threshold": 7}),
    "bulkhead": ("bulkheads", bulkhead, {"max_concurrent": 7}),
    "timeout": ("timeouts", lambda limit=5, **options: timeout(limit, **options), {"limit": 7}),
    "degrade": ("degradations", lambda **options: degrade(**{"fallback": 1, **options}), {"fallback": 7}),
}
every_room = pytest.mark.parametrize(("kind", "room"), ROOMS.items(), ids=ROOMS.keys())

# Names


@every_room
def test_named_policies_are_found(kind, room):
    """A named policy is found under its name in the mapping of its kind, and nowhere else."""
    mapping, make, _ = room
    policy = make(name="one")
    assert getattr(registry, mapping)["one"] is policy
    assert policy.name == "one"
    assert list(getattr(registry, mapping)) == ["one"]
    for other in {other for other, _, _ in ROOMS.values()} - {mapping}:
        assert "one" not in getattr(registry, other)
    with pytest.raises(KeyError):
        getattr(registry, mapping)["missing"]


@every_room
def test_same_name_same_object(kind, room):
    """The same kind, name and configuration give the same object; another configuration is refused, saying both."""
    _, make, change = room
    assert make(name="one") is make(name="one")
    with pytest.raises(ConfigurationError, match="7"):
        make(name="one", **change)


def test_name_as_first_argument():
    """Breaker and bulkhead take their name as the first argument."""
    assert circuit_breaker("x") is circuit_breaker(name="x")
    assert bulkhead("x") is bulkhead(name="x")


@every_room
def test_unnamed_policies_are_named_after_what_they_guard(kind, room):
    """An unnamed policy is called `module.qualname` of the first function it guards."""
    mapping, make, _ = room
    policy = make()

    def first():
        pass

    def second():
        pass

    policy(first)
    policy(second)
    name = f"{first.__module__}.{first.__qualname__}"
    assert policy.name == name
    assert getattr(registry, mapping)[name] is policy


@every_room
def test_automatic_names_do_not_conflict(kind, room):
    """Two unnamed policies on functions of one name are two policies: the second is called `…#2`."""
    mapping, make, change = room

    def function():
        pass

    one, two = make(), make(**change)
    guarded = one(function), two(function)
    assert guarded[0].policies != guarded[1].policies
    assert two.name == one.name + "#2"
    assert set(getattr(registry, mapping)) >= {one.name, two.name}


def test_one_name_shares_state_over_functions(face):
    """Functions under one explicit name share one breaker."""
    first, second = Failing(), Failing(None)
    one = circuit_breaker("shared", failure_threshold=1)(face.function(first))
    two = circuit_breaker("shared", failure_threshold=1)(face.function(second))
    outcome(face.call, one)
    assert isinstance(outcome(face.call, two), CircuitOpenError)


def test_unknown_options_are_type_errors():
    """An option that does not exist raises TypeError."""
    for make in (retry, circuit_breaker, bulkhead, degrade):
        with pytest.raises(TypeError):
            make(no_such_option=1)
    with pytest.raises(TypeError):
        timeout(1, no_such_option=1)


# Snapshots


def test_snapshot_is_plain_data():
    """`snapshot()` is a JSON-ready copy that names every policy; changing it changes nothing."""
    circuit_breaker("payments", failure_threshold=1)
    bulkhead("places", max_concurrent=3)
    retry(name="again")
    timeout(2, name="limit")
    degrade(fallback=object(), name="spare")
    text = json.dumps(registry.snapshot())
    for name in ("payments", "places", "again", "limit", "spare"):
        assert f'"{name}"' in text
    taken = registry.snapshot()
    outcome(registry.circuit_breakers["payments"].call, Failing())
    assert json.dumps(taken) == text
    taken.clear()
    assert json.dumps(registry.snapshot()) not in (text, "{}")


@every_room
def test_every_policy_has_metrics(kind, room):
    """Every policy has `get_metrics()`: a frozen snapshot."""
    _, make, _ = room
    metrics = make(name="one").get_metrics()
    assert isinstance(metrics, tuple)
    with pytest.raises(AttributeError):
        metrics.anything_at_all = 1


# Events


def test_subscribe_and_unsubscribe(face):
    """A subscriber is told of its event types only, until it unsubscribes."""
    changes, everything = [], []
    stop = registry.subscribe(changes.append, CircuitStateChanged)
    registry.subscribe(everything.append)
    breaker = circuit_breaker("b", failure_threshold=1)
    outcome(face.via, breaker, face.function(Failing()))
    outcome(face.via, breaker, face.function(Failing()))
    assert [(event.name, event.old.name, event.new.name) for event in changes] == [("b", "CLOSED", "OPEN")]
    assert {type(event) for event in everything} >= {CircuitStateChanged, CallRejected}
    assert all(event.name == "b" for event in everything)
    stop()
    breaker.reset()
    assert len(changes) == 1


def test_subscription_as_context_manager():
    """`with registry.subscribe(...)` listens during the block."""
    seen = []
    breaker = circuit_breaker("b")
    with registry.subscribe(seen.append, CircuitStateChanged):
        breaker.isolate()
    breaker.reset()
    assert [event.new.name for event in seen] == ["ISOLATED"]


def test_subscriber_errors_stay_away_from_the_caller(face, sleeps, caplog):
    """A subscriber that raises is logged; the caller and the other subscribers do not notice."""
    seen = []

    def broken(event):
        raise LookupError("broken subscriber")

    registry.subscribe(broken, RetryScheduled)
    registry.subscribe(seen.append, RetryScheduled)
    error = outcome(face.via, retry(name="r"), face.function(Failing()))
    assert isinstance(error, ConnectionError)
    assert len(seen) == 2
    assert "broken subscriber" in caplog.text


def test_event_types_are_classes():
    """Something that is not an event class is refused."""
    with pytest.raises(TypeError):
        registry.subscribe(print, "RetryScheduled")


# Live configuration


@pytest.mark.parametrize(
    ("kind", "make", "change"), [(kind, make, change) for kind, (_, make, change) in ROOMS.items()], ids=ROOMS.keys()
)
def test_configure_keeps_the_policy(kind, make, change):
    """`configure` changes a live policy in place, under the decorator's name and the signature's option names."""
    policy = make(name="one")
    registry.configure(kind, "one", **change)
    assert make(name="one", **change) is policy
    with pytest.raises(ConfigurationError):
        make(name="one", **dict.fromkeys(change, 8))


def test_configure_acts_on_decorated_functions(face):
    """A function decorated before follows the new configuration."""
    body = Failing()
    guarded = retry(name="r", max_attempts=2, base_delay=0)(face.function(body))
    outcome(face.call, guarded)
    registry.configure("retry", "r", max_attempts=5)
    outcome(face.call, guarded)
    assert body.calls == 2 + 5


def test_configure_keeps_state():
    """Changing a breaker forgets neither its state nor its counts."""
    breaker = circuit_breaker("b", failure_threshold=3)
    for _ in range(2):
        outcome(breaker.call, Failing())
    registry.configure("circuit_breaker", "b", recovery_timeout=5)
    assert breaker.get_metrics().failure_count == 2
    outcome(breaker.call, Failing())
    assert breaker.state.name == "OPEN"
    registry.configure("circuit_breaker", "b", failure_threshold=10)
    assert breaker.state.name == "OPEN"


def test_configure_bulkhead_up_and_down():
    """A bulkhead can be made larger and smaller while calls are inside."""
    bulk = bulkhead("b", max_concurrent=1, max_wait=0)
    with bulk:
        registry.configure("bulkhead", "b", max_concurrent=2)
        with bulk:
            registry.configure("bulkhead", "b", max_concurrent=1)
            assert bulk.active_requests == 2
        assert isinstance(outcome(bulk.call, int), Exception)
    assert (bulk.active_requests, bulk.available_permits, bulk.call(int)) == (0, 1, 0)


@pytest.mark.parametrize("change", [{"failure_threshold": 0}, {"recovery_timeout": -1}])
def test_bad_change_changes_nothing(change):
    """A change with a bad value among good ones is refused as a whole."""
    breaker = circuit_breaker("b", failure_threshold=2)
    with pytest.raises(ConfigurationError):
        registry.configure("circuit_breaker", "b", **{"half_open_calls": 1, **change})
    assert circuit_breaker("b", failure_threshold=2) is breaker


def test_configure_refuses_what_is_unknown():
    """An unknown kind, name or option is refused."""
    circuit_breaker("b")
    with pytest.raises((TypeError, ConfigurationError)):
        registry.configure("circuit_breaker", "b", no_such_option=1)
    for kind, name in (("circuit_breaker", "missing"), ("no_such_kind", "b")):
        with pytest.raises((KeyError, ConfigurationError)):
            registry.configure(kind, name, failure_threshold=2)


# Switching off


def test_disabled_lets_everything_pass(face, sleeps):
    """Inside `disabled()` decorated calls, `.call`, blocks and pipelines pass through; the state stays."""
    breaker = circuit_breaker("b", failure_threshold=1)
    outcome(breaker.call, Failing())
    again, bulk, limit = retry(name="r"), bulkhead("h", max_concurrent=1, max_wait=0), timeout(0, name="t")
    spare = degrade(fallback="spare", name="d")
    pipeline = Pipeline(spare, again, breaker, bulk, limit)
    body, failing = Failing(None), Failing()
    decorated = [policy(face.function(body)) for policy in (breaker, limit, pipeline)]
    decorated_failing = [policy(face.function(failing)) for policy in (again, spare, pipeline)]
    with registry.disabled():
        for guarded in decorated:
            assert face.call(guarded) == "ok"
        for guarded in decorated_failing:
            assert isinstance(outcome(face.call, guarded), ConnectionError)
        assert face.via(breaker, face.function(body)) == "ok"
        assert face.via(pipeline, face.function(body)) == "ok"
        assert face.block(breaker, body) == "ok"
        with bulk:
            assert face.block(bulk, body) == "ok"
        outcome(face.loop, again, failing)
    assert (failing.calls, sleeps) == (4, [])
    assert isinstance(outcome(face.call, decorated[0]), CircuitOpenError)
    assert breaker.get_metrics().failure_count == 1
    assert bulk.active_requests == 0


def test_disabled_is_process_wide_and_nests():
    """`disabled()` holds in other threads, and ends only when the outermost block ends."""
    breaker = circuit_breaker("b")
    breaker.isolate()
    guarded = breaker(Failing(None))
    with registry.disabled():
        with registry.disabled():
            pass
        assert in_threads(1, lambda index: guarded()) == ["ok"]
    assert isinstance(outcome(guarded), CircuitOpenError)


def test_disabled_ends_also_after_an_error():
    """The block's own error ends the switching off."""
    guarded = timeout(0)(Failing(None))
    with pytest.raises(LookupError), registry.disabled():
        raise LookupError
    assert isinstance(outcome(guarded), TimeoutError)


def test_block_across_the_switch_keeps_its_place():
    """A block that began guarded and ends switched off, or the other way round, loses no place."""
    bulk = bulkhead("b", max_concurrent=1, max_wait=0)
    switch = registry.disabled()
    with bulk:
        switch.__enter__()
    assert bulk.active_requests == 0
    bulk.__enter__()
    switch.__exit__(None, None, None)
    bulk.__exit__(None, None, None)
    assert (bulk.active_requests, bulk.available_permits) == (0, 1)


# Scopes


def test_scoped_is_empty_and_goes_away():
    """`scoped()` starts with an empty registry; afterwards the outer one is back unchanged."""
    outer = circuit_breaker("b", failure_threshold=3)
    with registry.scoped():
        assert list(registry.circuit_breakers) == []
        inner = circuit_breaker("b", failure_threshold=4)
        assert inner is not outer
    assert registry.circuit_breakers["b"] is outer


def test_subscribers_of_a_scope_end_with_it():
    """A subscription made inside a scope is gone after it."""
    seen = []
    with registry.scoped():
        registry.subscribe(seen.append, CircuitStateChanged)
    circuit_breaker("b").isolate()
    assert seen == []


# The crowd


def test_one_name_is_one_object_under_threads():
    """Sixteen threads that ask for one name at once are given one object."""
    assert len({id(breaker) for breaker in in_threads(16, lambda index: circuit_breaker("one"))}) == 1


def test_configuring_under_traffic_loses_nothing():
    """Live changes while threads and tasks call lose no count."""
    breaker = circuit_breaker("b", failure_threshold=10**6)
    guarded = breaker(lambda: None)

    async def asleep():
        await asyncio.sleep(0)

    aguarded = breaker(asleep)

    def work(index):
        if index == 0:
            for number in range(50):
                registry.configure("circuit_breaker", "b", failure_threshold=10**6 + number)
        elif index == 1:

            async def go():
                for _ in range(200):
                    await aguarded()

            run(go())
        else:
            for _ in range(500):
                guarded()

    in_threads(8, work)
    assert breaker.get_metrics().success_count == 6 * 500 + 200
