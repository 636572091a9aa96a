"""The shipped alerts: well-formed, right in theory, and right on a real Prometheus that looks at a real process."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import pytest
import yaml

from resilient.metrics import CATALOGUE

from . import servers
from .hospital import Story

ALERTS = servers.MONITORING / "alerts.yml"
RULES: dict[str, dict[str, Any]] = {
    rule["alert"]: rule for group in yaml.safe_load(ALERTS.read_text("utf-8"))["groups"] for rule in group["rules"]
}
#: Alerts of the specification, which users may rely on.
PROMISED = {
    "ResilientBreakerOpen",
    "ResilientBreakerFlapping",
    "ResilientRetryStorm",
    "ResilientRetryBudgetExhausted",
    "ResilientBulkheadSaturated",
    "ResilientDegradedForLong",
    "ResilientRecoveryFailed",
}


@pytest.mark.parametrize(
    "words",
    [("check", "rules", "alerts.yml"), ("check", "config", "prometheus.yml"), ("test", "rules", "alerts_test.yml")],
)
def test_promtool(words: tuple[str, ...]) -> None:
    """promtool finds nothing wrong with the rules and the configuration, and all cases come true."""
    done = subprocess.run(  # noqa: S603
        [servers.program("promtool"), *words], cwd=servers.MONITORING, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout


def test_promised_alerts() -> None:
    """All alerts of the specification are there."""
    assert set(RULES) >= PROMISED


@pytest.mark.parametrize("name", RULES)
def test_alert_says_what_to_do(name: str) -> None:
    """An alert has a severity, a summary and a description, and cases that fire in alerts_test.yml."""
    rule, cases = RULES[name], (servers.MONITORING / "alerts_test.yml").read_text("utf-8")

    assert rule["labels"]["severity"] in ("warning", "critical")
    assert 0 < len(rule["annotations"]["summary"]) <= 120
    assert len(rule["annotations"]["description"]) > 100
    assert "\n" not in rule["annotations"]["description"].strip()
    assert rf'ALERTS{{alertname="{name}", alertstate="firing"' in cases or f"alertname: {name}\n" in cases


@pytest.mark.parametrize("name", RULES)
def test_alert_asks_for_our_metrics(name: str) -> None:
    """Every metric of an expression is in the catalogue."""
    asked = set(re.findall(r"\brecovery_\w+", RULES[name]["expr"]))

    assert asked
    assert asked <= set(CATALOGUE)


def test_hurried_changes_times_only() -> None:
    """The copy of the rules that the tests below use has the same alerts, metrics and thresholds."""
    times = re.compile(r"(\[|offset |for: )\d+[smh]")
    rules = ALERTS.read_text("utf-8")
    hurried = servers.hurried(rules)

    assert hurried != rules
    assert times.sub(r"\1", hurried) == times.sub(r"\1", rules)
    assert not re.search(r"\[\d+[mh]\]|offset \d+[mh]|for: \d+[mh]$", hurried, re.MULTILINE)


@pytest.mark.parametrize("name", RULES)
def test_alert_on_a_real_prometheus(name: str, story: Story) -> None:
    """An alert is quiet while all is well, fires when its trouble begins, and is quiet again after it."""
    assert name not in story.before
    assert name in story.during
    assert name not in story.after


@pytest.mark.parametrize("name", RULES)
def test_annotations_are_filled_in(name: str, story: Story) -> None:
    """What a person reads names what it is about, without a hole where a label or a value is missing."""
    alert = story.during[name]
    texts = alert["annotations"]["summary"] + alert["annotations"]["description"]

    assert alert["labels"].get("name", alert["labels"]["instance"]) in texts
    assert "<" not in texts
    assert "{{" not in texts
    assert "NaN" not in texts
