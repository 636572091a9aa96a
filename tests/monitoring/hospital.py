"""A real Prometheus that watches a real process fall ill in every way, and recover."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from . import servers

ENOUGH = 30.0


class Story(NamedTuple):
    """What Prometheus saw: alerts before, while all was wrong, and those left when all was well again; and itself."""

    before: dict[str, Any]
    during: dict[str, Any]
    after: dict[str, Any]
    prometheus: servers.Prometheus
    began: float
    ended: float


class Patient:
    """patient.py, told what to suffer from."""

    def __init__(self) -> None:
        script = Path(__file__).with_name("patient.py")
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-W", "error", str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.port = int(json.loads(self._process.stdout.readline())["port"])

    def turn(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()

    def close(self) -> None:
        self._process.communicate(timeout=30)  # closes its stdin


@contextmanager
def watch(folder: Path) -> Iterator[Story]:
    """Let the patient be well, then sick in every way, then well again, and note what fires meanwhile."""
    servers.program("prometheus")
    rules = (servers.MONITORING / "alerts.yml").read_text("utf-8")
    names = {rule["alert"] for group in yaml.safe_load(rules)["groups"] for rule in group["rules"]}
    began = time.time()
    with (
        closing(Patient()) as patient,
        servers.start(folder, {"patient": patient.port}, servers.hurried(rules)) as prometheus,
    ):
        # Long enough for every window, so that nothing is quiet for want of numbers.
        servers.eventually(lambda: prometheus.query('count_over_time(up{job="patient"}[6s]) > 12'))
        before = prometheus.firing()
        patient.turn("sick")
        during: dict[str, Any] = {}

        def all_fire() -> bool:
            during.update(prometheus.firing())
            return during.keys() >= names

        _patiently(all_fire)
        patient.turn("well")
        _patiently(lambda: not prometheus.firing())
        yield Story(before, during, prometheus.firing(), prometheus, began, time.time())


def _patiently(look: Callable[[], bool]) -> None:
    """Wait, and leave it to the tests to name the alert that did not fire, or that stayed."""
    try:
        servers.eventually(look, ENOUGH)
    except AssertionError:
        return
