"""What people pass in: whatever cannot work is refused at once, by the parameter's name, its value and a remedy."""

import asyncio
import functools
import re
import threading
from datetime import timedelta

import pytest

from resilient import registry
from resilient._registry import Registry
from resilient.errors import ConfigurationError
from resilient.orchestrator import (
    EmbeddedEngine,
    ExecutionNotFoundError,
    ExecutionStatus,
    MemoryJournal,
    NoExecutorError,
    PlanInvalidError,
    PlanNotFoundError,
    RecoveryError,
    RecoveryOrchestrator,
    RecoveryPlan,
    RecoveryStep,
    RecoveryStepType,
    SqliteJournal,
    StepExecutor,
)


def plan_of(*types, plan_id="plan", **settings):
    return RecoveryPlan(plan_id, "Plan", [RecoveryStep(kind, kind, kind) for kind in types], **settings)


@pytest.fixture(params=["memory", "sqlite"])
def orchestrator(request, tmp_path):
    journal = MemoryJournal() if request.param == "memory" else SqliteJournal(tmp_path / "recovery.db")
    with RecoveryOrchestrator(journal) as made:
        made.register_step_executor("fine", lambda step, context: "done")
        made.register_plan(plan_of("fine"))
        yield made


@pytest.fixture
def waiting(orchestrator):
    """An orchestrator with an execution that waits for a person, and its id."""
    step = RecoveryStep("yes", "Yes", RecoveryStepType.APPROVAL, timeout=60)
    orchestrator.register_plan(RecoveryPlan("asking", "Asking", [step]))
    execution_id = orchestrator.start_plan("asking")
    while not orchestrator.get_execution_status(execution_id).waiting_for:
        threading.Event().wait(0.005)
    yield orchestrator, execution_id
    orchestrator.cancel_execution(execution_id)
    orchestrator.wait_for(execution_id)


# Making one


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        (
            {"journal": "recovery.db"},
            TypeError,
            "journal: must be a journal, such as SqliteJournal(path) or MemoryJournal(), not a str",
        ),
        ({"journal": SqliteJournal}, TypeError, "journal: must be a journal, .*, not the class SqliteJournal"),
        ({"lease": 0}, ConfigurationError, "lease=0: must be seconds, greater than 0"),
        ({"lease": -1}, ConfigurationError, "lease=-1: must be seconds, greater than 0"),
        ({"lease": "10"}, ConfigurationError, "lease='10': must be seconds (a number)"),
        ({"lease": None}, ConfigurationError, "lease=None: must be seconds (a number)"),
        ({"lease": float("nan")}, ConfigurationError, "lease=nan: must be seconds"),
        ({"lease": True}, ConfigurationError, "lease=True: must be seconds"),
        ({"registry": "payments"}, TypeError, "registry: must be a registry, such as resilient.registry, not a str"),
        ({"engine": 5}, TypeError, "engine: must be an engine, not a int"),
    ],
)
def test_an_orchestrator_says_what_it_needs(given, kind, words):
    """A bad journal, lease, registry or engine is refused when the orchestrator is made."""
    with pytest.raises(kind, match=_pattern(words)):
        RecoveryOrchestrator(**given)


def _pattern(words):
    return re.escape(words).replace(r"\.\*", ".*")


def test_an_engine_has_its_own_journal():
    """A journal beside an engine, or an engine for two orchestrators, is refused."""
    engine = EmbeddedEngine(MemoryJournal())
    with pytest.raises(TypeError, match="journal=, engine=: an engine has a journal of its own"):
        RecoveryOrchestrator(MemoryJournal(), engine=engine)
    twice = pytest.raises(RecoveryError, match="works for another orchestrator already; make one for each")
    with RecoveryOrchestrator(engine=engine), twice:
        RecoveryOrchestrator(engine=engine)


def test_a_lease_may_be_a_timedelta():
    """The lease is seconds or a timedelta."""
    with RecoveryOrchestrator(lease=timedelta(seconds=3)) as made:
        assert made._engine._lease == 3.0


def test_shipped_executors_use_the_registry_given():
    """`cache_clear` looks names up in the orchestrator's registry."""
    own = Registry()
    with RecoveryOrchestrator(registry=own) as made:
        assert made.executors["cache_clear"].execute.call.__self__._registry is own
    with RecoveryOrchestrator() as made:
        assert made.executors["cache_clear"].execute.call.__self__._registry is registry


# Executors


class Whole(StepExecutor):
    def execute(self, step, context):
        return "whole"


class OnlyExecute:
    def execute(self, step, context):
        return "only"


class Unwilling(OnlyExecute):
    def can_execute(self, step_type):
        return step_type == "other"


class NotCallable:
    execute = 5


class BadRollback(OnlyExecute):
    rollback = "undo"


class OneArgument:
    def execute(self, step):
        """Takes too little."""


class BadProblems(OnlyExecute):
    problems = 5


@pytest.mark.parametrize(
    ("executor", "words"),
    [
        (None, "executor=None: must be a function (step, context), or an object with execute(step, context)"),
        ("restart", "executor='restart': must be a function"),
        (5, "executor=5: must be a function"),
        (OnlyExecute, "executor=.*: must be a function"),
        (Whole, "executor=.*: must be a function"),
        (NotCallable(), "execute=5: must be"),
        (OneArgument(), "must take two arguments, (step, context), not (step)"),
        (lambda: None, "must take two arguments, (step, context), not ()"),
        (lambda step: None, "must take two arguments, (step, context), not (step)"),
        (lambda step, context, third: None, "must take two arguments, (step, context), not (step, context, third)"),
        (lambda *, step, context: None, "must take two arguments"),
        (BadRollback(), "rollback='undo': must be a function (step, context)"),
        (Unwilling(), "says that it cannot execute steps of type 'own'"),
        (BadProblems(), "problems=5: must be"),
    ],
)
def test_what_cannot_execute_is_refused(orchestrator, executor, words):
    """What is no executor is refused when it is registered, and an earlier one stays."""
    orchestrator.register_step_executor("own", lambda step, context: "earlier")
    with pytest.raises(TypeError, match=_pattern(words)):
        orchestrator.register_step_executor("own", executor)
    orchestrator.register_plan(plan_of("own"))
    found = orchestrator.get_execution_status(orchestrator.execute_plan("plan"))
    assert found.step_results["own"].output == "earlier"


@pytest.mark.parametrize("rollback", [5, "undo", lambda: None, lambda step: None], ids=["5", "text", "none", "one"])
def test_what_cannot_undo_is_refused(orchestrator, rollback):
    """What is no rollback is refused when it is registered, also by the decorator, which registers nothing then."""
    with pytest.raises(TypeError, match=r"rollback=.*: must (be a function|take two arguments)"):
        orchestrator.register_step_executor("own", OnlyExecute(), rollback=rollback)
    with pytest.raises(TypeError, match=r"rollback=.*: must (be a function|take two arguments)"):
        orchestrator.step("own", rollback=rollback)(lambda step, context: None)
    assert "own" not in orchestrator.executors


@pytest.mark.parametrize(
    "executor",
    [
        Whole(),
        OnlyExecute(),
        OnlyExecute().execute,
        functools.partial(lambda first, step, context: first, "partial"),
        lambda *arguments: "any",
        lambda step, context, more=1: "default",
        max,
    ],
    ids=["object", "without a base", "method", "partial", "any arguments", "a default", "built-in"],
)
def test_what_can_execute_is_taken(orchestrator, executor):
    """Objects, methods, partials, and whatever can be called with a step and a context are executors."""
    orchestrator.register_step_executor("own", executor)
    assert "own" in orchestrator.executors


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("", TypeError, "step_type='': must be a RecoveryStepType, or the name of a custom type"),
        ("  ", TypeError, "step_type='  ': must be"),
        (None, TypeError, "step_type=None: must be"),
        (5, TypeError, "step_type=5: must be"),
        (RecoveryStepType, TypeError, "step_type=.*: must be"),
        (RecoveryStepType.APPROVAL, ConfigurationError, "step_type='approval': is decided by people"),
        ("approval", ConfigurationError, "step_type='approval': is decided by people"),
    ],
)
def test_a_type_has_a_name(orchestrator, name, kind, words):
    """What names no type of step is refused, and so is an executor for what people decide."""
    with pytest.raises(kind, match=_pattern(words)):
        orchestrator.register_step_executor(name, OnlyExecute())
    with pytest.raises(kind, match=_pattern(words)):
        orchestrator.step(name)(lambda step, context: None)


def test_a_type_may_be_named_either_way(orchestrator):
    """The name of a shipped type and its member are the same type, and a later executor replaces the shipped one."""
    for name in (RecoveryStepType.SERVICE_RESTART, "service_restart"):
        orchestrator.register_step_executor(name, lambda step, context, name=name: str(name))
        orchestrator.register_plan(plan_of("service_restart"))
        found = orchestrator.get_execution_status(orchestrator.execute_plan("plan"))
        assert found.step_results["service_restart"].output == "service_restart"


def test_the_decorator_gives_the_function_back(orchestrator):
    """A decorated step function is still the function, and may be registered for several types."""

    @orchestrator.step("one")
    @orchestrator.step("two", rollback=lambda step, context: None)
    def work(step, context):
        return step.id

    assert work(RecoveryStep("x", "X", "one"), None) == "x"
    assert (orchestrator.executors["one"].rollback, orchestrator.executors["two"].rollback is None) == (None, False)


def test_looking_does_not_let_change(orchestrator):
    """The executors and plans that one sees cannot be changed that way."""
    with pytest.raises(TypeError):
        orchestrator.executors["own"] = None
    with pytest.raises(TypeError):
        orchestrator.plans["own"] = None


# Plans


@pytest.mark.parametrize(
    "plan", [None, "plan.toml", {"id": "plan"}, RecoveryPlan], ids=["None", "path", "dict", "class"]
)
def test_only_plans_are_registered(orchestrator, plan):
    """What is no plan is refused, with how to get one from a file."""
    with pytest.raises(TypeError, match=r"plan: must be a RecoveryPlan, not a .*; RecoveryPlan.load\(path\) reads one"):
        orchestrator.register_plan(plan)


def test_a_plan_that_cannot_work_is_not_registered(orchestrator):
    """A plan with a problem is refused, and the earlier one of its id stays."""
    with pytest.raises(NoExecutorError, match="nobody"):
        orchestrator.register_plan(plan_of("nobody"))
    with pytest.raises(PlanInvalidError, match="max_parallel"):
        orchestrator.register_plan(plan_of("fine", max_parallel=0))
    assert orchestrator.plans["plan"].max_parallel == 4


def started(orchestrator, start, plan_id):
    method = getattr(orchestrator, start)
    return asyncio.run(method(plan_id)) if start.startswith("a") else method(plan_id)


@pytest.mark.parametrize("start", ["execute_plan", "start_plan", "aexecute_plan", "astart_plan"])
@pytest.mark.parametrize("plan_id", ["gone", "", None, 5, ["plan"], {"plan"}], ids=repr)
def test_an_unknown_plan_is_not_started(orchestrator, start, plan_id):
    """A plan that is not registered is refused by its id, with those that are; nothing is in the journal."""
    words = _pattern(f"no plan is registered as {plan_id!r}; registered: 'plan'")
    with pytest.raises(PlanNotFoundError, match=words):
        started(orchestrator, start, plan_id)
    assert orchestrator.history() == []


def test_a_plan_that_lacks_parameters_is_not_started(orchestrator):
    """Parameters that the plan refers to and that are not given are all told, and nothing begins."""
    steps = [RecoveryStep("a", "A", "fine", {"to": "${parameters.host}", "as": "${parameters.user}"})]
    orchestrator.register_plan(RecoveryPlan("plan", "Plan", steps))
    for given in (None, {}, {"hosts": 1}):
        with pytest.raises(PlanInvalidError, match="plan 'plan' cannot be started: 2 problems") as caught:
            orchestrator.execute_plan("plan", given)
        assert caught.value.plan_id == "plan"
    assert orchestrator.history() == []
    orchestrator.execute_plan("plan", {"host": None, "user": ""})


SECRET = "hunter2"  # noqa: S105


class Opaque:
    def __repr__(self):
        return SECRET


@pytest.mark.parametrize(
    "value",
    [Opaque(), {"password": Opaque()}, [{SECRET}], SECRET.encode(), float("nan"), {(SECRET,): 1}],
    ids=["object", "in a dict", "a set", "bytes", "nan", "a tuple as key"],
)
def test_parameters_are_json_ready(orchestrator, value):
    """A parameter that a journal cannot hold is refused by its name, without its value, which may be a secret."""
    with pytest.raises(PlanInvalidError, match=r"parameters\.x: expected JSON-ready values") as caught:
        orchestrator.execute_plan("plan", {"fine": 1, "x": value})
    assert SECRET not in str(caught.value)
    assert len(caught.value.problems) == 1
    assert orchestrator.history() == []


def test_parameters_that_contain_themselves(orchestrator):
    """A parameter without an end is refused like any other that is not JSON-ready."""
    endless = []
    endless.append(endless)
    deep = []
    for _ in range(100_000):
        deep = [deep]
    for value in (endless, deep):
        with pytest.raises(PlanInvalidError, match=r"parameters\.x: expected JSON-ready values"):
            orchestrator.start_plan("plan", {"x": value})


@pytest.mark.parametrize("parameters", [[("a", 1)], "a=1", 5, {"a"}], ids=["pairs", "text", "number", "set"])
def test_parameters_are_a_mapping(orchestrator, parameters):
    """What is no mapping is refused by its type, not by its value."""
    with pytest.raises(TypeError, match="parameters: must be a mapping of names to JSON-ready values, not "):
        orchestrator.execute_plan("plan", parameters)


@pytest.mark.parametrize("name", [1, None, ("a",), b"a"], ids=repr)
def test_parameters_have_names(orchestrator, name):
    """The name of a parameter is text."""
    with pytest.raises(PlanInvalidError, match="parameters: names must be strings, not "):
        orchestrator.execute_plan("plan", {name: 1})


def test_what_is_given_is_kept_as_it_was(orchestrator):
    """A parameter that the caller changes after the start is not changed in the execution."""
    hosts = ["db1"]
    execution_id = orchestrator.start_plan("plan", {"hosts": hosts})
    hosts.append("db2")
    assert orchestrator.wait_for(execution_id).parameters == {"hosts": ["db1"]}


# Looking and deciding


ASKS = {
    "get_execution_status": lambda orchestrator, name: orchestrator.get_execution_status(name),
    "wait_for": lambda orchestrator, name: orchestrator.wait_for(name),
    "await_for": lambda orchestrator, name: asyncio.run(orchestrator.await_for(name)),
    "entries": lambda orchestrator, name: orchestrator.entries(name),
    "plan_of": lambda orchestrator, name: orchestrator.plan_of(name),
    "cancel_execution": lambda orchestrator, name: orchestrator.cancel_execution(name),
    "approve": lambda orchestrator, name: orchestrator.approve(name, "fine", by="ada"),
    "reject": lambda orchestrator, name: orchestrator.reject(name, "fine", by="ada"),
    "history": lambda orchestrator, name: orchestrator.history(before=name),
}


@pytest.mark.parametrize("ask", ASKS)
def test_an_unknown_execution_is_not_found(orchestrator, ask):
    """Whatever is asked about an execution that the journal does not have is refused by its id."""
    orchestrator.execute_plan("plan")
    for execution_id in ("gone", "", "plan", "' or 1=1 --"):
        with pytest.raises(ExecutionNotFoundError, match=re.escape(repr(execution_id))):
            ASKS[ask](orchestrator, execution_id)


@pytest.mark.parametrize("ask", ASKS)
def test_an_id_is_text(orchestrator, ask):
    """What can be no id is refused by the parameter's name, or as not found, whatever the journal is."""
    orchestrator.execute_plan("plan")
    for execution_id in (5, b"plan", ["plan"], object(), *([] if ask == "history" else [None])):
        with pytest.raises((TypeError, ExecutionNotFoundError), match=r"execution_id|before|no execution"):
            ASKS[ask](orchestrator, execution_id)


def test_history_is_of_a_plan(orchestrator):
    """The history of a plan that never ran is empty, and what can be no plan's id is refused."""
    orchestrator.execute_plan("plan")
    assert orchestrator.history("gone") == []
    for plan_id in (5, ["plan"], object()):
        with pytest.raises(TypeError, match=r"plan_id=.*: must be a string"):
            orchestrator.history(plan_id)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"limit": 0}, "limit=0: must be a whole number of at least 1"),
        ({"limit": -5}, "limit=-5: must be a whole number"),
        ({"limit": "ten"}, "limit='ten': must be a whole number"),
        ({"limit": None}, "limit=None: must be a whole number"),
        ({"limit": 1.5}, "limit=1.5: must be a whole number"),
    ],
)
def test_a_page_has_a_size(orchestrator, given, words):
    """A page of no size is refused."""
    with pytest.raises(ConfigurationError, match=_pattern(words)):
        orchestrator.history(**given)


@pytest.mark.parametrize("timeout", [-1, "1", float("nan"), True], ids=repr)
def test_a_wait_is_seconds(orchestrator, timeout):
    """A wait that is no number of seconds is refused by its value."""
    execution_id = orchestrator.execute_plan("plan")
    with pytest.raises(ConfigurationError, match=f"timeout={timeout!r}: must be seconds"):
        orchestrator.wait_for(execution_id, timeout)
    with pytest.raises(ConfigurationError, match=f"timeout={timeout!r}: must be seconds"):
        asyncio.run(orchestrator.await_for(execution_id, timeout))


def test_a_wait_that_ends_early_shows_how_it_is(waiting):
    """After its time a wait gives the picture of an execution that goes on; 0 and a timedelta are times, too."""
    orchestrator, execution_id = waiting
    for timeout in (0, 0.02, timedelta(milliseconds=20)):
        assert orchestrator.wait_for(execution_id, timeout).status is ExecutionStatus.WAITING_APPROVAL


@pytest.mark.parametrize("decide", ["approve", "reject"])
@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        ({"by": ""}, ConfigurationError, "by='': must say who decided this"),
        ({"by": " "}, ConfigurationError, "by=' ': must say who decided this"),
        ({"by": None}, TypeError, "by=None: must be a string"),
        ({"by": 5}, TypeError, "by=5: must be a string"),
        ({"by": "ada", "note": None}, TypeError, "note=None: must be a string"),
    ],
)
def test_a_decision_says_who(waiting, decide, given, kind, words):
    """A decision without who decided, or with what is no text, is refused, and the step waits on."""
    orchestrator, execution_id = waiting
    with pytest.raises(kind, match=_pattern(words)):
        getattr(orchestrator, decide)(execution_id, "yes", **given)
    assert orchestrator.get_execution_status(execution_id).waiting_for == ("yes",)


@pytest.mark.parametrize("step_id", ["no", "", None, 5, ["yes"]], ids=repr)
def test_a_decision_is_about_a_step(waiting, step_id):
    """A decision about a step that the execution does not have is refused by its id."""
    orchestrator, execution_id = waiting
    with pytest.raises((ExecutionNotFoundError, TypeError), match=re.escape(repr(step_id))):
        orchestrator.approve(execution_id, step_id, by="ada")


def test_a_decision_that_nobody_waits_for(orchestrator):
    """A decision about a step that does not wait is refused, with how the step stands and the ids."""
    execution_id = orchestrator.execute_plan("plan")
    with pytest.raises(RecoveryError, match="does not wait for a decision: it is completed") as caught:
        orchestrator.approve(execution_id, "fine", by="ada")
    assert (caught.value.execution_id, caught.value.step_id) == (execution_id, "fine")


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        ({"reason": None}, TypeError, "reason=None: must be a string"),
        ({"reason": 5}, TypeError, "reason=5: must be a string"),
        ({"by": 5}, TypeError, "by=5: must be a string"),
        ({"rollback": "no"}, ConfigurationError, "rollback='no': must be True or False"),
        ({"rollback": 0}, ConfigurationError, "rollback=0: must be True or False"),
    ],
)
def test_a_cancellation_says_what_it_means(waiting, given, kind, words):
    """A cancellation with what makes no sense is refused, and the execution goes on."""
    orchestrator, execution_id = waiting
    with pytest.raises(kind, match=_pattern(words)):
        orchestrator.cancel_execution(execution_id, **given)
    assert orchestrator.get_execution_status(execution_id).waiting_for == ("yes",)


def test_what_has_ended_cannot_be_cancelled(orchestrator):
    """A cancellation that comes too late is answered by False, and changes nothing."""
    execution_id = orchestrator.execute_plan("plan")
    before = orchestrator.entries(execution_id)
    assert orchestrator.cancel_execution(execution_id) is False
    assert orchestrator.entries(execution_id) == before


@pytest.mark.parametrize("wait", ["no", 0, None], ids=repr)
def test_resuming_waits_or_not(orchestrator, wait):
    """`wait` is True or False itself."""
    with pytest.raises(ConfigurationError, match=f"wait={wait!r}: must be True or False"):
        orchestrator.resume_pending(wait=wait)


def test_names_of_all_kinds(orchestrator):
    """Names, notes and reasons may hold any text, and come back as they were."""
    odd = "ü 𝄞 \0 \ud800 '; drop table journal; --"
    orchestrator.register_plan(RecoveryPlan("named", odd, [RecoveryStep("a", odd, "fine", {"text": odd})], odd))
    execution_id = orchestrator.execute_plan("named", {"text": odd})
    assert orchestrator.get_execution_status(execution_id).parameters == {"text": odd}
    found = orchestrator.plan_of(execution_id)
    assert (found.name, found.description, found.steps[0].parameters) == (odd, odd, {"text": odd})


def test_texts_of_decisions_are_kept(orchestrator):
    """Who decided, and why, is in the output of the step and in the journal as it was said."""
    orchestrator.register_plan(RecoveryPlan("asking", "Asking", [RecoveryStep("yes", "Yes", "approval", timeout=60)]))
    execution_id = orchestrator.start_plan("asking")
    while not orchestrator.get_execution_status(execution_id).waiting_for:
        threading.Event().wait(0.005)
    orchestrator.approve(execution_id, "yes", by=" Ada Ł ", note="line\nbreak 𝄞")
    output = orchestrator.wait_for(execution_id).step_results["yes"].output
    assert (output["by"], output["note"]) == ("Ada Ł", "line\nbreak 𝄞")
    (answered,) = [one for one in orchestrator.entries(execution_id) if one.what == "answered"]
    assert (answered.data["by"], answered.data["note"]) == ("Ada Ł", "line\nbreak 𝄞")
