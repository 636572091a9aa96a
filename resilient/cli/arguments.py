"""What the command line accepts, and what it says when a value cannot work."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from resilient import __version__
from resilient.cli.chaos_arguments import add_chaos
from resilient.cli.parser import Parser
from resilient.cli.plan_arguments import add_plan
from resilient.demo.settings import LIMITS, Settings
from resilient.errors import ConfigurationError


def _number(option: str) -> Callable[[str], float]:
    """A converter for argparse that holds `option` within its limits."""
    low, high, unit = LIMITS[option]

    def convert(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"must be between {low:g} and {high:g} {unit}, not {text}")
        return value

    return convert


def build_parser() -> Parser:
    """The parser of `resilient`; the chosen command's function is left in `.run`."""
    parser = Parser(
        prog="resilient",
        description="Retry, circuit breaker, bulkhead, timeout and degradation for Python functions.",
        epilog="Try `resilient demo` first: it needs nothing but this machine and about twelve seconds.",
    )
    parser.add_argument(
        "--version", action="version", version=f"resilient {__version__}", help="print the version and exit"
    )
    parser.set_defaults(run=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command")
    _add_demo(commands)
    _add_status(commands)
    _add_schema(commands)
    add_plan(commands)
    add_chaos(commands)
    return parser


def _picture(text: str) -> Path:
    """A converter for argparse: the place of a picture that can be written."""
    from resilient.drawing.saving import place_for

    try:
        return place_for(text)
    except ConfigurationError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _add_demo(commands: argparse._SubParsersAction[Parser]) -> None:
    default = Settings()
    demo = commands.add_parser(
        "demo",
        help="watch a service fail and come back, with all five decorators at work",
        description=(
            "Starts a small HTTP service in a process of its own on the loopback interface, calls it through all five "
            "decorators from threads and asyncio tasks, kills it half-way and starts it again."
        ),
        epilog=(
            "Exit code 0: the service recovered through the breaker; 1: it did not, or the plot could not be written; "
            "130: stopped by Ctrl-C."
        ),
    )
    demo.add_argument(
        "--seconds",
        type=_number("seconds"),
        default=default.seconds,
        metavar="N",
        help="how long the traffic lasts (default: %(default)g)",
    )
    demo.add_argument(
        "--seed",
        type=int,
        default=default.seed,
        metavar="N",
        help="seed of what the service leaves to chance (default: %(default)d)",
    )
    demo.add_argument(
        "--latency",
        type=_number("latency"),
        default=default.latency,
        metavar="S",
        help="the service's mean time to answer, in seconds (default: %(default)g)",
    )
    demo.add_argument(
        "--error-rate",
        type=_number("error_rate"),
        default=default.error_rate,
        metavar="R",
        help="share of requests answered with a 503, 0 to 1 (default: %(default)g)",
    )
    demo.add_argument("--json", action="store_true", help="print one JSON document instead of the live lines")
    demo.add_argument(
        "--plot",
        type=_picture,
        metavar="FILE",
        help="draw what happened, load, outcomes and the breaker's state over time, into an .svg file",
    )
    demo.add_argument(
        "--serve",
        type=_port,
        metavar="PORT",
        help="meanwhile show /metrics and the status page at this port of this machine; 0 takes any that is free",
    )
    demo.add_argument(
        "--keep", action="store_true", help="with --serve: let callers and page go on after the end, until Ctrl-C"
    )
    demo.set_defaults(run=_run_demo, refuse=demo.error)


def _run_demo(arguments: argparse.Namespace) -> int:
    from resilient.cli.demo_command import run_demo

    if arguments.keep and arguments.serve is None:
        arguments.refuse("argument --keep: there is nothing to keep without --serve PORT")
    settings = Settings(arguments.seconds, arguments.seed, arguments.latency, arguments.error_rate)
    return run_demo(settings, as_json=arguments.json, plot=arguments.plot, serve=arguments.serve, keep=arguments.keep)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"must be a number from 1 to 65535, or 0 for any that is free, not {text}")
    return int(text)


def _add_status(commands: argparse._SubParsersAction[Parser]) -> None:
    status = commands.add_parser(
        "status",
        help="look at the policies of a running application",
        description=(
            "Shows the policies behind a status page (resilient.web.status_app), those that concern most first. "
            "On a terminal where rich is installed, it draws them again and again until Ctrl-C; elsewhere it prints "
            "them once."
        ),
        epilog="Exit code 0: shown; 1: the page cannot be reached; 130: stopped by Ctrl-C.",
    )
    status.add_argument(
        "--url",
        type=_page,
        required=True,
        metavar="URL",
        help="where the status page is, such as http://127.0.0.1:8000/status",
    )
    status.add_argument(
        "--interval",
        type=_interval,
        default=2.0,
        metavar="S",
        help="seconds between two looks, 0.2 to 3600 (default: %(default)g)",
    )
    status.add_argument("--once", action="store_true", help="print it once, with all policies")
    status.add_argument("--json", action="store_true", help="print the snapshot as JSON, once")
    status.set_defaults(run=_run_status)


def _page(text: str) -> str:
    from resilient.cli.status_source import checked

    try:
        return checked(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None  # without the value, which may hold a password


def _interval(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0.2 <= value <= 3600:
        raise argparse.ArgumentTypeError(f"must be between 0.2 and 3600 seconds, not {text}")
    return value


def _run_status(arguments: argparse.Namespace) -> int:
    from resilient.cli.status_command import run_status

    return run_status(arguments.url, interval=arguments.interval, once=arguments.once, as_json=arguments.json)


def _add_schema(commands: argparse._SubParsersAction[Parser]) -> None:
    schema = commands.add_parser(
        "schema",
        help="print the JSON Schema of a file of strategies",
        description=(
            "Prints the JSON Schema of a file of strategies (TOML, JSON or YAML), with which editors complete and "
            "check it. Of a pyproject.toml it describes the table [tool.resilient]."
        ),
        epilog="Needs pip install resilient-toolkit[config].",
    )
    schema.add_argument("--output", metavar="FILE", help="write it to a file instead")
    schema.set_defaults(run=_run_schema)


def _run_schema(arguments: argparse.Namespace) -> int:
    from resilient.cli.schema_command import run_schema

    return run_schema(arguments.output)
