"""The comparison page says what the probes say, and every claim of ours is put to the test again here."""

import re

import pytest

from tests.benchmarks import comparison
from tests.benchmarks.comparison_libraries import Parts, resilient_parts
from tests.benchmarks.comparison_tools import HOLDS, Probe

from . import pages

PAGE = pages.DOCS / "explanation" / "comparison.md"
PROBES = comparison.questions()


@pytest.fixture(scope="module")
def ours() -> Parts:
    return resilient_parts()


def cells() -> dict[str, dict[str, str]]:
    """The tables of the page: verdicts by library, by claim."""
    found: dict[str, dict[str, str]] = {}
    head: list[str] = []
    for line in pages.read(PAGE)[1].splitlines():
        row = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            head = []
        elif not head:
            head = row
        elif head[0] == "claim" and not re.fullmatch(r"-+", row[0]):
            found[row[0]] = dict(zip(head[1:], row[1:], strict=True))
    return found


def test_rows() -> None:
    """The page has a row for every probe, and no other."""
    assert list(cells()) == [probe.claim for probe in PROBES]


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: f"{probe.section}: {probe.claim}")
def test_our_column(probe: Probe, ours: Parts) -> None:
    """What the page says of resilient is so now: all claims hold but those about what only others have."""
    verdict = probe.verdict(ours)

    assert verdict == cells()[probe.claim]["resilient"]
    assert (verdict == HOLDS) == (probe.section != comparison.OTHERS)


def test_every_verdict_is_one_of_three() -> None:
    """No cell is empty, and each library holds at least one claim."""
    columns: dict[str, set[str]] = {}
    for row in cells().values():
        for name, verdict in row.items():
            columns.setdefault(name, set()).add(verdict)

    assert set(columns) == set(comparison.LIBRARIES)
    assert set().union(*columns.values()) == {"holds", "does not", "-"}
    assert all(HOLDS in verdicts for verdicts in columns.values())
