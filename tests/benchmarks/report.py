"""The rows as text: for the terminal, as JSON, and as the page of the documentation."""

from __future__ import annotations

import datetime
import json
import os
import platform
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from string import Template
from urllib.parse import quote

from .harness import Row

TEMPLATE = Path(__file__).with_name("speed.template.md")
BASELINE, BARE, W = "baseline", "bare call", "wrapt decorator that does nothing"


@dataclass(frozen=True)
class Setting:
    """Where and how the rows were measured."""

    python: str
    cpus: int
    versions: Mapping[str, str]
    date: str
    command: str

    @classmethod
    def here(cls, versions: Mapping[str, str], arguments: Sequence[str]) -> Setting:
        python = f"{platform.python_implementation()} {platform.python_version()}"
        command = shlex.join(["python", "-m", "tests.benchmarks", *arguments])
        return cls(
            python, os.cpu_count() or 1, versions, datetime.datetime.now(datetime.UTC).date().isoformat(), command
        )

    def lines(self) -> list[str]:
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return [
            f"- Command: `{self.command}`",
            f"- Date: {self.date}",
            f"- Python: {self.python}, {self.cpus} CPUs",
            f"- Versions: {versions}",
        ]


def number(value: float) -> str:
    """Few digits, and no more than the noise leaves meaning in."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def amount(row: Row) -> str:
    return number(row.value) if row.unit == "x" else f"{row.value:,.0f} {row.unit}"


def limit(row: Row) -> str:
    if row.limit is None:
        return ""
    sign = "≥" if row.at_least else "≤"
    return f"{sign} {row.limit:.2f}" if row.unit == "x" else f"{sign} {row.limit:,.0f} {row.unit}"


def verdict(row: Row) -> str:
    if row.limit is None:
        return ""
    return "**over**" if row.over else "ok"


def table(head: Sequence[str], lines: Iterable[Sequence[str]], left: int) -> str:
    """A Markdown table whose first columns are aligned left, the others right."""
    body = [list(line) for line in lines]
    if not body:
        return "Nothing was measured."
    widths = [max(len(cell) for cell in column) for column in zip(head, *body, strict=True)]
    rule = ["-" * width if place < left else "-" * (width - 1) + ":" for place, width in enumerate(widths)]

    def text(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "| " + " | ".join(padded) + " |"

    return "\n".join([text(head), text(rule), *map(text, body)])


def ours(rows: Sequence[Row], library: str) -> str:
    """One library with its limits."""
    lines = [
        (
            row.section,
            row.pattern,
            row.against,
            amount(row),
            "" if row.low is None or row.high is None else f"{number(row.low)} - {number(row.high)}",
            limit(row),
            verdict(row),
            "" if row.absolute is None else f"{row.absolute:,.0f} {row.absolute_unit}",
        )
        for row in rows
        if row.library == library
    ]
    return table(["", "what", "against", "figure", "middle half", "limit", "verdict", "time, rate"], lines, left=3)


def side_by_side(rows: Iterable[Row], columns: Sequence[str]) -> str:
    """Timed calls: a line for each pattern, a column for each library that has any of them."""
    cells: dict[str, dict[str, str]] = {}
    for row in rows:
        if row.against == "W" and row.absolute is not None:
            cells.setdefault(row.pattern, {})[row.library] = f"{number(row.value)} ({row.absolute:,.0f})"
    present = [column for column in columns if any(column in line for line in cells.values())]
    lines = [[pattern, *(line.get(column, "") for column in present)] for pattern, line in cells.items()]
    return table(["what", *present], lines, left=1)


def by_library(rows: Iterable[Row], libraries: Sequence[str]) -> str:
    """The rest: a line for each library, with its ratio and its rate or time."""
    lines: dict[str, dict[str, str]] = {}
    for row in rows:
        if row.absolute is not None:
            shown = f"{number(row.value)} ({row.absolute:,.0f} {row.absolute_unit})"
            lines.setdefault(row.library, {})[row.pattern] = shown
    ordered = sorted(lines.items(), key=lambda item: [*libraries, item[0]].index(item[0]))
    patterns = list(dict.fromkeys(pattern for line in lines.values() for pattern in line))
    body = [[library, *(line.get(pattern, "") for pattern in patterns)] for library, line in ordered]
    return table(["library", *patterns], body, left=1)


def nanoseconds(rows: Iterable[Row], section: str, pattern: str) -> str:
    for row in rows:
        if row.section == section and row.pattern == pattern and row.absolute is not None:
            return f"{row.absolute:,.0f} ns"
    return "(not measured)"


def parts(rows: Sequence[Row], setting: Setting, libraries: Sequence[str]) -> dict[str, str]:
    """The tables by the names that the template has for them; the first library is the one that is judged."""
    section: dict[str, list[Row]] = {}
    for row in rows:
        section.setdefault(row.section, []).append(row)
    return {
        "made": "\n".join(setting.lines()),
        "ours": ours(rows, libraries[0]),
        "sync": side_by_side(section.get("sync", []), [*libraries, BASELINE]),
        "asynchronous": side_by_side(section.get("async", []), [*libraries, BASELINE]),
        "recovery": by_library(section.get("recovery", []), [*libraries, "dbos"]),
        "others": by_library(section.get("threads", []) + section.get("import", []), [*libraries, BASELINE]),
    }


def picture(markdown: Path | None, plot: Path | None) -> str:
    """The picture as the page shows it, with its way from there; nothing if there is none."""
    if markdown is None or plot is None:
        return ""
    way = quote(Path(os.path.relpath(plot.absolute(), markdown.absolute().parent)).as_posix())
    return f"![The figures of the two tables that follow, as bars]({way})\n\n"


def page(
    rows: Sequence[Row],
    setting: Setting,
    libraries: Sequence[str],
    markdown: Path | None = None,
    plot: Path | None = None,
) -> str:
    """The page of the documentation; with the picture, if it is told where both will lie."""
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        parts(rows, setting, libraries),
        picture=picture(markdown, plot),
        w=nanoseconds(rows, "sync", W),
        aw=nanoseconds(rows, "async", W),
        bare=nanoseconds(rows, "sync", BARE),
        abare=nanoseconds(rows, "async", BARE),
    )


def terminal(rows: Sequence[Row], setting: Setting, libraries: Sequence[str]) -> str:
    return "\n\n".join(parts(rows, setting, libraries).values()) + "\n"


def as_json(rows: Sequence[Row], setting: Setting) -> str:
    content = {"setting": asdict(setting), "rows": [asdict(row) | {"over": row.over} for row in rows]}
    return json.dumps(content, indent=1) + "\n"
