"""`resilient demo`: lets the story run, shows it while it happens, and judges the end."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from resilient import registry
from resilient.demo import report, story
from resilient.demo.lines import Line
from resilient.demo.outcome import Outcome
from resilient.demo.process import ServiceFailure
from resilient.demo.settings import Settings
from resilient.errors import ConfigurationError

#: Runs the demo and shows it, one way or the other; what is to happen in the end, before its callers are stopped.
Play = Callable[[Settings, Callable[[], None] | None], Outcome]


def run_demo(
    settings: Settings, *, as_json: bool, plot: Path | None = None, serve: int | None = None, keep: bool = False
) -> int:
    """Run the demo once, and draw it where `plot` says; 0 when the service recovered through the breaker, else 1.

    With `serve` the status page and the metrics are at this port meanwhile; with `keep` also afterwards, until Ctrl-C.
    It is 1 as well when the picture could not be written, or the port is not to be had.
    """
    play = _run_silent if as_json else _run_live
    try:
        # Page and policies are in one scope, as the page would hear nothing from within another.
        with registry.scoped():
            outcome = play(settings, None) if serve is None else _run_monitored(play, settings, serve, keep)
    except ConfigurationError as error:
        sys.stderr.write(f"resilient demo: --serve: {error}\n")
        return 1
    except ServiceFailure as failure:
        if as_json:
            _print(json.dumps({"recovered": False, "verdict": str(failure)}, indent=2))
        else:
            sys.stderr.write(f"resilient demo: {failure}\n")
        return 1
    is_drawn = plot is None or _draw(outcome, plot, as_json=as_json)
    return 0 if outcome.verdict.recovered and is_drawn else 1


def _draw(outcome: Outcome, place: Path, *, as_json: bool) -> bool:
    """Draw the run; whether that went well, as its numbers are shown in any case."""
    from resilient.demo.plot import draw
    from resilient.drawing.saving import write

    try:
        write(place, draw(outcome))
    except OSError as error:
        sys.stderr.write(f"resilient demo: --plot {place} could not be written: {error.strerror or error}\n")
        return False
    if not as_json:
        _print(f"The picture of it is in {place}.")
    return True


def _run_monitored(play: Play, settings: Settings, port: int, keep: bool) -> Outcome:
    """Run it with its page and metrics to be seen; where they are goes to stderr, which is no part of the document."""
    from resilient.demo.monitor import monitored

    with monitored(port) as server:

        def linger() -> None:
            sys.stderr.write(f"The callers go on, and {server.url} stays up, until Ctrl-C.\n")
            with suppress(KeyboardInterrupt):
                server.wait()

        sys.stderr.write(f"Status page: {server.url}  Metrics: {server.url}metrics\n")
        return play(settings, linger if keep else None)


def _run_silent(settings: Settings, linger: Callable[[], None] | None = None) -> Outcome:
    def show_outcome(outcome: Outcome) -> None:
        _print(json.dumps(report.as_document(outcome), indent=2))

    return _play(settings, lambda line: None, show_outcome, linger)


def _run_live(settings: Settings, linger: Callable[[], None] | None = None) -> Outcome:
    style = report.style_for(sys.stdout)

    def show(line: Line) -> None:
        _print(report.render_line(line, style))

    def show_outcome(outcome: Outcome) -> None:
        _print(report.render_outcome(outcome, style))

    _print(report.render_intro(settings, style))
    return _play(settings, show, show_outcome, linger)


def _play(
    settings: Settings,
    show: Callable[[Line], None],
    show_outcome: Callable[[Outcome], None],
    linger: Callable[[], None] | None,
) -> Outcome:
    """Run the story, and tell how it ended before anything lingers."""
    if linger is None:
        outcome = story.run(settings, show)
        show_outcome(outcome)
        return outcome

    def stay(outcome: Outcome) -> None:
        show_outcome(outcome)
        linger()

    return story.run(settings, show, stay)


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    # Through a pipe the lines would otherwise arrive all together at the end.
    sys.stdout.flush()
