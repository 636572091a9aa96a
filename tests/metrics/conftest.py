"""Fixtures of this folder: a registry of Prometheus per test, and what it shows."""

import math

import pytest
from prometheus_client import CollectorRegistry

from resilient import metrics


class Scrape:
    """Reads a registry of Prometheus as a server would."""

    def __init__(self):
        self.registry = CollectorRegistry()

    def __call__(self, sample, **labels):
        """Return the value of one sample, or None where there is no such sample."""
        return self.registry.get_sample_value(sample, labels)

    def all(self):
        """Return every sample's value by its name and the values of its labels."""
        return {
            (sample.name, *sample.labels.values()): sample.value
            for family in self.registry.collect()
            for sample in family.samples
        }

    def of(self, name, *metrics):
        """Return the samples of these metrics for a name, by metric and further labels."""
        found = {}
        for (sample, *labels), value in self.all().items():
            if sample in metrics and name in labels:
                labels.remove(name)
                found[sample.removeprefix("recovery_"), *labels] = "nan" if math.isnan(value) else value
        return found

    def buckets(self, metric, **labels):
        """Return what each bucket of a histogram holds by its upper bound, the empty ones left out."""
        found, before = {}, 0
        for family in self.registry.collect():
            for sample in family.samples:
                here = dict(sample.labels)
                if sample.name == f"{metric}_bucket" and labels == {k: v for k, v in here.items() if k != "le"}:
                    if sample.value != before:
                        found[here["le"]] = sample.value - before
                    before = sample.value
        return found


@pytest.fixture
def scrape():
    """Install the metrics in a registry of their own, and read them by calling this."""
    found = Scrape()
    metrics.install(found.registry)
    yield found
    metrics.uninstall(found.registry)


@pytest.fixture(params=["sync", "async"])
def face(request):
    """Name the way in which a test calls."""
    return request.param
