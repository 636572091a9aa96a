"""One call that meets a fault, in the manner of each kind of function."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any

from resilient.clock import CLOCK
from resilient.testing.faults import Fault
from resilient.wrapping import Kind


def happen(
    kind: Kind | None, fault: Fault, module: str, call: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Make a call that meets the fault; `module` is the library that the called function belongs to."""
    return _MANNERS[kind](fault, module, call, args, kwargs)


def _sync(fault: Fault, module: str, call: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    _wait(fault)
    answer = fault.answer(module, args, kwargs)
    if answer is not None:
        return answer
    _before(fault, args, kwargs)
    result = call(*args, **kwargs)
    if inspect.iscoroutine(result):  # a plain function that returns a coroutine
        return _changed(fault, result)
    return fault.after(result)


def _wait(fault: Fault) -> None:
    if (seconds := fault.seconds()) > 0:
        CLOCK.sleep(seconds)


def _before(fault: Fault, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    said = fault.before(args, kwargs)
    if inspect.isawaitable(said):
        if inspect.iscoroutine(said):
            said.close()
        raise TypeError(f"{fault!r} has an async action, and this call is sync")


async def _changed(fault: Fault, result: Any) -> Any:
    return fault.after(await result)


async def _async(fault: Fault, module: str, call: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    await _await(fault)
    answer = fault.answer(module, args, kwargs)
    if answer is not None:
        return answer
    await _await_before(fault, args, kwargs)
    return fault.after(await call(*args, **kwargs))


async def _await(fault: Fault) -> None:
    if (seconds := fault.seconds()) > 0:
        await CLOCK.asleep(seconds)


async def _await_before(fault: Fault, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    said = fault.before(args, kwargs)
    if inspect.isawaitable(said):
        await said


def _unsure(fault: Fault, module: str, call: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """For a lambda or a plain wrapper, of which only a call tells what it is."""
    if asyncio._get_running_loop() is None:
        return _sync(fault, module, call, args, kwargs)
    # In a loop it is called first: most return a coroutine, which does nothing yet, and then the loop need not stand.
    result = call(*args, **kwargs)
    if inspect.iscoroutine(result):
        return _begun(fault, module, result, args, kwargs)
    return _sync(fault, module, lambda *args, **kwargs: result, args, kwargs)


async def _begun(fault: Fault, module: str, first: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    try:
        return await _async(fault, module, lambda *args, **kwargs: first, args, kwargs)
    finally:
        first.close()


def _generator(
    fault: Fault, module: str, call: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Generator[Any, Any, Any]:
    _wait(fault)
    _before(fault, args, kwargs)
    items = call(*args, **kwargs)
    if not _changes(fault):
        return (yield from items)
    step: Callable[[], Any] = lambda: next(items)  # noqa: E731 - the first of several
    try:
        while True:
            try:
                item = step()
            except StopIteration as end:
                return end.value
            try:
                sent = yield fault.after(item)
            except GeneratorExit:
                raise
            except BaseException as error:
                step = _later(items.throw, error)
            else:
                step = _later(items.send, sent)
    finally:
        items.close()


async def _async_generator(
    fault: Fault, module: str, call: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> AsyncGenerator[Any, Any]:
    await _await(fault)
    await _await_before(fault, args, kwargs)
    items = call(*args, **kwargs)
    step: Callable[[], Any] = items.__anext__
    try:
        while True:
            try:
                item = await step()
            except StopAsyncIteration:
                return
            try:
                sent = yield fault.after(item)
            except GeneratorExit:
                raise
            except BaseException as error:
                step = _later(items.athrow, error)
            else:
                step = _later(items.asend, sent)
    finally:
        await items.aclose()


def _later(function: Callable[[Any], Any], argument: Any) -> Callable[[], Any]:
    return lambda: function(argument)


def _changes(fault: Fault) -> bool:
    return type(fault).after is not Fault.after


_MANNERS: dict[Kind | None, Callable[..., Any]] = {
    None: _unsure,
    Kind.SYNC: _sync,
    Kind.ASYNC: _async,
    Kind.GENERATOR: _generator,
    Kind.ASYNC_GENERATOR: _async_generator,
}
