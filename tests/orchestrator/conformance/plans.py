"""The plans that are carried out by several processes, and executors that write down what they do."""

import asyncio
import json
import os
import time
from pathlib import Path
from typing import NamedTuple

from resilient.orchestrator import RecoveryPlan, RecoveryStep, RecoveryStepType, RetryPolicy

PAUSE = 0.002


class Line(NamedTuple):
    """What an executor wrote: phase is begin, end, undo-begin or undo-end."""

    phase: str
    step: str
    attempt: int
    key: str
    pid: int


class Log:
    """Lines that several processes append to one file, each on the disk before the executor goes on."""

    def __init__(self, path):
        self.path = Path(path)

    def add(self, phase, context):
        line = Line(phase, context.step_id, context.attempt, context.idempotency_key, os.getpid())
        file = os.open(self.path, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        try:
            os.write(file, (json.dumps(line) + "\n").encode())
            os.fsync(file)
        finally:
            os.close(file)

    def lines(self):
        if not self.path.exists():
            return []
        return [Line(*json.loads(line)) for line in self.path.read_text().splitlines()]


class Workshop:
    """Executors of one process. `strikes` maps `step:phase` to what `strike` is called with there."""

    def __init__(self, orchestrator, log, strikes=None, strike=None):
        self.orchestrator = orchestrator
        self.log = log
        self.strikes = strikes or {}
        self.strike = strike
        for name, execute, rollback in (
            ("work", self.execute, self.rollback),
            ("awork", self.aexecute, self.arollback),
            ("undo", self.undo, None),
        ):
            orchestrator.register_step_executor(name, execute, rollback=rollback)

    def note(self, phase, context):
        self.log.add(phase, context)
        point = f"{context.step_id}:{phase}"
        if point in self.strikes:
            self.strike(self.strikes[point])

    def ready(self, step, context):
        """Whether what a step waits for has happened: `after` is another step, `file` a path."""
        after, file = step.parameters.get("after"), step.parameters.get("file")
        if after is not None:
            entries = self.orchestrator.entries(context.execution_id)
            return any(one.what == "done" and one.step_id == after for one in entries)
        return file is None or os.path.exists(file)

    def fail_until(self, step, context):
        if context.attempt < step.parameters.get("works_at", 1):
            raise RuntimeError(f"{context.step_id} does not work at attempt {context.attempt}")

    def execute(self, step, context):
        self.note("begin", context)
        while not self.ready(step, context):
            time.sleep(PAUSE)
        self.fail_until(step, context)
        self.note("end", context)
        return {"by": step.id}

    async def aexecute(self, step, context):
        self.note("begin", context)
        while not self.ready(step, context):
            await asyncio.sleep(PAUSE)
        self.fail_until(step, context)
        self.note("end", context)
        return {"by": step.id}

    def rollback(self, step, context):
        self.note("undo-begin", context)
        self.note("undo-end", context)

    async def arollback(self, step, context):
        self.rollback(step, context)

    def undo(self, step, context):
        self.note("undo-begin", context)
        self.fail_until(step, context)
        self.note("undo-end", context)


QUICK = RetryPolicy(max_attempts=2, base_delay=0.01)


def big(fails):
    """Two steps side by side, one that is tried twice, an approval, and a last one that may send everything back.

    b ends after a, so that what is to be undone, and in which order, is known beforehand.
    """
    steps = [
        RecoveryStep("a", "A", "work"),
        RecoveryStep("b", "B", "awork", {"after": "a"}, rollback_step_id="undo-b"),
        RecoveryStep("c", "C", "work", {"works_at": 2}, retry_policy=QUICK),
        RecoveryStep("ok", "OK", RecoveryStepType.APPROVAL),
        RecoveryStep("d", "D", "work", {"works_at": 99 if fails else 1}),
    ]
    return RecoveryPlan(
        "big",
        "Big",
        steps,
        rollback_steps=[RecoveryStep("undo-b", "Undo B", "undo", {"works_at": 2}, retry_policy=QUICK)],
        dependencies={"c": ["a", "b"], "ok": ["c"], "d": ["ok"]},
    )


def small(fails=True):
    """One step, and one that sends it back."""
    steps = [RecoveryStep("a", "A", "work"), RecoveryStep("f", "F", "awork", {"works_at": 99 if fails else 1})]
    return RecoveryPlan("small", "Small", steps, dependencies={"f": ["a"]})


def doubtful(in_doubt, fails=False):
    """x is the one whose process dies; after it comes one that may send everything back."""
    steps = [
        RecoveryStep("a", "A", "work"),
        RecoveryStep("x", "X", "work", in_doubt=in_doubt),
        RecoveryStep("z", "Z", "work", {"works_at": 99 if fails else 1}),
    ]
    return RecoveryPlan("doubtful", "Doubtful", steps, dependencies={"x": ["a"], "z": ["x"]})


def gated(file):
    """a waits for a file, b comes after it."""
    steps = [RecoveryStep("a", "A", "work", {"file": str(file)}), RecoveryStep("b", "B", "work")]
    return RecoveryPlan("gated", "Gated", steps, dependencies={"b": ["a"]})


def asking():
    """An approval between two steps."""
    steps = [
        RecoveryStep("a", "A", "work"),
        RecoveryStep("ok", "OK", RecoveryStepType.APPROVAL),
        RecoveryStep("b", "B", "awork"),
    ]
    return RecoveryPlan("asking", "Asking", steps, dependencies={"ok": ["a"], "b": ["ok"]})


PLANS = {"asking": asking, "big": big, "small": small, "doubtful": doubtful, "gated": gated}
