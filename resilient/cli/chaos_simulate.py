"""`resilient chaos simulate`: what an outage does to the strategies of a file, side by side."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from resilient.cli.parser import Parser
from resilient.errors import ConfigurationError

if TYPE_CHECKING:
    from resilient.testing.simulation import Simulation

_SUFFIXES = (".toml", ".json", ".yaml", ".yml")
_WAYS = ("error", "hang", "slow")
_HEADINGS = (
    "strategy", "amplification", "in the outage", "goodput", "failed", "turned away", "by fallback", "p99", "recovered",
)  # fmt: skip


class _Wanted(NamedTuple):
    """One strategy to simulate, by the label it has in the table."""

    label: str
    file: str
    name: str
    strategy: Any


def add(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add `simulate` to a group of commands; the function that runs it is left in `.run`."""
    parser = commands.add_parser(
        "simulate",
        help="replay an outage against the strategies of a file, and compare them",
        description=(
            "Replays an outage of a dependency against strategies, in virtual time, and prints side by side what users "
            "would see. Each client has policies of its own, as processes of a fleet have."
        ),
        epilog="Exit code 0: simulated; 1: a file or a value cannot work; 2: wrong arguments; 130: stopped by Ctrl-C.",
    )
    parser.add_argument(
        "strategies",
        nargs="+",
        metavar="FILE|NAME",
        help=f"files of strategies ({', '.join(_SUFFIXES)}), and names of those wanted from them (default: all)",
    )
    parser.add_argument(
        "--outage", type=_window, default=(10.0, 40.0), metavar="START:END", help="in seconds (default: 10:40)"
    )
    _number(parser, "--load", 50.0, "CALLS", "user calls per second of all clients together")
    _number(
        parser, "--duration", None, "SECONDS", "in all (default: as long after the outage as it lasted, 60 at least)"
    )
    parser.add_argument("--clients", type=_count, default=1, metavar="N", help="how many (default: %(default)d)")
    parser.add_argument("--seed", type=int, metavar="N", help="decides what is left to chance (default: a new one)")
    parser.add_argument("--failure", choices=_WAYS, default="error", help="what calls meet (default: %(default)s)")
    _number(
        parser, "--failure-latency", None, "SECONDS", "until the error or the slow answer; of a hang, until it ends"
    )
    _number(parser, "--latency", 0.05, "SECONDS", "the dependency takes to answer")
    _number(parser, "--capacity", None, "CALLS", "per second that the dependency can serve (default: any number)")
    parser.add_argument(
        "--plot", metavar="FILE", help="write a picture (.svg), a page (.html), or .json or .md; one for each strategy"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of the table")
    parser.set_defaults(run=run_simulate)


def run_simulate(arguments: argparse.Namespace) -> int:
    """Simulate each strategy, and print what came of it; 0 all went well, 2 invalid files or arguments, else 1."""
    from resilient.testing import seeds

    try:
        wanted = _wanted(arguments.strategies)
        _check_plot(arguments.plot)
        seed = seeds.fresh() if arguments.seed is None else arguments.seed  # one for all, to compare them by
        done = [(one, _simulated(one, arguments, seed)) for one in wanted]
        plots = _plotted(done, arguments.plot)
    except OSError as error:
        return _fail(f"{error.filename} cannot be written: {error.strerror or error}")
    except (ConfigurationError, TypeError) as error:
        return _fail(str(error), 2)
    except RuntimeError as error:
        return _fail(str(error))
    if arguments.json:
        sys.stdout.write(f"{_as_json(done)}\n")
        return 0
    sys.stdout.write(f"{_heading(arguments, done[0][1])}\n\n")
    _table([_row(one.label, simulation) for one, simulation in done])
    sys.stdout.writelines(f"\nwrote {path}" for path in plots)
    sys.stdout.write("\n" if plots else "")
    return 0


# Arguments ----------------------------------------------------------------------------------------


def _number(parser: Parser, option: str, default: float | None, metavar: str, text: str) -> None:
    shown = "" if default is None else f" (default: {default:g})"
    parser.add_argument(option, type=_positive(option), default=default, metavar=metavar, help=f"{text}{shown}")


def _positive(option: str) -> Callable[[str], float]:
    def convert(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0 <= value < math.inf:
            raise argparse.ArgumentTypeError(f"expected a number, 0 or more, not {text!r}")
        return value

    convert.__name__ = option
    return convert


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, not {text!r}")
    return int(text)


def _window(text: str) -> tuple[float, float]:
    start, colon, end = text.partition(":")
    try:
        window = float(start), float(end)
    except ValueError:
        window = math.nan, math.nan
    if not colon or not 0 <= window[0] < window[1] < math.inf:
        raise argparse.ArgumentTypeError(f"expected START:END in seconds, such as 10:40, not {text!r}")
    return window


def _wanted(given: Sequence[str]) -> list[_Wanted]:
    """The strategies of all files, or those of the given names."""
    from resilient import strategies

    files = [one for one in given if Path(one).suffix.lower() in _SUFFIXES]
    names = [one for one in given if one not in files]
    if not files:
        raise ConfigurationError(f"no file of strategies among the arguments; one ends in {', '.join(_SUFFIXES)}")
    loaded = {file: strategies.load(file) for file in files}
    found = [
        _Wanted(f"{file}: {name}" if len(loaded) > 1 else name, file, name, strategy)
        for file, there in loaded.items()
        for name, strategy in there.items()
        if not names or name in names
    ]
    missing = [name for name in names if not any(name == one.name for one in found)]
    if missing:
        known = ", ".join(sorted({repr(name) for there in loaded.values() for name in there})) or "none"
        raise ConfigurationError(f"no strategy is named {', '.join(map(repr, missing))}; known: {known}")
    if not found:
        raise ConfigurationError(f"{', '.join(files)}: no strategies in it")
    return found


# The work -----------------------------------------------------------------------------------------


def _simulated(one: _Wanted, arguments: argparse.Namespace, seed: int) -> Simulation:
    from resilient.testing.simulation import simulate

    return simulate(
        one.strategy.pipeline,
        arguments.outage,
        arguments.load,
        arguments.duration,
        seed,
        arguments.clients,
        latency=arguments.latency,
        failure=arguments.failure,
        failure_latency=arguments.failure_latency,
        capacity=arguments.capacity,
    )


def _check_plot(plot: str | None) -> None:
    """Before the work: a minute of it should not be lost to a typing error."""
    if plot is None:
        return
    if Path(plot).suffix.lower() not in (".svg", ".html", ".json", ".md"):
        raise ConfigurationError(f"--plot {plot}: must end in .svg, .html, .json or .md, which says what to write")
    if not Path(plot).parent.is_dir():
        raise ConfigurationError(f"--plot {plot}: there is no directory {Path(plot).parent}")


def _plotted(done: Sequence[tuple[_Wanted, Simulation]], plot: str | None) -> list[Path]:
    if plot is None:
        return []
    if len(done) == 1:
        return [done[0][1].save(plot)]
    path, several = Path(plot), len({one.file for one, _ in done}) > 1
    paths = []
    for number, (one, simulation) in enumerate(done, start=1):
        parts = [path.stem, *([Path(one.file).stem] if several else []), one.name]
        name = "-".join("".join(c if c.isalnum() or c in "._-" else "_" for c in part) for part in parts)
        target = path.with_name(f"{name}{path.suffix}")
        if target in paths:
            target = path.with_name(f"{name}-{number}{path.suffix}")
        paths.append(simulation.save(target))
    return paths


# Output -------------------------------------------------------------------------------------------


def _as_json(done: Sequence[tuple[_Wanted, Simulation]]) -> str:
    listed = [{"file": one.file, "strategy": one.name, **simulation.to_dict()} for one, simulation in done]
    return json.dumps({"simulations": listed}, indent=2)


def _heading(arguments: argparse.Namespace, one: Simulation) -> str:
    clients = "1 client" if one.clients == 1 else f"{one.clients:,} clients"
    capacity = "" if arguments.capacity is None else f", capacity {arguments.capacity:g} calls/s"
    return (
        f"outage from {one.outage[0]:g} s to {one.outage[1]:g} s ({one.failure}), {one.load:g} calls/s of {clients} "
        f"for {one.duration:g} s{capacity}, seed {one.seed}"
    )


def _row(label: str, one: Simulation) -> tuple[str, ...]:
    from resilient.testing.simulation.text import amount, seconds

    took = one.time_to_recover
    recovered = "not by the end" if took is None else f"after {seconds(took)}" if took else "at once"
    return (
        label,
        f"{one.amplification:.2f}",
        f"{one.outage_amplification:.2f}",
        f"{amount(one.goodput)}/s",
        f"{one.failures:,}",
        f"{one.rejected:,}",
        f"{one.degraded:,}",
        seconds(one.p99),
        recovered,
    )


def _table(rows: Sequence[tuple[str, ...]]) -> None:
    """With rich where it is installed and a person looks on; lines of plain text elsewhere."""
    if sys.stdout.isatty():
        try:
            from rich.console import Console
            from rich.table import Table
            from rich.text import Text
        except ImportError:
            pass
        else:
            grid = Table(box=None, padding=(0, 2, 0, 0), show_edge=False)
            for place, heading in enumerate(_HEADINGS):
                grid.add_column(heading, justify="left" if place == 0 else "right", header_style="dim", overflow="fold")
            for row in rows:
                grid.add_row(*map(Text, row))
            Console(file=sys.stdout, highlight=False).print(grid)
            return
    widths = [max(len(row[place]) for row in (_HEADINGS, *rows)) for place in range(len(_HEADINGS))]
    for row in (_HEADINGS, *rows):
        cells = (
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        sys.stdout.write(f"{'  '.join(cells).rstrip()}\n")


def _fail(why: str, code: int = 1) -> int:
    sys.stderr.write(f"resilient chaos simulate: {why}\n")
    return code
