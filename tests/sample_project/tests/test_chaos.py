"""Faults of all kinds, where they happen in real life."""

import itertools
import sqlite3
from urllib.error import URLError

import pytest
from shop import client
from shop.orders import Orders

from resilient import CircuitOpenError, circuit_breaker
from resilient.testing import (
    ErrorInjectionConfig,
    ErrorInjectionType,
    ExpectedRecoveryBehavior,
    RecoveryTestScenario,
    SuccessCriteria,
    faults,
)


def test_two_resets_in_a_row(proxy, chaos):
    """The third attempt brings the price."""
    injection = chaos.inject(client.price, faults.NetworkFailure("reset"), max_count=2)
    assert client.price() == 5
    assert (injection.calls, injection.fired) == (3, 2)


@pytest.mark.resilience(seed=7, faults=[("shop.client.price", faults.NetworkFailure(), {"rate": 0.2})])
def test_a_bad_day(proxy, chaos):
    """With every fifth attempt failing, prices are told."""
    assert [client.price() for _ in range(50)] == [5] * 50
    assert chaos.injections[0].fired > 0


def test_the_line_is_cut(proxy):
    """While the proxy refuses, reservations fail as on a real network, until the breaker spares the service."""
    proxy.refuse()
    for _ in range(3):
        with pytest.raises(URLError, match="Connection refused"):
            client.reserve()
    with pytest.raises(CircuitOpenError):
        client.reserve()
    proxy.restore()


def test_a_minute_passes(virtual_clock, resilient_registry):
    """A breaker of a minute is tested in no time."""
    answers = iter([ConnectionResetError(), 5])

    @circuit_breaker("partner", failure_threshold=1, recovery_timeout=60)
    def ask() -> int:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with pytest.raises(ConnectionResetError):
        ask()
    virtual_clock.advance(59)
    with pytest.raises(CircuitOpenError):
        ask()
    virtual_clock.advance(1)
    assert ask() == 5
    assert list(resilient_registry.circuit_breakers) == ["partner"]


def keeps_what_it_promised(orders: Orders):
    """A checker: every order that was accepted is in the file, once."""

    def check(history) -> bool:
        kept = orders.keys()
        return len(kept) == len(set(kept)) and {one.value for one in history if one.ok} <= set(kept)

    return check


def placing(orders: Orders):
    """A workload: one new order."""
    numbers = itertools.count()
    return lambda: orders.place(f"order-{next(numbers)}", "emma")


def test_orders_survive_a_bad_network(proxy, orders, recovery):
    """Connections are reset, and no order that was accepted is lost, or there twice."""
    scenario = RecoveryTestScenario(
        id="orders-network",
        name="Orders on a bad network",
        description="A fifth of all connections to the service are reset.",
        workload=placing(orders),
        error_injection=ErrorInjectionConfig(
            ErrorInjectionType.NETWORK_FAILURE, proxy, error_rate=0.2, parameters={"kind": "reset"}
        ),
        expected_recovery=ExpectedRecoveryBehavior(
            max_recovery_time=5, success_criteria=SuccessCriteria(0.95, data_consistency_required=True)
        ),
        checker=keeps_what_it_promised(orders),
        load=100,
        baseline=1.0,
        fault=1.0,
    )
    result = recovery.run(scenario)
    result.assert_ok()
    assert result.data_consistent is True


def test_orders_wait_for_a_lock(proxy, orders, recovery):
    """Somebody locks the whole file for a while: SQLite's own error, which the retry waits out."""
    holder = sqlite3.connect(orders.file, check_same_thread=False, isolation_level=None)
    scenario = RecoveryTestScenario(
        id="orders-lock",
        name="Orders while the file is locked",
        description="Another connection holds an exclusive lock.",
        workload=placing(orders),
        error_injection=ErrorInjectionConfig(
            ErrorInjectionType.CUSTOM,
            parameters={"begin": lambda: take_lock(holder), "end": lambda: holder.execute("rollback")},
            during=(0, 0.3),
        ),
        expected_recovery=ExpectedRecoveryBehavior(
            max_recovery_time=5, success_criteria=SuccessCriteria(0.95, data_consistency_required=True)
        ),
        checker=keeps_what_it_promised(orders),
        load=100,
        baseline=1.0,
        observe=1.5,
    )
    try:
        result = recovery.run(scenario)
    finally:
        holder.close()
    result.assert_ok()
    assert result.metrics["RetryScheduled"] > 0


def take_lock(holder: sqlite3.Connection) -> None:
    """Lock the file as soon as nobody else does."""
    while True:
        try:
            holder.execute("begin exclusive")
        except sqlite3.OperationalError:
            continue
        return
