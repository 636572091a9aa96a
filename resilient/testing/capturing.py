"""Seeing what policies tell, and letting time pass by itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from resilient._registry import registry
from resilient.events import Event
from resilient.testing.clocks.virtual_clock import VirtualClock


@contextmanager
def capture_events(*event_types: type[Event]) -> Iterator[list[Any]]:
    """A list of the events of these types (of all, if none is named) that happen inside the block, in order."""
    seen: list[Any] = []
    with registry.subscribe(seen.append, *event_types):
        yield seen


@contextmanager
def instant() -> Iterator[VirtualClock]:
    """Let no wait of any policy take time inside the block: a VirtualClock that jumps. Also a decorator of tests."""
    with VirtualClock(autojump=True) as clock:
        yield clock
