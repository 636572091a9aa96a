"""`resilient plan run | status | history` in one process: exit codes, what is printed, parameters, the dry run."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from .conftest import Place, plan

OPS = ("--executors", "ops")
GOOD = plan("good", {"id": "a"}, {"id": "b"})
BAD = plan("bad", {"id": "a"}, {"id": "b", "parameters": {"fail": 9}}, {"id": "c"})
WORSE = plan("worse", {"id": "a", "parameters": {"stuck": True}}, {"id": "b", "parameters": {"fail": 9}})
HOST = plan("host", {"id": "a", "parameters": {"host": "${parameters.host}"}})


def test_completed(place: Place) -> None:
    """A plan that completes ends with 0; the execution's id comes first, then a line for each event."""
    place.write(GOOD)
    code, out, err = place.call("run", "good.json", *OPS)
    assert (code, err) == (0, "")
    first, *lines, last = out.splitlines()
    assert first == f"execution {place.execution()} of good"
    assert [line.split(" s  ")[1] for line in lines] == [
        "started",
        "a: started",
        "a: completed",
        "b: started",
        "b: completed",
    ]
    assert last.startswith("completed after 0.")
    assert place.log() == ["a 1", "b 1"]


def test_failed(place: Place) -> None:
    """A plan that fails and is undone ends with 1, and says why, without control characters of others."""
    place.write(BAD)
    code, out, err = place.call("run", "bad.json", *OPS)
    assert (code, err) == (1, "")
    told = [line.split(" s  ")[-1] for line in out.splitlines()]
    assert told[4:] == [
        "b: started",
        "b: failed: ConnectionError: no answer",
        "to be undone: a",
        "a: being undone",
        "a: undone",
        told[-1],
    ]
    assert told[-1].startswith("rolled back after ")
    assert told[-1].endswith("step 'b': ConnectionError: no answer")
    assert place.log() == ["a 1", "b 1", "undo a"]


def test_rollback_failed(place: Place) -> None:
    """A plan that cannot be undone ends with 2."""
    place.write(WORSE)
    code, out, _ = place.call("run", "worse.json", *OPS)
    assert code == 2
    assert "a: could not be undone: OSError: disk full" in out
    assert out.splitlines()[-1].startswith("rollback failed after ")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["run", "none.json"], "none.json: cannot be read"),
        (["run", "good.json"], 'no executor is registered for "work"'),
        (["run", "host.json", *OPS], "no parameter 'host' was given"),
        (["run", "good.json", *OPS, "--parameters", "none.json"], "--parameters none.json: cannot be read"),
        (["run", "good.json", *OPS, "--parameters", "ops.py"], "--parameters ops.py: is not JSON"),
        (["run", "good.json", *OPS, "--parameters", "list.json"], "--parameters list.json: expected an object"),
    ],
)
def test_invalid(place: Place, words: list[str], complaint: str) -> None:
    """What cannot be run ends with 3 before anything was done."""
    place.write(GOOD, HOST)
    Path("list.json").write_text("[]", "utf-8")
    code, out, err = place.call(*words)
    assert (code, out) == (3, "")
    assert complaint in err
    assert "Traceback" not in err
    assert place.log() == []


def test_retries_are_told(place: Place) -> None:
    """A failed attempt that is followed by another says when that is."""
    retry = {"max_attempts": 3, "base_delay": 0.01}
    place.write(plan("again", {"id": "a", "parameters": {"fail": 1}, "retry_policy": retry}))
    code, out, _ = place.call("run", "again.json", *OPS)
    assert code == 0
    assert "a: attempt 1 failed: ConnectionError: no answer; again in 0.01 s" in out
    assert place.log() == ["a 1", "a 2"]


def test_json(place: Place) -> None:
    """With --json the standard output is one document, and the id goes to the standard error."""
    place.write(BAD)
    code, out, err = place.call("run", "bad.json", *OPS, "--json")
    document = json.loads(out)
    assert code == 1
    assert err == f"execution {document['execution_id']} of bad\n"
    assert document == place.status(document["execution_id"])
    assert document["status"] == "rolled_back"
    assert document["step_results"]["a"]["status"] == "rolled_back"


def test_parameters(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parameters come as text, as JSON, from a file and from the standard input; single ones win."""
    place.write(HOST)
    Path("more.json").write_text('{"host": "file", "port": 1, "tls": true}', "utf-8")
    words = ("--parameter", "host=a=b:=c", "--parameter", "port:=[5432]")
    seen = []
    monkeypatch.setattr(
        "resilient.orchestrator.RecoveryOrchestrator.start_plan",
        lambda self, plan_id, given: seen.append(given) or (_ for _ in ()).throw(KeyboardInterrupt),
    )
    place.call("run", "host.json", *OPS, "--parameters", "more.json", *words)
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"host": "stdin"}'))
    place.call("run", "host.json", *OPS, "--parameters", "-")
    assert seen == [{"host": "a=b:=c", "port": [5432], "tls": True}, {"host": "stdin"}]


def test_secrets_are_not_shown(place: Place) -> None:
    """The names of parameters are shown, and never their values."""
    place.write(HOST)
    said = [place.call("run", "host.json", *OPS, *more, "--parameter", "host=hunter2") for more in ((), ["--json"])]
    execution = place.execution()
    said += [place.call("status", execution), place.call("status", execution, "--json"), place.call("history")]
    said += [place.call("history", "--json"), place.call("run", "host.json", *OPS, "--parameter", "host=hunter2")]
    assert all(code == 0 and "hunter2" not in out + err for code, out, err in said)
    assert "given    host" in said[2][1]
    assert json.loads(said[3][1])["parameters"] == ["host"]


def test_dry_run(place: Place) -> None:
    """A dry run shows what would be, as text or JSON, and neither does anything nor makes a journal."""
    place.write(BAD)
    code, out, _ = place.call("run", "bad.json", *OPS, "--dry-run")
    assert code == 0
    assert "  c (work): Do c\n      after b\n" in out
    assert "      if it fails: undoes b, then a\n" in out
    code, out, _ = place.call("run", "bad.json", *OPS, "--dry-run", "--json")
    assert (code, json.loads(out)["groups"][2][0]["undone"]) == (0, ["b", "a"])
    assert place.log() == []
    assert not Path("recovery.db").exists()


def test_dry_run_without_parameters(place: Place) -> None:
    """Without a parameter that it needs, a dry run shows the plan, says what is missing, and ends with 3."""
    place.write(HOST)
    code, out, err = place.call("run", "host.json", *OPS, "--dry-run")
    assert code == 3
    assert "Group 1" in out
    assert "no parameter 'host' was given" in err
    assert place.call("run", "host.json", *OPS, "--dry-run", "--parameter", "host=x")[0] == 0


def test_status(place: Place) -> None:
    """The status of an execution has every step with its attempts, errors, and how it was undone."""
    place.write(BAD)
    place.call("run", "bad.json", *OPS)
    execution = place.execution()
    code, out, _ = place.call("status", execution)
    assert code == 0
    lines = out.splitlines()
    assert lines[:3] == [f"execution {execution}", "  plan     bad", "  status   rolled back"]
    cells = [line.split()[:4] for line in lines]
    assert ["a", "rolled", "back", "1/1"] in cells
    assert ["b", "failed", "1/1"] in [one[:3] for one in cells]
    assert ["c", "not", "begun"] in cells
    assert any(line.startswith("    undone at 20") for line in lines)
    assert "    error: ConnectionError: no answer" in lines
    assert any(line.startswith('    output: {"pid": ') for line in lines)
    assert all(len(line) <= 80 for line in lines)


def test_status_of_a_failed_rollback(place: Place) -> None:
    """What could not be undone says why."""
    place.write(WORSE)
    place.call("run", "worse.json", *OPS)
    assert "    not undone, 1 attempt: OSError: disk full\n" in place.call("status", place.execution())[1]


def test_history(place: Place) -> None:
    """Executions are listed newest first, of one plan if asked, page by page."""
    place.write(GOOD, BAD)
    for name in ("good", "bad", "good"):
        place.call("run", f"{name}.json", *OPS)
    assert [one["plan_id"] for one in place.history()] == ["good", "bad", "good"]
    newest, middle, oldest = (one["execution_id"] for one in place.history())
    code, out, _ = place.call("history", "good")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["execution", newest, oldest]
    out = place.call("history", "--limit", "1", "--before", newest)[1]
    assert out.splitlines()[1].split()[:4] == [middle, "bad", "rolled", "back"]
    assert out.splitlines()[-1] == f"older ones: resilient plan history --before {middle}"
    assert place.call("history", "nobody")[:2] == (0, "no executions\n")


@pytest.mark.parametrize(
    "words", [["status", "x"], ["history"], ["approve", "x", "a"], ["reject", "x", "a"], ["cancel", "x"], ["resume"]]
)
def test_no_journal(place: Place, words: list[str]) -> None:
    """Commands that look into a journal do not make one; they end with 1."""
    code, out, err = place.call(*words, "--journal", "other.db")
    assert (code, out) == (1, "")
    assert err == f"resilient plan {words[0]}: there is no journal other.db; --journal PATH says where it is\n"
    assert not Path("other.db").exists()


@pytest.mark.parametrize(
    "words", [["status", "x"], ["approve", "x", "a"], ["cancel", "x"], ["graph", "--execution", "x"]]
)
def test_unknown_execution(place: Place, words: list[str]) -> None:
    """An id that the journal does not know ends with 1."""
    place.write(GOOD)
    place.call("run", "good.json", *OPS)
    code, out, err = place.call(*words)
    assert (code, out) == (1, "")
    assert "'x'" in err
    assert "Traceback" not in err


def test_foreign_journal(place: Place) -> None:
    """A file that is no journal is refused with 1, and left as it is."""
    place.write(GOOD)
    Path("recovery.db").write_text("my diary", "utf-8")
    for words in (["run", "good.json", *OPS], ["status", "x"], ["resume"]):
        code, _, err = place.call(*words)
        assert code == 1
        assert "is not a journal" in err
    assert Path("recovery.db").read_text("utf-8") == "my diary"


def test_cancel_after_the_end(place: Place) -> None:
    """What has ended cannot be cancelled: 1, and how it ended."""
    place.write(GOOD)
    place.call("run", "good.json", *OPS)
    code, _, err = place.call("cancel", place.execution(), "--by", "me")
    assert code == 1
    assert "has ended already: completed" in err


def test_decisions_nobody_waits_for(place: Place) -> None:
    """Approving what does not wait ends with 1; a name without letters ends with 3."""
    place.write(GOOD)
    place.call("run", "good.json", *OPS)
    code, _, err = place.call("approve", place.execution(), "a", "--by", "me")
    assert (code, "does not wait for a decision" in err) == (1, True)
    code, _, err = place.call("reject", place.execution(), "a", "--by", " ")
    assert (code, "--by needs a name" in err) == (3, True)


def test_nothing_to_resume(place: Place) -> None:
    """Without unfinished executions `resume` says so, and ends with 0."""
    place.write(GOOD)
    place.call("run", "good.json", *OPS)
    assert place.call("resume") == (0, "", "there is nothing to resume\n")


def test_a_name_without_login(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the user has no login name, --by is asked for."""
    place.write(GOOD)
    place.call("run", "good.json", *OPS)

    def nobody() -> str:
        raise OSError("no username set in the environment")

    monkeypatch.setattr("getpass.getuser", nobody)
    code, _, err = place.call("approve", place.execution(), "a")
    assert (code, "say who you are with --by NAME" in err) == (3, True)
