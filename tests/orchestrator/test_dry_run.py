"""What a plan would do, told without doing it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient.orchestrator import CircularDependencyError, RecoveryPlan, RecoveryStep, RetryPolicy
from resilient.orchestrator.dry_run import Foreseen, dry_run
from resilient.orchestrator.executor import Adapted, adapted


def step(step_id: str, **given: Any) -> RecoveryStep:
    return RecoveryStep(step_id, given.pop("name", step_id), given.pop("step_type", "work"), **given)


def diamond(**last: Any) -> RecoveryPlan:
    return RecoveryPlan(
        "diamond",
        "Diamond",
        [step("top"), step("left"), step("right"), step("bottom", **last)],
        dependencies={"left": ["top"], "right": ["top"], "bottom": ["left", "right"]},
    )


def foreseen(plan: RecoveryPlan, step_id: str, **more: Any) -> Foreseen:
    groups = dry_run(plan, **more).groups
    return next(one for group in groups for one in group if one.step.id == step_id)


def work(step: object, context: object) -> None:
    """Does nothing, and is never called here."""


def only_left_can_be_undone(type_name: str) -> Adapted | None:
    return adapted(work, work if type_name == "undoable" else None, step_type=type_name)


def test_groups() -> None:
    """Steps are in groups, each after the ones before it, in the order of the plan."""
    assert [[one.step.id for one in group] for group in dry_run(diamond()).groups] == [
        ["top"],
        ["left", "right"],
        ["bottom"],
    ]


def test_what_is_undone_with_certainty() -> None:
    """What a failing step waits for is undone, latest first."""
    last = foreseen(diamond(), "bottom")
    assert (last.undone, last.perhaps_undone) == (("right", "left", "top"), ())


def test_what_is_perhaps_undone() -> None:
    """What runs beside a failing step is undone if it is done by then; the step itself and later ones are not."""
    left = foreseen(diamond(), "left")
    assert (left.undone, left.perhaps_undone) == (("top",), ("right",))


@pytest.mark.parametrize("given", [{"on_failure": "stop"}, {"on_failure": "continue"}, {"critical": False}])
def test_failures_that_undo_nothing(given: dict[str, Any]) -> None:
    """Only the failure of a critical step with on_failure "rollback" undoes anything."""
    last = foreseen(diamond(**given), "bottom")
    assert (last.undone, last.perhaps_undone) == ((), ())


def test_what_undoes_a_step() -> None:
    """A rollback step, the executor, nothing, or what is not known without executors."""
    plan = RecoveryPlan(
        "p",
        "p",
        [
            step("a", rollback_step_id="back"),
            step("b"),
            step("c", step_type="undoable"),
            step("d", step_type="approval"),
        ],
        rollback_steps=[step("back")],
        dependencies={"b": ["a"], "c": ["b"], "d": ["c"]},
    )
    assert [foreseen(plan, one).undo for one in "abcd"] == ["back", "unknown", "unknown", "none"]
    known = [foreseen(plan, one, executor=only_left_can_be_undone) for one in "abcd"]
    assert [one.undo for one in known] == ["back", "none", "executor", "none"]
    assert known[3].undone == ("c", "a")


@pytest.mark.parametrize(
    ("policy", "waits"),
    [
        (RetryPolicy(1), ()),
        (RetryPolicy(4, base_delay=1.0), (1.0, 2.0, 4.0)),
        (RetryPolicy(4, base_delay=1.0, max_delay=1.5), (1.0, 1.5, 1.5)),
        (RetryPolicy(10**9, base_delay=0.0), (0.0,) * 10),
    ],
)
def test_waits(policy: RetryPolicy, waits: tuple[float, ...]) -> None:
    """The waits between attempts grow as the policy says; of many only the first ten are told."""
    assert foreseen(RecoveryPlan("p", "p", [step("a", retry_policy=policy)]), "a").waits == waits


def test_lines() -> None:
    """People read the order, the limits, and what becomes of each failure."""
    policy = RetryPolicy(max_attempts=6)
    plan = RecoveryPlan(
        "db-outage",
        "Database outage",
        [
            step("backup", name="Back up", rollback_step_id="undo-backup", retry_policy=policy, timeout=None),
            step("warm", critical=False, in_doubt="ask"),
            step("ask", step_type="approval"),
            step("note", on_failure="continue"),
            step("last", on_failure="stop", timeout=20, in_doubt="rollback"),
        ],
        rollback_steps=[step("undo-backup")],
        dependencies={"ask": ["backup"], "note": ["warm"], "last": ["ask", "note"]},
        timeout=600,
    )
    assert dry_run(plan).lines() == [
        "db-outage: Database outage",
        "5 steps, at most 4 at once, 600 s for all",
        "",
        "Group 1, side by side",
        "  backup (work): Back up",
        "      6 attempts, 0.1, 0.2, 0.4, ... s apart, no time limit",
        "      undone by the rollback step undo-backup",
        "      if it fails: undoes note and warm if done by then",
        "  warm (work)",
        "      1 attempt, 300 s in all",
        "      undone by its executor, if that can",
        "      if it fails: the plan goes on as if it had not",
        "      if its process dies half-way: a person decides whether it runs again",
        "",
        "Group 2, side by side",
        "  ask (approval)",
        "      after backup",
        "      waits 300 s for approval",
        "      if it fails: undoes backup, and note and warm as well if done by then",
        "  note (work)",
        "      after warm",
        "      1 attempt, 300 s in all",
        "      undone by its executor, if that can",
        "      if it fails: the others go on, and the execution fails at its end",
        "",
        "Group 3",
        "  last (work)",
        "      after ask and note",
        "      1 attempt, 20 s in all",
        "      undone by its executor, if that can",
        "      if it fails: everything ends and stays as it is",
        "      if its process dies half-way: it is undone with the others",
    ]


def test_parameters_are_not_shown() -> None:
    """Parameters may be secrets: neither the lines nor the document has their values."""
    run = dry_run(RecoveryPlan("p", "p", [step("a", parameters={"password": "hunter2"})]))
    assert "hunter2" not in "\n".join(run.lines()) + json.dumps(run.to_dict())


def test_document() -> None:
    """The same is there as JSON, with the names that plan files have."""
    document = json.loads(json.dumps(dry_run(diamond()).to_dict()))
    assert (document["plan_id"], document["timeout"], document["max_parallel"]) == ("diamond", None, 4)
    assert document["groups"][1][0] == {
        "id": "left",
        "name": "left",
        "step_type": "work",
        "needs": ["top"],
        "max_attempts": 1,
        "waits": [],
        "timeout": 300.0,
        "critical": True,
        "on_failure": "rollback",
        "in_doubt": "rerun",
        "undo": "unknown",
        "undone": ["top"],
        "perhaps_undone": ["right"],
    }


def test_a_cycle() -> None:
    """Steps that wait for each other have no order."""
    with pytest.raises(CircularDependencyError, match="a -> b -> a"):
        dry_run(RecoveryPlan("p", "p", [step("a"), step("b")], dependencies={"a": ["b"], "b": ["a"]}))


@given(st.integers(1, 8).flatmap(lambda n: st.lists(st.sets(st.integers(0, n - 1)), min_size=n, max_size=n)))
def test_undone_steps_against_a_model(needs: list[set[int]]) -> None:
    """Of any two steps, one that waits for the other is undone first, and nobody undoes itself or what comes later."""
    dependencies = {str(one): [str(other) for other in sorted(below) if other < one] for one, below in enumerate(needs)}
    plan = RecoveryPlan("p", "p", [step(str(one)) for one in range(len(needs))], dependencies=dependencies)
    above: dict[str, set[str]] = {}
    for one in dependencies:
        above[one] = set(dependencies[one]).union(*(above[other] for other in dependencies[one]))
    for one in above:
        found = foreseen(plan, one)
        assert set(found.undone) == above[one]
        assert set(found.perhaps_undone) == {key for key in above if key != one and one not in above[key]} - above[one]
        for order in (found.undone, found.perhaps_undone):
            assert all(late not in above[early] for n, late in enumerate(order) for early in order[n + 1 :])
