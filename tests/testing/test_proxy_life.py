"""FaultProxy from beginning to end: in event loops, threads and processes, and nothing of it left afterwards."""

import asyncio
import contextlib
import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest

from resilient.testing.clocks.virtual_clock import VirtualClock
from resilient.testing.network import connections as proxy_connections
from resilient.testing.network import home as proxy_home
from resilient.testing.network import listener as proxy_listener
from resilient.testing.network.proxy import FaultProxy

from .proxy_helpers import WAIT, Server, asked, connect, echo, eventually, outcome, reset, swallow


@pytest.fixture
def echoes():
    """A server that sends back what it gets."""
    with Server(echo) as server:
        yield server


@pytest.fixture
def nothing_left():
    """Fail the test that leaves a thread, a file descriptor or a warning behind."""
    gc.collect()
    threads, files = set(threading.enumerate()), _files()
    yield
    gc.collect()
    assert eventually(lambda: set(threading.enumerate()) <= threads)
    assert eventually(lambda: _files() <= files), (_files(), files)


# In an event loop


def test_async_block_serves_in_the_running_loop(nothing_left):
    """Clients and faults of one event loop, without a thread; every task has ended with the block."""

    async def main():
        server = await asyncio.start_server(_echo_stream, "127.0.0.1", 0)
        async with server:
            tasks = asyncio.all_tasks()
            threads = threading.active_count()
            async with FaultProxy("127.0.0.1", server.sockets[0].getsockname()[1]) as proxy:
                reader, writer = await asyncio.open_connection(*proxy.address)
                proxy.add(latency=0.02)
                start = time.monotonic()
                writer.write(b"hello")
                assert await reader.readexactly(5) == b"hello"
                assert time.monotonic() - start >= 0.02
                assert threading.active_count() == threads
                proxy.refuse()
                with pytest.raises(ConnectionRefusedError):
                    await asyncio.open_connection(*proxy.address)
                with pytest.raises(ConnectionResetError):
                    await reader.readexactly(1)
                proxy.restore()
                _, second = await asyncio.open_connection(*proxy.address)
            await _closed(writer, second)
            await asyncio.sleep(0.01)
            assert asyncio.all_tasks() <= tasks
            assert proxy.active == 0

    # Each run has an event loop of its own.
    asyncio.run(main())
    asyncio.run(main())


def test_async_block_can_be_changed_from_threads():
    """Another thread adds and removes, and finds it done when the call returns."""

    def work(proxy):
        proxy.refuse()
        refused = outcome(proxy)
        proxy.restore()
        return refused, outcome(proxy)

    async def main():
        server = await asyncio.start_server(_echo_stream, "127.0.0.1", 0)
        async with server, FaultProxy("127.0.0.1", server.sockets[0].getsockname()[1]) as proxy:
            return await asyncio.to_thread(work, proxy)

    assert asyncio.run(main()) == ("ConnectionRefusedError", "answered")


def test_cancelled_block_closes_everything(echoes, nothing_left):
    """A task that is cancelled inside the block leaves nothing, also while connections hang."""

    async def block(entered):
        async with FaultProxy("127.0.0.1", echoes.port) as proxy:
            proxy.blackhole()
            reader, writer = await asyncio.open_connection(*proxy.address)
            writer.write(b"anybody?")
            entered.set_result((proxy, writer))
            await reader.readexactly(1)

    async def main():
        entered = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(block(entered))
        proxy, writer = await entered
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await _closed(writer)
        return proxy

    proxy = asyncio.run(main())
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)


def test_blocked_event_loop_is_named(echoes, monkeypatch):
    """Whoever blocks the loop that serves gets told, instead of a deadlock."""
    monkeypatch.setattr(proxy_home, "_PATIENCE", 0.1)

    async def main():
        async with FaultProxy("127.0.0.1", echoes.port) as proxy:
            with ThreadPoolExecutor(1) as pool, pytest.raises(RuntimeError, match="do not block it"):
                pool.submit(proxy.blackhole).result()
            await asyncio.sleep(0)
            assert proxy.faults == ()

    asyncio.run(main())


def test_loop_that_cannot_wait_for_ports_gets_a_thread(echoes, monkeypatch, nothing_left):
    """On the event loop of Windows, `async with` works all the same."""
    monkeypatch.setattr(asyncio, "ProactorEventLoop", asyncio.SelectorEventLoop, raising=False)

    async def main():
        async with FaultProxy("127.0.0.1", echoes.port) as proxy:
            assert any(str(proxy.port) in thread.name for thread in threading.enumerate())
            return await asyncio.to_thread(outcome, proxy)

    assert asyncio.run(main()) == "answered"


# In a thread


def test_sync_block_leaves_nothing(echoes, nothing_left):
    """The thread, the sockets and the port are gone with the block, though connections were open."""
    with FaultProxy("127.0.0.1", echoes.port) as proxy:
        clients = [connect(proxy) for _ in range(5)]
        assert [asked(client) for client in clients] == [b"hello"] * 5
        assert proxy.active == 5
    for client in clients:
        with client:
            assert client.recv(1) == b""
    assert proxy.active == 0
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)


@pytest.mark.parametrize("fault", ["blackhole", "latency", "unread"])
def test_leaving_is_prompt_with_hanging_connections(fault, nothing_left):
    """What is held back, late or not read does not hold the block up."""
    with Server(swallow if fault != "unread" else lambda connection, data: time.sleep(0.1)) as server:
        with FaultProxy("127.0.0.1", server.port) as proxy:
            proxy.blackhole() if fault == "blackhole" else proxy.add(latency=600, direction="both")
            client = connect(proxy)
            client.sendall(bytes(1 << 20))
            assert eventually(lambda: proxy.active == 1)
            start = time.monotonic()
        assert time.monotonic() - start < 2
        client.close()


def test_leaving_while_clients_come(echoes, nothing_left):
    """Connections that are being made when the block ends are ended too."""
    over = threading.Event()

    def hammer(proxy):
        while not over.is_set():
            outcome(proxy)

    with ThreadPoolExecutor(4) as pool:
        for _ in range(10):
            with FaultProxy("127.0.0.1", echoes.port) as proxy:
                over.clear()
                work = [pool.submit(hammer, proxy) for _ in range(4)]
                time.sleep(0.02)
            over.set()
            for one in work:
                one.result(WAIT)
            assert proxy.active == 0


def test_block_is_entered_once(echoes):
    """A second block, at once or later, is refused with the remedy."""
    with FaultProxy("127.0.0.1", echoes.port) as proxy:
        with pytest.raises(RuntimeError, match="make another one"):
            proxy.__enter__()
        assert outcome(proxy) == "answered"
    with pytest.raises(RuntimeError, match="make another one"):
        proxy.__enter__()


def test_port_and_faults_outside_the_block(echoes):
    """There is no port before, no fault can be added after, and restoring is harmless then."""
    proxy = FaultProxy("127.0.0.1", echoes.port)
    with pytest.raises(RuntimeError, match="enter it"):
        _ = proxy.port
    with proxy:
        fault = proxy.add(latency=1)
    with pytest.raises(RuntimeError, match="make another one"):
        proxy.blackhole()
    fault.remove()
    proxy.restore()
    assert proxy.faults == ()


def test_failed_thread_leaves_nothing(echoes, monkeypatch, nothing_left):
    """Where the proxy cannot start, the error arrives and the port is free."""

    def broken(self, *args):
        raise OSError("no room")

    monkeypatch.setattr(proxy_listener.Listener, "listen", broken)
    with pytest.raises(OSError, match="no room"), FaultProxy("127.0.0.1", echoes.port):
        pass


def test_interrupt_while_starting_leaves_nothing(echoes, monkeypatch, nothing_left):
    """Ctrl-C on the way in ends the thread again."""

    class Interrupted(proxy_home.concurrent.futures.Future):
        def result(self, timeout=None):
            raise KeyboardInterrupt

    monkeypatch.setattr(proxy_home.concurrent.futures, "Future", Interrupted)
    with pytest.raises(KeyboardInterrupt), FaultProxy("127.0.0.1", echoes.port):
        pass


def test_interrupt_ends_a_program(echoes):
    """Ctrl-C in the block of a program ends it at once, as it would without a proxy."""
    program = (
        "import time\nfrom resilient.testing.network.proxy import FaultProxy\n"
        f"with FaultProxy('127.0.0.1', {echoes.port}) as proxy:\n"
        "    proxy.blackhole()\n    print(proxy.port, flush=True)\n    time.sleep(60)\n"
    )
    running = subprocess.Popen(  # noqa: S603 - this interpreter
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with running:
        port = int(running.stdout.readline())
        with socket.create_connection(("127.0.0.1", port)) as client:
            running.send_signal(signal.SIGINT)
            _, said = running.communicate(timeout=WAIT)
            with contextlib.suppress(ConnectionResetError):
                assert client.recv(1) == b""
    assert said.strip().endswith("KeyboardInterrupt")
    assert "Exception ignored" not in said


def test_threads_change_and_use_it_together(proxy_and_pool):
    """Sixteen threads that add, remove, read and connect leave it whole."""
    proxy, pool = proxy_and_pool

    def work(number):
        for _ in range(5):
            fault = proxy.add(latency=0.001 * number, rate=0.5)
            assert fault in proxy.faults
            outcome(proxy)
            repr(proxy)
            fault.remove()

    list(pool.map(work, range(16)))
    assert proxy.faults == ()
    assert proxy.connections == 80
    assert outcome(proxy) == "answered"


@pytest.fixture
def proxy_and_pool(echoes):
    """A proxy, and sixteen threads."""
    with FaultProxy("127.0.0.1", echoes.port) as proxy, ThreadPoolExecutor(16) as pool:
        yield proxy, pool


def test_clients_in_another_process(echoes):
    """A program that knows only the port meets the faults."""
    program = (
        "import socket, sys\n"
        "try:\n    with socket.create_connection(('127.0.0.1', int(sys.argv[1])), 5) as c:\n"
        "        c.sendall(b'hello'); print(c.recv(5))\n"
        "except OSError as error:\n    print(type(error).__name__)\n"
    )

    def said(proxy):
        command = [sys.executable, "-c", program, str(proxy.port)]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.strip()  # noqa: S603

    with FaultProxy("127.0.0.1", echoes.port) as proxy:
        assert said(proxy) == "b'hello'"
        proxy.add(reset_after=0)
        assert said(proxy) == "ConnectionResetError"
        proxy.refuse()
        assert said(proxy) == "ConnectionRefusedError"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
def test_fork_does_not_keep_ports_and_connections_alive(echoes):
    """A child that was forked inside the block has no copies that would undo refusals and resets."""
    with FaultProxy("127.0.0.1", echoes.port) as proxy, connect(proxy) as client:
        asked(client)
        told, tell = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads, since 3.12
            child = os.fork()
        if child == 0:
            os.close(tell)
            os.read(told, 1)
            os._exit(0)
        try:
            proxy.refuse()
            assert outcome(proxy) == "ConnectionRefusedError"
            with pytest.raises(ConnectionResetError):
                client.recv(1)
            proxy.restore()
            assert outcome(proxy) == "answered"
        finally:
            os.close(told)
            os.close(tell)
            os.waitpid(child, 0)


# Where things go wrong


def test_virtual_clock_refuses_it(echoes, nothing_left):
    """Under a VirtualClock it cannot be entered, in either form, and leaves nothing."""

    async def block():
        async with FaultProxy("127.0.0.1", echoes.port):
            pass

    with VirtualClock(), pytest.raises(RuntimeError, match="VirtualClock"), FaultProxy("127.0.0.1", echoes.port):
        pass
    with VirtualClock(autojump=True), pytest.raises(RuntimeError, match="VirtualClock"):
        asyncio.run(block())


def test_no_file_descriptors_left_is_survived(echoes, monkeypatch):
    """Where the system has no room for another connection, it is accepted as soon as there is."""
    real, failures = socket.socket.accept, []

    def full(self):
        if self.getsockname()[1] == echoes.port or len(failures) >= 2:
            return real(self)
        failures.append(1)
        raise OSError(24, "Too many open files")

    with FaultProxy("127.0.0.1", echoes.port) as proxy:
        monkeypatch.setattr(socket.socket, "accept", full)
        assert outcome(proxy) == "answered"
        assert len(failures) == 2


def test_port_that_was_lost_is_taken_again(echoes, monkeypatch):
    """Where the port cannot be kept while refusing, restoring takes it back."""
    real = proxy_listener._bound

    def lost(port):
        raise OSError(98, "in use")

    with FaultProxy("127.0.0.1", echoes.port) as proxy:
        monkeypatch.setattr(proxy_listener, "_bound", lost)
        with pytest.raises(OSError, match="in use"):
            proxy.refuse()
        assert outcome(proxy) == "ConnectionRefusedError"
        monkeypatch.setattr(proxy_listener, "_bound", real)
        proxy.restore()
        assert outcome(proxy) == "answered"


def test_client_that_leaves_before_the_server_is_connected(monkeypatch, nothing_left):
    """A reset during the look-up of the server's name ends the connection, and nothing is connected for it."""
    looked_up = threading.Event()

    async def slowly(host, port):
        looked_up.set()
        await asyncio.sleep(60)

    monkeypatch.setattr(proxy_connections, "_addresses", slowly)
    with FaultProxy("db", 5432) as proxy:
        client = connect(proxy)
        assert looked_up.wait(WAIT)
        reset(client)
        assert eventually(lambda: proxy.active == 0)
        # And one that is still there when the block ends.
        late = connect(proxy)
        assert eventually(lambda: proxy.active == 1)
    late.close()


def test_server_with_two_addresses_is_reached_at_the_second(echoes, monkeypatch):
    """The addresses of a name are tried in turn."""

    async def both(host, port):
        return [(socket.AF_INET, ("127.0.0.1", 1)), (socket.AF_INET, ("127.0.0.1", echoes.port))]

    monkeypatch.setattr(proxy_connections, "_addresses", both)
    with FaultProxy("db", 5432) as proxy:
        assert outcome(proxy) == "answered"


async def _echo_stream(reader, writer):
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        await _closed(writer)


async def _closed(*writers):
    for writer in writers:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def _files():
    """How many file descriptors are open, where the system tells."""
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
