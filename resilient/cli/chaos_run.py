"""`resilient chaos run`: runs the scenarios of a file, shows how it goes, and writes reports."""

from __future__ import annotations

import argparse
import importlib.util
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from resilient.cli.chaos_command import check_environment, chosen
from resilient.cli.chaos_progress import Lines, Progress, Quiet, Watching, summed
from resilient.cli.plan_output import CommandError, Output, deliver, tell, width_of
from resilient.testing import seeds
from resilient.testing.files.loading import load_scenarios
from resilient.testing.recovery.framework import RecoveryTestFramework
from resilient.testing.recovery.recording import error_text
from resilient.testing.recovery.report import TestReport
from resilient.testing.recovery.result import RecoveryTestResult
from resilient.testing.recovery.scenario import RecoveryTestScenario

_NARROWEST = 80  # columns of a terminal
_FILES = ("report.html", "report.json", "report.xml", "report.md")


class _Ended(NamedTuple):
    """The results, how many scenarios could not be run, and what stopped it before all of them had their turn."""

    report: TestReport
    broken: int
    stop: KeyboardInterrupt | None


def run_command(arguments: argparse.Namespace) -> int:
    """Run the scenarios asked for; 0 if all passed, else 1."""
    check_environment(arguments.allow_in_production)
    scenarios = chosen(load_scenarios(arguments.file), arguments.ids, arguments.file)
    directory = None if arguments.report is None else _directory(arguments.report)
    out = sys.stderr if arguments.json else sys.stdout
    report, broken, stop = _run_all(scenarios, progress_for(out, scenarios, quiet=arguments.quiet), arguments)
    if stop is not None and not report.total:
        raise stop
    is_saved = directory is None or _save(report, directory, Output(out))
    Output(out).write(summed(report, broken, len(scenarios) - report.total - broken))
    if arguments.json:  # the last, as it may be what cannot be written
        deliver(f"{report.to_json().rstrip()}\n", None)
    if stop is not None:
        raise stop
    return 0 if report.ok and not broken and is_saved else 1


def progress_for(out: TextIO, scenarios: Sequence[RecoveryTestScenario], *, quiet: bool) -> Progress:
    """What suits the reader: a live table on a wide terminal where rich is installed, lines elsewhere."""
    if quiet:
        return Quiet(out)
    # In a narrower one the columns would crowd out each other.
    capable = (width_of(out) or 0) >= _NARROWEST and os.environ.get("TERM", "") not in ("", "dumb", "unknown")
    if capable and importlib.util.find_spec("rich") is not None:
        from resilient.cli.chaos_table import Table

        return Table(out, scenarios)
    return Lines(out)


def _run_all(scenarios: Sequence[RecoveryTestScenario], progress: Progress, arguments: argparse.Namespace) -> _Ended:
    framework = RecoveryTestFramework(Watching(progress), allow_in_production=arguments.allow_in_production)
    results: list[RecoveryTestResult] = []
    broken, stop = 0, None
    try:
        for scenario in scenarios:
            progress.begin(scenario)
            try:
                results.append(_run(framework, scenario, arguments))
            except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it has to say, the next one is to run
                broken += 1
                progress.broken(scenario, error_text(error))
            else:
                progress.end(results[-1])
    except KeyboardInterrupt as error:
        stop = error  # what has ended may be the work of hours
    finally:
        progress.close()
    return _Ended(TestReport(results), broken, stop)


def _run(
    framework: RecoveryTestFramework, scenario: RecoveryTestScenario, arguments: argparse.Namespace
) -> RecoveryTestResult:
    words = ["resilient", "chaos", "run", arguments.file, scenario.id]
    seed = arguments.seed
    own = [one.seed for one in scenario.injections if one.seed is not None]
    if seed is None and not own:
        seed = seeds.fresh()
    if seed is not None:
        # With an equals sign, or a negative one would look like an option.
        words += ["--seed", str(seed)] if seed >= 0 else [f"--seed={seed}"]
    if arguments.allow_in_production:
        words.append("--allow-in-production")
    # Where the file has some, those of the other faults follow from it, so that the file alone says all.
    with seeds.session(str(own[0] if seed is None else seed), shlex.join(words)):
        return framework.run_test_scenario(scenario, seed=seed)


def _directory(path: str) -> Path:
    """The directory for reports, made before anything runs; CommandError where it cannot be."""
    directory = Path(path)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise CommandError(f"--report {path}: cannot be made: {getattr(error, 'strerror', None) or error}") from None
    return directory


def _save(report: TestReport, directory: Path, out: Output) -> bool:
    """Write what can be written, and say so; whether that was all."""
    is_all = True
    for name in _FILES:
        try:
            path: Any = report.save(directory / name)
        except OSError as error:
            is_all = False
            tell(f"resilient chaos run: {directory / name} cannot be written: {error.strerror or error}")
        else:
            out.write(f"wrote {path}")
    return is_all
