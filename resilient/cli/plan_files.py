"""`resilient plan validate | graph | schema`: what can be said about a plan without carrying it out."""

from __future__ import annotations

import argparse
import json
import sys

from resilient.cli.plan_output import CommandError, deliver, sentence, tell
from resilient.cli.plan_sources import journal_at, loaded, register_executors
from resilient.cli.plan_text import titled
from resilient.cli.plan_values import INVALID
from resilient.orchestrator import PlanInvalidError, RecoveryExecution, RecoveryOrchestrator, RecoveryPlan
from resilient.orchestrator import graph as drawing
from resilient.orchestrator.schema import schema as schema_of_plans


def validate(arguments: argparse.Namespace) -> int:
    """Say of each file whether it is a valid plan; 0 if all are, else 3."""
    code = 0
    with RecoveryOrchestrator() as orchestrator:
        register_executors(orchestrator, arguments.executors)
        for file in arguments.files:
            try:
                plan = loaded(file, orchestrator, arguments.executors)
            except PlanInvalidError as error:
                tell(sentence(error))
                code = INVALID
            else:
                count = "1 step" if len(plan.steps) == 1 else f"{len(plan.steps)} steps"
                sys.stdout.write(f"{file}: valid, {titled(plan)}, {count}\n")
                sys.stdout.flush()
    return code


def graph(arguments: argparse.Namespace) -> int:
    """Draw a plan, and with --execution how far that has come."""
    plan = None if arguments.file is None else RecoveryPlan.load(arguments.file)
    execution: RecoveryExecution | None = None
    if arguments.execution is not None:
        with RecoveryOrchestrator(journal_at(arguments.journal)) as orchestrator:
            execution = orchestrator.get_execution_status(arguments.execution)
            plan = orchestrator.plan_of(arguments.execution) if plan is None else plan
        if execution.plan_id != plan.id:
            raise CommandError(
                f"{execution.execution_id} is an execution of plan {execution.plan_id!r}, not of {plan.id!r}", INVALID
            )
    if plan is None:
        raise CommandError("name the FILE of a plan, or an execution with --execution ID", INVALID)
    draw = drawing.mermaid if arguments.format == "mermaid" else drawing.dot
    deliver(draw(plan, execution), arguments.output)
    return 0


def schema(arguments: argparse.Namespace) -> int:
    """Print the JSON Schema of a plan file."""
    deliver(f"{json.dumps(schema_of_plans(), indent=2)}\n", arguments.output)
    return 0
