"""Installing, for one provider or several, and taking away again."""

import gc
import os
import weakref

import pytest
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from resilient import ConfigurationError, circuit_breaker, retry
from resilient.events import HUB, RetryScheduled
from resilient.meters import METERS
from resilient.metrics import install_otel, otel_meters, uninstall_otel
from resilient.metrics.gathering import Gatherer

from .helpers import named, points, run


def fail() -> None:
    raise ConnectionError("down")


def fail_twice(name: str) -> None:
    with pytest.raises(ConnectionError):
        retry(max_attempts=2, base_delay=0, name=name).call(fail)


def histogram(reader: InMemoryMetricReader) -> int:
    """How many observations the histogram of retries has."""
    found = points(reader).get("recovery_retry_latency_seconds", {})
    return sum(sum(counts) for counts, _ in found.values())


def test_twice(installed, caplog):
    """Installing again for the same provider changes nothing, and nothing is logged about it."""
    install_otel(installed.provider)
    fail_twice("once")
    assert points(installed.reader)["recovery_retry_attempts"] == {named("once"): 2}
    assert histogram(installed.reader) == 1
    assert not [record for record in caplog.records if record.name.startswith("opentelemetry")]


def test_several_providers(installed):
    """Each of several providers gets all the numbers."""
    reader = InMemoryMetricReader()
    other = MeterProvider([reader])
    install_otel(other)
    retry(name="both").call(int)
    fail_twice("both of them")
    for one in (reader, installed.reader):
        assert points(one)["recovery_retry_attempts"] == {named("both"): 1, named("both of them"): 2}
        assert histogram(one) == 2
    uninstall_otel(other)
    other.shutdown()


def test_several_readers():
    """Each of several readers of one provider gets all the numbers, whichever asks first."""
    readers = [InMemoryMetricReader(), InMemoryMetricReader()]
    provider = MeterProvider(readers)
    install_otel(provider)
    policy = retry(name="read by two")
    for times in (1, 2):
        policy.call(int)
        for reader in readers:
            assert points(reader)["recovery_retry_attempts"] == {named("read by two"): times}
            assert histogram(reader) == times
    uninstall_otel(provider)
    provider.shutdown()


def test_one_reading_per_collection(installed, monkeypatch):
    """A collection reads the policies once, not once for each metric, and the next one reads them again."""
    readings = []
    gather = Gatherer.gather
    monkeypatch.setattr(Gatherer, "gather", lambda self: readings.append(1) or gather(self))
    breaker = circuit_breaker("read")
    for times in (1, 2, 3):
        breaker.call(int)
        assert points(installed.reader)["recovery_circuit_breaker_successes"] == {named("read"): times}
        assert len(readings) == times


def test_long_backlog(installed, monkeypatch):
    """Of very many calls without a retry, a collection adds a part to the histogram, and the next ones the rest."""
    monkeypatch.setattr(otel_meters, "MOST_ZEROS", 100)
    busy, calm = retry(name="busy"), retry(name="calm")
    for _ in range(240):
        busy.call(int)
    for _ in range(10):
        calm.call(int)

    def seen() -> list[int]:
        found = points(installed.reader)["recovery_retry_latency_seconds"]
        return [sum(found[named(name)][0]) for name in ("busy", "calm")]

    assert seen() == [96, 4]
    assert seen()[0] < 240
    assert seen() == [240, 10]
    assert points(installed.reader)["recovery_retry_success"][named("busy")] == 240


def test_uninstalled(installed):
    """Afterwards nothing is reported, no observation is passed on, and nobody listens to events."""
    fail_twice("before")
    assert points(installed.reader)
    uninstall_otel(installed.provider)
    assert not METERS.listeners
    assert RetryScheduled not in HUB.by_type
    fail_twice("after")
    left = points(installed.reader)
    assert left.keys() <= {"recovery_retry_latency_seconds"}
    assert named("after") not in left.get("recovery_retry_latency_seconds", {})


def test_uninstalled_twice(target):
    """Taking away what is not there is harmless."""
    uninstall_otel(target.provider)
    install_otel(target.provider)
    uninstall_otel(target.provider)
    uninstall_otel(target.provider)


def test_installed_again(installed, caplog):
    """After being taken away it can be installed again, and there is still one metric of each name."""
    fail_twice("first")
    uninstall_otel(installed.provider)
    install_otel(installed.provider)
    fail_twice("second")
    seen = points(installed.reader)
    assert seen["recovery_retry_attempts"] == {named("first"): 2, named("second"): 2}
    assert not [record for record in caplog.records if record.name.startswith("opentelemetry")]


def test_span_events_end_with_the_last(installed):
    """Events are listened to as long as a provider is left for which they were wanted."""
    other = NoOpMeterProvider()
    install_otel(other, tracer_events=False)
    uninstall_otel(installed.provider)
    assert RetryScheduled not in HUB.by_type
    install_otel(other, tracer_events=True)
    assert RetryScheduled in HUB.by_type
    uninstall_otel(other)
    assert RetryScheduled not in HUB.by_type


def test_provider_is_let_go():
    """A provider that is no longer reported to can be collected."""
    provider = NoOpMeterProvider()
    install_otel(provider)
    uninstall_otel(provider)
    gone = weakref.ref(provider)
    del provider
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("use", [install_otel, uninstall_otel])
def test_wrong_provider(use):
    """What is no provider is refused, and the error says what is wanted."""
    with pytest.raises(TypeError, match=r"_otel\(meter_provider='metrics'\): must be an opentelemetry.metrics.Meter"):
        use("metrics")


def test_wrong_options(target):
    """Impossible options are refused, and nothing is installed."""
    with pytest.raises(ConfigurationError, match="max_names=0"):
        install_otel(target.provider, max_names=0)
    with pytest.raises(ConfigurationError, match="tracer_events='no'"):
        install_otel(target.provider, tracer_events="no")
    assert points(target.reader) == {}
    assert not METERS.listeners


def test_missing_package():
    """Without OpenTelemetry the package works, and installing says what to install."""
    said = run(
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from resilient.metrics import install_otel\n"
        "from resilient import ConfigurationError\n"
        "try: install_otel()\n"
        "except ConfigurationError as error: print(error)\n"
    )
    assert "pip install resilient-toolkit[otel]" in said


def test_not_imported_early():
    """Neither the package nor its metrics import OpenTelemetry before it is asked for."""
    said = run("import sys, resilient, resilient.metrics.otel; print('opentelemetry' in sys.modules)")
    assert said == "False\n"


def test_global_provider():
    """Without a provider the global one is meant, also where the application sets it afterwards."""
    said = run(
        "from opentelemetry import metrics\n"
        "from opentelemetry.sdk.metrics import MeterProvider\n"
        "from opentelemetry.sdk.metrics.export import InMemoryMetricReader\n"
        "from resilient import retry\n"
        "from resilient.metrics import install_otel, uninstall_otel\n"
        "from metrics_otel.helpers import named, points\n"
        "install_otel()\n"
        "retry(name='global').call(int)\n"
        "reader = InMemoryMetricReader()\n"
        "provider = MeterProvider([reader])\n"
        "metrics.set_meter_provider(provider)\n"
        "install_otel()\n"
        "install_otel(provider)\n"
        "seen = points(reader)\n"
        "print(seen['recovery_retry_attempts'] == {named('global'): 1})\n"
        "print(sum(seen['recovery_retry_latency_seconds'][named('global')][0]))\n"
        "uninstall_otel()\n"
        "print(points(reader).get('recovery_retry_attempts'))\n"
    )
    assert said == "True\n1\nNone\n"


def test_sdk_that_raises(installed, monkeypatch, caplog):
    """What an SDK raises does not reach the call, and is logged."""

    def broken(*args, **kwargs):
        raise RuntimeError("no space left")

    for one in otel_meters.instruments_of(installed.provider)._histograms.values():
        monkeypatch.setattr(one, "record", broken)
    fail_twice("unharmed")
    (record,) = (record for record in caplog.records if record.name == "resilient.metrics")
    assert record.event == "metrics.otel_failed"
    assert "recovery_retry_latency_seconds" in record.getMessage()


def test_success_path(installed, monkeypatch):
    """A call that simply succeeds passes nothing to OpenTelemetry."""
    told = []
    feed = otel_meters.instruments_of(installed.provider)._feed
    monkeypatch.setattr(METERS, "listeners", (lambda *observation: told.append(observation), feed.listen))
    fail_twice("told")
    assert len(told) == 1
    retry(name="silent").call(int)
    circuit_breaker("silent").call(int)
    assert len(told) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_fork():
    """A forked child can report, also if another thread was collecting when it was made."""
    said = run(
        "import os, threading\n"
        "from opentelemetry.sdk.metrics import MeterProvider\n"
        "from opentelemetry.sdk.metrics.export import InMemoryMetricReader\n"
        "from resilient import retry\n"
        "from resilient.metrics import install_otel, otel_meters\n"
        "from metrics_otel.helpers import named, points\n"
        "reader = InMemoryMetricReader()\n"
        "provider = MeterProvider([reader])\n"
        "install_otel(provider)\n"
        "feed = otel_meters.instruments_of(provider)._feed\n"
        "held, over = threading.Event(), threading.Event()\n"
        "def hold():\n"
        "    with feed._collecting, feed._counting:\n"
        "        held.set()\n"
        "        over.wait()\n"
        "holder = threading.Thread(target=hold)\n"
        "holder.start()\n"
        "held.wait()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    retry(name='child').call(int)\n"
        "    print(points(reader)['recovery_retry_attempts'] == {named('child'): 1}, flush=True)\n"
        "    os._exit(0)\n"
        "over.set()\n"
        "holder.join()\n"
        "os.waitpid(child, 0)\n"
    )
    assert said == "True\n"
