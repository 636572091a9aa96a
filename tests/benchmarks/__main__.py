"""The command: measure what was asked for, show it, and judge it."""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from resilient import ConfigurationError
from resilient.drawing.saving import place_for, write

from . import garbage, imports, injections, memory, metrics, plot, recoveries, report, rivals, simulations, threads
from .candidates import BASELINE, OURS, Library, acases, cases
from .harness import Effort, Row, ameasure, measure
from .loops import AREFERENCES, REFERENCES

Wanted = Callable[[str], bool]


def options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="fewer and shorter rounds: figures to look at, not to trust"
    )
    parser.add_argument("--check", action="store_true", help="exit 1 if a figure is over its limit")
    parser.add_argument("--only", metavar="PATTERN", default="", help="regular expression on section/pattern/library")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the rows as JSON")
    parser.add_argument("--markdown", metavar="FILE", type=Path, help="write the page for the documentation")
    parser.add_argument("--plot", metavar="FILE", type=picture, help="draw the times as bars into an .svg file")
    return parser.parse_args(arguments)


def picture(text: str) -> Path:
    try:
        return place_for(text)
    except ConfigurationError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def sync_rows(libraries: Sequence[Library], effort: Effort, wanted: Wanted, rng: random.Random) -> list[Row]:
    chosen = [case for library in libraries for case in cases(library) if wanted(case.id)]
    needed = {name: make() for name, make in REFERENCES.items() if any(name in case.limits for case in chosen)}
    return measure(chosen, needed, effort, rng)


async def async_rows(libraries: Sequence[Library], effort: Effort, wanted: Wanted, rng: random.Random) -> list[Row]:
    chosen = [case for library in libraries for case in await acases(library) if wanted(case.id)]
    needed = {name: make() for name, make in AREFERENCES.items() if any(name in case.limits for case in chosen)}
    return await ameasure(chosen, needed, effort, rng)


def main(arguments: Sequence[str]) -> int:
    asked = options(arguments)
    quick: bool = asked.quick
    pattern = re.compile(asked.only, re.IGNORECASE)

    def wanted(name: str) -> bool:
        return pattern.search(name) is not None

    rng = random.SystemRandom()
    others, versions = rivals.installed()
    versions = {name: rivals.version_of(name) for name in ("resilient-toolkit", "wrapt", "dbos")} | versions
    libraries = [OURS, *others]
    effort = Effort(rounds=15, seconds=0.001) if quick else Effort(rounds=61, seconds=0.002)

    rows = sync_rows([*libraries, BASELINE], effort, wanted, rng)
    rows += asyncio.run(async_rows([*libraries, BASELINE], effort, wanted, rng))
    crowd = [library for library in libraries if wanted(f"threads/{threads.PATTERN}/{library.name}")]
    if crowd:
        rows += threads.measure(crowd, OURS.name, Effort(rounds=3 if quick else 9, seconds=0.05))
    modules = [library.name for library in libraries if wanted(f"import/{imports.PATTERN}/{library.name}")]
    if modules:
        rows += imports.measure(modules, OURS.name, 5 if quick else 21, rng)
    count, calls = (300, 100_000) if quick else (2_000, 1_000_000)
    rows += memory.measure(OURS.name, count, calls, wanted)
    if wanted(f"memory/garbage/{OURS.name}"):
        rows += garbage.measure(OURS.name)

    rows += injections.measure(OURS.name, effort, rng, wanted)
    rows += metrics.measure(OURS.name, effort, rng, wanted)
    rows += simulations.measure(OURS.name, quick, rng, wanted)

    # Last, as DBOS has threads of its own.
    rows += recoveries.measure(OURS.name, 5 if quick else 15, 300 if quick else 10_000, wanted)

    setting = report.Setting.here(versions, arguments)
    names = [library.name for library in libraries]
    over = [row for row in rows if row.over]
    sys.stdout.write(report.terminal(rows, setting, names))
    sys.stdout.writelines(
        f"over: {row.section}, {row.pattern}: {report.amount(row)} ({row.against}), limit {report.limit(row)}\n"
        for row in over
    )
    if asked.json:
        asked.json.write_text(report.as_json(rows, setting), encoding="utf-8")
    if asked.markdown:
        asked.markdown.parent.mkdir(parents=True, exist_ok=True)
        asked.markdown.write_text(report.page(rows, setting, names, asked.markdown, asked.plot), encoding="utf-8")
    if asked.plot:
        write(asked.plot, plot.draw(rows, [*names, BASELINE.name]))
    return 1 if over and asked.check else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
