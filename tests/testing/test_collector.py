"""RecoveryMetricsCollector: what is told meanwhile, and how to add numbers of one's own."""

import threading

import pytest

from resilient import circuit_breaker, registry, retry
from resilient.events import Event
from resilient.testing import (
    ErrorInjectionConfig,
    ErrorInjectionType,
    ExpectedRecoveryBehavior,
    Operation,
    RecoveryMetricsCollector,
    RecoveryTestFramework,
    RecoveryTestScenario,
)


def run(call, collector=None, **options):
    """The result of a scenario in virtual time, in which calls are refused for a second."""
    config = ErrorInjectionConfig(ErrorInjectionType.NETWORK_FAILURE, call, seed=1)
    options = {"virtual_time": True, "load": 10, "timeout": 600, **options}
    made = RecoveryTestScenario("one", "a scenario", "", call, config, ExpectedRecoveryBehavior(), **options)
    return RecoveryTestFramework(collector).run_test_scenario(made)


def payments():
    """A function behind a retry and a breaker."""
    breaker = circuit_breaker("payments", failure_threshold=5, recovery_timeout=5, half_open_calls=2)
    return retry(name="again", max_attempts=2, on=OSError, base_delay=0.01, jitter=False)(breaker(lambda: "paid"))


def test_metrics_of_the_default():
    """Operations, successes, failures, and how many events of each kind there were."""
    result = run(payments())
    metrics = result.metrics
    assert metrics["operations"] == len(result.operations)
    assert metrics["successes"] == sum(one.ok for one in result.operations)
    assert metrics["failures"] == metrics["operations"] - metrics["successes"] > 0
    assert metrics["CircuitStateChanged"] == 3
    assert metrics["RetryScheduled"] > 0


def test_events_are_on_one_timeline():
    """Transitions, retries, fault and recovery are in the order of their times, with plain values."""
    result = run(payments())
    times = [one.at for one in result.events]
    assert times == sorted(times)
    told = [one.text for one in result.events if one.kind == "CircuitStateChanged"]
    assert told == ["CLOSED -> OPEN", "OPEN -> HALF_OPEN", "HALF_OPEN -> CLOSED"]
    kinds = [one.kind for one in result.events]
    assert kinds.index("fault begins") < kinds.index("fault ends") < kinds.index("recovered")
    plain = (bool, int, float, str, type(None))
    assert all(isinstance(value, plain) for one in result.events for value in one.data.values())
    (recovered,) = (one for one in result.events if one.kind == "recovered")
    assert recovered.name == "one"
    assert recovered.at == pytest.approx(2 + result.recovery_time)


def test_error_texts_stay_out_of_events():
    """Of errors in events only the type is kept: their texts may hold what is secret."""

    @retry(max_attempts=2, base_delay=0.0, on=ValueError)
    def call():
        raise ValueError("password=hunter2")

    with registry.subscribe(lambda event: None, Event):
        result = run(call)
    assert any(one.kind == "RetryScheduled" for one in result.events)
    assert "hunter2" not in str(result.events)


class Own(RecoveryMetricsCollector):
    """A collector that adds a number, and notes how it was called."""

    def __init__(self):
        super().__init__()
        self.told = []
        self.slowest = 0.0

    def reset_metrics(self, scenario_id):
        super().reset_metrics(scenario_id)
        self.told.append(("reset", scenario_id))
        self.slowest = 0.0

    def record_operation(self, scenario_id, operation):
        super().record_operation(scenario_id, operation)
        assert isinstance(operation, Operation)
        self.slowest = max(self.slowest, operation.duration)

    def collect_metrics(self, scenario_id):
        self.told.append(("collect", scenario_id))
        return {**super().collect_metrics(scenario_id), "slowest": self.slowest}


def test_collector_of_ones_own():
    """A subclass adds its numbers to the result; it is reset once before a scenario, and asked once after it."""
    collector = Own()
    result = run(payments(), collector)
    assert collector.told == [("reset", "one"), ("collect", "one")]
    assert result.metrics["slowest"] == max(one.duration for one in result.operations) > 0
    assert result.metrics["operations"] == len(result.operations)


def test_each_scenario_counts_for_itself():
    """The second run of a framework does not see what the first one saw."""
    collector = RecoveryMetricsCollector()
    call = payments()
    first, second = run(call, collector), run(call, collector)
    assert first.metrics == second.metrics
    assert len(first.events) == len(second.events)


def test_collector_that_fails_is_told():
    """An error of the user's collector comes out, and is not taken for one of the workload."""

    class Broken(RecoveryMetricsCollector):
        def record_operation(self, scenario_id, operation):
            raise LookupError("no database")

    with pytest.raises(LookupError, match="no database"):
        run(payments(), Broken())


def test_last_operation_is_counted():
    """In real time with 8 threads the metrics miss no operation, not even those that ended last."""
    call = payments()
    result = run(call, virtual_time=False, concurrency=8, load=None, baseline=0.05, fault=0.02, observe=0.05)
    assert result.metrics["operations"] == len(result.operations) > 20
    assert len({one.number for one in result.operations}) == len(result.operations)


def test_threads_may_record_at_once():
    """Nothing is lost when several threads record at once."""
    collector = RecoveryMetricsCollector()
    operation = Operation(0, 0.0, 1.0, "")
    record = lambda: [collector.record_operation("x", operation) for _ in range(2000)]  # noqa: E731 - for a thread
    threads = [threading.Thread(target=record) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert collector.collect_metrics("x") == {"operations": 16000, "successes": 16000}
