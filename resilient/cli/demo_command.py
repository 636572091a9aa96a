"""`resilient demo`: lets the story run, shows it while it happens, and judges the end."""

from __future__ import annotations

import json
import sys

from resilient.demo import report, story
from resilient.demo.lines import Line
from resilient.demo.outcome import Outcome
from resilient.demo.process import ServiceFailure
from resilient.demo.settings import Settings


def run_demo(settings: Settings, *, as_json: bool) -> int:
    """Run the demo once; 0 when the service recovered through the breaker, else 1."""
    try:
        outcome = _run_silent(settings) if as_json else _run_live(settings)
    except ServiceFailure as failure:
        if as_json:
            _print(json.dumps({"recovered": False, "verdict": str(failure)}, indent=2))
        else:
            sys.stderr.write(f"resilient demo: {failure}\n")
        return 1
    return 0 if outcome.verdict.recovered else 1


def _run_silent(settings: Settings) -> Outcome:
    outcome = story.run(settings, lambda line: None)
    _print(json.dumps(report.as_document(outcome), indent=2))
    return outcome


def _run_live(settings: Settings) -> Outcome:
    style = report.style_for(sys.stdout)

    def show(line: Line) -> None:
        _print(report.render_line(line, style))

    _print(report.render_intro(settings, style))
    outcome = story.run(settings, show)
    _print(report.render_outcome(outcome, style))
    return outcome


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    # Through a pipe the lines would otherwise arrive all together at the end.
    sys.stdout.flush()
