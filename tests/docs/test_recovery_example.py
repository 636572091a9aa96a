"""The example of a recovery: a damaged database, a plan that restores it, and the same plan undoing itself."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from . import pages

EXAMPLE = pages.DOCS / "examples" / "recovery"


def start(folder: Path) -> subprocess.Popen[str]:
    """The example under way, its temporary files in `folder`."""
    return subprocess.Popen(  # noqa: S603 - a program of our own
        [sys.executable, str(EXAMPLE / "recover.py")],
        cwd=folder,
        env=os.environ | {"PYTHONWARNINGS": "error", "TMPDIR": str(folder), "TEMP": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def processes(folder: Path) -> list[str]:
    """The processes that have the folder among their arguments."""
    found = (process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"]))
    return [" ".join(words) for words in found if any(str(folder) in word for word in words)]


def missing(story: str, lines: list[str]) -> list[str]:
    """Those of the patterns that no line of the story matches, each looked for behind the one before."""
    lost, place = [], 0
    for line in lines:
        found = re.compile(rf"^ *{line}$", re.MULTILINE).search(story, place)
        place = place if found is None else found.end()
        lost += [line] if found is None else []
    return lost


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, int, Path]:
    """What the example prints, its exit code, and where its files were."""
    folder = tmp_path_factory.mktemp("example")
    with start(folder) as example:
        printed, _ = example.communicate(timeout=120)
    return printed, example.returncode, folder


def test_it_keeps_its_promises(story: tuple[str, int, Path]) -> None:
    """The example exits with 0, and each of its checks has been made."""
    printed, code, _ = story
    checks = (EXAMPLE / "recover.py").read_text(encoding="utf-8").count("    check(")

    assert code == 0, printed
    assert printed.count("   kept: ") == checks
    assert printed.endswith("Everything was as promised.\n")


def test_the_plan_completes(story: tuple[str, int, Path]) -> None:
    """The breaker's opening starts the plan, and after its four steps orders are taken again."""
    steps = [rf"\d\.\d\d s  step completed {step}" for step in ("restore", "validate", "restart", "probe")]
    answers = ["the service answers 500: .*"] * 2

    assert missing(story[0], ["2. .*", *answers, *steps, r"\d\.\d\d s  execution completed", "order 4: .*"]) == []


def test_the_plan_undoes_itself(story: tuple[str, int, Path]) -> None:
    """With a backup that is too old the validation fails, and the restored database is taken away again."""
    lines = ["step completed restore", "step failed validate: .*expected at least 3, got 0", "step rolled back restore"]
    promises = ["every file is as it was, byte for byte", "the service was not touched, and is the same process"]

    wanted = ["4. .*", *(rf"\d\.\d\d s  {line}" for line in lines), *(f"kept: {promise}" for promise in promises)]
    assert missing(story[0], wanted) == []


def test_it_leaves_nothing_behind(story: tuple[str, int, Path]) -> None:
    """Neither a file nor a process is left when it has ended."""
    *_, folder = story

    assert list(folder.iterdir()) == []
    assert processes(folder) == []


def test_killed_it_takes_its_processes_along(tmp_path: Path) -> None:
    """The service ends when the example is killed."""
    with start(tmp_path) as example:
        assert example.stdout is not None
        while not example.stdout.readline().strip().startswith("order 1"):
            assert example.poll() is None
        assert len(processes(tmp_path)) >= 2
        example.kill()

    end = time.monotonic() + 20
    while processes(tmp_path) and time.monotonic() < end:
        time.sleep(0.02)
    assert processes(tmp_path) == []
