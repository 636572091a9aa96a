"""The ready scenarios: each passes where its policy does what it should, and fails where it does not."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from itertools import count
from typing import Any

import pytest

from resilient import CachedDegradation, RetryBudget, bulkhead, circuit_breaker, degrade, retry, timeout
from resilient.errors import ConfigurationError, RejectedError
from resilient.testing import (
    ErrorInjectionConfig,
    ErrorInjectionType,
    RecoveryTestFramework,
    RecoveryTestResult,
    TestStatus,
    faults,
    scenarios,
)

Decorator = Callable[[Any], Any]


def plain(is_async: bool) -> Any:
    """A function that always works."""
    if is_async:

        async def call(*args: Any) -> Any:
            return args or "answer"

    else:

        def call(*args: Any) -> Any:
            return args or "answer"

    return call


def chained(is_async: bool, *decorators: Decorator) -> Any:
    """The function with these decorators, outermost first."""
    fn = plain(is_async)
    for decorator in reversed(decorators):
        fn = decorator(fn)
    return fn


def check(result: RecoveryTestResult, name: str) -> Any:
    """One of the checks."""
    (found,) = [one for one in result.checks if one.name == name]
    return found


both = pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])

GOOD = {
    "retry": (scenarios.retry_absorbs_transient_faults, lambda: [retry(max_attempts=3, on=OSError)]),
    "breaker": (scenarios.breaker_opens_and_recovers, lambda: [circuit_breaker(recovery_timeout=60)]),
    "storm": (scenarios.retry_storm_bounded, lambda: [retry(), circuit_breaker(recovery_timeout=60)]),
    "bulkhead": (scenarios.bulkhead_isolates, lambda: [bulkhead(max_concurrent=4, max_wait=1)]),
    "timeout": (scenarios.timeout_bounds_tail, lambda: [timeout(2)]),
    "degrade": (scenarios.degrade_serves_stale, lambda: [degrade(cache={})]),
}
#: What is left of each when the policy is taken away: those that the scenario is not about.
LEFT = {
    "retry": lambda: [circuit_breaker()],
    "breaker": lambda: [retry()],
    "storm": lambda: [retry()],
    "bulkhead": lambda: [timeout(60)],
    "timeout": lambda: [bulkhead()],
    "degrade": lambda: [retry(base_delay=0.01)],
}


@both
@pytest.mark.parametrize("kind", GOOD)
def test_the_policy_passes(kind: str, is_async: bool) -> None:
    """Each scenario passes for a function that has its policy, in virtual time, with a full score."""
    scenario, decorators = GOOD[kind]
    began = time.monotonic()
    result = scenario(chained(is_async, *decorators())).run()

    assert result.status is TestStatus.PASSED, result.explain()
    assert result.score == 100
    assert result.fired > 0
    assert result.duration > 1
    assert time.monotonic() - began < 30


@both
@pytest.mark.parametrize("kind", LEFT)
def test_without_the_policy_it_fails(kind: str, is_async: bool) -> None:
    """Each scenario can be made for a function without its policy, and then fails, and says why."""
    result = GOOD[kind][0](chained(is_async, *LEFT[kind]())).run()

    assert result.status is TestStatus.FAILED, result.explain()
    if kind != "storm":
        assert "call has no @" in result.explain()


@both
@pytest.mark.parametrize("kind", [kind for kind in GOOD if kind != "storm"])
def test_a_bare_function_fails(kind: str, is_async: bool) -> None:
    """A function without any policy still meets the fault, so the verdict is FAILED and not INCONCLUSIVE."""
    result = GOOD[kind][0](plain(is_async)).run()

    assert result.status is TestStatus.FAILED, result.explain()
    assert "(its policies: none)" in result.explain()
    assert result.fired > 0


def test_it_runs_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """`assert_ok` prints verdict and score, and raises with the same text where it fails."""
    scenarios.breaker_opens_and_recovers(chained(False, circuit_breaker())).assert_ok(seed=7)
    printed = capsys.readouterr().out
    assert ": PASSED" in printed
    assert "resilience score 100 of 100, seed 7" in printed

    with pytest.raises(AssertionError, match="has no @circuit_breaker"):
        scenarios.breaker_opens_and_recovers(plain(False)).assert_ok()


def test_the_framework_runs_them() -> None:
    """They are scenarios for a framework; their ids name the function."""
    framework = RecoveryTestFramework(seed=7)
    fn = chained(False, retry(on=OSError), circuit_breaker(recovery_timeout=10))
    framework.add_scenario(scenarios.retry_absorbs_transient_faults(fn))
    framework.add_scenario(scenarios.breaker_opens_and_recovers(fn, id="mine", weight=3))
    report = framework.run_all_tests()

    report.assert_ok()
    first, second = report.results
    assert first.scenario_id.startswith("retry-absorbs-transient-faults:")
    assert first.scenario_id.endswith("call")
    assert (second.scenario_id, second.weight) == ("mine", 3)


def test_arguments_are_given() -> None:
    """The function is called with `args` and `kwargs`."""
    seen = []

    @retry(on=OSError)
    def call(a: int, *, b: int) -> None:
        seen.append((a, b))

    scenarios.retry_absorbs_transient_faults(call, args=(1,), kwargs={"b": 2}).run().assert_ok()
    assert set(seen) == {(1, 2)}


def test_the_seed_decides() -> None:
    """The same seed hits the same attempts."""

    def hits(seed: int) -> list[float]:
        fn = chained(False, retry(on=OSError, jitter=False))
        result = scenarios.retry_absorbs_transient_faults(fn, seed=seed).run()
        return [round(one.at, 6) for one in result.events if one.kind == "RetryScheduled"]

    assert hits(7) == hits(7) != hits(8)


# Retry


@both
@pytest.mark.parametrize("attempts", [2, 3, 6])
def test_no_seed_lets_a_good_retry_fail(attempts: int, is_async: bool) -> None:
    """However the dice fall, no more attempts in a row fail than the retry can make good."""
    for seed in range(8):
        fn = chained(is_async, retry(max_attempts=attempts, on=OSError))
        result = scenarios.retry_absorbs_transient_faults(fn, seed=seed).run()
        assert result.passed, result.explain()
        assert result.success_rate == 1


@pytest.mark.parametrize(
    "decorator",
    [retry(max_attempts=1), retry(on=ValueError), retry(give_up_on=ConnectionError), retry(max_elapsed=0)],
    ids=["one attempt", "other errors", "gives up", "no time"],
)
def test_a_retry_that_does_not_retry_fails(decorator: Decorator) -> None:
    """A retry whose configuration keeps it from helping is caught."""
    fault = faults.NetworkFailure("reset")
    result = scenarios.retry_absorbs_transient_faults(decorator(plain(False)), fault=fault).run()

    assert result.status is TestStatus.FAILED, result.explain()
    assert check(result, "retries").passed is False


def test_a_retry_within_a_short_time_is_not_asked_for_more() -> None:
    """Only as many attempts fail in a row as `max_elapsed` leaves time for."""
    fn = chained(False, retry(max_attempts=50, base_delay=1, max_delay=1, jitter=False, max_elapsed=2.5))
    result = scenarios.retry_absorbs_transient_faults(fn, rate=0.6, seed=7).run()

    assert result.passed, result.explain()


def test_the_budget_of_a_retry_is_respected() -> None:
    """With a small budget fewer attempts fail, so that it can pay for all of them."""
    fn = chained(False, retry(on=OSError, budget=RetryBudget(ratio=0.1, min_per_second=1)))
    result = scenarios.retry_absorbs_transient_faults(fn, seed=7).run()

    assert result.passed, result.explain()
    assert result.faults[0].rate < 0.1


@pytest.mark.parametrize("error", [ConnectionError, TimeoutError, KeyError, ValueError])
def test_the_fault_is_one_that_the_policy_acts_upon(error: type[Exception]) -> None:
    """Without `fault=` the scenario finds an error that the configuration of the policy names."""
    for scenario, decorator in (
        (scenarios.retry_absorbs_transient_faults, retry(on=error)),
        (scenarios.breaker_opens_and_recovers, circuit_breaker(expected_exception=error)),
        (scenarios.degrade_serves_stale, degrade(fallback="other", on=error)),
    ):
        result = scenario(decorator(plain(False))).run()
        assert result.passed, result.explain()


def test_a_fault_may_be_anywhere() -> None:
    """An ErrorInjectionConfig says where the fault happens, and how often; a retry is judged by its rate."""
    name = "shop-inner"
    inner = retry(max_attempts=1, name=name)(plain(False))

    @retry(max_attempts=4, base_delay=0.01, retry_exhausted=True)
    def outer() -> Any:
        return inner()

    fault = ErrorInjectionConfig(ErrorInjectionType.NETWORK_FAILURE, name, error_rate=0.2)
    result = scenarios.retry_absorbs_transient_faults(outer, fault=fault, seed=7, outage=2).run()

    assert result.passed, result.explain()
    assert (result.faults[0].target, result.faults[0].seed) == (name, 7)
    assert "at least 98.2%" in check(result, "success rate").required


# Storm


def test_a_storm_is_measured() -> None:
    """Three attempts are a factor of three: too much for 2.9, and not for 3."""
    result = scenarios.retry_storm_bounded(chained(False, retry(jitter=False)), factor=2.5).run()
    assert result.status is TestStatus.FAILED
    factor = float(check(result, "storm").observed.split(", ")[1].split()[0])
    assert 2.8 < factor <= 3

    assert scenarios.retry_storm_bounded(chained(False, retry()), factor=3).run().passed


def test_a_budget_bounds_the_storm() -> None:
    """A retry budget is as good as a breaker."""
    fn = chained(False, retry(budget=RetryBudget(ratio=0.1, min_per_second=1)))
    result = scenarios.retry_storm_bounded(fn, factor=1.3).run()

    assert result.passed, result.explain()


@both
def test_a_partial_is_looked_through(is_async: bool) -> None:
    """The policies of a function count where some of its arguments are given by functools.partial."""
    stormy = functools.partial(chained(is_async, retry(max_attempts=10, base_delay=0.01)), 7)
    result = scenarios.retry_storm_bounded(stormy, seed=0).run()
    assert result.status is TestStatus.FAILED, result.explain()

    good = functools.partial(chained(is_async, retry(on=OSError)), 7)
    assert scenarios.retry_absorbs_transient_faults(good, seed=0).run().passed


def test_a_storm_that_cannot_be_seen_is_not_judged() -> None:
    """A function that only calls the decorated one is INCONCLUSIVE: the fault would never reach its retry."""
    stormy = chained(False, retry(max_attempts=10, base_delay=0.01))
    result = scenarios.retry_storm_bounded(lambda: stormy(7), seed=0).run()

    assert result.status is TestStatus.INCONCLUSIVE
    assert "give the decorated function itself" in check(result, "storm").observed


# Breaker

BREAKERS = {
    "plain": lambda: circuit_breaker(failure_threshold=3, recovery_timeout=timedelta(minutes=10)),
    "rate": lambda: circuit_breaker(failure_rate_threshold=0.5, window_size=20, recovery_timeout=30),
    "window": lambda: circuit_breaker(window_duration=2, failure_threshold=4, recovery_timeout=5),
    "time and rate": lambda: circuit_breaker(failure_rate_threshold=0.4, window_duration=5, recovery_timeout=5),
    "short": lambda: circuit_breaker(recovery_timeout=0.05),
    "growing": lambda: circuit_breaker(recovery_timeout=1, recovery_multiplier=3, recovery_jitter=0.5),
    "one probe": lambda: circuit_breaker(recovery_timeout=1, half_open_calls=1),
}


@pytest.mark.parametrize("kind", BREAKERS)
def test_every_kind_of_breaker_passes(kind: str) -> None:
    """How long the fault and the recovery take is derived from whatever configuration there is."""
    result = scenarios.breaker_opens_and_recovers(chained(False, BREAKERS[kind]())).run()

    assert result.passed, result.explain()


def test_a_breaker_is_found_in_any_place() -> None:
    """Outside a retry, inside one, inside a fallback, and built into a bulkhead."""
    for decorators in (
        [circuit_breaker(recovery_timeout=20), retry()],
        [retry(), circuit_breaker(recovery_timeout=20)],
        [degrade(fallback="other"), circuit_breaker(recovery_timeout=20)],
        [bulkhead(circuit_breaker=circuit_breaker("built-in", recovery_timeout=20))],
    ):
        result = scenarios.breaker_opens_and_recovers(chained(True, *decorators)).run()
        assert result.passed, result.explain()


def test_a_breaker_that_does_not_count_the_error_fails() -> None:
    """A breaker for other errors stays closed, and all calls get through."""
    fn = chained(False, circuit_breaker(expected_exception=KeyError))
    result = scenarios.breaker_opens_and_recovers(fn, fault=faults.NetworkFailure()).run()

    assert result.status is TestStatus.FAILED
    names = ("opens", "turns away", "spares", "closes")
    assert [check(result, name).passed for name in names] == [False] * 4


def test_a_breaker_behind_a_fallback_fails() -> None:
    """A fallback inside the breaker hides the failures from it."""
    fn = chained(False, circuit_breaker(), degrade(fallback="other"))

    assert scenarios.breaker_opens_and_recovers(fn).run().status is TestStatus.FAILED


def test_a_function_that_fails_before_is_inconclusive() -> None:
    """Where it fails already before the fault, nothing can be said."""

    @circuit_breaker()
    def broken() -> None:
        raise ConnectionError

    result = scenarios.breaker_opens_and_recovers(broken).run()

    assert result.status is TestStatus.INCONCLUSIVE
    assert "the baseline was already bad" in result.reasons[-1]


def test_functions_around_guarded_ones_are_looked_through() -> None:
    """Policies below another decorator count, and so do those of methods."""
    guarded = circuit_breaker(recovery_timeout=5)(plain(False))

    @functools.wraps(guarded)
    def around() -> Any:
        return guarded()

    class Client:
        @circuit_breaker(recovery_timeout=5)
        def get(self) -> str:
            return "answer"

    for fn in (around, Client().get):
        result = scenarios.breaker_opens_and_recovers(fn).run()
        assert result.passed, result.explain()


# Timeout


@both
def test_retries_may_take_their_time(is_async: bool) -> None:
    """Around a timeout of 1 s, three attempts may take 3 s and their waits; a limit of 1 s is then too strict."""
    fn = chained(is_async, retry(max_attempts=3, base_delay=0.1), timeout(1))
    assert scenarios.timeout_bounds_tail(fn).run().passed

    result = scenarios.timeout_bounds_tail(fn, limit=1).run()
    assert result.status is TestStatus.FAILED
    assert check(result, "tail").passed is False


def test_retries_without_end_have_no_limit() -> None:
    """A timeout inside a retry without max_attempts bounds nothing."""
    fn = chained(True, retry(max_attempts=None), timeout(1))
    result = scenarios.timeout_bounds_tail(fn, outage=5, max_recovery_time=5, timeout=100).run()

    assert result.status is TestStatus.FAILED
    assert "retries without max_attempts" in result.explain()


def test_other_errors_are_told() -> None:
    """Operations that fail by something else than the timeout are no bounded tail."""

    @retry(max_attempts=1)
    def outer() -> Any:
        try:
            return inner()
        except TimeoutError:
            raise KeyError("unknown") from None

    inner = timeout(1, name="inner-limit")(plain(False))
    fault = ErrorInjectionConfig(ErrorInjectionType.LATENCY, "inner-limit", parameters={"seconds": 9})
    outer = timeout(20)(outer)
    result = scenarios.timeout_bounds_tail(outer, fault=fault, outage=20).run()

    assert result.status is TestStatus.FAILED
    assert "some by KeyError" in check(result, "errors").observed


# Degradation


def test_fallbacks_need_not_be_stale() -> None:
    """Without a cache any answer will do; asked for stale data, a fallback fails."""
    fn = chained(False, degrade(fallback="sorry"))
    assert scenarios.degrade_serves_stale(fn).run().passed

    result = scenarios.degrade_serves_stale(fn, stale=True).run()
    assert result.status is TestStatus.FAILED
    assert check(result, "stale data").passed is False


def test_answers_that_change_are_served_from_before() -> None:
    """What the cache serves was given before the fault, though every call has an answer of its own."""
    numbers = count()
    fn = degrade(cache={})(lambda: [next(numbers)])
    result = scenarios.degrade_serves_stale(fn).run()

    assert result.passed, result.explain()
    assert len({one.value[0] for one in result.operations if one.phase == "fault"}) == 1


def test_fresh_answers_are_waited_out() -> None:
    """A cache that serves fresh answers for a minute meets the fault after that minute, and is judged by then."""
    fn = degrade(cache=CachedDegradation(cache_ttl=60))(lambda: "answer")
    result = scenarios.degrade_serves_stale(fn).run()

    assert result.passed, result.explain()
    assert result.fired > 0


def test_a_fallback_that_fails_is_no_answer() -> None:
    """Where the fallback raises, callers get no answer."""

    def broken() -> None:
        raise KeyError

    result = scenarios.degrade_serves_stale(chained(False, degrade(fallback=broken))).run()
    assert result.status is TestStatus.FAILED
    assert check(result, "answers").passed is False


# Bulkhead


def test_a_bystander_that_shares_is_harmed() -> None:
    """A function that has to wait for the slow one is slow too, and the scenario says so; one that does not is fine."""
    lock = bulkhead("connections", max_concurrent=1, max_wait=50)

    @bulkhead(max_concurrent=2, max_wait=0.1)
    def slow() -> None: ...

    shared, free = lock(slow), plain(False)
    result = scenarios.bulkhead_isolates(slow, bystander=free).run()
    assert result.passed, result.explain()

    result = scenarios.bulkhead_isolates(shared, bystander=lock(free)).run()
    assert result.status is TestStatus.FAILED, result.explain()
    assert check(result, "bystander").passed is False


def test_a_bystander_that_fails_is_told() -> None:
    """Errors of the bystander during the fault are counted."""
    fn = bulkhead("small", max_concurrent=2, max_wait=0.1)

    @fn
    def slow() -> None: ...

    result = scenarios.bulkhead_isolates(slow, bystander=fn(plain(False))).run()

    assert check(result, "bystander").passed is False
    assert ", 0 of" not in check(result, "bystander").observed


@both
def test_waiting_without_end_fails(is_async: bool) -> None:
    """With max_wait=None everybody waits, which keeps all callers busy."""
    fn = chained(is_async, bulkhead(max_concurrent=3, max_wait=None))
    result = scenarios.bulkhead_isolates(fn).run()

    assert result.status is TestStatus.FAILED, result.explain()
    assert "everybody waits" in check(result, "turned away").observed

    fn = chained(is_async, bulkhead(max_concurrent=3, max_wait=None, max_queue=1))
    assert scenarios.bulkhead_isolates(fn).run().passed


def test_a_blocked_event_loop_is_noticed() -> None:
    """In real time, a function that blocks the event loop harms its bystander, bulkhead or not."""

    class Blocking(faults.Fault):
        def before(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            threading.Event().wait(0.04)

    fn = chained(True, bulkhead(max_concurrent=2, max_wait=0))
    result = scenarios.bulkhead_isolates(
        fn, fault=Blocking(), virtual_time=False, baseline=0.2, outage=1.2, tolerance=0.02, max_recovery_time=1
    ).run()

    assert check(result, "bystander").passed is False


# Functions that are right, in every stack

STACKS: dict[str, Callable[[], list[Decorator]]] = {
    "retry of seconds around": lambda: [
        retry(max_attempts=3, base_delay=1, on=OSError),
        circuit_breaker(recovery_timeout=1),
    ],
    "long waits around": lambda: [retry(base_delay=5), circuit_breaker(recovery_timeout=30)],
    "short period, retry around": lambda: [retry(), circuit_breaker(recovery_timeout=0.5)],
    "one at a time": lambda: [retry(base_delay=1), bulkhead(max_concurrent=1), circuit_breaker(recovery_timeout=5)],
    "count in time, retry inside": lambda: [circuit_breaker(window_duration=5, failure_threshold=30), retry()],
    "second, retry inside": lambda: [circuit_breaker(window_duration=1), retry()],
    "rate in time, retry inside": lambda: [
        circuit_breaker(window_duration=10, minimum_calls=100, failure_rate_threshold=0.5),
        retry(),
    ],
    "everything in time": lambda: [circuit_breaker(window_duration=60, failure_rate_threshold=1.0)],
    "everything in time, retry around": lambda: [
        retry(),
        circuit_breaker(window_duration=10, failure_rate_threshold=1.0, recovery_timeout=5),
    ],
    "hundredth": lambda: [circuit_breaker(recovery_timeout=0.01)],
    "fiftieth": lambda: [circuit_breaker(recovery_timeout=0.02)],
    "probes lose their place": lambda: [circuit_breaker(recovery_timeout=0.05, half_open_calls=1), retry()],
    "large window": lambda: [circuit_breaker(window_size=2000, failure_rate_threshold=0.9, recovery_timeout=300)],
    "window of an hour": lambda: [
        circuit_breaker(window_duration=3600, failure_rate_threshold=1.0, recovery_timeout=300)
    ],
    "minimum of calls": lambda: [circuit_breaker(window_size=100, minimum_calls=80, recovery_timeout=5)],
}


@pytest.mark.parametrize("kind", STACKS)
def test_every_stack_with_a_breaker_passes(kind: str) -> None:
    """Retries around or inside it, and windows and open periods of any length, do not let a right function fail."""
    result = scenarios.breaker_opens_and_recovers(chained(True, *STACKS[kind]()), seed=0).run()

    assert result.passed, result.explain()
    assert result.score == 100


SLOW: dict[str, tuple[Callable[[], list[Decorator]], faults.Fault]] = {
    "timeout": (lambda: [circuit_breaker(recovery_timeout=1), timeout(1)], faults.Latency(5)),
    "slow calls": (
        lambda: [
            circuit_breaker(recovery_timeout=2, slow_call_duration=1, slow_call_rate_threshold=0.5, window_size=10)
        ],
        faults.Latency(2),
    ),
    "blackhole": (lambda: [circuit_breaker(recovery_timeout=5)], faults.NetworkFailure("blackhole", patience=3)),
}


@both
@pytest.mark.parametrize("kind", SLOW)
def test_a_fault_that_takes_time_opens_a_breaker(kind: str, is_async: bool) -> None:
    """A fault gets the time that it needs for as many calls as open the breaker."""
    decorators, fault = SLOW[kind]
    result = scenarios.breaker_opens_and_recovers(chained(is_async, *decorators()), fault=fault, seed=0).run()

    assert result.passed, result.explain()


def test_latency_that_the_breaker_does_not_count_fails() -> None:
    """A breaker that calls only slow ones of a minute slow stays closed when they take 2 s, and fails."""
    fn = chained(False, circuit_breaker(recovery_timeout=2, slow_call_duration=60, window_size=10))
    result = scenarios.breaker_opens_and_recovers(fn, fault=faults.Latency(2), seed=0).run()

    assert result.status is TestStatus.FAILED, result.explain()
    assert check(result, "opens").passed is False


def test_a_breaker_that_lets_too_many_through_fails() -> None:
    """Calls that get around an open breaker are noticed, whatever retries around it add."""
    inner = retry(max_attempts=1)(plain(False))
    broken = circuit_breaker(recovery_timeout=60)(inner)

    @functools.wraps(broken)
    def leaky() -> Any:
        try:
            return broken()
        except RejectedError:
            return inner()

    result = scenarios.breaker_opens_and_recovers(retry(base_delay=1, on=OSError)(leaky), seed=0).run()

    assert result.status is TestStatus.FAILED, result.explain()
    assert check(result, "spares").passed is False


def test_a_breaker_that_needs_hours_of_failures_fails() -> None:
    """A breaker that no real outage would open fails within a limited time, and is told how many failures it needs."""
    fn = chained(False, circuit_breaker(failure_threshold=10**6, recovery_timeout=1))
    scenario = scenarios.breaker_opens_and_recovers(fn, seed=0, load=2)
    assert scenario.fault is not None
    assert scenario.fault < 700

    result = scenario.run()
    assert result.status is TestStatus.FAILED
    assert "; it needs 1000000" in check(result, "opens").observed


def test_no_time_to_turn_calls_away_is_told() -> None:
    """A breaker that is open for no time turns nobody away, and fails; where calls are too rare for it, is unclear."""
    none = chained(False, circuit_breaker(recovery_timeout=0))
    result = scenarios.breaker_opens_and_recovers(none, seed=0).run()
    assert result.status is TestStatus.FAILED
    assert "recovery_timeout=0 it lets calls through at once" in check(result, "turns away").observed

    short = chained(False, circuit_breaker(recovery_timeout=0.01))
    result = scenarios.breaker_opens_and_recovers(short, seed=0, load=20).run()
    assert result.status is TestStatus.INCONCLUSIVE
    assert "open for 0.01 s, and calls come every 0.05 s" in check(result, "turns away").observed


@both
@pytest.mark.parametrize("options", [{"fallback": "sorry"}, {"cache": {}}], ids=["fallback", "cache"])
def test_the_recommended_stack_degrades(options: dict[str, Any], is_async: bool) -> None:
    """Though each operation waits for the breaker for minutes, there are enough of them to judge by."""
    fn = chained(is_async, degrade(**options), retry(), circuit_breaker())
    result = scenarios.degrade_serves_stale(fn, seed=0).run()

    assert result.passed, result.explain()
    assert sum(one.phase == "fault" for one in result.operations) >= 100


@pytest.mark.parametrize("wait", [30, 1e6])
def test_a_long_wait_for_a_place_costs_no_time(wait: float) -> None:
    """How long callers may wait has no influence on how many calls the bystander makes meanwhile."""
    began = time.monotonic()
    result = scenarios.bulkhead_isolates(chained(True, bulkhead(max_wait=wait)), seed=0).run()

    assert result.passed, result.explain()
    assert len(result.operations) < 1000
    assert time.monotonic() - began < 20


# What cannot be meant


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"fn": 7}, "fn=7"),
        ({"args": [1]}, "args='list'"),
        ({"kwargs": [1]}, "kwargs='list'"),
        ({"load": 0}, "load=0"),
        ({"outage": -1}, "outage=-1"),
        ({"concurrency": 0}, "concurrency=0"),
        ({"factor": 0.5}, "factor=0.5"),
        ({"color": 1}, "color"),
        ({"virtual_time": "no"}, "virtual_time='no'"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], text: str) -> None:
    """A wrong option raises when the scenario is made, and is named."""
    given: dict[str, Any] = {"fn": plain(False), **options}
    with pytest.raises((ConfigurationError, TypeError), match=text):
        scenarios.retry_storm_bounded(given.pop("fn"), **given)


def test_options_of_single_scenarios_are_checked() -> None:
    """Rates, latencies and bystanders that cannot be meant are refused."""
    fn = plain(False)
    for make in (
        lambda: scenarios.retry_absorbs_transient_faults(fn, rate=2),
        lambda: scenarios.retry_absorbs_transient_faults(fn, success_rate=-1),
        lambda: scenarios.timeout_bounds_tail(fn, latency=0),
        lambda: scenarios.timeout_bounds_tail(fn, limit=-1),
        lambda: scenarios.bulkhead_isolates(fn, tolerance=-1),
        lambda: scenarios.bulkhead_isolates(fn, bystander=plain(True)),
        lambda: scenarios.degrade_serves_stale(fn, stale="yes"),  # type: ignore[arg-type]  # on purpose
    ):
        with pytest.raises(ConfigurationError):
            make()
