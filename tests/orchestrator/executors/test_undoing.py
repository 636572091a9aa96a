"""What the shipped executors bring back when a whole plan is undone, whatever has happened to files meanwhile."""

import json
import os
import sqlite3
from dataclasses import replace
from itertools import permutations

import pytest

from resilient.orchestrator import (
    ExecutionStatus,
    RecoveryContext,
    RecoveryError,
    RecoveryOrchestrator,
    RecoveryPlan,
    RecoveryStep,
    RetryPolicy,
    StepResult,
)
from resilient.orchestrator.executors import ConfigurationUpdateExecutor
from resilient.orchestrator.executors.keeping import Keeper

from .helpers import names


@pytest.fixture
def orchestrator():
    with RecoveryOrchestrator() as made:
        yield made


def update(path, step_id="set", **values):
    return RecoveryStep(step_id, step_id, "configuration_update", {"path": str(path), "set": values})


def undone(orchestrator, *steps, first=lambda: None):
    """Carry out steps, after them `first`, and then undo all; what became of it."""

    def fail(step, context):
        first()
        raise RuntimeError("undo all of it")

    orchestrator.register_step_executor("fail", fail)
    needs = {"fail": [one.id for one in steps]}
    orchestrator.register_plan(RecoveryPlan("p", "P", [*steps, RecoveryStep("fail", "F", "fail")], dependencies=needs))
    with pytest.raises(RecoveryError) as caught:
        orchestrator.execute_plan("p")
    return orchestrator.get_execution_status(caught.value.execution_id)


def backups(folder):
    return [one for one in folder.iterdir() if one.name.endswith((".backup", ".absent"))]


def database(path, *values):
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t (x)")
    connection.executemany("INSERT INTO t VALUES (?)", [(one,) for one in values])
    connection.commit()
    connection.close()
    return path


@pytest.mark.parametrize("attempts", [1, 3])
@pytest.mark.parametrize("kind", ["changed", "created", "database"])
def test_backup_that_is_gone(orchestrator, tmp_path, kind, attempts):
    """Where the backup has gone, the rollback has failed, and says which backup it was; it never claims success."""
    file, folder = tmp_path / "a.json", tmp_path
    work = update(file, a=2)
    if kind == "changed":
        file.write_text('{"a": 1}')
    if kind == "database":
        source, target = database(tmp_path / "good.db", 1), database(tmp_path / "app.db", 2)
        work = RecoveryStep("set", "S", "database_restore", {"source": str(source), "target": str(target)})
    work = replace(work, retry_policy=RetryPolicy(attempts, base_delay=0))
    found = undone(orchestrator, work, first=lambda: [one.unlink() for one in backups(folder)])
    assert found.status is ExecutionStatus.ROLLBACK_FAILED
    assert "is not there any more" in found.rollback_errors["set"]
    assert str(tmp_path) in found.rollback_errors["set"]


def test_relative_path(orchestrator, tmp_path, monkeypatch):
    """A relative path means at the rollback what it meant at the step, wherever the process stands by then."""
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.json").write_text(f'{{"a": "{folder}"}}')
    monkeypatch.chdir(tmp_path / "here")
    found = undone(orchestrator, update("a.json", a=2), first=lambda: os.chdir(tmp_path / "there"))
    assert found.status is ExecutionStatus.ROLLED_BACK
    assert (tmp_path / "here" / "a.json").read_text() == '{"a": "here"}'
    assert (tmp_path / "there" / "a.json").read_text() == '{"a": "there"}'


def test_relative_backup_dir(orchestrator, tmp_path, monkeypatch):
    """Relative paths of a restored database and of its backup are found again from another directory."""
    for folder in ("here", "there", "here/kept"):
        (tmp_path / folder).mkdir()
    database(tmp_path / "here" / "good.db", 1)
    target = database(tmp_path / "here" / "app.db", 2)
    monkeypatch.chdir(tmp_path / "here")
    work = {"source": "good.db", "target": "app.db", "backup_dir": "kept"}
    step = RecoveryStep("set", "S", "database_restore", work)
    found = undone(orchestrator, step, first=lambda: os.chdir(tmp_path / "there"))
    assert found.status is ExecutionStatus.ROLLED_BACK
    with sqlite3.connect(target) as connection:
        assert connection.execute("SELECT x FROM t").fetchall() == [(2,)]
    connection.close()


def test_link_that_moves(orchestrator, tmp_path):
    """Of a link that a later step points elsewhere, the file that was changed is brought back."""
    link = tmp_path / "current"
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.json").write_text(f'{{"a": "{folder}"}}')
    link.symlink_to(tmp_path / "one")

    def move():
        link.unlink()
        link.symlink_to(tmp_path / "two")

    found = undone(orchestrator, update(link / "a.json", a=2), first=move)
    assert found.status is ExecutionStatus.ROLLED_BACK
    assert (tmp_path / "one" / "a.json").read_text() == '{"a": "one"}'
    assert (tmp_path / "two" / "a.json").read_text() == '{"a": "two"}'


def test_side_by_side(orchestrator, tmp_path):
    """Steps that change one file side by side lose nothing of each other."""
    for number in range(10):
        file = tmp_path / f"{number}.json"
        orchestrator.register_plan(RecoveryPlan(f"p{number}", "P", [update(file, one, **{one: 1}) for one in "abcd"]))
        orchestrator.execute_plan(f"p{number}")
        assert json.loads(file.read_text()) == dict.fromkeys("abcd", 1)


@pytest.mark.parametrize("there", [True, False])
def test_side_by_side_undone(orchestrator, tmp_path, there):
    """Steps that changed one file side by side are undone as a whole, in whichever order they have ended."""
    for number in range(10):
        file = tmp_path / f"{number}.json"
        if there:
            file.write_text("{}")
        found = undone(orchestrator, *(update(file, one, **{one: 1}) for one in "abcd"))
        assert found.status is ExecutionStatus.ROLLED_BACK
        assert file.exists() is there
        assert not there or file.read_text() == "{}"
        assert backups(tmp_path) == []


def test_repeated_rollback(orchestrator, tmp_path, monkeypatch):
    """A rollback that had brought the file back before it was interrupted finds nothing to do, and is done."""
    file = tmp_path / "a.json"
    file.write_text('{"a": 1}')
    real, calls = Keeper.restore, []

    def interrupted(keeper):
        calls.append(real(keeper))
        if len(calls) == 1:
            raise OSError("interrupted")
        return calls[-1]

    monkeypatch.setattr(Keeper, "restore", interrupted)
    found = undone(orchestrator, replace(update(file, a=2), retry_policy=RetryPolicy(2, base_delay=0)))
    assert (found.status, calls) == (ExecutionStatus.ROLLED_BACK, [True, False])
    assert file.read_text() == '{"a": 1}'


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("there", [True, False])
def test_undone_in_another_order(tmp_path, order, there):
    """However steps that have changed one file are undone, it comes back as it was before the first."""
    file, executor = tmp_path / "a.json", ConfigurationUpdateExecutor()
    if there:
        file.write_text("{}")
    steps = [update(file, one, **{one: 1}) for one in "abc"]

    def context(one, ending="", results=None):
        return RecoveryContext("run", "plan", {}, results, step_id=one.id, idempotency_key=f"run:{one.id}{ending}")

    outputs = {one.id: executor.execute(one, context(one)) for one in steps}
    results = {one: StepResult(one, ExecutionStatus.COMPLETED, output=output) for one, output in outputs.items()}
    for number in order:
        assert executor.rollback(steps[number], context(steps[number], ":rollback", results))["restored"]
    assert names(tmp_path) == (["a.json"] if there else [])
    assert not there or file.read_text() == "{}"
