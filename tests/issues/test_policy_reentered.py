"""What the interpreter runs in between (a collected generator, a signal) used to deadlock on the policy's own lock."""

import pytest

from .helpers import child

COLLECTED = """
    import gc
    from resilient import bulkhead, circuit_breaker, retry, RetryBudget, registry

    class Ring:
        pass

    def drop_unfinished(make):
        "Leave an unfinished generator to the collector."
        ring, stream = Ring(), make()
        next(stream)
        ring.stream, ring.ring = stream, ring

    def outcome(function):
        try:
            function()
        except ValueError:
            pass

    breaker = circuit_breaker("breaker", failure_threshold=10**9)
    timed = circuit_breaker("timed", failure_threshold=10**9, window_duration=60)
    bulk = bulkhead("bulk", max_concurrent=10**6, max_wait=1)
    policy = {"breaker": breaker, "timed": timed, "bulkhead": bulk}["POLICY"]

    @policy
    def stream():
        yield 1
        yield 2

    def block():
        with policy:
            yield 1
            yield 2

    @policy
    def fail():
        raise ValueError

    def use_block():
        with policy:
            raise ValueError

    gc.set_threshold(1, 1, 1)
    for _ in range(150):
        drop_unfinished(FORM)
        outcome(fail)
        outcome(use_block)
        policy.get_metrics()
    gc.set_threshold(700, 10, 10)
    gc.collect()
    if policy is bulk:
        assert (bulk.active_requests, bulk.available_permits) == (0, 10**6), bulk.get_metrics()
    print("ended")
"""


@pytest.mark.parametrize("form", ["stream", "block"])
@pytest.mark.parametrize("policy", ["breaker", "timed", "bulkhead"])
def test_collected_generator(policy, form):
    """An unfinished stream or block that is collected while the policy is in use ends without a deadlock."""
    assert child(COLLECTED.replace("POLICY", policy).replace("FORM", form)) == "ended"


SIGNALLED = """
    import signal, time
    from resilient import bulkhead, circuit_breaker, registry

    breaker = circuit_breaker("breaker", failure_threshold=10**9)
    bulk = bulkhead("bulk", max_concurrent=1)

    @breaker
    def fail():
        raise ValueError

    @bulk
    def work():
        pass

    def look():
        breaker.state
        breaker.get_metrics()
        bulk.get_metrics()
        registry.snapshot()

    def use():
        try:
            with breaker:
                raise ValueError
        except ValueError:
            pass
        breaker.get_metrics()

    signal.signal(signal.SIGALRM, lambda *_: (HANDLER)())
    signal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)
    end = time.monotonic() + 0.6
    while time.monotonic() < end:
        try:
            fail()
        except ValueError:
            pass
        work()
        use()
    signal.setitimer(signal.ITIMER_REAL, 0)
    print(breaker.state.value)
"""


@pytest.mark.parametrize("handler", ["lambda: breaker.state", "look", "use"])
def test_signal_handler(handler):
    """A signal handler may read and use the policies that it interrupts."""
    assert child(SIGNALLED.replace("HANDLER", handler)) == "closed"
