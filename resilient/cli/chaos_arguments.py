"""What `resilient chaos ...` accepts."""

from __future__ import annotations

import argparse

from resilient.cli.chaos_simulate import add as add_simulate
from resilient.cli.parser import Parser, add_command

_EPILOG = (
    "Exit codes: 0 all passed, or the command did what it was asked; 1 not all passed, or something could not be done; "
    "2 the arguments or the file are invalid; 130 stopped by Ctrl-C, 143 by SIGTERM, 129 by SIGHUP."
)
_SCENARIOS = "scenarios: .toml, .yaml, .yml or .json"


def add_chaos(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the group `chaos` to the commands of `resilient`."""
    chaos = commands.add_parser(
        "chaos",
        help="run recovery tests from files, and see whether a system survives its faults",
        description="Recovery tests: a workload, the faults it meets, and how it is to recover, measured.",
        epilog=_EPILOG,
    )
    chaos.set_defaults(run=chaos.show_help)
    group = chaos.add_subparsers(title="commands", metavar="COMMAND", dest="action")
    _add_running(group)
    _add_files(group)
    add_simulate(group)


def _run_chaos(arguments: argparse.Namespace) -> int:
    from resilient.cli.chaos_command import run_chaos

    return run_chaos(arguments)


def _command(group: argparse._SubParsersAction[Parser], name: str, what: str, more: str = "") -> Parser:
    return add_command(group, name, what, more, epilog=_EPILOG, run=_run_chaos)


def _add_running(group: argparse._SubParsersAction[Parser]) -> None:
    run = _command(group, "run", "run the scenarios of a file, one after the other")
    run.add_argument("file", metavar="FILE", help=_SCENARIOS)
    # Without a default Python 3.11 and 3.12 call them required where the file is missing.
    run.add_argument("ids", nargs="*", default=(), metavar="ID", help="only these (default: all)")
    run.add_argument("--report", metavar="DIR", help="write report.html, report.json, report.xml and report.md there")
    run.add_argument("--seed", type=int, metavar="N", help="go before the seeds of the file (default: a new one)")
    run.add_argument("--quiet", action="store_true", help="tell only of scenarios that did not pass, and the sum")
    replay = _command(
        group,
        "replay",
        "run the scenarios of a report again, with the same seeds, and compare",
        " Verdicts must be the same, and so must the hits where the number of calls is the same.",
    )
    replay.add_argument("file", metavar="REPORT", help="a report.json that `run --report` has written")
    replay.add_argument("ids", nargs="*", default=(), metavar="ID", help="only these (default: all)")
    for command in (run, replay):
        command.add_argument("--json", action="store_true", help="print one JSON document; all else goes to stderr")
        command.add_argument(
            "--allow-in-production", action="store_true", help="inject even where RESILIENT_ENV says production"
        )


def _add_files(group: argparse._SubParsersAction[Parser]) -> None:
    listing = _command(
        group,
        "list",
        "check the scenarios of a file, and list them",
        " Without a file: the ready scenarios and the faults that a file can name.",
    )
    listing.add_argument("file", nargs="?", metavar="FILE", help=_SCENARIOS)
    listing.add_argument("--json", action="store_true", help="print JSON")
    schema = _command(group, "schema", "print the JSON Schema of a scenario file, for editors")
    imported = _command(
        group,
        "import",
        "turn an experiment of Chaos Toolkit into a scenario",
        " What cannot be carried over is told. Needs pip install resilient-toolkit[chaostoolkit].",
    )
    imported.add_argument("file", metavar="EXPERIMENT", help="an experiment: .json, .yaml or .yml")
    exported = _command(group, "export", "turn a scenario into an experiment that the command `chaos run` runs")
    exported.add_argument("file", metavar="FILE", help=_SCENARIOS)
    exported.add_argument("id", nargs="?", metavar="ID", help="which scenario; needed where there are several")
    for command in (schema, imported, exported):
        command.add_argument("-o", "--output", metavar="FILE", help="write it to a file instead of printing JSON")
