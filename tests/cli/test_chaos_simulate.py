"""`resilient chaos simulate` compares the strategies of files under one outage."""

import json

import pytest

from resilient.cli import chaos_simulate
from resilient.cli.parser import Parser

STRATEGIES = """
[patient.retry]
max_attempts = 3
base_delay = 0.01

[patient]
circuit_breaker = false
degradation = false
bulkhead = false

[careful.retry]
max_attempts = 1

[careful.circuit_breaker]
failure_threshold = 5
recovery_timeout = 5.0

[careful.degradation]
fallback = "cached"
"""
HURRY = ("--outage", "5:15", "--load", "20", "--duration", "40")


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "strategies.toml").write_text(STRATEGIES, "utf-8")
    return "strategies.toml"


@pytest.fixture
def run(capsys):
    def run(*arguments):
        parser = Parser(prog="resilient chaos")
        chaos_simulate.add(parser.add_subparsers())
        chosen = parser.parse_args(["simulate", *arguments])
        code = chosen.run(chosen)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_table(file, run):
    """Every strategy has a row with what users would see, and the heading says how to get the same again."""
    code, out, err = run(file, *HURRY, "--seed", "7")

    assert (code, err) == (0, "")
    heading, _, columns, patient, careful = out.splitlines()
    assert heading == "outage from 5 s to 15 s (error), 20 calls/s of 1 client for 40 s, seed 7"
    assert columns.split()[:2] == ["strategy", "amplification"]
    assert patient.split()[:3] == ["patient", "1.50", "3.00"]
    assert careful.startswith("careful")
    assert careful.split()[4] == "0"  # failed: the fallback answers


def test_names(file, run):
    """Named strategies are simulated, the others are not."""
    code, out, _ = run(file, "careful", *HURRY)

    assert code == 0
    assert "careful" in out
    assert "patient" not in out


def test_two_files(file, run, tmp_path):
    """Of two files the strategies stand side by side, each with its file, under one seed."""
    (tmp_path / "after.toml").write_text(STRATEGIES.replace("max_attempts = 3", "max_attempts = 2"), "utf-8")

    code, out, _ = run(file, "after.toml", "patient", *HURRY)

    before, after = out.splitlines()[-2:]
    assert code == 0
    assert before.split()[:4] == ["strategies.toml:", "patient", "1.50", "3.00"]
    assert after.split()[:4] == ["after.toml:", "patient", "1.25", "2.00"]


def test_json(file, run):
    """The JSON document has each simulation, with the options that were given."""
    options = ("--clients", "3", "--seed", "1", "--failure", "slow", "--failure-latency", "2", "--latency", "0.1")
    code, out, _ = run(file, *HURRY, *options, "--capacity", "100", "--json")

    found = json.loads(out)["simulations"]
    assert code == 0
    assert [(one["file"], one["strategy"]) for one in found] == [(file, "patient"), (file, "careful")]
    assert {(one["clients"], one["seed"], one["failure"], one["load"]) for one in found} == {(3, 1, "slow", 20.0)}
    assert found[0]["p50"] == pytest.approx(0.11)
    assert found[0]["p99"] == pytest.approx(2.01, abs=0.03)


def test_same_seed_for_all(file, run):
    """Without a seed one is made for all strategies, so that they can be compared."""
    found = json.loads(run(file, *HURRY, "--json")[1])["simulations"]

    assert found[0]["seed"] == found[1]["seed"]


def test_plots(file, run, tmp_path):
    """One strategy has the file that was named, several have their names in it; the paths are printed."""
    assert run(file, "patient", *HURRY, "--plot", "one.svg")[1].endswith("\nwrote one.svg\n")
    out = run(file, *HURRY, "--plot", "all.html")[1]

    assert out.endswith("\nwrote all-patient.html\nwrote all-careful.html\n")
    assert {path.name for path in tmp_path.glob("*.*l")} >= {"all-patient.html", "all-careful.html"}
    assert (tmp_path / "one.svg").read_text("utf-8").startswith("<svg")


def test_rich_table(file, run, monkeypatch):
    """On a terminal the table has the same rows."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "160")

    out = run(file, *HURRY)[1]

    assert "patient" in out
    assert "3.00" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("missing.toml",), "missing.toml"),
        (("patient",), "no file of strategies among the arguments"),
        (("strategies.toml", "unknown"), "no strategy is named 'unknown'; known: 'careful', 'patient'"),
        (("strategies.toml", "--duration", "12"), "must end within duration=12"),
        (("strategies.toml", "--load", "0"), "load=0"),
        (("strategies.toml", "--plot", "out.png"), "--plot out.png: must end in .svg"),
        (("strategies.toml", "--plot", "nowhere/out.svg"), "there is no directory nowhere"),
    ],
)
def test_what_cannot_work(file, run, arguments, message):
    """What cannot work is a sentence and exit code 2, without a trace of a stack."""
    code, out, err = run(*arguments)

    assert (code, out) == (2, "")
    assert err.startswith("resilient chaos simulate: ")
    assert message in err


@pytest.mark.parametrize(
    "arguments",
    [
        ("--outage", "10"),
        ("--outage", "40:10"),
        ("--outage", "a:b"),
        ("--load", "many"),
        ("--load", "-1"),
        ("--clients", "0"),
        ("--seed", "x"),
        ("--failure", "explode"),
    ],
)
def test_wrong_arguments(file, run, capsys, arguments):
    """Wrong arguments are refused with exit code 2, by the name of the option."""
    with pytest.raises(SystemExit) as left:
        run(file, *arguments)

    assert left.value.code == 2
    assert f"argument {arguments[0]}" in capsys.readouterr().err


def test_plot_that_cannot_be_written(file, run, tmp_path):
    """A plot that cannot be written is a sentence, too."""
    (tmp_path / "taken.svg").mkdir()

    code, _, err = run(file, "patient", *HURRY, "--plot", "taken.svg")

    assert code == 1
    assert "taken.svg cannot be written" in err
