"""The engine that needs nothing but a journal: executions run in threads of this process."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from resilient import _checks as check
from resilient.orchestrator.attempts import LoopThread
from resilient.orchestrator.engine import Answer, Host, JournalEntry, Order
from resilient.orchestrator.errors import ExecutionNotFoundError, RecoveryError
from resilient.orchestrator.files import as_dict, from_dict
from resilient.orchestrator.forks import Survivor, tell_of_forks
from resilient.orchestrator.journal import Journal, this_process
from resilient.orchestrator.keeper import Keeper
from resilient.orchestrator.model import RecoveryExecution, RecoveryPlan
from resilient.orchestrator.progress import replayed
from resilient.orchestrator.records import Kind, Lease, Record, Signal
from resilient.orchestrator.run import Look, Quit, Run, operation_for
from resilient.orchestrator.stories import entries_in, execution_in, plan_in, submission
from resilient.orchestrator.tally import TALLY

#: How a value that no file can hold is written: the plan of this process has it, another process does not.
OPAQUE = "$resilient.object"

PATIENCE = 5.0  # seconds that closing waits for threads

Done = Callable[[BaseException | None], object]


class EmbeddedEngine(Survivor):
    """Carries out plans in this process, under leases of `lease` seconds, and writes everything to a journal."""

    def __init__(self, journal: Journal, lease: float = 10.0) -> None:
        self._journal = journal
        self._lease = check.seconds("lease", lease, positive=True)
        self._host: Host | None = None
        self._reset()
        tell_of_forks(self)
        TALLY.watch(self)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._runs: dict[str, Run] = {}
        self._listeners: dict[str, list[Done]] = {}
        self._loop = LoopThread()
        self._keeper = Keeper(self._journal, self._lease, self._alive)

    def attach(self, host: Host) -> None:
        """See `Engine`."""
        if self._host is not None:
            raise RecoveryError("this engine works for another orchestrator already; make one for each")
        self._host = host

    def _alive(self) -> list[Run]:
        with self._lock:
            return list(self._runs.values())

    def running(self) -> list[str]:
        """The plans of the executions under way."""
        return [run.lease.plan_id for run in self._alive()]

    # Beginning

    def submit(self, order: Order, done: Done) -> None:
        """See `Engine`."""
        ordered = {
            "plan": as_dict(order.plan, opaque=_opaque),
            "parameters": dict(order.parameters),
            "trigger": order.trigger,
        }
        holder, now = this_process(), time.time()
        first = Record(Kind.SUBMITTED, None, now, 0.0, {**ordered, "holder": list(holder)})
        lease = self._journal.begin(order.execution_id, order.plan.id, holder, self._lease, [first])
        started = Record(Kind.STARTED, None, now, 0.0, {})
        self._launch(lease, order.plan, [first], [started], ordered, home=order.home, done=done)

    def _launch(
        self,
        lease: Lease,
        plan: RecoveryPlan,
        known: Sequence[Record],
        first: Sequence[Record],
        ordered: Mapping[str, Any],
        *,
        home: asyncio.AbstractEventLoop | None = None,
        done: Done | None = None,
    ) -> None:
        assert self._host is not None
        last = known[-1]
        run = Run(
            replayed(plan, known),
            lease,
            journal=self._journal,
            host=self._host,
            loop=self._loop.get,
            home=home,
            ordered=ordered,
            # The time in which nobody was there counts, too; a clock that was set back must not count against it.
            elapsed=last.elapsed + max(0.0, time.time() - last.at),
            seen=_last_signal(known),
            done=self._forget,
        )
        with self._lock:
            self._runs[lease.execution_id] = run
            if done is not None:
                self._listeners.setdefault(lease.execution_id, []).append(done)
        try:
            self._keeper.watch()
            run.start(first)
        except BaseException:  # a limit of threads
            with self._lock:
                self._runs.pop(lease.execution_id, None)
                self._listeners.pop(lease.execution_id, None)
            self._journal.release(lease)
            raise

    def _forget(self, run: Run) -> None:
        with self._lock:
            self._runs.pop(run.lease.execution_id, None)
            listeners = self._listeners.pop(run.lease.execution_id, [])
        self._keeper.dismiss()
        for listener in listeners:
            listener(run.error)

    def resume_pending(self) -> list[str]:
        """See `Engine`."""
        taken, left = [], []
        for pending in self._journal.unfinished():
            with self._lock:
                if pending.execution_id in self._runs:
                    continue
            try:
                why = self._resume(pending.execution_id)
            except RecoveryError as error:  # one that cannot be read is no reason to leave the others
                why = str(error)
            if why is None:
                taken.append(pending.execution_id)
            elif why:
                left.append(f"{pending.execution_id} of plan {pending.plan_id!r}: {why}")
        if left:
            warnings.warn(f"not resumed: {'; '.join(left)}", RuntimeWarning, stacklevel=3)
        return taken

    def _resume(self, execution_id: str) -> str | None:
        """Take an execution over; None if it was, else why it was not, empty where somebody else has it."""
        plan, why = self._plan_to_resume(self._journal.records(execution_id))
        if plan is None:
            return why
        lease = self._journal.take_over(execution_id, this_process(), self._lease)
        if lease is None:
            return ""
        # Read again: until the lease was ours, the other process may have written.
        records = self._journal.records(execution_id)
        kind = Kind.RESUMED if any(one.kind is Kind.STARTED for one in records) else Kind.STARTED
        first = [Record(kind, None, 0.0, 0.0, {"holder": list(lease.holder)})]
        self._launch(lease, plan, records, first, submission(records))
        return None

    def _plan_to_resume(self, records: Sequence[Record]) -> tuple[RecoveryPlan | None, str]:
        """The plan of an execution as it was when it began, if everything in it is at hand; or why it is not."""
        assert self._host is not None
        written = submission(records)["plan"]
        plan = self._host.plan(written["id"])
        if plan is None or as_dict(plan, opaque=_opaque) != written:
            if _has_opaque(written):
                return None, "its parameters hold objects of its process; register the same plan before resuming"
            plan = from_dict(written)
        steps = (*plan.steps, *plan.rollback_steps)
        missing = {one.type_name for one in steps if not one.is_approval and self._host.executor(one.type_name) is None}
        if missing:
            return None, f"no executor is registered for {', '.join(sorted(map(repr, missing)))}"
        could = {one.step_id for one in records if one.kind is Kind.ATTEMPT and one.data.get("undoable")}
        done = [one for one in plan.steps if one.id in could]
        cannot = {one.type_name for one in done if operation_for(self._host, plan, one, undo=True) is None}
        if cannot:
            return None, f"no rollback is registered for {', '.join(sorted(map(repr, cannot)))}, as there was before"
        return plan, ""

    # Waiting

    def wait(self, execution_id: str, timeout: float | None = None, *, or_blocked: bool = False) -> RecoveryExecution:
        """See `Engine`. `or_blocked`: also return when nothing goes on until a person decides."""
        with self._lock:
            run = self._runs.get(execution_id)
        if run is None:
            return self._wait_elsewhere(execution_id, timeout, or_blocked=or_blocked)
        with run.changed:
            run.changed.wait_for(lambda: run.over or (or_blocked and run.blocked), timeout)
        found = self.status(execution_id)
        if found.status.ended or not run.over:
            return found
        # This process does not follow it any further. Who asks again waits for whoever does.
        raise run.error if run.error is not None else RecoveryError(f"{execution_id} is not followed here any longer")

    def _wait_elsewhere(self, execution_id: str, timeout: float | None, *, or_blocked: bool) -> RecoveryExecution:
        """Wait for another process to carry it out."""
        end = None if timeout is None else time.monotonic() + timeout
        pause = 0.01
        while True:
            found = self.status(execution_id)
            late = end is not None and time.monotonic() >= end
            if found.status.ended or late or (or_blocked and found.waiting_for):
                return found
            time.sleep(pause if end is None else max(0.0, min(pause, end - time.monotonic())))
            pause = min(pause * 1.5, 0.2)

    # Asking

    def cancel(self, execution_id: str, *, reason: str, by: str, rollback: bool) -> bool:
        """See `Engine`."""
        data = {"reason": reason, "by": by, "rollback": rollback}
        return self._signal(execution_id, Signal(Kind.CANCEL, None, time.time(), data))

    def signal(self, execution_id: str, answer: Answer) -> None:
        """See `Engine`."""
        records = self._journal.records(execution_id)
        progress, seen = replayed(plan_in(records), records), _last_signal(records)
        state = progress.steps.get(answer.step_id)
        if state is None:
            raise ExecutionNotFoundError(f"execution {execution_id!r} has no step {answer.step_id!r}")
        if progress.ended is None and state.is_asking:
            data = {"approved": answer.approved, "by": answer.by, "note": answer.note}
            if self._signal(execution_id, Signal(Kind.ANSWERED, answer.step_id, time.time(), data), seen):
                return
        status = self.status(execution_id)
        said = f"it is {status.status.value if status.status.ended else state.status().value}"
        if answer.step_id in status.waiting_for:
            said = "somebody has just decided it"
        error = RecoveryError(f"step {answer.step_id!r} of {execution_id} does not wait for a decision: {said}")
        error.concerning(execution_id, status.plan_id, answer.step_id)
        raise error

    def _signal(self, execution_id: str, signal: Signal, seen: int | None = None) -> bool:
        if not self._journal.signal(execution_id, signal, seen):
            return False
        with self._lock:
            run = self._runs.get(execution_id)
        if run is not None:
            run.post(Look())
        return True

    # Looking

    def history(self, plan_id: str | None, limit: int, before: str | None) -> list[RecoveryExecution]:
        """See `Engine`."""
        found = []
        for execution_id in self._journal.latest(plan_id, limit, before):
            try:
                found.append(self.status(execution_id))
            except ExecutionNotFoundError:  # forgotten meanwhile
                continue
            except RecoveryError as error:  # one that cannot be read is no reason to show none
                warnings.warn(f"{execution_id} is left out: {error}", RuntimeWarning, stacklevel=3)
        return found

    def status(self, execution_id: str) -> RecoveryExecution:
        """See `Engine`."""
        return execution_in(execution_id, self._journal.records(execution_id))

    def plan_of(self, execution_id: str) -> RecoveryPlan:
        """See `Engine`."""
        return plan_in(self._journal.records(execution_id))

    def entries(self, execution_id: str) -> list[JournalEntry]:
        """See `Engine`."""
        return entries_in(self._journal.records(execution_id))

    def close(self, *, leaving: bool = False) -> None:
        """See `Engine`."""
        runs = self._alive()
        for run in runs:
            left = RecoveryError("the orchestrator was closed; resume_pending() goes on with the execution")
            left.concerning(run.lease.execution_id, run.lease.plan_id)
            run.post(Quit(left, leaving))
        for run in runs:
            with run.changed:
                run.changed.wait_for(lambda: run.over, PATIENCE)  # noqa: B023  # called at once
        self._loop.close()
        self._keeper.ended(PATIENCE)  # or it would open the journal again
        self._journal.close()

    def after_fork(self) -> None:
        """Have nothing under way in a forked child: the threads, and the leases, are the parent's."""
        self._reset()


def _last_signal(records: Sequence[Record]) -> int:
    """The number of the last signal that was taken in."""
    return max((one.data.get("signal", 0) for one in records), default=0)


def _opaque(value: Any) -> dict[str, str]:
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if name:
        return {OPAQUE: f"{module}.{name}"}
    said = {OPAQUE: type(value).__qualname__}
    own_repr: Any = type(value).__repr__
    if own_repr is not object.__repr__:  # a path, a date: it can be told from another
        said["digest"] = hashlib.sha256(repr(value).encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return said


def _has_opaque(value: Any) -> bool:
    if isinstance(value, Mapping):
        return OPAQUE in value or any(map(_has_opaque, value.values()))
    return isinstance(value, list) and any(map(_has_opaque, value))
