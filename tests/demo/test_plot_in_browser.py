"""The demo's picture in a real browser: on a desk and on a phone its words can be read and do not meet."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from resilient.demo.lines import Line
from resilient.demo.narrator import Transition
from resilient.demo.outcome import Outcome, Phase, Verdict
from resilient.demo.plot import draw
from resilient.demo.settings import Settings
from resilient.demo.traffic import Second

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome")
WIDTHS = (390, 1280)
# What the picture looks like is measured from a page around it.
MEASURE = """<!DOCTYPE html><meta charset="utf-8"><body>%s<pre id="measured"></pre><script>
addEventListener("load", () => {
  const seen = [...document.querySelectorAll("iframe")].map((frame) => {
    const page = frame.contentDocument, view = frame.contentWindow;
    const texts = [...page.querySelectorAll("text")].filter((one) => one.getBoundingClientRect().width > 0);
    const meets = (one, other) => {
      const a = one.getBoundingClientRect(), b = other.getBoundingClientRect();
      return Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 &&
        Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 4;
    };
    const box = page.documentElement.getBoundingClientRect();
    return {
      width: view.innerWidth,
      drawn: box.width,
      meeting: texts.flatMap((one, n) => texts.slice(n + 1).filter((other) => meets(one, other))
        .map((other) => `${one.textContent} / ${other.textContent}`)),
      outside: texts.filter((one) => {
        const at = one.getBoundingClientRect();
        return at.left < box.left - 1 || at.right > box.right + 1 || at.bottom > box.bottom + 1;
      }).map((one) => one.textContent),
      smallest: Math.min(...texts.map((one) => one.getBoundingClientRect().height)),
      paper: view.getComputedStyle(page.querySelector(".paper")).fill };
  });
  document.getElementById("measured").textContent = JSON.stringify(seen);
});
</script>"""


def story(length: int, **changes: Any) -> Outcome:
    """A run of so many seconds: calm, rush, outage, recovery."""
    killed, back = length * 0.5, length * 0.7
    parts = (("calm", 0.0, 0.25), ("rush", 0.25, 0.5), ("outage", 0.5, 0.7), ("recovery", 0.7, 1.0))
    changes_of_state = (("closed", "open", killed), ("open", "half_open", back), ("half_open", "closed", back + 0.1))
    made = Outcome(
        settings=Settings(seconds=length),
        phases=tuple(Phase(name, start * length, end * length, f"{name}: so it is") for name, start, end in parts),
        killed_at=killed,
        restarted_at=back,
        lines=(Line(0.0, "service", "listens"),),
        transitions=tuple(Transition(at, "inventory", old, new, "because") for old, new, at in changes_of_state),
        event_counts={},
        seconds=tuple(Second(40 + number, 9, 30, number % 2) for number in range(length)),
        calls=0,
        snapshot={},
        verdict=Verdict(True, "RECOVERED: OPEN -> HALF_OPEN -> CLOSED within 3.1 s of the kill; calls answered: 1500."),
    )
    return replace(made, **changes)


def stories() -> list[Outcome]:
    long = "a very long name of something far away " * 5
    states = ("closed", "open", "half_open", "isolated", "disabled")
    breakers = {f"{number} {long}": {"state": states[number % 5]} for number in range(9)}
    at_once = story(4, killed_at=2.0, restarted_at=2.0, verdict=Verdict(False, "NOT RECOVERED: " + "no " * 200))
    phases = (Phase(long, 0, 11, long), Phase("short", 11, 11.1, long), Phase("end", 11.1, 12, long))
    nothing = story(4, seconds=(), transitions=(), phases=())
    late = story(12, killed_at=11.8, restarted_at=11.9)
    return [story(4), story(12), story(60), story(12, snapshot={"circuit_breakers": breakers}, phases=phases), at_once,
            nothing, late]  # fmt: skip


def browser() -> str:
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        if os.environ.get("RESILIENT_REQUIRE_SERVERS"):
            pytest.fail("Chromium is not installed, and RESILIENT_REQUIRE_SERVERS is set")
        pytest.skip("Chromium is not installed")
    return found


def look(folder: Path, *options: str) -> list[dict[str, Any]]:
    """Show every picture at every width, and measure it."""
    frames = []
    for number, one in enumerate(stories()):
        (folder / f"{number}.svg").write_text(draw(one), "utf-8")
        frames += [f'<iframe src="{number}.svg" width="{width}" height="900"></iframe>' for width in WIDTHS]
    page = folder / "page.html"
    page.write_text(MEASURE % "".join(frames), "utf-8")
    words = [browser(), "--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    words += ["--allow-file-access-from-files", f"--user-data-dir={folder / 'profile'}", *options]
    # As root it refuses to run with its sandbox.
    words += ["--no-sandbox"] if os.geteuid() == 0 else []
    done = subprocess.run(  # noqa: S603 - a browser
        [*words, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=60, check=True, cwd=folder
    )
    found = re.search(r'<pre id="measured">(.+?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr
    measured: list[dict[str, Any]] = json.loads(html.unescape(found[1]))
    return measured


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return look(tmp_path_factory.mktemp("light"), "--blink-settings=preferredColorScheme=1")


def test_words_do_not_meet(measured: list[dict[str, Any]]) -> None:
    """No two texts lie on each other, whatever the run was like."""
    assert [one["meeting"] for one in measured] == [[]] * len(measured)


def test_words_stay_inside(measured: list[dict[str, Any]]) -> None:
    """No text is cut off by the edge."""
    assert [one["outside"] for one in measured] == [[]] * len(measured)


def test_picture_fits_and_can_be_read(measured: list[dict[str, Any]]) -> None:
    """On a phone the picture is as wide as the screen, and no text gets smaller than small print."""
    assert {one["width"] for one in measured} == set(WIDTHS)
    assert all(one["drawn"] <= one["width"] for one in measured)
    assert min(one["smallest"] for one in measured) >= 9


def test_dark_is_dark(measured: list[dict[str, Any]], tmp_path: Path) -> None:
    """The paper is white for readers who like it light, and dark for those who like it dark."""
    dark = look(tmp_path, "--blink-settings=preferredColorScheme=0")
    assert {one["paper"] for one in measured} == {"rgb(255, 255, 255)"}
    assert {one["paper"] for one in dark} == {"rgb(13, 17, 23)"}
