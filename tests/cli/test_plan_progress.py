"""What is shown while a recovery goes on: a table on a terminal with rich, lines everywhere else."""

from __future__ import annotations

import fcntl
import importlib.util
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from resilient.cli.plan_events import told, verdict
from resilient.cli.plan_progress import Lines, progress_for
from resilient.cli.plan_table import Table
from resilient.cli.plan_text import columns, plain, shortened, spent, wrapped
from resilient.orchestrator import (
    ExecutionStatus,
    RecoveryEvent,
    RecoveryEventType,
    RecoveryExecution,
    RecoveryPlan,
    RecoveryStep,
    StepResult,
)

from .conftest import Place
from .conftest import plan as plan_file

NOW = datetime(2026, 7, 1, 12, 0, 0, tzinfo=UTC)
PLAN = RecoveryPlan("p", "A plan", [RecoveryStep("a", "a", "x"), RecoveryStep("ask", "ask", "approval")])
Type = RecoveryEventType
Status = ExecutionStatus


class Terminal(io.StringIO):
    """A screen in memory; `broken` once nobody is there any more."""

    broken = False

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if self.broken:
            raise OSError(5, "Input/output error")
        return super().write(text)


def event(kind: Type, step_id: str | None = None, **data: Any) -> RecoveryEvent:
    return RecoveryEvent(kind, "p-1", "p", step_id, NOW, data, 1.5)


def picture(status: Status, **results: StepResult) -> RecoveryExecution:
    ended = NOW + timedelta(seconds=3) if status.ended else None
    return RecoveryExecution("p-1", "p", status, started_at=NOW, completed_at=ended, step_results=results)


@pytest.mark.parametrize(
    ("happened", "said"),
    [
        (event(Type.EXECUTION_STARTED), "started"),
        (event(Type.EXECUTION_RESUMED, holder=["h", 1]), "taken over from a process that is gone"),
        (event(Type.STEP_STARTED, "a", attempt=1), "a: started"),
        (event(Type.STEP_STARTED, "ask", question="approve"), ""),
        (event(Type.STEP_COMPLETED, "a", output="secret"), "a: completed"),
        (event(Type.STEP_COMPLETED, "ask", approved=True, by="me"), ""),
        (event(Type.STEP_FAILED, "a", error="no\nanswer"), "a: failed: no answer"),
        (event(Type.STEP_FAILED, "a", error="x", in_doubt=True), "a: failed: x (nobody knows whether it happened)"),
        (event(Type.STEP_FAILED, "ask", approved=False, by="me"), ""),
        (event(Type.APPROVAL_REQUESTED, "ask", question="approve"), "ask: waits for approval"),
        (
            event(Type.APPROVAL_REQUESTED, "ask", question="approve", deadline_at=NOW.timestamp()),
            "ask: waits for approval until 2026-07-01 12:00:00 UTC",
        ),
        (
            event(Type.APPROVAL_REQUESTED, "a", question="undo"),
            "a: may have happened; approve leaves it as it is, reject undoes it",
        ),
        (event(Type.APPROVAL_GRANTED, "ask", by="me", note=""), "ask: approved by me"),
        (event(Type.APPROVAL_REJECTED, "ask", by="me", note="no\x1b[0m"), "ask: rejected by me: no"),
        (event(Type.CANCEL_REQUESTED, by="me", reason="late"), "cancelled by me: late"),
        (event(Type.ROLLBACK_STARTED, targets=["b", "a"]), "to be undone: b, then a"),
        (event(Type.ROLLBACK_STARTED, targets=[]), "there is nothing to undo"),
        (event(Type.STEP_ROLLBACK_STARTED, "a"), "a: being undone"),
        (event(Type.STEP_ROLLED_BACK, "a"), "a: undone"),
        (event(Type.STEP_ROLLBACK_FAILED, "a", error="disk full"), "a: could not be undone: disk full"),
        (event(Type.EXECUTION_COMPLETED), ""),
    ],
)
def test_told(happened: RecoveryEvent, said: str) -> None:
    """Each event is a sentence, unless another line says the same."""
    assert told(happened) == said


def test_told_of_retries() -> None:
    """A retry says whether it is one of the way there or of the way back."""
    retry = event(Type.STEP_RETRYING, "a", attempt=2, error="x", delay=0.25)
    assert told(retry) == "a: attempt 2 failed: x; again in 0.25 s"
    assert told(retry, undoing=True) == "a: undoing, attempt 2 failed: x; again in 0.25 s"


def test_every_type_of_event_is_told() -> None:
    """No type of event is unknown here."""
    silent = {one for one in Type if not told(event(one, "a"))}
    assert silent == {
        Type.ROLLBACK_COMPLETED,
        Type.ROLLBACK_FAILED,
        Type.EXECUTION_COMPLETED,
        Type.EXECUTION_FAILED,
        Type.EXECUTION_CANCELLED,
    }


def test_verdict() -> None:
    """The end is told with its time and reason."""
    assert verdict(picture(Status.COMPLETED)) == "completed after 3.00 s"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0.00 s"),
        (0.005, "0.01 s"),
        (59.99, "59.99 s"),
        (60, "1 min 00 s"),
        (3599, "59 min 59 s"),
        (7260, "2 h 01 min"),
    ],
)
def test_spent(seconds: float, text: str) -> None:
    """Short times are exact, long ones readable."""
    assert spent(seconds) == text


def test_texts_of_others() -> None:
    """Foreign text is one line without control characters, shortened and wrapped where it must be."""
    assert plain("a\r\n\x1b[2J\x07b\u202e\x00 c") == "a b c"
    assert shortened("x" * 50, 10) == "xxxxxxx..."
    assert wrapped(f"    error: {'word ' * 30}", 40, 6)[1].startswith("      word")
    assert max(map(len, wrapped("word " * 30, 40))) <= 40
    assert columns([("a", "bb"), ("ccc", "")]) == ["a    bb", "ccc"]


def test_lines_of_several_executions() -> None:
    """Where several executions go on, each line says which plan it is of."""
    out = io.StringIO()
    lines = Lines(out)
    lines.begin("p-1", PLAN)
    lines.event(event(Type.EXECUTION_STARTED))
    lines.begin("q-1", RecoveryPlan("q", "q", ()))
    lines.event(event(Type.STEP_STARTED, "a"))
    lines.end(picture(Status.COMPLETED))
    assert out.getvalue().splitlines() == [
        "execution p-1 of p",
        "    1.50 s  started",
        "execution q-1 of q",
        "    1.50 s  p: a: started",
        "p: completed after 3.00 s",
    ]


@pytest.mark.parametrize(
    ("out", "term", "installed", "kind"),
    [
        (Terminal, "xterm", True, Table),
        (Terminal, "dumb", True, Lines),
        (Terminal, "", True, Lines),
        (Terminal, "xterm", False, Lines),
        (io.StringIO, "xterm", True, Lines),
    ],
)
def test_what_suits_the_reader(
    out: Callable[[], Any], term: str, installed: bool, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table on a terminal that can show it, if rich is installed; lines everywhere else."""
    monkeypatch.setenv("TERM", term)
    if not installed:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert type(progress_for(out(), "recovery.db")) is kind


def test_rich_is_not_imported_without_need(place: Place) -> None:
    """Where the output is no terminal, rich is not even imported."""
    code = "import sys; from resilient.cli import main; main(['plan', 'schema']); sys.exit('rich' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=False)  # noqa: S603 - this package's own command
    assert done.returncode == 0


def shown(table: Table, *pictures: RecoveryExecution) -> None:
    for one in pictures:
        table.event(event(Type.STEP_STARTED, "a"))
        table.tick(lambda _, one=one: one)  # type: ignore[misc]


def test_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table has a row for each step, and what is to be typed is never broken into lines."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    out = Terminal()
    table = Table(out, "a/rather/long/path/to/the/journal/of/this/machine.db")
    table.begin("p-1", PLAN)
    result = StepResult("a", Status.RUNNING, started_at=NOW, attempts=1)
    shown(table, picture(Status.RUNNING, a=result))
    table.event(event(Type.APPROVAL_REQUESTED, "ask", question="approve"))
    ended = picture(Status.COMPLETED, a=StepResult("a", Status.COMPLETED, NOW, NOW + timedelta(seconds=2), attempts=1))
    table.end(ended)
    table.close()
    table.close()
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.getvalue())
    assert "resilient plan approve p-1 ask --journal a/rather/long/path/to/the/journal/of/this/machine.db\n" in text
    assert re.search(r"a +running +1/1 ", text)
    assert re.search(r"a +completed +1/1 +2.00 s", text)
    assert text.rstrip().endswith("completed after 3.00 s")


def test_a_terminal_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that happens to the terminal reaches the recovery."""
    monkeypatch.setenv("TERM", "xterm")
    out = Terminal()
    table = Table(out)
    table.begin("p-1", PLAN)
    shown(table, picture(Status.RUNNING))
    out.broken = True
    shown(table, picture(Status.RUNNING))
    table.say("nobody hears this")
    table.end(picture(Status.FAILED))
    table.leave()
    table.close()
    assert "nobody" not in out.getvalue()


def on_a_terminal(*words: str, **environ: str) -> tuple[int, str]:
    """The command on a screen of 80 columns: exit code, and everything that was written to it."""
    screen, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    given = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "COLUMNS", "FORCE_COLOR")}
    command = [sys.executable, "-m", "resilient", "plan", *words]
    given |= {"TERM": "xterm", **environ}
    process = subprocess.Popen(  # noqa: S603 - this package's own command
        command, stdin=end, stdout=end, stderr=end, env=given
    )
    os.close(end)
    seen = b""
    while True:
        try:
            more = os.read(screen, 65536)
        except OSError:  # everybody at the other end has left
            break
        if not more:
            break
        seen += more
    os.close(screen)
    return process.wait(timeout=30), seen.decode()


@pytest.mark.parametrize("environ", [{}, {"NO_COLOR": "1"}])
def test_on_a_terminal(place: Place, environ: dict[str, str]) -> None:
    """On a terminal the steps are a table, in colours unless they are not wanted, and the cursor comes back."""
    place.write(plan_file("bad", {"id": "a"}, {"id": "b", "parameters": {"fail": 1}}))
    code, seen = on_a_terminal("run", "bad.json", "--executors", "ops", **environ)
    assert code == 1
    assert seen.count("\x1b[?25l") == seen.count("\x1b[?25h") > 0
    assert ("\x1b[31m" in seen) is not bool(environ)
    last = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen[seen.rindex("took") :])
    assert re.search(r"a +rolled back +1/1 ", last)
    assert re.search(r"b +failed +1/1 .*error: ConnectionError", last)
    assert "rolled back after" in last
