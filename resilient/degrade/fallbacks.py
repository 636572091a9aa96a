"""Ways to answer in place of a call that has failed."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Generator
from typing import Any

from resilient.wrapping import kind_of


class Fallback:
    """One way to answer: a value, or a callable on the call's arguments."""

    __slots__ = ("answer", "is_callable", "kind", "takes_error")

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.is_callable = callable(answer)
        self.kind = kind_of(answer) if self.is_callable else None
        self.takes_error = self.is_callable and _takes_error(answer)

    def __call__(self, error: Exception | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not self.is_callable:
            return self.answer
        if self.takes_error and "error" not in kwargs:
            return self.answer(*args, error=error, **kwargs)
        return self.answer(*args, **kwargs)


def _takes_error(fn: Callable[..., Any]) -> bool:
    try:
        parameter = inspect.signature(fn).parameters.get("error")
    except (TypeError, ValueError):
        return False
    return parameter is not None and parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)


def fallbacks(given: Any) -> tuple[Fallback, ...]:
    if given is ...:
        return ()
    if isinstance(given, list) and any(map(callable, given)):
        return tuple(Fallback(one) for one in given)
    return (Fallback(given),)


def as_stream(answer: Any) -> Generator[Any, Any, Any]:
    return (yield from answer)


async def as_astream(answer: Any) -> AsyncIterator[Any]:
    if hasattr(answer, "__aiter__"):
        async for item in answer:
            yield item
    else:
        for item in answer:
            yield item
