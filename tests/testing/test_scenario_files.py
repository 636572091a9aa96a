"""Scenario files: what they may hold, what is said about what they may not, and a schema that says the same."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import tomlkit
import yaml

from resilient.errors import ConfigurationError
from resilient.testing import (
    ErrorInjectionConfig,
    ErrorInjectionType,
    ExpectedRecoveryBehavior,
    InjectionTiming,
    Probe,
    RecoveryMode,
    RecoveryTestScenario,
    SuccessCriteria,
    load_scenarios,
)
from resilient.testing.files.fields import REQUIRED
from resilient.testing.files.importing import imported
from resilient.testing.files.kinds import place
from resilient.testing.files.loading import scenario_from, scenario_schema, scenarios_from
from resilient.testing.files.ready import READY
from resilient.testing.files.tables import COURSE, CRITERIA, EXPECTED, READY_SCENARIO, SCENARIO

CODE = """
from resilient import retry
from resilient.testing import Probe

hits = []

def ask():
    return "yes"

@retry(max_attempts=4, base_delay=0.001)
def work():
    return ask()

def fits(history):
    return len(history) > 0

def late(moment):
    return moment.calls > 3

def begin(): hits.append("begin")
def end(): hits.append("end")
def wrong(value): return f"not {value}"

probe = Probe("enough", "any", lambda result: (True, "fine"))
number = 3
"""
FAULT = {"injection_type": "network_failure", "target": "files_app:ask", "parameters": {"kind": "reset"}}
SMALL = {"id": "small", "workload": "files_app:work", "error_injection": FAULT}
#: Every key that there is, with another value than its default.
FULL: dict[str, Any] = {
    "id": "full",
    "name": "All of it",
    "description": "Every key",
    "workload": "files_app:work",
    "error_injection": [
        {
            **FAULT,
            "injection_timing": {"delayed": 0.2},
            "error_rate": 0.5,
            "during": [0, 2.5],
            "max_count": 9,
            "seed": 7,
        },
        {"injection_type": "corrupt_result", "target": "files_app:ask", "parameters": {"fn": "files_app:wrong"}},
        {"injection_type": "custom", "parameters": {"begin": "files_app:begin", "end": "files_app:end"}},
        {"injection_type": "latency", "target": "files_app:ask", "parameters": {"seconds": 0.1}, "seed": "text",
         "injection_timing": {"when": "files_app:late"}},
        {"injection_type": "latency", "target": "files_app:ask", "parameters": {"seconds": 0.1},
         "injection_timing": {"random": 1}},
        {"injection_type": "latency", "target": "files_app:ask", "parameters": {"seconds": 0.1},
         "injection_timing": "immediate"},
    ],
    "expected_recovery": {
        "recovery_mode": "hybrid",
        "max_recovery_time": 4,
        "success_criteria": {
            "success_rate_threshold": 0.8,
            "response_time_threshold": 0.5,
            "data_consistency_required": True,
            "tolerance": 0.2,
            "baseline_threshold": 0.9,
        },
    },
    "timeout": 20,
    "checker": "files_app:fits",
    "load": 30,
    "concurrency": 2,
    "baseline": 0.5,
    "fault": 2.5,
    "observe": 1.5,
    "steady_probes": 2,
    "recover": "files_app:end",
    "probes": ["files_app:probe"],
    "virtual_time": "auto",
    "weight": 3,
}  # fmt: skip
READY_ONE = {"id": "ready", "ready": "retry_absorbs_transient_faults", "function": "files_app:work", "weight": 2}
SCHEMA = scenario_schema()
CHECK = jsonschema.Draft202012Validator(SCHEMA)


@pytest.fixture(autouse=True)
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with the module `files_app`, which can be imported."""
    (tmp_path / "files_app.py").write_text(CODE, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in ("files_app", "lazy_app"):
        sys.modules.pop(name, None)


def write(folder: Path, suffix: str, *tables: dict[str, Any]) -> Path:
    """A file of scenarios."""
    content = {"scenarios": list(tables)}
    texts = {".toml": tomlkit.dumps, ".json": json.dumps, ".yaml": yaml.safe_dump, ".yml": yaml.safe_dump}
    file = folder / f"scenarios{suffix}"
    file.write_text(texts[suffix](content), "utf-8")
    return file


def problems(*tables: Any) -> list[str]:
    """What is said about a file with these tables."""
    with pytest.raises(ConfigurationError) as raised:
        scenarios_from({"scenarios": list(tables)}, "file")
    return [line.strip() for line in str(raised.value).splitlines()[1:]]


def changed(where: tuple[Any, ...], value: Any, base: Any = FULL) -> Any:
    """The table with another value at one place."""
    table = copy.deepcopy(base)
    inside = table
    for key in where[:-1]:
        inside = inside[key]
    inside[where[-1]] = value
    return table


# Reading


@pytest.mark.parametrize("suffix", [".toml", ".json", ".yaml", ".yml"])
def test_every_format(app: Path, suffix: str) -> None:
    """The same scenarios come out of TOML, JSON and YAML."""
    first, second = load_scenarios(write(app, suffix, SMALL, FULL))
    code = imported("files_app:work")

    assert (first.id, first.name, first.description, first.workload) == ("small", "small", "", code)
    assert first.injections[0].target == "files_app:ask"
    assert (second.id, second.name) == ("full", "All of it")


def test_every_key_arrives() -> None:
    """Each key of a file becomes the argument of the same name, and durations stay seconds."""
    found = scenario_from(FULL)
    app = sys.modules["files_app"]
    plain = ("timeout", "load", "concurrency", "baseline", "fault", "observe", "steady_probes", "weight")

    assert {name: getattr(found, name) for name in plain} == {name: FULL[name] for name in plain}
    assert (found.checker, found.recover, found.virtual_time) == (app.fits, app.end, None)
    assert found.probes == (app.probe,)
    criteria = SuccessCriteria(0.8, 0.5, True, tolerance=0.2, baseline_threshold=0.9)
    assert found.expected_recovery == ExpectedRecoveryBehavior(RecoveryMode.HYBRID, 4, criteria)


def test_every_fault_arrives() -> None:
    """Faults get their type, timing, window, count, seed, and the functions that their parameters name."""
    first, corrupt, hooks, when, random, _ = scenario_from(FULL).injections
    app = sys.modules["files_app"]

    assert first.injection_type is ErrorInjectionType.NETWORK_FAILURE
    assert (first.error_rate, first.during, first.max_count, first.seed) == (0.5, (0, 2.5), 9, 7)
    assert repr(first.injection_timing) == repr(InjectionTiming.delayed(0.2))
    assert dict(corrupt.parameters) == {"fn": app.wrong}
    assert dict(hooks.parameters) == {"begin": app.begin, "end": app.end}
    assert (when.injection_timing.predicate, when.seed) == (app.late, "text")
    assert repr(random.injection_timing) == repr(InjectionTiming.random(1))


def test_source_makes_the_scenario_again() -> None:
    """`source` is the table as plain values, from which the same scenario can be made."""
    for table in (SMALL, FULL, READY_ONE):
        found = scenario_from(table)
        assert found.source == table
        assert json.loads(json.dumps(found.source)) == table
        assert scenario_from(found.source).injections[0].target == found.injections[0].target


def test_source_is_a_copy() -> None:
    """Who changes the table afterwards does not change the scenario's."""
    table = copy.deepcopy(SMALL)
    found = scenario_from(table)
    table["error_injection"]["error_rate"] = 0.1
    assert found.source == SMALL


def test_a_scenario_from_a_file_runs(app: Path) -> None:
    """A scenario from a file meets its fault and passes where the retries absorb it."""
    table = {**SMALL, "virtual_time": True, "load": 50, "error_injection": {**FAULT, "error_rate": 0.2, "seed": 3}}
    (scenario,) = load_scenarios(write(app, ".toml", table))
    result = scenario.run()

    assert result.passed, result.explain()
    assert result.fired > 0
    assert result.source == table


def test_ready_scenarios() -> None:
    """`ready` makes one of resilient.testing.scenarios for the function, with the id and weight of the file."""
    found = scenario_from({**READY_ONE, "name": "Mine"})
    assert (found.id, found.name, found.weight) == ("ready", "Mine", 2)
    result = found.run(seed=1)
    assert result.passed, result.explain()


def test_ready_names_are_those_of_the_package() -> None:
    """Each name that `ready` may have is a function of resilient.testing.scenarios."""
    from resilient.testing import scenarios

    assert [name for name in READY if not callable(getattr(scenarios, name, None))] == []


def test_options_of_ready_scenarios() -> None:
    """An option that the ready scenario does not have is told with those that it has."""
    (line,) = problems({**READY_ONE, "options": {"sucess_rate": 3}})
    assert (
        "options of retry_absorbs_transient_faults: unknown key sucess_rate; did you mean success_rate? allowed: "
        in line
    )


def test_options_arrive() -> None:
    """Options may be lists in the place of tuples, faults in words or tables, and code by its path."""
    word = scenario_from({**READY_ONE, "options": {"fault": "database_timeout", "args": [], "virtual_time": "auto"}})
    table = scenario_from({**READY_ONE, "options": {"fault": {**FAULT, "error_rate": 0.1, "seed": 5}}})
    other = {"id": "b", "ready": "bulkhead_isolates", "function": "files_app:work"}
    code = scenario_from({**other, "options": {"bystander": "files_app:ask"}})

    assert word.injections[0].injection_type is ErrorInjectionType.DATABASE_TIMEOUT
    assert (table.injections[0].error_rate, table.injections[0].seed) == (0.1, 5)
    assert code.id == "b"
    (line,) = problems({**other, "options": {"bystander": "files_app:gone"}})
    assert line == "scenarios[0].options.bystander: module files_app has no gone"


def test_objects_by_import(app: Path) -> None:
    """`{ import = ... }` stands for an object where a text would mean itself."""
    fault = {**FAULT, "target": {"import": "files_app:ask"}}
    found = scenario_from({**SMALL, "error_injection": fault})
    assert found.injections[0].target is sys.modules["files_app"].ask


# Keys agree with the classes


@pytest.mark.parametrize(
    ("fields", "kind", "apart"),
    [
        (SCENARIO, RecoveryTestScenario, {"source"}),
        (EXPECTED, ExpectedRecoveryBehavior, set()),
        (CRITERIA, SuccessCriteria, set()),
        (imported("resilient.testing.files.faults:FAULT"), ErrorInjectionConfig, set()),
    ],
    ids=["scenario", "expected", "criteria", "fault"],
)
def test_keys_are_the_fields(fields: Any, kind: Any, apart: set[str]) -> None:
    """A file knows every field of the class, with the same default."""
    own = {one.name: one for one in dataclasses.fields(kind) if one.name not in apart}
    assert set(fields) == set(own)
    for name, one in fields.items():
        default = own[name].default
        if isinstance(one.default, (int, float)) and one.default is not REQUIRED:
            assert one.default == default, name
        if one.default is None:
            assert default in (None, dataclasses.MISSING), name


# Objections


def test_everything_wrong_is_told_at_once(app: Path) -> None:
    """A file with many faults is refused with each of them, its place, and what is allowed."""
    bad = {
        "id": "a b",
        "workload": "files_app:gone",
        "timout": 3,
        "error_injection": [{"injection_type": "netwrok_failure", "error_rate": 2, "during": [1]}],
        "expected_recovery": {"recovery_mode": "magic", "success_criteria": {"tolerance": "low"}},
        "load": 0,
        "concurrency": 1.5,
    }
    file = write(app, ".json", SMALL, bad)
    with pytest.raises(ConfigurationError) as raised:
        load_scenarios(file)
    said = str(raised.value)

    assert said.startswith(f"{file}: 10 problems\n")
    for place_, text in {
        "scenarios[1].timout": "unknown key; did you mean timeout? allowed: id, name",
        "scenarios[1].id": 'expected letters, digits, -, _ and ., not beginning with - or ., got "a b"',
        "scenarios[1].workload": "module files_app has no gone",
        "scenarios[1].error_injection[0].injection_type": "expected one of network_failure, ",
        "scenarios[1].error_injection[0].error_rate": "expected a share, a number from 0 to 1, got 2",
        "scenarios[1].error_injection[0].during": "expected two numbers of seconds, [start, end], got <list>",
        "scenarios[1].expected_recovery.recovery_mode": 'expected one of automatic, manual, hybrid, got "magic"',
        "scenarios[1].expected_recovery.success_criteria.tolerance": 'a number from 0 to 1, got "low"',
        "scenarios[1].load": "expected calls per second, a number greater than 0, got 0",
        "scenarios[1].concurrency": "expected a whole number of at least 1, got 1.5",
    }.items():
        assert any(line.strip().startswith(f"{place_}: ") and text in line for line in said.splitlines()), place_


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"id": "x"}, ["[0].workload: is missing", "[0].error_injection: is missing"]),
        ({**SMALL, "workload": "files_app"}, ['[0].workload: expected the path of code, "package.module:name"']),
        ({**SMALL, "workload": "no_such_place:work"}, ["[0].workload: module no_such_place: there is no such module"]),
        ({**SMALL, "workload": "files_app:number"}, ["[0].workload: files_app:number is a int, which cannot"]),
        ({**SMALL, "workload": "files_app:wrong"}, ["[0]: workload='wrong': must be callable with no arguments"]),
        ({**SMALL, "probes": ["files_app:number"]}, ["[0].probes[0]: expected the path of a Probe"]),
        ({**SMALL, "error_injection": []}, ["[0].error_injection: expected at least one table"]),
        ({**SMALL, "error_injection": {**FAULT, "parameters": {"kid": 1}}},
         ["[0].error_injection: parameters of network_failure: unknown key kid; did you mean kind? allowed: kind, "]),
        ({**SMALL, "error_injection": {**FAULT, "injection_type": "latency", "parameters": {}}},
         ["[0].error_injection: parameters of latency: needs seconds"]),
        ({**SMALL, "error_injection": {**FAULT, "target": "files_app:gone"}},
         ["[0].error_injection.target: module files_app has no gone"]),
        ({**SMALL, "error_injection": {**FAULT, "target": "no_such_place:ask"}},
         ["[0].error_injection.target: module no_such_place: there is no such module"]),
        ({**SMALL, "error_injection": {**FAULT, "during": [2, 1]}}, ["[0].error_injection: during="]),
        (
            {**SMALL, "error_injection": {**FAULT, "injection_timing": {"delay": 1}}},
            ["[0].error_injection.injection_timing.delay: unknown key; did you mean delayed?"],
        ),
        ({**SMALL, "expected_recovery": {"recovery_mode": "manual"}}, ["[0]: recover=None: RecoveryMode.MANUAL needs"]),
        ({**SMALL, "timeout": float("nan")}, ["[0].timeout: expected a finite number, got nan"]),
        ({**READY_ONE, "workload": "files_app:work"}, ["[0].workload: unknown key; "]),
        ({**READY_ONE, "ready": "breaker_opens"}, ["did you mean breaker_opens_and_recovers?"]),
        ("text", ["[0]: expected a table, got <str>"]),
    ],
)  # fmt: skip
def test_objections(table: Any, said: list[str]) -> None:
    """Each mistake is told where it is, with what would be right."""
    found = problems(table)
    assert len(found) == len(said)
    for line, text in zip(found, said, strict=True):
        assert text in line


def test_the_same_id_twice() -> None:
    """Two scenarios cannot have one id."""
    assert problems(SMALL, SMALL) == ['scenarios[1].id: "small" is the id of scenarios[0] already']


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([], "expected a table with a list of scenarios, got <list>"),
        ({}, "scenarios: expected a list of tables, [[scenarios]], got nothing"),
        ({"scenarios": []}, "got an empty list"),
        ({"scenarios": [SMALL], "scenario": 1}, "scenario: unknown key; did you mean scenarios?"),
        ({"scenarios": [SMALL], "$schema": 1}, '"$schema": expected text that says where the schema is, got <int>'),
    ],
)
def test_the_whole_file(content: Any, said: str) -> None:
    """What is wrong with the file as a whole is told."""
    with pytest.raises(ConfigurationError, match="1 problem") as raised:
        scenarios_from(content, "file")
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.toml", "[[scenarios]\n", "is not valid TOML: .*line 1"),
        ("a.json", "{", "is not valid JSON: .*line 1"),
        ("a.yaml", "a: [", "is not valid YAML: .*line "),
        ("a.txt", "", "must end in .toml, .json, .yaml, .yml"),
    ],
)
def test_unreadable_files(app: Path, name: str, text: str, said: str) -> None:
    """A file that cannot be parsed is named, with the line."""
    (app / name).write_text(text, "utf-8")
    with pytest.raises(ConfigurationError, match=f"{name}: {said}"):
        load_scenarios(app / name)


def test_a_missing_file(app: Path) -> None:
    """A file that is not there is an error of the configuration, which names it."""
    with pytest.raises(ConfigurationError, match=r"gone\.toml: cannot be read: No such file"):
        load_scenarios(app / "gone.toml")


def test_a_module_that_fails(app: Path) -> None:
    """A module that fails as it is imported is a problem that does not repeat what it raised."""
    (app / "failing_app.py").write_text("raise RuntimeError('password hunter2')", "utf-8")
    (line,) = problems({**SMALL, "workload": "failing_app:work"})
    assert line.endswith("module failing_app cannot be imported: it raised RuntimeError")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import pytest\npytest.skip('hunter2', allow_module_level=True)", "cannot be imported: it raised Skipped"),
        ("class Odd(BaseException): pass\nraise Odd('hunter2')", "cannot be imported: it raised Odd"),
        ("raise ModuleNotFoundError('hunter2')", "cannot be imported: it raised ModuleNotFoundError"),
        ("import no_such_place", "cannot be imported: it needs module no_such_place"),
    ],
)
@pytest.mark.parametrize("key", ["workload", "target"])
def test_a_module_that_does_not_let_itself_be_imported(app: Path, key: str, code: str, said: str) -> None:
    """Whatever a module raises as it is imported is a problem of the file, of which only the kind is told."""
    (app / "failing_app.py").write_text(code, "utf-8")
    (line,) = problems(
        {**SMALL, "workload": "failing_app:x"}
        if key == "workload"
        else {**SMALL, "error_injection": {**FAULT, "target": "failing_app:x"}}
    )
    assert line.endswith(f"{key}: module failing_app {said}")


def test_a_name_that_raises(app: Path) -> None:
    """Whatever looking a name up in a module raises is a problem of the file, of which only the kind is told."""
    (app / "lazy_app.py").write_text("def __getattr__(name):\n    raise ValueError('token=hunter2')\n", "utf-8")
    (line,) = problems({**SMALL, "workload": "lazy_app:x"})
    assert line == "scenarios[0].workload: x of module lazy_app cannot be had: it raised ValueError"


def test_ctrl_c_during_an_import(app: Path) -> None:
    """Ctrl-C while a module is imported stops the reading; it is no problem of the file."""
    (app / "stopped_app.py").write_text("raise KeyboardInterrupt", "utf-8")
    with pytest.raises(KeyboardInterrupt):
        scenarios_from({"scenarios": [{**SMALL, "workload": "stopped_app:x"}]}, "file")


@pytest.mark.parametrize("name", ["later", "shop.later", "made later"])
def test_names_of_policies_stay_open(name: str) -> None:
    """A target without a colon may be a policy that is made later, so nothing is said against it."""
    assert scenario_from({**SMALL, "error_injection": {**FAULT, "target": name}}).injections[0].target == name


def test_a_policy_named_like_a_path(app: Path) -> None:
    """A policy may be named like a path: where there is one of this name, it is the target."""
    code = "\n@retry(name='shop:payments')\ndef pay(): return 1\n"
    (app / "files_app.py").write_text(CODE + code, "utf-8")
    table = {**SMALL, "error_injection": {**FAULT, "target": "shop:payments"}}
    assert scenario_from(table).injections[0].target == "shop:payments"


def bomb(last: str) -> str:
    """YAML in which each of a few lines has nine times what the one before it has."""
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{two}: &{two} [{', '.join([f'*{one}'] * 9)}]" for one, two in itertools.pairwise("abcdefghijk")]
    return "\n".join([*lines, last])


@pytest.mark.parametrize(
    "text",
    [
        bomb("scenarios: *k"),
        bomb("scenarios: [{id: x, description: *k}]"),
        "scenarios: &a [*a, *a]",
        "scenarios:\n- &a {id: x, name: *a, description: *a}",
    ],
    ids=["scenarios", "a value", "a list that holds itself", "a table that holds itself"],
)
def test_a_few_lines_that_are_endless(app: Path, text: str) -> None:
    """A YAML file whose aliases make more of it than anybody can hold is refused at once."""
    (app / "bomb.yaml").write_text(text, "utf-8")
    with pytest.raises(ConfigurationError, match=r"bomb\.yaml: expected at most 1,000,000 values, each counted where"):
        load_scenarios(app / "bomb.yaml")


@pytest.mark.parametrize(
    "table",
    [
        {**SMALL, "hunter2": "hunter2" * 2, "pasword": "hunter2"},
        {**SMALL, "error_injection": "hunter2"},
        {**SMALL, "error_injection": {**FAULT, "parameters": "hunter2"}},
        {**SMALL, "error_injection": {"injection_type": "custom", "parameters": {"begin": "hunter2"}}},
        {**SMALL, "error_injection": {**FAULT, "parameters": {"token": "hunter2"}}},
        {**READY_ONE, "options": {"token": "hunter2"}},
    ],
)
def test_secrets_are_not_shown(table: Any) -> None:
    """Values of parameters, options and unknown keys are never part of a message."""
    assert "hunter2" not in " ".join(problems(table)).replace("scenarios[0].hunter2", "")


def test_places() -> None:
    """Places are written as people write them, keys with blanks in quotes."""
    assert place(("scenarios", 1, "error_injection", 0, "a b")) == 'scenarios[1].error_injection[0]."a b"'


# The schema


def test_the_schema_is_one() -> None:
    """The schema is valid itself, JSON-ready, and a copy."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA
    scenario_schema()["$defs"].clear()
    assert scenario_schema() == SCHEMA


@pytest.mark.parametrize("table", [SMALL, FULL, READY_ONE], ids=["small", "full", "ready"])
def test_the_schema_accepts(table: Any) -> None:
    """What the loader takes, the schema takes."""
    assert list(CHECK.iter_errors({"$schema": "here", "scenarios": [table]})) == []


def places(value: Any, where: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a table."""
    if where:
        yield where
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inside:
        yield from places(one, (*where, key))


ODD = [None, True, False, "auto", "x", "files_app:begin", "", -1, 0, 0.5, 1, 2.0, 1e300, [], [1, 2], {}, {"x": 1}]
#: Below these a file names code, or what only the fault itself knows.
DEEPER = {"parameters", "options", "target", "workload", "checker", "recover", "probes", "when", "function"}


def agrees(table: Any, where: tuple[Any, ...]) -> None:
    """The loader takes what the schema takes; it may refuse more where it knows more."""
    try:
        scenarios_from({"scenarios": [table]}, "file")
        said = ""
    except ConfigurationError as error:
        said = str(error)
    valid = CHECK.is_valid({"scenarios": [table]})
    if valid and said:
        # Only what concerns several keys together, which a schema does not see.
        lines = [line.strip() for line in said.splitlines()[1:]]
        together = ("scenarios[0]: ", "scenarios[0].error_injection: ", "scenarios[0].error_injection[")
        known = all(line.startswith(together) and "expected" not in line for line in lines)
        assert known or DEEPER & set(where), f"{where}: the loader refuses what the schema takes: {said}"
    assert valid or said, f"{where}: the schema refuses what the loader takes"


@pytest.mark.parametrize("base", [FULL, SMALL, READY_ONE], ids=["full", "small", "ready"])
def test_the_schema_and_the_loader_agree(base: Any) -> None:
    """Whatever stands at whatever place, both say the same about it; so for a key that is missing or unknown."""
    count = 0
    for where in places(base):
        for value in ODD:
            agrees(changed(where, value, base), where)
            count += 1
        table = copy.deepcopy(base)
        inside = table
        for key in where[:-1]:
            inside = inside[key]
        del inside[where[-1]]
        agrees(table, where)
        if isinstance(where[-1], str) and not DEEPER & set(where):
            agrees(changed((*where[:-1], f"{where[-1]}x"), 1, base), where)
    assert count > 60


def test_every_key_is_described() -> None:
    """Each key of the schema has a description, for editors."""
    forms = SCHEMA["$defs"]
    assert [key for form in forms.values() for key, one in form["properties"].items() if not one["description"]] == []
    assert set(COURSE) <= set(forms["scenario"]["properties"])
    assert set(READY_SCENARIO) == set(forms["ready"]["properties"])


def test_the_probe_is_public() -> None:
    """What `probes` names is the class that resilient.testing exports."""
    assert inspect.isclass(Probe)
    assert isinstance(imported("files_app:probe"), Probe)
