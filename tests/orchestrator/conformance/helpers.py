"""What the tests ask of executions, and executors that do what a test wants."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

from resilient.orchestrator import RecoveryEvent, RecoveryPlan, RecoveryStep

PATIENCE = 30.0


def until(condition, what="it", patience=PATIENCE):
    """Wait for something to become true, and return it."""
    end = time.monotonic() + patience
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < end, f"{what} did not happen within {patience} s"
        time.sleep(0.003)


def at_once(*works, workers=4):
    """Do all of it in threads, a few at a time; what they raise is raised here, all of it."""
    with ThreadPoolExecutor(workers) as pool:
        done = [pool.submit(work) for work in works]
    errors = [one.exception() for one in done if one.exception() is not None]
    if errors:
        raise BaseExceptionGroup(f"{len(errors)} of {len(done)} failed", errors)
    return [one.result() for one in done]


def step(id, step_type="work", parameters=(), **settings):
    return RecoveryStep(id, f"Step {id}", step_type, dict(parameters), **settings)


def plan(*steps, id="plan", chain=True, **settings):
    """A plan of these steps, one after the other unless `dependencies` or `chain` say otherwise."""
    if chain and "dependencies" not in settings:
        settings["dependencies"] = {after.id: [before.id] for before, after in pairwise(steps)}
    return RecoveryPlan(id, id, steps, **settings)


def caught(work, *args, **kwargs):
    """What it raises; None where it returns."""
    try:
        work(*args, **kwargs)
    except Exception as error:  # noqa: BLE001 - handed to the test
        return error
    return None


def story(orchestrator, execution_id):
    """What the journal says, without times: pairs of what and of which step."""
    return [(one.what, one.step_id) for one in orchestrator.entries(execution_id)]


def steps_that(orchestrator, execution_id, what):
    """The steps of which the journal says something, in its order."""
    return [one.step_id for one in orchestrator.entries(execution_id) if one.what == what]


class Heard(list[RecoveryEvent]):
    """A handler that keeps what it is told."""

    def __call__(self, event):
        self.append(event)

    @property
    def kinds(self):
        return [(one.event_type.name, one.step_id) for one in self]


class Bench:
    """Executors for one test: `does[id]` and `undoes[id]` are what a step does, called with its context.

    `calls` are pairs of a phase and a step in the order in which they came.
    """

    def __init__(self, orchestrator):
        self.calls = []
        self.does = {}
        self.undoes = {}
        self.orchestrator = orchestrator
        orchestrator.register_step_executor("work", self.work, rollback=self.undo)
        orchestrator.register_step_executor("awork", self.awork, rollback=self.aundo)

    def work(self, step, context):
        self.calls.append(("begin", step.id))
        output = self.does.get(step.id, lambda context: None)(context)
        self.calls.append(("end", step.id))
        return output

    async def awork(self, step, context):
        self.calls.append(("begin", step.id))
        does = self.does.get(step.id)
        output = None if does is None else await does(context)
        self.calls.append(("end", step.id))
        return output

    def undo(self, step, context):
        self.calls.append(("undo", step.id))
        self.undoes.get(step.id, lambda context: None)(context)

    async def aundo(self, step, context):
        self.calls.append(("undo", step.id))
        undoes = self.undoes.get(step.id)
        if undoes is not None:
            await undoes(context)

    def of(self, phase):
        """The steps that came to a phase, in order."""
        return [step_id for what, step_id in self.calls if what == phase]

    def run(self, *args, **kwargs):
        """Register a plan of these steps and carry it out; the picture at the end, and the error if there was one."""
        made = plan(*args, **kwargs)
        self.orchestrator.register_plan(made)
        error = caught(self.orchestrator.execute_plan, made.id)
        return self.orchestrator.history(made.id, limit=1)[0], error

    def start(self, *args, **kwargs):
        made = plan(*args, **kwargs)
        self.orchestrator.register_plan(made)
        return self.orchestrator.start_plan(made.id)


class Stage:
    """A plan under way that has come to a point: `a` has completed, `x` is at it, `z` is still to come."""

    def __init__(self, bench):
        self.bench = bench
        self.orchestrator = bench.orchestrator
        self.inside, self.go = threading.Event(), threading.Event()
        self.execution_id = ""
        self.cancelled_at = 0.0

    def begin(self, x, **settings):
        self.execution_id = self.bench.start(step("a"), x, step("z"), **settings)
        return self.execution_id

    def cancel(self, *args, **kwargs):
        self.cancelled_at = time.monotonic()
        return self.orchestrator.cancel_execution(self.execution_id, *args, **kwargs)

    def ended(self):
        found = self.orchestrator.wait_for(self.execution_id, 20)
        assert time.monotonic() - self.cancelled_at < PATIENCE / 6
        assert "z" not in self.bench.of("begin")
        assert "z" not in found.step_results
        return found

    def hold(self, context):
        """Be under way until `go` or a cancellation."""
        self.inside.set()
        until(lambda: context.cancelled or self.go.is_set())

    async def ahold(self, context):
        self.inside.set()
        await asyncio.Event().wait()


def fail(context):
    raise RuntimeError(f"{context.step_id} is broken")


async def afail(context):
    fail(context)
