"""`resilient plan validate | graph | schema`, and what is wrong with arguments."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import Place, plan

GOOD = plan("good", {"id": "a"}, {"id": "b"})


def test_validate(place: Place) -> None:
    """Valid files are named with what is in them, and the exit code is 0."""
    place.write(GOOD)
    code, out, err = place.call("validate", "good.json", "--executors", "ops")
    assert (code, out, err) == (0, "good.json: valid, good, 2 steps\n", "")


def test_validate_reports_every_problem_of_every_file(place: Place) -> None:
    """One bad file does not hide another, nor one problem the next; the exit code is 3."""
    place.write(GOOD, plan("bad", {"id": "a", "timeout": "soon"}, {"id": "a"}), plan("worse"))
    code, out, err = place.call("validate", "bad.json", "good.json", "worse.json", "none.toml", "--executors", "ops")
    assert (code, out) == (3, "good.json: valid, good, 2 steps\n")
    assert 'bad.json: steps[0].timeout: expected a positive number, got "soon"' in err
    assert "bad.json: steps[1].id" in err
    assert "worse.json: steps" in err
    assert "none.toml: cannot be read" in err
    assert "Traceback" not in err


def test_validate_without_executors(place: Place) -> None:
    """A type nobody carries out is a problem, and where to name executors is said."""
    place.write(GOOD)
    code, _, err = place.call("validate", "good.json")
    assert code == 3
    assert 'good.json: steps[0].step_type: no executor is registered for "work"' in err
    assert "--executors MODULE" in err


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "there is no such module in this directory"),
        ("import nowhere_to_be_found", "cannot be imported: No module named 'nowhere_to_be_found'"),
        ("raise ValueError('bad\\nconfiguration')", "cannot be imported: ValueError: bad configuration"),
        ("raise SystemExit(0)", "cannot be imported: SystemExit: 0"),
        ("def register(:", "cannot be imported: SyntaxError"),
        ("register = 5", "has no function register(orchestrator)"),
        ("def register(orchestrator): orchestrator.register_step_executor('x', 5)", "failed: TypeError: executor=5"),
    ],
)
def test_executors_that_cannot_be_used(
    place: Place, content: str | None, complaint: str, request: pytest.FixtureRequest
) -> None:
    """What is wrong with the module is said in one line without a stack trace, and the exit code is 3."""
    module = f"broken_{abs(hash(request.node.name))}"
    if content is not None:
        Path(f"{module}.py").write_text(content, "utf-8")
    place.write(GOOD)
    code, _, err = place.call("validate", "good.json", "--executors", module)
    assert code == 3
    assert err.startswith(f"resilient plan validate: --executors {module}: ")
    assert complaint in err
    assert len(err.splitlines()) == 1


def test_graph(place: Place) -> None:
    """A plan is drawn as Mermaid, or as Graphviz text, on the screen or into a file."""
    place.write(GOOD)
    code, out, _ = place.call("graph", "good.json")
    assert (code, out.splitlines()[0]) == (0, "flowchart TD")
    code, out, _ = place.call("graph", "good.json", "--format", "dot", "--output", "good.dot")
    assert (code, out) == (0, "")
    assert Path("good.dot").read_text("utf-8").startswith("digraph plan {")


def test_graph_of_an_execution(place: Place) -> None:
    """With an execution the steps have its colours; the plan it began with is known without its file."""
    place.write(GOOD, plan("other", {"id": "a"}))
    assert place.call("run", "good.json", "--executors", "ops")[0] == 0
    execution = place.execution()
    drawn = [place.call("graph", *file, "--execution", execution) for file in ((), ("good.json",))]
    assert drawn[0] == drawn[1]
    assert "class s0,s1 completed" in drawn[0][1]
    code, _, err = place.call("graph", "other.json", "--execution", execution)
    assert code == 3
    assert "is an execution of plan 'good', not of 'other'" in err


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (["graph"], 3, "name the FILE of a plan, or an execution with --execution ID"),
        (["graph", "none.json"], 3, "none.json: cannot be read"),
        (["graph", "good.json", "--output", "no/such/directory"], 1, "no/such/directory cannot be written"),
        (["graph", "good.json", "--output", ""], 1, "--output '' is not the name of a file"),
        (["graph", "--execution", "x"], 1, "there is no journal recovery.db"),
    ],
)
def test_graph_complaints(place: Place, words: list[str], code: int, complaint: str) -> None:
    """What cannot be drawn is said, with the exit code that fits."""
    place.write(GOOD)
    found, out, err = place.call(*words)
    assert (found, out) == (code, "")
    assert complaint in err


def test_schema(place: Place) -> None:
    """The schema is printed, or written to a file, as JSON."""
    code, out, _ = place.call("schema")
    assert code == 0
    assert json.loads(out)["type"] == "object"
    assert place.call("schema", "--output", "plan.schema.json")[:2] == (0, "")
    assert json.loads(Path("plan.schema.json").read_text("utf-8")) == json.loads(out)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["dance"], "invalid choice: 'dance'"),
        (["--wrong"], "--wrong"),
        (["run"], "the following arguments are required: FILE"),
        (["run", "x", "--wrong"], "unrecognized arguments: --wrong"),
        (["run", "x", "--parameter"], "--parameter: expected one argument"),
        (["run", "x", "--parameter", "=5"], "expected KEY=VALUE or KEY:=JSON"),
        (["run", "x", "--parameter", "port:=NaN"], "port: what follows := is not JSON (NaN is not a JSON number)"),
        (["run", "x", "--lease", "0"], "expected a number of seconds, 0.1 or more, not '0'"),
        (["resume", "--wait", "nan"], "expected a number of seconds, 0 or more, not 'nan'"),
        (["history", "--limit", "0"], "expected a whole number from 1 to 1000, not '0'"),
        (["graph", "x", "--format", "png"], "invalid choice: 'png'"),
        (["status"], "the following arguments are required: EXECUTION"),
    ],
)
def test_wrong_arguments(place: Place, words: list[str], complaint: str) -> None:
    """Wrong arguments of this group end with 3, as 2 says that a rollback failed."""
    code, out, err = place.call(*words)
    assert (code, out) == (3, "")
    assert complaint in err


@pytest.mark.parametrize(
    "words",
    [
        ["run", "x", "password=hunter2"],
        ["run", "x", "--param=password=hunter2"],
        ["run", "x", "--parameter", "password:=hunter2"],
        ["run", "x", "--parameter", ":=hunter2"],
    ],
)
def test_secrets_in_wrong_arguments(place: Place, words: list[str]) -> None:
    """A value that may be a secret is not repeated when its argument is wrong."""
    code, out, err = place.call(*words)
    assert code == 3
    assert "hunter2" not in out + err


def test_alone_it_prints_help(place: Place) -> None:
    """`resilient plan` alone lists its commands."""
    code, out, _ = place.call()
    assert code == 0
    for word in ("validate", "graph", "run", "status", "history", "approve", "reject", "cancel", "resume", "schema"):
        assert f"\n    {word} " in out


def test_everything_that_is_wrong_is_told_at_once(place: Place) -> None:
    """What a file has wrong in itself, and what its executors say of it, comes in one go."""
    steps = [
        {"id": "a", "name": "A", "step_type": "nosuch", "timeout": "soon"},
        {"id": "b", "name": "B", "step_type": "health_check", "parameters": {"prot": 1}},
    ]
    text = json.dumps({"id": "p", "name": "P", "steps": steps, "dependencies": {"a": ["b"], "b": ["a"]}})
    (place.directory / "p.json").write_text(text, "utf-8")
    for words in (("validate", "p.json"), ("run", "p.json"), ("run", "p.json", "--dry-run")):
        code, _, err = place.call(*words)
        assert code == 3
        for part in ("cycle: a -> b -> a", "timeout: expected", 'no executor is registered for "nosuch"', "prot"):
            assert part in err
    assert not (place.directory / "recovery.db").exists()
