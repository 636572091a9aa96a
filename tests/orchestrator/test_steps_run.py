"""How steps run: where, with what they are told, how they end, and what is left behind of them."""

import asyncio
import gc
import threading
import time
import weakref
from contextvars import ContextVar
from datetime import timedelta

import pytest

from resilient import ResilienceError
from resilient.orchestrator import (
    ExecutionStatus,
    MemoryJournal,
    RecoveryContext,
    RecoveryEventType,
    RecoveryOrchestrator,
    RecoveryPlan,
    RecoveryStep,
    RetryPolicy,
    SqliteJournal,
    StepFailedError,
    StepTimeoutError,
)
from resilient.orchestrator.attempts import Attempt
from resilient.orchestrator.errors import JournalError, RecoveryError
from resilient.orchestrator.progress import Progress
from resilient.orchestrator.run import Run

WHO = ContextVar("who", default="nobody")


def step(step_id, kind=None, **settings):
    return RecoveryStep(step_id, step_id, kind or step_id, **settings)


@pytest.fixture
def orchestrator():
    with RecoveryOrchestrator() as made:
        yield made


def prepared(orchestrator, *steps, plan_id="plan", **settings):
    """Register a plan of these steps; pairs of a function and a step are its executors, named like the step."""
    plain = []
    for one in steps:
        if isinstance(one, tuple):
            orchestrator.register_step_executor(one[1].type_name, one[0])
        plain.append(one[1] if isinstance(one, tuple) else one)
    orchestrator.register_plan(RecoveryPlan(plan_id, "Plan", plain, **settings))


def eventually(condition, seconds=5.0):
    """Whether it becomes true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def what(orchestrator, execution_id, kind):
    return [one.data for one in orchestrator.entries(execution_id) if one.what == kind]


# What a step is told


def sync_face(function):
    return function


def async_face(function):
    async def step_function(step, context):
        await asyncio.sleep(0)
        return function(step, context)

    return step_function


def lazily(coroutine_function):
    """A plain function that returns its coroutine."""

    def plain_function(step, context):
        return coroutine_function(step, context)

    return plain_function


def lazy_face(function):
    return lazily(async_face(function))


FACES = pytest.mark.parametrize("face", [sync_face, async_face, lazy_face])


@FACES
@pytest.mark.parametrize("start", ["execute_plan", "aexecute_plan"])
def test_context_variables_reach_steps(orchestrator, face, start):
    """A step sees the context variables of whoever started the plan, also in a second attempt and in its undoing."""
    seen = []

    def execute(step, context):
        seen.append(WHO.get())
        if context.attempt == 1:
            raise OSError("not yet")

    def undo(step, context):
        seen.append(WHO.get())

    def fail(step, context):
        raise OSError("no")

    orchestrator.register_step_executor("a", face(execute), rollback=face(undo))
    retried = step("a", retry_policy=RetryPolicy(2, base_delay=0))
    prepared(orchestrator, retried, (fail, step("b")), dependencies={"b": ["a"]})

    def run():
        return orchestrator.execute_plan("plan") if start == "execute_plan" else asyncio.run(main())

    async def main():
        return await orchestrator.aexecute_plan("plan")

    token = WHO.set("ada")
    try:
        with pytest.raises(StepFailedError):
            run()
    finally:
        WHO.reset(token)
    assert seen == ["ada"] * 3


@FACES
def test_references_are_resolved_when_the_step_begins(orchestrator, face):
    """A step gets the values its references stand for, of their own types, and the results of those that ended."""
    told = {}

    def backup(step, context):
        return {"path": f"/backups/{context.parameters['host']}", "size": 7, "parts": [1, 2]}

    def restore(step, context):
        told.update(step.parameters)
        told["result"] = context.step_results["backup"]
        told["names"] = sorted(context.step_results)

    reference = {
        "from": "${steps.backup.output.path}",
        "parts": "${steps.backup.output.parts}",
        "why": "h=${parameters.host}",
    }
    prepared(
        orchestrator,
        (face(backup), step("backup")),
        (face(restore), step("restore", parameters=reference)),
        dependencies={"restore": ["backup"]},
    )
    orchestrator.execute_plan("plan", {"host": "db1"})
    assert (told["from"], told["parts"]) == ("/backups/db1", [1, 2])
    assert told["why"] == "h=db1"
    assert told["names"] == ["backup"]
    assert told["result"].status is ExecutionStatus.COMPLETED
    assert told["result"]["size"] == 7


def test_a_reference_that_leads_nowhere_fails_the_step(orchestrator):
    """An output without the key that a later step asks for fails that step, by its reference, and undoes the others."""
    undone = []
    orchestrator.register_step_executor("backup", lambda step, context: {}, rollback=lambda s, c: undone.append(s.id))
    orchestrator.register_step_executor("restore", lambda step, context: undone.append("ran"))
    asking = step("restore", parameters={"from": "${steps.backup.output.path}"})
    prepared(orchestrator, step("backup"), asking, dependencies={"restore": ["backup"]})
    with pytest.raises(StepFailedError, match=r"steps\.backup\.output"):
        orchestrator.execute_plan("plan")
    assert undone == ["backup"]


def test_what_a_step_changes_stays_its_own(orchestrator):
    """A step that changes its parameters, or the results it was shown, changes them for nobody else."""
    seen = []

    def vandal(step, context):
        context.parameters["hosts"].append("evil")
        context.step_results["first"].output["list"].append("evil")
        step.parameters["list"].append("evil")
        return {}

    def reader(step, context):
        seen.append(
            (context.parameters["hosts"], context.step_results["first"].output["list"], step.parameters["list"])
        )

    plan_list = ["mine"]
    prepared(
        orchestrator,
        (lambda step, context: {"list": [1]}, step("first")),
        (vandal, step("vandal", parameters={"list": plan_list})),
        (reader, step("reader", parameters={"list": plan_list})),
        dependencies={"vandal": ["first"], "reader": ["vandal"]},
    )
    execution_id = orchestrator.execute_plan("plan", {"hosts": ["db1"]})
    assert seen == [(["db1"], [1], ["mine"])]
    found = orchestrator.get_execution_status(execution_id)
    assert found.parameters == {"hosts": ["db1"]}
    assert found.step_results["first"].output == {"list": [1]}


@FACES
def test_keys_name_the_step_and_its_undoing(orchestrator, face):
    """Every attempt at a step carries the same key, its undoing another; attempts are counted in each."""
    seen = []

    def execute(step, context):
        seen.append((context.idempotency_key, context.attempt, context.step_id, context.plan_id))
        if context.attempt < 3:
            raise OSError("again")

    def undo(step, context):
        seen.append((context.idempotency_key, context.attempt, context.step_id, context.plan_id))
        if context.attempt < 2:
            raise OSError("again")

    def fail(step, context):
        raise OSError("no")

    orchestrator.register_step_executor("a", face(execute), rollback=face(undo))
    retried = step("a", retry_policy=RetryPolicy(3, base_delay=0))
    prepared(orchestrator, retried, (fail, step("b")), dependencies={"b": ["a"]})
    with pytest.raises(StepFailedError) as caught:
        orchestrator.execute_plan("plan")
    key = f"{caught.value.execution_id}:a"
    assert seen == [(key, number, "a", "plan") for number in (1, 2, 3)] + [
        (f"{key}:rollback", number, "a", "plan") for number in (1, 2)
    ]


def test_a_rollback_step_is_told_what_it_undoes(orchestrator):
    """A rollback step runs with its own parameters, and can refer to the output of the step that it undoes."""
    seen = []

    def drop(step, context):
        seen.append((step.id, step.parameters, context.step_id, context.idempotency_key.split(":", 1)[1]))

    def fail(step, context):
        raise OSError("no")

    orchestrator.register_step_executor("drop", drop)
    prepared(
        orchestrator,
        (lambda step, context: {"path": "/b/1"}, step("backup", rollback_step_id="undo")),
        (fail, step("later")),
        rollback_steps=[step("undo", "drop", parameters={"path": "${steps.backup.output.path}"})],
        dependencies={"later": ["backup"]},
    )
    with pytest.raises(StepFailedError):
        orchestrator.execute_plan("plan")
    assert seen == [("undo", {"path": "/b/1"}, "backup", "backup:rollback")]


# Being told to end


@pytest.mark.parametrize("how", ["cancelled", "timed out"])
def test_a_function_can_ask_whether_it_is_to_end(orchestrator, how):
    """`context.cancelled` is False while a step is waited for, and True from its timeout or a cancellation on."""
    answers, began, over = [], threading.Event(), threading.Event()

    def work(step, context):
        answers.append(context.cancelled)
        began.set()
        while not context.cancelled:
            time.sleep(0.002)
        answers.append(context.cancelled)
        over.set()
        raise InterruptedError

    prepared(orchestrator, (work, step("a", timeout=0.1 if how == "timed out" else 30)))
    execution_id = orchestrator.start_plan("plan")
    assert began.wait(5)
    if how == "cancelled":
        orchestrator.cancel_execution(execution_id)
    status = orchestrator.wait_for(execution_id).status
    assert over.wait(5)
    assert answers == [False, True]
    assert status is (ExecutionStatus.CANCELLED if how == "cancelled" else ExecutionStatus.ROLLED_BACK)


@pytest.mark.parametrize("lazy", [False, True], ids=["async", "returns a coroutine"])
def test_a_coroutine_is_cancelled_and_may_clean_up(orchestrator, lazy):
    """A coroutine that takes too long is cancelled, and nothing is undone before its cleanup is over."""
    story = []

    async def work(step, context):
        try:
            await asyncio.sleep(30)
        finally:
            await asyncio.sleep(0.05)
            story.append("cleaned up")

    chosen = lazily(work) if lazy else work
    orchestrator.register_step_executor("first", lambda s, c: None, rollback=lambda s, c: story.append("undone"))
    prepared(orchestrator, step("first"), (chosen, step("a", timeout=0.05)), dependencies={"a": ["first"]})
    with pytest.raises(StepTimeoutError) as caught:
        orchestrator.execute_plan("plan")
    assert story == ["cleaned up", "undone"]
    assert (caught.value.step_id, caught.value.limit) == ("a", 0.05)


def test_a_thread_that_does_not_end_is_left_alone_and_told_of(orchestrator, caplog):
    """A function that ignores its timeout is not waited for; the result says so, and its end is logged."""
    let_go = threading.Event()

    def deaf(step, context):
        let_go.wait(10)

    prepared(orchestrator, (deaf, step("a", timeout=0.05)))
    began = time.monotonic()
    with pytest.raises(StepTimeoutError, match=r"not done within 0\.05 s.*its thread") as caught:
        orchestrator.execute_plan("plan")
    assert time.monotonic() - began < 5
    result = orchestrator.get_execution_status(caught.value.execution_id).step_results["a"]
    assert result.in_doubt
    let_go.set()
    assert eventually(lambda: "which nobody waited for any longer, has ended" in caplog.text)


# Event loops


@FACES
def test_async_steps_run_in_the_loop_of_the_caller(orchestrator, face):
    """`aexecute_plan` and `astart_plan` run async steps in the event loop they were called in."""
    loops = []

    def work(step, context):
        with_loop = face is not sync_face
        loops.append(asyncio.get_running_loop() if with_loop else threading.current_thread())

    prepared(orchestrator, (face(work), step("a")))

    async def main():
        await orchestrator.aexecute_plan("plan")
        execution_id = await orchestrator.astart_plan("plan")
        await orchestrator.await_for(execution_id)
        return asyncio.get_running_loop()

    loop = asyncio.run(main())
    if face is sync_face:
        assert threading.main_thread() not in loops
    else:
        assert loops == [loop, loop]


def test_async_steps_run_in_a_loop_of_the_engine_otherwise(orchestrator):
    """Without a loop of the caller's, async steps of all executions share one loop, which is not in their threads."""
    loops = []

    async def work(step, context):
        loops.append((asyncio.get_running_loop(), threading.current_thread()))

    prepared(orchestrator, (work, step("a")))
    orchestrator.execute_plan("plan")
    orchestrator.wait_for(orchestrator.start_plan("plan"))
    assert loops[0] == loops[1]
    assert loops[0][1] is not threading.main_thread()


def test_sync_steps_do_not_hold_up_the_loop(orchestrator):
    """While a sync step blocks its thread, the event loop that waits for the plan goes on."""
    release = threading.Event()

    def block(step, context):
        assert release.wait(5)

    prepared(orchestrator, (block, step("a")))

    async def main():
        waiting = asyncio.ensure_future(orchestrator.aexecute_plan("plan"))
        for _ in range(5):
            await asyncio.sleep(0.01)
        assert not waiting.done()
        release.set()
        await waiting

    asyncio.run(main())


@pytest.mark.parametrize("lazy", [False, True], ids=["async", "returns a coroutine"])
def test_a_loop_that_is_closed_does_not_leave_the_execution_hanging(orchestrator, lazy):
    """When the caller's loop is closed under an async step, that step has failed, in doubt, and the plan ends."""

    async def work(step, context):
        await asyncio.Event().wait()

    chosen = lazily(work) if lazy else work
    prepared(orchestrator, (chosen, step("a", timeout=20)))
    execution_id = asyncio.run(started_and_left(orchestrator))
    found = orchestrator.wait_for(execution_id, timeout=5)
    assert found.status is ExecutionStatus.ROLLED_BACK
    assert found.step_results["a"].in_doubt


async def started_and_left(orchestrator):
    execution_id = await orchestrator.astart_plan("plan")
    while not orchestrator.get_execution_status(execution_id).step_results:
        await asyncio.sleep(0.005)
    await asyncio.sleep(0.02)
    return execution_id


def test_later_steps_find_another_loop(orchestrator):
    """Async steps that begin after the caller's loop was closed run in the engine's."""
    go_on = threading.Event()
    loops = []

    async def work(step, context):
        loops.append(asyncio.get_running_loop())

    prepared(orchestrator, (lambda s, c: go_on.wait(5), step("a")), (work, step("b")), dependencies={"b": ["a"]})
    execution_id = asyncio.run(started_and_left(orchestrator))
    go_on.set()
    assert orchestrator.wait_for(execution_id, timeout=5).status is ExecutionStatus.COMPLETED
    assert len(loops) == 1


# What a step may raise


@FACES
@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError])
def test_whatever_a_step_raises_fails_it(orchestrator, face, kind):
    """An exception that ends threads, loops or tasks ends nothing but the step: without another attempt, all undone."""
    attempts, undone = [], []

    def work(step, context):
        attempts.append(context.attempt)
        raise kind("out")

    orchestrator.register_step_executor("first", lambda s, c: None, rollback=lambda s, c: undone.append(s.id))
    raising = step("a", retry_policy=RetryPolicy(3, base_delay=0), timeout=3)
    prepared(orchestrator, step("first"), (face(work), raising), dependencies={"a": ["first"]})
    with pytest.raises(StepFailedError, match=kind.__name__) as caught:
        orchestrator.execute_plan("plan")
    assert (attempts, undone) == ([1], ["first"])
    assert isinstance(caught.value.__cause__, kind)
    prepared(orchestrator, (face(lambda s, c: "fine"), step("b")), plan_id="next")
    orchestrator.execute_plan("next")


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_an_exit_in_one_step_leaves_the_others_alone(orchestrator, kind):
    """A coroutine that raises SystemExit or KeyboardInterrupt does not take down what runs beside it, in any plan."""
    began, release = threading.Event(), threading.Event()

    async def patient(step, context):
        began.set()
        while not release.is_set():
            await asyncio.sleep(0.005)
        return "done"

    async def leaving(step, context):
        raise kind

    prepared(orchestrator, (patient, step("patient")), plan_id="one")
    prepared(orchestrator, (leaving, step("leaving", timeout=3)), plan_id="two")
    execution_id = orchestrator.start_plan("one")
    assert began.wait(5)
    with pytest.raises(StepFailedError):
        orchestrator.execute_plan("two")
    release.set()
    assert orchestrator.wait_for(execution_id, timeout=5).status is ExecutionStatus.COMPLETED


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_an_exit_in_a_step_does_not_end_the_callers_loop(orchestrator, kind):
    """In the caller's loop, too, a step that raises such an exception has failed, and the loop goes on."""

    async def leaving(step, context):
        raise kind

    prepared(orchestrator, (leaving, step("a", timeout=3)))

    async def main():
        with pytest.raises(StepFailedError, match=kind.__name__):
            await orchestrator.aexecute_plan("plan")
        return "still here"

    assert asyncio.run(main()) == "still here"


def test_an_error_without_words_is_still_an_error(orchestrator):
    """An exception whose message cannot be made is told by its type."""

    class Broken(Exception):
        def __str__(self):
            raise RuntimeError("no words")

    def work(step, context):
        raise Broken

    prepared(orchestrator, (work, step("a")))
    with pytest.raises(StepFailedError, match="Broken: its message cannot be shown"):
        orchestrator.execute_plan("plan")


@FACES
@pytest.mark.parametrize(
    "output",
    [object(), {1, 2}, b"bytes", float("nan"), {"deep": [float("inf")]}, {("a", "b"): 1}],
    ids=lambda value: type(value).__name__,
)
def test_an_output_that_cannot_be_kept(orchestrator, face, output):
    """A step whose output is not JSON-ready has happened and failed: it is not tried again, and it is undone."""
    calls, undone = [], []

    def work(step, context):
        calls.append(context.attempt)
        return output

    orchestrator.register_step_executor("a", face(work), rollback=lambda s, c: undone.append(s.id))
    prepared(orchestrator, step("a", retry_policy=RetryPolicy(3, base_delay=0)))
    with pytest.raises(StepFailedError, match="the output is not JSON-ready") as caught:
        orchestrator.execute_plan("plan")
    assert (calls, undone) == ([1], ["a"])
    assert isinstance(caught.value.__cause__, TypeError)


def test_outputs_are_as_they_would_be_after_a_crash(orchestrator):
    """What a step returned is shown in JSON's own types at once, so nothing depends on whether there was a crash."""
    prepared(
        orchestrator, (lambda s, c: {"pair": (1, 2), 3: None, "kind": RecoveryEventType}, step("bad")), plan_id="bad"
    )
    with pytest.raises(StepFailedError):
        orchestrator.execute_plan("bad")
    prepared(orchestrator, (lambda s, c: {"pair": (1, 2), 3: None}, step("a")))
    found = orchestrator.get_execution_status(orchestrator.execute_plan("plan"))
    assert found.step_results["a"].output == {"pair": [1, 2], "3": None}


# Attempts


class Busy(Exception):
    """Says when to come back."""

    def __init__(self, retry_after):
        self.retry_after = retry_after


class Hopeless(ResilienceError):
    """Says that another attempt cannot help."""

    retryable = False


def failing_with(*errors):
    """A step function that raises these in turn, and then succeeds."""

    def work(step, context):
        if context.attempt <= len(errors):
            raise errors[context.attempt - 1]
        return context.attempt

    return work


@FACES
def test_there_are_as_many_attempts_as_allowed(orchestrator, face):
    """A step is tried `max_attempts` times and not once more; the last error is the cause."""
    errors = [OSError(str(number)) for number in range(9)]
    policy = RetryPolicy(3, base_delay=0)
    prepared(orchestrator, (face(failing_with(*errors)), step("a", retry_policy=policy)))
    with pytest.raises(StepFailedError) as caught:
        orchestrator.execute_plan("plan")
    assert caught.value.__cause__ is errors[2]
    assert orchestrator.get_execution_status(caught.value.execution_id).step_results["a"].attempts == 3


@pytest.mark.parametrize(
    ("policy", "delays"),
    [
        (RetryPolicy(4, base_delay=0.004, backoff_multiplier=2.0), [0.004, 0.008, 0.016]),
        (RetryPolicy(4, base_delay=0.004, backoff_multiplier=3.0, max_delay=0.01), [0.004, 0.01, 0.01]),
        (RetryPolicy(3, base_delay=0.005, backoff_multiplier=1), [0.005, 0.005]),
        (RetryPolicy(3, base_delay=0), [0, 0]),
    ],
)
def test_delays_follow_the_policy(orchestrator, policy, delays):
    """The waits between attempts are those of the policy, are in the journal, and are kept."""
    errors = [OSError("no")] * (policy.max_attempts - 1)
    prepared(orchestrator, (failing_with(*errors), step("a", retry_policy=policy)))
    execution_id = orchestrator.execute_plan("plan")
    assert [one["delay"] for one in what(orchestrator, execution_id, "error")] == pytest.approx(delays)
    entries = [one for one in orchestrator.entries(execution_id) if one.what in ("error", "attempt")]
    waits = [(later.at - one.at).total_seconds() for one, later in zip(entries[1::2], entries[2::2], strict=True)]
    assert all(wait >= delay - 0.002 for wait, delay in zip(waits, delays, strict=True))


def test_jitter_spreads_delays(orchestrator):
    """With jitter the waits lie where the policy says, and are not all the same."""
    policy = RetryPolicy(12, base_delay=0.002, backoff_multiplier=1, jitter="full")
    prepared(orchestrator, (failing_with(*[OSError("no")] * 11), step("a", retry_policy=policy)))
    delays = [one["delay"] for one in what(orchestrator, orchestrator.execute_plan("plan"), "error")]
    assert len(set(delays)) > 1
    assert all(0 <= delay <= 0.002 for delay in delays)


@pytest.mark.parametrize("asked", [0.02, timedelta(milliseconds=20)], ids=["seconds", "timedelta"])
def test_an_error_may_say_when_to_come_back(orchestrator, asked):
    """The `retry_after` of an error takes the place of the policy's delay."""
    policy = RetryPolicy(2, base_delay=60)
    prepared(orchestrator, (failing_with(Busy(asked)), step("a", retry_policy=policy)))
    execution_id = orchestrator.execute_plan("plan")
    assert [one["delay"] for one in what(orchestrator, execution_id, "error")] == [0.02]


@pytest.mark.parametrize("asked", [float("nan"), float("inf"), -1, True, "soon", None], ids=repr)
def test_a_senseless_wish_is_not_followed(orchestrator, asked):
    """A `retry_after` that is no number of seconds leaves the policy's delay."""
    prepared(orchestrator, (failing_with(Busy(asked)), step("a", retry_policy=RetryPolicy(2, base_delay=0.001))))
    execution_id = orchestrator.execute_plan("plan")
    assert [one["delay"] for one in what(orchestrator, execution_id, "error")] == [0.001]


def test_an_error_may_say_that_nothing_helps(orchestrator):
    """An error whose `is_retryable()` is False ends the step at once."""
    errors = [OSError("once"), Hopeless("never"), OSError("again")]
    prepared(orchestrator, (failing_with(*errors), step("a", retry_policy=RetryPolicy(5, base_delay=0))))
    with pytest.raises(StepFailedError, match="Hopeless: never") as caught:
        orchestrator.execute_plan("plan")
    assert orchestrator.get_execution_status(caught.value.execution_id).step_results["a"].attempts == 2


def test_no_attempt_begins_after_the_timeout(orchestrator):
    """A wait that would pass the step's timeout is not begun: the step has failed with its own error at once."""
    waiting = step("a", timeout=5, retry_policy=RetryPolicy(3, base_delay=60))
    prepared(orchestrator, (failing_with(OSError("no")), waiting))
    began = time.monotonic()
    with pytest.raises(StepFailedError, match="OSError: no"):
        orchestrator.execute_plan("plan")
    assert time.monotonic() - began < 4


# What is left behind


def ours():
    return [one for one in threading.enumerate() if one.name.startswith("resilient-")]


def test_executions_leave_no_threads():
    """After its executions nothing of an orchestrator runs but the loop of its async steps; once closed, nothing."""
    before = set(ours())
    orchestrator = RecoveryOrchestrator()
    prepared(orchestrator, (lambda s, c: None, step("a")), (async_face(lambda s, c: None), step("b")))
    for _ in range(3):
        orchestrator.execute_plan("plan")
    left = {"resilient-orchestrator-loop"}
    assert eventually(lambda: {one.name for one in set(ours()) - before} <= left)
    orchestrator.close()
    assert eventually(lambda: not set(ours()) - before)


def test_a_failed_execution_keeps_nothing_alive(orchestrator):
    """When the caller has let go of the error, nothing of the execution is kept: no exception, no frame, no run."""

    class Local:
        """What a frame of the failing step holds."""

    class Failure(Exception):
        """What it raises."""

    references = []

    def work(step, context):
        local = Local()
        error = Failure("no")
        references.extend([weakref.ref(local), weakref.ref(error)])
        raise error

    settings = {"retry_policy": RetryPolicy(2, base_delay=0), "on_failure": "continue"}
    prepared(orchestrator, (work, step("a", **settings)), (async_face(work), step("b", **settings)))
    for _ in range(2):
        with pytest.raises(StepFailedError):
            orchestrator.execute_plan("plan")
        orchestrator.wait_for(orchestrator.start_plan("plan"))
    assert len(references) == 2 * 2 * 4 * 2
    assert eventually(lambda: not gc.collect() and not [one for one in references if one() is not None])
    assert not orchestrator._engine._runs
    assert not orchestrator._engine._listeners


def test_a_finished_execution_leaves_its_records_only(orchestrator):
    """Runs, attempts and contexts of executions that have ended are gone; their records stay."""
    prepared(orchestrator, (lambda s, c: None, step("a")), (async_face(lambda s, c: None), step("b")))
    for _ in range(20):
        orchestrator.execute_plan("plan")

    def left():
        gc.collect()
        return [one for one in gc.get_objects() if type(one) in (Run, Attempt, RecoveryContext, Progress)]

    assert eventually(lambda: len(left()) <= 1, 2.0), left()
    assert len(orchestrator.history(limit=99)) == 20


def test_a_journal_that_cannot_be_written_breaks_it_off(tmp_path):
    """On a full disk the execution stops where it is, says so with its id, and goes on when there is room again."""
    journal = SqliteJournal(tmp_path / "recovery.db")
    runs = []

    def fill(step, context):
        runs.append(step.id)
        with journal._session() as db:
            pages = db.execute("pragma page_count").fetchone()[0]
            db.execute(f"pragma max_page_count = {pages}")
        return "x" * 50_000

    with RecoveryOrchestrator(journal) as orchestrator:
        prepared(
            orchestrator,
            (lambda s, c: runs.append(s.id), step("before")),
            (fill, step("fill")),
            dependencies={"fill": ["before"]},
        )
        with pytest.raises(JournalError, match="full") as caught:
            orchestrator.execute_plan("plan")
        assert caught.value.execution_id is not None
        with journal._session() as db:
            db.execute("pragma max_page_count = 1000000")
        orchestrator.register_step_executor("fill", lambda s, c: runs.append("again"))
        assert orchestrator.resume_pending() == [caught.value.execution_id]
        assert orchestrator.get_execution_status(caught.value.execution_id).status is ExecutionStatus.COMPLETED
        assert runs == ["before", "fill", "again"]


def left_by_closing(journal, work, lease):
    """The error of whoever waited for a plan of one step when its orchestrator was closed; the step had begun."""
    began, errors = threading.Event(), []
    first = RecoveryOrchestrator(journal, lease=lease)

    def begin(step, context):
        began.set()
        return work(step, context)

    retried = step("a", timeout=60, retry_policy=RetryPolicy(2, base_delay=30))
    prepared(first, (begin, retried))

    def wait():
        try:
            first.execute_plan("plan")
        except RecoveryError as error:
            errors.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert began.wait(5)
    time.sleep(0.02)
    first.close()
    waiting.join(5)
    return errors[0]


def test_a_closed_orchestrator_lets_go():
    """Closing leaves an execution of which nothing is at work to whoever comes next, at once; who waited is told."""

    def fail(step, context):
        raise OSError("the next attempt comes in 30 seconds")

    journal = MemoryJournal()
    error = left_by_closing(journal, fail, lease=60)
    assert "the orchestrator was closed" in str(error)
    with RecoveryOrchestrator(journal) as second:
        second.register_step_executor("a", lambda s, c: "by the second")
        assert second.resume_pending(wait=False) == [error.execution_id]
        second.cancel_execution(error.execution_id)
        assert second.wait_for(error.execution_id, 5).status is ExecutionStatus.CANCELLED


def test_a_closed_orchestrator_keeps_what_is_at_work():
    """While a step of a closed orchestrator is still at work nobody repeats it; the lease ends by itself."""
    release = threading.Event()
    journal = MemoryJournal()
    error = left_by_closing(journal, lambda s, c: release.wait(5), lease=0.3)
    with RecoveryOrchestrator(journal) as second:
        second.register_step_executor("a", lambda s, c: "by the second")
        assert second.resume_pending() == []
        release.set()
        taken = []
        assert eventually(lambda: taken.extend(second.resume_pending()) or taken)
        assert taken == [error.execution_id]
        assert second.get_execution_status(error.execution_id).step_results["a"].output == "by the second"
