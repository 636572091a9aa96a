"""Looking at the registry used to fail while other threads decorated, and `scoped()` to bring subscriptions back."""

import pytest

from resilient import circuit_breaker, registry, retry
from resilient.events import CircuitStateChanged

from .helpers import Elsewhere, at_line

FILES = "resilient/_registry.py", "/weakref.py", "/_weakrefset.py", "_collections_abc.py"
STEPS = 400  # there are more where many functions are guarded


def snapshot():
    return registry.snapshot()


def items():
    return [list(shelf.items()) for shelf in (registry.retries, registry.circuit_breakers)]


def values():
    return [list(shelf.values()) for shelf in (registry.retries, registry.circuit_breakers)]


def change():
    registry.configure("retry", "kept", max_attempts=5)


def look_up():
    try:
        return registry.retries["missing"]
    except KeyError as error:
        return str(error)


@pytest.mark.parametrize("look", [snapshot, items, values, change, look_up], ids=lambda look: look.__name__)
def test_looking_while_decorating(look):
    """At whatever line of looking other threads decorate, and drop what they have decorated, the look succeeds."""

    def define(number):
        circuit_breaker(f"breaker {number}")
        return [policy(lambda: 1) for policy in (retry(base_delay=0), circuit_breaker())]

    for step in range(STEPS):
        with registry.scoped():
            kept = retry(name="kept", base_delay=0)(lambda: 1)
            dropped = define("before")

            def interfere(dropped=dropped):
                dropped.extend(define("meanwhile"))
                del dropped[:3]

            interference = Elsewhere(interfere)
            reached = at_line(step, interference, look, *FILES)
            assert kept() == 1
            if not reached:
                return
            interference.end()


def test_unsubscribing_inside_scoped():
    """A subscription made outside and ended inside stays ended."""
    seen = []
    end = registry.subscribe(seen.append, CircuitStateChanged)
    with registry.scoped():
        end()
    circuit_breaker("b").isolate()
    assert seen == []


def test_block_that_ends_inside_scoped():
    """The same for a subscription that is a block, and for scopes within each other."""
    seen = []
    subscription = registry.subscribe(seen.append, CircuitStateChanged)
    with registry.scoped(), registry.scoped():
        subscription.__exit__(None, None, None)
        circuit_breaker("a").isolate()
    circuit_breaker("b").isolate()
    assert seen == []


def test_subscriptions_around_scoped():
    """Other subscriptions rest inside and go on afterwards; those made inside end there."""
    outside, inside, gone = [], [], []
    registry.subscribe(outside.append, CircuitStateChanged)
    end = registry.subscribe(gone.append, CircuitStateChanged)
    with registry.scoped():
        registry.subscribe(inside.append, CircuitStateChanged)
        end()
        circuit_breaker("a").isolate()
    circuit_breaker("b").isolate()
    assert [len(outside), len(inside), len(gone)] == [1, 1, 0]
    assert outside[0].name == "b"
