"""How the demo looks: from data to text, and nothing else, so that each piece can be tested alone."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TextIO

from resilient.demo.lines import Line
from resilient.demo.narrator import Transition
from resilient.demo.outcome import Outcome
from resilient.demo.settings import Settings
from resilient.demo.table import policy_rows
from resilient.demo.traffic import Second

STRIP_WIDTH = 26
_COLOURS = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
_KIND_COLOUR = {
    "phase": "bold",
    "service": "cyan",
    "breaker": "yellow",
    "probe": "yellow",
    "retry": "dim",
    "timeout": "dim",
    "answered": "dim",
}
# Outcome, its mark in Unicode and in ASCII, its colour.
_MARKS = (
    ("ok", "█", "o", "green"),
    ("fallback", "▒", "f", "yellow"),
    ("rejected", "x", "r", "red"),
    ("failed", "!", "!", "red"),
)

MEANINGS = {
    "ok": "the service answered",
    "fallback": "a stand-in answered",
    "rejected": "the bulkhead was full",
    "failed": "an error reached the caller",
}


@dataclass(frozen=True, slots=True)
class Style:
    """What the reader's screen can show."""

    colour: bool = False
    unicode: bool = False

    def paint(self, text: str, colour: str) -> str:
        """The text in this colour, or as it is."""
        return f"\033[{_COLOURS[colour]}m{text}\033[0m" if text and self.colour and colour in _COLOURS else text


def style_for(stream: TextIO, environ: Mapping[str, str] = os.environ) -> Style:
    """Colour on a terminal unless NO_COLOR is set; block characters where the stream speaks UTF-8."""
    encoding = (getattr(stream, "encoding", None) or "ascii").lower().replace("-", "").replace("_", "")
    return Style(colour=stream.isatty() and not environ.get("NO_COLOR"), unicode=encoding == "utf8")


def render_intro(settings: Settings, style: Style) -> str:
    """Two lines on what will be seen, and the settings."""
    return "\n".join(
        (
            "A small stock service runs in its own process. Threads and tasks call it through all five decorators.",
            "Half-way it is killed, then started again: watch what its callers get, and how the breaker finds back.",
            style.paint(
                f"({settings.seconds:g} s, seed {settings.seed}, latency {settings.latency:g} s, "
                f"{settings.error_rate:.0%} errors, {settings.limit:g} s per attempt)",
                "dim",
            ),
        )
    )


def render_line(line: Line, style: Style) -> str:
    """One aligned line of the live picture; a phase gets an empty line before it."""
    text = f"{line.at:5.1f} s  {line.kind:<9}  {line.text}"
    painted = style.paint(text, _KIND_COLOUR.get(line.kind, ""))
    return f"\n{painted}" if line.kind == "phase" else painted


def render_outcome(outcome: Outcome, style: Style) -> str:
    """Everything after the live lines: strip, table, verdict."""
    verdict = style.paint(outcome.verdict.text, "green" if outcome.verdict.recovered else "red")
    return "\n\n".join(
        (
            "",
            render_strip(outcome.seconds, remarks(outcome), style),
            render_table(policy_rows(outcome.snapshot), style),
            verdict,
        )
    ).removeprefix("\n")


def remarks(outcome: Outcome) -> dict[int, str]:
    """What happened in which second, in a few words, in the order of events."""
    happened = [(outcome.killed_at, "killed"), (outcome.restarted_at, "back")]
    happened += [(change.at, words) for change in outcome.transitions if (words := _in_words(change))]
    seconds: dict[int, Counter[str]] = {}
    for at, words in sorted(happened):
        seconds.setdefault(int(at), Counter())[words] += 1
    return {
        second: ", ".join(words if times == 1 else f"{words} x{times}" for words, times in counted.items())
        for second, counted in seconds.items()
    }


def _in_words(change: Transition) -> str:
    match change.old, change.new:
        case "half_open", "open":
            return "probes fail"
        case "half_open", "closed":
            return "recovered"
        case _, "half_open":
            return ""
        case _:
            return f"breaker {change.new}"


def render_strip(seconds: Sequence[Second], marks: Mapping[int, str], style: Style) -> str:
    """A row per second: counts, a bar of what callers saw, and a remark."""
    shown = [mark for mark in _MARKS if mark[0] != "failed" or any(second.failed for second in seconds)]
    most = max((second.total for second in seconds), default=0)
    head = "second" + "".join(f"{name:>10}" for name, *_ in shown)
    rows = [style.paint("What callers saw, second by second", "bold"), head]
    for number, second in enumerate(seconds):
        counts = "".join(f"{getattr(second, name):>10}" for name, *_ in shown)
        cells = share_out([getattr(second, name) for name, *_ in shown], most, STRIP_WIDTH)
        bar = "".join(
            style.paint((block if style.unicode else letter) * width, colour)
            for width, (_, block, letter, colour) in zip(cells, shown, strict=True)
        )
        padding = " " * (STRIP_WIDTH - sum(cells))
        rows.append(f"{number:>6}{counts}   {bar}{padding}  {marks.get(number, '')}".rstrip())
    total = "".join(f"{sum(getattr(second, name) for second in seconds):>10}" for name, *_ in shown)
    rows.append(f"   all{total}")
    rows.append("Legend: " + ", ".join(_legend(mark, style) for mark in shown))
    return "\n".join(rows)


def share_out(counts: Sequence[int], most: int, width: int) -> list[int]:
    """Cells for each count so that `most` fills `width`; what happened at all gets a cell."""
    if most <= 0:
        return [0 for _ in counts]
    cells = [max(1, round(count * width / most)) if count else 0 for count in counts]
    while sum(cells) > width:
        cells[cells.index(max(cells))] -= 1
    return cells


def _legend(mark: tuple[str, str, str, str], style: Style) -> str:
    name, block, letter, colour = mark
    return f"{style.paint(block if style.unicode else letter, colour)} {name} ({MEANINGS[name]})"


def render_table(rows: Iterable[tuple[str, str, str, str]], style: Style) -> str:
    """The policies in aligned columns."""
    table = [("policy", "name", "state", "numbers"), *rows]
    widths = [max(len(row[column]) for row in table) for column in range(3)]
    lines = [
        "  ".join((*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3])).rstrip()
        for row in table
    ]
    return "\n".join((style.paint("What the registry holds", "bold"), *lines))


def as_document(outcome: Outcome) -> dict[str, Any]:
    """The whole run as plain data for JSON."""
    total = sum(outcome.seconds, Second())
    return {
        "recovered": outcome.verdict.recovered,
        "verdict": outcome.verdict.text,
        "settings": asdict(outcome.settings),
        "phases": [_rounded(asdict(phase)) for phase in outcome.phases],
        "killed_at": round(outcome.killed_at, 3),
        "restarted_at": round(outcome.restarted_at, 3),
        "transitions": [_rounded(asdict(change)) for change in outcome.transitions],
        "calls": outcome.calls,
        "outcomes": asdict(total),
        "seconds": [{"second": number, **asdict(second)} for number, second in enumerate(outcome.seconds)],
        "events": outcome.event_counts,
        "timeline": [_rounded(asdict(line)) for line in outcome.lines],
        "registry": outcome.snapshot,
    }


def _rounded(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in fields.items()}
