"""The service, the process around it, and the two ways to fetch a page from it."""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from resilient.demo import process as process_module
from resilient.demo import service as service_module
from resilient.demo.fetch import Unavailable, afetch, fetch
from resilient.demo.process import SCRIPT, Service, ServiceFailure
from resilient.demo.service import Habits, StockServer, bind
from resilient.demo.settings import Settings

QUICK = Settings(latency=0.0, error_rate=0.0)


def habits(**changes: Any) -> Habits:
    options = {"latency": 0.0, "error_rate": 0.0, "stall": 0.0, "stall_rate": 0.0, "seed": 1}
    return Habits(argparse.Namespace(**{**options, **changes}))


@contextmanager
def serving(server: StockServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def answering(raw: bytes) -> Iterator[int]:
    """A listener that answers one connection with these bytes and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(raw)

        thread = threading.Thread(target=answer)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def ask(how: str, port: int, path: str = "/stock/3") -> Any:
    return fetch(port, path, patience=5) if how == "thread" else asyncio.run(afetch(port, path))


both = pytest.mark.parametrize("how", ["thread", "task"])


def test_chance_is_seeded() -> None:
    drawn = [[habits(seed=seed, latency=0.1, error_rate=0.5).draw() for _ in range(1)] for seed in (4, 4, 5)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_stalls_and_errors_come_at_their_rates() -> None:
    unlucky = habits(latency=0.1, error_rate=0.25, stall=9.0, stall_rate=0.1)
    draws = [unlucky.draw() for _ in range(2000)]
    assert 0.07 < sum(delay == 9.0 for delay, _ in draws) / 2000 < 0.13
    assert 0.21 < sum(fails for _, fails in draws) / 2000 < 0.29
    assert all(0.05 <= delay <= 0.15 or delay == 9.0 for delay, _ in draws)


@both
def test_an_answer_arrives(how: str) -> None:
    with serving(bind(0, habits())) as port:
        assert ask(how, port) == {"item": 3, "stock": 10}


@both
def test_failures_say_what_happened(how: str) -> None:
    with serving(bind(0, habits(error_rate=1.0))) as port, pytest.raises(Unavailable, match="answered 503"):
        ask(how, port)
    with serving(bind(0, habits())) as port, pytest.raises(Unavailable, match="answered 404"):
        ask(how, port, "/nowhere")
    with pytest.raises(Unavailable, match="connection refused"):
        ask(how, port)


@both
@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "connection lost"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}", "connection lost"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nwha", "Expecting value"),
    ],
)
def test_broken_answers_are_unavailable_too(how: str, raw: bytes, words: str) -> None:
    with answering(raw) as port, pytest.raises(Unavailable, match=words):
        ask(how, port)


def test_a_silent_service_is_given_up() -> None:
    with serving(bind(0, habits(stall=0.5, stall_rate=1.0))) as port, pytest.raises(Unavailable, match="in time"):
        fetch(port, "/stock/3", patience=0.05)


def test_a_taken_port_is_an_error_after_some_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "BIND_PATIENCE", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        bind(taken.getsockname()[1], habits())


def test_the_process_comes_back_on_the_same_port() -> None:
    with Service(QUICK) as service:
        port, pid = service.port, service.pid
        assert fetch(port, "/stock/3", patience=5)["stock"] == 10
        service.kill()
        service.kill()
        assert service.pid == 0
        with pytest.raises(Unavailable, match="refused"):
            fetch(port, "/stock/3", patience=5)
        service.start()
        assert (service.port, service.pid != pid) == (port, True)
        assert fetch(port, "/stock/3", patience=5)["stock"] == 10
        last = service.pid
    assert_gone(last)


def test_a_service_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    script = tmp_path / "service.py"
    monkeypatch.setattr(process_module, "SCRIPT", script)
    script.write_text('print(\'{"error": "no network here"}\')')
    with pytest.raises(ServiceFailure, match="did not start: no network here"), Service(QUICK):
        pass
    script.write_text("raise SystemExit")
    with pytest.raises(ServiceFailure, match="ended at once"), Service(QUICK):
        pass


def test_the_process_ends_with_its_parent() -> None:
    child = subprocess.Popen(  # noqa: S603 - our own script
        [sys.executable, "-I", str(SCRIPT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdin is not None
    assert child.stdout is not None
    assert "port" in child.stdout.readline()
    child.stdin.close()
    assert child.wait(timeout=5) == 0
    child.stdout.close()


def assert_gone(pid: int) -> None:
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
