"""What FaultProxy does to connections: each fault is one that a client really meets, exact and repeatable."""

import socket
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from resilient import ConfigurationError
from resilient.testing.guard import InjectionRefusedError
from resilient.testing.network.proxy import FaultProxy

from .proxy_helpers import (
    Server,
    asked,
    connect,
    echo,
    eventually,
    free_port,
    outcome,
    read,
    read_on,
    reset,
    send_on,
    sized,
    swallow,
)


@pytest.fixture
def echoes():
    """A server that sends back what it gets."""
    with Server(echo) as server:
        yield server


@pytest.fixture
def proxy(echoes):
    """A proxy before it."""
    with FaultProxy("127.0.0.1", echoes.port, seed=7) as proxy:
        yield proxy


# Without faults


def test_bytes_pass_unchanged_both_ways(proxy):
    """What is sent arrives as it was, and is counted."""
    data = bytes(range(256)) * 8192
    with connect(proxy) as client:
        writer = threading.Thread(target=client.sendall, args=(data,))
        writer.start()
        assert read(client, len(data)) == data
        writer.join()
    assert (proxy.bytes_up, proxy.bytes_down) == (len(data), len(data))
    assert proxy.connections == 1
    assert eventually(lambda: proxy.active == 0)


def test_half_close_is_passed_on():
    """A client that has sent everything says so, and still gets its answer."""
    with Server(swallow) as server:

        def at_the_end(connection, data):
            if data.endswith(b"!"):
                assert connection.recv(1) == b""
                connection.sendall(b"all of it")

        server.answer = at_the_end
        with FaultProxy("127.0.0.1", server.port) as proxy, connect(proxy) as client:
            client.sendall(b"that is it!")
            client.shutdown(socket.SHUT_WR)
            assert read(client, 100) == b"all of it"


def test_end_by_the_server_is_passed_on_as_an_end():
    """A server that closes ends the client's stream, after what it sent before."""

    def say_goodbye(connection, data):
        connection.sendall(b"bye")
        connection.shutdown(socket.SHUT_WR)

    with Server(say_goodbye) as server, FaultProxy("127.0.0.1", server.port) as proxy, connect(proxy) as client:
        client.sendall(b"?")
        assert read(client, 100) == b"bye"


def test_reset_by_the_client_reaches_the_server_as_a_reset(echoes, proxy):
    """The server sees what it would see without the proxy."""
    client = connect(proxy)
    asked(client)
    reset(client)
    assert eventually(lambda: echoes.ends == ["reset"])
    assert eventually(lambda: proxy.active == 0)


def test_reset_by_the_server_reaches_the_client_as_a_reset():
    """The client sees what it would see without the proxy."""
    with (
        Server(lambda connection, data: reset(connection)) as server,
        FaultProxy("127.0.0.1", server.port) as proxy,
        connect(proxy) as client,
    ):
        client.sendall(b"?")
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_refuse_ends_connections_that_are_stuck():
    """A connection full of data that the server does not read is reset too."""
    busy = threading.Event()
    with Server(lambda connection, data: busy.wait(10)) as server, FaultProxy("127.0.0.1", server.port) as proxy:
        client = connect(proxy)
        client.setblocking(False)
        _, send = send_on(client, 1 << 40)
        with pytest.raises(BlockingIOError):
            send()
        proxy.refuse()
        assert eventually(lambda: proxy.active == 0)
        client.close()
        busy.set()


def test_memory_is_bounded_when_nobody_reads(proxy):
    """A client that does not read its answers is soon not read from either."""
    with connect(proxy) as client:
        client.settimeout(0.2)
        sizes, send = send_on(client, 200 << 20)
        with pytest.raises(TimeoutError):
            send()
        assert sum(sizes) < 60 << 20


def test_server_that_is_not_there_resets_the_client(caplog):
    """A dead server behind the proxy is an error for the client, and nothing that the event loop complains of."""
    with FaultProxy("127.0.0.1", free_port()) as proxy:
        assert outcome(proxy) in {"ConnectionResetError", "BrokenPipeError"}
        assert eventually(lambda: proxy.active == 0)
    assert [record for record in caplog.records if record.name == "asyncio"] == []


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_server_may_be_given_by_name(echoes, host):
    """Names are looked up, also where the first of their addresses does not answer."""
    with FaultProxy(host, echoes.port) as proxy, connect(proxy) as client:
        assert asked(client) == b"hello"


def test_name_that_does_not_exist_resets_the_client():
    """A server whose name is unknown is a server that is not there."""
    with FaultProxy("no-such-host.invalid", 80) as proxy:
        assert outcome(proxy) in {"ConnectionResetError", "BrokenPipeError"}


# Latency


@pytest.mark.parametrize("seconds", [0.01, 0.05])
def test_latency_is_added_once_to_an_exchange(proxy, seconds):
    """An answer comes later by the latency, and not by twice that."""
    fault = proxy.add(latency=seconds)
    with connect(proxy) as client:
        assert seconds <= _median_exchange(client) < seconds * 1.6 + 0.005
    assert fault.fired == 1
    assert fault.connections == (0,)


def test_latency_as_timedelta_both_ways(proxy):
    """`direction="both"` delays requests and answers, and durations may be timedeltas."""
    proxy.add(latency=timedelta(milliseconds=20), direction="both")
    with connect(proxy) as client:
        assert 0.04 <= _median_exchange(client) < 0.08


def test_several_latencies_add_up(proxy):
    """Two faults make an answer late by both."""
    proxy.add(latency=0.02)
    first = proxy.add(latency=0.03)
    with connect(proxy) as client:
        assert _median_exchange(client) >= 0.05
        first.remove()
        assert 0.02 <= _median_exchange(client) < 0.045


def test_latency_does_not_cut_throughput():
    """Many chunks are under way at once: eight megabytes take little more than one latency."""
    size = 8 << 20
    with Server(sized) as server, FaultProxy("127.0.0.1", server.port) as proxy, connect(proxy) as client:
        proxy.add(latency=0.2)
        start = time.monotonic()
        client.sendall(b"%d" % size)
        assert len(read(client, size)) == size
        # In series it would be 0.2 s for each of at least 32 chunks.
        assert 0.2 <= time.monotonic() - start < 1.5


def test_jitter_varies_and_never_reorders(proxy):
    """Delays differ, and the bytes arrive in their order."""
    proxy.add(latency=0.01, jitter=0.01)
    with connect(proxy) as client:
        times = []
        for number in range(20):
            start = time.monotonic()
            assert asked(client, b"%02d" % number) == b"%02d" % number
            times.append(time.monotonic() - start)
        for number in range(100):
            client.sendall(b"%02d" % number)
            time.sleep(0.0002)
        assert read(client, 200) == b"".join(b"%02d" % number for number in range(100))
    assert max(times) - min(times) > 0.005
    assert max(times) >= 0.01


def test_removed_latency_lets_go_what_it_held(proxy):
    """An answer that was to come in a minute comes when the fault is removed."""
    fault = proxy.add(latency=60)
    with connect(proxy) as client:
        client.sendall(b"hello")
        assert eventually(lambda: fault.fired == 1)
        start = time.monotonic()
        proxy.restore()
        assert read(client, 5) == b"hello"
        assert time.monotonic() - start < 5


# Bandwidth


@pytest.mark.parametrize("speed", [100_000, 2_000_000])
def test_bandwidth_is_accurate(speed):
    """Half a second's worth of bytes takes half a second."""
    size = speed // 2
    with Server(sized) as server, FaultProxy("127.0.0.1", server.port) as proxy:
        fault = proxy.add(bandwidth=speed)
        best = min(_download(proxy, size) for _ in range(3))
    # Bounds that a busy machine keeps; it can only be slower.
    assert 0.49 <= best < 0.6
    assert fault.fired == 3


def test_bandwidth_is_of_each_connection():
    """Four connections at once take as long as one."""
    with Server(sized) as server, FaultProxy("127.0.0.1", server.port) as proxy:
        proxy.add(bandwidth=200_000)
        start = time.monotonic()
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: _download(proxy, 60_000), range(4)))
        assert 0.29 <= time.monotonic() - start < 0.8


def test_bandwidth_holds_for_uploads_and_removing_it_for_open_connections():
    """A slow line is slow upwards too, and fast again as soon as the fault is removed."""
    with Server(swallow) as server, FaultProxy("127.0.0.1", server.port) as proxy, connect(proxy) as client:
        proxy.add(bandwidth=50_000)
        start = time.monotonic()
        client.sendall(bytes(500_000))
        assert eventually(lambda: proxy.bytes_up >= 10_000)
        assert time.monotonic() - start >= 0.19
        assert proxy.bytes_up < 400_000
        proxy.restore()
        assert eventually(lambda: proxy.bytes_up == 500_000, 5)
        assert time.monotonic() - start < 8


# Ends


def test_reset_at_once(proxy):
    """With reset_after=0 no byte passes, and the client's error is a real reset."""
    fault = proxy.add(reset_after=0)
    with connect(proxy) as client, pytest.raises(ConnectionResetError):
        client.recv(1)
    assert fault.fired == 1
    assert (proxy.bytes_up, proxy.bytes_down) == (0, 0)


def test_reset_at_once_of_an_open_connection(proxy, echoes):
    """Added later, it resets the connections there are, on both sides."""
    with connect(proxy) as client:
        asked(client)
        fault = proxy.add(reset_after=0)
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    assert eventually(lambda: echoes.ends == ["reset"])
    assert fault.fired == 1


def test_reset_within_an_answer():
    """Exactly so many bytes arrive, and then the reset."""
    with Server(sized) as server, FaultProxy("127.0.0.1", server.port) as proxy, connect(proxy) as client:
        fault = proxy.add(reset_after=1024)
        client.sendall(b"5000")
        parts, read_all = read_on(client)
        with pytest.raises(ConnectionResetError):
            read_all()
        assert proxy.bytes_down == 1024
        assert len(b"".join(parts)) <= 1024
        assert fault.fired == 1


def test_reset_counts_over_several_answers(proxy):
    """A connection that lives on is reset when the sum is reached, and not before."""
    proxy.add(reset_after=12)
    with connect(proxy) as client:
        assert asked(client) == b"hello"
        assert asked(client) == b"hello"
        client.sendall(b"hello")
        _, read_all = read_on(client)
        with pytest.raises(ConnectionResetError):
            read_all()


def test_reset_of_requests():
    """`direction="upstream"` counts what the client sends."""
    with Server(swallow) as server, FaultProxy("127.0.0.1", server.port) as proxy, connect(proxy) as client:
        proxy.add(reset_after=3, direction="upstream")
        client.sendall(b"hello")
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        assert b"".join(server.received) in {b"hel", b""}
        assert proxy.bytes_up == 3


def test_limit_data_ends_in_order(proxy):
    """Ten bytes of an answer arrive, and then the end of the stream, which is no error."""
    fault = proxy.add(limit_data=10)
    with connect(proxy) as client:
        client.sendall(bytes(64))
        assert read(client, 64) == bytes(10)
        client.sendall(b"more")
    assert fault.fired == 1
    assert eventually(lambda: proxy.active == 0)


def test_limit_data_of_nothing(proxy):
    """With limit_data=0 the connection ends at once, in order."""
    proxy.add(limit_data=0)
    with connect(proxy) as client:
        assert client.recv(1) == b""


def test_limit_data_frees_a_client_that_stays(proxy):
    """A client that does not close does not keep the connection in the proxy for long."""
    proxy.add(limit_data=1)
    with connect(proxy) as client:
        assert asked(client) == b"h"
        assert eventually(lambda: proxy.active == 0, 5)


# Silence and refusal


def test_blackhole_is_silence_until_restored(proxy, echoes):
    """The client's own timeout ends its waiting; what it sent arrives when the line is back."""
    with connect(proxy, 0.1) as old:
        assert asked(old) == b"hello"
        hole = proxy.blackhole()
        with connect(proxy, 0.1) as new:
            for client in (old, new):
                with pytest.raises(TimeoutError):
                    asked(client, b"anybody?")
            assert b"".join(echoes.received) == b"hello"
            assert hole.fired == 2
            proxy.restore()
            for client in (old, new):
                client.settimeout(10)
                assert read(client, 8) == b"anybody?"


def test_blackhole_hides_that_the_client_has_gone(proxy, echoes):
    """Neither end learns of the other's end while nothing passes."""
    client = connect(proxy)
    asked(client)
    hole = proxy.blackhole()
    reset(client)
    assert eventually(lambda: hole.fired == 1)
    assert echoes.ends == []
    hole.remove()
    assert eventually(lambda: echoes.ends == ["reset"])


def test_refuse_is_a_real_refusal_on_the_same_port(proxy):
    """New connections are refused, open ones reset, and afterwards the port answers as before."""
    port = proxy.port
    with connect(proxy) as client:
        asked(client)
        for _ in range(3):
            fault = proxy.refuse()
            assert outcome(proxy) == "ConnectionRefusedError"
            proxy.restore()
            assert outcome(proxy) == "answered"
        assert proxy.port == port
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    assert fault.fired <= 1


def test_refuse_keeps_the_port_from_others(proxy):
    """Nobody else can listen on the port of a proxy that refuses."""
    proxy.refuse()
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(proxy.address)
    proxy.restore()
    assert outcome(proxy) == "answered"


def test_faults_may_be_added_before_the_block(echoes):
    """A client that is there at once meets them."""
    proxy = FaultProxy("127.0.0.1", echoes.port)
    refusing = proxy.refuse()
    with proxy:
        assert outcome(proxy) == "ConnectionRefusedError"
        refusing.remove()
        assert outcome(proxy) == "answered"


def test_restore_removes_everything(proxy):
    """Afterwards it is as if nothing had been, also for what was added twice."""
    faults = [proxy.add(latency=5), proxy.add(bandwidth=1), proxy.add(reset_after=50), proxy.blackhole()]
    assert proxy.faults == tuple(faults)
    proxy.restore()
    proxy.restore()
    assert proxy.faults == ()
    assert outcome(proxy) == "answered"
    assert [fault.active for fault in faults] == [False] * 4
    faults[0].remove()


# The share of connections


def test_same_seed_meets_the_same_connections(echoes):
    """200 connections at a rate of 0.3: one after the other or eight at once, the same ones are reset."""

    def met(seed, clients):
        with FaultProxy("127.0.0.1", echoes.port, seed=seed) as proxy, ThreadPoolExecutor(clients) as pool:
            fault = proxy.add(reset_after=0, rate=0.3)
            outcomes = list(pool.map(lambda _: outcome(proxy), range(200)))
            assert fault.fired == 200 - outcomes.count("answered")
            assert proxy.connections == 200
            return fault.connections

    first = met(7, 1)
    assert 35 <= len(first) <= 85
    assert [met(7, 8) for _ in range(3)] == [first] * 3
    assert met(8, 8) != first


def test_faults_meet_different_connections(proxy):
    """Two faults with the same rate are drawn apart, and each as if the other were not there."""
    one, two = proxy.add(reset_after=0, rate=0.5), proxy.add(limit_data=0, rate=0.5)
    met = [{index for index in range(200) if fault.meets(index)} for fault in (one, two)]
    assert met[0] != met[1]
    assert 25 <= len(met[0] & met[1]) <= 75


def test_rate_of_zero_meets_nobody(proxy):
    """rate=0 is allowed, so that a sweep may begin with it."""
    fault = proxy.add(reset_after=0, rate=0)
    assert [outcome(proxy) for _ in range(5)] == ["answered"] * 5
    assert fault.fired == 0


def test_drawn_seed_is_shown():
    """Without a seed one is drawn, and can be used again."""
    one, two = FaultProxy("db", 5432), FaultProxy("db", 5432)
    assert one.seed != two.seed
    assert f"seed={one.seed}" in repr(one)
    assert FaultProxy("db", 5432, seed=one.seed).seed == one.seed


# What is refused


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "name what to do: latency="),
        ({"rate": 0.5}, "name what to do: latency="),
        ({"latency": -1}, "latency=-1"),
        ({"latency": float("nan")}, "latency=nan"),
        ({"latency": True}, "latency=True"),
        ({"latency": "1"}, "latency='1'"),
        ({"jitter": float("inf")}, "jitter=inf"),
        ({"bandwidth": 0}, "bandwidth=0"),
        ({"bandwidth": float("nan")}, "bandwidth=nan"),
        ({"reset_after": 1.5}, "reset_after=1.5"),
        ({"reset_after": -1}, "reset_after=-1"),
        ({"limit_data": False}, "limit_data=False"),
        ({"reset_after": 1, "limit_data": 1}, "limit_data=1: goes not with reset_after=1"),
        ({"latency": 1, "rate": 1.1}, "rate=1.1"),
        ({"latency": 1, "rate": None}, "rate=None"),
        ({"latency": 1, "rate": True}, "rate=True"),
        ({"latency": 1, "direction": "up"}, "direction='up': must be one of 'upstream', 'downstream', 'both'"),
    ],
)
def test_bad_faults_are_refused(given, said):
    """The message names the parameter, its value and what would do; nothing is added."""
    proxy = FaultProxy("db", 5432)
    with pytest.raises(ConfigurationError) as caught:
        proxy.add(**given)
    assert said in str(caught.value)
    assert proxy.faults == ()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("", 1), "host=''"),
        ((b"db", 1), "host=b'db'"),
        (("db", 0), "port=0"),
        (("db", True), "port=True"),
        (("db", "80"), "port='80'"),
        (("db", 80, "x"), "seed='x'"),
        (("db", 80, True), "seed=True"),
    ],
)
def test_bad_servers_are_refused(given, said):
    """So are servers that cannot be, and seeds that are no numbers."""
    with pytest.raises(ConfigurationError) as caught:
        FaultProxy(*given)
    assert said in str(caught.value)


def test_production_is_spared(monkeypatch):
    """Where the environment says production there is no proxy, unless that is said to be meant."""
    monkeypatch.setenv("RESILIENT_ENV", "production")
    with pytest.raises(InjectionRefusedError):
        FaultProxy("db", 5432)
    assert FaultProxy("db", 5432, allow_in_production=True).seed is not None


def test_what_it_shows(proxy):
    """Its text says where it is, for whom, and what is wrong with it."""
    fault = proxy.add(latency=0.05, rate=0.5)
    assert repr(fault) == "<ProxyFault 1: latency=0.05, rate=0.5, fired=0>"
    assert repr(proxy).startswith(f"<FaultProxy 127.0.0.1:{proxy.port} -> 127.0.0.1:")
    assert repr(proxy).endswith(f"seed=7, faults=[{fault!r}]>")
    proxy.restore()
    assert "removed" in repr(fault)
    assert "refuse, fired=0" in repr(proxy.refuse())
    assert "blackhole, fired=0" in repr(proxy.blackhole())


def _median_exchange(client):
    times = []
    for _ in range(7):
        start = time.monotonic()
        assert asked(client) == b"hello"
        times.append(time.monotonic() - start)
    return statistics.median(times)


def _download(proxy, size):
    with connect(proxy) as client:
        start = time.monotonic()
        client.sendall(b"%d" % size)
        assert len(read(client, size)) == size
        return time.monotonic() - start
