"""Calling what users bring, sync or async, in a thread that can be left behind when the step is stopped."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from functools import reduce
from importlib import import_module
from typing import Any

from resilient.errors import ConfigurationError
from resilient.orchestrator.executors.failures import LOOK, ActionFailedError, check, reason
from resilient.orchestrator.model import RecoveryContext


class Call:
    """One call in a thread of its own. Async functions run in an event loop of their own, and can be cancelled."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._future: Future[Any] = Future()
        self._stop: Callable[[], object] | None = None
        self._lock = threading.Lock()
        #: Nobody wants the result any more.
        self.abandoned = False
        context = contextvars.copy_context()
        self._thread = threading.Thread(
            target=lambda: context.run(self._work, function), name="resilient-recovery-call", daemon=True
        )
        self._thread.start()

    @property
    def done(self) -> bool:
        """Whether it has ended, one way or the other."""
        return self._future.done()

    def result(self) -> Any:
        """What it returned; raises what it raised, and ActionFailedError where that would end more than the call."""
        try:
            return self._future.result()
        except Exception:
            raise
        except BaseException as error:  # SystemExit, a cancellation
            raise ActionFailedError(f"the function ended by {reason(error)}") from error

    def wait(self, context: RecoveryContext, limit: float | None = None) -> bool:
        """Wait for its end, at most `limit` seconds; whether it came. ActionStoppedError where the step is stopped."""
        until = None if limit is None else time.monotonic() + limit
        while not self.done:
            left = LOOK if until is None else until - time.monotonic()
            if left <= 0:
                return False
            check(context)
            wait([self._future], timeout=min(LOOK, left))
        return True

    def abandon(self) -> None:
        """Nobody wants the result: what is async is cancelled, what is sync goes on by itself."""
        with self._lock:
            self.abandoned = True
            if self._stop is not None:
                self._stop()

    def _work(self, function: Callable[[], Any]) -> None:
        try:
            result = function()
            if inspect.isawaitable(result):
                result = asyncio.run(self._awaited(result))
        except BaseException as error:  # handed over to whoever waits
            self._future.set_exception(error)
        else:
            self._future.set_result(result)

    async def _awaited(self, result: Any) -> Any:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        with self._lock:
            if self.abandoned:
                task.cancel()
            self._stop = lambda: loop.call_soon_threadsafe(task.cancel)
        try:
            return await result
        finally:
            with self._lock:
                self._stop = None  # the loop is about to be closed


def call(function: Callable[..., Any], context: RecoveryContext, *, on_stop: Callable[[], object] | None = None) -> Any:
    """Call a function and return what it gives, as soon as it does.

    Where the step is stopped before that: ActionStoppedError, after `on_stop` has been told.
    """
    running = Call(with_context(function, context))
    try:
        running.wait(context)
    except BaseException:
        running.abandon()
        if on_stop is not None:
            on_stop()
        raise
    return running.result()


def with_context(function: Callable[..., Any], context: RecoveryContext) -> Callable[[], Any]:
    """The function without arguments; its context is handed to one that has a parameter for it."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some built-in functions have none
        return function
    if "context" in signature.parameters:
        if signature.parameters["context"].kind is inspect.Parameter.POSITIONAL_ONLY:
            return lambda: function(context)
        return lambda: function(context=context)
    try:
        signature.bind()
    except TypeError:
        return lambda: function(context)
    return function


def found(named: str) -> Any:
    """The object that "package.module:name" names; ConfigurationError where there is none."""
    module, _, path = named.partition(":")
    try:
        return reduce(getattr, path.split("."), import_module(module))
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"{named}: there is no module {error.name}; is it installed, and on sys.path?"
        ) from None
    except AttributeError as error:
        raise ConfigurationError(f"{named}: {error}") from None


def resolved(value: Any) -> Any:
    """The object that a text names, or the object itself."""
    return found(value) if isinstance(value, str) else value
