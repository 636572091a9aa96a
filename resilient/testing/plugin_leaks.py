"""What tests leave in force: injections, virtual clocks and fault proxies that nobody is going to take away."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Generator
from contextlib import suppress
from typing import Any

import pytest

_PATIENCE = 5.0  # seconds for the event loop of a proxy to close it


class Leaks:
    """Fails tests that leave something in force, and takes it away, so that the next test does not meet it.

    What a fixture has put in force is its own until it is torn down, however many tests use it.
    """

    def __init__(self) -> None:
        self._before: list[Any] = []  # from outside of all tests
        self._held: list[tuple[Any, Any]] = []  # with the fixture that has put it in force

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Generator[None, object, object]:
        """Note whose it is, also where the fixture fails half-way."""
        before = in_force()
        try:
            return (yield)
        finally:
            known = [*before, *(one for one, _ in self._held)]
            self._held += [(one, fixturedef) for one in in_force() if not _among(one, known)]

    def pytest_fixture_post_finalizer(self, fixturedef: Any) -> None:
        """From now on what it has put in force should be gone."""
        self._held = [pair for pair in self._held if pair[1] is not fixturedef]

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self) -> Generator[None, object, object]:
        """Leave alone what is older than the tests, such as what a conftest.py has put in force."""
        held = [one for one, _ in self._held]
        self._before = [one for one in in_force() if not _among(one, held)]
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: Any) -> Generator[None, object, object]:
        """Look what the test itself has left, unless it has said what is to be done at its end."""
        later: list[object] = []
        add = item.addfinalizer

        def note(finalizer: Any) -> None:
            later.append(finalizer)
            add(finalizer)

        item.addfinalizer = note
        leaked: list[str] = []
        try:
            result = yield
        finally:
            del item.addfinalizer
            if not later:
                leaked = self._taken_away()
        _fail(leaked)
        return result

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self) -> Generator[None, object, object]:
        """Look what is left when fixtures have been torn down."""
        leaked: list[str] = []
        try:
            result = yield
        finally:
            leaked = self._taken_away()
        _fail(leaked)
        return result

    def _taken_away(self) -> list[str]:
        """What nobody is going to take away, in words; it is gone afterwards."""
        known = [*self._before, *(one for one, _ in self._held)]
        leaked = [one for one in in_force() if not _among(one, known)]
        names = [_named(one) for one in leaked]
        for one in reversed(leaked):
            _take_away(one)
        return names


def in_force() -> list[Any]:
    """Injections, the virtual clock and proxies in force; of modules that nobody has used nothing can be."""
    found: list[Any] = []
    if (injection := sys.modules.get("resilient.testing.injection")) is not None:
        found += [one for one in injection.ACTIVE if not one.owned]
    if (clocks := sys.modules.get("resilient.testing.clocks.virtual_clock")) is not None:
        found += [one for one in [clocks.VirtualClock.in_use()] if one is not None]
    if (network := sys.modules.get("resilient.testing.network.proxy")) is not None:
        found += [one for one in list(network._proxies) if one._home.loop is not None and not one.owned]
    return found


def _among(one: Any, several: list[Any]) -> bool:
    return any(one is other for other in several)


def _named(one: Any) -> str:
    text = repr(one)
    return f"a {type(one).__name__}" if text.endswith(f" object at {id(one):#x}>") else text


def _fail(leaked: list[str]) -> None:
    if leaked:
        pytest.fail(f"leak: the test has left {', '.join(leaked)} in force; use it in a `with` block", False)


def _take_away(one: Any) -> None:
    if hasattr(one, "remove"):
        one.remove()
    elif not hasattr(one, "_home"):
        one.__exit__(None, None, None)
    elif one._home.thread is not None:
        one._home.end_thread()
    else:
        _leave_loop(one)


def _leave_loop(proxy: Any) -> None:
    """End a proxy that is served in the event loop of the test."""
    loop: asyncio.AbstractEventLoop = proxy._home.loop
    with suppress(RuntimeError, TimeoutError):
        if loop.is_running():
            asyncio.run_coroutine_threadsafe(proxy._home.aleave(), loop).result(_PATIENCE)
        elif not loop.is_closed():
            loop.run_until_complete(proxy._home.aleave())
    # A loop that is closed serves nobody, but the port would stay.
    proxy._forget()
