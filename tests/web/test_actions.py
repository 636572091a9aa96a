"""What an operator does is done, said, and written down; what cannot be done says why."""

import logging

import pytest

from resilient import CircuitState, bulkhead, circuit_breaker, degrade, registry, retry, timeout
from resilient.orchestrator import ExecutionStatus, RecoveryOrchestrator, RecoveryPlan, RecoveryStep

from .asking import TOKEN, WRONG, act, body, get, hidden, post, sign_in, text


@pytest.fixture
def orchestrator():
    """One that has a plan of a step that waits for a person."""
    with RecoveryOrchestrator() as made:
        made.step("work")(lambda step, context: {"password": "hunter2"})
        steps = [RecoveryStep("warm", "Warm the cache", "work"), RecoveryStep("ask", "Ask somebody", "approval")]
        made.register_plan(RecoveryPlan("shop", "Bring the shop back", steps, dependencies={"ask": ["warm"]}))
        yield made


def waiting(orchestrator, app):
    """The id of an execution that waits for approval."""
    execution = orchestrator.start_plan("shop", {"secret": "hunter2"})
    for _ in range(200):
        if orchestrator.get_execution_status(execution).waiting_for:
            break
        orchestrator.wait_for(execution, 0.02)
    app.recoveries.outdate()
    return execution


def test_isolate_and_reset(acting):
    """Isolating stops a breaker's calls, resetting lets them through again."""
    breaker = circuit_breaker("payments")
    fields = {"kind": "circuit_breaker", "name": "payments"}
    assert act(acting, "isolate", fields).status == 200
    assert breaker.state is CircuitState.ISOLATED
    assert act(acting, "reset", fields).status == 200
    assert breaker.state is CircuitState.CLOSED


def test_next_page_shows_what_was_done(acting):
    """A page that is asked for right after an action shows its effect, as nothing old is kept."""
    circuit_breaker("payments")
    assert "Isolated</span>" not in text(get(acting, query="fragment=1"))
    act(acting, "isolate", {"kind": "circuit_breaker", "name": "payments"})
    assert "Isolated</span>" in text(get(acting, query="fragment=1"))


@pytest.mark.parametrize("action", ["isolate", "reset"])
def test_only_breakers_are_isolated_and_reset(acting, action):
    """400 for a policy of another kind."""
    bulkhead("pool")
    answer = act(acting, action, {"kind": "bulkhead", "name": "pool"})
    assert (answer.status, "only a circuit_breaker" in body(answer)["error"]) == (400, True)


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"kind": "circuit_breaker", "name": "other"}, 404, "no circuit_breaker is named 'other'; known: payments"),
        ({"kind": "circuit_breaker"}, 400, "name: is missing"),
        ({"name": "payments"}, 400, "kind: is missing"),
        ({"kind": "toaster", "name": "payments"}, 400, "must be one of circuit_breaker, bulkhead"),
        ({"kind": "__class__", "name": "payments"}, 400, "must be one of"),
    ],
)
@pytest.mark.parametrize("action", ["isolate", "configure"])
def test_unknown_policies_are_said(acting, action, fields, status, words):
    """A missing or unknown kind or name is named, with what there is."""
    circuit_breaker("payments")
    answer = act(acting, action, {**fields, "failure_threshold": "3"} if action == "configure" else fields)
    assert answer.status == status
    assert words in body(answer)["error"]


@pytest.mark.parametrize(
    ("define", "option", "given", "value"),
    [
        (lambda: circuit_breaker("x"), "failure_threshold", "7", 7),
        (lambda: circuit_breaker("x"), "recovery_timeout", "2.5", 2.5),
        (lambda: circuit_breaker("x"), "recovery_timeout", "3", 3.0),
        (lambda: circuit_breaker("x", failure_rate_threshold=0.5), "failure_rate_threshold", "none", None),
        (lambda: retry(name="x"), "max_attempts", "", None),
        (lambda: retry(name="x"), "jitter", "false", False),
        (lambda: retry(name="x"), "jitter", "0.3", 0.3),
        (lambda: retry(name="x"), "jitter", "full", "full"),
        (lambda: retry(name="x"), "backoff", "linear", "linear"),
        (lambda: retry(name="x"), "retry_exhausted", "True", True),
        (lambda: bulkhead("x"), "max_concurrent", " 5 ", 5),
        (lambda: bulkhead("x"), "max_wait", "none", None),
        (lambda: timeout(1, name="x"), "limit", "1e1", 10.0),
        (lambda: degrade(fallback=0, name="x"), "fallback_limit", "3", 3),
    ],
)
def test_options_are_changed_by_text(acting, define, option, given, value):
    """A text becomes a value of the option's type."""
    policy = define()
    answer = act(acting, "configure", {"kind": policy.kind, "name": "x", option: given})
    assert answer.status == 200, body(answer)
    found = getattr(policy.config, option)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"failure_threshold": "many"}, "failure_threshold='many': must be a whole number"),
        ({"failure_threshold": "0"}, "failure_threshold=0: must be a whole number of at least 1"),
        ({"failure_threshold": "1.5"}, "must be a whole number"),
        ({"failure_threshold": "9" * 5000}, "must be a whole number"),
        ({"recovery_timeout": "nan"}, "must be a number"),
        ({"recovery_timeout": "-1"}, "recovery_timeout=-1.0: must be seconds, 0 or more"),
        ({"recovery_timeout": "1e999"}, "recovery_timeout"),
        ({"expected_exception": "ValueError"}, "expected_exception: cannot be written as text"),
        ({"colour": "red"}, "has no option colour"),
        ({"failure_threshold": "3", "minimum_calls": "5"}, "minimum_calls=5: needs a window"),
        ({}, "no option is given"),
        ({"option": "__class__", "value": "1"}, "has no option __class__"),
    ],
)
def test_impossible_options_change_nothing(acting, fields, words):
    """400 with the text of the error; the policy is as it was."""
    policy = circuit_breaker("payments")
    before = policy.config
    answer = act(acting, "configure", {"kind": "circuit_breaker", "name": "payments", **fields})
    assert answer.status == 400
    assert words in body(answer)["error"]
    assert policy.config == before


def test_form_of_the_page_changes_one_option(acting):
    """The form on a policy's page sends the option's name and value in two fields."""
    policy = circuit_breaker("payments")
    session, field = sign_in(acting)
    fields = {"kind": "circuit_breaker", "name": "payments", "option": "failure_threshold", "value": "9", "csrf": field}
    assert post(acting, "/actions/configure", fields, cookie=session).status == 303
    assert policy.config.failure_threshold == 9


def test_approving_lets_the_step_go_on(make, orchestrator):
    """A step that waits goes on, and the journal has who approved it, and why."""
    app = make(token=TOKEN, orchestrator=orchestrator)
    execution = waiting(orchestrator, app)
    answer = act(app, "approve", {"execution": execution, "step": "ask", "by": "Emma", "note": "looks well"})
    assert answer.status == 200, body(answer)
    assert orchestrator.wait_for(execution, 5).status is ExecutionStatus.COMPLETED
    assert any("Emma" in str(entry) and "looks well" in str(entry) for entry in orchestrator.entries(execution))


def test_cancelling_ends_the_execution(make, orchestrator):
    """An execution is cancelled with its reason; a second time says that it has ended."""
    app = make(token=TOKEN, orchestrator=orchestrator)
    execution = waiting(orchestrator, app)
    assert act(app, "cancel", {"execution": execution, "reason": "by mistake", "by": "Emma"}).status == 200
    ended = orchestrator.wait_for(execution, 5)
    assert ended.status.ended
    assert ended.reason == "by mistake"
    assert act(app, "cancel", {"execution": execution}).status == 409


@pytest.mark.parametrize(
    ("action", "fields", "status"),
    [
        ("approve", {"execution": "nobody", "step": "ask", "by": "Emma"}, 404),
        ("cancel", {"execution": "nobody"}, 404),
        ("approve", {"execution": "x", "step": "ask"}, 400),
        ("approve", {"execution": "x", "by": "Emma"}, 400),
        ("cancel", {}, 400),
    ],
)
def test_impossible_decisions_are_said(make, orchestrator, action, fields, status):
    """Unknown executions are 404, missing fields 400."""
    app = make(token=TOKEN, orchestrator=orchestrator)
    assert act(app, action, fields).status == status


def test_step_that_does_not_wait_cannot_be_approved(make, orchestrator):
    """409 for a step that is done already."""
    app = make(token=TOKEN, orchestrator=orchestrator)
    execution = waiting(orchestrator, app)
    assert act(app, "approve", {"execution": execution, "step": "warm", "by": "Emma"}).status == 409


def test_without_orchestrator_there_is_nothing_to_decide(acting):
    """400 that says what to give."""
    answer = act(acting, "cancel", {"execution": "x"})
    assert (answer.status, "orchestrator=" in body(answer)["error"]) == (400, True)


def test_executions_are_shown_without_their_secrets(make, orchestrator):
    """Snapshot and page have executions and steps, not begun ones included; no parameters, and no outputs."""
    app = make(token=TOKEN, orchestrator=orchestrator)
    execution = waiting(orchestrator, app)
    (found,) = body(get(app, "/api/snapshot"))["executions"]
    assert (found["execution_id"], found["plan_name"]) == (execution, "Bring the shop back")
    assert [(step["id"], step["status"]) for step in found["steps"]] == [
        ("warm", "completed"), ("ask", "waiting_approval")
    ]  # fmt: skip
    page = text(get(app))
    assert "Ask somebody" in page
    assert "1 recovery waits for approval" in page
    assert "hunter2" not in page + text(get(app, "/api/snapshot"))


def test_approval_by_the_form_of_the_page(make, orchestrator):
    """The page of who has signed in has a form for the step that waits, which approves it."""
    app = make(token=TOKEN, orchestrator=orchestrator)
    execution = waiting(orchestrator, app)
    assert 'action="/actions/approve"' not in text(get(app))
    session, _ = sign_in(app)
    page = get(app, cookie=session)
    assert 'action="/actions/approve"' in text(page)
    fields = {"csrf": hidden(page), "execution": execution, "step": "ask", "by": "Emma", "note": ""}
    assert post(app, "/actions/approve", fields, cookie=session).status == 303
    assert orchestrator.wait_for(execution, 5).status is ExecutionStatus.COMPLETED


def test_broken_journal_is_said_on_the_page(make):
    """A journal that cannot be read is a sentence, not a broken page."""

    class Broken:
        def history(self, **options):
            raise OSError("disk is gone")

        approve = cancel_execution = plan_of = history

    app = make(orchestrator=Broken())
    assert "OSError: disk is gone" in text(get(app))
    assert body(get(app, "/api/snapshot"))["problems"] == ["executions: OSError: disk is gone"]


def test_actions_are_written_down(acting, told):
    """One INFO record says who did what to whom, with the names of options, and without the token."""
    circuit_breaker("payments", recovery_timeout=5)
    fields = {"kind": "circuit_breaker", "name": "payments", "recovery_timeout": "98765", "by": "Emma\nforged line"}
    act(acting, "configure", fields)
    (record,) = told
    assert (record.event, record.levelno, record.name) == ("web.action", logging.INFO, "resilient.web")
    assert (record.action, record.kind, record.policy, record.peer) == (
        "configure", "circuit_breaker", "payments", "192.0.2.7"
    )  # fmt: skip
    assert (record.options, record.via, record.by) == (["recovery_timeout"], "token", "Emma\\nforged line")
    assert "98765" not in str(vars(record))
    assert TOKEN not in str(vars(record))


def test_refused_actions_are_written_down(acting, told):
    """A refused action is a WARNING with its status, every time."""
    for _ in range(8):
        act(acting, "isolate", {"kind": "circuit_breaker", "name": "payments"}, token=WRONG)
    assert [(one.event, one.levelno, one.status, one.action) for one in told] == [
        ("web.action_refused", logging.WARNING, 401, "isolate")
    ] * 8
    assert WRONG not in str([vars(one) for one in told])


def test_policy_that_nobody_names_is_configured_too(acting):
    """A policy named after its function is reached under that name."""

    @retry(max_attempts=2)
    def fetch():
        return 1

    (name,) = registry.retries
    assert act(acting, "configure", {"kind": "retry", "name": name, "max_attempts": "5"}).status == 200
    assert fetch.policies[0].config.max_attempts == 5


def test_encoded_name_that_is_none_is_refused(acting):
    """A `named` that no form of ours has made is a sentence, not a failure."""
    circuit_breaker("payments")
    answer = act(acting, "isolate", {"kind": "circuit_breaker", "named": "%ff%fe"})
    assert answer.status == 400


@pytest.mark.parametrize("value", ["98765x", "-98765"])
def test_refused_values_are_not_written_down(acting, told, value):
    """The answer says what is wrong with a value, and the log that something was, without the value."""
    circuit_breaker("payments")
    answer = act(acting, "configure", {"kind": "circuit_breaker", "name": "payments", "failure_threshold": value})
    assert (answer.status, value in body(answer)["error"]) == (400, True)
    (record,) = told
    assert (record.event, record.status, record.policy) == ("web.action_refused", 400, "payments")
    assert "98765" not in f"{vars(record)} {record.getMessage()}"
