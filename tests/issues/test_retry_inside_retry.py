"""An outer retry used to miss that an inner one had given up when the error was another or came in a group."""

import asyncio

import pytest

from resilient import retry

from .helpers import aoutcome, outcome, run


class ServiceError(Exception):
    """What a layer raises for the error of the one below."""


class Inner:
    """A service that always fails, behind a retry of three attempts; counts its calls."""

    def __init__(self):
        self.calls = 0
        self.ask = retry(base_delay=0)(self._ask)
        self.aask = retry(base_delay=0)(self._aask)

    def _ask(self):
        self.calls += 1
        raise ConnectionError

    async def _aask(self):
        self.calls += 1
        raise ConnectionError


def test_error_raised_while_handling_another():
    """`raise ServiceError` within `except ConnectionError` is given up too, though nobody wrote `from`."""
    inner = Inner()

    @retry(base_delay=0)
    def outer():
        try:
            inner.ask()
        except ConnectionError:
            raise ServiceError  # noqa: B904 - without `from`, as most people write it

    assert isinstance(outcome(outer), ServiceError)
    assert inner.calls == 3


def test_error_raised_while_handling_another_async():
    """The same for async functions."""
    inner = Inner()

    @retry(base_delay=0)
    async def outer():
        try:
            await inner.aask()
        except ConnectionError:
            raise ServiceError  # noqa: B904 - without `from`, as most people write it

    assert isinstance(run(aoutcome(outer)), ServiceError)
    assert inner.calls == 3


def test_error_raised_from_another():
    """`raise ServiceError from error` is given up, and so is one more step of it."""
    inner = Inner()

    @retry(base_delay=0)
    def outer():
        try:
            try:
                inner.ask()
            except ConnectionError as error:
                raise ServiceError from error
        except ServiceError:
            raise RuntimeError  # noqa: B904 - without `from`, as most people write it

    assert isinstance(outcome(outer), RuntimeError)
    assert inner.calls == 3


def test_error_raised_after_another_was_handled():
    """A failure after the inner one was dealt with is no consequence of it, and is retried."""
    inner, calls = Inner(), []

    @retry(base_delay=0)
    def outer():
        calls.append(1)
        outcome(inner.ask)
        raise ServiceError

    assert isinstance(outcome(outer), ServiceError)
    assert len(calls) == 3


def test_task_group():
    """An inner retry that gave up inside a TaskGroup has given up for the outer one."""
    inner = Inner()

    @retry(base_delay=0)
    async def outer():
        async with asyncio.TaskGroup() as group:
            group.create_task(inner.aask())

    assert isinstance(run(aoutcome(outer)), ExceptionGroup)
    assert inner.calls == 3


def test_nested_groups():
    """The same for a group within a group, and for an error raised from one."""
    inner = Inner()

    @retry(base_delay=0)
    def outer():
        try:
            inner.ask()
        except ConnectionError as error:
            group = ExceptionGroup("outer", [ValueError(), ExceptionGroup("inner", [error])])
        raise ServiceError from group

    assert isinstance(outcome(outer), ServiceError)
    assert inner.calls == 3


@pytest.mark.parametrize("again", [False, True])
def test_retry_exhausted(again):
    """With `retry_exhausted=True` the outer retry tries again all the same."""
    inner = Inner()

    @retry(base_delay=0, retry_exhausted=again)
    def outer():
        try:
            inner.ask()
        except ConnectionError:
            raise ServiceError  # noqa: B904 - without `from`, as most people write it

    outcome(outer)
    assert inner.calls == (9 if again else 3)
