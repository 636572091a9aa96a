"""The command line: help, version, wrong arguments, and ends that are no answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import resilient
from resilient.cli import demo_command, main
from resilient.demo.process import ServiceFailure
from resilient.demo.settings import Settings


def test_alone_it_prints_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("usage: resilient")
    assert "demo" in printed


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert left.value.code == 0
    assert capsys.readouterr().out == f"resilient {resilient.__version__}\n"


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (["demo", "--seconds", "1"], "argument --seconds: must be between 4 and 60 seconds, not 1"),
        (["demo", "--seconds", "61"], "must be between 4 and 60"),
        (["demo", "--seconds", "soon"], "'soon' is not a number"),
        (["demo", "--seconds", "nan"], "must be between 4 and 60 seconds, not nan"),
        (["demo", "--latency", "-0.1"], "must be between 0 and 0.5 seconds"),
        (["demo", "--error-rate", "1.5"], "must be between 0 and 1 (a share of all requests), not 1.5"),
        (["demo", "--seed", "x"], "argument --seed"),
        (["demo", "--wrong"], "unrecognized arguments: --wrong"),
        (["dance"], "invalid choice: 'dance'"),
    ],
)
def test_wrong_arguments_are_named(given: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(given)
    assert left.value.code == 2
    printed = capsys.readouterr()
    assert complaint in printed.err
    assert printed.out == ""


def test_arguments_become_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    picture = tmp_path / "demo.svg"
    seen: list[tuple[Settings, bool, Path | None]] = []

    def note(settings: Settings, *, as_json: bool, plot: Path | None, serve: int | None, keep: bool) -> int:
        seen.append((settings, as_json, plot))
        return 1

    monkeypatch.setattr(demo_command, "run_demo", note)
    assert main(["demo"]) == 1
    assert (
        main(["demo", "--seconds=8", "--seed=2", "--latency=0.1", "--error-rate=0", "--json", f"--plot={picture}"]) == 1
    )
    assert seen == [(Settings(), False, None), (Settings(8, 2, 0.1, 0), True, picture)]


def raising(error: BaseException) -> Any:
    def run(*_: object, **__: object) -> None:
        raise error

    return run


def test_ctrl_c_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(demo_command.story, "run", raising(KeyboardInterrupt()))
    assert main(["demo", "--json"]) == 130
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1


def test_a_service_that_cannot_start_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo_command.story, "run", raising(ServiceFailure("the service did not start: no network")))
    assert main(["demo"]) == 1
    assert capsys.readouterr().err == "resilient demo: the service did not start: no network\n"
    assert main(["demo", "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {
        "recovered": False,
        "verdict": "the service did not start: no network",
    }
