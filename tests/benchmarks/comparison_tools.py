"""How a question is put to a library: the list of probes, and what makes time pass for them."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import inspect
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

from .comparison_libraries import Parts

HOLDS, DOES_NOT, ABSENT = "holds", "does not", "-"


@dataclass(frozen=True)
class Probe:
    """One question: a claim, the parts that it is about, and the code that finds out."""

    section: str
    claim: str
    needs: tuple[str, ...]
    ask: Callable[[Any], bool | Awaitable[bool | None] | None]

    def verdict(self, parts: Parts) -> str:
        """Run it. Any exception that it does not expect is a defect of the probe, and comes out."""
        if any(not getattr(parts, need) for need in self.needs):
            return ABSENT
        answer = asyncio.run(self.ask(parts)) if inspect.iscoroutinefunction(self.ask) else self.ask(parts)
        return ABSENT if answer is None else HOLDS if answer else DOES_NOT


PROBES: list[Probe] = []


def probe(section: str, claim: str, *needs: str) -> Callable[[Any], Any]:
    """Put the function that follows on the list."""

    def add(ask: Any) -> Any:
        PROBES.append(Probe(section, claim, needs, ask))
        return ask

    return add


@contextlib.contextmanager
def recorded_sleeps() -> Iterator[list[float]]:
    """`time.sleep` only notes what it is asked for, in all threads."""
    slept: list[float] = []
    with mock.patch.object(time, "sleep", slept.append):
        yield slept


class Later:
    """A context in which the wall clock is an hour ahead from `begin()` on; the monotonic clock goes on."""

    def __init__(self, package: str) -> None:
        self._package = package
        self._stack = contextlib.ExitStack()
        self._ahead = 0.0

    def begin(self) -> None:
        self._ahead = 3600.0

    def __enter__(self) -> Later:
        later, real, now = self, datetime.datetime, time.time

        def shifted() -> float:
            return now() + later._ahead

        class Shifted(datetime.datetime):
            @classmethod
            def now(cls, tz: datetime.tzinfo | None = None) -> Any:
                return real.now(tz) + datetime.timedelta(seconds=later._ahead)

        self._stack.enter_context(mock.patch.object(time, "time", shifted))
        self._stack.enter_context(mock.patch.object(datetime, "datetime", Shifted))
        for name, module in list(sys.modules.items()):
            if name.partition(".")[0] == self._package and getattr(module, "datetime", None) is real:
                self._stack.enter_context(mock.patch.object(module, "datetime", Shifted))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
