"""A report as JSON: everything, with a version, to be read again."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from resilient.errors import ConfigurationError
from resilient.strategies.problems import kind_of, shown
from resilient.testing.recovery.report import TestReport
from resilient.testing.recovery.result import Check, FaultRecord, Phase, RecoveryTestResult, TestStatus, TimelineEvent
from resilient.testing.recovery.statistics import Interval
from resilient.testing.reports.operations import OPERATIONS
from resilient.testing.reports.shapes import (
    COUNT,
    FLAG,
    NUMBER,
    SEED,
    TABLE,
    TEXT,
    Shape,
    choice,
    named,
    optional,
    plain,
    record,
    several,
)

#: Changes when files of one can no longer be read as the other.
VERSION = 1
FORMAT = "resilient recovery test report"

_INTERVAL = record(Interval, {"lower": NUMBER, "upper": NUMBER, "n": COUNT})
_CHECK = record(
    Check,
    {
        "name": TEXT,
        "passed": optional(FLAG),
        "required": TEXT,
        "observed": TEXT,
        "weight": NUMBER,
        "n": optional(COUNT),
        "interval": optional(_INTERVAL),
    },
)
_PHASE = record(
    Phase,
    {
        "name": TEXT,
        "start": NUMBER,
        "end": NUMBER,
        "operations": COUNT,
        "successes": COUNT,
        "average": NUMBER,
        "p50": NUMBER,
        "p95": NUMBER,
        "p99": NUMBER,
    },
    {"success_rate": optional(NUMBER)},
)
_FAULT = record(
    FaultRecord,
    {
        "target": TEXT,
        "fault": TEXT,
        "rate": NUMBER,
        "seed": optional(SEED),
        "calls": COUNT,
        "fired": COUNT,
        "start": optional(NUMBER),
        "end": optional(NUMBER),
    },
)
_EVENT = record(TimelineEvent, {"at": NUMBER, "kind": TEXT, "name": TEXT, "text": TEXT, "data": TABLE})

_RESULT = record(
    RecoveryTestResult,
    {
        "scenario_id": TEXT,
        "scenario_name": TEXT,
        "description": TEXT,
        "execution_id": TEXT,
        "status": choice(TestStatus),
        "reasons": several(TEXT),
        "seed": SEED,
        "replay": TEXT,
        "started_at": NUMBER,
        "completed_at": NUMBER,
        "duration": NUMBER,
        "success_rate": NUMBER,
        "success_interval": _INTERVAL,
        "average_response_time": NUMBER,
        "p50": NUMBER,
        "p95": NUMBER,
        "p99": NUMBER,
        "recovery_time": optional(NUMBER),
        "recovery_time_from_start": optional(NUMBER),
        "data_consistent": optional(FLAG),
        "checks": several(_CHECK),
        "phases": several(_PHASE),
        "faults": several(_FAULT),
        "events": several(_EVENT),
        "operations": OPERATIONS,
        "metrics": named(NUMBER),
        "error_logs": several(TEXT),
        "weight": NUMBER,
        "source": optional(TABLE),
    },
    {"fired": COUNT, "score": NUMBER},
)

_SUMMARY: dict[str, Shape] = {
    "total": COUNT,
    "passed": COUNT,
    "failed": COUNT,
    "timed_out": COUNT,
    "inconclusive": COUNT,
    "ok": FLAG,
    "pass_rate": NUMBER,
    "average_recovery_time": optional(NUMBER),
    "average_success_rate": NUMBER,
    "resilience_score": NUMBER,
}
_RESULTS = several(_RESULT)


def write(report: TestReport) -> str:
    """All of a report. Times are seconds. Of operations' values only their types are kept, as they may be secret."""
    content = {
        "format": FORMAT,
        "schema_version": VERSION,
        "summary": {name: plain(getattr(report, name)) for name in _SUMMARY},
        "results": _RESULTS.write(report.results),
    }
    return f"{json.dumps(content, allow_nan=False, separators=(',', ':'))}\n"


def read(text: str) -> list[RecoveryTestResult]:
    """The results that `write` has written; values and errors of operations as what is known of them.

    Raises ConfigurationError, which says what is wrong and where, for any other text.
    """
    content = _parsed(text)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ConfigurationError(f'report: is not a report: must be an object with "format": "{FORMAT}"')
    version = content.get("schema_version")
    if version != VERSION or isinstance(version, bool):
        raise ConfigurationError(f"schema_version={shown(version)}: must be {VERSION}; write the report again with it")
    _check_keys(content)
    return list(_RESULTS.read(content["results"], "results"))


def schema() -> dict[str, Any]:
    """The JSON Schema of a report, for editors and for programs in other languages."""
    summary = {name: shape.schema for name, shape in _SUMMARY.items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": FORMAT,
        "description": "Times are seconds, started_at and completed_at Unix times. Null for a number: there is none.",
        "type": "object",
        "properties": {
            "format": {"const": FORMAT},
            "schema_version": {"const": VERSION},
            "summary": {"type": "object", "properties": summary, "required": list(summary)},
            "results": _RESULTS.schema,
        },
        "required": ["format", "schema_version", "summary", "results"],
        "additionalProperties": False,
    }


def _parsed(text: str) -> Any:
    if not isinstance(text, str):
        raise TypeError(f"text={kind_of(text)}: must be a str, what to_json has written")
    try:
        return json.loads(text.removeprefix("\ufeff"), parse_constant=_refuse)
    except json.JSONDecodeError as error:
        raise ConfigurationError(f"report: is not valid JSON: {error}") from None
    except RecursionError:
        raise ConfigurationError("report: is nested too deeply to be one") from None
    except ValueError as error:  # an integer of thousands of digits, a number that JSON does not have
        raise ConfigurationError(f"report: has a value that cannot be read: {error}") from None


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number in JSON")


def _check_keys(content: dict[str, Any]) -> None:
    known = ("format", "schema_version", "summary", "results")
    lacking = [name for name in known if name not in content]
    unknown = [shown(name) for name in content if name not in known]
    if lacking:
        raise ConfigurationError(f"report: lacks {', '.join(lacking)}")
    if unknown:
        raise ConfigurationError(f"report: has {', '.join(unknown[:5])}, which means nothing here")
