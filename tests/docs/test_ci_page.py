"""The page about CI can be followed: its tests pass by the commands of its workflow, and leave the files it names."""

import os
import shlex
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import yaml

from . import pages

PAGE = pages.DOCS / "how-to" / "test-in-ci.md"
#: The plugin comes by its entry point where the package is installed.
_INSTALLED = any(one.value == "resilient.testing.plugin" for one in entry_points(group="pytest11"))
PLUGIN = () if _INSTALLED else ("-p", "resilient.testing.plugin")


def workflow() -> dict[str, Any]:
    """The workflow that the page shows."""
    (text,) = [block.text for block in pages.read(PAGE)[0] if block.text.startswith("name: recovery")]
    return dict(yaml.safe_load(text))


STEPS = workflow()["jobs"]["recovery"]["steps"]


def commands(word: str) -> list[str]:
    """The commands of the workflow that have this word."""
    return [step["run"] for step in STEPS if word in step.get("run", "").split()]


def project(folder: Path) -> Path:
    """A project with the page's code in the folder that the workflow names."""
    tests = folder / "tests" / "recovery"
    tests.mkdir(parents=True)
    code = "\n".join(block.text for block in pages.read(PAGE)[0] if block.language == "python")
    (tests / "test_stock.py").write_text(code, encoding="utf-8")
    return folder


def run(command: str, folder: Path) -> str:
    """Run a command of pytest with the interpreter of the tests."""
    program, *arguments = shlex.split(command)
    assert program == "python"
    done = subprocess.run(  # noqa: S603 - a command of our own page
        [sys.executable, *arguments, *PLUGIN, "-p", "no:cacheprovider"],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_tests_pass_on_a_change(tmp_path: Path) -> None:
    """The command for changes runs all tests of the page with its seed; the folder that is kept has their reports."""
    printed = run(commands("7")[0], project(tmp_path))
    kept = {step["with"]["path"] for step in STEPS if "upload-artifact" in step.get("uses", "")}

    assert "6 passed" in printed
    assert "resilience seed: 7 " in printed
    assert kept == {"reports"}
    for suffix in ("html", "json", "xml", "md"):
        assert len(list((tmp_path / "reports").glob(f"*.recovery.{suffix}"))) == 3
    assert "`reports/*.recovery.xml`" in PAGE.read_text(encoding="utf-8")


def test_the_tests_pass_at_night(tmp_path: Path) -> None:
    """The command of the night repeats the tests that inject, and the summary is made of their reports."""
    printed = run(commands("5")[0], project(tmp_path))
    summary = tmp_path / "summary.md"
    subprocess.run(  # noqa: S603 - a command of our own page
        ["/bin/sh", "-c", commands("cat")[0]],
        cwd=tmp_path,
        env={**os.environ, "GITHUB_STEP_SUMMARY": str(summary)},
        check=True,
    )

    assert "22 passed" in printed
    assert summary.read_text(encoding="utf-8").count("**1 of 1 passed**") == 15


def test_every_report_is_kept_where_tests_failed() -> None:
    """The steps after the tests run also when those have failed, and the job as a whole is bounded."""
    after = STEPS[-2:]

    assert all(step["if"] == "${{ !cancelled() }}" for step in after)
    assert workflow()["jobs"]["recovery"]["timeout-minutes"] == 15
