"""The registry: names, live changes, snapshots, switching off, scopes, forks."""

import gc
import json
import threading

import pytest

from resilient import (
    ConfigurationError,
    RetryBudget,
    bulkhead,
    circuit_breaker,
    degrade,
    registry,
    retry,
    timeout,
)
from resilient._registry import SHELVES, Registry
from resilient.events import ConfigurationChanged

from .helpers import fail, outcome

KINDS = {
    "circuit_breaker": (circuit_breaker, {"failure_threshold": 7}, {"failure_threshold": 0}),
    "bulkhead": (bulkhead, {"max_concurrent": 7}, {"max_concurrent": 0}),
    "retry": (lambda name: retry(name=name, base_delay=0), {"max_attempts": 7}, {"max_attempts": 0}),
    "timeout": (lambda name: timeout(5, name=name), {"limit": 7}, {"limit": -1}),
    "degrade": (lambda name: degrade(fallback=1, name=name), {"fallback": 7}, {"fallback_limit": 0}),
}
every_kind = pytest.mark.parametrize(("kind", "make", "good", "bad"), [(k, *v) for k, v in KINDS.items()], ids=KINDS)


@every_kind
def test_configure(kind, make, good, bad):
    """A live change keeps policy, totals and name, reaches decorated functions, and is told with its values."""
    seen = []
    registry.subscribe(seen.append, ConfigurationChanged)
    policy = make("n")
    guarded = policy(int)
    guarded()
    before = policy.get_metrics()
    registry.configure(kind, "n", **good)
    (option,) = good
    assert getattr(policy.config, option) == good[option]
    assert getattr(registry, SHELVES[kind])["n"] is policy
    assert type(policy.get_metrics()) is type(before)
    assert guarded() == 0
    assert [(event.name, event.kind, event.changes) for event in seen] == [("n", kind, good)]


@every_kind
def test_bad_changes(kind, make, good, bad):
    """A change with one bad value changes nothing, not even its good values, and is not told."""
    seen = []
    registry.subscribe(seen.append, ConfigurationChanged)
    policy = make("n")
    before = policy.config
    with pytest.raises(ConfigurationError, match="="):
        registry.configure(kind, "n", **{**good, **bad})
    with pytest.raises(TypeError, match="no option colour"):
        registry.configure(kind, "n", **good, colour="red")
    assert policy.config == before
    assert seen == []


@every_kind
def test_second_definition(kind, make, good, bad):
    """The same name means the same object, as first written or as changed since; anything else names both values."""
    policy = make("n")
    assert make("n") is policy
    registry.configure(kind, "n", **good)
    assert make("n") is policy
    (option,) = good
    if kind in ("circuit_breaker", "bulkhead"):
        decorator = {"circuit_breaker": circuit_breaker, "bulkhead": bulkhead}[kind]
        assert decorator("n", **good) is policy
        with pytest.raises(ConfigurationError, match=f"{option} was 7 and is now 9"):
            decorator("n", **{option: 9})


def test_configure_keeps_an_open_circuit_open():
    """State survives a live change."""
    breaker = circuit_breaker("b", failure_threshold=1)
    outcome(breaker.call, fail)
    registry.configure("circuit_breaker", "b", failure_threshold=9)
    assert breaker.state.value == "open"


def test_configure_what_does_not_exist():
    """Unknown kinds and names are told together with those there are."""
    circuit_breaker("payments")
    with pytest.raises(ConfigurationError, match=r"kind='breaker': .*circuit_breaker, bulkhead"):
        registry.configure("breaker", "payments")
    with pytest.raises(KeyError, match="no circuit_breaker is named 'payment'; known: payments"):
        registry.configure("circuit_breaker", "payment")
    with pytest.raises(KeyError, match="known: none"):
        registry.retries["nobody"]


def test_snapshot():
    """A snapshot is a JSON-ready copy of everything, whatever options hold."""

    class Thing:
        """Something without a name."""

        def is_degraded(self, service): ...

        def record(self, service, ok): ...

    breaker = circuit_breaker("b", expected_exception=(OSError, ValueError), ignore=lambda error: False)
    bulkhead("h", circuit_breaker=breaker)
    retry(name="r", on=OSError, budget=RetryBudget(), backoff=lambda n: 1)
    timeout(5, name="t")
    degrade(fallback=[1, float("nan")], cache={}, manager=Thing(), name="d")
    picture = registry.snapshot()
    assert json.loads(json.dumps(picture, allow_nan=False)) == picture
    assert set(picture) == set(SHELVES.values())
    config = picture["circuit_breakers"]["b"]["config"]
    assert config["expected_exception"] == ["builtins.OSError", "builtins.ValueError"]
    assert picture["circuit_breakers"]["b"]["state"] == "closed"
    assert picture["bulkheads"]["h"]["config"]["circuit_breaker"] == "b"
    assert picture["retries"]["r"]["config"]["budget"] == "<RetryBudget>"
    assert picture["degradations"]["d"]["config"]["fallback"] == [1, None]
    picture["circuit_breakers"].clear()
    assert list(registry.snapshot()["circuit_breakers"]) == ["b"]


def test_automatic_names():
    """Unnamed policies are named after their first function, a second one gets a number, and unused ones vanish."""

    def work():
        return 1

    first, second, alone = retry(work), retry(work), retry()
    name = f"{__name__}.test_automatic_names.<locals>.work"
    assert [fn.policies[0].name for fn in (first, second)] == [name, f"{name}#2"]
    assert alone.name == "retry"
    assert repr(retry()) == "<retry unnamed>"
    assert sorted(registry.retries) == [name, f"{name}#2", "retry"]
    del first, second, alone
    gc.collect()
    assert (list(registry.retries), len(registry.retries)) == ([], 0)


def test_reprs():
    """Registry and shelves show what they hold."""
    circuit_breaker("b")
    assert "circuit_breakers=1" in repr(registry)
    assert repr(registry.circuit_breakers) == "<circuit_breakers: b>"
    assert repr(registry.retries) == "<retries: none>"


def test_disabled():
    """Inside `disabled()`, nested too, calls of every form pass through, and no state changes."""
    breaker = circuit_breaker("b", failure_threshold=1)
    guarded = breaker(fail)
    with registry.disabled():
        with registry.disabled():
            pass
        for call in (guarded, lambda: breaker.call(fail)):
            assert isinstance(outcome(call), ConnectionError)
        with breaker:
            pass
        late = circuit_breaker("c", failure_threshold=1)(fail)
        outcome(late)
    assert breaker.get_metrics()[:3] == (breaker.state, 0, 0)
    outcome(late)
    outcome(guarded)
    assert [one.state.value for one in registry.circuit_breakers.values()] == ["open", "open"]


def test_scoped():
    """A scope begins empty and without listeners; afterwards policies and listeners are back."""
    seen = []
    registry.subscribe(seen.append)
    outer = circuit_breaker("b", failure_threshold=1)
    with registry.scoped() as inside:
        assert inside is registry
        assert list(registry.circuit_breakers) == []
        inner = circuit_breaker("b", failure_threshold=2)
        outcome(outer.call, fail)
        assert seen == []
    assert registry.circuit_breakers["b"] is outer
    assert inner is not outer
    outer.reset()
    assert len(seen) == 1


def test_names_in_threads():
    """Threads that ask for one name at once get one object."""
    together, found = threading.Barrier(8), []

    def work():
        together.wait(5)
        found.append(circuit_breaker("b"))

    threads = [threading.Thread(target=work, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert len(found) == 8
    assert len(set(map(id, found))) == 1


def test_after_fork():
    """In a forked child every lock is free, whoever held it, and the hooks of other state are called."""
    own, called = Registry(), []
    own.obtain("circuit_breaker", "b", None, lambda: circuit_breaker("other"))
    own.fork_hooks.append(lambda: called.append(1))
    held = threading.Thread(target=own.lock.acquire, daemon=True)
    held.start()
    held.join(5)
    own.after_fork()
    assert own.lock.acquire(timeout=1)
    own.lock.release()
    assert called == [1]
    assert own.circuit_breakers["b"].call(int) == 0
