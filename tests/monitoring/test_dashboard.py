"""The shipped dashboard: Grafana can import it, and every query in it has an answer in a real Prometheus."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from resilient.metrics import CATALOGUE

from . import servers
from .hospital import Story

DASHBOARD: dict[str, Any] = json.loads((servers.MONITORING / "grafana.json").read_text("utf-8"))
SCHEMA: dict[str, Any] = json.loads(Path(__file__).with_name("dashboard.schema.json").read_text("utf-8"))
PANELS: list[dict[str, Any]] = [one for one in DASHBOARD["panels"] if one["type"] != "row"]
QUERIES = [
    pytest.param(target["expr"], id=f"{panel['title']}-{target['refId']}")
    for panel in PANELS
    for target in panel["targets"]
]
VARIABLES = {one["name"]: one["query"]["query"] for one in DASHBOARD["templating"]["list"]}
#: Histograms are asked for by the names of their parts.
METRICS = {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"recovery_\w+", json.dumps(PANELS))}


def test_grafana_can_import_it() -> None:
    """The dashboard is what Grafana's import asks for, and names what it needs."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(DASHBOARD, SCHEMA)

    needed = {one["id"] for one in DASHBOARD["__requires"] if one["type"] == "panel"}
    assert needed == {panel["type"] for panel in PANELS}


def test_schema_refuses() -> None:
    """The schema is no formality: without an input, an id or a query a dashboard is refused."""
    for path in (("__inputs",), ("uid",), ("panels", 1, "targets"), ("panels", 1, "targets", 0, "expr")):
        broken = json.loads(json.dumps(DASHBOARD))
        *way, last = path
        place: Any = broken
        for step in way:
            place = place[step]
        del place[last]
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, SCHEMA)


def test_inputs_are_used_and_complete() -> None:
    """Whatever looks like an input of the import is one: else Grafana would leave it as it is."""
    text = json.dumps({key: value for key, value in DASHBOARD.items() if key != "__inputs"})

    assert set(re.findall(r"\$\{(\w+)\}", text)) == {one["name"] for one in DASHBOARD["__inputs"]}


def test_panels_do_not_overlap() -> None:
    """Panels have ids of their own, and places of their own on the grid of 24 columns."""
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + dx, at["y"] + dy) for dx in range(at["w"]) for dy in range(at["h"])}
        assert at["x"] + at["w"] <= 24, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells

    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)


def test_rows() -> None:
    """There is a row for each room of the library."""
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]

    assert rows == ["At a glance", "Breakers", "Retries", "Timeouts", "Bulkheads", "Degradation", "Recovery"]


def test_it_shows_all_metrics() -> None:
    """Every metric of the catalogue is in some panel, and nothing else is asked for."""
    assert set(CATALOGUE) == METRICS


@pytest.mark.parametrize("expression", QUERIES)
def test_query_returns_data(expression: str, story: Story) -> None:
    """A query has numbers to show for the time in which a process was well, sick, and well again."""
    series = story.prometheus.ask(
        "query_range", query=plain(expression), start=str(story.began), end=str(story.ended), step="0.5"
    )["result"]

    numbers = [float(value) for one in series for _, value in one["values"]]
    assert any(math.isfinite(number) for number in numbers), plain(expression)


@pytest.mark.parametrize("expression", QUERIES)
def test_query_follows_the_variables(expression: str, story: Story) -> None:
    """A query shows nothing of another instance: each selector has the variables that apply to it."""
    elsewhere = plain(expression, instance="elsewhere").removesuffix(" or vector(0)")

    assert story.prometheus.query(elsewhere) == []


@pytest.mark.parametrize(("variable", "expected"), [("job", "patient"), ("instance", "127.0.0.1"), ("name", "storm")])
def test_variable_has_values(variable: str, expected: str, story: Story) -> None:
    """A variable offers what there is to choose from."""
    asked = re.fullmatch(r"label_values\((.+), (\w+)\)", VARIABLES[variable])
    assert asked is not None
    found = story.prometheus.ask(f"label/{asked[2]}/values", **{"match[]": plain(asked[1])})

    assert any(value.startswith(expected) for value in found)


def plain(expression: str, *, instance: str = ".*") -> str:
    """As Grafana asks it: everything chosen, and a window that fits the scrapes of the tests."""
    chosen = {"$job": ".*", "$instance": instance, "$name": ".*", "$__rate_interval": "4s"}
    for variable, value in chosen.items():
        expression = expression.replace(variable, value)
    return servers.hurried(expression)
