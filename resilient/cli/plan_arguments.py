"""What `resilient plan ...` accepts."""

from __future__ import annotations

import argparse
import math
from typing import Any

from resilient.cli.parser import Parser, add_command
from resilient.cli.plan_values import INVALID, JOURNAL, LEASE, parsed_json

_EPILOG = (
    "Exit codes: 0 completed; 1 failed, cancelled or not found; 2 something could not be undone; "
    "3 the plan or the arguments are invalid; 130 left at once by a second Ctrl-C."
)


def add_plan(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the group `plan` to the commands of `resilient`."""
    plan = commands.add_parser(
        "plan",
        help="check, run, watch, approve, cancel and resume recovery plans",
        description="Recovery plans: files of steps that finish, or undo themselves, even when the process dies.",
        epilog=_EPILOG,
    )
    plan.wrong = INVALID
    plan.set_defaults(run=plan.show_help)
    group = plan.add_subparsers(title="commands", metavar="COMMAND", dest="action")
    _add_files(group)
    _add_run(group)
    _add_looking(group)
    _add_deciding(group)


def _run_plan(arguments: argparse.Namespace) -> int:
    from resilient.cli.plan_command import run_plan

    return run_plan(arguments)


def _command(group: argparse._SubParsersAction[Parser], name: str, what: str, more: str = "") -> Parser:
    parser = add_command(group, name, what, more, epilog=_EPILOG, run=_run_plan)
    parser.wrong = INVALID
    return parser


def _add_files(group: argparse._SubParsersAction[Parser]) -> None:
    validate = _command(group, "validate", "say everything that is wrong with plan files")
    validate.add_argument("files", nargs="+", metavar="FILE", help="a plan: .toml, .yaml, .yml or .json")
    _add_executors(validate)
    graph = _command(group, "graph", "draw a plan as Mermaid or Graphviz text")
    graph.add_argument(
        "file", nargs="?", metavar="FILE", help="a plan; with --execution the one it began with is known"
    )
    graph.add_argument("--format", choices=("mermaid", "dot"), default="mermaid", help="default: %(default)s")
    graph.add_argument("--execution", metavar="ID", help="colour the steps by how far this execution has come")
    graph.add_argument("--output", metavar="FILE", help="write it to a file instead")
    _add_journal(graph)
    schema = _command(group, "schema", "print the JSON Schema of a plan file, for editors")
    schema.add_argument("--output", metavar="FILE", help="write it to a file instead")


def _add_run(group: argparse._SubParsersAction[Parser]) -> None:
    more = (
        " Ctrl-C cancels the execution and waits until what was done is undone; a second Ctrl-C leaves at once, and"
        " `resilient plan resume` goes on later."
    )
    run = _command(group, "run", "carry out a plan, and show how it goes", more)
    run.add_argument("file", metavar="FILE", help="a plan: .toml, .yaml, .yml or .json")
    run.add_argument(
        "--parameter",
        action="append",
        default=[],
        type=_parameter,
        metavar="KEY=VALUE",
        help="a parameter of the plan as text; KEY:=JSON for other values; may be repeated, the last one counts",
    )
    run.add_argument(
        "--parameters",
        metavar="FILE",
        help="a JSON file with an object of parameters, - for the standard input; --parameter goes before it",
    )
    run.add_argument("--dry-run", action="store_true", help="show order, groups and the way back, and do nothing")
    run.add_argument("--json", action="store_true", help="print one JSON document at the end; the id goes to stderr")
    resume = _command(
        group,
        "resume",
        "take over what dead processes have left behind, and bring it to its end",
        " What is held by a living process is left alone.",
    )
    resume.add_argument(
        "--wait",
        type=_seconds("--wait", 0.0),
        metavar="SECONDS",
        help="how long to wait for the leases of dead processes to end (default: one lease and a second)",
    )
    for command in (run, resume):
        _add_executors(command)
        command.add_argument(
            "--lease",
            type=_seconds("--lease", 0.1),
            default=LEASE,
            metavar="SECONDS",
            help="how long after its process has died an execution may be taken over (default: %(default)g)",
        )
        _add_journal(command)


def _add_looking(group: argparse._SubParsersAction[Parser]) -> None:
    status = _command(group, "status", "show how far an execution has come, and who decided what")
    status.add_argument("execution", metavar="EXECUTION", help="its id, as printed by run and history")
    history = _command(group, "history", "list executions, the newest first")
    history.add_argument("plan_id", nargs="?", metavar="PLAN_ID", help="only those of this plan")
    history.add_argument("--limit", type=_count, default=20, metavar="N", help="how many (default: %(default)d)")
    history.add_argument("--before", metavar="ID", help="only those older than this execution")
    for command in (status, history):
        command.add_argument("--json", action="store_true", help="print JSON")
        _add_journal(command)


def _add_deciding(group: argparse._SubParsersAction[Parser]) -> None:
    approve = _command(group, "approve", "let a step go on that waits for a decision")
    reject = _command(group, "reject", "refuse a step that waits for a decision")
    for command in (approve, reject):
        command.add_argument("execution", metavar="EXECUTION", help="the execution's id")
        command.add_argument("step", metavar="STEP", help="the step's id")
        command.add_argument("--by", metavar="NAME", help="who decides (default: the login name)")
        command.add_argument("--note", default="", metavar="TEXT", help="why, for the journal")
        _add_journal(command)
    cancel = _command(group, "cancel", "stop an execution, whatever process carries it out, and undo what was done")
    cancel.add_argument("execution", metavar="EXECUTION", help="the execution's id")
    cancel.add_argument("--by", metavar="NAME", help="who cancels (default: the login name)")
    cancel.add_argument("--reason", default="", metavar="TEXT", help="why, for the journal")
    cancel.add_argument("--no-rollback", action="store_true", help="leave what was done as it is")
    _add_journal(cancel)


def _add_executors(command: Parser) -> None:
    command.add_argument(
        "--executors",
        metavar="MODULE",
        help="a module with a function register(orchestrator), which registers executors of your own",
    )


def _add_journal(command: Parser) -> None:
    command.add_argument(
        "--journal",
        default=JOURNAL,
        metavar="PATH",
        help="the SQLite journal (default: %(default)s, in this directory)",
    )


def _parameter(text: str) -> tuple[str, Any]:
    """KEY=VALUE or KEY:=JSON. The value is not shown where it is wrong: it may be a secret."""
    name, equals, value = text.partition("=")
    key = name.removesuffix(":")
    if not equals or not key:
        shown = "" if equals or len(text) > 40 else f", not {text!r}"
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE or KEY:=JSON{shown}")
    if key == name:
        return key, value
    try:
        return key, parsed_json(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{key}: what follows := is not JSON ({error}); for text write {key}="
        ) from None


def _seconds(option: str, least: float) -> Any:
    def convert(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least <= value < math.inf:
            raise argparse.ArgumentTypeError(f"expected a number of seconds, {least:g} or more, not {text!r}")
        return value

    convert.__name__ = option
    return convert


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 to 1000, not {text!r}")
    return int(text)
