"""What the interpreter runs in between (a collected generator, a signal) used to deadlock on the policy's own lock."""

import threading

import pytest

from resilient import bulkhead, circuit_breaker

from .helpers import at_call, child, outcome

FILES = "resilient/circuit_breaker/", "resilient/bulkhead/", "resilient/policy.py", "resilient/generators.py"
STEPS = 300

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
    for number in range(400):
        drop_unfinished(stream if number < 200 else block)
        outcome(fail)
        outcome(use_block)
        policy.get_metrics()
    gc.set_threshold(700, 10, 10)
    gc.collect()
    if policy is bulk:
        assert (bulk.active_requests, bulk.available_permits) == (0, 10**6), bulk.get_metrics()
    print("ended")
"""


@pytest.mark.parametrize("policy", ["breaker", "timed", "bulkhead"])
def test_collected_generator(policy):
    """Unfinished streams and blocks that are collected while the policy is in use end without a deadlock."""
    assert child(COLLECTED.replace("POLICY", policy)) == "ended"


@pytest.mark.parametrize("form", ["stream", "block"])
@pytest.mark.parametrize(
    "make",
    [
        lambda: circuit_breaker(failure_threshold=100),
        lambda: circuit_breaker(failure_threshold=100, window_duration=60),
        lambda: bulkhead(max_concurrent=2, max_wait=0.002),
        lambda: bulkhead(max_concurrent=1, max_wait=0.002),
    ],
    ids=["breaker", "timed", "bulkhead", "full bulkhead"],
)
def test_generator_closed_at_a_call(make, form):
    """At whatever call in the policy an unfinished stream or block is collected, both end, and all places are free."""
    for step in range(STEPS):
        policy = make()

        def block(policy=policy):
            with policy:
                yield 1

        @policy
        def stream():
            yield 1

        @policy
        def fail():
            raise ValueError

        def use(policy=policy):
            with policy:
                raise ValueError

        unfinished, ended = (stream if form == "stream" else block)(), []
        next(unfinished)

        def work(policy=policy, fail=fail, use=use, unfinished=unfinished, step=step, ended=ended):
            def body():
                outcome(fail)
                outcome(use)
                policy.get_metrics()

            ended.append(at_call(step, unfinished.close, body, *FILES))

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(2)
        assert ended, f"call {step}: still waiting"
        unfinished.close()
        if policy.kind == "bulkhead":
            assert policy.available_permits == policy.config.max_concurrent, f"call {step}"
        if not ended[0]:
            return
    pytest.fail(f"more than {STEPS} calls")


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

    def interrupt(*_):
        (HANDLER)()
        signal.setitimer(signal.ITIMER_REAL, 1e-4)

    signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 1e-4)
    end = time.monotonic() + 0.3
    while time.monotonic() < end:
        try:
            fail()
        except ValueError:
            pass
        work()
        use()
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 0)
    print(breaker.state.value)
"""


@pytest.mark.parametrize("handler", ["lambda: breaker.state", "look", "use"])
def test_signal_handler(handler):
    """A signal handler may read and use the policies that it interrupts."""
    assert child(SIGNALLED.replace("HANDLER", handler)) == "closed"
