"""Chaos Toolkit: its experiments as scenarios, and scenarios as experiments that its own command runs."""

from __future__ import annotations

import copy
import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from resilient.errors import ConfigurationError
from resilient.testing import InjectionRefusedError, RecoveryTestFramework, faults, inject
from resilient.testing import chaostoolkit as toolkit
from resilient.testing import chaostoolkit_experiment as experiments
from resilient.testing.files.importing import imported
from resilient.testing.files.loading import scenario_from

ROOT = Path(__file__).parents[2]
CODE = """
import time

import os
from resilient import retry

done = []
state = {"up": True, "seen": None, "wait": 0}

def ask():
    return "yes"

@retry(max_attempts=4, base_delay=0.001)
def guarded():
    return ask()

def bare():
    return ask()

async def later():
    return ask()

def is_up(): return state["up"]
def down(configuration, secrets):
    state["seen"] = (configuration, secrets)
    state["up"] = False
    done.append("down")
def up():
    state["up"] = True
    done.append("up")
def slow():
    time.sleep(0.15)
    done.append("slow")
def fails(): raise OSError("disk full")
"""


def activity(kind: str, function: str, **more: Any) -> dict[str, Any]:
    """An activity that calls a function of the module."""
    provider = {"type": "python", "module": "toolkit_app", "func": function}
    provider |= {"secrets": ["vault"]} if function == "down" else {}
    return {"type": kind, "name": function, "provider": provider, **more}


EXPERIMENT: dict[str, Any] = {
    "version": "1.0.0",
    "title": "What if it goes down?",
    "description": "It comes back.",
    "configuration": {"host": {"type": "env", "key": "TOOLKIT_HOST", "default": "nowhere"}},
    "secrets": {"vault": {"token": {"type": "env", "key": "TOOLKIT_TOKEN"}}},
    "steady-state-hypothesis": {"title": "It is up.", "probes": [activity("probe", "is_up", tolerance=True)]},
    "method": [activity("action", "down", pauses={"after": 0.1})],
    "rollbacks": [activity("action", "up")],
}
FAULT = {"injection_type": "network_failure", "target": "toolkit_app:ask", "error_rate": 0.3, "seed": 4}
GOOD = {
    "id": "good",
    "workload": "toolkit_app:guarded",
    "error_injection": FAULT,
    "load": 50,
    "virtual_time": True,
    "expected_recovery": {"success_criteria": {"success_rate_threshold": 0.9}},
}
BAD = {**GOOD, "id": "bad", "workload": "toolkit_app:bare", "error_injection": {**FAULT, "error_rate": 0.9}}


@pytest.fixture(autouse=True)
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with the module `toolkit_app`, which is the current one."""
    (tmp_path / "toolkit_app.py").write_text(CODE, "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setenv("TOOLKIT_TOKEN", "hunter2")
    yield tmp_path
    sys.modules.pop("toolkit_app", None)
    toolkit._passed.clear()


def changed(**more: Any) -> dict[str, Any]:
    """The experiment with other parts."""
    return {**copy.deepcopy(EXPERIMENT), **more}


def write(folder: Path, experiment: Any, suffix: str = ".json") -> Path:
    file = folder / f"experiment{suffix}"
    text = json.dumps(experiment) if suffix == ".json" else yaml.safe_dump(experiment)
    file.write_text(text, "utf-8")
    return file


def quick(source: dict[str, Any], **more: Any) -> Any:
    """The scenario, with times that a test has."""
    return scenario_from({**source, "baseline": 0.1, "fault": 0.3, "load": 50, **more})


# Import


@pytest.mark.parametrize("suffix", [".json", ".yaml"])
def test_an_experiment_becomes_a_scenario(app: Path, suffix: str) -> None:
    """Title, description and pauses become settings of the scenario, and the experiment is kept in it."""
    source, notes = toolkit.import_experiment(write(app, EXPERIMENT, suffix))
    found = scenario_from(source)

    assert (found.id, found.name, found.description) == ("what-if-it-goes-down", EXPERIMENT["title"], "It comes back.")
    assert found.fault == pytest.approx(0.1 + toolkit.FAULT_PHASE)
    assert found.timeout > found.expected_recovery.max_recovery_time
    assert notes == ()
    assert json.loads(json.dumps(found.source)) == source


def test_it_runs(app: Path) -> None:
    """The hypothesis is the workload, the method breaks it, the rollbacks mend it, and the recovery is measured."""
    source, _ = toolkit.import_experiment(write(app, EXPERIMENT))
    result = quick(source).run()
    done = imported("toolkit_app:done")

    assert result.passed, result.explain()
    assert done == ["down", "up"]
    assert 0 < result.success_rate < 1
    assert result.recovery_time is not None
    assert "SteadyStateError: probe 'is_up': outside its tolerance" in result.error_logs[0]


def test_configuration_and_secrets_are_resolved(app: Path) -> None:
    """Activities get the configuration and the secrets that the environment has, and no report has them."""
    source, _ = toolkit.import_experiment(write(app, EXPERIMENT))
    result = quick(source).run()

    assert imported("toolkit_app:state")["seen"] == ({"host": "nowhere"}, {"token": "hunter2"})
    assert "hunter2" not in result.explain() + json.dumps(result.source)


def test_without_a_rollback_it_does_not_recover(app: Path) -> None:
    """What nobody mends fails the scenario."""
    source, notes = toolkit.import_experiment(write(app, changed(rollbacks=[])))
    result = quick(source, observe=0.2).run()

    assert result.status.value == "failed"
    assert notes == ("no rollbacks: what the method breaks has to mend itself",)


def test_pauses_are_honoured(app: Path) -> None:
    """The method waits as long as its pauses say."""
    source, _ = toolkit.import_experiment(write(app, EXPERIMENT))
    begin = scenario_from(source).injections[0].parameters["begin"]
    started = time.monotonic()
    begin()
    assert time.monotonic() - started >= 0.1


def test_background_activities_go_on_beside_the_others(app: Path) -> None:
    """A background activity does not hold up the next one, and the end waits for it before the rollbacks."""
    method = [activity("action", "slow", background=True), activity("action", "down")]
    source, notes = toolkit.import_experiment(write(app, changed(method=method)))
    parameters = scenario_from(source).injections[0].parameters
    parameters["begin"]()
    parameters["end"]()

    assert imported("toolkit_app:done") == ["down", "slow", "up"]
    assert notes == ("background activity 'slow': the end of the fault waits for it",)


def test_references_are_followed(app: Path) -> None:
    """A reference stands for the activity with that name; one to nowhere is refused."""
    method = [activity("action", "down"), {"ref": "is_up"}]
    source, _ = toolkit.import_experiment(write(app, changed(method=method)))
    scenario_from(source).injections[0].parameters["begin"]()

    assert imported("toolkit_app:done") == ["down"]
    with pytest.raises(ConfigurationError, match="method refers to 'gone', and no activity has this name"):
        toolkit.import_experiment(write(app, changed(method=[{"ref": "gone"}])))


@pytest.mark.parametrize("part", ["method", "rollbacks"])
def test_a_failing_action_is_an_error(app: Path, part: str) -> None:
    """An action that fails is not passed over in silence; what it said is told."""
    source, _ = toolkit.import_experiment(write(app, changed(**{part: [activity("action", "fails")]})))
    with pytest.raises(experiments.ActivityFailedError, match=r"action 'fails' of the experiment failed: .*disk full"):
        quick(source).run()


def test_a_failing_probe_of_the_method_only_looks(app: Path) -> None:
    """A probe in the method that fails keeps nothing from going on."""
    method = [activity("probe", "fails"), activity("action", "down")]
    source, notes = toolkit.import_experiment(write(app, changed(method=method)))
    scenario_from(source).injections[0].parameters["begin"]()

    assert imported("toolkit_app:done") == ["down"]
    assert notes == ("'fails' in the method: carried out, but its answer is not recorded",)


def test_what_is_lost_is_told(app: Path) -> None:
    """Controls, tags, strategies and pauses that are not numbers are named."""
    control = [{"name": "c", "provider": {"type": "python", "module": "toolkit_app"}}]
    method = [activity("action", "down", controls=control, pauses={"before": "${wait}"})]
    more: dict[str, Any] = {"configuration": {"wait": 0.01}, "controls": control, "tags": ["a"]}
    runtime = {"rollbacks": {"strategy": "always"}}
    source, notes = toolkit.import_experiment(write(app, changed(method=method, runtime=runtime, **more)))

    assert notes == (
        "controls of the experiment: left out",
        "controls of activity 'down': left out",
        "runtime: left out, it means nothing here",
        "tags: left out, it means nothing here",
        "pause before 'down': not a number, so add its seconds to `fault` and `timeout`",
    )
    assert "controls" not in json.dumps(source)
    scenario_from(source)


@pytest.mark.parametrize(
    ("experiment", "said"),
    [
        ([], "expected an experiment of Chaos Toolkit, got <list>"),
        ({}, "has no steady-state-hypothesis with probes"),
        (changed(method=[]), "has no method with activities"),
        (changed(title=""), "is not valid: experiment requires a title"),
        (changed(method=[activity("action", "gone")]), "is not valid: .*gone"),
        (changed(configuration={"a": {"type": "env", "key": "NOT_SET"}}), "is not valid: .*NOT_SET"),
        (changed(method=["text"]), "is not valid: "),
    ],
)
def test_what_cannot_be_imported(app: Path, experiment: Any, said: str) -> None:
    """What is no experiment, or one that could not be carried out, is refused with the file's name."""
    with pytest.raises(ConfigurationError, match=rf"experiment\.json: {said}"):
        toolkit.import_experiment(write(app, experiment))


def test_controls_in_a_scenario_file_are_refused() -> None:
    """An experiment in a scenario file cannot have controls, as nothing would carry them out."""
    experiment = {key: one for key, one in EXPERIMENT.items() if key != "version"}
    experiment["controls"] = [{"name": "c", "provider": {"type": "python", "module": "toolkit_app"}}]
    with pytest.raises(ConfigurationError, match="experiment: has controls, which are not carried out: the experiment"):
        scenario_from({"id": "a", "experiment": experiment})


def test_without_chaostoolkit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Chaos Toolkit is not installed, a scenario with an experiment says what to install."""
    monkeypatch.setitem(sys.modules, "chaoslib", None)
    for name in [one for one in sys.modules if one.startswith("chaoslib.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ConfigurationError, match=r"pip install resilient-toolkit\[chaostoolkit\]"):
        scenario_from({"id": "a", "experiment": EXPERIMENT})


def test_it_is_not_imported_before_it_is_needed() -> None:
    """Neither Chaos Toolkit's library nor requests come along with scenario files and exports."""
    code = (
        "import sys, resilient.testing.files.loading, resilient.testing.chaostoolkit; "
        "print(*{'chaoslib', 'requests'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S603
    assert found.stdout.strip() == ""


# Export


def test_an_exported_scenario_comes_back(app: Path) -> None:
    """Importing what was exported gives the table of the scenario it was made of, whatever that is."""
    foreign, _ = toolkit.import_experiment(write(app, EXPERIMENT))
    for table in (GOOD, BAD, foreign):
        exported = toolkit.export_experiment(scenario_from(table))
        back, notes = toolkit.import_experiment(write(app, exported))
        assert back == table
        assert notes == ()
        assert toolkit.export_experiment(scenario_from(back)) == exported


def test_the_seed_of_an_exported_scenario_is_told(app: Path) -> None:
    """A seed that an experiment was exported with is not lost unsaid."""
    exported = toolkit.export_experiment(scenario_from(GOOD), seed=3)
    assert exported["method"][0]["provider"]["arguments"]["seed"] == 3
    _, notes = toolkit.import_experiment(write(app, exported))
    assert notes == ("seed 3: a scenario has none as a whole; say --seed where it runs",)


def test_only_what_a_file_holds_can_be_exported() -> None:
    """A scenario that was written in Python has no plain values to export."""
    with pytest.raises(ConfigurationError, match="scenario 'good' is not from a file"):
        toolkit.export_experiment(dataclasses.replace(scenario_from(GOOD), source=None))


def chaos(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command of Chaos Toolkit."""
    program = "from chaostoolkit.cli import cli; cli()"
    return subprocess.run(  # noqa: S603 - a command of the tests' own environment
        [sys.executable, "-c", program, "--no-version-check", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": "", "PYTHONPATH": str(ROOT), "HOME": str(folder), "TOOLKIT_TOKEN": "x"},
    )


def test_the_command_validates_what_is_exported(app: Path) -> None:
    """`chaos validate` accepts an exported experiment."""
    file = write(app, toolkit.export_experiment(scenario_from(GOOD)))
    done = chaos(app, "validate", str(file))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("table", "code", "deviated"), [(GOOD, 0, False), (BAD, 1, True)], ids=["good", "bad"])
def test_the_command_runs_what_is_exported(app: Path, table: dict[str, Any], code: int, deviated: bool) -> None:
    """`chaos run` ends with 0 where the scenario passes, and deviates with 1 where it does not."""
    file = write(app, toolkit.export_experiment(scenario_from(table)))
    done = chaos(app, "run", str(file))
    journal = json.loads((app / "journal.json").read_text("utf-8"))

    assert done.returncode == code, done.stdout + done.stderr
    assert journal["deviated"] is deviated
    assert [one["status"] for one in journal["rollbacks"]] == ["succeeded"]
    if deviated:
        assert "FAILED: success rate" in journal["run"][0]["exception"][-1]
    else:
        assert journal["run"][0]["output"]["fired"] > 0


# The activities of exported experiments


def test_run_scenario_tells_what_it_saw() -> None:
    """The action returns the verdict and its numbers, with the seed that it was given."""
    told = toolkit.run_scenario(GOOD, seed=9)
    assert (told["status"], told["seed"]) == ("passed", 9)
    assert told["fired"] > 0
    assert toolkit.scenario_passed("good")


def test_run_scenario_raises_where_it_does_not_pass() -> None:
    """Where the scenario does not pass, the action fails with all there is to say, and the probe says so."""
    assert toolkit.scenario_passed("bad")
    with pytest.raises(AssertionError, match="FAILED: success rate"):
        toolkit.run_scenario(BAD)
    assert not toolkit.scenario_passed("bad")


def test_production_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The action refuses production, unless told otherwise, and then the scenario counts as not passed."""
    monkeypatch.setenv("RESILIENT_ENV", "production")
    with pytest.raises(InjectionRefusedError):
        toolkit.run_scenario(GOOD)
    assert not toolkit.scenario_passed("good")
    assert toolkit.run_scenario(GOOD, allow_in_production=True)["status"] == "passed"


@pytest.mark.parametrize(
    ("workload", "succeeds"), [("guarded", True), ("later", True), ("fails", False)], ids=["sync", "async", "failing"]
)
def test_workload_succeeds(workload: str, succeeds: bool) -> None:
    """The probe calls the workload, sync or async."""
    assert toolkit.workload_succeeds({**GOOD, "workload": f"toolkit_app:{workload}"}) is succeeds


def test_remove_faults() -> None:
    """The rollback removes the faults that somebody has left."""
    with inject("toolkit_app:ask", faults.NetworkFailure()):
        assert toolkit.remove_faults() == 1
        assert imported("toolkit_app:bare")() == "yes"
    assert toolkit.remove_faults() == 0


def test_the_framework_takes_imported_scenarios(app: Path) -> None:
    """An imported scenario runs beside others in a framework."""
    source, _ = toolkit.import_experiment(write(app, EXPERIMENT))
    framework = RecoveryTestFramework()
    framework.add_scenario(quick(source))
    framework.add_scenario(scenario_from(GOOD))
    assert framework.run_all_tests().passed == 2
