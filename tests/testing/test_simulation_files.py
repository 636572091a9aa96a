"""A simulation is written as a picture, a page, a table and JSON, which say what it has measured."""

import json
import re
import xml.etree.ElementTree as ET

import pytest

from resilient import CircuitOpenError, ConfigurationError, Pipeline, circuit_breaker, degrade, retry, timeout
from resilient.testing.simulation import simulate

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def seen():
    pipeline = Pipeline(retry(), circuit_breaker(recovery_timeout=8), timeout(1), name="<payments> & co")
    return simulate(pipeline, (5, 15), 20, 40, seed=7)


def texts(svg):
    return ["".join(one.itertext()) for one in ET.fromstring(svg).iter(f"{SVG}text")]  # noqa: S314 - our own


def test_picture_says_what_it_shows(seen):
    """Title, legend, outage, recovery and breaker are named in the picture, which is sound XML."""
    found = texts(seen.to_svg())

    assert found[0] == "<payments> & co (retry > circuit_breaker > timeout)"
    for text in ("user calls", "turned away", "calls to the dependency", "answered (goodput)", "outage (error)"):
        assert text in found
    assert any(text.startswith("recovered ") for text in found)
    assert {"closed", "half-open", "open", "simulated.dependency"} & set(found) >= {"closed", "open"}


def test_outage_lies_where_it_was(seen):
    """The shade reaches from the outage's start to its end, on the scale that the axis has."""
    svg = seen.to_svg()
    ticks = {
        match[2]: float(match[1]) for match in re.finditer(r'<text x="([\d.]+)" y="376.0"[^>]*>([\d.]+) s</text>', svg)
    }
    shade = re.search(r'<rect x="([\d.]+)" [^>]*width="([\d.]+)"[^>]*fill="var\(--outage\)"', svg)

    assert float(shade[1]) == ticks["5"]
    assert float(shade[1]) + float(shade[2]) == pytest.approx(ticks["15"], abs=0.11)


def test_lines_stay_in_the_picture(seen):
    """Every point of every line lies within the axes."""
    root = ET.fromstring(seen.to_svg())  # noqa: S314 - our own
    points = [point.split(",") for line in root.iter(f"{SVG}polyline") for point in line.get("points").split()]

    assert len(points) >= 4 * len(seen.timeline)
    assert all(64 <= float(x) <= 936 and 96 <= float(y) <= 356 for x, y in points)


def test_no_recovery_no_mark():
    """What has not recovered has no mark, and says so."""
    svg = simulate(circuit_breaker(recovery_timeout=60), (5, 15), 20, 40, seed=7).to_svg()

    assert "--mark)" not in svg
    assert "not recovered by the end" in svg


def test_fleet_with_many_names():
    """A fleet's breakers share a row for each name; rows beyond the eighth are counted."""
    parts = [circuit_breaker(f"breaker-{number}") for number in range(11)]
    svg = simulate(Pipeline(*parts), (5, 15), 20, 40, seed=7).to_svg()

    assert "breaker-1" in svg
    assert "and 3 more breakers" in svg


def test_long_timeline_is_thinned():
    """Thousands of intervals make no picture of megabytes."""
    seen = simulate(retry(), (5, 15), 5, 40, seed=7, interval=0.005)

    assert len(seen.timeline) == 8000
    assert len(seen.to_svg()) < 60_000


def test_json_has_it_all(seen):
    """JSON holds each number, each interval and each event, and the numbers that follow from them."""
    there = json.loads(seen.to_json())

    assert there["amplification"] == seen.amplification
    assert there["time_to_recover"] == seen.time_to_recover
    assert len(there["timeline"]) == len(seen.timeline)
    assert [event["at"] for one in there["timeline"] for event in one["events"]] == [one.at for one in seen.events]


@pytest.mark.parametrize(("suffix", "begins"), [("svg", "<svg"), ("html", "<!DOCTYPE"), ("md", "# "), ("json", "{")])
def test_save(seen, suffix, begins, tmp_path):
    """The suffix says what is written."""
    path = tmp_path / f"seen.{suffix}"

    assert seen.save(str(path)) == path
    assert path.read_text("utf-8").startswith(begins)


def test_save_refuses_others(seen, tmp_path):
    """A suffix that says nothing is told, with those that do."""
    with pytest.raises(ConfigurationError, match=r"must end in .svg, .json, .html, .md"):
        seen.save(tmp_path / "seen.png")


def test_page_needs_nothing_else(seen):
    """The page has the picture in it, fetches nothing, and shows names as they are."""
    page = seen.to_html()

    assert "<svg" in page
    assert not re.search(r'(src|href)="', page)
    assert "&lt;payments&gt; &amp; co" in page
    assert "<payments>" not in page


def test_table(seen):
    """The table has the numbers of the result."""
    assert f"| calls | {seen.calls} |" in seen.to_markdown()


def test_rejected_line_only_where_there_is_one():
    """A line that would be zero all the time is left out, and so is its place in the legend."""
    plain = texts(simulate(retry(), (5, 15), 20, 40, seed=7).to_svg())
    pipeline = Pipeline(degrade(fallback=1, on=CircuitOpenError), circuit_breaker())

    assert "turned away" not in plain
    assert "turned away" in texts(simulate(pipeline, (5, 15), 20, 40, seed=7).to_svg())
