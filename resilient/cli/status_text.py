"""A snapshot as rows of text, what concerns most first; and nothing else, so that each piece can be tested alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from resilient.cli.plan_text import plain
from resilient.demo.table import SHELVES

#: How much a state concerns whoever looks.
_CONCERN = {"open": 0, "isolated": 0, "half_open": 1, "full": 1, "stuck": 1, "disabled": 2}
CALM = 3

Snapshot = Mapping[str, Any]


class PolicyRow(NamedTuple):
    """One policy: kind, name, state; calls of the last minute and the share that failed; calls inside, and numbers."""

    concern: int
    kind: str
    name: str
    state: str
    rate: str
    failing: str
    inside: str
    numbers: str


def policies(snapshot: Snapshot) -> list[PolicyRow]:
    """All policies, those that concern most first."""
    rows = [
        _row(kind, numbers, name, facts, _rates(snapshot, shelf, name))
        for shelf, (kind, numbers) in SHELVES.items()
        for name, facts in snapshot.get(shelf, {}).items()
    ]
    return sorted(rows, key=lambda row: (row.concern, row.kind, row.name))


def _rates(snapshot: Snapshot, shelf: str, name: str) -> Mapping[str, Any]:
    found = snapshot.get("rates", {})
    for key in (shelf, name):
        found = found.get(key, {}) if isinstance(found, Mapping) else {}
    return found if isinstance(found, Mapping) else {}


def _row(kind: str, numbers: str, name: str, facts: Mapping[str, Any], rates: Mapping[str, Any]) -> PolicyRow:
    state = str(facts.get("state") or rates.get("state") or "-")
    try:
        told = numbers.format(**facts)
    except (KeyError, ValueError, TypeError):  # another version's
        told = ""
    inside = facts.get("active_requests", facts.get("probes_in_flight"))
    return PolicyRow(
        _CONCERN.get(state, CALM),
        kind,
        plain(name),
        plain(state).replace("_", "-"),
        _number(rates.get("calls_per_second"), "{:.1f}/s"),
        _number(rates.get("bad_share"), "{:.0%}"),
        "" if inside is None else str(inside),
        plain(told),
    )


def _number(value: Any, form: str) -> str:
    return form.format(value) if isinstance(value, (int, float)) else ""


def summary(snapshot: Snapshot) -> str:
    """One line: how many there are, and how many of them want to be looked at."""
    rows = policies(snapshot)
    alarming = sum(row.concern == 0 for row in rows)
    breakers = sum(row.kind == "circuit_breaker" for row in rows)
    much = "1 policy" if len(rows) == 1 else f"{len(rows):,} policies"
    if not rows:
        return "no policies yet: they appear when they are defined"
    if not breakers:
        return much
    return (
        f"{much}; {alarming} of {breakers:,} breakers let nothing through"
        if alarming
        else f"{much}; no breaker is open"
    )


def changes(snapshot: Snapshot, most: int = 5) -> Iterator[str]:
    """The latest transitions of breakers, newest first."""
    for one in list(snapshot.get("transitions", ()))[:most]:
        clock = str(one.get("time", "")).partition("T")[2][:8]
        yield plain(f"{clock}  {one.get('name')}: {one.get('old')} -> {one.get('new')} ({one.get('reason')})")


def executions(snapshot: Snapshot, most: int = 5) -> Iterator[str]:
    """The latest recoveries, newest first, with the steps that are under way or wait for a decision."""
    for one in list(snapshot.get("executions", ()))[:most]:
        waiting = one.get("waiting_for") or ()
        what = f"; waits for approval of {', '.join(map(str, waiting))}" if waiting else ""
        yield plain(
            f"{one.get('plan_id')}: {str(one.get('status')).replace('_', ' ')}{what} ({one.get('execution_id')})"
        )


def managers(snapshot: Snapshot) -> Iterator[str]:
    """The degradation managers and their modes."""
    for name, facts in snapshot.get("degradation_managers", {}).items():
        spared = [service for service, health in facts.get("services", {}).items() if health.get("degraded")]
        what = f"; degraded: {', '.join(spared)}" if spared else ""
        yield plain(f"{name}: {facts.get('mode')}{' (forced)' if facts.get('forced') else ''}{what}")


def sections(snapshot: Snapshot) -> Iterator[tuple[str, list[str]]]:
    """What there is beside the policies, by heading."""
    for heading, lines in (
        ("Latest changes", list(changes(snapshot))),
        ("Managers", list(managers(snapshot))),
        ("Recoveries", list(executions(snapshot))),
        ("Problems", [plain(str(one)) for one in snapshot.get("problems", ())]),
    ):
        if lines:
            yield heading, lines


HEADINGS = ("policy", "name", "state", "calls", "failing", "inside", "numbers")


def as_lines(snapshot: Snapshot) -> Iterator[str]:
    """Everything as aligned lines, for files and terminals without rich."""
    yield summary(snapshot)
    table = [HEADINGS, *(row[1:] for row in policies(snapshot))]
    widths = [max(len(row[column]) for row in table) for column in range(len(HEADINGS) - 1)]
    if len(table) > 1:
        yield ""
        for row in table:
            yield "  ".join((*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1])).rstrip()
    for heading, lines in sections(snapshot):
        yield ""
        yield heading
        yield from (f"  {line}" for line in lines)
