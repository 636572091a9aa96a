"""The page about metrics says what the catalogue has, and its queries are ones that Prometheus understands."""

import inspect
import os
import re
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from resilient import bulkhead, circuit_breaker, degrade, metrics, registry, retry, timeout
from resilient.metrics import CATALOGUE, Definition
from resilient.metrics.catalogue import SPECIFIED, Together
from resilient.retry.state import REASONS

from . import pages
from .test_reference import tables

PAGE = pages.DOCS / "reference" / "metrics.md"
TOGETHER = {Together.SUM: "sum", Together.MOST: "highest", Together.LEAST: "lowest"}


def rows(*heading: str) -> list[list[str]]:
    """The rows of the tables with this heading."""
    return [row for table in tables(PAGE) if tuple(table[0]) == heading for row in table[2:]]


def row(one: Definition) -> list[str]:
    labels = ", ".join(f"`{label}`" for label in one.labels) or "none"
    processes = "each its own" if one.by_process else TOGETHER[one.together]
    return [f"`{one.name}`", one.type.value, labels, one.text, processes]


def test_catalogue() -> None:
    """Every metric has its row, in the order of the catalogue, with type, labels, text and how processes add up."""
    assert rows("metric", "type", "labels", "meaning", "processes") == [row(one) for one in CATALOGUE.values()]


def test_the_sixteen_stand_alone() -> None:
    """The first table has those of the specification and no others."""
    first = next(table for table in tables(PAGE) if table[0][0] == "metric")
    assert [row[0].strip("`") for row in first[2:]] == list(SPECIFIED)


def test_buckets() -> None:
    """Each histogram has its upper bounds."""
    told = rows("metric", "buckets")
    documented = {name.strip("`"): [float(one) for one in bounds.split(",")] for name, bounds in told}
    assert documented == {one.name: list(one.buckets) for one in CATALOGUE.values() if one.buckets}


def test_parameters() -> None:
    """The parameters of `install` have their defaults."""
    documented = {name.strip("`"): default.strip("`") for name, default, _ in rows("parameter", "default", "meaning")}
    assert documented == {
        name: repr(parameter.default) for name, parameter in inspect.signature(metrics.install).parameters.items()
    }


@pytest.fixture
def shown() -> Iterator[list[Any]]:
    """Every sample of one policy of each kind, named "one"."""
    target = CollectorRegistry()
    with registry.scoped():
        metrics.install(target)
        kept = (
            retry(name="one"),
            circuit_breaker("one"),
            bulkhead("one"),
            timeout(1, name="one"),
            degrade(fallback=1, name="one"),
        )
        yield [s for family in target.collect() for s in family.samples if s.labels.get("name") == "one"]
        del kept
        metrics.uninstall(target)


def test_results(shown: list[Any]) -> None:
    """The table of kinds and results is what `recovery_calls_total` has."""
    found: dict[str, set[str]] = defaultdict(set)
    for sample in shown:
        if sample.name == "recovery_calls_total":
            found[sample.labels["kind"]].add(sample.labels["result"])
    documented = {kind.strip("`"): set(re.findall(r"`(\w+)`", results)) for kind, results in rows("`kind`", "`result`")}
    assert documented == found


def test_labels() -> None:
    """Every label but `name` and `kind` has a row for each metric that has it, and reasons are all there."""
    documented = {(label.strip("`"), of.strip("`")): values for label, of, values in rows("label", "of", "values")}
    expected = {
        (label, one.name)
        for one in CATALOGUE.values()
        for label in one.labels
        if label not in ("name", "kind") and one.name != "recovery_calls_total"
    }
    assert documented.keys() - {("name", "all but the last")} == expected
    assert re.findall(r"`(\w+)`", documented["reason", "recovery_retry_exhausted_total"])[:5] == list(REASONS)


def test_how_many_series(shown: list[Any]) -> None:
    """The numbers of series by kind are those of a policy that has only been made."""
    kinds = {"retry": "retry", "breaker": "circuit_breaker", "bulkhead": "bulkhead", "timeout": "timeout"}
    found: Counter[str] = Counter()
    for sample in shown:
        kind = sample.labels.get("kind", "")
        place = next(
            (word for word, full in kinds.items() if f"_{full}_" in sample.name or kind == full), "degradation"
        )
        found[place] += 1
    told = re.findall(r"(\d+)(?: series)? as a (\w+)", pages.read(PAGE)[1])
    assert {kind: int(number) for number, kind in told} == found


QUERIES = [query.strip("`") for _, query in rows("question", "PromQL")]


@pytest.mark.parametrize("query", QUERIES)
def test_queries_ask_for_what_there_is(query: str) -> None:
    """A query names metrics and labels that exist."""
    for name, matchers in re.findall(r"(recovery_\w+)(?:\{([^}]*)\})?", query):
        base = name if name in CATALOGUE else re.sub("_(bucket|count|sum)$", "", name)
        assert set(re.findall(r"(\w+)=", matchers)) <= set(CATALOGUE[base].labels)
        for grouping in re.findall(r"by \(([^)]*)\)", query):
            assert set(re.findall(r"\w+", grouping)) <= {*CATALOGUE[base].labels, "le"}


def test_queries_are_queries(tmp_path: Path) -> None:
    """Prometheus can read every query."""
    promtool = shutil.which("promtool")
    if promtool is None:
        if os.environ.get("RESILIENT_REQUIRE_SERVERS"):
            pytest.fail("promtool is not installed, and RESILIENT_REQUIRE_SERVERS is set")
        pytest.skip("promtool is not installed")
    rules = tmp_path / "rules.yml"
    lines = ["groups:", "- name: page", "  rules:"]
    for number, query in enumerate(QUERIES):
        lines += [f"  - record: page:query:{number}", f"    expr: {query}"]
    rules.write_text("\n".join(lines) + "\n")
    done = subprocess.run([promtool, "check", "rules", rules], capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(QUERIES)} rules found" in done.stdout


def test_the_test_of_the_guide(tmp_path: Path) -> None:
    """The test that the guide shows is one that passes."""
    guide = pages.DOCS / "how-to" / "metrics.md"
    (block,) = [one for one in pages.read(guide)[0] if "@pytest.fixture" in one.text]
    (tmp_path / "test_guide.py").write_text(block.text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)  # noqa: S603
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
