"""Guarding streams: what a generator function yields, sync and async.

Two ways, both lazy (nothing happens before the first item is asked for), both keeping `send`, `throw` and, where there
is one, the return value:

* `hold` and `ahold` keep a permit for the whole iteration (circuit breaker, bulkhead);
* `relay` and `arelay` let an ordinary layer obtain the first item, and then hand through what follows (retry, degrade).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import Any, NamedTuple

Layer = Callable[[tuple[Any, ...], dict[str, Any]], Any]


class Opened(NamedTuple):
    """A stream that has delivered its first item, or (`stream` None) one that ended before it."""

    stream: Any
    item: Any


def hold(call: Layer, enter: Callable[[], Any], leave: Callable[[Any, BaseException | None], None]) -> Layer:
    """Keep a permit from the first item to the end."""

    def held(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Generator[Any, Any, Any]:
        permit = enter()
        try:
            result = yield from call(args, kwargs)
        except GeneratorExit:
            leave(permit, None)  # left early by its consumer, who has had at least one item: nothing went wrong
            raise
        except BaseException as error:
            leave(permit, error)
            raise
        leave(permit, None)
        return result

    return held


def ahold(
    call: Layer, enter: Callable[[], Awaitable[Any]], leave: Callable[[Any, BaseException | None], None]
) -> Layer:
    """Keep a permit from the first item to the end."""

    async def held(args: tuple[Any, ...], kwargs: dict[str, Any]) -> AsyncGenerator[Any, Any]:
        permit = await enter()
        try:
            stream = call(args, kwargs)
            step = stream.__anext__()
            while True:
                item = await step
                try:
                    sent = yield item
                except GeneratorExit:
                    await stream.aclose()
                    raise
                except BaseException as error:
                    step = stream.athrow(error)
                else:
                    step = stream.asend(sent)
        except (StopAsyncIteration, GeneratorExit) as end:
            leave(permit, None)
            if isinstance(end, GeneratorExit):
                raise
        except BaseException as error:
            leave(permit, error)
            raise

    return held


def open_stream(stream: Any) -> Opened:
    """Advance a generator to its first item."""
    try:
        return Opened(stream, next(stream))
    except StopIteration as stop:
        return Opened(None, stop.value)


async def aopen_stream(stream: Any) -> Opened:
    """Advance an async generator to its first item."""
    try:
        return Opened(stream, await stream.__anext__())
    except StopAsyncIteration:
        return Opened(None, None)


def relay(layer: Callable[[Layer], Layer], call: Layer) -> Layer:
    """Let `layer` guard the making of the first item, then hand the rest through."""

    def opening(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Opened:
        return open_stream(call(args, kwargs))

    guarded = layer(opening)

    def relayed(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Generator[Any, Any, Any]:
        stream, item = guarded(args, kwargs)
        while stream is not None:
            try:
                try:
                    sent = yield item
                except GeneratorExit:
                    stream.close()
                    raise
                except BaseException as error:
                    item = stream.throw(error)
                else:
                    item = next(stream) if sent is None else stream.send(sent)
            except StopIteration as stop:
                return stop.value
        return item

    return relayed


def arelay(layer: Callable[[Layer], Layer], call: Layer) -> Layer:
    """Let `layer` guard the making of the first item, then hand the rest through."""

    async def opening(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Opened:
        return await aopen_stream(call(args, kwargs))

    guarded = layer(opening)

    async def relayed(args: tuple[Any, ...], kwargs: dict[str, Any]) -> AsyncGenerator[Any, Any]:
        stream, item = await guarded(args, kwargs)
        while stream is not None:
            try:
                sent = yield item
            except GeneratorExit:
                await stream.aclose()
                raise
            except BaseException as error:
                step = stream.athrow(error)
            else:
                step = stream.asend(sent)
            try:
                item = await step
            except StopAsyncIteration:
                return

    return relayed
