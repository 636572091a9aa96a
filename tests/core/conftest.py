"""Fixtures of this folder: frozen time, and silence."""

import logging

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
def silence():
    """Let nothing be logged."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)
