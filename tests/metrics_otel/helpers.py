"""What a reader and an exporter have got, in a form that can be compared."""

import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, Metric
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Tracer

Labels = tuple[tuple[str, Any], ...]


class Target(NamedTuple):
    """A meter provider and its reader."""

    provider: MeterProvider
    reader: InMemoryMetricReader


class Traces(NamedTuple):
    """A tracer, and what its spans become."""

    tracer: Tracer
    exporter: InMemorySpanExporter

    def events(self, span: str) -> list[tuple[str, dict[str, Any]]]:
        """The names and attributes of the events of a span that has ended."""
        (found,) = (one for one in self.exporter.get_finished_spans() if one.name == span)
        return [(event.name, dict(event.attributes or {})) for event in found.events]

    def names(self, span: str) -> list[str]:
        """The names of its events."""
        return [name for name, _ in self.events(span)]


def metrics_of(reader: InMemoryMetricReader) -> dict[str, Metric]:
    """The metrics of our scope by name."""
    data = reader.get_metrics_data()
    scopes = [] if data is None else [scope for one in data.resource_metrics for scope in one.scope_metrics]
    ours = [metric for scope in scopes if scope.scope.name == "resilient" for metric in scope.metrics]
    assert len({metric.name for metric in ours}) == len(ours), "a name was registered twice"
    return {metric.name: metric for metric in ours}


def points(reader: InMemoryMetricReader) -> dict[str, dict[Labels, Any]]:
    """The values of now by metric and labels; a histogram's are its counts by bucket and its sum."""
    return {
        name: {tuple(sorted((point.attributes or {}).items())): _value(point) for point in metric.data.data_points}
        for name, metric in metrics_of(reader).items()
    }


def named(name: str, **others: str) -> Labels:
    """Labels as `points` has them."""
    return tuple(sorted({"name": name, **others}.items()))


def _value(point: Any) -> Any:
    if isinstance(point, HistogramDataPoint):
        return tuple(point.bucket_counts), round(point.sum, 9)
    return point.value


TESTS = Path(__file__).parents[1]


def run(code: str) -> str:
    """What another process prints, in which nothing was installed before."""
    # At the end of the path: the package under test is to be the installed one.
    command = [sys.executable, "-c", f"import sys; sys.path.append({str(TESTS)!r})\n{code}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603 - our own
    assert done.returncode == 0, done.stderr
    return done.stdout
