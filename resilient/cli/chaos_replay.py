"""`resilient chaos replay`: runs the scenarios of a report again, with their seeds, and compares."""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resilient.cli.chaos_command import INVALID, check_environment, refuse_unknown
from resilient.cli.plan_output import CommandError, Output, deliver
from resilient.cli.plan_text import plain
from resilient.errors import ConfigurationError
from resilient.testing import seeds
from resilient.testing.files.loading import scenario_from
from resilient.testing.recovery.framework import RecoveryTestFramework
from resilient.testing.recovery.recording import error_text
from resilient.testing.recovery.report import TestReport
from resilient.testing.recovery.result import RecoveryTestResult
from resilient.testing.recovery.scenario import RecoveryTestScenario


def replay_command(arguments: argparse.Namespace) -> int:
    """Run the scenarios of a report again; 0 if all went as recorded, else 1."""
    check_environment(arguments.allow_in_production)
    recorded = _read(arguments.file).results
    if not recorded:
        raise CommandError(f"{arguments.file} has no scenarios, so there is nothing to run again")
    refuse_unknown(arguments.ids, [one.scenario_id for one in recorded], arguments.file)
    wanted = [one for one in recorded if not arguments.ids or one.scenario_id in arguments.ids]
    told = []
    for one in wanted:
        told.append(_replayed(one, arguments))
        Output(sys.stderr if arguments.json else sys.stdout).write(_line(told[-1]))
    agrees = all(one["agrees"] for one in told)
    if arguments.json:
        deliver(f"{json.dumps({'agrees': agrees, 'scenarios': told}, indent=2)}\n", None)
    return 0 if agrees else 1


def _read(file: str) -> TestReport:
    try:
        return TestReport.from_json(Path(file).read_text("utf-8-sig"))
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror or error}", INVALID) from None
    except (ValueError, ConfigurationError) as error:
        raise CommandError(f"{file}: {error}", INVALID) from None


def _replayed(recorded: RecoveryTestResult, arguments: argparse.Namespace) -> dict[str, Any]:
    """What came of running one again, beside what is recorded."""
    told: dict[str, Any] = {"id": recorded.scenario_id, "seed": recorded.seed, "recorded": _numbers(recorded)}
    if recorded.source is None:
        return {**told, "agrees": False, "why": f"the report does not hold it; run it by: {recorded.replay}"}
    words = ["resilient", "chaos", "replay", arguments.file, recorded.scenario_id]
    framework = RecoveryTestFramework(allow_in_production=arguments.allow_in_production)
    try:
        scenario = _with_seeds(scenario_from(recorded.source), recorded)
        with seeds.session(str(recorded.seed), shlex.join(words)):
            result = framework.run_test_scenario(scenario)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it has to say, the next one is to run
        return {**told, "agrees": False, "why": f"could not be run: {error_text(error)}"}
    now = _numbers(result)
    same_hits = all(
        one.fired == two.fired
        for one, two in zip(recorded.faults, result.faults, strict=True)
        if one.calls == two.calls
    )
    return {**told, "now": now, "agrees": same_hits and result.status is recorded.status}


def _with_seeds(scenario: RecoveryTestScenario, recorded: RecoveryTestResult) -> RecoveryTestScenario:
    """The scenario with the seeds that its faults had."""
    if len(scenario.injections) != len(recorded.faults):
        raise ConfigurationError("the faults that are recorded are not those of the scenario")
    pairs = zip(scenario.injections, recorded.faults, strict=True)
    return dataclasses.replace(
        scenario, error_injection=tuple(dataclasses.replace(one, seed=past.seed) for one, past in pairs)
    )


def _numbers(result: RecoveryTestResult) -> dict[str, Any]:
    return {
        "status": result.status.value,
        "fired": result.fired,
        "calls": sum(one.calls for one in result.faults),
    }


def _line(told: Mapping[str, Any]) -> str:
    """How it went again, in words."""
    before, now = told["recorded"], told.get("now")
    if now is None:
        return f"{plain(told['id'])}: {plain(told['why'])}"
    status = now["status"] if now["status"] == before["status"] else f"{now['status']}, recorded was {before['status']}"
    hits = f"hit {now['fired']} of {now['calls']} calls"
    if (now["fired"], now["calls"]) != (before["fired"], before["calls"]):
        hits += f", recorded were {before['fired']} of {before['calls']}"
        # Each call's fate is drawn from the seed and its number, so there is nothing odd about other hits.
        hits += " (in real time the number of calls varies)" if now["calls"] != before["calls"] else ""
    return f"{plain(told['id'])}: {'as recorded' if told['agrees'] else 'NOT as recorded'}: {status}; {hits}"
