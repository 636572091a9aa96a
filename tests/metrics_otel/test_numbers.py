"""The same numbers as for Prometheus."""

import asyncio
import math
import threading

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import Gauge, Histogram, InMemoryMetricReader, Sum
from prometheus_client import CollectorRegistry

from resilient import (
    CachedDegradation,
    DegradationManager,
    RetryBudget,
    bulkhead,
    circuit_breaker,
    degrade,
    registry,
    retry,
    timeout,
)
from resilient.meters import METERS
from resilient.metrics import CATALOGUE, install, install_otel, uninstall, uninstall_otel
from resilient.metrics.catalogue import Type
from resilient.orchestrator import RecoveryOrchestrator, RecoveryPlan, RecoveryStep
from resilient.testing import faults, inject

from .helpers import metrics_of, named, points


def fail() -> None:
    raise ConnectionError("down")


def quietly(call, *args) -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever it is
        call(*args)


@pytest.fixture
def prometheus():
    target = CollectorRegistry()
    install(target)
    yield target
    uninstall(target)


def prometheus_points(target: CollectorRegistry) -> dict:
    """What Prometheus sees, in the form of `points`."""
    found: dict = {}
    for family in target.collect():
        for sample in family.samples:
            labels = tuple(sorted(sample.labels.items()))
            if family.type != "histogram":
                if not math.isnan(sample.value):
                    found.setdefault(sample.name.removesuffix("_total"), {})[labels] = sample.value
                continue
            plain = tuple(pair for pair in labels if pair[0] != "le")
            counts, total = found.setdefault(family.name, {}).get(plain, ((), 0.0))
            if sample.name.endswith("_bucket"):
                counts = (*counts, int(sample.value) - sum(counts))
            if sample.name.endswith("_sum"):
                total = round(sample.value, 9)
            found[family.name][plain] = counts, total
    # OpenTelemetry has no series for a histogram without observations.
    return {
        metric: {labels: value for labels, value in series.items() if not isinstance(value, tuple) or any(value[0])}
        for metric, series in found.items()
    }


def use_retries() -> None:
    flaky = iter([ConnectionError, None, None, None])

    @retry(base_delay=0.006, jitter=False, name="flaky", budget=RetryBudget(ratio=0.5, min_per_second=1))
    def answer() -> None:
        if error := next(flaky):
            raise error

    for _ in range(3):
        answer()
    hopeless = retry(max_attempts=2, base_delay=0, name="hopeless")
    quietly(hopeless.call, fail)

    async def afail() -> None:
        fail()

    with pytest.raises(ConnectionError):
        asyncio.run(hopeless.acall(afail))


def use_limits() -> None:
    breaker = circuit_breaker("breaker", failure_threshold=1)
    quietly(breaker.call, fail)
    quietly(breaker.call, fail)
    circuit_breaker("by hand").isolate()
    crowd = bulkhead("crowd", max_concurrent=1, max_wait=0)
    with crowd:
        quietly(crowd.call, print)
    with pytest.raises(TimeoutError):
        asyncio.run(timeout(0.01, name="too slow").acall(asyncio.sleep, 1))


def use_fallbacks() -> DegradationManager:
    cached = CachedDegradation(cache_ttl=60)
    kept = degrade(lambda: 1, cache=cached, fallback=0, name="kept")
    kept(), kept()
    degrade(fail, fallback=2, name="spare")()
    degrade(name="unused", fallback=0)
    manager = DegradationManager(name="otel-shop")
    manager.force_degradation("full")
    manager.force_degradation(None)
    return manager


def use_recoveries(look=lambda: None) -> None:
    orchestrator = RecoveryOrchestrator()
    orchestrator.step("look")(lambda step, context: look())
    orchestrator.register_plan(RecoveryPlan("otel-outage", "Look", [RecoveryStep("first", "Look", "look")]))
    orchestrator.execute_plan("otel-outage")
    guarded = retry(max_attempts=1, name="targeted")(lambda: None)
    with inject(guarded, faults.NetworkFailure("reset")):
        quietly(guarded)


def test_same_series_as_prometheus(installed, prometheus):
    """After a run through everything, OpenTelemetry has each series and each number that Prometheus has."""
    before = points(installed.reader).keys()
    use_retries()
    use_limits()
    manager = use_fallbacks()
    use_recoveries()
    names = [
        *("flaky", "hopeless", "breaker", "by hand", "crowd", "too slow"),
        *("kept", "spare", "unused", "otel-shop", "otel-outage", "targeted"),
    ]

    def ours(found: dict) -> dict:
        pairs = [(metric, one) for metric, series in found.items() for one in series.items()]
        return {
            (metric, labels): value
            for metric, (labels, value) in pairs
            if not labels or dict(labels)["name"] in names or metric == "recovery_injected_faults"
        }

    seen = ours(points(installed.reader))
    expected = ours(prometheus_points(prometheus))
    tokens = "recovery_retry_budget_tokens", named("flaky")  # which grow as time passes
    assert seen.pop(tokens) == pytest.approx(expected.pop(tokens), abs=0.9)
    assert seen == expected
    assert ("recovery_degradation_mode", named(manager.name)) in seen
    others = {tokens[0], "recovery_executions_running"}  # none is running now
    assert {metric for metric, _ in seen} | others == {name.removesuffix("_total") for name in CATALOGUE}
    assert before <= points(installed.reader).keys()


def test_recovery_under_way(installed):
    """A recovery is counted as running while it runs, and as completed when it is over."""
    during = []
    before = points(installed.reader).get("recovery_executions", {}).get(named("otel-outage", result="completed"), 0)
    use_recoveries(lambda: during.append(points(installed.reader)))
    assert during[0]["recovery_executions_running"] == {named("otel-outage"): 1}
    after = points(installed.reader)
    assert "recovery_executions_running" not in after
    assert after["recovery_executions"][named("otel-outage", result="completed")] == before + 1


def test_counts_of_a_script(installed):
    """The numbers are those of the script, and a call without a retry is a zero in the histogram of retries."""
    use_retries()
    seen = points(installed.reader)
    assert seen["recovery_retry_attempts"] == {named("flaky"): 4, named("hopeless"): 4}
    assert seen["recovery_retry_success"] == {named("flaky"): 3, named("hopeless"): 0}
    assert seen["recovery_retry_failure"] == {named("flaky"): 0, named("hopeless"): 2}
    counts, total = seen["recovery_retry_latency_seconds"][named("flaky")]
    assert sum(counts) == 3
    assert counts[0] == 2
    assert 0.006 <= total < 1
    assert sum(seen["recovery_retry_latency_seconds"][named("hopeless")][0]) == 2


def test_types(installed):
    """Counters and what can be added up are sums, other gauges are gauges; histograms have the stated buckets."""
    use_retries()
    use_limits()
    found = metrics_of(installed.reader)
    for name, metric in found.items():
        definition = CATALOGUE.get(f"{name}_total") or CATALOGUE[name]
        if definition.type is Type.COUNTER:
            assert isinstance(metric.data, Sum)
            assert metric.data.is_monotonic
        if definition.type is Type.HISTOGRAM:
            assert isinstance(metric.data, Histogram)
            assert all(tuple(point.explicit_bounds) == definition.buckets for point in metric.data.data_points)
            assert metric.unit == "s"
        assert metric.description == definition.text
    added = found["recovery_bulkhead_active_connections"].data
    assert isinstance(added, Sum)
    assert not added.is_monotonic
    assert isinstance(found["recovery_circuit_breaker_state"].data, Gauge)


def test_scope(installed):
    """The scope is called after the package and has its version."""
    import resilient

    data = installed.reader.get_metrics_data()
    (scope,) = (one.scope for one in data.resource_metrics[0].scope_metrics)
    assert (scope.name, scope.version) == ("resilient", resilient.__version__)


def test_nothing_to_say(installed, caplog):
    """A rate of nothing is left out, and no complaint about it is logged."""
    policy = degrade(name="idle", fallback=0)
    assert "recovery_degradation_success_rate" not in points(installed.reader)
    policy.call(fail)
    assert points(installed.reader)["recovery_degradation_success_rate"] == {named("idle"): 1.0}
    assert not caplog.records


def test_state_that_is_over(installed):
    """A series of what is no longer so is not reported any more."""
    breaker = circuit_breaker("forced")
    breaker.isolate()
    assert points(installed.reader)["recovery_circuit_breaker_forced"] == {named("forced", state="isolated"): 1}
    breaker.reset()
    assert "recovery_circuit_breaker_forced" not in points(installed.reader)


def test_threads(installed):
    """Of calls in several threads, collections in between included, none is lost and none counted twice."""
    policy = retry(max_attempts=2, base_delay=0, name="shared")

    def work() -> None:
        for number in range(200):
            outcome = iter([ConnectionError, None]) if number % 4 == 0 else iter([None])

            def answer(outcome=outcome) -> None:
                if error := next(outcome):
                    raise error

            policy.call(answer)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        points(installed.reader)
    for thread in threads:
        thread.join()
    for _ in range(10):
        policy.call(int)  # what a collection took a moment too early is made up for by the next call
    seen = points(installed.reader)
    assert seen["recovery_retry_attempts"][named("shared")] == 4 * 250 + 10
    assert sum(seen["recovery_retry_latency_seconds"][named("shared")][0]) == 4 * 200 + 10


def test_calls_before(target):
    """Counters begin with what was counted before; histograms begin when they are installed."""
    other = MeterProvider([InMemoryMetricReader()])
    install_otel(other)  # so that times are taken
    policy = retry(max_attempts=2, base_delay=0, name="early")
    quietly(policy.call, fail)
    policy.call(int)
    install_otel(target.provider)
    policy.call(int)
    seen = points(target.reader)
    assert seen["recovery_retry_attempts"] == {named("early"): 4}
    assert sum(seen["recovery_retry_latency_seconds"][named("early")][0]) == 1
    uninstall_otel(other)
    other.shutdown()


def test_too_many_names(target, caplog):
    """Names beyond the limit share a series, in histograms too, and a warning says so once."""
    install_otel(target.provider, max_names=1)
    for name in ("first", "second", "third"):
        quietly(retry(max_attempts=2, base_delay=0, name=name).call, fail)
    seen = points(target.reader)
    assert seen["recovery_retry_attempts"] == {named("first"): 2, named("other"): 4}
    by_label = {labels: sum(counts) for labels, (counts, _) in seen["recovery_retry_latency_seconds"].items()}
    assert by_label == {named("first"): 1, named("other"): 2}
    assert [record.event for record in caplog.records if record.name == "resilient.metrics"] == [
        "metrics.too_many_names"
    ]


def test_gone(installed):
    """What a policy had counted stays when the policy is gone."""
    guarded = retry(max_attempts=1)(fail)
    (name,) = registry.retries
    quietly(guarded)
    points(installed.reader)
    del guarded
    assert not registry.retries
    assert points(installed.reader)["recovery_retry_failure"] == {named(name): 1}


def test_a_collection_while_an_observation_is_told(target):
    """A call that is collected while its time is being told is counted once, and not as another one of 0 s besides."""
    policy, script = retry(max_attempts=2, base_delay=0, name="r"), iter([ConnectionError, None])

    def flaky():
        if (error := next(script)) is not None:
            raise error

    def collect(*_):
        points(target.reader)

    install_otel(target.provider)
    before = METERS.listeners
    METERS.listeners = (collect, *before)
    try:
        policy.call(flaky)
    finally:
        METERS.listeners = before
    counts, _ = points(target.reader)["recovery_retry_latency_seconds"][named("r")]
    assert sum(counts) == 1
