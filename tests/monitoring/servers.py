"""Prometheus as it is installed on this machine, and a short-lived server of it that the tests may ask."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar
from urllib.error import HTTPError

import pytest

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "docs" / "monitoring"
PATIENCE = 60.0

T = TypeVar("T")
_without_proxy = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def program(name: str) -> str:
    """Where prometheus or promtool is; skips the test where it is not, unless RESILIENT_REQUIRE_SERVERS is set."""
    found = shutil.which(name)
    if found is None:
        if os.environ.get("RESILIENT_REQUIRE_SERVERS"):
            pytest.fail(f"{name} is not installed, and RESILIENT_REQUIRE_SERVERS is set")
        pytest.skip(f"{name} is not installed")
    return found


def free_port() -> int:
    """A port of the loopback interface that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(look: Callable[[], T], seconds: float = PATIENCE) -> T:
    """Look again and again until there is something to be seen; fails when there is nothing after so many seconds."""
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, f"nothing after {seconds:g} s: {found!r}"
        time.sleep(0.05)
    return found


def look(url: str) -> tuple[int, str]:
    """The status and the text of an answer of this machine; raises OSError where nobody answers."""
    try:
        with _without_proxy.open(url, timeout=10) as answer:
            return int(answer.status), str(answer.read().decode())
    except HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode()


def get(url: str) -> str:
    """What is at an address of this machine; raises OSError where nobody answers, or not with 200."""
    status, text = look(url)
    if status != 200:
        raise OSError(f"{url} answers {status}: {text}")
    return text


def hurried(rules: str, *, window: str = "4s", wait: str = "1s") -> str:
    """The same rules for a test that has no minutes.

    Each range and offset becomes `window`, each `for:` becomes `wait`; expressions and thresholds stay as they are.
    """
    rules = re.sub(r"\[\d+[smh]\]", f"[{window}]", rules)
    rules = re.sub(r"\boffset \d+[smh]", f"offset {window}", rules)
    return re.sub(r"^( +for:) \d+[smh]$", rf"\1 {wait}", rules, flags=re.MULTILINE)


class Prometheus(AbstractContextManager["Prometheus"]):
    """A server that keeps its data in `folder` and ends with the block."""

    def __init__(self, folder: Path, config: Path, port: int) -> None:
        self._log = (folder / "prometheus.log").open("w")
        self.url = f"http://127.0.0.1:{port}"
        words = [program("prometheus"), f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"]
        words += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
        self._process = subprocess.Popen(words, stdout=self._log, stderr=self._log, cwd=folder)  # noqa: S603

    def is_ready(self) -> bool:
        assert self._process.poll() is None, Path(self._log.name).read_text()
        try:
            return "Ready" in get(f"{self.url}/-/ready")
        except OSError:
            return False

    def ask(self, path: str, **parameters: str) -> Any:
        """The data of an answer of its HTTP API."""
        query = urllib.parse.urlencode(parameters)
        answer = json.loads(get(f"{self.url}/api/v1/{path}?{query}"))
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an expression, as of now."""
        return list(self.ask("query", query=expression)["result"])

    def firing(self) -> dict[str, dict[str, Any]]:
        """The alerts that fire now, by name; of several of one name, one."""
        alerts = self.ask("alerts")["alerts"]
        return {one["labels"]["alertname"]: one for one in alerts if one["state"] == "firing"}

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        self._process.wait(30)
        self._log.close()


def start(folder: Path, targets: dict[str, int], rules: str) -> Prometheus:
    """A Prometheus with these rules that looks at the given jobs, by their ports, more than twice a second."""
    (folder / "rules.yml").write_text(rules, encoding="utf-8")
    jobs = [{"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]} for job, port in targets.items()]
    config = {
        "global": {"scrape_interval": "400ms", "scrape_timeout": "400ms", "evaluation_interval": "200ms"},
        "rule_files": ["rules.yml"],
        "scrape_configs": jobs,
    }
    file = folder / "prometheus.yml"
    file.write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML too
    server = Prometheus(folder, file, free_port())
    try:
        eventually(server.is_ready)
    except BaseException:
        server.__exit__()
        raise
    return server
