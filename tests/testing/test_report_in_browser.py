"""The HTML report in a real browser: it is drawn, fits on a phone, and its own policy lets its style through."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import struct
import subprocess
import zlib

import pytest

from resilient.testing.recovery.report import TestReport
from resilient.testing.reports import style

from . import report_samples as samples

_NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome")
_WIDTHS = (390, 1280)

# The page itself allows no script, so it is put unchanged into frames, and measured from outside.
_MEASURE = """<!DOCTYPE html><meta charset="utf-8"><body>%s<pre id="measured"></pre><script>
addEventListener("load", () => {
  const seen = [...document.querySelectorAll("iframe")].map((frame) => {
    const page = frame.contentDocument, view = frame.contentWindow, root = page.documentElement;
    const box = (one) => { const at = one.getBoundingClientRect(); return [at.left, at.top, at.right, at.bottom] };
    const inside = [...page.querySelectorAll("body *")].filter((one) => !one.closest(".scroll, .defs"));
    const texts = [...page.querySelectorAll(".timeline text")]
      .filter((one) => view.getComputedStyle(one).display !== "none" && one.getBoundingClientRect().width > 0);
    const overlaps = texts.filter((one, n) => texts.some((other, m) => {
      if (m <= n || one.closest("svg") !== other.closest("svg")) return false;
      const a = one.getBoundingClientRect(), b = other.getBoundingClientRect();
      return Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 &&
        Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 3;
    })).map((one) => one.textContent);
    return { width: view.innerWidth, scroll: root.scrollWidth, overlaps,
      outside: inside.filter((one) => box(one)[2] > view.innerWidth + 1).map((one) => one.outerHTML.slice(0, 120)),
      drawings: [...page.querySelectorAll("svg.timeline")].map(box),
      texts: texts.map(box), size: parseFloat(view.getComputedStyle(page.querySelector(".timeline .lane")).fontSize),
      badge: view.getComputedStyle(page.querySelector(".badge")).backgroundColor,
      red: view.getComputedStyle(page.querySelector("rect.open")).fill,
      green: view.getComputedStyle(page.querySelector("rect.closed")).fill,
      scripted: Boolean(view.scripted) };
  });
  document.getElementById("measured").textContent = JSON.stringify(seen);
});
</script>"""


def _report():
    """One of each status, hostile and very long names, many breakers, many calls."""
    long = samples.long(3600.0, 5000, scenario_name="w" * 300, description="d" * 400)
    breakers = samples.result(events=samples.events(breakers=12, name="orders of the warehouse in the north " * 4))
    return TestReport([*samples.mixed().results, *samples.nasty().results, long, samples.long(0.001), breakers])


def _browser():
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        if os.environ.get("RESILIENT_REQUIRE_SERVERS"):
            pytest.fail("Chromium is not installed, and RESILIENT_REQUIRE_SERVERS is set")
        pytest.skip("Chromium is not installed")
    return found


def _start(file, folder, *options):
    words = [_browser(), "--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]
    words += ["--no-first-run", "--enable-logging=stderr", f"--user-data-dir={folder / 'profile'}"]
    # As root it refuses to run with its sandbox.
    words += ["--no-sandbox"] if os.geteuid() == 0 else []
    words += [*options, "--dump-dom", file.as_uri()]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True, cwd=folder)  # noqa: S603
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """What was measured in frames as wide as a phone and a desk, and what the console said."""
    folder = tmp_path_factory.mktemp("measured")
    content = html.escape(_report().to_html())
    frames = "".join(
        f'<iframe width="{width}" height="900" style="border:0" srcdoc="{content}"></iframe>' for width in _WIDTHS
    )
    file = folder / "measure.html"
    file.write_text(_MEASURE % frames, "utf-8")
    dom, console = _start(file, folder, "--window-size=1400,900")
    said = re.search(r'<pre id="measured">(.*?)</pre>', dom, re.S)
    return {one["width"]: one for one in json.loads(html.unescape(said[1]))}, console


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """The saved file itself: its elements, a picture of it, and what the console said."""
    folder = tmp_path_factory.mktemp("opened")
    file = _report().save(folder / "report.html")
    picture = folder / "report.png"
    dom, console = _start(file, folder, "--window-size=390,2400", f"--screenshot={picture}")
    return dom, picture.read_bytes(), console


def _rows(png):
    """The size of a picture, and how many of its rows differ."""
    assert png.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", png[16:24])
    at, packed = 8, b""
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        if png[at + 4 : at + 8] == b"IDAT":
            packed += png[at + 8 : at + 8 + length]
        at += length + 12
    raw = zlib.decompress(packed)
    step = len(raw) // height
    return (width, height), len({raw[n * step : (n + 1) * step] for n in range(height)})


def test_page_is_drawn(opened):
    """A picture of the saved file is full of different rows, and its elements say the verdict and the recovery."""
    dom, picture, _ = opened
    size, rows = _rows(picture)
    assert size == (390, 2400)
    assert rows > 800
    assert dom.count('class="timeline"') == 8
    for words in (
        "4 of 8 scenarios passed: 2 failed, 1 took too long, 1 could not be judged.",
        "recovered after 300 ms",
        "half-open",
    ):
        assert words in dom


def test_page_runs_nothing_and_complains_of_nothing(opened, measured):
    """A name that is a script is a text, and the console stays empty: no error, and nothing against the policy."""
    assert opened[2] == measured[1] == []
    assert "<script" not in opened[0]
    assert not any(one["scripted"] for one in measured[0].values())


@pytest.mark.parametrize("width", _WIDTHS)
def test_nothing_sticks_out(measured, width):
    """On a phone and on a desk nothing is wider than the screen, whatever the names; tables scroll by themselves."""
    seen = measured[0][width]
    assert seen["scroll"] <= width
    assert seen["outside"] == []


@pytest.mark.parametrize("width", _WIDTHS)
def test_timelines_have_a_size_and_can_be_read(measured, width):
    """They fill the width; their texts are no smaller on a phone, lie inside, and not over each other."""
    seen = measured[0][width]
    assert len(seen["drawings"]) == 8
    for left, top, right, bottom in seen["drawings"]:
        assert right - left > 0.8 * min(width, 990)
        assert bottom - top > 150
    assert seen["size"] >= 12
    assert len(seen["texts"]) > 60
    assert all(left >= 0 and right <= width for left, _, right, _ in seen["texts"])
    assert seen["overlaps"] == []


def test_style_is_let_through_by_its_policy(measured):
    """The digest in the policy is that of the style: badges have a background, and states have different colours."""
    for seen in measured[0].values():
        assert seen["badge"] not in ("rgba(0, 0, 0, 0)", "")
        assert seen["red"] != seen["green"]
    assert style.policy() in html.unescape(_report().to_html())
