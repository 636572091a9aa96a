"""A running service behind a fault proxy, and a file for orders."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from shop import client
from shop.orders import Orders
from shop.service import Service

from resilient import registry
from resilient.testing import FaultProxy


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    """The service, in a process of its own."""
    with Service() as running:
        yield running


@pytest.fixture
def proxy(service: Service, fault_proxy, monkeypatch: pytest.MonkeyPatch) -> FaultProxy:
    """What stands before the service, and is where the client connects to."""
    made: FaultProxy = fault_proxy("127.0.0.1", service.port)
    monkeypatch.setattr(client, "address", f"http://{made.host}:{made.port}")
    return made


@pytest.fixture
def orders(tmp_path: Path) -> Orders:
    """No orders yet."""
    return Orders(tmp_path / "orders.db")


@pytest.fixture(autouse=True)
def closed_breakers() -> None:
    """No test meets what another has done to the service."""
    for breaker in registry.circuit_breakers.values():
        breaker.reset()
