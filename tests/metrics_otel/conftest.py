"""Providers of their own for each test, taken away again afterwards."""

from collections.abc import Iterator

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from resilient.metrics import install_otel, uninstall_otel

from .helpers import Target, Traces


@pytest.fixture
def target() -> Iterator[Target]:
    """A provider that reports nothing yet, and its reader."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    try:
        yield Target(provider, reader)
    finally:
        uninstall_otel(provider)
        provider.shutdown()


@pytest.fixture
def installed(target: Target) -> Target:
    """A provider that the policies are reported to, and its reader."""
    install_otel(target.provider)
    return target


@pytest.fixture
def traces_only() -> Iterator[Traces]:
    """A tracer, and the spans that have ended; nothing is installed."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    try:
        yield Traces(provider.get_tracer("tests"), exporter)
    finally:
        provider.shutdown()


@pytest.fixture
def traces(installed: Target, traces_only: Traces) -> Traces:
    """A tracer, and the spans that have ended; what goes wrong becomes events."""
    return traces_only
