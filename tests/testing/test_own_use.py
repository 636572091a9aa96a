"""The plugin's fixtures on this library itself, as a project would use them."""

import asyncio
import socket
import sqlite3

import pytest

from resilient import CircuitOpenError, circuit_breaker, degrade, retry
from resilient.testing import (
    ErrorInjectionConfig,
    ErrorInjectionType,
    ExpectedRecoveryBehavior,
    RecoveryTestScenario,
    SuccessCriteria,
    capture_events,
    faults,
)

from .proxy_helpers import Server, asked, connect, echo


def test_a_breaker_by_hand(chaos, virtual_clock, resilient_registry):
    """A breaker opens under an injected fault, turns away, and closes by a probe a virtual minute later."""

    @circuit_breaker("payments", failure_threshold=3, recovery_timeout=60)
    def charge():
        return "charged"

    injection = chaos.inject("payments", faults.NetworkFailure("reset"))
    with capture_events() as events:
        for _ in range(3):
            with pytest.raises(ConnectionResetError):
                charge()
        with pytest.raises(CircuitOpenError):
            charge()
        assert injection.fired == 3
        injection.remove()
        virtual_clock.advance(60)
        assert charge() == "charged"
    assert [one.new.name for one in events if type(one).__name__ == "CircuitStateChanged"][:2] == ["OPEN", "HALF_OPEN"]


@pytest.mark.resilience(seed=11)
def test_a_recovery_test(recovery, resilient_registry, tmp_path):
    """A scenario with a real database keeps its promise: every acknowledged write is there, none twice."""
    database = sqlite3.connect(tmp_path / "orders.db", check_same_thread=False, isolation_level=None)
    database.execute("create table orders (id integer primary key)")
    numbers = iter(range(100_000))

    @retry(max_attempts=5, base_delay=0.001, name="insert")
    def insert(number):
        database.execute("insert into orders values (?)", (number,))
        return number

    def checker(history):
        stored = [row[0] for row in database.execute("select id from orders order by id")]
        return stored == sorted(one.value for one in history if one.ok)

    scenario = RecoveryTestScenario(
        "orders",
        "orders survive a locked database",
        "",
        lambda: insert(next(numbers)),
        ErrorInjectionConfig(ErrorInjectionType.DATABASE_TIMEOUT, insert, error_rate=0.3),
        ExpectedRecoveryBehavior(
            max_recovery_time=5,
            success_criteria=SuccessCriteria(success_rate_threshold=0.9, data_consistency_required=True),
        ),
        timeout=60,
        checker=checker,
        virtual_time=True,
    )
    result = recovery.run(scenario)
    database.close()
    result.assert_ok()
    assert result.seed == 11


@degrade(fallback="stale", name="quotes of the own use")
def quote():
    """What the marker below names, as a module of an application has it."""
    return "fresh"


@pytest.mark.resilience(seed=7, faults=[("quotes of the own use", faults.ServiceUnavailable())])
def test_a_marked_test():
    """What the marker asks for is in force during the test."""
    assert quote() == "stale"


def test_the_next_test():
    """What the marker of another test asked for is gone."""
    assert quote() == "fresh"


def test_a_block_around_a_proxy_of_the_fixture(fault_proxy):
    """What the fixture has started can be used as a block, too, which ends it."""
    with Server(echo) as server:
        with fault_proxy("127.0.0.1", server.port) as proxy, connect(proxy) as client:
            assert asked(client) == b"hello"
            address = proxy.address
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, timeout=1)


def test_an_async_block_around_a_proxy_of_the_fixture(fault_proxy):
    """The same in an event loop."""

    async def main(port):
        async with fault_proxy("127.0.0.1", port) as proxy:
            reader, writer = await asyncio.open_connection(*proxy.address)
            writer.write(b"hello")
            answer = await reader.readexactly(5)
            writer.close()
        return answer, proxy.address

    with Server(echo) as server:
        answer, address = asyncio.run(main(server.port))
    assert answer == b"hello"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=1)
