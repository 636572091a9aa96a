"""What the metrics of breakers, bulkheads and timeouts say is what the script did."""

import asyncio
import threading
from contextlib import suppress

import pytest

from resilient import SmartTimeout, bulkhead, circuit_breaker, degrade, registry, timeout
from resilient.testing import VirtualClock

from .helpers import Script, call, until

DOWN = ConnectionError("down")


def breaker(**options):
    return circuit_breaker("b", **{"failure_threshold": 2, "recovery_timeout": 30, "half_open_calls": 1, **options})


def of_breaker(scrape, name="b"):
    what = "state", "successes_total", "failures_total", "rejections_total", "state_changes_total"
    return tuple(scrape(f"recovery_circuit_breaker_{one}", name=name) for one in what)


def test_circuit_breaker(scrape, face):
    """State, outcomes, rejections and changes of state follow a breaker once around."""
    policy, seen = breaker(), []
    with VirtualClock() as clock:
        for answer in ("ok", DOWN, DOWN, "not called", "not called"):
            call(policy, face, Script(answer))
        seen.append(of_breaker(scrape))
        clock.advance(31)
        seen.append(of_breaker(scrape))
        call(policy, face, Script("ok"))
        seen.append(of_breaker(scrape))

    assert seen == [(1, 1, 2, 2, 1), (2, 1, 2, 2, 2), (0, 2, 2, 2, 3)]
    assert scrape.of("b", "recovery_calls_total") == {
        ("calls_total", "circuit_breaker", "success"): 2,
        ("calls_total", "circuit_breaker", "failure"): 2,
        ("calls_total", "circuit_breaker", "rejected"): 2,
    }


def test_the_failure_rate(scrape):
    """The rate is the share of failures in the window."""
    policy = breaker(window_size=4, failure_rate_threshold=1.0)
    for answer in ("old", "old", DOWN, "ok", "ok", "ok"):
        call(policy, "sync", Script(answer))

    assert scrape("recovery_circuit_breaker_failure_rate", name="b") == 0.25


@pytest.mark.parametrize(
    ("force", "state", "forced"),
    [(None, 0, {}), ("isolate", 1, {"isolated": 1}), ("disable", 0, {"disabled": 1})],
    ids=str,
)
def test_by_hand(scrape, force, state, forced):
    """What is isolated shows as open, what is disabled as closed, and both as forced, until it is reset."""
    policy = breaker()
    if force:
        getattr(policy, force)()

    def shown():
        return {key[-1]: value for key, value in scrape.of("b", "recovery_circuit_breaker_forced").items()}

    assert (scrape("recovery_circuit_breaker_state", name="b"), shown()) == (state, forced)
    policy.reset()
    assert (scrape("recovery_circuit_breaker_state", name="b"), shown()) == (0, {})


def test_a_reset_takes_nothing_away(scrape, face):
    """What was counted before a reset stays counted, and what comes after is added."""
    policy = breaker(failure_threshold=100)
    for _ in range(3):
        for answer in ("ok", "ok", DOWN):
            call(policy, face, Script(answer))
        policy.reset()

    assert policy.get_metrics().success_count == 0
    assert of_breaker(scrape) == (0, 6, 3, 0, 0)


def test_bulkhead(scrape, face):
    """Calls inside, callers waiting, places, and those turned away are shown while it happens and afterwards."""
    policy = bulkhead(name="h", max_concurrent=2, max_queue=1, max_wait=5)
    seen = (_crowd if face == "sync" else _acrowd)(policy, lambda: scrape.of("h", *GAUGES))
    inside, outside = seen

    assert inside == {
        ("bulkhead_active_connections",): 2,
        ("bulkhead_queue_size",): 1,
        ("bulkhead_capacity",): 2,
    }
    assert outside == inside | {("bulkhead_active_connections",): 0, ("bulkhead_queue_size",): 0}
    assert scrape("recovery_bulkhead_rejections_total", name="h") == 1
    assert scrape.of("h", "recovery_calls_total") == {
        ("calls_total", "bulkhead", "admitted"): 3,
        ("calls_total", "bulkhead", "rejected"): 1,
    }


GAUGES = tuple(f"recovery_bulkhead_{what}" for what in ("active_connections", "queue_size", "capacity"))


def _crowd(policy, look):
    """Let four threads come: two are inside, one waits, one is turned away."""
    go_on = threading.Event()
    threads = [threading.Thread(target=call, args=(policy, "sync", lambda: go_on.wait(5))) for _ in range(3)]
    for thread in threads:
        thread.start()
    until(lambda: policy.get_metrics().queue_length == 1)
    call(policy, "sync", lambda: None)
    inside = look()
    go_on.set()
    for thread in threads:
        thread.join(5)
    return inside, look()


def _acrowd(policy, look):
    async def main():
        go_on = asyncio.Event()
        tasks = [asyncio.ensure_future(policy.acall(go_on.wait)) for _ in range(3)]
        await asyncio.sleep(0)
        with suppress(Exception):
            await policy.acall(go_on.wait)
        inside = look()
        go_on.set()
        await asyncio.gather(*tasks)
        return inside, look()

    return asyncio.run(main())


def test_timeout(scrape):
    """Calls that were ended by their limit are counted, with how long their callers had waited."""
    policy = timeout(2, name="t")

    async def main():
        for seconds in (1, 3, 3):
            with suppress(TimeoutError):
                await policy.acall(asyncio.sleep, seconds)

    with VirtualClock(autojump=True):
        asyncio.run(main())

    assert scrape.of("t", "recovery_timeout_events_total", "recovery_timeout_limit_seconds") == {
        ("timeout_events_total",): 2,
        ("timeout_limit_seconds",): 2,
    }
    assert scrape.buckets("recovery_timeout_duration_seconds", name="t") == {"2.5": 2}
    assert scrape("recovery_timeout_duration_seconds_sum", name="t") == 4
    assert scrape("recovery_calls_total", kind="timeout", name="t", result="timeout") == 2


def test_threads_that_go_on(scrape):
    """A thread that works on behind the back of its caller is shown for as long as it does."""
    policy, go_on = timeout(0.01, name="t"), threading.Event()

    def shown():
        return scrape("recovery_timeout_abandoned_threads", name="t")

    call(policy, "sync", lambda: go_on.wait(5))
    during = shown()
    go_on.set()
    until(lambda: shown() == 0)
    assert during == 1
    assert scrape("recovery_timeout_events_total", name="t") == 1


def test_a_call_that_comes_back_late(scrape):
    """A cooperative timeout counts the seconds that its caller really waited."""
    with VirtualClock() as clock:
        call(timeout(2, method="cooperative", name="t"), "sync", lambda: clock.advance(7))

    assert scrape("recovery_timeout_duration_seconds_sum", name="t") == 7


def test_a_call_that_is_not_made(scrape):
    """Where too many threads are abandoned nobody waits, so it counts as 0 seconds."""
    policy, go_on = timeout(0.01, max_abandoned=1, name="t"), threading.Event()
    call(policy, "sync", lambda: go_on.wait(5))
    before = scrape("recovery_timeout_duration_seconds_sum", name="t")
    call(policy, "sync", lambda: go_on.wait(5))
    go_on.set()

    assert scrape("recovery_timeout_events_total", name="t") == 2
    assert scrape("recovery_timeout_duration_seconds_sum", name="t") == before == 0.01
    until(lambda: policy.abandoned == 0)


def test_the_limit_of_a_smart_timeout(scrape):
    """The limit shown is the one that the next call gets."""
    smart = SmartTimeout(base_timeout=10, min_timeout=1, max_timeout=20)
    timeout(smart, name="t")
    smart.update_load_factor(1.0)

    assert scrape("recovery_timeout_limit_seconds", name="t") == smart.current_limit()


def test_switched_off(scrape, face):
    """What passes through unguarded is counted by none of the policies."""
    name = "switched off"
    policies = [circuit_breaker(name), bulkhead(name=name), timeout(5, name=name), degrade(fallback=1, name=name)]
    with registry.disabled():
        for policy in policies:
            call(policy, face, Script("ok"))

    counted = [value for key, value in scrape.all().items() if name in key and key[0].endswith(("_total", "_count"))]
    assert len(counted) > 15
    assert not any(counted)
