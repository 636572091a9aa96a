"""What the shop asks the service. The address is that of the service, or of whatever stands before it."""

from __future__ import annotations

import json
from typing import Any
from urllib.request import ProxyHandler, build_opener

from resilient import bulkhead, circuit_breaker, degrade, retry, timeout

address = "http://127.0.0.1:1"
_without_proxy = build_opener(ProxyHandler({}))


def _ask(question: str, book: str) -> Any:
    with _without_proxy.open(f"{address}/{question}/{book}", timeout=5) as answer:
        return json.load(answer)


@retry(max_attempts=4, on=OSError, base_delay=0.01, max_delay=0.05)
def price(book: str = "emma") -> int:
    """What a book costs. Asking again is cheap, so what fails for a moment is asked again."""
    return int(_ask("price", book)["price"])


@circuit_breaker("stock", failure_threshold=3, recovery_timeout=0.4, half_open_calls=2, expected_exception=OSError)
def reserve(book: str = "emma") -> bool:
    """Put a copy aside. A service that is down is left alone for a while."""
    return bool(_ask("reserve", book)["reserved"])


@degrade(cache={}, fallback=[], on=OSError)
def similar(book: str = "emma") -> list[str]:
    """Books like this one. Those of yesterday will do."""
    return list(_ask("similar", book))


@timeout(0.2)
def freight(book: str = "emma") -> int:
    """What it costs to send it. Nobody waits long for that."""
    return int(_ask("freight", book)["cost"])


@bulkhead("invoices", max_concurrent=3, max_wait=0.05)
def invoice(book: str = "emma") -> int:
    """How many pages its invoice has. Three at a time are enough."""
    return int(_ask("invoice", book)["pages"])


@retry(max_attempts=4, on=OSError, base_delay=0.01, max_delay=0.05)
@circuit_breaker("checkout", failure_threshold=5, recovery_timeout=0.5, half_open_calls=2, expected_exception=OSError)
def checkout(book: str = "emma") -> bool:
    """Sell it. Retries of many customers at once must not bury a service that is down."""
    return bool(_ask("checkout", book)["ok"])
