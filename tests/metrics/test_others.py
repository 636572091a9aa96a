"""What is no policy's: recoveries and their steps, injected faults, subscribers that raise."""

import asyncio
import threading
import uuid
from contextlib import suppress
from itertools import pairwise

import pytest

from resilient import CachedDegradation, degrade, registry, retry
from resilient.events import RetryScheduled
from resilient.orchestrator import RecoveryError, RecoveryOrchestrator, RecoveryPlan, RecoveryStep
from resilient.testing import faults, inject

from .helpers import Script, call, until

DOWN = ConnectionError("down")


@pytest.fixture
def orchestrator():
    with RecoveryOrchestrator() as made:
        yield made


@pytest.fixture
def plan():
    """Return a plan's id that no other test has, as these numbers are the process's."""
    return f"plan-{uuid.uuid4()}"


def prepared(orchestrator, plan, **executors):
    """Register a plan of one step for each executor, one after the other."""
    for kind, executor in executors.items():
        orchestrator.register_step_executor(kind, executor)
    steps = [RecoveryStep(kind, kind, kind) for kind in executors]
    order = list(executors)
    dependencies = {after: [before] for before, after in pairwise(order)}
    orchestrator.register_plan(RecoveryPlan(plan, plan, steps, dependencies=dependencies))


def ended(scrape, plan):
    """Return how many executions ended how."""
    return {key[-1]: value for key, value in scrape.of(plan, "recovery_executions_total").items()}


def steps(scrape, plan):
    """Return how many steps ended how."""
    count = "recovery_step_duration_seconds_count"
    return {key[1:]: value for key, value in scrape.of(plan, count).items()}


def well(step, context):
    return "well"


def fails(step, context):
    raise ConnectionError("down")  # a new one: the traceback of one that stays would keep the execution


def execute(orchestrator, face, plan):
    with suppress(RecoveryError):
        if face == "async":
            asyncio.run(orchestrator.aexecute_plan(plan))
        else:
            orchestrator.execute_plan(plan)


def test_executions(scrape, orchestrator, plan, face):
    """Executions are counted by how they ended, and each of their steps once."""
    prepared(orchestrator, plan, one=well, two=well)
    for _ in range(3):
        execute(orchestrator, face, plan)
    assert ended(scrape, plan) == {"completed": 3}
    assert steps(scrape, plan) == {("one", "completed"): 3, ("two", "completed"): 3}

    prepared(orchestrator, plan, one=well, two=fails)
    execute(orchestrator, face, plan)
    assert ended(scrape, plan) == {"completed": 3, "failed": 1}
    assert steps(scrape, plan) == {("one", "completed"): 4, ("two", "completed"): 3, ("two", "failed"): 1}


def test_an_execution_under_way(scrape, orchestrator, plan):
    """It is shown as running until it ends, and then as cancelled; its step took as long as it took."""
    begun, go_on = threading.Event(), threading.Event()

    def slow(step, context):
        begun.set()
        go_on.wait(5)

    def running():
        return scrape("recovery_executions_running", name=plan)

    prepared(orchestrator, plan, one=slow)
    before = running()
    execution = orchestrator.start_plan(plan)
    assert begun.wait(5)
    during = running()
    orchestrator.cancel_execution(execution)
    go_on.set()
    orchestrator.wait_for(execution, timeout=5)
    until(lambda: not running())

    assert (before, during) == (None, 1)
    assert ended(scrape, plan) == {"cancelled": 1}


def test_how_long_a_step_took(scrape, orchestrator, plan):
    """The duration is the time between the beginning of a step and its end."""
    prepared(orchestrator, plan, one=lambda step, context: threading.Event().wait(0.06) and None)
    orchestrator.execute_plan(plan)

    took = scrape("recovery_step_duration_seconds_sum", name=plan, step="one", result="completed")
    assert 0.06 <= took < 5


def test_injected_faults(scrape, face):
    """Calls that met a fault are counted by target and kind of fault, also when the injection is over."""
    script = Script("ok")

    async def answer():
        return script()

    policy = retry(name="injected", max_attempts=1)
    guarded = policy(answer if face == "async" else script)

    def go(fault, **options):
        with inject("injected", fault, seed=1, **options) as injection:
            for _ in range(5):
                with suppress(ConnectionError):
                    asyncio.run(guarded()) if face == "async" else guarded()
        return injection.fired

    def shown():
        kinds = "NetworkFailure", "Latency"
        return [scrape("recovery_injected_faults_total", name="injected", fault=kind) or 0 for kind in kinds]

    before = shown()
    fired = go(faults.NetworkFailure("reset"), max_count=2), go(faults.Latency(0)), go(faults.NetworkFailure("reset"))
    assert fired == (2, 5, 5)
    assert [now - then for now, then in zip(shown(), before, strict=True)] == [7, 5]


def test_subscribers_that_raise(scrape, face):
    """One that raises is counted each time, and the calls and the other subscribers do not notice."""
    before, heard = scrape("recovery_event_handler_failures_total"), []

    def broken(event):
        raise ZeroDivisionError

    registry.subscribe(broken, RetryScheduled)
    registry.subscribe(heard.append, RetryScheduled)
    policy = retry(name="r", max_attempts=3, base_delay=0, jitter=False)
    call(policy, face, Script(DOWN, DOWN, "ok"))

    assert scrape("recovery_event_handler_failures_total") - before == len(heard) == 2
    assert scrape("recovery_retry_success_total", name="r") == 1


def test_a_policy_that_cannot_be_read(scrape, caplog):
    """Where one raises while it is read, its counters stay, all others are seen, and the log says so."""
    lookups, trouble = ("recovery_cache_requests_total", "d", "miss"), []

    class Mine(CachedDegradation):
        def get_metrics(self):
            if trouble:
                raise ZeroDivisionError
            return super().get_metrics()

    guarded = degrade(cache=Mine(), name="d")(lambda: 1)
    guarded()
    assert scrape.all()[lookups] == 1
    trouble.append(True)
    call(retry(name="r"), "sync", int)
    assert (scrape.all()[lookups], scrape("recovery_retry_success_total", name="r")) == (1, 1)
    assert {(one.event, one.policy) for one in caplog.records} == {("metrics.not_read", "d")}
