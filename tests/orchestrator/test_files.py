"""Plans in files: read with every problem told, and written so that they read the same."""

import json
import math
import os
import subprocess
import sys
from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient.orchestrator.errors import CircularDependencyError, PlanInvalidError
from resilient.orchestrator.files import as_dict, from_dict, load
from resilient.orchestrator.model import RecoveryPlan, RecoveryStep, RecoveryStepType, RetryPolicy
from resilient.orchestrator.references import DEEPEST
from resilient.orchestrator.writing import dump

FORMATS = ("toml", "yaml", "yml", "json")

TOML = """
"$schema" = "plan.schema.json"
id = "db-outage"
name = "Database outage"
timeout = 600
max_parallel = 2

[dependencies]
restart = ["restore"]

[[steps]]
id = "restore"
name = "Restore the backup"
step_type = "database_restore"
timeout = false
rollback_step_id = "undo"
parameters = {source = "${parameters.backup}", options = [1, 2.5, true]}

[[steps]]
id = "restart"
name = "Restart the service"
step_type = "own"
critical = false

[steps.retry_policy]
max_attempts = 3
jitter = "full"

[[rollback_steps]]
id = "undo"
name = "Undo"
step_type = "custom"
"""
PLAN = RecoveryPlan(
    "db-outage",
    "Database outage",
    [
        RecoveryStep(
            "restore",
            "Restore the backup",
            RecoveryStepType.DATABASE_RESTORE,
            {"source": "${parameters.backup}", "options": [1, 2.5, True]},
            timeout=None,
            rollback_step_id="undo",
        ),
        RecoveryStep(
            "restart", "Restart the service", "own", critical=False, retry_policy=RetryPolicy(3, jitter="full")
        ),
    ],
    rollback_steps=[RecoveryStep("undo", "Undo", "custom")],
    dependencies={"restart": ["restore"]},
    timeout=600,
    max_parallel=2,
)


def written(folder, text, name="plan.toml"):
    file = folder / name
    file.write_text(text, "utf-8")
    return file


def refused(file):
    with pytest.raises(PlanInvalidError) as caught:
        load(file)
    return caught.value


def step(**more):
    return {"id": "a", "name": "A", "step_type": "custom", **more}


def data(*steps, **more):
    return {"id": "p", "name": "P", "steps": [*steps] or [step()], **more}


def said(given):
    with pytest.raises(PlanInvalidError) as caught:
        from_dict(given)
    return list(caught.value.problems)


def test_a_file_is_read(tmp_path):
    """Everything a file may say arrives in the plan, and what is left out has its default."""
    assert load(written(tmp_path, TOML)) == PLAN
    assert RecoveryPlan.load(str(tmp_path / "plan.toml")) == PLAN


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_plan_is_written(tmp_path, suffix):
    """A plan that is written reads the same, whatever the format, and a second writing changes nothing."""
    file = tmp_path / f"plan.{suffix.upper()}"
    PLAN.dump(file)
    first = file.read_bytes()
    assert load(file) == PLAN
    dump(load(file), str(file))
    assert file.read_bytes() == first
    assert os.listdir(tmp_path) == [file.name]


def test_problems_name_the_file_and_the_keys(tmp_path):
    """Every problem of a file is told at once, in reading order, with the file's name and the way there."""
    text = TOML.replace("600", "0").replace('id = "restart"', 'id = "restart"\ntimeout = "soon"\nretries = 3')
    error = refused(written(tmp_path, text.replace("max_attempts = 3", "attempts = 3").replace('name = "Undo"\n', "")))
    assert error.problems == (
        "plan.toml: timeout: expected a positive number, got 0",
        "plan.toml: steps[1].retries: unknown key; allowed: id, name, step_type, timeout, rollback_step_id, "
        "on_failure, critical, in_doubt, parameters, retry_policy",
        "plan.toml: steps[1].retry_policy.attempts: unknown key; allowed: max_attempts, base_delay, "
        "backoff_multiplier, max_delay, jitter",
        'plan.toml: steps[1].timeout: expected a positive number, got "soon"',
        "plan.toml: rollback_steps[0].name: expected text, got nothing",
    )
    assert str(error).startswith(f"{tmp_path / 'plan.toml'} is invalid: 5 problems\n  plan.toml: timeout")


def test_a_cycle_in_a_file_is_one(tmp_path):
    """Where a file's only fault is a cycle, the error is that of cycles."""
    error = refused(written(tmp_path, TOML.replace("[dependencies]", '[dependencies]\nrestore = ["restart"]')))
    assert isinstance(error, CircularDependencyError)
    assert error.problems == ("plan.toml: dependencies: cycle: restore -> restart -> restore",)


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("plan.ini", b"", "must end in .toml, .json, .yaml, .yml, to say which format it is"),
        ("plan.toml", b"id = ", "is not valid TOML: Invalid value (at end of document)"),
        ("plan.json", b"{", "is not valid JSON: Expecting property name enclosed in double quotes"),
        ("plan.json", b'{"id": 1, "id": 2}', "has the same key twice in one table: 'id'"),
        ("plan.json", b"[" * 100_000, "is nested too deeply"),
        ("plan.json", b'{"id": ' + b"1" * 5000 + b"}", "has a value that cannot be read"),
        ("plan.yaml", b"a: [", "is not valid YAML"),
        ("plan.toml", b"\xff", "is not UTF-8 (byte 0)"),
        ("plan.json", b"[1]", "expected a table with id, name and steps, got a list"),
        (
            "pyproject.toml",
            b"",
            "id: expected letters, digits, -, _ and ., beginning with none of - and ., got nothing",
        ),
    ],
)
def test_what_cannot_be_read_is_told(tmp_path, name, content, text):
    """A file that is no table, in whatever way, is told with its name."""
    (tmp_path / name).write_bytes(content)
    assert refused(tmp_path / name).problems[0].startswith(f"{name}: {text}")


def test_a_file_that_is_not_there_is_told(tmp_path):
    """A missing file is an invalid plan with the system's reason, and so is a folder."""
    assert refused(tmp_path / "none.toml").problems == ("none.toml: cannot be read: No such file or directory",)
    (tmp_path / "dir.toml").mkdir()
    assert refused(tmp_path / "dir.toml").problems == ("dir.toml: cannot be read: Is a directory",)


@pytest.mark.parametrize(
    ("given", "problems"),
    [
        (5, ["expected a table with id, name and steps, got <int>"]),
        ({}, [
            "id: expected letters, digits, -, _ and ., beginning with none of - and ., got nothing",
            "name: expected text, got nothing",
            "steps: expected at least one step, got nothing",
        ]),
        (data(stepz=1, **{"$schema": 3}), [
            "$schema: expected text, got <int>",
            "stepz: unknown key; allowed: id, name, description, timeout, max_parallel, dependencies, steps, "
            "rollback_steps",
        ]),
        (data("a"), ['steps[0]: expected a step (a RecoveryStep, in a file a table), got "a"']),
        (data(dependencies=None), ["dependencies: expected a table, got None"]),
        (data(dependencies={"a": "b"}), ['dependencies.a: expected a list of ids of steps, got "b"']),
        (data(rollback_steps={"a": 1}), ["rollback_steps: expected a list of steps, got a table"]),
        (data(step(retry_policy=[])),
         ["steps[0].retry_policy: expected a retry policy (a RetryPolicy, in a file a table), got a list"]),
        (data(step(parameters=None)), ["steps[0].parameters: expected a table, got None"]),
        (data(step(parameters={"at": date(2024, 1, 1), "n": [math.inf], "s": {1}, "t": {2: 3}})), [
            "steps[0].parameters.at: expected text, a number, true, false, None, a list or a table, got <date>; "
            "write it as text",
            "steps[0].parameters.n[0]: expected text, a number, true, false, None, a list or a table, got inf; "
            "write a finite number",
            "steps[0].parameters.s: expected text, a number, true, false, None, a list or a table, got <set>; "
            'name code as "package.module:name"',
            "steps[0].parameters.t: expected text, a number, true, false, None, a list or a table, got a table with "
            "keys that are not text; write the keys as text",
        ]),
    ],
)  # fmt: skip
def test_the_structure_is_looked_at(given, problems):
    """Values in the wrong place, keys that mean nothing, and what no file can hold are told."""
    assert [one.replace('"$schema"', "$schema") for one in said(given)] == problems


def test_no_limit_and_whole_numbers_are_read():
    """`timeout = false` and null mean no limit, and 3.0 is as good as 3, as in a JSON Schema."""
    plan = from_dict(data(step(timeout=False, retry_policy={"max_attempts": 2.0}), timeout=None, max_parallel=3.0))
    assert (plan.timeout, plan.steps[0].timeout) == (None, None)
    assert isinstance(plan.max_parallel, int)
    assert isinstance(plan.steps[0].retry_policy.max_attempts, int)


def test_a_source_stands_before_each_problem():
    """Plain data may have a source, which is named as a file is."""
    with pytest.raises(PlanInvalidError) as caught:
        from_dict(data(timeout="soon"), "journal row 3")
    assert caught.value.problems == ('journal row 3: timeout: expected a positive number, got "soon"',)


def test_a_yaml_bomb_is_told(tmp_path):
    """A file in which lists stand for lists a billion times over is refused, and does not fill the memory."""
    lines = ["id: p", "name: P", "x0: &x0 [1, 1]"]
    lines += [f"x{n}: &x{n} [*x{n - 1}, *x{n - 1}]" for n in range(1, 40)]
    lines += ["steps: [{id: a, name: A, step_type: custom, parameters: {bomb: *x39, again: *x39}}]"]
    problems = refused(written(tmp_path, "\n".join(lines), "plan.yaml")).problems
    assert len([one for one in problems if one.endswith("expected at most 100000 values in one step")]) == 1


def test_as_dict_leaves_out_defaults():
    """Plain data has what differs from the defaults, in the order of a file, and is ready for JSON."""
    plain = as_dict(PLAN)
    assert json.loads(json.dumps(plain)) == plain
    assert list(plain) == ["id", "name", "timeout", "max_parallel", "dependencies", "steps", "rollback_steps"]
    assert plain["steps"][1] == {
        "id": "restart",
        "name": "Restart the service",
        "step_type": "own",
        "critical": False,
        "retry_policy": {"max_attempts": 3, "jitter": "full"},
    }
    assert from_dict(plain) == PLAN


def test_durations_become_seconds_and_tuples_lists(tmp_path):
    """Files know numbers of seconds and lists, whatever the plan was made of."""
    steps = [RecoveryStep("a", "A", "custom", {"x": (1, RecoveryStepType.CUSTOM)}, timeout=timedelta(minutes=1))]
    RecoveryPlan("p", "P", steps, timeout=timedelta(hours=1)).dump(tmp_path / "p.toml")
    plan = load(tmp_path / "p.toml")
    assert (plan.timeout, plan.steps[0].timeout, plan.steps[0].parameters) == (3600, 60, {"x": [1, "custom"]})


def test_code_cannot_be_written(tmp_path):
    """Functions and objects in parameters are told with their places, none is shown, and no file appears."""
    ring = []
    ring.append(ring)
    plan = RecoveryPlan("p", "P", [RecoveryStep("a", "A", "custom", {"call": print, "list": [1, object()]})])
    with pytest.raises(PlanInvalidError) as caught:
        plan.dump(tmp_path / "p.json")
    assert [one.partition(":")[0] for one in caught.value.problems] == [
        "steps[0].parameters.call",
        "steps[0].parameters.list[1]",
    ]
    assert all(one.endswith('; name code as "package.module:name"') for one in caught.value.problems)
    assert os.listdir(tmp_path) == []


def test_opaque_values_may_be_put_in_other_words():
    """`opaque` is asked for each value of which there is no JSON, and for no other."""
    asked = []
    plan = RecoveryPlan("p", "P", [RecoveryStep("a", "A", "custom", {"call": print, "n": [1, math.inf, {2: 3}]})])
    plain = as_dict(plan, lambda value: asked.append(value) or "?")
    assert plain["steps"][0]["parameters"] == {"call": "?", "n": [1, "?", "?"]}
    assert asked == [print, math.inf, {2: 3}]


def test_endless_parameters_cannot_be_written():
    """Parameters that contain themselves, or are nested beyond measure, are an error and no endless loop."""
    ring, deep = {}, []
    ring["in"] = ring
    for _ in range(DEEPEST + 1):
        deep = [deep]
    with pytest.raises(PlanInvalidError) as caught:
        as_dict(RecoveryPlan("p", "P", [RecoveryStep("a", "A", "custom", {"ring": ring, "deep": deep})]))
    places, ends = zip(*(one.split(": expected ") for one in caught.value.problems), strict=True)
    assert places[0] == "steps[0].parameters.ring.in"
    assert list(ends) == [
        "no list or table that contains itself",
        f"at most {DEEPEST} lists and tables within each other",
    ]


def test_an_invalid_plan_is_not_written(tmp_path):
    """What `load` would refuse is not written in the first place, and the old file stays."""
    file = written(tmp_path, "old", "p.json")
    with pytest.raises(PlanInvalidError, match="max_parallel"):
        RecoveryPlan("p", "P", PLAN.steps, rollback_steps=PLAN.rollback_steps, max_parallel=0).dump(file)
    assert file.read_text() == "old"


def test_toml_has_no_null(tmp_path):
    """None among parameters is told for TOML with its place, and written to the other formats."""
    plan = RecoveryPlan("p", "P", [RecoveryStep("a", "A", "custom", {"x": [None]})])
    with pytest.raises(PlanInvalidError, match=r"steps\[0\]\.parameters\.x\[0\]: expected a value, got None"):
        plan.dump(tmp_path / "p.toml")
    plan.dump(tmp_path / "p.json")
    assert load(tmp_path / "p.json") == plan


def test_text_that_no_file_can_hold_is_told(tmp_path):
    """Half a character is refused without being shown where UTF-8 would have to hold it."""
    plan = RecoveryPlan("p", "P", [RecoveryStep("a", "A", "custom", {"x": "p4ss\ud800"})])
    for suffix in ("toml", "json"):
        with pytest.raises(PlanInvalidError, match="cannot hold this plan") as caught:
            plan.dump(tmp_path / f"p.{suffix}")
        assert "p4ss" not in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_what_would_read_differently_is_not_written(tmp_path, monkeypatch):
    """A writer that loses something is found out before the old file is replaced."""
    file = written(tmp_path, "old", "p.yaml")
    monkeypatch.setattr("yaml.safe_dump", lambda data, **options: json.dumps({**data, "name": "other"}))
    with pytest.raises(PlanInvalidError, match="cannot hold this plan unchanged"):
        PLAN.dump(file)
    assert file.read_text() == "old"


def test_a_suffix_says_the_format(tmp_path):
    """A file whose suffix says nothing is not written."""
    with pytest.raises(PlanInvalidError, match=r"p\.txt: must end in \.toml, \.json, \.yaml, \.yml"):
        PLAN.dump(tmp_path / "p.txt")


def test_a_file_is_replaced_with_its_rights(tmp_path):
    """A file keeps its rights and its other name; where writing fails nothing is left behind."""
    file, link = written(tmp_path, "old", "real.json"), tmp_path / "plan.json"
    file.chmod(0o640)
    link.symlink_to(file)
    PLAN.dump(link)
    assert link.is_symlink()
    assert file.stat().st_mode & 0o777 == 0o640
    assert load(file) == PLAN
    (tmp_path / "dir.json").mkdir()
    with pytest.raises(OSError, match="directory"):
        PLAN.dump(tmp_path / "dir.json")
    with pytest.raises(FileNotFoundError):
        PLAN.dump(tmp_path / "none" / "p.json")
    assert sorted(os.listdir(tmp_path)) == ["dir.json", "plan.json", "real.json"]


@pytest.mark.parametrize(
    ("module", "suffix", "said"), [("tomlkit", "toml", "writing it"), ("yaml", "yaml", "writing it")]
)
def test_a_missing_package_is_named(tmp_path, monkeypatch, module, suffix, said):
    """What is not installed is named with what to install."""
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(PlanInvalidError) as caught:
        PLAN.dump(tmp_path / f"p.{suffix}")
    assert f"{said} needs {module}, which is not installed: pip install" in str(caught.value)
    assert "resilient-toolkit[orchestrator]" in str(caught.value)


def test_reading_yaml_without_pyyaml_is_told(tmp_path, monkeypatch):
    """A YAML plan where pyyaml is missing names the extra of this package that brings it."""
    monkeypatch.setitem(sys.modules, "yaml", None)
    error = refused(written(tmp_path, "id: p", "p.yaml"))
    assert error.problems == (
        "p.yaml: reading YAML needs pyyaml, which is not installed: pip install resilient-toolkit[orchestrator]",
    )


def test_packages_are_imported_when_used():
    """Neither tomlkit, pyyaml nor pydantic are imported before a file needs them."""
    code = "import sys, resilient.orchestrator.files; print(*{'tomlkit', 'yaml', 'pydantic'} & set(sys.modules))"
    path = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=path, check=True)  # noqa: S603
    assert done.stdout == "\n"


TEXT = st.text(max_size=8).map(lambda text: text.replace("${", "$ {"))
VALUES = st.recursive(
    st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
SECONDS = st.floats(0.001, 1e6) | st.integers(1, 10**6)


@st.composite
def plans(draw):
    """Valid plans of every shape, without None among parameters, which TOML has not."""
    names = draw(
        st.lists(st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,3}", fullmatch=True), min_size=1, max_size=4, unique=True)
    )
    undo = draw(st.booleans())
    steps = [draw(steps_of(name, "undo---step" if undo and name == names[0] else None)) for name in names]
    needs = {name: draw(st.lists(st.sampled_from(names[:n]), unique=True)) for n, name in enumerate(names) if n}
    return RecoveryPlan(
        draw(st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", fullmatch=True)),
        draw(st.text(max_size=8)),
        steps,
        draw(st.text(max_size=8)),
        [draw(steps_of("undo---step", None))] if undo else (),
        needs,
        draw(st.none() | SECONDS),
        draw(st.integers(1, 99)),
    )


@st.composite
def steps_of(draw, name, undo):
    base = draw(st.floats(0, 10))
    return RecoveryStep(
        name,
        draw(st.text(max_size=8)),
        draw(st.sampled_from([RecoveryStepType.HEALTH_CHECK, "own"])),
        draw(st.dictionaries(TEXT, VALUES, max_size=3)),
        draw(st.none() | SECONDS),
        RetryPolicy(
            draw(st.integers(1, 9)), base, draw(st.floats(1, 5)),
            draw(st.none() | st.floats(base, 100)), draw(st.booleans() | st.floats(0, 1) | st.just("full")),
        ),
        undo,
        draw(st.sampled_from(["rollback", "stop", "continue"])),
        draw(st.booleans()),
        draw(st.sampled_from(["rerun", "rollback", "ask"])),
    )  # fmt: skip


@pytest.mark.parametrize("suffix", ["toml", "yaml", "json"])
@settings(max_examples=150, deadline=None)
@given(plan=plans())
def test_every_plan_comes_back(tmp_path_factory, suffix, plan):
    """What is written is what is read, for every valid plan and format."""
    file = tmp_path_factory.mktemp("plans") / f"plan.{suffix}"
    plan.dump(file)
    assert load(file) == plan
    assert from_dict(as_dict(plan)) == plan
