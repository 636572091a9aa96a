"""`resilient plan` across processes: decisions, cancellations, deaths, Ctrl-C, and readers that go away."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time

import pytest

from .conftest import Place, plan, until

OPS = ("--executors", "ops")
ASKS = plan("asks", {"id": "a"}, {"id": "switch", "step_type": "approval"}, {"id": "b"})
SLOW = plan("slow", {"id": "a"}, {"id": "b", "parameters": {"until": "go"}}, {"id": "c"})
SLOW_BACK = plan(
    "slow-back", {"id": "a", "parameters": {"undo_until": "go"}}, {"id": "b", "parameters": {"until": "no"}}
)
QUICK = ("--lease", "0.3")


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err


def read_until(process: subprocess.Popen[str], text: str) -> list[str]:
    """The lines that a process writes, up to one with this text."""
    assert process.stdout is not None
    lines = [""]
    while text not in lines[-1]:
        lines.append(process.stdout.readline())
        assert lines[-1], "it ended, or closed its output, before that"
    return lines[1:]


def run_until(place: Place, file: str, logged: str, *more: str) -> subprocess.Popen[str]:
    """A plan under way, whose step has left this line."""
    process = place.start("run", file, *OPS, *more)
    until(lambda: logged in place.log())
    return process


def killed(place: Place, file: str, logged: str) -> str:
    """The execution that a killed process has left behind."""
    process = run_until(place, file, logged, *QUICK)
    process.kill()
    process.communicate()
    return place.execution()


def typed(place: Place, line: str) -> str:
    """Run a command as it was printed for people."""
    words = line.split()
    assert words[:2] == ["resilient", "plan"]
    code, out, err = place.call(*words[2:])
    assert code == 0, err
    return out


@pytest.mark.parametrize("answer", ["approve", "reject"])
def test_a_decision_from_another_process(place: Place, answer: str) -> None:
    """The command that `run` prints for a decision works as it is printed; the status says who, when and why."""
    place.write(ASKS)
    process = place.start("run", "asks.json", *OPS, "--journal", "my journal.db")
    lines = read_until(process, "resilient plan reject")
    execution = lines[0].split()[1]
    line = next(one for one in lines if f"resilient plan {answer}" in one)
    assert line.split() == ["resilient", "plan", answer, execution, "switch", "--journal", "'my", "journal.db'"]
    words = ("--journal", "my journal.db")
    shown = place.call("status", execution, *words)[1]
    assert "\nswitch: waits for approval until 20" in shown
    assert line.strip() in shown
    code, out, _ = place.call(answer, execution, "switch", *words, "--by", "alice", "--note", "as agreed")
    assert (code, out.splitlines()[0]) == (
        0,
        f"switch of {execution}: {'approved' if answer == 'approve' else 'rejected'} by alice",
    )
    code, out, _ = ended(process)
    assert code == (0 if answer == "approve" else 1)
    shown = place.call("status", execution, *words)[1]
    assert "by alice" in shown
    assert "as agreed" in shown
    assert ("    approved by alice at 20" in shown) is (answer == "approve")


def test_a_decision_by_the_login_name(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who decides is the login name, unless it is said."""
    monkeypatch.setenv("LOGNAME", "carol")
    place.write(ASKS)
    process = place.start("run", "asks.json", *OPS, "--json")
    assert process.stderr is not None
    lines = [process.stderr.readline() for _ in range(3)]
    assert typed(place, lines[2]).endswith(f"switch of {lines[0].split()[1]}: approved by carol\n")
    code, out, _ = ended(process)
    assert (code, json.loads(out)["step_results"]["switch"]["output"]["by"]) == (0, "carol")


def test_cancel_from_another_process(place: Place) -> None:
    """A cancelled execution stops, undoes what was done, and its process ends with 1."""
    place.write(SLOW)
    process = run_until(place, "slow.json", "b 1")
    execution = place.execution()
    code, out, _ = place.call("cancel", execution, "--reason", "wrong database", "--by", "alice")
    assert code == 0
    assert out.splitlines() == [
        f"{execution}: asked to stop by alice, and to undo what was done",
        f"see resilient plan status {execution}",
    ]
    code, out, _ = ended(process)
    assert code == 1
    assert "cancelled by alice: wrong database" in out
    assert place.status(execution)["status"] == "cancelled"
    assert place.log() == ["a 1", "b 1", "undo a"]


def test_cancel_without_rollback(place: Place) -> None:
    """With --no-rollback what was done stays."""
    place.write(SLOW)
    process = run_until(place, "slow.json", "b 1")
    assert place.call("cancel", place.execution(), "--no-rollback")[0] == 0
    assert ended(process)[0] == 1
    assert place.log() == ["a 1", "b 1"]


def test_kill_and_resume(place: Place) -> None:
    """After a kill -9, `resume` waits for the lease, runs no completed step again, and brings the plan to its end."""
    place.write(SLOW)
    execution = killed(place, "slow.json", "b 1")
    place.touch("go")
    code, out, _ = place.call("resume", *OPS, *QUICK)
    assert code == 0
    assert f"execution {execution} of slow" in out
    assert "taken over from a process that is gone" in out
    assert out.splitlines()[-1].startswith("completed after ")
    assert place.log() == ["a 1", "b 1", "b 1", "c 1"]


def test_what_is_said_after_a_kill(place: Place) -> None:
    """Whoever looks, decides, cancels or starts again after a kill is told to resume."""
    place.write(SLOW)
    execution = killed(place, "slow.json", "b 1")
    code, out, _ = place.call("status", execution)
    assert code == 0
    assert out.splitlines()[-2].endswith(", which carried it out, is gone; go on with")
    assert out.splitlines()[-1] == "  resilient plan resume"
    code, _, err = place.call("run", "slow.json", *OPS)
    assert code == 1
    assert f"is being carried out as execution {execution}" in err
    assert err.splitlines()[-1] == "(if that process is gone: resilient plan resume)"
    out = place.call("cancel", execution, "--by", "me")[1]
    assert out.splitlines()[-1] == "  resilient plan resume"
    code, out, _ = place.call("resume", *OPS, *QUICK)
    assert (code, out.splitlines()[-1].split(" after ")[0]) == (1, "cancelled")
    assert place.log() == ["a 1", "b 1", "undo a"]


def test_resume_without_executors(place: Place) -> None:
    """Where an executor is missing, `resume` leaves the execution alone, says so, and ends with 3."""
    place.write(SLOW)
    execution = killed(place, "slow.json", "b 1")
    code, _, err = place.call("resume", *QUICK)
    assert code == 3
    assert execution in err
    assert "no executor is registered for 'work'" in err
    assert "--executors MODULE" in err
    assert place.status(execution)["status"] == "running"


def test_resume_leaves_the_living_alone(place: Place) -> None:
    """An execution of a living process is left to it."""
    place.write(SLOW)
    process = run_until(place, "slow.json", "b 1")
    execution = place.execution()
    code, out, err = place.call("resume", *OPS, "--wait", "0.1")
    assert code == 0
    assert out == f"waiting up to 0.1 s for the lease of {execution} to end\n"
    assert err.startswith("left alone, as a living process has it")
    place.touch("go")
    assert ended(process)[0] == 0


def test_resume_asks_again(place: Place) -> None:
    """A step in doubt that a person has to decide about is explained, with the command to type."""
    asks = {"id": "b", "in_doubt": "ask", "parameters": {"until": "go"}}
    place.write(plan("doubt", {"id": "a"}, asks))
    execution = killed(place, "doubt.json", "b 1")
    place.touch("go")
    process = place.start("resume", *OPS, *QUICK)
    until(lambda: place.status(execution)["waiting_for"] == ["b"])
    shown = place.call("status", execution)[1]
    assert "b: was under way when its process died; approve runs it again, reject undoes it" in shown
    assert place.call("approve", execution, "b")[0] == 0
    code, out, _ = ended(process)
    assert code == 0
    assert f"resilient plan approve {execution} b" in out


def test_resume_tells_what_was_asked_before(place: Place) -> None:
    """A decision that a dead process has asked for is asked for again by the one that takes over."""
    place.write(ASKS)
    process = place.start("run", "asks.json", *OPS, *QUICK)
    until(lambda: (place.directory / "recovery.db").exists() and [one for one in place.history() if one["waiting_for"]])
    process.kill()
    process.communicate()
    execution = place.execution()
    process = place.start("resume", *OPS, *QUICK)
    typed(place, read_until(process, "resilient plan approve")[-1])
    assert ended(process)[0] == 0
    assert place.status(execution)["status"] == "completed"


def test_ctrl_c(place: Place) -> None:
    """The first Ctrl-C cancels, says so, and waits for the rollback; the exit code is 1."""
    place.write(SLOW)
    process = run_until(place, "slow.json", "b 1")
    process.send_signal(signal.SIGINT)
    code, out, err = ended(process)
    assert (code, err) == (1, "")
    assert "Ctrl-C: cancelled, what was done is being undone; Ctrl-C again leaves at once" in out
    assert place.log() == ["a 1", "b 1", "undo a"]
    assert place.history()[0]["status"] == "cancelled"
    assert place.history()[0]["reason"] == "Ctrl-C"


def test_a_second_ctrl_c(place: Place) -> None:
    """The second Ctrl-C leaves at once, and `resume` goes on with the rollback without waiting for a lease."""
    place.write(SLOW_BACK)
    process = run_until(place, "slow-back.json", "b 1", "--lease", "60")
    process.send_signal(signal.SIGINT)
    until(lambda: "undo a" in place.log())
    end = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < end:
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
    code, _, err = ended(process)
    assert code == 130
    assert err.splitlines() == ["left at once, half-way; go on with", "  resilient plan resume --executors ops"]
    assert place.history()[0]["status"] == "rolling_back"
    place.touch("go")
    code, out, _ = place.call("resume", *OPS, "--wait", "0")
    assert code == 1
    assert out.splitlines()[-1].startswith("cancelled after ")


def test_a_reader_that_goes_away(place: Place) -> None:
    """A recovery goes on, and keeps its exit code, when nobody reads its output any more (`run | head -1`)."""
    place.write(SLOW)
    process = run_until(place, "slow.json", "b 1")
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    place.touch("go")
    code, _, err = ended(process)
    assert (code, err) == (0, "")
    assert place.log()[-1] == "c 1"


def test_a_full_disk_for_the_output(place: Place) -> None:
    """Nor does an output that cannot be written stop a recovery."""
    place.write(plan("good", {"id": "a"}))
    command = f"{shlex.quote(sys.executable)} -m resilient plan run good.json --executors ops > /dev/full"
    done = subprocess.run(["/bin/sh", "-c", command], stderr=subprocess.PIPE, text=True, check=False)  # noqa: S603 - this package's own command
    assert (done.returncode, done.stderr) == (0, "")
    assert place.log() == ["a 1"]


def test_an_output_that_knows_no_letters(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that the output cannot spell are written another way."""
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    place.write(plan("good", {"id": "a", "name": "漢"}))
    code, out, _ = ended(place.start("run", "good.json", *OPS, "--dry-run"))
    assert (code, "a (work): \\u6f22" in out) == (0, True)


def frozen_and_replaced(place: Place) -> tuple[subprocess.Popen[str], subprocess.Popen[str]]:
    """A process that was frozen past its lease, and the one that has taken its execution over."""
    place.write(SLOW)
    frozen = run_until(place, "slow.json", "b 1", *QUICK)
    os.kill(frozen.pid, signal.SIGSTOP)
    second = place.start("resume", *OPS, *QUICK)
    until(lambda: place.log().count("b 1") == 2)
    return frozen, second


def test_a_process_that_was_frozen(place: Place) -> None:
    """A process whose execution was taken over says that it has let go, and ends with 1; the other one goes on."""
    frozen, second = frozen_and_replaced(place)
    os.kill(frozen.pid, signal.SIGCONT)
    code, out, _ = ended(frozen)
    assert code == 1
    assert out.splitlines()[-1] == f"{place.execution()} is not carried out by this process any more (it is running)"
    place.touch("go")
    assert ended(second)[0] == 0
    assert place.log()[-1] == "c 1"


def test_a_process_that_was_frozen_until_the_end(place: Place) -> None:
    """A process that wakes after another has ended its execution tells that end."""
    frozen, second = frozen_and_replaced(place)
    place.touch("go")
    assert ended(second)[0] == 0
    os.kill(frozen.pid, signal.SIGCONT)
    code, out, _ = ended(frozen)
    assert (code, out.splitlines()[-1].split(" after ")[0]) == (0, "completed")
    assert place.log().count("c 1") == 1
