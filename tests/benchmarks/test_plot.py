"""The picture of the figures, compared with the rows it was drawn from; and the way into the page."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from . import memory, report
from .__main__ import main
from .harness import Row
from .plot import LEFT, RIGHT, WIDTH, Scale, bars, draw

SVG = "{http://www.w3.org/2000/svg}"
LIBRARIES = ["resilient", "tenacity", "<circuit> & breaker", "baseline"]
ROWS = [
    Row("sync", "retry", "tenacity", "W", 24.0),
    Row("sync", "retry", "resilient", "W", 0.4, 0.5),
    Row("sync", "breaker", "resilient", "W", 0.6, 0.5),
    Row("sync", "breaker", "<circuit> & breaker", "W", 1.1),
    Row("sync", "timeout", "resilient", "thread pool", 0.7, 1.0),
    Row("async", "retry", "resilient", "W", 2.0),
    Row("sync", "bare call", "baseline", "W", 0.03),
    Row("memory", "retry", "resilient", "a function", 4000, 3072, unit="B"),
]
SHOWN = [row for row in ROWS if row.against == "W"]


def parsed(rows: list[Row]) -> ET.Element:
    return ET.fromstring(draw(rows, LIBRARIES))  # noqa: S314 - our own


def of(root: ET.Element, kind: str, shape: str = "rect") -> list[ET.Element]:
    return [one for one in root.iter(f"{SVG}{shape}") if kind in (one.get("class") or "").split()]


def number(one: ET.Element, name: str) -> float:
    return float(one.get(name) or "nan")


def texts(root: ET.Element) -> list[str]:
    return ["".join(one.itertext()) for one in root.iter(f"{SVG}text")]


def place(value: float, least: int = -2, most: int = 2) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * (math.log10(value) - least) / (most - least)


def test_bars_are_as_long_as_the_figures() -> None:
    """Every row that is a multiple of W has one bar, which ends at its figure on the logarithmic axis."""
    drawn = {one.findtext(f"{SVG}title"): one for one in of(parsed(ROWS), "bar")}
    assert drawn.keys() == {f"{row.pattern}, {row.library}: {row.value:.3g} W" for row in SHOWN}
    for row in SHOWN:
        bar = drawn[f"{row.pattern}, {row.library}: {row.value:.3g} W"]
        assert number(bar, "x") == LEFT
        assert number(bar, "x") + number(bar, "width") == pytest.approx(place(row.value), abs=0.02)


def test_axis_says_what_it_is() -> None:
    """The powers of ten are named where they lie, and the picture says that the scale is logarithmic."""
    root = parsed(ROWS)
    named = {one.text: number(one, "x") for one in root.iter(f"{SVG}text") if (one.text or "").endswith(" W")}
    assert named == {
        f"{text} W": pytest.approx(place(float(text)), abs=0.06) for text in ("0.01", "0.1", "1", "10", "100")
    }
    assert "logarithmic scale: each line is ten times the one before" in texts(root)


def test_limits_are_marks_on_the_axis() -> None:
    """A limit against W is a mark at its place, and in words beside the figure, which say when it is over."""
    root = parsed(ROWS)
    marks = [float((one.get("d") or "M")[1:].partition(",")[0]) for one in of(root, "limit", "path")]
    assert marks[1:] == pytest.approx([place(0.5)] * 2, abs=0.01)  # the first is the legend's
    assert "0.40, limit 0.50" in texts(root)
    assert "0.60, over 0.50" in texts(root)
    assert [one.text for one in of(root, "over", "text")] == ["0.60, over 0.50"]


def test_ours_comes_first_and_is_told_apart_without_colour() -> None:
    """Bars come in the order of the libraries, each with its name, and ours is filled in another way."""
    assert [row.library for row in bars(ROWS, LIBRARIES)["sync"]["retry"]] == ["resilient", "tenacity"]
    root = parsed(ROWS)
    ours, others = (
        {one.get("fill") for one in of(root, kind) if "bar" in (one.get("class") or "")} for kind in ("ours", "rival")
    )
    assert len(ours) == len(others) == 1
    assert ours != others
    assert others == {f"url(#{one.get('id')})" for one in root.iter(f"{SVG}pattern")}
    assert texts(root).count("resilient") == 3
    assert "<circuit> & breaker"[:7] in " ".join(texts(root))


def test_sync_and_async_are_apart() -> None:
    """Each kind of function has its section with patterns of its own; a section without rows is not there."""
    said = texts(parsed(ROWS))
    assert said.index("Plain functions") < said.index("breaker") < said.index("Coroutine functions")
    assert said.count("retry") == 2
    assert "Coroutine functions" not in texts(parsed([ROWS[0]]))


def test_picture_is_told_to_those_who_hear_it() -> None:
    """The picture has the role of an image, a title, and a description with all figures."""
    root = parsed(ROWS)
    assert root.get("role") == "img"
    assert root.findtext(f"{SVG}title")
    assert "retry: resilient 0.40, tenacity 24.0." in (root.findtext(f"{SVG}desc") or "")


VALUES = st.one_of(st.floats(0, 1e9), st.sampled_from([math.inf, math.nan, 0.0, 1.0, 10.0]))
MADE = st.builds(
    Row,
    st.sampled_from(["sync", "async", "memory"]),
    st.text(max_size=200),
    st.text(max_size=200),
    st.just("W"),
    VALUES,
    st.none() | st.floats(0.01, 1e6),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(MADE, max_size=30))
def test_any_rows_are_drawn_within_the_picture(rows: list[Row]) -> None:
    """Whatever the rows hold, the file is sound XML with a bar for each figure that is one, within the picture."""
    root = parsed(rows)
    height = number(root, "height")
    drawn = of(root, "bar")
    assert len(drawn) == sum(row.section != "memory" and math.isfinite(row.value) for row in rows)
    for one in drawn:
        assert LEFT < number(one, "x") + number(one, "width") <= WIDTH - RIGHT + 0.01
        assert number(one, "y") + number(one, "height") <= height
    assert all(0 <= number(one, "y") <= height for one in root.iter(f"{SVG}text"))


@pytest.mark.parametrize(
    ("values", "scale"),
    [([], (0, 1)), ([1.0], (0, 1)), ([0.5], (-1, 0)), ([10.0], (0, 1)), ([0.03, 324.0], (-2, 3)), ([0.0], (0, 1))],
)
def test_scale_holds_all_values_and_one(values: list[float], scale: tuple[int, int]) -> None:
    """The axis begins and ends with powers of ten around all values, and W itself is always on it."""
    assert Scale.over(values) == scale


def test_plot_is_written_and_embedded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Given both files, the page shows the picture by its way from there; given one, it shows none."""
    monkeypatch.setattr(memory, "measure", lambda *_: [ROWS[1]])
    (tmp_path / "pictures").mkdir()
    page, picture = tmp_path / "docs" / "page.md", tmp_path / "pictures" / "my speed.svg"
    assert main(["--only", "no such row", "--markdown", str(page)]) == 0
    assert "![" not in page.read_text("utf-8")
    assert main(["--only", "no such row", "--markdown", str(page), "--plot", str(picture)]) == 0
    assert "](../pictures/my%20speed.svg)\n\n### Sync" in page.read_text("utf-8")
    assert picture.read_text("utf-8") == draw([ROWS[1]], ["resilient"])


def test_wrong_place_is_said_before_measuring(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A plot that cannot be written is an error of the arguments, before minutes are spent."""
    monkeypatch.setattr(memory, "measure", lambda *_: pytest.fail("it measured"))
    with pytest.raises(SystemExit) as left:
        main(["--only", "no such row", "--plot", str(tmp_path)])
    assert left.value.code == 2
    assert f"argument --plot: {tmp_path} is a directory" in capsys.readouterr().err


def test_page_without_a_picture_has_no_gap() -> None:
    """Where there is no picture, nothing is left of its place."""
    setting = report.Setting.here({}, [])
    text = report.page(ROWS, setting, LIBRARIES)
    assert "$" not in text
    assert ".\n\n### Sync\n" in text
