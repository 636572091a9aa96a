"""The page about tuning has every parameter, and the metrics that the guides name are those that there are."""

import inspect
import re
from pathlib import Path

import pytest

import resilient
from resilient.metrics import CATALOGUE

from . import pages
from .test_reference import DECORATORS, options, tables

PAGE = pages.DOCS / "how-to" / "tune-parameters.md"
#: A name of a metric as a guide writes it, with the labels that it is narrowed to.
METRIC = re.compile(
    r"\b(recovery_(?:retry|circuit_breaker|degradation|timeout|bulkhead|calls|cache|executions|step|injected|event)_[a-z_]+)"
    r"(?:\{([^}]*)\})?"
)
#: What OpenTelemetry leaves out of a counter's name.
COUNTERS = {name.removesuffix("_total") for name in CATALOGUE}
#: What Prometheus makes of one histogram.
SERIES = ("", "_bucket", "_count", "_sum")
GUIDES = [page for page in pages.PAGES if page.parent.name in ("how-to", "zh") or page.name == "README.md"]
#: The metrics that are about one kind of policy.
BY_KIND = [one for one in CATALOGUE if re.match("recovery_(retry|circuit_breaker|degradation|timeout|bulkhead)_", one)]


def parameters(name: str) -> list[str]:
    """The first column of the table about the parameters of `name`, its heading left out."""
    rows = next(rows for rows in tables(PAGE) if rows[0][0] == f"parameter of `{name}`")
    return [row[0].strip("`") for row in rows[2:]]


@pytest.mark.parametrize("page", DECORATORS)
def test_every_parameter_can_be_tuned(page: str) -> None:
    """Each option of a decorator but its name has its row, in the decorator's order; no row is left over."""
    decorator = DECORATORS[page]
    expected = [name for name in options(decorator) if name != "name"]

    assert parameters(decorator.__name__) == (["limit", *expected] if page == "timeout.md" else expected)


@pytest.mark.parametrize("kind", [resilient.RetryBudget, resilient.SmartTimeout], ids=lambda kind: kind.__name__)
def test_every_parameter_of_helpers(kind: type) -> None:
    """Each option of a budget and of a smart timeout has its row, in order."""
    assert parameters(kind.__name__) == list(inspect.signature(kind).parameters)


def test_every_row_says_what_to_look_at() -> None:
    """No cell of these tables is empty: each has a value to start with, something to look at, and when to change it."""
    rows = [row for table in tables(PAGE) if table[0][0].startswith("parameter of") for row in table[2:]]

    assert len(rows) > 50
    assert [row for row in rows if len(row) != 4 or not all(row)] == []


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.name)
def test_named_metrics_exist(page: Path) -> None:
    """Each metric on a guide is one that is exported, with the labels that it has."""
    text = page.read_text(encoding="utf-8")
    for name, labels in METRIC.findall(text):
        if page.name == "opentelemetry.md" and name in COUNTERS:
            continue
        found = next((name.removesuffix(end) for end in SERIES if name.removesuffix(end) in CATALOGUE), None)
        assert found is not None, name
        assert set(re.findall(r"(\w+)=", labels)) <= set(CATALOGUE[found].labels), name


def test_every_metric_is_of_use() -> None:
    """Each metric of a policy is named on the page, beside a parameter that it helps to tune, or in a query."""
    text = PAGE.read_text(encoding="utf-8")
    elsewhere = {"recovery_circuit_breaker_forced", "recovery_degradation_mode_changes_total"}

    assert [one for one in BY_KIND if one not in text and one not in elsewhere] == []
