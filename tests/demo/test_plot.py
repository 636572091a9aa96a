"""The demo's picture, compared with the run it was drawn from; and the way to its file."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient.cli import demo_command, main
from resilient.demo.lines import Line
from resilient.demo.narrator import Transition
from resilient.demo.outcome import Outcome, Phase, Verdict
from resilient.demo.plot import LEFT, RIGHT, WIDTH, draw, stretches
from resilient.demo.plot_lanes import BAND, HEIGHT
from resilient.demo.settings import Settings
from resilient.demo.traffic import Second

SVG = "{http://www.w3.org/2000/svg}"
KINDS = ("ok", "fallback", "rejected", "failed")


def change(at: float, old: str, new: str, name: str = "inventory") -> Transition:
    return Transition(at, name, old, new, "because")


INVENTORY = {
    "state": "closed",
    "success_count": 155,
    "failure_count": 20,
    "failure_rate": 0.1,
    "rejected_count": 105,
    "state_changes": 5,
}
OUTCOME = Outcome(
    settings=Settings(seconds=6),
    phases=(
        Phase("calm", 0.0, 2.0, "calm: <little> & often"),
        Phase("outage", 2.0, 4.0, "outage: nobody answers"),
        Phase("recovery", 4.0, 5.5, "recovery: it is back"),
    ),
    killed_at=2.0,
    restarted_at=4.1,
    lines=(Line(0.0, "service", "listens"),),
    transitions=(
        change(2.2, "closed", "open"),
        change(3.2, "open", "half_open"),
        change(3.21, "half_open", "open"),
        change(4.21, "open", "half_open"),
        change(4.5, "half_open", "closed"),
    ),
    event_counts={},
    seconds=(
        Second(40),
        Second(60, rejected=40),
        Second(10, 30, 5, 5),
        Second(fallback=50),
        Second(25, 25),
        Second(20),
    ),
    calls=310,
    snapshot={"circuit_breakers": {"inventory": INVENTORY}},
    verdict=Verdict(True, "RECOVERED: all is well."),
)
END = 5.5


class Picture:
    """The picture as its reader's program sees it."""

    def __init__(self, outcome: Outcome) -> None:
        self.root = ET.fromstring(draw(outcome))  # noqa: S314 - our own
        self.texts = ["".join(one.itertext()) for one in self.root.iter(f"{SVG}text")]

    def of(self, kind: str, shape: str = "rect") -> list[ET.Element]:
        return [one for one in self.root.iter(f"{SVG}{shape}") if kind in (one.get("class") or "").split()]


def number(one: ET.Element, name: str) -> float:
    return float(one.get(name) or "nan")


def place(at: float, end: float = END) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * at / end


def title(one: ET.Element) -> str | None:
    return one.findtext(f"{SVG}title")


@pytest.fixture(scope="module")
def seen() -> Picture:
    return Picture(OUTCOME)


def test_bars_are_as_high_as_their_counts(seen: Picture) -> None:
    """Each second's bar has a part for every outcome it had, high in proportion, one standing on the other."""
    highest = max(second.total for second in OUTCOME.seconds)
    scale = max(number(one, "height") for one in seen.of("ok")) / 60
    assert HEIGHT / 1.3 < scale * highest <= HEIGHT
    floors: dict[int, float] = {}
    found = set()
    for kind in KINDS:
        for bar in seen.of(kind):
            words = (title(bar) or "").split()
            second = int(words[1].rstrip(":"))
            assert number(bar, "height") == pytest.approx(scale * getattr(OUTCOME.seconds[second], kind), abs=0.02)
            assert words[2:] == [str(getattr(OUTCOME.seconds[second], kind)), kind]
            bottom = number(bar, "y") + number(bar, "height")
            assert bottom == pytest.approx(floors.get(second, bottom), abs=0.02)
            floors[second] = number(bar, "y")
            found.add((second, kind))
    assert found == {(at, kind) for at, second in enumerate(OUTCOME.seconds) for kind in KINDS if getattr(second, kind)}


def test_bars_lie_over_their_seconds(seen: Picture) -> None:
    """A bar fills its second on the axis, and the last one ends with the run."""
    for bar in seen.of("ok") + seen.of("fallback"):
        second = int((title(bar) or "").split()[1].rstrip(":"))
        assert number(bar, "x") == pytest.approx(place(second) + 1, abs=0.02)
        right = number(bar, "x") + number(bar, "width")
        assert right == pytest.approx(place(min(second + 1, END)) - 1, abs=0.03)


def test_load_is_a_line_over_the_bars(seen: Picture) -> None:
    """The line of the load has a step for each second, at the height of all calls begun in it."""
    _, line = sorted(seen.of("load", "path"), key=lambda one: len(one.get("d") or ""))
    steps = [float(step.partition("H")[0]) for step in (line.get("d") or "").partition(",")[2].split("V")]
    scale = max(number(one, "height") for one in seen.of("ok")) / 60
    bottom = max(number(one, "y") + number(one, "height") for one in seen.of("ok"))
    assert steps == pytest.approx([bottom - scale * second.total for second in OUTCOME.seconds], abs=0.02)
    assert {str(second.total) for second in OUTCOME.seconds} - {"20"} <= set(seen.texts)


def test_band_changes_where_the_breaker_did(seen: Picture) -> None:
    """The breaker's band has a stretch for each state, from its transition to the next."""
    times = [0.0, *(one.at for one in OUTCOME.transitions), END]
    states = ["closed", *(one.new for one in OUTCOME.transitions)]
    drawn = {round(number(one, "x"), 1): one for one in seen.of("state")}
    assert len(drawn) == len(states)
    for start, end, state in zip(times, times[1:], states, strict=False):
        stretch = drawn[round(place(start), 1)]
        assert stretch.get("class") == f"state {state}"
        assert number(stretch, "width") == pytest.approx(max(2.0, place(end) - place(start)), abs=0.02)
        assert number(stretch, "height") == BAND
        assert title(stretch) == f"{state.replace('_', '-')} from {start:.2f} to {end:.2f} s"


def test_short_states_lie_on_top(seen: Picture) -> None:
    """A state of some milliseconds is drawn after its neighbours, which would hide it."""
    widths = [number(one, "width") for one in seen.of("state")]
    assert widths == sorted(widths, reverse=True)


def test_marks_stand_where_the_service_died_and_came_back(seen: Picture) -> None:
    """Two lines and the shade between them lie at the kill and the restart, which are named with their times."""
    lines = [float((one.get("d") or "M")[1:].partition(",")[0]) for one in seen.of("event", "path")]
    (shade,) = seen.of("down")
    assert lines == pytest.approx([place(2.0), place(4.1)], abs=0.01)
    assert number(shade, "x") == pytest.approx(lines[0], abs=0.01)
    assert number(shade, "width") == pytest.approx(lines[1] - lines[0], abs=0.02)
    assert {"killed 2.0 s", "back 4.1 s"} <= set(seen.texts)


def test_phases_are_labelled(seen: Picture) -> None:
    """Every phase has its stretch and its name."""
    drawn = [(number(one, "x"), number(one, "x") + number(one, "width")) for one in seen.of("phase")]
    assert drawn == [pytest.approx((place(one.starts), place(one.ends)), abs=0.02) for one in OUTCOME.phases]
    assert {one.name for one in OUTCOME.phases} <= set(seen.texts)
    assert title(seen.of("phase")[0]) == "calm: <little> & often (0.0 to 2.0 s)"


def test_picture_is_readable_without_colour(seen: Picture) -> None:
    """Outcomes differ by pattern, states by pattern and word, and a legend says which is which, with the sums."""
    fills = {kind: {one.get("fill") for one in seen.of(kind)} for kind in KINDS}
    assert len(set.union(*fills.values())) == len(KINDS)
    ids = {f"url(#{one.get('id')})" for one in seen.root.iter(f"{SVG}pattern")}
    assert set.union(*(fills[kind] for kind in KINDS[1:])) <= ids
    assert {one.get("fill") for one in [*seen.of("open"), *seen.of("half_open")]} <= ids
    assert {"closed", "half-open", "open"} <= set(seen.texts)
    for text in ("155 ok: the service answered", "5 failed: an error reached the caller", "310 calls: the load"):
        assert text in seen.texts


def test_picture_is_told_to_those_who_hear_it(seen: Picture) -> None:
    """The picture has the role of an image, a title and a description with the numbers."""
    name, description = seen.root.find(f"{SVG}title"), seen.root.find(f"{SVG}desc")
    assert name is not None
    assert description is not None
    assert seen.root.get("role") == "img"
    assert (seen.root.get("aria-labelledby") or "").split() == [name.get("id"), description.get("id")]
    for words in ("310 calls in 5.5 s", "155 ok, 105 fallback, 45 rejected, 5 failed", "killed at 2.0 s", "2 x open"):
        assert words in (description.text or "")


def test_picture_needs_nothing_else() -> None:
    """The file names no other file and has no script; its colours are given for light and for dark."""
    text = draw(OUTCOME)
    assert text.count("http") == 1
    assert "<script" not in text
    assert "prefers-color-scheme: dark" in text


def test_no_transitions_is_one_state() -> None:
    """A breaker that never changed has one stretch in the state that the registry knows."""
    calm = replace(OUTCOME, transitions=(), snapshot={"circuit_breakers": {"inventory": {"state": "closed"}}})
    (only,) = Picture(calm).of("state")
    assert only.get("class") == "state closed"
    assert number(only, "width") == pytest.approx(place(END) - LEFT, abs=0.01)


def test_every_breaker_has_its_own_states() -> None:
    """Transitions of two breakers do not mix, whatever order they come in."""
    both = replace(OUTCOME, transitions=(change(3.0, "open", "half_open", "b"), change(1.0, "closed", "open", "b")))
    assert [(one.start, one.state) for one in stretches(both)["b"]] == [(0, "closed"), (1, "open"), (3, "half_open")]
    assert [(one.start, one.end, one.state) for one in stretches(both)["inventory"]] == [(0, END, "closed")]


def test_time_of_grace_is_in_the_picture() -> None:
    """Seconds that came after the planned end are drawn too."""
    longer = replace(OUTCOME, seconds=(*OUTCOME.seconds, Second(9), Second(9)))
    assert "second 7: 9 ok" in [title(one) for one in Picture(longer).of("ok")]
    assert stretches(longer)["inventory"][-1].end == 8


NAMES = st.text(max_size=300)
STATES = st.sampled_from(["closed", "open", "half_open", "isolated", "disabled"])
TIMES = st.floats(0, 64)


@st.composite
def outcomes(draw_one: Any) -> Outcome:
    """Runs that never were: nothing happened, everything at once, names of any characters and length."""
    names = draw_one(st.lists(NAMES, max_size=9))
    counts = st.builds(Second, *(st.integers(0, 10**6) for _ in KINDS))
    changes = st.builds(Transition, TIMES, st.sampled_from(names or ["a"]), STATES, STATES, NAMES)
    return Outcome(
        settings=Settings(),
        phases=tuple(draw_one(st.lists(st.builds(Phase, NAMES, TIMES, TIMES, NAMES), max_size=4))),
        killed_at=draw_one(TIMES),
        restarted_at=draw_one(TIMES),
        lines=(),
        transitions=tuple(draw_one(st.lists(changes, max_size=12))),
        event_counts={},
        seconds=tuple(draw_one(st.lists(counts, max_size=64))),
        calls=0,
        snapshot={"circuit_breakers": {name: {"state": draw_one(STATES)} for name in names}},
        verdict=Verdict(False, draw_one(NAMES)),
    )


@settings(max_examples=80, deadline=None)
@given(outcomes())
def test_any_run_is_drawn_within_the_picture(outcome: Outcome) -> None:
    """Whatever happened, the file is sound XML, nothing lies outside, and no second is missing."""
    seen = Picture(outcome)
    _, _, width, height = map(float, (seen.root.get("viewBox") or "").split())
    for one in seen.root.iter(f"{SVG}rect"):
        assert number(one, "x") >= 0 or one.get("x") is None
        assert number(one, "width") >= 0
        assert (number(one, "x") if one.get("x") else 0) + number(one, "width") <= width + 0.02
        assert (number(one, "y") if one.get("y") else 0) + number(one, "height") <= height + 0.02
    assert all(0 <= number(one, "x") <= width for one in seen.root.iter(f"{SVG}text"))
    assert all(0 <= number(one, "y") <= height for one in seen.root.iter(f"{SVG}text"))
    for kind in KINDS:
        assert len(seen.of(kind)) == sum(bool(getattr(second, kind)) for second in outcome.seconds)
    assert len(seen.of("phase")) == len(outcome.phases)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("", "is not the name of a file"),
        ("a\0.svg", "is not the name of a file"),
        (".", "is a directory"),
        ("demo.png", "must end in .svg"),
        ("nowhere/demo.svg", "there is no directory"),
        ("file/demo.svg", "there is no directory"),
        (f"{'x' * 300}/../demo.svg", "there is no directory"),
        (f"{'x' * 300}.svg", "cannot be written"),
        ("link.svg", "cannot be written"),
    ],
)
def test_a_place_that_cannot_be_is_said_before_anything_runs(
    name: str, complaint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A picture that could not be written is an error of the arguments, and the demo does not begin."""
    monkeypatch.setattr(demo_command.story, "run", lambda *_: pytest.fail("the demo began"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "link.svg").symlink_to("gone/demo.svg")
    with pytest.raises(SystemExit) as left:
        main(["demo", "--plot", name])
    assert left.value.code == 2
    assert "argument --plot: " in (said := capsys.readouterr().err)
    assert complaint in said
    assert {one.name for one in tmp_path.iterdir()} == {"file", "link.svg"}


def play(monkeypatch: pytest.MonkeyPatch, outcome: Outcome = OUTCOME) -> None:
    monkeypatch.setattr(demo_command.story, "run", lambda *_: outcome)


def test_the_picture_replaces_the_old_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file holds the picture and nothing of the one before, its rights are kept, and no draft is left."""
    place = tmp_path / "demo.svg"
    place.write_text("old" * 10_000)
    place.chmod(0o640)
    play(monkeypatch)
    assert main(["demo", "--plot", str(place)]) == 0
    assert place.read_text("utf-8") == draw(OUTCOME)
    assert place.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [place]
    assert capsys.readouterr().out.splitlines()[-1] == f"The picture of it is in {place}."


def test_json_stays_alone_on_the_output(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With --json the output is one document, with a picture as without."""
    play(monkeypatch)
    assert main(["demo", "--json", "--plot", str(tmp_path / "demo.svg")]) == 0
    assert json.loads(capsys.readouterr().out)["recovered"] is True


def test_a_failed_recovery_is_drawn_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A run that did not recover is what one wants to look at: it is drawn, and the exit code stays 1."""
    play(monkeypatch, replace(OUTCOME, verdict=Verdict(False, "NOT RECOVERED: no.")))
    assert main(["demo", "--plot", str(tmp_path / "demo.svg")]) == 1
    assert "NOT RECOVERED: no." in (tmp_path / "demo.svg").read_text("utf-8")


def test_a_place_that_vanishes_meanwhile_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A picture that can no longer be written after the run costs a sentence and the exit code, not the numbers."""
    folder = tmp_path / "folder"
    folder.mkdir()

    def run(*_: object) -> Outcome:
        folder.rmdir()
        return OUTCOME

    monkeypatch.setattr(demo_command.story, "run", run)
    assert main(["demo", "--json", "--plot", str(folder / "demo.svg")]) == 1
    printed = capsys.readouterr()
    assert json.loads(printed.out)["calls"] == 310
    assert printed.err.startswith(f"resilient demo: --plot {folder / 'demo.svg'} could not be written: ")
    assert len(printed.err.splitlines()) == 1


@pytest.mark.parametrize("count", [1, 9, 10, 99, 100, 996, 999])
def test_highest_bar_fits_below_the_axis_end(count: int) -> None:
    """The highest bar leaves a little room and not most of it, also just below a power of ten."""
    (bar,) = Picture(replace(OUTCOME, seconds=(Second(count),))).of("ok")
    assert HEIGHT * 0.65 < number(bar, "height") < HEIGHT
