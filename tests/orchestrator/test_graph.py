"""Plans as Mermaid and Graphviz text."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient.orchestrator import ExecutionStatus, RecoveryExecution, RecoveryPlan, RecoveryStep, StepResult
from resilient.orchestrator.graph import COLOURS, dot, mermaid

Status = ExecutionStatus
NASTY = 'a"b\\ <b>&amp; ]}) #35; `x` ; style: #f; %% end\n\u202e\x00\ud800 é 漢'
LABEL = {mermaid: r'[\[{(]"(.*)"[\]})]', dot: r'\[label="((?:[^"\\]|\\.)*)", shape'}


def plan(name: str = "Back up") -> RecoveryPlan:
    return RecoveryPlan(
        "db-outage",
        "Database outage",
        [
            RecoveryStep("backup", name, "custom", rollback_step_id="put-back"),
            RecoveryStep("ask", "Switch over?", "approval"),
            RecoveryStep("end", "end", "service_restart"),
        ],
        rollback_steps=[RecoveryStep("put-back", "Put it back", "custom")],
        dependencies={"ask": ["backup"], "end": ["ask"]},
    )


def execution(waiting_for: tuple[str, ...] = (), **statuses: Status) -> RecoveryExecution:
    results = {
        key: StepResult(key, status, rollback_attempts=int("ROLL" in status.name)) for key, status in statuses.items()
    }
    return RecoveryExecution("db-outage-1", "db-outage", Status.RUNNING, step_results=results, waiting_for=waiting_for)


def labels(draw: Callable[..., str], text: str) -> list[str]:
    return re.findall(LABEL[draw], text)


def shown(draw: Callable[..., str], label: str) -> str:
    """A label as the program that draws it understands it."""
    if draw is mermaid:
        return re.sub(r"#(\d+);", lambda mark: chr(int(mark[1])), label.replace("<br/>", "\n"))
    lines = re.sub(r"\\(.)", lambda mark: "\n" if mark[1] == "n" else mark[1], label)
    return html.unescape(lines)


def test_mermaid() -> None:
    """Steps, approvals and rollback steps have shapes of their own, and rollbacks dashed arrows."""
    drawn = mermaid(plan()).splitlines()
    assert drawn[0] == "flowchart TD"
    assert '    s0["backup<br/>Back up<br/>(custom)"]' in drawn
    assert '    s1{{"ask<br/>Switch over#63;<br/>(approval)"}}' in drawn
    assert '    r0(["put-back<br/>Put it back<br/>(custom)"])' in drawn
    assert [one for one in drawn if "->" in one] == ["    s0 --> s1", "    s1 --> s2", "    s0 -.->|undo| r0"]


def test_dot() -> None:
    """The same as a digraph, which is named after the plan."""
    drawn = dot(plan()).splitlines()
    assert drawn[0] == "digraph plan {"
    assert drawn[-1] == "}"
    assert '    label="db-outage: Database outage";' in drawn
    assert [one for one in drawn if "->" in one] == [
        "    s0 -> s1;",
        "    s1 -> s2;",
        '    s0 -> r0 [style="dashed", label="undo"];',
    ]
    shapes = re.findall(r'shape=(\w+), style="([\w,]+)"', "\n".join(drawn))
    assert shapes == [("box", "filled"), ("hexagon", "filled"), ("box", "filled"), ("box", "filled,rounded,dashed")]


@pytest.mark.parametrize("status", [one for one in Status if one is not Status.PENDING])
@pytest.mark.parametrize("draw", [mermaid, dot])
def test_a_status_has_a_colour_and_a_name(draw: Callable[..., str], status: Status) -> None:
    """How far a step has come is drawn in its colour, and written in it for those who see no colours."""
    drawn = draw(plan(), execution(end=status))
    assert shown(draw, labels(draw, drawn)[2]).splitlines()[-1] == status.value.replace("_", " ")
    fill, border = COLOURS[status]
    if draw is mermaid:
        assert f"classDef {status.value} fill:{fill},stroke:{border},color:#000000" in drawn
        assert f"class s2 {status.value}" in drawn
    else:
        assert f'fillcolor="{fill}", color="{border}"' in next(one for one in drawn.splitlines() if " s2 [" in one)


def test_colours_differ() -> None:
    """Every status has a colour, and no two look the same."""
    assert set(COLOURS) == set(Status)
    assert len(set(COLOURS.values())) == len(COLOURS)


def test_without_an_execution_nothing_is_said_of_a_status() -> None:
    """A plan alone has no status written in it."""
    assert all(shown(mermaid, one).splitlines()[-1].startswith("(") for one in labels(mermaid, mermaid(plan())))


def test_a_step_that_waits() -> None:
    """A step that waits for a person says so, whatever its own result says."""
    drawn = mermaid(plan(), execution(waiting_for=("backup",), backup=Status.RUNNING))
    assert shown(mermaid, labels(mermaid, drawn)[0]).endswith("waiting approval")


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (Status.COMPLETED, "(custom)"),
        (Status.ROLLING_BACK, "running"),
        (Status.ROLLED_BACK, "completed"),
        (Status.ROLLBACK_FAILED, "failed"),
    ],
)
def test_a_rollback_step(status: Status, said: str) -> None:
    """A rollback step stands where the undoing of its step stands."""
    drawn = mermaid(plan(), execution(backup=status))
    assert shown(mermaid, labels(mermaid, drawn)[3]).splitlines()[-1] == said


@pytest.mark.parametrize("draw", [mermaid, dot])
@given(name=st.text() | st.just(NASTY))
def test_any_name(draw: Callable[..., str], name: str) -> None:
    """Whatever characters a name holds, the picture has the same lines, and the label reads as the name."""
    drawn = draw(plan(name))
    assert drawn.count("\n") == draw(plan()).count("\n")
    drawn.encode()
    visible = "".join(one if one.isprintable() else " " for one in name)
    expected = ["backup", visible, "(custom)"] if name and name != "backup" else ["backup", "(custom)"]
    assert shown(draw, labels(draw, drawn)[0]).split("\n") == expected


@given(name=st.text())
def test_mermaid_knows_only_harmless_characters(name: str) -> None:
    """Inside a label there is nothing that Mermaid could take for its own."""
    inside = labels(mermaid, mermaid(plan(name)))[0].replace("<br/>", "")
    assert not set(re.sub(r"#\d+;", "", inside)) & set('"`;:#<>[]{}|&%\\\n')


def test_needs_that_are_no_steps() -> None:
    """What a plan that was not validated refers to in vain is left out."""
    broken: Any = RecoveryPlan(
        "p", "p", [RecoveryStep("a", "a", "x", rollback_step_id="no")], dependencies={"a": ["no"]}
    )
    assert "-->" not in mermaid(broken)
    assert "->" not in dot(broken)
