"""`resilient demo --serve`: what a real Prometheus, and whoever asks for pages, see of it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import prometheus_client
import pytest

from resilient.cli import main
from resilient.demo.monitor import monitored

from . import servers


@contextmanager
def demo(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A demo under way that takes a free port, and the address it tells."""
    running = subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "resilient", "demo", "--serve", "0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONWARNINGS": "error"},
    )
    try:
        assert running.stderr is not None
        told = running.stderr.readline()
        found = re.fullmatch(r"Status page: (http://127\.0\.0\.1:\d+/)  Metrics: \1metrics\n", told)
        assert found is not None, told
        yield running, found[1]
    finally:
        running.kill()
        running.communicate()


def is_ready(url: str) -> bool:
    """Whether /readyz says so."""
    status, text = servers.look(f"{url}readyz")
    assert (status, json.loads(text)["critical"].get("inventory") == "open") in ((200, False), (503, True)), text
    return status == 200


def refuses(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
def test_prometheus_sees_the_outage(tmp_path: Path) -> None:
    """The alert fires when the demo's service is killed, and ends when it has recovered; Ctrl-C ends what is kept."""
    rules = servers.hurried((servers.MONITORING / "alerts.yml").read_text("utf-8"), wait="500ms")
    servers.program("prometheus")
    with demo("--seconds", "10", "--keep") as (running, url):
        port = int(url.rstrip("/").rpartition(":")[2])
        with servers.start(tmp_path, {"demo": port}, rules) as prometheus:
            alert = servers.eventually(lambda: prometheus.firing().get("ResilientBreakerOpen"), 20)
            assert alert["labels"]["name"] == "inventory"
            servers.eventually(lambda: "ResilientBreakerOpen" not in prometheus.firing(), 20)
        assert running.stderr is not None
        assert "stays up, until Ctrl-C" in running.stderr.readline()
        attempts = 'recovery_retry_attempts_total{name="inventory tasks"} '
        seen = number(url, attempts)
        servers.eventually(lambda: number(url, attempts) > seen, 5)
        running.send_signal(signal.SIGINT)
        printed, said = running.communicate(timeout=30)

    assert running.returncode == 0, said
    assert said == ""
    assert printed.splitlines()[-1].startswith("RECOVERED")
    assert refuses(port)


def number(url: str, sample: str) -> float:
    """The value of a sample of /metrics, 0 where there is none."""
    found = re.search(rf"^{re.escape(sample)}(\S+)$", servers.get(f"{url}metrics"), re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_it_is_not_ready_during_the_outage() -> None:
    """The demo has page, snapshot and health; while its breaker is open it is not ready, and the change is listed."""
    with demo("--seconds", "4", "--json") as (running, url):
        assert "<title>" in servers.get(url)
        assert json.loads(servers.get(f"{url}healthz")) == {"status": "ok"}
        servers.eventually(lambda: not is_ready(url), 20)
        seen = json.loads(servers.get(f"{url}api/snapshot"))
        assert seen["circuit_breakers"]["inventory"]["state"] != "closed"
        assert ("inventory", "closed", "open") in [
            (change["name"], change["old"], change["new"]) for change in seen["transitions"]
        ]
        printed, said = running.communicate(timeout=30)

    assert running.returncode == 0, said
    assert json.loads(printed)["recovered"] is True
    assert refuses(int(url.rstrip("/").rpartition(":")[2]))


def test_a_port_in_use_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    """A port that somebody else uses is named, with what to do; the demo does not begin."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["demo", "--serve", str(port)]) == 1

    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"resilient demo: --serve: port={port}: is in use")
    assert len(printed.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (["--serve", "70000"], "argument --serve: must be a number from 1 to 65535, or 0 for any that is free"),
        (["--serve", "http"], "argument --serve: must be a number"),
        (["--serve", "-1"], "argument --serve: "),
        (["--serve", "²"], "argument --serve: must be a number"),
        (["--keep"], "argument --keep: there is nothing to keep without --serve PORT"),
    ],
)
def test_wrong_arguments_are_named(given: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An argument that cannot work ends the command before anything begins."""
    with pytest.raises(SystemExit) as left:
        main(["demo", *given])

    assert left.value.code == 2
    assert complaint in capsys.readouterr().err


def test_the_default_registry_is_left_alone() -> None:
    """The numbers are served from a registry of the demo's own, and metrics of the calling program are not touched."""
    before = [metric.name for metric in prometheus_client.REGISTRY.collect()]
    with monitored(0) as server:
        assert "recovery_retry_attempts_total" in servers.get(f"{server.url}metrics")
        during = [metric.name for metric in prometheus_client.REGISTRY.collect()]

    assert during == before
    assert not any(name.startswith("recovery_") for name in during)
    assert refuses(server.port)
