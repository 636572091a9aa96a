"""What a journal must be able to do, whatever it writes to.

Every write of an execution names its lease, and is refused in the same transaction if the plan has been taken over.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Protocol

from resilient.orchestrator.errors import Holder, RecoveryError
from resilient.orchestrator.real_time import monotonic
from resilient.orchestrator.records import Lease, Pending, Record, Signal


class LeaseLostError(RecoveryError):
    """The plan has been taken over by another process, as this one gave no sign of life within its lease."""

    def __init__(self, plan_id: str, holder: Holder, since: float) -> None:
        super().__init__(plan_id, holder, since)
        self.plan_id = plan_id
        self.holder = holder
        self.since = since

    def __str__(self) -> str:
        return f"plan {self.plan_id!r} was taken over by {self.holder}"


class Journal(Protocol):
    """Append-only rows of executions, and the leases of those who write them. May be called from any thread."""

    def begin(
        self, execution_id: str, plan_id: str, holder: Holder, seconds: float, records: Sequence[Record]
    ) -> Lease:
        """Write the first rows of an execution and take its plan's lease; PlanLockedError where one is unfinished."""
        ...

    def take_over(self, execution_id: str, holder: Holder, seconds: float) -> Lease | None:
        """The lease of an unfinished execution whose last one has ended; None where it has not."""
        ...

    def renew(self, lease: Lease) -> bool:
        """Prolong a lease by its seconds from now; False if somebody has taken it over."""
        ...

    def release(self, lease: Lease) -> None:
        """End a lease now, if it is still this one."""
        ...

    def append(self, lease: Lease, records: Sequence[Record], seen: int | None = None) -> bool:
        """Write rows, all or none; LeaseLostError if somebody has taken over.

        False, with nothing written, if a signal after `seen` has come.
        """
        ...

    def end(self, lease: Lease, records: Sequence[Record], seen: int) -> bool:
        """Write the last rows and end the lease; False, with nothing written, if a signal after `seen` has come."""
        ...

    def signal(self, execution_id: str, signal: Signal, seen: int | None = None) -> bool:
        """Leave a signal for whoever carries this out; False where it has ended.

        Also False where, after `seen`, somebody has left one of the same kind for the same step.
        """
        ...

    def signals(self, execution_id: str, after: int) -> list[Signal]:
        """The signals of an execution with a higher number."""
        ...

    def records(self, execution_id: str) -> list[Record]:
        """The rows of an execution, oldest first; ExecutionNotFoundError if there is none."""
        ...

    def unfinished(self) -> list[Pending]:
        """Executions that have not ended, oldest first."""
        ...

    def latest(self, plan_id: str | None, limit: int, before: str | None) -> list[str]:
        """Ids of executions, newest first, from before the one of that id."""
        ...

    def changes(self) -> object:
        """A value that differs from an earlier one if somebody else may have written meanwhile; cheap to ask."""
        ...

    def close(self) -> None:
        """Let go of files."""
        ...


class Expiry(NamedTuple):
    """When a lease ends: by the monotonic clock of one boot of one machine, which nobody sets, and by the time of day.

    The latter is for readers who cannot compare the former.
    """

    boot: str
    monotonic: float
    wall: float

    def is_over(self) -> bool:
        """Whether it has passed."""
        if self.boot and self.boot == boot_id():
            return monotonic() >= self.monotonic
        return time.time() >= self.wall


def expiry(seconds: float) -> Expiry:
    """The end of a lease that begins now."""
    return Expiry(boot_id(), monotonic() + seconds, time.time() + seconds)


def this_process() -> Holder:
    """Who we are, to others."""
    return Holder(platform.node() or "localhost", os.getpid())


@lru_cache(maxsize=1)
def boot_id() -> str:
    """This boot of this machine, by which monotonic clocks of two processes can be compared; empty if unknown."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
