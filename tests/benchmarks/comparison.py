"""The command `python -m tests.benchmarks.comparison`: put every library to the test, and write the page."""

from __future__ import annotations

import argparse
import logging
import re
import shlex
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from string import Template

from . import (
    comparison_breaker_probes,
    comparison_limit_probes,
    comparison_other_probes,
    comparison_result_probes,
    comparison_retry_probes,
)
from .comparison_libraries import Parts
from .comparison_rivals import LIBRARIES
from .comparison_tools import ABSENT, PROBES, Probe
from .report import Setting, table
from .rivals import version_of

ROOT = Path(__file__).parents[2]
TEMPLATE = Path(__file__).with_name("comparison.template.md")
MODULES = (
    comparison_retry_probes,
    comparison_breaker_probes,
    comparison_result_probes,
    comparison_limit_probes,
    comparison_other_probes,
)
OTHERS = comparison_other_probes.OTHERS

Verdicts = Mapping[str, str]


def questions() -> list[Probe]:
    """All probes, in the order of the page."""
    return [probe for module in MODULES for probe in PROBES if probe.ask.__module__ == module.__name__]


def installed() -> tuple[list[Parts], dict[str, str]]:
    """The libraries that are here, and the version of each by name, or why it is missing."""
    libraries, versions = [], {"resilient": "source tree"}
    for name, make in LIBRARIES.items():
        try:
            libraries.append(make())
        except ImportError as error:
            versions[name] = f"missing ({error})"
            continue
        versions.setdefault(name, version_of(name))
    return libraries, versions


def ask(probe: Probe, libraries: Sequence[Parts]) -> dict[str, str]:
    """One row: the verdict for each library by name."""
    return {parts.name: probe.verdict(parts) for parts in libraries}


def section(rows: Mapping[Probe, Verdicts], names: Sequence[str]) -> str:
    """One table, without the libraries that have nothing in it; the first always stays."""
    present = [name for name in names if name == names[0] or any(row[name] != ABSENT for row in rows.values())]
    lines = [[probe.claim, *(row[name] for name in present)] for probe, row in rows.items()]
    return table(["claim", *present], lines, left=1 + len(present))


def tables(rows: Mapping[Probe, Verdicts], names: Sequence[str]) -> str:
    """All of them, each under the heading that its probes name."""
    titles = list(dict.fromkeys(probe.section for probe in rows))
    parts = []
    for title in titles:
        chosen = {probe: row for probe, row in rows.items() if probe.section == title}
        parts.append(f"## {title}\n\n{section(chosen, names)}")
    return "\n\n".join(parts)


def required(name: str) -> set[str]:
    """The distributions that one needs, and what those need, as far as they are installed here."""
    found: set[str] = set()
    ahead = [name]
    while ahead:
        for each in _requirements(ahead.pop()):
            if each not in found:
                found.add(each)
                ahead.append(each)
    return found


def _requirements(name: str) -> list[str]:
    if name == "resilient":
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        lines: Sequence[str] = project["dependencies"]
    else:
        lines = [line for line in requires(name) or [] if "extra ==" not in line]
    wanted = [match[0] for line in lines if (match := re.match(r"[\w.-]+", line))]
    return [each for each in wanted if _is_installed(each)]


def _is_installed(name: str) -> bool:
    try:
        requires(name)
    except PackageNotFoundError:
        # Wanted only by other versions of Python.
        return False
    return True


def needs(names: Sequence[str]) -> str:
    """What each library needs beside itself."""
    return table(
        ["library", "needs"], [(name, ", ".join(sorted(required(name))) or "nothing") for name in names], left=2
    )


def page(rows: Mapping[Probe, Verdicts], names: Sequence[str], setting: Setting) -> str:
    """The page of the documentation."""
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        tables=tables(rows, names), needs=needs(names), made="\n".join(setting.lines())
    )


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.comparison", description=__doc__)
    parser.add_argument("--markdown", metavar="FILE", type=Path, help="write the page for the documentation")
    asked = parser.parse_args(arguments)

    # What the libraries log about the failures that they are given says nothing here.
    logging.disable(logging.CRITICAL)
    libraries, versions = installed()
    names = [parts.name for parts in libraries]
    rows = {probe: ask(probe, libraries) for probe in questions()}
    command = shlex.join(["python", "-m", "tests.benchmarks.comparison", *arguments])
    setting = replace(Setting.here(versions, arguments), command=command)
    sys.stdout.write(tables(rows, names) + "\n\n" + "\n".join(setting.lines()) + "\n")
    if asked.markdown:
        asked.markdown.write_text(page(rows, names, setting), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
