"""The page of OpenTelemetry lists what is reported: every metric, every span event, every option."""

import inspect

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import Gauge, Histogram, InMemoryMetricReader, Sum

import resilient
from resilient.logs import LINES
from resilient.metrics import CATALOGUE, install_otel, otel_meters, otel_spans, uninstall_otel

from . import pages
from .test_reference import words

PAGE = "opentelemetry.md"
GUIDE = pages.DOCS / "how-to" / "opentelemetry.md"


def code(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def test_every_metric_has_its_row() -> None:
    """Each metric has its row with its attributes and its meaning, in the order of the catalogue."""
    rows = [(name, row[2], row[3]) for name, row in words(PAGE, "metric").items()]
    assert rows == [(otel_meters.otel_name(one), code(one.labels), one.text) for one in CATALOGUE.values()]


def test_instruments_are_what_an_sdk_gets() -> None:
    """The instrument that a row names is what an SDK makes of the metric."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    install_otel(provider)
    policy = resilient.retry(base_delay=0, max_attempts=2, budget=resilient.RetryBudget())
    resilient.timeout(1, name="row")
    resilient.bulkhead("row")
    resilient.circuit_breaker("row").isolate()
    policy.call(int)
    listed = words(PAGE, "metric")
    data = reader.get_metrics_data()
    assert data is not None
    seen = set()
    for metric in data.resource_metrics[0].scope_metrics[0].metrics:
        instrument = {Gauge: "observable gauge", Histogram: "histogram"}.get(type(metric.data))
        if isinstance(metric.data, Sum):
            instrument = "observable counter" if metric.data.is_monotonic else "observable up-down counter"
        assert listed[metric.name][1] == instrument
        assert metric.unit == ("s" if metric.name.endswith("_seconds") else "")
        seen.add(instrument)
    assert seen == {row[1] for row in listed.values()}
    uninstall_otel(provider)
    provider.shutdown()


def test_every_histogram_has_its_buckets() -> None:
    """Each histogram has its row with the upper bounds of its buckets."""
    rows = {name: row[1] for name, row in words(PAGE, "histogram").items()}
    expected = {one.name: ", ".join(f"{bound:g}" for bound in one.buckets) for one in CATALOGUE.values() if one.buckets}
    assert rows == expected


def test_every_span_event_has_its_row() -> None:
    """Each span event has its row under its name in the log, with the fields that it may have."""
    rows = {name: row[1] for name, row in words(PAGE, "event").items()}
    expected = {
        LINES[kind].event: code(tuple(slot for slot in kind.__slots__ if slot not in ("result", "kind")))
        for kind in otel_spans.TYPES
    }
    assert rows == expected
    assert f"{otel_spans.LONGEST_TEXT} characters" in (pages.DOCS / "reference" / PAGE).read_text(encoding="utf-8")


def test_every_option_has_its_row() -> None:
    """Each parameter of `install_otel` has its row with its default."""
    rows = {name: row[1].strip("`") for name, row in words(PAGE, "parameter").items()}
    parameters = inspect.signature(install_otel).parameters.values()
    assert rows == {parameter.name: repr(parameter.default) for parameter in parameters}


def test_limit_of_a_collection() -> None:
    """Both pages say how many calls without a retry one collection adds."""
    for page in (GUIDE, pages.DOCS / "reference" / PAGE):
        assert f"about {otel_meters.MOST_ZEROS:,}" in page.read_text(encoding="utf-8")
