"""What is wrong with a plan: all of it, where, and what would be right."""

import math
import pickle
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient.orchestrator.errors import CircularDependencyError, NoExecutorError, PlanInvalidError
from resilient.orchestrator.executor import StepExecutor, adapted
from resilient.orchestrator.model import RecoveryPlan, RecoveryStep, RetryPolicy
from resilient.orchestrator.validation import check, judged, problems


def step(id="a", step_type="custom", parameters=(), **settings):
    return RecoveryStep(id, f"Step {id}", step_type, dict(parameters), **settings)


def plan(*steps, **settings):
    return RecoveryPlan("db-outage", "Database outage", steps or (step(),), **settings)


def retried(**policy):
    return problems(plan(step(retry_policy=RetryPolicy(**policy))))


def test_a_good_plan_has_no_problems():
    """A plan that uses everything there is passes, and `check` is silent."""
    good = plan(
        step("backup", rollback_step_id="drop", timeout=None, retry_policy=RetryPolicy(3, 0, 1, 0, "full")),
        step("yes", "approval", in_doubt="ask", timeout=timedelta(seconds=30)),
        step("copy", parameters={"from": "${steps.backup.output.path}", "to": "${parameters.host}"}, critical=False),
        rollback_steps=[step("drop", parameters={"path": "${steps.copy.output}"})],
        dependencies={"yes": ["backup"], "copy": {"yes"}},
        timeout=timedelta(minutes=1),
    )
    assert problems(good) == []
    assert problems(good, lambda name: adapted(lambda step, context: None, step_type=name)) == []
    check(good)


def test_everything_is_told_at_once_in_reading_order():
    """One look reports what is wrong with settings, ids, rollback steps, references, dependencies and executors."""
    bad = RecoveryPlan(
        "bad id", "Bad",
        [
            step("a", "own", timeout="soon", on_failure="explode"),
            step("a", rollback_step_id="gone"),
            step("b", parameters={"x": "${steps.zz.output}", "y": "${env.HOME}"}),
            "step",
        ],
        rollback_steps=[step("undo")],
        dependencies={"a": ["b", "b", "nope"], "b": ["a"], "undo": []},
        max_parallel=0,
    )  # fmt: skip
    executor = adapted(lambda step, context: None, step_type="custom")
    assert problems(bad, {"custom": executor}.get, registered=["custom"]) == [
        'id: expected letters, digits, -, _ and ., beginning with none of - and ., got "bad id"',
        "max_parallel: expected a whole number of at least 1, got 0",
        'steps[0].timeout: expected a positive number, got "soon"',
        'steps[0].on_failure: expected one of rollback, stop, continue, got "explode"',
        'steps[0].step_type: no executor is registered for "own"; registered: custom',
        'steps[1].id: expected an id of its own, got "a", which steps[0] has too',
        'steps[1].rollback_step_id: expected the id of a rollback step (undo), got "gone"',
        'steps[2].parameters.x: ${steps.zz.output}: there is no step "zz"; steps: a, b',
        "steps[2].parameters.y: ${env.HOME}: expected ${parameters.name} or ${steps.id.output}, or $${ for ${ itself",
        'steps[3]: expected a step (a RecoveryStep, in a file a table), got "step"',
        'rollback_steps[0].id: no step has "undo" for its rollback_step_id, so that it would never run',
        'dependencies.a[1]: expected each step once, got "b" again',
        'dependencies.a[2]: there is no step "nope"; steps: a, b',
        'dependencies.undo: "undo" is a rollback step: it runs only to undo, waits for nobody, and nobody for it',
        "dependencies: cycle: a -> b -> a",
    ]


@pytest.mark.parametrize("value", ["soon", 0, -1, True, False, math.nan, [], timedelta(0), 1 + 2j])
def test_a_timeout_is_a_positive_number(value):
    """Neither texts, truth values, zero nor less pass for the limit of a step or a plan."""
    assert [one.split(",")[0] for one in problems(plan(step(timeout=value), timeout=value))] == [
        "timeout: expected a positive number",
        "steps[0].timeout: expected a positive number",
    ]


@pytest.mark.parametrize("value", [math.inf, 1e300, 10**400])
def test_a_timeout_is_one_that_can_be_waited_for(value):
    """A limit beyond what locks can wait is told with the greatest that works."""
    assert problems(plan(timeout=value))[0].startswith("timeout: expected at most 9223372036 seconds, got ")


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ({"max_attempts": 0}, "max_attempts: expected a whole number of at least 1, got 0"),
        ({"max_attempts": 2.0}, "max_attempts: expected a whole number of at least 1, got 2.0"),
        ({"base_delay": -1}, "base_delay: expected a number of seconds, 0 or more, got -1"),
        ({"base_delay": math.inf}, "base_delay: expected at most 9223372036 seconds, got inf"),
        ({"backoff_multiplier": 0.5}, "backoff_multiplier: expected a number of at least 1, got 0.5"),
        ({"backoff_multiplier": math.inf}, "backoff_multiplier: expected a finite number, got inf"),
        ({"max_delay": "1"}, 'max_delay: expected a number of seconds, 0 or more, got "1"'),
        ({"base_delay": 5, "max_delay": 1}, "max_delay: expected at least base_delay (5), got 1"),
        (
            {"jitter": "some"},
            'jitter: expected true, false, a share from 0 to 1, or one of full, equal, decorrelated, got "some"',
        ),
    ],
)
def test_a_retry_policy_is_looked_at(policy, said):
    """Each setting of a retry policy is judged, and how they fit together."""
    assert retried(**policy) == [f"steps[0].retry_policy.{said}"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"id": ""}, 'id: expected letters, digits, - and _, beginning with no -, got ""'),
        ({"id": "a:b"}, 'id: expected letters, digits, - and _, beginning with no -, got "a:b"'),
        ({"id": "a.b"}, 'id: expected letters, digits, - and _, beginning with no -, got "a.b"'),
        ({"id": "a\n"}, 'id: expected letters, digits, - and _, beginning with no -, got "a\\n"'),
        ({"name": None}, "name: expected text, got None"),
        ({"step_type": " "}, 'step_type: expected the name of a type of step, got " "'),
        ({"critical": 1}, "critical: expected true or false, got 1"),
        ({"in_doubt": "guess"}, 'in_doubt: expected one of rerun, rollback, ask, got "guess"'),
        ({"retry_policy": 3}, "retry_policy: expected a retry policy (a RetryPolicy, in a file a table), got 3"),
        (
            {"rollback_step_id": "u"},
            'rollback_step_id: expected the id of a rollback step (this plan has none), got "u"',
        ),
        ({"parameters": "p4ss"}, "parameters: expected a table, got text"),
        ({"parameters": {1: "p4ss"}}, "parameters: expected text for every key, got 1"),
    ],
)
def test_a_step_is_looked_at(settings, said):
    """Each setting of a step is judged; parameters are never shown."""
    fine = {"id": "a", "name": "A", "step_type": "custom"}
    assert problems(plan(RecoveryStep(**{**fine, **settings}))) == [f"steps[0].{said}"]


@pytest.mark.parametrize("steps", [(), None, "abc", 5])
def test_a_plan_has_steps(steps):
    """A plan without steps, or with something else in their place, is told."""
    assert problems(RecoveryPlan("p", "P", steps))[0].startswith("steps: expected at least one step, got ")


def test_long_values_are_shortened():
    """A text of a million characters does not fill the screen."""
    assert len(problems(plan(step(on_failure="x" * 1_000_000)))[0]) < 200


def test_cycles_alone_have_an_error_of_their_own():
    """Where steps that wait for each other are all that is wrong, the error is theirs and says the way round."""
    round_about = plan(step("a"), step("b"), step("c"), dependencies={"a": ["c"], "c": ["b"], "b": ["a", "b"]})
    with pytest.raises(CircularDependencyError) as caught:
        check(round_about)
    assert caught.value.cycle == ("a", "c", "b", "a")
    assert caught.value.problems == ("dependencies: cycle: a -> c -> b -> a", "dependencies: cycle: b -> b")
    assert str(caught.value).startswith("plan 'db-outage' is invalid: 2 problems\n  dependencies: cycle: a -> c")
    assert pickle.loads(pickle.dumps(caught.value)).cycle == caught.value.cycle  # noqa: S301 - its own bytes


def test_missing_executors_alone_have_an_error_of_their_own():
    """Where nothing but executors is missing, the error is NoExecutorError; approvals need none."""
    with pytest.raises(NoExecutorError) as caught:
        check(plan(step("a", "own"), step("b", "approval")), {}.get)
    assert caught.value.problems == (
        'steps[0].step_type: no executor is registered for "own"; call register_step_executor("own", ...)',
    )


def test_mixed_problems_are_a_plan_error():
    """Where several kinds of problems meet, the error is PlanInvalidError itself, with the file's name where given."""
    with pytest.raises(PlanInvalidError) as caught:
        check(plan(step(timeout="soon"), dependencies={"a": ["a"]}), source="plan.toml")
    assert type(caught.value) is PlanInvalidError
    assert caught.value.problems == (
        'plan.toml: steps[0].timeout: expected a positive number, got "soon"',
        "plan.toml: dependencies: cycle: a -> a",
    )


def test_something_else_is_no_plan():
    """A value that is no plan at all is told by its kind."""
    assert problems({"id": "secret"}) == ["expected a RecoveryPlan, got a table"]
    with pytest.raises(PlanInvalidError, match="expected a RecoveryPlan, got None"):
        check(None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("${steps.b.output}", "a step cannot refer to itself"),
        ("${steps.c.output}", 'step "c" may not have run by then; add it to dependencies.b'),
        ("${steps.undo.output}", 'there is no step "undo"; steps: a, b, c'),
        ("${steps.a}", "expected output (and keys in it), status or attempts after ${steps.a."),
        ("${steps.a.path}", "expected output (and keys in it), status or attempts after ${steps.a."),
        ("${steps.a.status.x}", "expected output (and keys in it), status or attempts after ${steps.a."),
    ],
)
def test_a_step_refers_to_steps_before_it(text, said):
    """A reference must lead to the result of a step that has run for certain."""
    steps = step("a", rollback_step_id="undo"), step("b", parameters={"x": text}), step("c")
    bad = plan(*steps, rollback_steps=[step("undo")], dependencies={"b": ["a"], "c": ["b"]})
    assert problems(bad) == [f"steps[1].parameters.x: {text}: {said}"]


def test_a_step_may_refer_far_back():
    """Steps that are needed by way of others count as before, also over a long way."""
    names = [f"s{number}" for number in range(300)]
    steps = [
        step(one, parameters={"x": f"${{steps.{names[0]}.output}}"} if number else {})
        for number, one in enumerate(names)
    ]
    assert problems(plan(*steps, dependencies={names[n]: [names[n - 1]] for n in range(1, 300)})) == []


def test_a_rollback_step_undoes_and_nothing_else():
    """A rollback step has no rollback of its own, is no approval, and has an id that no other step has."""
    undo = [step("undo", "approval", rollback_step_id="a"), step("a")]
    assert problems(plan(step("a", rollback_step_id="undo"), rollback_steps=undo)) == [
        "rollback_steps[0].rollback_step_id: expected nothing: a rollback step is not rolled back itself",
        "rollback_steps[0].step_type: an approval cannot be reached here: it undoes nothing; put it in steps",
        'rollback_steps[1].id: expected an id of its own, got "a", which steps[0] has too',
        'rollback_steps[1].id: no step has "a" for its rollback_step_id, so that it would never run',
    ]


def test_a_rollback_step_is_used_by_whichever_step_names_it():
    """Of two steps with one id both count: only the id is told, and not a rollback step as left over."""
    twins = plan(step("a", rollback_step_id="undo"), step("a"), rollback_steps=[step("undo")])
    assert problems(twins) == ['steps[1].id: expected an id of its own, got "a", which steps[0] has too']


def test_an_approval_behind_a_cycle_is_never_asked():
    """An approval that waits for a cycle is told, and the error is still that of the cycle."""
    with pytest.raises(CircularDependencyError) as caught:
        check(plan(step("a"), step("b"), step("ok", "approval"), dependencies={"a": ["b"], "b": ["a"], "ok": ["b"]}))
    assert caught.value.cycle == ("a", "b", "a")
    assert caught.value.problems[0] == "steps[2]: the approval cannot be reached: it waits for the cycle a -> b -> a"


def test_an_approval_behind_an_unknown_step_is_never_asked():
    """An approval that waits for a step that is not there, over whatever other step, is told."""
    bad = plan(step("a"), step("ok", "approval"), dependencies={"a": ["gone"], "ok": ["a"]})
    assert problems(bad) == [
        'steps[1]: the approval cannot be reached: it waits for "gone", which is no step',
        'dependencies.a[0]: there is no step "gone"; steps: a, ok',
    ]


@pytest.mark.parametrize(
    ("deadline", "fine"), [(300.0, True), (60, True), (None, True), (61, False), (timedelta(days=1), False)]
)
def test_an_approval_has_its_deadline_within_the_plan(deadline, fine):
    """A deadline written later than the plan's own end is told; the default one is not."""
    said = problems(plan(step("ok", "approval", timeout=deadline), timeout=60))
    assert [one.split(",")[0] for one in said] == (
        [] if fine else ["steps[0].timeout: expected at most the plan's timeout (60)"]
    )


class Picky(StepExecutor):
    """Wants a command, and stumbles over some parameters."""

    def execute(self, step, context):
        return None

    def problems(self, step):
        if "crash" in step.parameters:
            raise ValueError(step.parameters["crash"])
        return [("command", "is missing"), ("set.key", "is odd"), ("", "is short")]


def test_executors_judge_parameters():
    """What an executor says about parameters stands under them, and one that fails is told without its message."""
    executor = adapted(Picky(), step_type="custom")
    assert problems(plan(step("a"), step("b", parameters={"crash": "p4ss"})), lambda name: executor) == [
        "steps[0].parameters.command: is missing",
        "steps[0].parameters.set.key: is odd",
        "steps[0].parameters: is short",
        "steps[1].parameters: cannot be checked, as the executor's problems() failed: <ValueError>",
    ]


ODD = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.just([]) | st.just({"a": []})
    | st.just(object()) | st.just(step()) | st.just(RetryPolicy(None, "x", [], {}, object())) | st.binary(max_size=3)
    | st.sampled_from(["a", "b", "u", "approval", "${steps.a.output}", "rollback"])
)  # fmt: skip
ANY = st.recursive(
    ODD,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", 1, None]), inner, max_size=3)
    ),
)


@settings(max_examples=300)
@given(st.data())
def test_judging_never_fails(data):
    """Whatever a plan is made of, its problems are sentences."""

    def odd_step():
        fields = {"id": "a", "name": "A", "step_type": "custom"}
        keys = (
            "id",
            "name",
            "step_type",
            "parameters",
            "timeout",
            "retry_policy",
            "rollback_step_id",
            "on_failure",
            "critical",
            "in_doubt",
        )
        return RecoveryStep(
            **fields | {key: data.draw(ANY) for key in data.draw(st.sets(st.sampled_from(keys), max_size=3))}
        )

    steps = data.draw(ANY) if data.draw(st.booleans()) else [odd_step(), odd_step()]
    undo = data.draw(ANY) if data.draw(st.booleans()) else [odd_step()]
    rest = {
        key: data.draw(ANY) for key in data.draw(st.sets(st.sampled_from(("dependencies", "timeout", "max_parallel"))))
    }
    odd = RecoveryPlan(data.draw(ANY), "P", steps, data.draw(ANY), undo, **rest)
    for executor in (None, lambda name: None, lambda name: name, lambda name: adapted(Picky(), step_type="x")):
        assert all(isinstance(one, str) and one for one in problems(odd, executor))
        found = judged(odd, executor)
        if found:
            with pytest.raises(PlanInvalidError):
                check(odd, executor)
