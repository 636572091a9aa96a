"""The tutorial on observing, done as it stands on the page: its commands, real processes, a real browser."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import servers

PAGE = servers.ROOT / "docs" / "tutorial-observe.md"
BROWSERS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome")
#: Done once by a reader; the project's own check runs the installation for real.
SETUP = [
    "python3 -m venv .venv",
    ". .venv/bin/activate",
    "python3 -m pip install .",
    "sudo apt install prometheus",
]
BLOCK = re.compile(r"^```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the page is written for a POSIX shell")


def blocks() -> list[tuple[str, list[str]]]:
    """What the page says to type, each with the lines that are printed then; "" for lines of another terminal."""
    found: list[tuple[str, list[str]]] = []
    for text in BLOCK.findall(PAGE.read_text("utf-8")):
        first = True
        for line in text.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            elif first:
                found.append(("", [line]))
            else:
                found[-1][1].append(line)
            first = False
    return found


class Terminal:
    """A terminal of the reader: a shell command under way, and what it has printed so far."""

    def __init__(self, command: str, folder: Path) -> None:
        self._log = folder.parent / f"terminal-{time.monotonic_ns()}.log"
        with self._log.open("w") as log:
            # `exec`: the signal of Ctrl-C is to reach the program itself.
            self._process = subprocess.Popen(  # noqa: S603
                ["/bin/sh", "-c", f"exec {command}"], cwd=folder, stdout=log, stderr=subprocess.STDOUT
            )

    def printed(self) -> str:
        """Everything so far."""
        return self._log.read_text("utf-8")

    def prints(self, lines: list[str]) -> bool:
        """Whether these lines have been printed, one after the other."""
        assert self._process.poll() is None, self.printed()
        return says(self.printed(), lines)

    def interrupt(self) -> int:
        """Ctrl-C; the exit code."""
        self._process.send_signal(signal.SIGINT)
        return self._process.wait(20)

    def kill(self) -> None:
        """The end, whatever it does."""
        self._process.kill()
        self._process.wait()


def says(printed: str, lines: list[str]) -> bool:
    """Whether lines of a page are to be found in this order, where `...` stands for anything."""
    patterns = (re.escape(line).replace(r"\.\.\.", ".*") for line in lines)
    return re.search(r"(.*\n)*?".join(f"{one}\n" for one in patterns), printed) is not None


class Reader:
    """Somebody with a checkout, three terminals and a browser. The ports of the page may be taken, so others do."""

    def __init__(self, home: Path) -> None:
        self._ports = {port: str(servers.free_port()) for port in ("8000", "9464", "9091")}
        self.folder = home / "checkout"
        self.first: Terminal | None = None
        self.second: Terminal | None = None
        for part in ("docs/examples/observe", "docs/monitoring"):
            shutil.copytree(servers.ROOT / part, self.folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        for file in (self.folder / "docs/examples/observe").iterdir():
            file.write_text(self.here(file.read_text("utf-8")), encoding="utf-8")
        programs = home / "bin"
        programs.mkdir()
        # No link: through one, an interpreter does not find the environment that it belongs to.
        (programs / "python3").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
        (programs / "python3").chmod(0o755)
        self._path = f"{programs}{os.pathsep}{os.environ['PATH']}"

    def here(self, text: str) -> str:
        """The text with the ports that are free here."""
        return re.sub(r"\b(8000|9464|9091)\b", lambda found: self._ports[found[0]], text)

    def types(self, command: str) -> str:
        """Run a command to its end in the third terminal; returns what it prints."""
        done = subprocess.run(  # noqa: S603
            ["/bin/sh", "-c", f"{self.here(command)} && pwd >.where"],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        place = next(self.folder.rglob(".where"))
        self.folder = Path(place.read_text("utf-8").strip())
        place.unlink()
        return done.stdout

    def opens(self, address: str) -> str:
        """What a browser shows at an address, as text, without what it hides."""
        program = next(filter(None, map(shutil.which, BROWSERS)), None)
        assert program is not None
        words = [program, "--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        words += [f"--user-data-dir={self.folder.parent / 'profile'}", "--no-proxy-server"]
        words += ["--no-sandbox"] if os.geteuid() == 0 else []  # as root it refuses to run with its sandbox
        done = subprocess.run(  # noqa: S603
            [*words, "--dump-dom", self.here(address)], capture_output=True, text=True, timeout=60, check=True
        )
        return re.sub(r"\s+", " ", re.sub(r"<(script|style).*?</\1>|<[^>]*>", " ", done.stdout, flags=re.DOTALL))

    def close(self) -> None:
        for terminal in (self.first, self.second):
            if terminal is not None:
                terminal.kill()


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    if next(filter(None, map(shutil.which, BROWSERS)), None) is None:
        if os.environ.get("RESILIENT_REQUIRE_SERVERS"):
            pytest.fail("Chromium is not installed, and RESILIENT_REQUIRE_SERVERS is set")
        pytest.skip("Chromium is not installed")
    servers.program("prometheus")
    servers.program("promtool")
    found = Reader(tmp_path)
    monkeypatch.setenv("PATH", found._path)
    try:
        yield found
    finally:
        found.close()


def test_the_journey(reader: Reader) -> None:
    """From nothing to an open breaker on a page, an alert that fires, and plans that close the breaker."""
    steps = iter(blocks())

    def go_on(expected: str) -> tuple[str, list[str]]:
        """The next thing of the page, which has to be what this test is prepared for."""
        command, lines = next(steps)
        assert command.startswith(expected), command
        return command, [reader.here(line) for line in lines]

    for command in SETUP:
        assert next(steps) == (command, [])
    reader.types(go_on("mkdir observe")[0])

    command, lines = go_on("python3 app.py")
    shop = reader.first = Terminal(command, reader.folder)
    servers.eventually(lambda: shop.prints(lines))
    assert shown(reader.opens("http://127.0.0.1:8000/")) == "closed"

    reader.second = Terminal(reader.here(go_on("prometheus ")[0]), reader.folder)
    address = reader.here("http://127.0.0.1:9091")
    servers.eventually(lambda: is_up(address))
    servers.eventually(lambda: "=> 1 @" in reader.types(f"promtool query instant {address} up"))
    assert reader.types(f"promtool query instant {address} ALERTS").strip() == ""

    reader.types(go_on("python3 app.py break")[0])
    lines = go_on("")[1]
    servers.eventually(lambda: shop.prints(lines))
    assert shown(reader.opens("http://127.0.0.1:8000/")) in ("open", "half-open")

    command, lines = go_on("promtool query")
    servers.eventually(lambda: "ResilientBreakerOpen" in firing(address))
    assert says(reader.types(command), lines)

    command, lines = go_on("python3 -m resilient plan run")
    assert says(reader.types(command), lines)
    lines = go_on("")[1]
    servers.eventually(lambda: shop.prints(lines))
    page = reader.opens("http://127.0.0.1:8000/")
    assert shown(page) == "closed"
    assert "restore-stock" in page
    servers.eventually(lambda: not firing(address))
    assert "no breaker is open" in reader.types(go_on("python3 -m resilient status")[0])

    command, _ = go_on("python3 app.py heal")
    assert shop.interrupt() == 0
    healing = reader.first = Terminal(command, reader.folder)
    servers.eventually(lambda: healing.prints([reader.here("status page: http://127.0.0.1:8000/")]))
    reader.types(go_on("python3 app.py break")[0])
    lines = go_on("")[1]
    servers.eventually(lambda: healing.prints(lines), 20)
    assert next(steps, None) is None
    assert reader.first.interrupt() == 0
    assert reader.second.interrupt() == 0


def shown(page: str) -> str:
    """The state of the breaker `stock`, in the words of the status page."""
    found = re.search(r"\bstock\W+circuit breaker\W+(closed|open|half-open)\b", page, re.IGNORECASE)
    assert found is not None, page
    return found[1].lower()


def firing(address: str) -> set[str]:
    """The alerts that fire, as the page of Prometheus shows them."""
    alerts = json.loads(servers.get(f"{address}/api/v1/alerts"))["data"]["alerts"]
    return {one["labels"]["alertname"] for one in alerts if one["state"] == "firing"}


def is_up(address: str) -> bool:
    try:
        return "Ready" in servers.get(f"{address}/-/ready")
    except OSError:
        return False
