"""The loop form: `for attempt in policy.attempts(): with attempt: ...`, and `async for`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import TYPE_CHECKING

from resilient._registry import registry
from resilient.clock import CLOCK
from resilient.policy import warn_if_loop_blocked
from resilient.retry.state import EXHAUSTED, Run

if TYPE_CHECKING:
    from resilient.retry.policy import RetryPolicy


class Attempt:
    """One try of a block; `number` counts from 1. Set `result` for `retry_on_result` to look at."""

    __slots__ = ("_loop", "number", "result")

    def __init__(self, loop: Loop, number: int) -> None:
        self._loop = loop
        self.number = number
        self.result: object = None

    def __enter__(self) -> Attempt:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> bool:
        return self._loop.ended(self, error)

    def __repr__(self) -> str:
        return f"<attempt {self.number}>"


class Loop:
    """One passage through the loop form. Not a generator: one that is left early would have to be closed."""

    __slots__ = ("_delay", "_done", "_number", "_policy", "_run")

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._number = 0
        self._done = True
        self._delay: float | None = 0.0

    def __iter__(self) -> Loop:
        return self

    def __next__(self) -> Attempt:
        delay = self._next_delay()
        if delay is None:
            raise StopIteration
        if delay > 0:
            warn_if_loop_blocked(f"retry {self._policy.name} sleeps")
            CLOCK.sleep(delay)
        return self._attempt()

    def __aiter__(self) -> Loop:
        return self

    async def __anext__(self) -> Attempt:
        delay = self._next_delay()
        if delay is None:
            raise StopAsyncIteration
        if delay > 0:
            await CLOCK.asleep(delay)
        return self._attempt()

    def _next_delay(self) -> float | None:
        if not self._done:
            raise RuntimeError("the body of the retry loop must be inside `with attempt:`")
        return self._delay

    def _attempt(self) -> Attempt:
        budget = self._policy.config.budget
        if self._number == 0:
            self._run = Run(self._policy, EXHAUSTED.latest)
            if budget is not None:
                budget.calls += 1
        self._number += 1
        self._done = False
        return Attempt(self, self._number)

    def ended(self, attempt: Attempt, error: BaseException | None) -> bool:
        """Decide what follows an attempt; True swallows the error, as another one comes."""
        policy, self._delay, self._done = self._policy, None, True
        if registry.off:
            return False
        if error is not None and not isinstance(error, Exception):
            policy.tally.interrupted += 1
            return False
        if error is not None:
            self._delay = self._run.failed(error)
        elif policy.poor is not None and policy.poor(attempt.result):
            self._delay = self._run.failed(None, attempt.result)
        else:
            self._run.succeeded()
        return self._delay is not None


class Attempts:
    """The loop form of a retry: yields an `Attempt` until one ends well or the last has failed."""

    __slots__ = ("_policy",)

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy

    def __iter__(self) -> Iterator[Attempt]:
        return Loop(self._policy)

    def __aiter__(self) -> AsyncIterator[Attempt]:
        return Loop(self._policy)
