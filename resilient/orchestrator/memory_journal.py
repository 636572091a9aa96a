"""A journal in memory: everything but surviving the process."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import dropwhile, islice
from typing import Any

from resilient import _checks as check
from resilient.orchestrator.errors import ExecutionNotFoundError, Holder, PlanLockedError
from resilient.orchestrator.forks import Survivor, tell_of_forks
from resilient.orchestrator.journal import Expiry, LeaseLostError, expiry
from resilient.orchestrator.records import Lease, Pending, Record, Signal, moment


@dataclass(slots=True)
class _Execution:
    plan_id: str
    # With their data as text, like in a file: what somebody does with a value does not change what was written.
    records: list[Record] = field(default_factory=list)
    signals: list[Signal] = field(default_factory=list)
    ended: bool = False


@dataclass(slots=True)
class _Held:
    lease: Lease
    since: float
    until: Expiry | None


class MemoryJournal(Survivor):
    """Keeps executions in memory: for tests, and for recoveries that need not outlive their process.

    Several orchestrators may share one. Of finished executions the latest `keep` are kept, older ones are forgotten.
    """

    def __init__(self, *, keep: int = 10_000) -> None:
        self._keep = check.count("keep", keep)
        self._lock = threading.RLock()
        self._executions: dict[str, _Execution] = {}
        self._held: dict[str, _Held] = {}
        self._finished: dict[str, None] = {}
        self._number = 0
        self._changes = 0
        tell_of_forks(self)

    def begin(
        self, execution_id: str, plan_id: str, holder: Holder, seconds: float, records: Sequence[Record]
    ) -> Lease:
        """See `Journal`."""
        with self._lock:
            held = self._held.get(plan_id)
            if held is not None and not self._executions[held.lease.execution_id].ended:
                lease = held.lease
                raise PlanLockedError(plan_id, lease.holder, moment(held.since), lease.execution_id)
            written = _written(records)
            self._executions[execution_id] = _Execution(plan_id)
            lease = self._grant(execution_id, plan_id, holder, seconds)
            self._add(execution_id, written)
            return lease

    def take_over(self, execution_id: str, holder: Holder, seconds: float) -> Lease | None:
        """See `Journal`."""
        with self._lock:
            execution = self._find(execution_id)
            held = self._held[execution.plan_id]
            if execution.ended or (held.until is not None and not held.until.is_over()):
                return None
            return self._grant(execution_id, execution.plan_id, holder, seconds)

    def _grant(self, execution_id: str, plan_id: str, holder: Holder, seconds: float) -> Lease:
        held = self._held.get(plan_id)
        lease = Lease(plan_id, execution_id, 1 if held is None else held.lease.token + 1, holder, seconds)
        self._held[plan_id] = _Held(lease, time.time(), expiry(seconds))
        return lease

    def renew(self, lease: Lease) -> bool:
        """See `Journal`."""
        with self._lock:
            if not self._is_valid(lease):
                return False
            self._held[lease.plan_id].until = expiry(lease.seconds)
            return True

    def release(self, lease: Lease) -> None:
        """See `Journal`."""
        with self._lock:
            if self._is_valid(lease):
                self._held[lease.plan_id].until = None

    def append(self, lease: Lease, records: Sequence[Record], seen: int | None = None) -> bool:
        """See `Journal`."""
        with self._lock:
            self._check_token(lease)
            if seen is not None and self.signals(lease.execution_id, seen):
                return False
            self._add(lease.execution_id, _written(records))
            return True

    def _check_token(self, lease: Lease) -> None:
        if not self._is_valid(lease):
            held = self._held.get(lease.plan_id)
            if held is None:  # whoever took over has ended it, and it was forgotten
                raise LeaseLostError(lease.plan_id, lease.holder, time.time())
            raise LeaseLostError(lease.plan_id, held.lease.holder, held.since)

    def end(self, lease: Lease, records: Sequence[Record], seen: int) -> bool:
        """See `Journal`."""
        with self._lock:
            if not self.append(lease, records, seen):
                return False
            self._executions[lease.execution_id].ended = True
            self.release(lease)
            self._finished[lease.execution_id] = None
            while len(self._finished) > self._keep:
                self._forget(next(iter(self._finished)))
            return True

    def _forget(self, execution_id: str) -> None:
        del self._finished[execution_id]
        plan_id = self._executions.pop(execution_id).plan_id
        if self._held[plan_id].lease.execution_id == execution_id:
            # The token need not be remembered: nobody is left who could write with an older one.
            del self._held[plan_id]

    def signal(self, execution_id: str, signal: Signal, seen: int | None = None) -> bool:
        """See `Journal`."""
        with self._lock:
            execution = self._find(execution_id)
            same = [one.number for one in execution.signals if (one.kind, one.step_id) == (signal.kind, signal.step_id)]
            if execution.ended or (seen is not None and any(number > seen for number in same)):
                return False
            self._number += 1
            execution.signals.append(signal._replace(number=self._number, data=_text(signal.data)))
            self._changes += 1
            return True

    def signals(self, execution_id: str, after: int) -> list[Signal]:
        """See `Journal`."""
        with self._lock:
            found = [one for one in self._find(execution_id).signals if one.number > after]
        return [one._replace(data=json.loads(str(one.data))) for one in found]

    def records(self, execution_id: str) -> list[Record]:
        """See `Journal`."""
        with self._lock:
            found = list(self._find(execution_id).records)
        return [one._replace(data=json.loads(str(one.data))) for one in found]

    def unfinished(self) -> list[Pending]:
        """See `Journal`."""
        with self._lock:
            return [Pending(key, one.plan_id) for key, one in self._executions.items() if not one.ended]

    def latest(self, plan_id: str | None, limit: int, before: str | None) -> list[str]:
        """See `Journal`."""
        with self._lock:
            newest = reversed(self._executions)
            if before is not None:
                self._find(before)
                newest = iter(list(dropwhile(lambda key: key != before, newest))[1:])
            wanted = (key for key in newest if plan_id is None or self._executions[key].plan_id == plan_id)
            return list(islice(wanted, limit))

    def changes(self) -> object:
        """See `Journal`."""
        return self._changes

    def close(self) -> None:
        """See `Journal`: there is nothing to let go of."""

    def after_fork(self) -> None:
        """Forget what is under way: it is the parent's, and its threads are there."""
        self._lock = threading.RLock()
        self._executions = {key: one for key, one in self._executions.items() if one.ended}
        self._held = {key: one for key, one in self._held.items() if one.lease.execution_id in self._executions}

    def _add(self, execution_id: str, written: Sequence[Record]) -> None:
        for record in written:
            self._number += 1
            self._executions[execution_id].records.append(record._replace(number=self._number))

    def _is_valid(self, lease: Lease) -> bool:
        held = self._held.get(lease.plan_id)
        return held is not None and held.lease.token == lease.token and held.lease.execution_id == lease.execution_id

    def _find(self, execution_id: str) -> _Execution:
        try:
            return self._executions[execution_id]
        except KeyError:
            raise ExecutionNotFoundError(f"no execution {execution_id!r} is in this journal") from None


def _written(records: Sequence[Record]) -> list[Record]:
    return [one._replace(data=_text(one.data)) for one in records]


def _text(data: Any) -> Any:
    return json.dumps(data, separators=(",", ":"))
