"""The how-to page on alerts says what the shipped rules do."""

from __future__ import annotations

import re
from typing import Any

import pytest

from . import servers
from .hospital import Story
from .test_alerts import RULES

PAGE = (servers.ROOT / "docs" / "how-to" / "monitor-and-alert.md").read_text("utf-8")
ROW = re.compile(r"^\| \[`(\w+)`\]\(#(\w+)\) \| (\w+) \| ([^|]+) \| (\w*) ?\|$", re.MULTILINE)
QUERIES = [one.strip() for one in re.findall(r"^```text\n(.*?)^```$", PAGE, re.M | re.S) if "recovery_" in one]


def test_table() -> None:
    """The table has the alerts of alerts.yml in their order, each with its severity and how long it waits."""
    told = [(name, severity, wait) for name, _, severity, _, wait in ROW.findall(PAGE)]

    assert told == [(name, rule["labels"]["severity"], rule.get("for", "")) for name, rule in RULES.items()]
    assert all(anchor == name.lower() for name, anchor, *_ in ROW.findall(PAGE))


def test_every_alert_has_a_section() -> None:
    """For each alert there is a section with its cause and what to do, in the order of the table."""
    assert re.findall(r"^### (Resilient\w+)$", PAGE, re.MULTILINE) == list(RULES)


@pytest.mark.parametrize(("name", "rule"), RULES.items())
def test_thresholds(name: str, rule: dict[str, Any]) -> None:
    """The number that the table names as the threshold is that of the rule."""
    when = next(words for alert, _, _, words, _ in ROW.findall(PAGE) if alert == name)
    told = {float(number) / (100 if percent else 1) for number, percent in re.findall(r"(\d+)( %)?", when)}
    told |= {0.5} if "half of" in when else set()
    compared = {float(number) for number in re.findall(r"[<>] ([\d.]+)", rule["expr"])}
    windows = {float(number) for number in re.findall(r"\[(\d+)m\]", rule["expr"])}

    assert told <= compared | windows
    assert compared - {0.0, 0.2} <= told, "0.2 attempts a second are in the section, not in the table"


@pytest.mark.parametrize("query", QUERIES)
def test_query_returns_data(query: str, story: Story) -> None:
    """A query of the page can be asked, and has an answer where such a thing has happened."""
    asked = servers.hurried(query).replace('name="other"', 'name="storm"')

    assert story.prometheus.ask("query_range", query=asked, start=str(story.began), end=str(story.ended), step="0.5")[
        "result"
    ]
