"""Draws a plan, and how far an execution of it has come, as Mermaid or Graphviz text.

Steps are boxes, approvals hexagons, rollback steps boxes with round ends; solid arrows lead from a step to those that
wait for it, dashed ones from a step to what undoes it. Drawings are legible without their colours: the status is
written out as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from resilient.orchestrator.model import ExecutionStatus, RecoveryExecution, RecoveryPlan, RecoveryStep, StepResult

# Fill and border of each status; the text is black on all of them.
COLOURS = {
    ExecutionStatus.PENDING: ("#f5f5f5", "#9e9e9e"),
    ExecutionStatus.RUNNING: ("#cfe2ff", "#0d6efd"),
    ExecutionStatus.WAITING_APPROVAL: ("#fff3cd", "#ffa000"),
    ExecutionStatus.COMPLETED: ("#d1e7dd", "#198754"),
    ExecutionStatus.FAILED: ("#f8d7da", "#dc3545"),
    ExecutionStatus.CANCELLED: ("#e2e3e5", "#6c757d"),
    ExecutionStatus.ROLLING_BACK: ("#e8daf5", "#8e44ad"),
    ExecutionStatus.ROLLED_BACK: ("#e8daf5", "#6f42c1"),
    ExecutionStatus.ROLLBACK_FAILED: ("#f1aeb5", "#842029"),
}
_MERMAID_SHAPES = {"step": ("[", "]"), "approval": ("{{", "}}"), "rollback": ("([", "])")}
_DOT_SHAPES = {
    "step": 'shape=box, style="filled"',
    "approval": 'shape=hexagon, style="filled"',
    "rollback": 'shape=box, style="filled,rounded,dashed"',
}
# What Mermaid takes as it is inside quotes; letters and digits of all alphabets beside.
_HARMLESS = frozenset(" _-.,/+()")


class _Node(NamedTuple):
    key: str
    shape: str
    lines: tuple[str, ...]
    status: ExecutionStatus


class _Edge(NamedTuple):
    start: str
    end: str
    dashed: bool


def mermaid(plan: RecoveryPlan, execution: RecoveryExecution | None = None) -> str:
    """The plan as a Mermaid flowchart; with an execution of it, each step has the colour and name of its status."""
    nodes, edges = _drawn(plan, execution)
    lines = ["flowchart TD"]
    for node in nodes:
        opening, closing = _MERMAID_SHAPES[node.shape]
        label = "<br/>".join(_mermaid_text(line) for line in node.lines)
        lines.append(f'    {node.key}{opening}"{label}"{closing}')
    lines += [f"    {edge.start} {'-.->|undo|' if edge.dashed else '-->'} {edge.end}" for edge in edges]
    # Not `node:::status`: some versions of Mermaid mistake a label beside colons for a style.
    for status in ExecutionStatus:
        keys = [node.key for node in nodes if node.status is status]
        if keys:
            fill, border = COLOURS[status]
            lines.append(f"    classDef {status.value} fill:{fill},stroke:{border},color:#000000")
            lines.append(f"    class {','.join(keys)} {status.value}")
    rollbacks = ",".join(node.key for node in nodes if node.shape == "rollback")
    if rollbacks:
        lines += ["    classDef rollback stroke-dasharray:4 3", f"    class {rollbacks} rollback"]
    return "\n".join(lines) + "\n"


def dot(plan: RecoveryPlan, execution: RecoveryExecution | None = None) -> str:
    """The plan as a Graphviz digraph; with an execution of it, each step has the colour and name of its status."""
    nodes, edges = _drawn(plan, execution)
    lines = [
        "digraph plan {",
        f"    label={_dot_text(_title(plan, execution))};",
        '    labelloc="t";',
        '    fontname="Helvetica";',
        '    node [fontname="Helvetica", fontcolor="#000000"];',
        '    edge [fontname="Helvetica", fontsize=10];',
    ]
    for node in nodes:
        fill, border = COLOURS[node.status]
        look = f'{_DOT_SHAPES[node.shape]}, fillcolor="{fill}", color="{border}"'
        lines.append(f"    {node.key} [label={_dot_text(node.lines)}, {look}];")
    for edge in edges:
        look = ' [style="dashed", label="undo"]' if edge.dashed else ""
        lines.append(f"    {edge.start} -> {edge.end}{look};")
    return "\n".join([*lines, "}"]) + "\n"


def _drawn(plan: RecoveryPlan, execution: RecoveryExecution | None) -> tuple[list[_Node], list[_Edge]]:
    """What both formats draw. Nodes have keys of their own, as ids may hold characters that mean something there."""
    results = {} if execution is None else execution.step_results
    steps = {step.id: f"s{number}" for number, step in enumerate(plan.steps)}
    undoing = {step.id: f"r{number}" for number, step in enumerate(plan.rollback_steps)}
    nodes = []
    for step in plan.steps:
        status = _status_of(step.id, results, execution)
        shape = "approval" if step.is_approval else "step"
        nodes.append(_Node(steps[step.id], shape, tuple(_label(step, status, execution)), status))
    for step in plan.rollback_steps:
        owners = [one.id for one in plan.steps if one.rollback_step_id == step.id]
        status = _undoing_status(results.get(owner) for owner in owners)
        nodes.append(_Node(undoing[step.id], "rollback", tuple(_label(step, status, execution)), status))
    needs = [(needed, step.id) for step in plan.steps for needed in plan.needs(step.id) if needed in steps]
    edges = [_Edge(steps[needed], steps[waiting], dashed=False) for needed, waiting in needs]
    for step in plan.steps:
        if step.rollback_step_id in undoing:
            edges.append(_Edge(steps[step.id], undoing[step.rollback_step_id], dashed=True))
    return nodes, edges


def _label(step: RecoveryStep, status: ExecutionStatus, execution: RecoveryExecution | None) -> Iterator[str]:
    yield step.id
    if step.name and step.name != step.id:
        yield step.name
    yield f"({step.type_name})"
    if execution is not None and status is not ExecutionStatus.PENDING:
        yield status.value.replace("_", " ")


def _status_of(step_id: str, results: Any, execution: RecoveryExecution | None) -> ExecutionStatus:
    if execution is not None and step_id in execution.waiting_for:
        return ExecutionStatus.WAITING_APPROVAL
    result = results.get(step_id)
    return ExecutionStatus.PENDING if result is None else result.status


def _undoing_status(results: Iterable[StepResult | None]) -> ExecutionStatus:
    """How a rollback step stands: that of the step it undoes, as soon as it has begun to."""
    begun = [one for one in results if one is not None and (one.rollback_attempts or one.rollback_started_at)]
    for one in begun:
        if one.rollback_error is not None and one.rollback_completed_at is not None:
            return ExecutionStatus.FAILED
        if one.status is ExecutionStatus.ROLLBACK_FAILED:
            return ExecutionStatus.FAILED
    if any(one.status is not ExecutionStatus.ROLLED_BACK for one in begun):
        return ExecutionStatus.RUNNING
    return ExecutionStatus.COMPLETED if begun else ExecutionStatus.PENDING


def _title(plan: RecoveryPlan, execution: RecoveryExecution | None) -> tuple[str, ...]:
    title = plan.name if plan.name == plan.id or not plan.name else f"{plan.id}: {plan.name}"
    if execution is None:
        return (title,)
    return title, f"{execution.execution_id}: {execution.status.value.replace('_', ' ')}"


def _mermaid_text(text: str) -> str:
    """Text inside a quoted label: what could end it or mean something there as a numbered entity."""
    return "".join(one if one.isalnum() or one in _HARMLESS else f"#{ord(one)};" for one in _visible(text))


def _dot_text(lines: Iterable[str]) -> str:
    """Lines of text as a quoted string of Graphviz, which knows backslashes and HTML's entities."""
    escaped = (_visible(line).replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"') for line in lines)
    return '"' + "\\n".join(escaped) + '"'


def _visible(text: str) -> str:
    """The text without what cannot be shown or written: line breaks, control characters, halves of characters."""
    return "".join(one if one.isprintable() else " " for one in str(text))
