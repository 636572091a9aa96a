"""The running demo as Prometheus and a browser see it: one port with /metrics, the status page and health."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from resilient import metrics, registry
from resilient.demo.clients import BREAKER
from resilient.web import StatusApp, StatusServer, serve
from resilient.web.app import Answer
from resilient.web.messages import Request, Response


class DemoApp(StatusApp):
    """The status page of all policies, and their numbers at /metrics."""

    def __init__(self, numbers: CollectorRegistry) -> None:
        super().__init__(registry, token=None, critical=(BREAKER,), orchestrator=None)
        self._numbers = numbers

    def handle(self, request: Request) -> Answer:
        """The numbers for Prometheus, or what the status page answers."""
        if request.path == "/metrics" and request.method in ("GET", "HEAD"):
            return Response(200, generate_latest(self._numbers), CONTENT_TYPE_LATEST)
        return super().handle(request)


@contextmanager
def monitored(port: int) -> Iterator[StatusServer]:
    """Serve the policies of this process at `port` of this machine while the block runs; 0 takes any that is free.

    Raises ConfigurationError where the port is in use or not allowed.
    """
    # One of its own: the default one of a program that calls the demo is none of our business.
    numbers = CollectorRegistry()
    app = DemoApp(numbers)
    try:
        with serve(app, port=port) as server:
            metrics.install(numbers)
            yield server
    finally:
        metrics.uninstall(numbers)
        app.close()
