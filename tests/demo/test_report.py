"""What the demo prints, made from data at hand: no process, no clock."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from resilient import circuit_breaker, degrade, registry, timeout
from resilient.demo.lines import Line
from resilient.demo.narrator import Transition
from resilient.demo.outcome import Outcome, Phase, Verdict, judge
from resilient.demo.report import (
    Style,
    as_document,
    remarks,
    render_intro,
    render_line,
    render_outcome,
    render_strip,
    render_table,
    share_out,
    style_for,
)
from resilient.demo.settings import Settings
from resilient.demo.table import policy_rows
from resilient.demo.traffic import Second

PLAIN = Style()


def change(at: float, old: str, new: str) -> Transition:
    return Transition(at, "inventory", old, new, "because")


THERE_AND_BACK = (
    change(2.2, "closed", "open"),
    change(2.6, "open", "half_open"),
    change(2.6, "half_open", "open"),
    change(3.1, "open", "half_open"),
    change(3.2, "half_open", "closed"),
)


def outcome(**changes: Any) -> Outcome:
    fields: dict[str, Any] = {
        "settings": Settings(),
        "phases": (Phase("calm", 0.0, 2.0, "calm"),),
        "killed_at": 2.0,
        "restarted_at": 3.0,
        "lines": (Line(0.25, "service", "listens"),),
        "transitions": THERE_AND_BACK,
        "event_counts": {"FallbackServed": 9},
        "seconds": (Second(ok=40), Second(ok=30, rejected=10), Second(ok=5, fallback=9)),
        "calls": 94,
        "snapshot": {},
        "verdict": Verdict(True, "RECOVERED: well."),
    }
    return Outcome(**{**fields, **changes})


class Screen(io.StringIO):
    def __init__(self, encoding: str, tty: bool) -> None:
        super().__init__()
        self._encoding, self._tty = encoding, tty

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    def isatty(self) -> bool:
        return self._tty


@pytest.mark.parametrize(
    ("encoding", "tty", "environ", "expected"),
    [
        ("utf-8", True, {}, Style(colour=True, unicode=True)),
        ("UTF8", True, {"NO_COLOR": "1"}, Style(colour=False, unicode=True)),
        ("utf-8", True, {"NO_COLOR": ""}, Style(colour=True, unicode=True)),
        ("utf-8", False, {}, Style(colour=False, unicode=True)),
        ("ANSI_X3.4-1968", True, {}, Style(colour=True, unicode=False)),
        ("cp1252", False, {}, Style()),
    ],
)
def test_style_follows_the_stream(encoding: str, tty: bool, environ: dict[str, str], expected: Style) -> None:
    assert style_for(Screen(encoding, tty), environ) == expected


def test_intro_has_two_lines_and_the_settings() -> None:
    lines = render_intro(Settings(seconds=9, seed=3), PLAIN).splitlines()
    assert len(lines) == 3
    assert "9 s" in lines[2]
    assert "seed 3" in lines[2]
    assert max(map(len, lines)) <= 110


def test_lines_are_aligned_and_phases_stand_apart() -> None:
    early, late = Line(0.5, "retry", "again"), Line(11.25, "answered", "fine")
    assert render_line(early, PLAIN).index("again") == render_line(late, PLAIN).index("fine")
    assert render_line(Line(0.0, "phase", "calm"), PLAIN).startswith("\n")


@pytest.mark.parametrize(
    ("counts", "most", "cells"),
    [
        ([10, 0, 0], 10, [20, 0, 0]),
        ([5, 5, 0], 10, [10, 10, 0]),
        ([999, 1, 0], 1000, [19, 1, 0]),
        ([1, 1, 998], 1000, [1, 1, 18]),
        ([5, 0, 0], 10, [10, 0, 0]),
        ([0, 0, 0], 10, [0, 0, 0]),
        ([0, 0, 0], 0, [0, 0, 0]),
    ],
)
def test_cells_are_shared_out_in_proportion(counts: list[int], most: int, cells: list[int]) -> None:
    assert share_out(counts, most, 20) == cells


def test_strip_has_a_row_per_second_with_counts_bar_and_remark() -> None:
    text = render_strip([Second(ok=40), Second(ok=20, fallback=20)], {1: "killed, open"}, PLAIN)
    _, head, first, second, total, legend = text.splitlines()
    assert head.split() == ["second", "ok", "fallback", "rejected"]
    assert first.split() == ["0", "40", "0", "0", "o" * 26]
    assert second.split() == ["1", "20", "20", "0", "o" * 13 + "f" * 13, "killed,", "open"]
    assert total.split() == ["all", "60", "20", "0"]
    assert "f fallback" in legend
    assert text.isascii()


def test_strip_uses_blocks_where_they_can_be_shown() -> None:
    assert "█" * 26 in render_strip([Second(ok=1)], {}, Style(unicode=True))


def test_strip_mentions_failures_only_if_there_were_any() -> None:
    assert "failed" not in render_strip([Second(ok=1)], {}, PLAIN)
    assert "failed" in render_strip([Second(ok=1, failed=1)], {}, PLAIN)


def test_strip_of_nothing_is_no_error() -> None:
    assert "Legend" in render_strip([], {}, PLAIN)


def test_colour_only_when_asked_for() -> None:
    assert "\033[" not in render_outcome(outcome(), Style(unicode=True))
    assert "\033[" in render_outcome(outcome(), Style(colour=True))


def test_remarks_name_what_happened_in_order() -> None:
    assert remarks(outcome()) == {
        2: "killed, breaker open, probes fail",
        3: "back, recovered",
    }
    stubborn = outcome(transitions=THERE_AND_BACK[:3] + THERE_AND_BACK[1:])
    assert remarks(stubborn)[2] == "killed, breaker open, probes fail x2"


def test_table_columns_are_aligned() -> None:
    text = render_table([("retry", "a", "-", "calls 1"), ("circuit_breaker", "long name", "open", "calls 2")], PLAIN)
    _, head, first, second = text.splitlines()
    assert head.index("numbers") == first.index("calls 1") == second.index("calls 2")
    assert head.index("state") == first.index("- ") == second.index("open")


def test_table_rows_come_outermost_first_and_tolerate_an_empty_registry() -> None:
    calm = timeout(2, name="t")
    circuit_breaker("b", failure_threshold=1).isolate()
    degrade(fallback=0, name="d")
    assert calm.call(int, "1") == 1
    assert policy_rows(registry.snapshot()) == [
        ("degrade", "d", "-", "0 answered, 0 by fallback, 0 failed"),
        ("circuit_breaker", "b", "isolated", "0 ok, 0 failed (0%), 0 rejected, 1 state changes"),
        ("timeout", "t", "-", "limit 2 s, 0 timed out, 0 threads abandoned"),
    ]
    assert policy_rows({}) == []


def test_everything_after_the_live_lines_ends_with_the_verdict() -> None:
    text = render_outcome(outcome(), PLAIN)
    assert text.index("What callers saw") < text.index("What the registry holds") < text.index("RECOVERED")
    assert text.splitlines()[-1] == "RECOVERED: well."


def test_document_is_plain_data_and_adds_up() -> None:
    document = json.loads(json.dumps(as_document(outcome())))
    assert document["recovered"] is True
    assert document["outcomes"] == {"ok": 75, "fallback": 9, "rejected": 10, "failed": 0}
    assert document["seconds"][1] == {"second": 1, "ok": 30, "fallback": 0, "rejected": 10, "failed": 0}
    assert document["transitions"][0]["new"] == "open"


def test_recovered_means_open_half_open_closed_and_answers() -> None:
    verdict = judge(THERE_AND_BACK, killed_at=2.0, ok_since=5)
    assert verdict.recovered
    assert "within 1.2 s of the kill" in verdict.text


@pytest.mark.parametrize(
    ("transitions", "ok_since", "why"),
    [
        ((), 5, "never opened"),
        (THERE_AND_BACK[:1], 5, "never let a probe through"),
        (THERE_AND_BACK[:2], 5, "still half-open"),
        (THERE_AND_BACK[:3], 5, "still open"),
        (THERE_AND_BACK, 0, "answered no call"),
    ],
)
def test_anything_less_is_not_recovered(transitions: tuple[Transition, ...], ok_since: int, why: str) -> None:
    verdict = judge(transitions, killed_at=2.0, ok_since=ok_since)
    assert not verdict.recovered
    assert verdict.text.startswith("NOT RECOVERED")
    assert why in verdict.text
