"""Installing: once, twice, in several registries, in the wrong thing, and taking it out again."""

import gc
import subprocess
import sys
import threading

import pytest
from prometheus_client import REGISTRY, CollectorRegistry, Counter

from resilient import ConfigurationError, metrics, registry, retry
from resilient.metrics.prometheus import _installed

from .helpers import Script, call


def test_twice(scrape):
    """Installing a second time changes nothing: each series is there once."""
    metrics.install(scrape.registry)
    retry(name="r", base_delay=0).call(Script("ok"))

    samples = [s for family in scrape.registry.collect() for s in family.samples]
    named = [s for s in samples if s.name == "recovery_retry_success_total"]
    assert [(s.labels["name"], s.value) for s in named] == [("r", 1)]
    keys = [(s.name, tuple(s.labels.items())) for s in samples]
    assert len(keys) == len(set(keys))


def test_the_default_registry():
    """Without a registry it is prometheus_client's own, and they can be taken out of it again."""
    metrics.install()
    try:
        policy = retry(name="default", base_delay=0)
        policy.call(Script("ok"))
        assert REGISTRY.get_sample_value("recovery_retry_success_total", {"name": "default"}) == 1
    finally:
        metrics.uninstall()
    assert REGISTRY.get_sample_value("recovery_event_handler_failures_total") is None


def test_several_registries(scrape):
    """Each registry sees the same numbers."""
    other = CollectorRegistry()
    metrics.install(other)
    retry(name="r", base_delay=0).call(Script("ok"))

    labels = {"name": "r"}
    seen = [one.get_sample_value("recovery_retry_attempts_total", labels) for one in (scrape.registry, other)]
    assert seen == [1, 1]
    metrics.uninstall(other)
    assert list(other.collect()) == []


@pytest.mark.parametrize("wrong", ["REGISTRY", CollectorRegistry, 0, object()], ids=str)
def test_no_registry(wrong):
    """What is no registry is refused at once, with what it was and what it must be."""
    with pytest.raises(TypeError, match=r"registry=.*must be a prometheus_client\.CollectorRegistry"):
        metrics.install(wrong)


@pytest.mark.parametrize("wrong", [0, -1, 1.5, "many"])
def test_a_wrong_limit(wrong):
    """A limit of names that is no positive number is refused, and nothing is installed."""
    target = CollectorRegistry()
    with pytest.raises((ConfigurationError, TypeError), match="max_names"):
        metrics.install(target, max_names=wrong)
    assert list(target.collect()) == []


def test_a_name_that_is_taken():
    """A registry with a metric of the same name is refused with the remedy, and stays as it was."""
    target = CollectorRegistry()
    Counter("recovery_retry_attempts", "Somebody's own", registry=target)
    with pytest.raises(ConfigurationError, match=r"recovery_retry_attempts.*a CollectorRegistry of its own"):
        metrics.install(target)
    assert [family.name for family in target.collect()] == ["recovery_retry_attempts"]
    assert target not in _installed


def test_a_name_of_ours_is_taken_too(scrape):
    """Where the metrics are installed, nobody else can use one of their names."""
    with pytest.raises(ValueError, match="Duplicated"):
        Counter("recovery_calls", "Somebody's own", registry=scrape.registry)


def test_uninstall():
    """Taking out what is not there is harmless, and what was taken out can be installed again."""
    target = CollectorRegistry()
    metrics.uninstall(target)
    for _ in range(2):
        metrics.install(target)
        assert target.get_sample_value("recovery_event_handler_failures_total") is not None
        metrics.uninstall(target)
        metrics.uninstall(target)
        assert list(target.collect()) == []


def test_a_registry_that_is_gone():
    """A registry that nobody has any more is not kept alive by what was installed in it."""
    before = len(_installed)
    metrics.install(CollectorRegistry())
    gc.collect()
    assert len(_installed) == before


def test_from_many_threads():
    """Threads that install in one registry at once install one collector, and none fails."""
    target, failed = CollectorRegistry(), []
    together = threading.Barrier(8)

    def install():
        together.wait(5)
        try:
            metrics.install(target)
        except Exception as error:  # noqa: BLE001 - whatever a thread meets, the test has to know
            failed.append(error)

    threads = [threading.Thread(target=install) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert failed == []
    assert len([one for one in target.collect() if one.name == "recovery_retry_attempts"]) == 1
    metrics.uninstall(target)


def test_calls_from_before(scrape):
    """Counters tell of calls from before the metrics were installed, wherever they are installed later."""
    call(policy := retry(name="r", base_delay=0), "sync", Script("ok"))
    later = CollectorRegistry()
    metrics.install(later)
    assert later.get_sample_value("recovery_retry_success_total", {"name": "r"}) == 1
    metrics.uninstall(later)
    assert policy


def output(code):
    """Return what a program prints in an interpreter of its own."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.strip()  # noqa: S603


OLD = """
from prometheus_client import CollectorRegistry
from resilient import metrics, registry, retry

policy = retry(name="r", base_delay=0)
policy.call(int)
target = CollectorRegistry()
metrics.install(target)
def read(what): return target.get_sample_value("recovery_retry_" + what, {"name": "r"})
first = read("success_total"), read("latency_seconds_count")
policy.call(int)
print(first, (read("success_total"), read("latency_seconds_count")))
"""


def test_latencies_begin_with_the_first_installation():
    """What retrying adds is known only since it is measured, so calls from before are not among the latencies."""
    assert output(OLD) == "(1, 0) (2, 1)"


def test_nothing_is_imported_before():
    """Neither prometheus_client nor the metrics are loaded by importing the package."""
    code = "import resilient, sys; print([m for m in sys.modules if 'prometheus' in m or m == 'resilient.metrics'])"
    assert output(code) == "[]"


def test_metrics_of_one_test(scrape):
    """Inside a scope of the registry its policies are shown, and what was before stays in the sums."""
    retry(name="r", base_delay=0).call(Script("ok"))
    assert scrape("recovery_retry_success_total", name="r") == 1
    with registry.scoped():
        inner = retry(name="inner", base_delay=0)
        inner.call(Script("ok"))
        assert scrape("recovery_retry_success_total", name="inner") == 1
        assert scrape("recovery_retry_success_total", name="r") == 1
    assert scrape("recovery_retry_success_total", name="inner") == 1
