"""A report as JUnit's XML: what is not passed is red, and what is not known is an error and not a failure."""

from __future__ import annotations

import math
from collections import Counter
from xml.etree import ElementTree

from resilient.drawing.markup import clean, line
from resilient.testing.recovery.report import TestReport
from resilient.testing.recovery.result import RecoveryTestResult, TestStatus
from resilient.testing.reports.texts import stamp

_SUITE = "resilience"
#: The element that says why, by status; the rest have none.
_ELEMENTS = {TestStatus.FAILED: "failure", TestStatus.TIMEOUT: "failure", TestStatus.INCONCLUSIVE: "error"}


def write(report: TestReport) -> str:
    """One test suite with a test case for each scenario; times are seconds of the scenarios' own clocks."""
    root = ElementTree.Element("testsuites")
    suite = ElementTree.SubElement(root, "testsuite", _figures(report))
    seen: Counter[tuple[str, str]] = Counter()
    for result in report.results:
        key = result.scenario_id, result.scenario_name
        seen[key] += 1
        # Readers take two cases of the same name for one.
        _case(suite, result, f" (run {seen[key]})" if seen[key] > 1 else "")
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def _figures(report: TestReport) -> dict[str, str]:
    kinds = Counter(_ELEMENTS.get(one.status) for one in report.results)
    figures = {
        "name": _SUITE,
        "tests": str(report.total),
        "failures": str(kinds["failure"]),
        "errors": str(kinds["error"]),
        "skipped": "0",
        "time": _number(sum(one.duration for one in report.results)),
    }
    if report.results:
        figures["timestamp"] = stamp(min(one.started_at for one in report.results))
    return figures


def _case(suite: ElementTree.Element, result: RecoveryTestResult, suffix: str) -> None:
    names = {"classname": line(result.scenario_id), "name": f"{line(result.scenario_name)}{suffix}"}
    case = ElementTree.SubElement(suite, "testcase", {**names, "time": _number(result.duration)})
    properties = ElementTree.SubElement(case, "properties")
    for name, value in _properties(result).items():
        ElementTree.SubElement(properties, "property", {"name": name, "value": line(value)})
    element = _ELEMENTS.get(result.status)
    if element is not None:
        why = "; ".join(map(line, result.reasons)) or result.status.value
        said = ElementTree.SubElement(case, element, {"message": why, "type": result.status.value})
        said.text = clean("\n".join([*result.reasons, *result.error_logs]))
    ElementTree.SubElement(case, "system-out").text = clean(result.explain())


def _properties(result: RecoveryTestResult) -> dict[str, object]:
    times = {"recovery_time": result.recovery_time, "recovery_time_from_start": result.recovery_time_from_start}
    return {
        "status": result.status.value,
        "seed": result.seed,
        "replay": result.replay,
        "fired": result.fired,
        "score": f"{result.score:.1f}",
        "success_rate": f"{result.success_rate:.4f}",
        "operations": len(result.operations),
        **{name: "" if value is None else _number(value) for name, value in times.items()},
        "execution_id": result.execution_id,
    }


def _number(seconds: float) -> str:
    """As XML's decimals are, which have no infinity."""
    return f"{seconds if math.isfinite(seconds) else 0:.6f}"
