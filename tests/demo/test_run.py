"""The demo itself, on a real process and in real time, a few seconds each."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from resilient.cli import main

SHORT = "4.5"


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """One run with --json, in a process of its own: the only thing on its stdout."""
    done = subprocess.run(  # noqa: S603 - ourselves
        command("--json"), capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stderr == ""
    assert done.returncode == 0, done.stdout
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def command(*options: str) -> list[str]:
    return [sys.executable, "-m", "resilient", "demo", "--seconds", SHORT, *options]


def test_the_service_recovers_through_the_breaker(document: dict[str, Any]) -> None:
    assert document["recovered"] is True
    assert document["verdict"].startswith("RECOVERED")
    changes = [(change["old"], change["new"]) for change in document["transitions"]]
    assert ("closed", "open") in changes
    assert ("open", "half_open") in changes
    assert changes[-1] == ("half_open", "closed")


def test_phases_follow_each_other(document: dict[str, Any]) -> None:
    phases = document["phases"]
    assert [phase["name"] for phase in phases] == ["calm", "rush", "outage", "recovery"]
    assert all(a["ends"] <= b["starts"] + 0.001 for a, b in pairwise(phases))
    assert phases[2]["starts"] <= document["killed_at"] < document["restarted_at"] < phases[3]["ends"]


def test_every_call_made_is_in_the_strip_once(document: dict[str, Any]) -> None:
    kinds = ("ok", "fallback", "rejected", "failed")
    sums = {kind: sum(second[kind] for second in document["seconds"]) for kind in kinds}
    assert sums == document["outcomes"]
    assert sum(sums.values()) == document["calls"] > 50
    assert min(sums["ok"], sums["fallback"], sums["rejected"]) > 0
    assert sums["failed"] == 0


def test_all_five_decorators_took_part(document: dict[str, Any]) -> None:
    for shelf in ("degradations", "retries", "circuit_breakers", "bulkheads", "timeouts"):
        assert document["registry"][shelf]
    assert document["registry"]["circuit_breakers"]["inventory"]["state"] == "closed"
    for event in ("RetryScheduled", "CircuitStateChanged", "CallRejected", "FallbackServed"):
        assert document["events"][event] > 0


def test_the_live_picture_reads_well_and_leaves_nothing_behind(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--seconds", "4", "--seed", "11"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    text = printed.out
    for piece in (
        "calm:",
        "rush:",
        "outage:",
        "recovery:",
        "killed with SIGKILL",
        "CLOSED -> OPEN",
        "second by second",
    ):
        assert piece in text
    lines = text.splitlines()
    assert lines[-1].startswith("RECOVERED")
    assert max(map(len, lines[:-1])) <= 120
    live = [line for line in lines if re.match(r" *\d+\.\d s  ", line)]
    assert len(live) < 80
    assert all(re.match(r"[ \d]{3}\.\d s  [a-z]{5,9} +\S", line) for line in live)
    assert "\033[" not in text
    for port in set(re.findall(r"port (\d+)", text)):
        assert_gone(int(port))


def test_a_service_that_never_answers_is_not_recovered(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--seconds", "4", "--error-rate", "1", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["recovered"] is False
    assert document["verdict"].startswith("NOT RECOVERED")
    assert document["outcomes"]["ok"] == 0
    assert sum(document["outcomes"].values()) == document["calls"]


@pytest.fixture
def live() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A running demo and the port of its service."""
    environ = {**os.environ, "PYTHONIOENCODING": "ascii"}
    pipe = subprocess.PIPE
    demo = subprocess.Popen(command(), stdout=pipe, stderr=pipe, text=True, env=environ)  # noqa: S603 - ourselves
    assert demo.stdout is not None
    try:
        port = 0
        while not port:
            line = demo.stdout.readline()
            assert line, "the demo ended before its service listened"
            if found := re.search(r"listens on port (\d+)", line):
                port = int(found[1])
        yield demo, port
    finally:
        demo.kill()
        demo.communicate()


@pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
def test_ctrl_c_ends_at_once_without_a_stack_trace(live: tuple[subprocess.Popen[str], int]) -> None:
    demo, port = live
    time.sleep(0.3)
    demo.send_signal(signal.SIGINT)
    out, err = demo.communicate(timeout=5)
    assert demo.returncode == 130
    assert "Traceback" not in out + err
    assert len(err.splitlines()) == 1
    assert_gone(port)


@pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
def test_a_killed_demo_leaves_no_orphan(live: tuple[subprocess.Popen[str], int]) -> None:
    demo, port = live
    demo.kill()
    demo.wait()
    assert_gone(port)


@pytest.mark.skipif(os.name == "nt", reason="the pipe ends differently there")
def test_a_reader_that_leaves_is_no_stack_trace(live: tuple[subprocess.Popen[str], int]) -> None:
    demo, port = live
    assert demo.stdout is not None
    assert demo.stderr is not None
    demo.stdout.close()
    assert demo.wait(timeout=10) == 1
    assert demo.stderr.read() == ""
    demo.stderr.close()
    demo.stdout = demo.stderr = None
    assert_gone(port)


def assert_gone(port: int) -> None:
    """Nobody listens any more. (A process id would not do: an orphan may stay in the table until somebody reaps it.)"""
    give_up = time.monotonic() + 5
    while time.monotonic() < give_up:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except ConnectionRefusedError:
            return
        time.sleep(0.02)
    pytest.fail(f"something still listens on port {port}")
