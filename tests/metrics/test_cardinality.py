"""However many names there are, the number of series is bounded, and the sums stay right."""

import logging
from collections import Counter

import pytest
from prometheus_client import CollectorRegistry

from resilient import circuit_breaker, metrics, registry, retry

from .helpers import Script, call


@pytest.fixture
def small():
    """Return a registry in which three names of each kind have series of their own."""
    target = CollectorRegistry()
    metrics.install(target, max_names=3)
    yield target
    metrics.uninstall(target)


def by_name(target, sample):
    """Return the values of a sample's series by name."""
    found = [s for family in target.collect() for s in family.samples if s.name == sample]
    assert len({s.labels["name"] for s in found}) == len(found)
    return {s.labels["name"]: s.value for s in found}


def test_other(small, caplog):
    """Names beyond the limit share one series, with the sum of what they counted, and one warning says so."""
    policies = [retry(name=f"r{number}", base_delay=0) for number in range(10)]
    for policy in policies:
        policy.call(Script("ok"))
    with caplog.at_level(logging.WARNING, "resilient.metrics"):
        shown = [by_name(small, "recovery_retry_success_total") for _ in range(3)][-1]

    assert shown == {"r0": 1, "r1": 1, "r2": 1, "other": 7}
    warnings = [record for record in caplog.records if record.name == "resilient.metrics"]
    assert [(record.event, record.kind) for record in warnings] == [("metrics.too_many_names", "retry")]
    assert "max_names" in warnings[0].getMessage()


def test_one_warning_for_all_kinds(small, caplog):
    """A second kind that has too many names is put together too, without a second warning."""
    kept = [(retry(name=f"n{number}"), circuit_breaker(f"n{number}")) for number in range(5)]
    with caplog.at_level(logging.WARNING, "resilient.metrics"):
        shown = by_name(small, "recovery_circuit_breaker_successes_total")

    assert set(shown) == {"n0", "n1", "n2", "other"}
    assert len([record for record in caplog.records if record.name == "resilient.metrics"]) == 1
    assert kept


def test_gauges_of_others(small):
    """Of gauges that share a series, sizes are added, and of states the worse one is shown."""
    breakers = [circuit_breaker(f"b{number}", failure_threshold=1) for number in range(6)]
    call(breakers[4], "sync", Script(ConnectionError()))

    assert by_name(small, "recovery_circuit_breaker_state") == {"b0": 0, "b1": 0, "b2": 0, "other": 1}


def test_histograms_of_others(small):
    """Histograms that share a series are added bucket by bucket."""
    policies = [retry(name=f"r{number}", base_delay=0, jitter=False) for number in range(6)]
    for policy in policies:
        policy.call(Script(ConnectionError(), "ok"))
        policy.call(Script("ok"))

    assert by_name(small, "recovery_retry_latency_seconds_count") == {"r0": 2, "r1": 2, "r2": 2, "other": 6}


def test_a_name_keeps_its_series(small):
    """Whoever has a series keeps it, also when names that come later sort before it."""
    first = [retry(name=name) for name in ("x", "y", "z")]
    before = by_name(small, "recovery_retry_attempts_total")
    later = [retry(name=name) for name in ("a", "b")]
    after = by_name(small, "recovery_retry_attempts_total")

    assert set(before) == {"x", "y", "z"}
    assert set(after) == {"x", "y", "z", "other"}
    assert len(first + later) == 5


def test_ten_thousand_policies(scrape):
    """Ten thousand names make a thousand and one series of each metric, and nothing of what they counted is lost."""
    with registry.scoped():
        policies = [retry(name=f"many{number}", base_delay=0) for number in range(10_000)]
        for policy in policies:
            policy.call(int)
        samples = [s for family in scrape.registry.collect() for s in family.samples]

    counted = Counter(s.name for s in samples)
    assert counted["recovery_retry_success_total"] == 1001
    assert sum(s.value for s in samples if s.name == "recovery_retry_success_total") == 10_000
    assert max(counted.values()) == 1001 * 14  # a histogram: thirteen buckets and the one for all above
