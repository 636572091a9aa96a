"""A directory with plans and an executors module, and the command run in it as a process of its own."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from resilient.cli import main

#: Steps of type "work" leave a line in `log` each time they do something, and wait for a file where they are told to.
OPS = """
import os
import pathlib
import time


def note(text):
    with open("log", "a") as file:
        file.write(text + "\\n")


def work(step, context):
    note(f"{step.id} {context.attempt}")
    wanted = step.parameters.get("until")
    while wanted and not pathlib.Path(wanted).exists():
        if context.cancelled:
            raise RuntimeError("stopped")
        time.sleep(0.01)
    if context.attempt <= step.parameters.get("fail", 0):
        raise ConnectionError("no \\x1b[31m answer")
    return {"pid": os.getpid()}


def undo(step, context):
    note(f"undo {step.id}")
    wanted = step.parameters.get("undo_until")
    while wanted and not pathlib.Path(wanted).exists():
        time.sleep(0.01)
    if step.parameters.get("stuck"):
        raise OSError("disk full")


def register(orchestrator):
    orchestrator.register_step_executor("work", work, rollback=undo)
"""


def plan(plan_id: str, *steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A plan of steps of type "work", each after the one before it."""
    listed = [{"name": f"Do {one['id']}", "step_type": "work", **one} for one in steps]
    ids = [one["id"] for one in listed]
    needs = {late: [early] for early, late in itertools.pairwise(ids)}
    return {"id": plan_id, "name": plan_id, "steps": listed, "dependencies": needs, **more}


class Place:
    """The directory; `call` runs the command in this process, `start` in another."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory = directory
        self._capsys = capsys
        self.started: list[subprocess.Popen[str]] = []

    def write(self, *plans: dict[str, Any]) -> None:
        for one in plans:
            (self.directory / f"{one['id']}.json").write_text(json.dumps(one), "utf-8")

    def call(self, *words: str) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        self._capsys.readouterr()
        try:
            code = main(["plan", *words])
        except SystemExit as left:
            code = left.code  # type: ignore[assignment]
        printed = self._capsys.readouterr()
        return code, printed.out, printed.err

    def start(self, *words: str) -> subprocess.Popen[str]:
        """The command as a process."""
        process = subprocess.Popen(  # noqa: S603 - this package's own command
            [sys.executable, "-m", "resilient", "plan", *words],
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Where the tests run in the background, Ctrl-C is ignored, and children would inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
        )
        self.started.append(process)
        return process

    def log(self) -> list[str]:
        """What the steps have done."""
        file = self.directory / "log"
        return file.read_text("utf-8").splitlines() if file.exists() else []

    def touch(self, name: str) -> None:
        (self.directory / name).touch()

    def execution(self) -> str:
        """The id of the latest execution."""
        return str(self.history()[0]["execution_id"])

    def history(self) -> list[dict[str, Any]]:
        code, out, err = self.call("history", "--json")
        assert code == 0, err
        found: list[dict[str, Any]] = json.loads(out)
        return found

    def status(self, execution: str) -> dict[str, Any]:
        code, out, err = self.call("status", execution, "--json")
        assert code == 0, err
        found: dict[str, Any] = json.loads(out)
        return found


def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.02)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Place]:
    """An empty directory with `ops.py`, which is the current one."""
    (tmp_path / "ops.py").write_text(OPS, "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "ops", raising=False)
    found = Place(tmp_path, capsys)
    yield found
    sys.modules.pop("ops", None)
    for process in found.started:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        process.communicate()
