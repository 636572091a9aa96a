"""Callers: a few threads and a few tasks that ask all the time, and more of both during the rush."""

from __future__ import annotations

import asyncio
import operator
import random
import threading
import time
from dataclasses import astuple, dataclass, replace
from types import TracebackType

from resilient.demo.clients import Answer, Clients
from resilient.errors import RejectedError

STEADY, EXTRA = 3, 5
PAUSE, RUSH_PAUSE = 0.06, 0.005
JOIN_PATIENCE = 15.0


@dataclass(slots=True)
class Second:
    """What callers saw of the calls they began in one second."""

    ok: int = 0
    fallback: int = 0
    rejected: int = 0
    failed: int = 0

    @property
    def total(self) -> int:
        """All calls begun in this second that have ended."""
        return self.ok + self.fallback + self.rejected + self.failed

    def __sub__(self, other: Second) -> Second:
        return Second(*map(operator.sub, astuple(self), astuple(other)))

    def __add__(self, other: Second) -> Second:
        return Second(*map(operator.add, astuple(self), astuple(other)))


class Tally:
    """Counts every call twice: when it begins, and by second and outcome when it has ended."""

    def __init__(self, begin: float) -> None:
        self._begin = begin
        self._lock = threading.Lock()
        self._seconds: dict[int, Second] = {}
        self._ok_at: list[float] = []
        self.made = 0

    def call_begins(self) -> float:
        """Count a call; the time it began."""
        with self._lock:
            self.made += 1
        return time.monotonic() - self._begin

    def call_ended(self, began: float, answer: Answer | BaseException) -> None:
        """Sort the call's end into the second it began in."""
        with self._lock:
            counts = self._seconds.setdefault(int(began), Second())
            if isinstance(answer, Answer) and answer.live:
                counts.ok += 1
                self._ok_at.append(began)
            elif isinstance(answer, Answer):
                counts.fallback += 1
            elif isinstance(answer, RejectedError):
                counts.rejected += 1
            else:
                counts.failed += 1

    def ok_since(self, at: float) -> int:
        """How many calls that began later than `at` the service itself has answered."""
        with self._lock:
            return sum(began > at for began in self._ok_at)

    def seconds(self, count: int | None = None) -> list[Second]:
        """A copy, one entry for each second since the traffic began; from `count` on they go into the last one."""
        with self._lock:
            number = max(self._seconds, default=-1) + 1
            seconds = [replace(self._seconds.get(n, Second())) for n in range(number)]
        if count is not None and number > count > 0:
            seconds[count - 1 :] = [sum(seconds[count - 1 :], Second())]
        return seconds

    def total(self) -> Second:
        """All seconds added up."""
        return sum(self.seconds(), Second())


class Uncounted(Tally):
    """For calls that nobody will report on, so that they may go on for days."""

    def __init__(self) -> None:
        super().__init__(0.0)

    def call_begins(self) -> float:
        """Nothing is counted."""
        return 0.0

    def call_ended(self, began: float, answer: Answer | BaseException) -> None:
        """Nothing is counted."""


class Traffic:
    """A context manager: callers run inside its block and have all come home after it."""

    def __init__(self, clients: Clients, tally: Tally, seed: int) -> None:
        self._clients = clients
        self._tally = tally
        self._random = random.Random(seed)  # noqa: S311 - nobody has to guess these
        self._stop = threading.Event()
        self._rush = threading.Event()
        callers = [threading.Thread(target=self._thread, args=(n >= STEADY,)) for n in range(STEADY + EXTRA)]
        self._threads = [*callers, threading.Thread(target=lambda: asyncio.run(self._tasks()))]
        for thread in self._threads:
            thread.daemon = True

    def rush(self, on: bool) -> None:
        """Let the extra callers begin, or send them home."""
        (self._rush.set if on else self._rush.clear)()

    def _next(self) -> tuple[int, float]:
        """The item to ask for, and how long to pause afterwards."""
        pause = RUSH_PAUSE if self._rush.is_set() else PAUSE
        return self._random.randrange(1, 100), pause * self._random.uniform(0.7, 1.3)

    def _thread(self, extra: bool) -> None:
        while not self._stop.is_set():
            if extra and not self._rush.wait(0.1):
                continue
            item, pause = self._next()
            began = self._tally.call_begins()
            try:
                answer: Answer | Exception = self._clients.check_stock(item)
            except Exception as error:  # noqa: BLE001 - whatever reaches a caller is counted
                answer = error
            self._tally.call_ended(began, answer)
            self._stop.wait(pause)

    async def _task(self, extra: bool) -> None:
        while not self._stop.is_set():
            if extra and not self._rush.is_set():
                await asyncio.sleep(0.05)
                continue
            item, pause = self._next()
            began = self._tally.call_begins()
            try:
                answer: Answer | Exception = await self._clients.acheck_stock(item)
            except Exception as error:  # noqa: BLE001 - whatever reaches a caller is counted
                answer = error
            self._tally.call_ended(began, answer)
            await asyncio.sleep(pause)

    async def _tasks(self) -> None:
        await asyncio.gather(*(self._task(n >= STEADY) for n in range(STEADY + EXTRA)))

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stop.set()
        # An interrupted user is not kept waiting for answers; the threads are daemons.
        patience = JOIN_PATIENCE if error is None else 0.5
        give_up = time.monotonic() + patience
        for thread in self._threads:
            thread.join(max(0.0, give_up - time.monotonic()))
