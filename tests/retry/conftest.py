"""Fixtures of this folder: frozen time, and sleeps that move it."""

import asyncio
import time

import freezegun
import freezegun.api
import pytest


@pytest.fixture
def clock(monkeypatch):
    """Freeze the clock in every thread; `clock.tick(seconds)` moves it. Event loops keep real time."""
    monkeypatch.setattr(freezegun.api, "call_stack_inspection_limit", 0)
    with freezegun.freeze_time("2026-03-01 12:00:00", real_asyncio=True) as frozen:
        yield frozen


@pytest.fixture
def sleeps(clock, monkeypatch):
    """Record every delay asked of `time.sleep` and `asyncio.sleep`, moving the clock instead of waiting."""
    recorded = []
    really = asyncio.sleep

    def record(delay):
        recorded.append(delay)
        clock.tick(delay)

    async def arecord(delay):
        record(delay)
        await really(0)

    monkeypatch.setattr(time, "sleep", record)
    monkeypatch.setattr(asyncio, "sleep", arecord)
    return recorded
