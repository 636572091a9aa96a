"""What is exported: names, types and labels of the metrics, in both text formats, whatever policies are called."""

import pytest
from prometheus_client import exposition
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from resilient import DegradationManager, bulkhead, circuit_breaker, degrade, retry, timeout
from resilient.metrics import CATALOGUE, Definition
from resilient.metrics.catalogue import SPECIFIED, Type

#: Names and types as the specification has them.
SIXTEEN = {
    "recovery_retry_attempts_total": "counter",
    "recovery_retry_success_total": "counter",
    "recovery_retry_failure_total": "counter",
    "recovery_retry_latency_seconds": "histogram",
    "recovery_circuit_breaker_state": "gauge",
    "recovery_circuit_breaker_failures_total": "counter",
    "recovery_circuit_breaker_successes_total": "counter",
    "recovery_circuit_breaker_state_changes_total": "counter",
    "recovery_degradation_events_total": "counter",
    "recovery_degradation_mode_duration_seconds": "histogram",
    "recovery_degradation_success_rate": "gauge",
    "recovery_timeout_events_total": "counter",
    "recovery_timeout_duration_seconds": "histogram",
    "recovery_bulkhead_rejections_total": "counter",
    "recovery_bulkhead_active_connections": "gauge",
    "recovery_bulkhead_queue_size": "gauge",
}
WRITTEN = {
    "text": lambda registry: parse_text(exposition.generate_latest(registry).decode()),
    "openmetrics": lambda registry: parse_openmetrics(openmetrics.generate_latest(registry).decode()),
}
STRANGE = ['a "quoted" one', "two\nlines", "back\\slash", "ünï 名前", "{name=~'.*'}", " x ", "x" * 5000, "NaN", "le"]


def one_of_each(name):
    """Make a policy of every kind, and a manager, under a name."""
    policies = [
        retry(name=name), circuit_breaker(name), bulkhead(name), timeout(5, name=name), degrade(fallback=0, name=name)
    ]  # fmt: skip
    for policy in policies:
        assert policy.call(lambda: 1) == 1
    return [*policies, DegradationManager(name=name)]


def values(families):
    """Return the value of every sample by its name and labels."""
    samples = [sample for family in families for sample in family.samples]
    return {(sample.name, *sorted(sample.labels.items())): sample.value for sample in samples}


def test_the_sixteen():
    """The metrics of the specification are there with its types, and come first."""
    assert {name: CATALOGUE[name].type.value for name in SPECIFIED} == SIXTEEN
    assert list(CATALOGUE)[:16] == list(SPECIFIED)


@pytest.mark.parametrize("definition", CATALOGUE.values(), ids=CATALOGUE)
def test_definitions(definition: Definition):
    """Counters end in _total and histograms in their unit, and only histograms have buckets, which rise."""
    assert definition.name.startswith("recovery_")
    assert definition.name.endswith("_total") == (definition.type is Type.COUNTER)
    assert bool(definition.buckets) == (definition.type is Type.HISTOGRAM)
    assert definition.type is not Type.HISTOGRAM or definition.name.endswith("_seconds")
    assert list(definition.buckets) == sorted(set(definition.buckets))
    assert definition.text.endswith(".")


@pytest.mark.parametrize("form", WRITTEN)
def test_what_a_server_reads(scrape, form):
    """Both text formats can be read back, with the types, help texts and values of every metric."""
    kept = one_of_each("shop")
    found = {family.name: family for family in WRITTEN[form](scrape.registry)}

    for name, definition in CATALOGUE.items():
        family = found[name.removesuffix("_total")]
        assert (family.type, family.documentation) == (definition.type.value, definition.text)
    written, shown = values(found.values()), values(scrape.registry.collect())
    assert written.keys() == shown.keys()
    assert {key for key, value in shown.items() if value != written[key]} == {
        ("recovery_degradation_success_rate", ("name", "shop"))  # not a number, which equals nothing
    }
    assert kept


def test_every_sample_has_its_labels(scrape):
    """Each sample of a metric has exactly the labels of its definition."""
    kept = one_of_each("shop")
    seen = set()
    for family in scrape.registry.collect():
        for sample in family.samples:
            name = next(name for name in CATALOGUE if name.removesuffix("_total") == family.name)
            assert tuple(key for key in sample.labels if key != "le") == CATALOGUE[name].labels
            seen.add(name)
    assert set(SIXTEEN) <= seen
    assert kept


@pytest.mark.parametrize("form", WRITTEN)
def test_strange_names(scrape, form):
    """Quotes, newlines, backslashes, braces and letters of any script come back as they were given."""
    kept = [one_of_each(name) for name in STRANGE]
    found = {
        sample.labels["name"]
        for family in WRITTEN[form](scrape.registry)
        for sample in family.samples
        if "name" in sample.labels and sample.name == "recovery_calls_total" and sample.value
    }
    assert found == {policies[0].name for policies in kept}


@pytest.mark.parametrize("form", WRITTEN)
def test_a_name_that_no_text_can_hold(scrape, form):
    """Half a surrogate pair is written as its escape, and the scrape goes on."""
    kept = retry(name="half \ud83d")
    found = {sample.labels.get("name") for family in WRITTEN[form](scrape.registry) for sample in family.samples}

    assert "half \\ud83d" in found
    assert kept.name == "half \ud83d"


def test_series_are_there_from_the_start(scrape):
    """Counters of a policy are 0 before anything happens, so that their first rise can be seen."""
    kept = retry(name="fresh"), circuit_breaker("fresh"), bulkhead("fresh"), timeout(5, name="fresh")
    fresh = {key: value for key, value in scrape.all().items() if "fresh" in key and key[0].endswith("_total")}

    expected = {name for name in SIXTEEN if name.endswith("_total") and "degradation" not in name}
    assert {key[0] for key in fresh} >= expected
    assert set(fresh.values()) == {0}
    assert kept
