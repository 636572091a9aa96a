"""`resilient chaos`: runs scenarios, replays reports, lists, imports, exports, and says what cannot work."""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from resilient.cli import main
from resilient.cli.arguments import build_parser
from resilient.cli.chaos_progress import Lines, Quiet
from resilient.cli.chaos_run import _run_all, progress_for
from resilient.cli.chaos_table import Table
from resilient.testing import injection, load_scenarios
from resilient.testing.recovery.report import TestReport

CODE = """
from resilient import retry

def ask():
    return "yes"

@retry(max_attempts=5, base_delay=0.001)
def guarded():
    return ask()

def bare():
    return ask()

def hang():
    import time
    time.sleep(0.2)
"""
FAULT = {"injection_type": "network_failure", "target": "chaos_app:ask", "error_rate": 0.3}
GOOD = {
    "id": "good",
    "name": "Survives",
    "workload": "chaos_app:guarded",
    "error_injection": FAULT,
    "load": 50,
    "virtual_time": True,
    "expected_recovery": {"success_criteria": {"success_rate_threshold": 0.9}},
}
MUCH = {**FAULT, "error_rate": 0.9}
BAD = {**GOOD, "id": "bad", "name": "Does not", "workload": "chaos_app:bare", "error_injection": MUCH}
NEVER = {**GOOD, "id": "never", "error_injection": {**FAULT, "target": "chaos_app:hang"}}
LATE = {**GOOD, "id": "late", "timeout": 1.2, "observe": 9, "fault": 9}
LOST = {**GOOD, "id": "lost", "error_injection": {**FAULT, "target": "gone"}}

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with `chaos_app.py`, which is the current one, but not where Python looks for modules."""
    (tmp_path / "chaos_app.py").write_text(CODE, "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delenv("RESILIENT_ENV", raising=False)
    yield tmp_path
    sys.modules.pop("chaos_app", None)


@pytest.fixture
def call(place: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    """The command in this process: exit code, standard output, standard error."""

    def called(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = main(["chaos", *words])
        except SystemExit as left:
            code = left.code  # type: ignore[assignment]
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return called


def write(folder: Path, *tables: dict[str, Any]) -> str:
    """A file of scenarios; its name."""
    (folder / "s.json").write_text(json.dumps({"scenarios": list(tables)}), "utf-8")
    return "s.json"


# run


def test_all_pass(place: Path, call: Call) -> None:
    """Where all pass the exit code is 0, and each verdict and the sum are told."""
    code, out, err = call("run", write(place, GOOD))
    assert (code, err) == (0, "")
    assert out.startswith("running good: Survives\nSurvives (good): PASSED\n")
    assert out.endswith("1 scenario: 1 passed; resilience score 100 of 100\n")


def test_well_again_at_once(place: Path, call: Call) -> None:
    """Who is well again as soon as the fault ends needed 0 s, not what adding up moments leaves of that."""
    table = {**GOOD, "load": 30, "baseline": 0.7, "fault": 1.1, "error_injection": {**FAULT, "error_rate": 1}}
    table["expected_recovery"] = {}
    _, out, _ = call("run", write(place, table), "--report", "out/today")
    assert "  ok: recovery time: 0 s, required: " in out
    assert read(place).results[0].recovery_time == 0


def test_verdicts_are_told_apart(place: Path, call: Call) -> None:
    """Failed, timed out, inconclusive and broken scenarios are told apart, end with 1, and do not stop the others."""
    code, out, _ = call("run", write(place, LOST, BAD, LATE, NEVER, GOOD))
    assert code == 1
    for verdict in ("(bad): FAILED", "(late): TIMEOUT", "(never): INCONCLUSIVE", "(good): PASSED"):
        assert verdict in out
    assert "lost: could not be run: UnknownNameError: target='gone': no policy has this name" in out
    last = out.splitlines()[-1]
    assert last.startswith("5 scenarios: 1 passed, 1 failed, 1 timed out, 1 inconclusive, 1 could not be run; ")


def test_one_that_could_not_be_run(place: Path, call: Call) -> None:
    """A scenario that could not be run counts, even where all others pass."""
    code, out, _ = call("run", write(place, GOOD, LOST))
    assert code == 1
    assert out.splitlines()[-1].startswith("2 scenarios: 1 passed, 1 could not be run; ")


def test_some(place: Path, call: Call) -> None:
    """Only the scenarios asked for run, in the order in which they were asked for."""
    code, out, _ = call("run", write(place, BAD, GOOD, NEVER), "never", "good")
    assert code == 1
    assert re.findall(r"^running (\w+)", out, re.MULTILINE) == ["never", "good"]


def test_quiet(place: Path, call: Call) -> None:
    """--quiet tells only of what did not pass, and the sum."""
    _, out, _ = call("run", write(place, GOOD, BAD), "--quiet")
    assert "good" not in out
    assert out.startswith("Does not (bad): FAILED\n")
    assert call("run", "s.json", "good", "--quiet")[1] == "1 scenario: 1 passed; resilience score 100 of 100\n"


def test_json(place: Path, call: Call) -> None:
    """--json prints the report alone on the standard output."""
    code, out, err = call("run", write(place, GOOD), "--json")
    assert code == 0
    assert TestReport.from_json(out).results[0].scenario_id == "good"
    assert err.endswith("1 scenario: 1 passed; resilience score 100 of 100\n")


def test_reports(place: Path, call: Call) -> None:
    """--report writes all four formats into a directory that is made, and names them."""
    code, out, _ = call("run", write(place, GOOD, BAD), "--report", "out/today")
    names = {"report.html", "report.json", "report.xml", "report.md"}

    assert code == 1
    assert {one.name for one in (place / "out" / "today").iterdir()} == names
    assert {Path(one).name for one in re.findall(r"^wrote (.*)$", out, re.MULTILINE)} == names
    assert [one.source for one in read(place).results] == [GOOD, BAD]


def test_a_report_that_is_in_the_way(place: Path, call: Call) -> None:
    """A report that cannot be written costs neither the others nor the sum, but the exit code is 1."""
    (place / "out" / "today" / "report.html").mkdir(parents=True)
    code, out, err = call("run", write(place, GOOD), "--report", "out/today")

    assert code == 1
    assert re.findall(r"^wrote .*(report\.\w+)$", out, re.MULTILINE) == ["report.json", "report.xml", "report.md"]
    assert out.endswith("1 scenario: 1 passed; resilience score 100 of 100\n")
    assert re.fullmatch(r"resilient chaos run: .*report\.html cannot be written: .+\n", err)
    assert read(place).passed == 1


def read(place: Path) -> TestReport:
    return TestReport.from_json((place / "out" / "today" / "report.json").read_text("utf-8"))


def test_a_report_that_cannot_be_written(place: Path, call: Call) -> None:
    """A directory that cannot be made is told before anything runs."""
    (place / "file").touch()
    code, out, err = call("run", write(place, GOOD), "--report", "file/out")
    assert (code, out) == (1, "")
    assert err.startswith("resilient chaos run: --report file/out: cannot be made: ")


# Seeds


def faults_of(printed: str) -> list[tuple[int | str, int, int]]:
    """Seed, hits and calls of each result."""
    results = TestReport.from_json(printed).results
    return [(one.seed, one.fired, one.faults[0].calls) for one in results]


@pytest.mark.parametrize("seed", ["7", "-3"])
def test_seed(place: Path, call: Call, seed: str) -> None:
    """--seed goes before the file's own, and gives the same hits again."""
    write(place, {**GOOD, "error_injection": {**FAULT, "seed": 5}})
    first = faults_of(call("run", "s.json", "--json", f"--seed={seed}")[1])
    assert first == faults_of(call("run", "s.json", "--json", f"--seed={seed}")[1])
    assert first[0][0] == int(seed)


@pytest.mark.parametrize(
    "faults",
    [
        FAULT,
        {**FAULT, "seed": 5},
        [FAULT, {**FAULT, "injection_type": "database_timeout"}],
        [FAULT, {**FAULT, "injection_type": "database_timeout", "seed": "own"}],
        [{**FAULT, "seed": 1}, {**FAULT, "injection_type": "database_timeout"}],
    ],
    ids=["none", "own", "two", "the second has one", "the first has one"],
)
def test_the_command_in_a_result_gives_the_same(place: Path, call: Call, faults: Any) -> None:
    """What a result says to type gives the same faults again, whoever has the seeds."""
    _, out, _ = call("run", write(place, {**GOOD, "error_injection": faults}), "--json")
    (first,) = TestReport.from_json(out).results
    program, group, *words = shlex.split(first.replay)

    assert (program, group, words[:3]) == ("resilient", "chaos", ["run", "s.json", "good"])
    (second,) = TestReport.from_json(call(*words, "--json")[1]).results
    assert [(one.seed, one.fired, one.calls) for one in second.faults] == [
        (one.seed, one.fired, one.calls) for one in first.faults
    ]
    assert second.replay == first.replay


# replay


def test_replay(place: Path, call: Call) -> None:
    """A report is run again with its seeds, and verdicts and hits agree."""
    call("run", write(place, GOOD, BAD), "--report", "out/today")
    good, bad = read(place).results
    code, out, err = call("replay", "out/today/report.json")

    assert (code, err) == (0, "")
    hits = [f"hit {one.fired} of {one.faults[0].calls} calls" for one in (good, bad)]
    assert out == f"good: as recorded: passed; {hits[0]}\nbad: as recorded: failed; {hits[1]}\n"
    assert call("replay", "out/today/report.json", "bad")[1] == f"bad: as recorded: failed; {hits[1]}\n"


def test_replay_of_what_has_changed(place: Path, call: Call) -> None:
    """Where the code is another one now, the verdict differs, which is told and ends with 1."""
    call("run", write(place, BAD), "--report", "out/today")
    sys.modules.pop("chaos_app")
    (place / "chaos_app.py").write_text(CODE.replace("def bare():\n", "def bare():\n    return 'no need'\n"), "utf-8")
    code, out, _ = call("replay", "out/today/report.json", "--json")
    found = json.loads(out)

    assert code == 1
    assert found["agrees"] is False
    assert found["scenarios"][0]["recorded"]["status"] == "failed"
    assert found["scenarios"][0]["now"]["status"] == "inconclusive"
    _, out, _ = call("replay", "out/today/report.json")
    assert out.startswith("bad: NOT as recorded: inconclusive, recorded was failed; hit 0 of 0 calls, recorded were ")


def test_replay_of_what_is_not_recorded(place: Path, call: Call) -> None:
    """A scenario that is not from a file, or cannot be made any more, is told, and ends with 1."""
    call("run", write(place, GOOD), "--report", "out/today")
    file = place / "out" / "today" / "report.json"
    text = file.read_text("utf-8")
    (place / "a.json").write_text(text.replace("chaos_app:guarded", "chaos_app:gone"), "utf-8")
    content = json.loads(text)
    content["results"][0]["source"] = None
    (place / "b.json").write_text(json.dumps(content), "utf-8")

    code, out, _ = call("replay", "a.json")
    assert code == 1
    assert "good: could not be run: ConfigurationError: " in out
    code, out, _ = call("replay", "b.json")
    assert code == 1
    assert out.startswith("good: the report does not hold it; run it by: resilient chaos run s.json good --seed ")


@pytest.mark.parametrize(("text", "said"), [(None, "cannot be read: No such file"), ("{}", "report.json: report: is ")])
def test_replay_of_no_report(place: Path, call: Call, text: str | None, said: str) -> None:
    """What is no report ends with 2."""
    if text is not None:
        (place / "report.json").write_text(text, "utf-8")
    code, out, err = call("replay", "report.json")
    assert (code, out) == (2, "")
    assert said in err


def test_replay_of_a_report_with_odd_ids(place: Path, call: Call) -> None:
    """Ids of a report cannot change a terminal's colours, nor look like further lines."""
    call("run", write(place, GOOD), "--report", "out/today")
    text = (place / "out" / "today" / "report.json").read_text("utf-8")
    odd = json.dumps("\x1b[31mgood\nbad: as recorded")
    (place / "odd.json").write_text(text.replace('"scenario_id":"good"', f'"scenario_id":{odd}'), "utf-8")
    out = call("replay", "odd.json")[1]
    assert out.startswith("good bad: as recorded: as recorded: passed; ")
    assert out.count("\n") == 1
    _, _, err = call("replay", "odd.json", "gone")
    assert err.endswith("odd.json has no scenario 'gone'; it has: good bad: as recorded\n")


def test_replay_of_an_empty_report(place: Path, call: Call) -> None:
    """A report without scenarios is told to be one, and ends with 1."""
    (place / "none.json").write_text(TestReport([]).to_json(), "utf-8")
    said = "resilient chaos replay: none.json has no scenarios, so there is nothing to run again\n"
    assert call("replay", "none.json") == (1, "", said)


# list, schema, import, export


def test_list(place: Path, call: Call) -> None:
    """`list` names the scenarios with their faults."""
    two = [FAULT, {"injection_type": "latency", "target": "chaos_app:ask", "parameters": {"seconds": 1}}]
    code, out, _ = call("list", write(place, GOOD, {**BAD, "error_injection": two}))
    assert code == 0
    both = "network_failure on chaos_app:ask; latency on chaos_app:ask"
    assert out.splitlines() == [
        f"id    {'faults':{len(both)}}  name",
        f"good  {'network_failure on chaos_app:ask':{len(both)}}  Survives",
        f"bad   {both}  Does not",
    ]
    listed = json.loads(call("list", "s.json", "--json")[1])
    assert [one["id"] for one in listed] == ["good", "bad"]
    assert listed[1]["faults"] == ["network_failure on chaos_app:ask", "latency on chaos_app:ask"]


def test_schema(place: Path, call: Call) -> None:
    """`schema` prints a JSON Schema that accepts a scenario file, or writes it to a file."""
    code, out, _ = call("schema")
    assert code == 0
    jsonschema.validate({"scenarios": [GOOD, BAD]}, json.loads(out))
    assert call("schema", "--output", "schema.json")[0] == 0
    assert (place / "schema.json").read_text("utf-8") == out


EXPERIMENT = {
    "title": "Down",
    "description": "It goes down.",
    "tags": ["net"],
    "steady-state-hypothesis": {
        "title": "up",
        "probes": [
            {
                "type": "probe",
                "name": "up",
                "tolerance": "yes",
                "provider": {"type": "python", "module": "chaos_app", "func": "bare"},
            }
        ],
    },
    "method": [
        {"type": "action", "name": "hang", "provider": {"type": "python", "module": "chaos_app", "func": "hang"}}
    ],
    "rollbacks": [],
}


@pytest.mark.parametrize("name", ["s.toml", "s.yaml", "s.json"])
def test_import(place: Path, call: Call, name: str) -> None:
    """`import` writes a scenario file in the format of its suffix, and tells what was left out."""
    (place / "e.json").write_text(json.dumps(EXPERIMENT), "utf-8")
    code, out, err = call("import", "e.json", "-o", name)
    assert (code, out) == (0, "")
    assert "not carried over as it was: tags: left out, it means nothing here\n" in err
    (scenario,) = load_scenarios(name)
    assert (scenario.id, scenario.name) == ("down", "Down")
    assert json.loads(call("import", "e.json")[1])["scenarios"] == [scenario.source]


def test_what_toml_cannot_hold(place: Path, call: Call) -> None:
    """A value that a format has not is told before a file is written."""
    experiment = {**EXPERIMENT, "configuration": {"a": None}}
    (place / "e.json").write_text(json.dumps(experiment), "utf-8")
    code, _, err = call("import", "e.json", "-o", "s.toml")
    assert code == 1
    assert ".toml cannot hold this unchanged; write .json" in err
    assert not (place / "s.toml").exists()


def test_export(place: Path, call: Call) -> None:
    """`export` prints or writes an experiment, which `import` turns into the same scenario again."""
    code, out, _ = call("export", write(place, GOOD, BAD), "bad")
    assert code == 0
    assert json.loads(out)["title"] == "Does not"
    assert call("export", "s.json", "bad", "--output", "e.yaml")[0] == 0
    assert json.loads(call("import", "e.yaml")[1]) == {"scenarios": [BAD]}


# What cannot work


def deep(levels: int) -> list[Any]:
    """So many lists within each other."""
    return [] if levels == 1 else [deep(levels - 1)]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "gone.toml"], "gone.toml: cannot be read: No such file"),
        (["run", "bad.json"], "bad.json: 2 problems\n  scenarios[0].workload: is missing\n"),
        (["list", "bad.json"], "bad.json: 2 problems\n"),
        (["run", "s.json", "goood"], "s.json has no scenario 'goood'; it has: good, bad"),
        (["run", "s.json", "--seed", "x"], "argument --seed: invalid int value"),
        (["run"], "the following arguments are required: FILE\n"),
        (["replay"], "the following arguments are required: REPORT\n"),
        (["list", "lost.json"], "scenarios[0].error_injection.target: module chaos_app has no gone"),
        (["run", "skips.json"], "scenarios[0].workload: module skips cannot be imported: it raised Skipped"),
        (["export", "s.json"], "s.json has several scenarios; name one of good, bad"),
        (["export", "s.json", "good", "-o", "e.toml"], "Chaos Toolkit reads .json, .yaml and .yml"),
        (["export", "s.json", "good", "-o", "e.txt"], "must end in .toml, .json, .yaml, .yml"),
        (["import", "s.json"], "s.json: has no steady-state-hypothesis with probes"),
        (["import", "deep.json"], "deep.json: expected at most 100 lists and tables within each other"),
        (["explode"], "invalid choice: 'explode'"),
    ],
)
def test_wrong_use(place: Path, call: Call, words: list[str], said: str) -> None:
    """Wrong arguments and invalid files end with 2 and a sentence, without a stack trace."""
    (place / "bad.json").write_text('{"scenarios": [{"id": "a"}]}', "utf-8")
    (place / "skips.py").write_text("import pytest\npytest.importorskip('no_such_place')\n", "utf-8")
    for name, table in {
        "skips": {**GOOD, "workload": "skips:x"},
        "lost": {**GOOD, "error_injection": {**FAULT, "target": "chaos_app:gone"}},
    }.items():
        (place / f"{name}.json").write_text(json.dumps({"scenarios": [table]}), "utf-8")
    (place / "deep.json").write_text(json.dumps({**EXPERIMENT, "method": deep(500)}), "utf-8")
    write(place, GOOD, BAD)
    code, out, err = call(*words)
    assert (code, out) == (2, "")
    assert said in err
    assert "Traceback" not in err


@pytest.mark.parametrize("words", [["run", "s.json"], ["replay", "report.json"]])
def test_production_is_refused(place: Path, call: Call, monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    """Where the environment says production, nothing runs, with 1, unless that is said to be meant."""
    write(place, GOOD)
    call("run", "s.json", "--report", ".")
    monkeypatch.setenv("RESILIENT_ENV", "production")
    code, out, err = call(*words)

    assert (code, out) == (1, "")
    assert "RESILIENT_ENV=production: no faults are injected here; say --allow-in-production if you mean it" in err
    code, out, _ = call(*words, "--allow-in-production")
    assert code == 0
    if words[0] == "run":
        assert re.search(r"the same again: .* --allow-in-production$", out, re.MULTILINE)


def test_without_a_command(call: Call) -> None:
    """The group alone prints its help."""
    code, out, _ = call()
    assert code == 0
    assert out.startswith("usage: resilient chaos ")


def test_ctrl_c(place: Path, call: Call) -> None:
    """Ctrl-C ends with 130, and no fault is left in force."""
    (place / "chaos_app.py").write_text(CODE + "\ndef bare():\n    raise KeyboardInterrupt\n", "utf-8")
    code, _, err = call("run", write(place, {**BAD, "virtual_time": False}))
    assert code == 130
    assert "stopped by Ctrl-C" in err
    assert injection.ACTIVE == []


def test_ctrl_c_keeps_what_has_ended(place: Path, call: Call) -> None:
    """Ctrl-C does not lose the results of the scenarios that ended before: they are summed up and reported."""
    (place / "chaos_app.py").write_text(CODE + "\ndef bare():\n    raise KeyboardInterrupt\n", "utf-8")
    code, out, _ = call("run", write(place, GOOD, BAD, NEVER), "--report", "out/today")
    assert code == 130
    assert out.endswith("3 scenarios: 1 passed, 2 not run to the end; resilience score 100 of 100\n")
    assert [one.scenario_id for one in read(place).results] == ["good"]
    code, out, _ = call("run", "s.json", "--json")
    assert code == 130
    assert [one.scenario_id for one in TestReport.from_json(out).results] == ["good"]


MENDING = """
import time
from pathlib import Path

def work():
    pass

def begin():
    pass

def end():
    Path("ending").touch()
    while not Path("go").exists():
        time.sleep(0.01)
    Path("ended").touch()
"""


def appears(file: Path) -> None:
    """Return when a file is there."""
    until = time.monotonic() + 30
    while not file.exists():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize("again", [False, True])
def test_ctrl_c_while_a_fault_is_ended(place: Path, again: bool) -> None:
    """Ctrl-C lets what ends a fault finish; a second one does not, and then it is told that it was cut."""
    (place / "mending_app.py").write_text(MENDING, "utf-8")
    hooks = {"begin": "mending_app:begin", "end": "mending_app:end"}
    fault = {"injection_type": "custom", "parameters": hooks, "during": [0, 0.1]}
    write(place, {"id": "s", "workload": "mending_app:work", "error_injection": fault, "load": 50, "baseline": 0.1})
    started = subprocess.Popen(
        [sys.executable, "-m", "resilient", "chaos", "run", "s.json"], cwd=place, stderr=subprocess.PIPE, text=True
    )
    assert started.stderr is not None
    with started:
        appears(place / "ending")
        started.send_signal(signal.SIGINT)
        assert started.stderr.readline().startswith("waiting 30 s at most for what begins or ends a fault; Ctrl-C ")
        if again:
            started.send_signal(signal.SIGINT)
        else:
            (place / "go").touch()
        said = started.stderr.read()
        assert started.wait(30) == 130
    assert (place / "ended").exists() is not again
    assert ("what does that was cut" in said) is again
    assert ("nothing is left running" in said) is not again


@pytest.mark.parametrize("ignored", [False, True], ids=["in the foreground", "in the background"])
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_what_ends_a_process_ends_its_faults(place: Path, name: str, ignored: bool) -> None:
    """A process that is told to end, or loses its terminal, ends its faults first, wherever Ctrl-C is ignored, too."""
    (place / "mending_app.py").write_text(MENDING.replace("def begin():", "def begin():\n    Path('begun').touch()"))
    (place / "go").touch()
    hooks = {"begin": "mending_app:begin", "end": "mending_app:end"}
    fault = {"injection_type": "custom", "parameters": hooks}
    table = {"id": "s", "workload": "mending_app:work", "error_injection": fault, "load": 50, "baseline": 0.1}
    write(place, {**table, "fault": 40})
    number = signal.Signals[name]
    words = [sys.executable, "-m", "resilient", "chaos", "run", "s.json"]
    background = ["sh", "-c", f"trap '' INT; exec {shlex.join(words)}"]  # as a shell does it with `&`
    before = signal.signal(number, signal.SIG_DFL)  # or it is ignored where these tests run by nohup
    try:
        started = subprocess.Popen(  # noqa: S603
            background if ignored else words, cwd=place, stderr=subprocess.PIPE, text=True
        )
    finally:
        signal.signal(number, before)
    with started:
        appears(place / "begun")
        started.send_signal(number)
        said = started.communicate(timeout=30)[1]
    assert started.returncode == 128 + number
    assert said.endswith(f"resilient chaos run: stopped by {name}, nothing is left running\n")
    assert (place / "ended").exists()


def test_as_a_process(place: Path) -> None:
    """The command finds the modules beside the file it is started in, as a process of its own too."""
    write(place, GOOD)
    done = subprocess.run(
        [sys.executable, "-m", "resilient", "chaos", "run", "s.json", "--quiet"],
        cwd=place,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "1 scenario: 1 passed; resilience score 100 of 100\n"


@pytest.mark.parametrize(
    "words",
    [
        ["run", "s.json", "--json"],
        ["list", "s.json"],
        ["list", "s.json", "--json"],
        ["replay", "report.json", "--json"],
    ],
)
def test_a_document_that_cannot_be_printed(place: Path, call: Call, words: list[str]) -> None:
    """A document is what was asked for: where it is lost, as on a full disk, that is told and ends with 1."""
    call("run", write(place, GOOD), "--report", ".")
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-m", "resilient", "chaos", *words],
            cwd=place,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.endswith("resilient chaos: the output cannot be written: No space left on device\n")


def test_in_a_directory_that_is_gone(place: Path, call: Call) -> None:
    """Where the current directory has been deleted, a file that is named by its whole path works all the same."""
    write(place, GOOD)
    sys.path.insert(0, str(place))
    (place / "gone").mkdir()
    os.chdir(place / "gone")
    (place / "gone").rmdir()
    code, out, err = call("list", str(place / "s.json"))
    assert (code, err) == (0, "")
    assert out.splitlines()[1].startswith("good ")
    assert call("run", str(place / "s.json"))[0] == 0


def test_nothing_is_loaded_before_it_is_needed() -> None:
    """The parser of the command line does not bring resilient.testing along."""
    build = "from resilient.cli.arguments import build_parser; build_parser()"
    code = f"import sys; {build}; print('resilient.testing' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert found.stdout == "False\n"


# On a terminal


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_what_suits_the_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that is wide enough gets a table, all else lines, and --quiet few of them."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    assert isinstance(progress_for(Terminal(), [], quiet=False), Table)
    assert type(progress_for(io.StringIO(), [], quiet=False)) is Lines
    assert isinstance(progress_for(Terminal(), [], quiet=True), Quiet)
    monkeypatch.setenv("COLUMNS", "79")
    assert type(progress_for(Terminal(), [], quiet=False)) is Lines
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    assert type(progress_for(Terminal(), [], quiet=False)) is Lines


def test_the_table(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table has a row for each scenario, and below it what did not pass in full."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(os, "get_terminal_size", lambda *_: os.terminal_size((120, 40)))
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    assert main(["chaos", "run", write(place, GOOD, BAD, LOST)]) == 1
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())

    assert re.search(r"^good +passed +\d+ of \d+ +\d+ of \d+ .* 100 *$", shown, re.MULTILINE)
    assert re.search(r"^bad +failed +\d+ of \d+ ", shown, re.MULTILINE)
    assert re.search(r"^lost +could not be run", shown, re.MULTILINE)
    assert "Does not (bad): FAILED" in shown
    assert "Survives (good)" not in shown


def test_nothing_is_drawn_while_it_is_measured(place: Path) -> None:
    """Operations only count for the table, which is drawn between scenarios: drawing would be part of their times."""
    terminal = Terminal()
    scenarios = load_from(place)
    table = Table(terminal, scenarios)
    table.begin(scenarios[0])
    before = terminal.getvalue()
    for _ in range(100):
        table.operation("good", True)
    assert terminal.getvalue() == before != ""
    table.broken(scenarios[0], "why")
    assert "100 of 100" in terminal.getvalue()
    table.close()


def test_a_table_that_nobody_sees_any_more(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that has gone away stops no scenario, and changes no exit code."""

    class Gone(Terminal):
        def write(self, text: str) -> int:
            raise OSError("gone")

    monkeypatch.setenv("TERM", "xterm")
    scenarios = load_from(place)
    table = Table(Gone(), scenarios)
    options = argparse.Namespace(file="s.json", seed=1, allow_in_production=False)
    report, broken, stop = _run_all(scenarios, table, options)
    assert (report.passed, broken, stop) == (1, 0, None)


def load_from(place: Path) -> Any:
    write(place, GOOD)
    sys.path.insert(0, str(place))
    return load_scenarios("s.json")


# The page


PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "chaos-command.md"


def commands_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The commands below a parser."""
    groups = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
    return dict(groups[0].choices)


COMMANDS = commands_of(commands_of(build_parser())["chaos"])


def test_the_page_has_every_command() -> None:
    """The first table of the page has every command."""
    table = PAGE.read_text("utf-8").split("\n## ")[0]
    assert [one.split()[0] for one in re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)] == list(COMMANDS)


@pytest.mark.parametrize("command", [one for one in COMMANDS if one != "simulate"])
def test_the_page_has_every_option(command: str) -> None:
    """A command's table has its options, and no others."""
    table = PAGE.read_text("utf-8").split(f"| option of `{command}` |")[1].split("\n\n")[0]
    rows = [line.split("|")[1] for line in table.splitlines()[2:]]
    documented = [re.findall(r"`(--?[a-z-]+)[^`]*`", one) for one in rows]
    own = [one.option_strings for one in COMMANDS[command]._actions if one.option_strings and one.dest != "help"]
    assert sorted(documented) == sorted(own)


@pytest.mark.parametrize("command", [one for one in COMMANDS if one != "simulate"])
def test_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every command explains itself and the exit codes."""
    with pytest.raises(SystemExit) as left:
        build_parser().parse_args(["chaos", command, "--help"])
    printed = capsys.readouterr().out
    assert left.value.code == 0
    assert printed.startswith(f"usage: resilient chaos {command} ")
    assert "Exit codes: 0 all passed" in printed


def test_exit_codes_of_the_page() -> None:
    """The table of exit codes has those that `--help` tells."""
    section = PAGE.read_text("utf-8").split("\n## Exit codes")[1].split("\n## ")[0]
    epilog = COMMANDS["run"].epilog or ""
    assert re.findall(r"^\| (\d+) \|", section, re.MULTILINE) == re.findall(r"(\d+) (?:all|not|the|stopped)", epilog)


def test_list_without_a_file(call: Call) -> None:
    """Without a file, `list` names what a file can name: ready scenarios and faults, each with what it is for."""
    code, out, err = call("list")
    assert (code, err) == (0, "")
    assert "breaker_opens_and_recovers  " in out
    assert "network_failure  " in out
    known = json.loads(call("list", "--json")[1])
    assert set(known) == {"ready", "faults"}
    assert all(known["ready"].values())
    assert all(known["faults"].values())
