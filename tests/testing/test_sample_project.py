"""A project of its own that has installed the wheel: its tests pass, and fail where a policy is taken away."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import NamedTuple

import pytest

import resilient

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "tests" / "sample_project"
#: Seconds for a machine that is busy with other things.
PATIENCE = 240


class Mutation(NamedTuple):
    """A decorator that is taken away, and the scenario that has to notice."""

    what: str
    decorator: str  # how its line begins; that above `function`
    function: str
    test: str
    scenario: str
    reason: str


MUTATIONS = [
    Mutation(
        "the retry of price",
        "@retry(",
        "price",
        "test_prices_survive_short_failures",
        "retry_absorbs_transient_faults",
        "shop.client.price has no @retry",
    ),
    Mutation(
        "the breaker of reserve",
        "@circuit_breaker(",
        "reserve",
        "test_a_dead_stock_service_is_left_alone",
        "breaker_opens_and_recovers",
        "shop.client.reserve has no @circuit_breaker",
    ),
    Mutation(
        "the fallback of similar",
        "@degrade(",
        "similar",
        "test_similar_books_are_shown_all_the_same",
        "degrade_serves_stale",
        "shop.client.similar has no @degrade",
    ),
    Mutation(
        "the timeout of freight",
        "@timeout(",
        "freight",
        "test_nobody_waits_for_freight",
        "timeout_bounds_tail",
        "shop.client.freight has no @timeout",
    ),
    Mutation(
        "the bulkhead of invoice",
        "@bulkhead(",
        "invoice",
        "test_slow_invoices_do_not_slow_down_prices",
        "bulkhead_isolates",
        "shop.client.invoice has no @bulkhead",
    ),
    Mutation(
        "the breaker of checkout",
        "@circuit_breaker(",
        "checkout",
        "test_customers_do_not_bury_the_checkout",
        "retry_storm_bounded",
        "per operation, required: at most 1.5 calls per operation while everything fails",
    ),
]


def without(source: str, mutation: Mutation) -> str:
    """The source without the decorator."""
    lines = source.splitlines(keepends=True)
    place = lines.index(next(line for line in lines if line.startswith(f"def {mutation.function}(")))
    while not lines[place].startswith(mutation.decorator):
        place -= 1
        assert lines[place].startswith("@"), f"{mutation.function} has no {mutation.decorator}"
    return "".join(lines[:place] + lines[place + 1 :])


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that has the wheel installed: this one, or that of a new virtual environment."""
    if Path(sysconfig.get_path("purelib")) in Path(resilient.__file__).parents:
        return Path(sys.executable)
    folder = tmp_path_factory.mktemp("wheel")
    _run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder / "dist"), str(ROOT))
    (wheel,) = (folder / "dist").glob("*.whl")
    venv.create(folder / "venv", with_pip=True)
    own = folder / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    _run(str(own), "-m", "pip", "install", "-q", f"{wheel}[testing]")
    return own


def _run(*command: str) -> None:
    done = subprocess.run(  # noqa: S603 - programs of our own
        command, env=environment(), capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def environment() -> dict[str, str]:
    """What a process of the sample gets: nothing by which it could find the source tree."""
    mine = ("PYTHONPATH", "PYTEST_", "COVERAGE", "RESILIENT_")
    return {name: value for name, value in os.environ.items() if not name.startswith(mine)}


class Run(NamedTuple):
    """What pytest said of a copy of the sample."""

    code: int
    output: str


@pytest.fixture(scope="module")
def runs(python: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """The sample as it is, by the name "", and each mutation by what it takes away; some side by side."""
    folder = tmp_path_factory.mktemp("projects")
    finished: dict[str, Run] = {}
    with _started(python, folder / "whole") as whole:
        for pair in (MUTATIONS[:2], MUTATIONS[2:4], MUTATIONS[4:]):
            begun = {one.what: _started(python, folder / one.function, one) for one in pair}
            finished |= {what: _finished(process) for what, process in begun.items()}
        finished[""] = _finished(whole)
    return finished


def _started(python: Path, folder: Path, mutation: Mutation | None = None) -> subprocess.Popen[str]:
    """pytest under way in a copy of the sample."""
    shutil.copytree(SAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__", ".pytest_cache"))
    command = [str(python), "-m", "pytest", "-p", "no:cacheprovider", "-q"]
    if mutation is not None:
        client = folder / "shop" / "client.py"
        client.write_text(without(client.read_text("utf-8"), mutation), "utf-8")
        command.append(f"tests/test_ready_scenarios.py::{mutation.test}")
    return subprocess.Popen(  # noqa: S603 - our own program
        command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def _finished(process: subprocess.Popen[str]) -> Run:
    with process:
        try:
            output, _ = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return Run(process.returncode, output)


def test_the_sample_passes(runs: dict[str, Run]) -> None:
    """With the wheel installed, all tests of the sample project pass, the ready scenarios among them."""
    code, output = runs[""]
    count = sum(path.read_text("utf-8").count("\ndef test_") for path in (SAMPLE / "tests").glob("test_*.py"))

    assert code == 0, output
    assert f"{count} passed" in output, output


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda one: one.what.replace(" ", "-"))
def test_a_missing_policy_is_noticed(runs: dict[str, Run], mutation: Mutation) -> None:
    """Without the policy, its ready scenario fails, and says why."""
    code, output = runs[mutation.what]

    assert code == 1, output
    assert f"({mutation.scenario.replace('_', '-')}:shop.client.{mutation.function}): FAILED" in output, output
    assert mutation.reason in output, output
    assert "resilience score" in output


def test_the_table_of_the_page(runs: dict[str, Run]) -> None:
    """The page on ready scenarios lists each mutation with the scenario that caught it."""
    page = (ROOT / "docs" / "how-to" / "ready-scenarios.md").read_text("utf-8")
    rows = [f"| {one.what} | `{one.scenario}` |" for one in MUTATIONS if runs[one.what].code == 1]

    print("\n".join(rows))  # noqa: T201 - the table, for who runs this with -s
    assert len(rows) == len(MUTATIONS)
    assert [row for row in rows if row not in page] == []
