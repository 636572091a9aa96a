"""`resilient status`: what it shows of a status page, and what it says where there is none."""

from __future__ import annotations

import json
import os
import pty
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from resilient import Bulkhead, bulkhead, circuit_breaker, registry, retry
from resilient.cli import main
from resilient.cli.status_source import Source, SourceError, checked
from resilient.cli.status_text import as_lines, changes, executions, managers, policies, summary
from resilient.web import serve, status_app


@pytest.fixture
def page() -> Iterator[str]:
    """The address of a real status page with an open breaker, a full bulkhead and a retry."""
    with registry.scoped():
        payments = circuit_breaker("payments", failure_threshold=1)
        guarded = retry(max_attempts=1, base_delay=0, name="charge")(payments(_broken))
        with pytest.raises(ConnectionError):
            guarded()
        places: Bulkhead = bulkhead("places", max_concurrent=1)
        circuit_breaker("stock")
        with places, closing(status_app(registry)) as app, serve(app, port=0) as server:
            yield server.url


def _broken() -> None:
    raise ConnectionError("down")


@contextmanager
def answering(status: int, body: bytes, headers: dict[str, str] | None = None) -> Iterator[str]:
    """A server that answers everything in the same way."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_what_concerns_most_comes_first(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The open breaker is above the full bulkhead, and that above what is well; each with its state in words."""
    assert main(["status", "--url", page, "--once"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "4 policies; 1 of 2 breakers let nothing through"
    assert lines[2].split() == ["policy", "name", "state", "calls", "failing", "inside", "numbers"]
    assert [line.split()[:3] for line in lines[3:7]] == [
        ["circuit_breaker", "payments", "open"],
        ["bulkhead", "places", "full"],
        ["circuit_breaker", "stock", "closed"],
        ["retry", "charge", "fine"],
    ]
    assert "0 ok, 1 failed (100%)" in lines[3]


def test_transitions_are_below_the_table(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What has changed while the page was there is told with its reason."""
    registry.circuit_breakers["stock"].isolate()
    assert main(["status", "--url", page]) == 0
    out = capsys.readouterr().out
    assert "Latest changes" in out
    assert "stock: closed -> isolated (isolated)" in out


def test_json_is_the_snapshot(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With --json it prints what the page gives to programs, and nothing else."""
    assert main(["status", "--url", f"{page}/", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["circuit_breakers"]["payments"]["state"] == "open"
    assert document["bulkheads"]["places"]["active_requests"] == 1


def test_a_terminal_gets_a_live_table(page: str, tmp_path: Path) -> None:
    """On a terminal it draws until Ctrl-C, follows what happens, and leaves the screen as it was."""
    main_end, other_end = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "140", "LINES": "40"}
    command = [sys.executable, "-m", "resilient", "status", "--url", page, "--interval", "0.2"]
    process = subprocess.Popen(  # noqa: S603 - ourselves
        command, stdin=other_end, stdout=other_end, stderr=subprocess.PIPE, env=environment, cwd=tmp_path
    )
    os.close(other_end)
    seen = b""

    def read_until(wanted: bytes) -> None:
        nonlocal seen
        end = time.monotonic() + 20
        while wanted not in seen and time.monotonic() < end:
            seen += os.read(main_end, 65536)
        assert wanted in seen, seen.decode(errors="replace")

    try:
        read_until(b"payments")
        registry.circuit_breakers["stock"].isolate()
        read_until(b"isolated")
    finally:
        process.send_signal(2)
        _, errors = process.communicate(timeout=20)
        seen += _rest(main_end)
        os.close(main_end)
    assert process.returncode == 130
    assert b"stopped by Ctrl-C" in errors
    assert b"\x1b[?1049l" in seen  # the other screen is left


def _rest(end: int) -> bytes:
    """What a terminal whose other side is closed still holds."""
    found = b""
    try:
        while chunk := os.read(end, 65536):
            found += chunk
    except OSError:
        pass
    return found


def test_the_live_table_says_when_it_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that cannot be reached for a while leaves the last picture, marked as not the latest."""
    from io import StringIO

    from resilient.cli.status_screen import Screen

    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    out = Terminal()
    with Screen(out, "http://127.0.0.1:1") as screen:
        screen.show({"circuit_breakers": {"payments": {"state": "open"}}})
        out.truncate(0)
        screen.lost("gone away")
        drawn = out.getvalue()
    assert "not the latest: gone away" in drawn
    assert "payments" in drawn


def test_many_policies_do_not_fill_the_screen() -> None:
    """Of thousands the live table shows what fits, and says how many there are besides."""
    from io import StringIO

    from rich.console import Console
    from rich.text import Text

    from resilient.cli.status_screen import Screen

    breakers = {f"b{number}": {"state": "closed"} for number in range(5_000)} | {"bad": {"state": "open"}}
    screen = Screen(StringIO(), "x")
    screen.show({"circuit_breakers": breakers})
    text = StringIO()
    console = Console(file=text, width=100)
    for part in screen.parts(Text("")):
        console.print(part)
    lines = text.getvalue().splitlines()
    assert len(lines) < 40
    assert any("bad" in line and "open" in line for line in lines)
    assert any("more, which concern less" in line for line in lines)


@pytest.mark.parametrize(
    ("status", "body", "headers", "said"),
    [
        (404, b"nothing here", {}, "answered 404"),
        (302, b"", {"Location": "http://127.0.0.1:1/"}, "answered 302"),
        (200, b"<html>", {}, "no snapshot"),
        (200, b"[1]", {}, "no snapshot"),
        (200, b'{"circuit_breakers": 3}', {}, "no snapshot"),
        (200, b'{"circuit_breakers": {"a": 1}}', {}, "no snapshot"),
        (200, b'{"circuit_breakers": {}, "retries": []}', {}, "no snapshot"),
        (200, b'{"circuit_breakers": {}, "executions": [1]}', {}, "no snapshot"),
        (200, b'{"circuit_breakers": {}, "executions": [{"waiting_for": 1}]}', {}, "no snapshot"),
        (200, b'{"circuit_breakers": {}, "degradation_managers": {"m": {"services": {"s": 1}}}}', {}, "no snapshot"),
        (200, b'{"circuit_breakers": {}, "problems": null}', {}, "no snapshot"),
        (200, b"[" * 100_000, {}, "no snapshot"),
    ],
    ids=[
        "not found",
        "moved",
        "html",
        "a list",
        "another shape",
        "no facts",
        "no shelf",
        "no execution",
        "no waiting",
        "no service",
        "no problems",
        "deep",
    ],
)
def test_what_is_no_status_page_is_said(
    status: int, body: bytes, headers: dict[str, str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """An address that answers something else ends in one sentence and exit code 1."""
    with answering(status, body, headers) as url:
        assert main(["status", "--url", url, "--once"]) == 1
    found = capsys.readouterr()
    assert found.out == ""
    assert said in found.err
    assert found.err.count("\n") == 1


def test_an_answer_gives_no_orders_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Control characters in what a server says of its errors are not written out."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.0 500 \x1b[2Jgone\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        assert main(["status", "--url", f"http://127.0.0.1:{listening.getsockname()[1]}", "--once"]) == 1
        thread.join()
    found = capsys.readouterr().err
    assert "gone" in found
    assert "\x1b" not in found


def test_a_port_without_a_listener_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """Where nobody listens, it asks whether the application is running."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    assert main(["status", "--url", f"http://127.0.0.1:{port}"]) == 1
    assert "is the application running?" in capsys.readouterr().err


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://host/", "http://", "http://user:secret@host/"])
def test_an_address_that_cannot_be_one_is_refused(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A bad address is refused before anything is asked, without showing a password."""
    with pytest.raises(SystemExit) as left:
        main(["status", "--url", url])
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert "argument --url" in said
    assert "secret" not in said


@pytest.mark.parametrize("interval", ["0", "nan", "1e9", "soon"])
def test_an_interval_out_of_range_is_refused(interval: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Looking all the time, or never, is refused."""
    with pytest.raises(SystemExit):
        main(["status", "--url", "http://h", "--interval", interval])
    assert "--interval" in capsys.readouterr().err


def test_a_proxy_of_the_environment_is_not_asked(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is set for the web at large does not come between."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert "payments" in Source(page).fetch()["circuit_breakers"]


def test_an_answer_that_breaks_off_is_an_error() -> None:
    """A body that is shorter than was promised raises SourceError, not something of the HTTP library."""
    with answering(200, b"", {"Content-Length": "10"}) as url, pytest.raises(SourceError):
        Source(url, timeout=2).fetch()


def test_the_address_loses_its_slash_and_query() -> None:
    """However the address of the page was copied, the same place is asked."""
    assert checked("http://h:8000/status/?q=x#top") == "http://h:8000/status"


SNAPSHOT: dict[str, Any] = {
    "circuit_breakers": {},
    "transitions": [
        {"time": "2026-01-02T03:04:05.678+00:00", "name": "a\x1b[31m\nb", "old": "x", "new": "y", "reason": "r"}
    ],
    "executions": [
        {"plan_id": "heal", "status": "waiting_approval", "execution_id": "heal-1", "waiting_for": ["look"]},
        {"plan_id": "heal", "status": "completed", "execution_id": "heal-0", "waiting_for": []},
    ],
    "degradation_managers": {
        "shop": {
            "mode": "partial",
            "forced": True,
            "services": {"stock": {"degraded": True}, "price": {"degraded": False}},
        }
    },
    "problems": ["executions: the journal is locked"],
}


def test_the_sections_of_a_snapshot() -> None:
    """Changes, managers, recoveries and problems are a line each, without what would move a terminal's cursor."""
    assert list(changes(SNAPSHOT)) == ["03:04:05 a b: x -> y (r)"]
    assert list(managers(SNAPSHOT)) == ["shop: partial (forced); degraded: stock"]
    assert list(executions(SNAPSHOT)) == [
        "heal: waiting approval; waits for approval of look (heal-1)",
        "heal: completed (heal-0)",
    ]
    text = "\n".join(as_lines(SNAPSHOT))
    assert "Problems\n  executions: the journal is locked" in text


def test_an_empty_registry_says_so() -> None:
    """Without any policy there is a sentence in the place of a table."""
    assert list(as_lines({})) == ["no policies yet: they appear when they are defined"]


def test_rows_of_an_unknown_version_are_shown() -> None:
    """A policy whose numbers are not those we know keeps its name and state."""
    (row,) = policies({"circuit_breakers": {"old": {"state": "open"}}})
    assert (row.name, row.state, row.numbers) == ("old", "open", "")


def test_the_summary_counts() -> None:
    """One line says how many there are, and how many let nothing through."""
    assert summary({"retries": {"a": {}}}) == "1 policy"
    assert summary({"circuit_breakers": {"a": {"state": "closed"}}}) == "1 policy; no breaker is open"
    both = {"a": {"state": "isolated"}, "b": {"state": "open"}}
    assert summary({"circuit_breakers": both}) == "2 policies; 2 of 2 breakers let nothing through"
