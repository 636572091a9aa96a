"""Deadlines: one moment that everything called within a block has to keep, carried by a context variable."""

from __future__ import annotations

from contextvars import ContextVar
from types import TracebackType

from resilient._checks import Seconds, seconds
from resilient.clock import CLOCK

#: The moment on the monotonic clock, or None. Read by every wait and every timeout.
DUE: ContextVar[float | None] = ContextVar("resilient_deadline", default=None)


class OwnedDue(float):
    """A deadline set by a timeout for what it calls: when it passes, that timeout tells of it, and nobody else."""

    __slots__ = ()


class _BlockDue(float):
    """A deadline set by a block, with what it replaced; there, and not in the `deadline`, which threads may share."""

    __slots__ = ("outer",)
    outer: float | None


class _OwnedBlockDue(_BlockDue, OwnedDue):
    """The same where a timeout around the block ends first."""

    __slots__ = ()


class deadline:
    """Give all guarded calls inside the block at most this long, in seconds or as a timedelta, together.

    A plain `with`, in async code too. Waits and timeouts inside are shortened to what is left; nothing is interrupted
    by the deadline itself. A deadline within a deadline can only shorten it.

        with deadline(2):
            order = load(order_id)
            charge(order)
    """

    __slots__ = ("seconds",)

    def __init__(self, limit: Seconds, /) -> None:
        self.seconds = seconds("deadline", limit)

    def __enter__(self) -> deadline:
        outer, due = DUE.get(), CLOCK.monotonic() + self.seconds
        if outer is not None and outer <= due:
            block = _OwnedBlockDue(outer) if isinstance(outer, OwnedDue) else _BlockDue(outer)
        else:
            block = _BlockDue(due)
        block.outer = outer
        DUE.set(block)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        DUE.set(getattr(DUE.get(), "outer", None))

    def __repr__(self) -> str:
        return f"deadline({self.seconds:g})"


def remaining_time() -> float | None:
    """Seconds left of the deadline in force, 0.0 once it has passed, None where there is none."""
    due = DUE.get()
    return None if due is None else max(0.0, due - CLOCK.monotonic())


def clip(wait: float) -> float:
    """The wait, shortened to the deadline in force."""
    left = remaining_time()
    return wait if left is None else min(wait, left)
