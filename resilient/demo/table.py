"""Picks from the registry's snapshot what is worth a place in a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Shelf of the registry: the decorator's name, and the numbers worth telling.
SHELVES = {
    "degradations": ("degrade", "{succeeded} answered, {served_fallback} by fallback, {failed} failed"),
    "retries": ("retry", "{calls} calls, {retries} retries, {exhausted} exhausted"),
    "circuit_breakers": (
        "circuit_breaker",
        "{success_count} ok, {failure_count} failed ({failure_rate:.0%}), {rejected_count} rejected, "
        "{state_changes} state changes",
    ),
    "bulkheads": (
        "bulkhead",
        "{admitted} admitted, {rejected} rejected, {active_requests} of {max_concurrent} places taken",
    ),
    "timeouts": ("timeout", "limit {limit:g} s, {timed_out} timed out, {abandoned} threads abandoned"),
}


def policy_rows(snapshot: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[tuple[str, str, str, str]]:
    """Kind, name, state and numbers of every policy, outermost kind first."""
    return [
        (kind, name, str(facts.get("state", "-")), numbers.format(**facts))
        for shelf, (kind, numbers) in SHELVES.items()
        for name, facts in snapshot.get(shelf, {}).items()
    ]
