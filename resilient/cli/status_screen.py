"""The picture of `resilient status` that is drawn again and again. Needs rich."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from resilient.cli.status_text import HEADINGS, PolicyRow, policies, sections, summary

_STYLES = ("bold red", "yellow", "dim", "green")
#: Lines that are not rows of the table: title, headings, remarks and the sections below.
_AROUND = 8


class Screen:
    """A live table; what does not fit is counted below it."""

    def __init__(self, out: TextIO, title: str) -> None:
        self._console = Console(file=out, highlight=False, markup=False, emoji=False)
        self._title = title
        self._live = Live(console=self._console, auto_refresh=False, screen=True)
        self._last: Mapping[str, Any] = {}

    def __enter__(self) -> Screen:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._live.stop()

    def show(self, snapshot: Mapping[str, Any]) -> None:
        """Draw a snapshot."""
        self._last = snapshot
        self._draw(Text(f"{self._title}  {datetime.now().astimezone():%H:%M:%S}", "dim"))

    def lost(self, why: str) -> None:
        """Draw the last snapshot again, and say that there is no newer one."""
        self._draw(Text(f"not the latest: {why}", "bold yellow"))

    def _draw(self, head: Text) -> None:
        self._live.update(Group(*self.parts(head)), refresh=True)

    def parts(self, head: Text) -> Iterator[RenderableType]:
        """What is drawn, from top to bottom."""
        yield head
        yield Text(summary(self._last), "bold")
        below = list(sections(self._last))
        room = self._console.height - _AROUND - sum(len(lines) + 2 for _, lines in below)
        rows = policies(self._last)
        shown = rows[: max(3, room)]
        if rows:
            yield self._table(shown)
        if len(shown) < len(rows):
            yield Text(f"and {len(rows) - len(shown):,} more, which concern less: --once shows all", "dim")
        for heading, lines in below:
            yield Text(f"\n{heading}", "bold")
            for line in lines:
                yield Text(f"  {line}")

    def _table(self, rows: list[PolicyRow]) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False)
        for heading in HEADINGS:
            wide = heading in ("name", "numbers")
            justify: Any = "right" if heading in ("calls", "failing", "inside") else "left"
            table.add_column(heading, no_wrap=True, overflow="ellipsis", ratio=2 if wide else None, justify=justify)
        for row in rows:
            cells = (Text(cell, _STYLES[row.concern] if place == 2 else "") for place, cell in enumerate(row[1:]))
            table.add_row(*cells)
        return table
