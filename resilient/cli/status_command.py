"""`resilient status`: looks at a status page again and again, and shows it in the terminal."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time

from resilient.cli.plan_output import show_anything, width_of
from resilient.cli.plan_text import plain
from resilient.cli.status_source import Source, SourceError
from resilient.cli.status_text import as_lines


def run_status(url: str, *, interval: float, once: bool, as_json: bool) -> int:
    """Show the policies behind a status page; 0, or 1 where it cannot be reached."""
    show_anything()
    source = Source(url)
    try:
        if as_json:
            sys.stdout.write(f"{json.dumps(source.fetch(), indent=2)}\n")
        elif once or not _is_lively():
            sys.stdout.write("".join(f"{line}\n" for line in as_lines(source.fetch())))
        else:
            _watch(source, interval)
    except SourceError as error:
        # What has answered is not known, so it may be anything, also orders for the terminal.
        sys.stderr.write(f"resilient status: {plain(str(error))}\n")
        return 1
    return 0


def _is_lively() -> bool:
    """Whether there is a terminal to draw on, and rich to draw with."""
    capable = width_of(sys.stdout) is not None and os.environ.get("TERM", "") not in ("", "dumb", "unknown")
    return capable and importlib.util.find_spec("rich") is not None


def _watch(source: Source, interval: float) -> None:
    """Draw until Ctrl-C; the first picture must succeed, later ones may fail for a while."""
    from resilient.cli.status_screen import Screen

    first = source.fetch()
    with Screen(sys.stdout, source.url) as screen:
        screen.show(first)
        while True:
            time.sleep(interval)
            try:
                screen.show(source.fetch())
            except SourceError as error:
                screen.lost(plain(str(error)))
