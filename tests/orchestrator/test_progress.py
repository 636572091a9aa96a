"""What is to be done next, from the records alone: one rule of the way forward and of the way back at a time."""

from datetime import timedelta

import pytest

from resilient.orchestrator.model import ExecutionStatus as Status
from resilient.orchestrator.model import RecoveryPlan, RecoveryStep, RetryPolicy
from resilient.orchestrator.progress import Ask, Begin, End, Expire, Fail, Progress, Stop, TurnBack, replayed
from resilient.orchestrator.records import Kind, Record
from resilient.orchestrator.steps import Phase
from resilient.orchestrator.stories import ending


def step(step_id, kind="custom", **settings):
    return RecoveryStep(step_id, step_id, kind, **settings)


class Tale:
    """An execution that is told record by record; `now` are the seconds since it began."""

    def __init__(self, *steps, **settings):
        self.plan = RecoveryPlan("plan", "Plan", steps, **settings)
        self.progress = Progress(self.plan)
        self.records = []
        self.now = 0.0
        self.undoable = [one.id for one in steps]
        self.put(Kind.SUBMITTED)
        self.put(Kind.STARTED)

    def put(self, kind, step_id=None, /, **data):
        self.records.append(Record(kind, step_id, 1e9 + self.now, self.now, data))
        self.progress.apply(self.records[-1])

    def moves(self):
        return self.progress.moves(self.now, self.undoable)

    def attempt(self, *ids, number=1):
        for step_id in ids:
            self.put(Kind.ATTEMPT, step_id, attempt=number)

    def done(self, *ids):
        for step_id in ids:
            self.attempt(step_id)
            self.put(Kind.DONE, step_id, attempt=1, output=None)

    def error(self, step_id, **data):
        self.put(Kind.ERROR, step_id, **{"attempt": 1, "error": "OSError: no", "final": True, **data})

    def turn_back(self):
        """Follow the move that begins the way back, and return its targets."""
        (move,) = self.moves()
        assert isinstance(move, TurnBack)
        self.put(Kind.ROLLBACK, targets=list(move.targets))
        return move.targets

    def undo(self, step_id):
        assert self.moves() == [Begin(step_id, 1, undo=True)]
        self.put(Kind.UNDO, step_id, attempt=1)
        self.put(Kind.UNDONE, step_id, attempt=1)

    def die(self, away=0.0):
        """The process dies; another goes on after `away` seconds."""
        self.progress = replayed(self.plan, self.records)
        self.now += away
        self.put(Kind.RESUMED)

    def end(self):
        (move,) = self.moves()
        assert isinstance(move, End)
        self.put(Kind.ENDED, **ending(self.progress, move.status))
        assert self.moves() == []
        return move.status


# The way forward


def test_steps_that_wait_for_nobody_begin_together():
    """Who waits for nobody begins at once, in the plan's order, up to `max_parallel`; the rest as places come free."""
    tale = Tale(step("a"), step("b"), step("c"), max_parallel=2)
    assert tale.moves() == [Begin("a", 1), Begin("b", 1)]
    tale.attempt("a", "b")
    assert tale.moves() == []
    tale.put(Kind.DONE, "b", attempt=1, output=None)
    assert tale.moves() == [Begin("c", 1)]


def test_a_step_waits_for_what_it_needs():
    """A step begins when all that it needs has settled, whatever else goes on."""
    tale = Tale(step("a"), step("b"), step("c"), dependencies={"c": ["a", "b"]})
    tale.attempt("b")
    tale.done("a")
    assert tale.moves() == []
    tale.put(Kind.DONE, "b", attempt=1, output=None)
    assert tale.moves() == [Begin("c", 1)]


def test_the_next_attempt_comes_when_its_delay_is_over():
    """After a failed attempt the step keeps its place, and goes on neither earlier nor later than its delay says."""
    tale = Tale(step("a", retry_policy=RetryPolicy(2)), step("b"), max_parallel=1)
    tale.attempt("a")
    tale.now = 3.0
    tale.error("a", final=False, delay=2.0)
    assert (tale.moves(), tale.progress.due()) == ([], 5.0)
    tale.now = 5.0
    assert tale.moves() == [Begin("a", 2)]


def test_the_timeout_counts_from_the_first_attempt():
    """The timeout of a step limits all of its attempts together; what is told to end is told once."""
    tale = Tale(step("a", timeout=timedelta(seconds=10), retry_policy=RetryPolicy(3)))
    tale.attempt("a")
    tale.now = 4.0
    tale.error("a", final=False, delay=1.0)
    tale.now = 5.0
    tale.attempt("a", number=2)
    assert (tale.moves(), tale.progress.due()) == ([], 10.0)
    tale.now = 10.0
    assert tale.moves() == [Stop("a", "timeout")]
    tale.progress.steps["a"].stopping = True
    assert (tale.moves(), tale.progress.due()) == ([], None)


def test_an_approval_takes_no_place():
    """A step that waits for a person does not keep others from running, and may ask while all places are taken."""
    tale = Tale(step("yes", "approval"), step("a"), step("b"), max_parallel=1)
    assert tale.moves() == [Ask("yes", "approve"), Begin("a", 1)]
    tale.put(Kind.ASKED, "yes", question="approve")
    assert tale.moves() == [Begin("a", 1)]
    assert tale.progress.status() is Status.WAITING_APPROVAL


def test_an_approval_has_a_deadline():
    """Without a decision by its deadline an approval fails; a decision before it is its end."""
    tale = Tale(step("yes", "approval"))
    tale.put(Kind.ASKED, "yes", question="approve", deadline=60.0)
    assert (tale.moves(), tale.progress.due()) == ([], 60.0)
    tale.now = 60.0
    assert tale.moves() == [Fail("yes", "deadline")]
    tale.put(Kind.ANSWERED, "yes", approved=True, by="ada", note="go")
    assert tale.end() is Status.COMPLETED
    output = tale.progress.steps["yes"].output
    assert (output["approved"], output["by"], output["note"]) == (True, "ada", "go")


def test_only_the_first_answer_counts():
    """An answer to a step that does not ask any more changes nothing."""
    tale = Tale(step("yes", "approval"))
    tale.put(Kind.ASKED, "yes", question="approve")
    tale.put(Kind.ANSWERED, "yes", approved=True, by="ada")
    tale.put(Kind.ANSWERED, "yes", approved=False, by="bob")
    assert tale.progress.steps["yes"].phase is Phase.DONE
    assert tale.end() is Status.COMPLETED


# How it fails


@pytest.mark.parametrize(
    ("settings", "status"),
    [
        ({"on_failure": "rollback"}, Status.ROLLED_BACK),
        ({"on_failure": "stop"}, Status.FAILED),
        ({"on_failure": "continue"}, Status.FAILED),
        ({"critical": False}, Status.COMPLETED),
    ],
    ids=["rollback", "stop", "continue", "not critical"],
)
def test_what_a_failure_leads_to(settings, status):
    """`on_failure` decides whether others go on and whether anything is undone; what is not critical may fail."""
    tale = Tale(step("a"), step("b", **settings), step("c"), dependencies={"b": ["a"], "c": ["b"]})
    tale.done("a")
    tale.attempt("b")
    tale.error("b")
    if status is Status.ROLLED_BACK:
        assert tale.turn_back() == ("a",)
        tale.undo("a")
    elif settings != {"on_failure": "stop"}:
        assert tale.moves() == [Begin("c", 1)]
        tale.done("c")
    assert tale.end() is status


def test_a_failure_lets_what_runs_finish():
    """After a failure nothing begins, what runs may finish, and only then is everything undone, its work included."""
    tale = Tale(step("a"), step("b"), step("c"), step("d", retry_policy=RetryPolicy(2)), max_parallel=3)
    tale.attempt("a", "b", "d")
    tale.error("d", final=False, delay=9.0)
    tale.error("a")
    assert tale.moves() == [Fail("d", "stopped")]
    tale.error("d", stopped=True)
    assert tale.moves() == []
    tale.put(Kind.DONE, "b", attempt=1, output=None)
    assert tale.turn_back() == ("b",)


def test_the_first_failure_is_the_cause():
    """Of several failures the first decides; a later one cannot turn a stop into a rollback."""
    tale = Tale(step("a", on_failure="stop"), step("b"))
    tale.attempt("a", "b")
    tale.error("a")
    tale.error("b")
    assert tale.end() is Status.FAILED
    assert tale.progress.ended.data["step_id"] == "a"
    assert "step 'b'" in tale.progress.ended.data["error"]


def test_the_whole_plan_has_a_time():
    """When the plan's time is over, that is noted once, and what runs is stopped; the way back has no such limit."""
    tale = Tale(step("a"), step("b"), dependencies={"b": ["a"]}, timeout=30)
    tale.done("a")
    tale.attempt("b")
    assert tale.progress.due() == 30
    tale.now = 30.0
    assert tale.moves() == [Expire()]
    tale.put(Kind.EXPIRED)
    assert tale.moves() == [Stop("b", "expired")]
    tale.error("b", stopped=True, in_doubt=True)
    assert tale.turn_back() == ("a",)
    tale.now = 1000.0
    tale.undo("a")
    assert tale.end() is Status.ROLLED_BACK
    assert tale.progress.ended.data["kind"] == "expired"


# Cancelling


@pytest.mark.parametrize("rollback", [True, False])
def test_a_cancellation_stops_everything(rollback):
    """It ends what runs, what pauses and what asks, then undoes what was done, unless it says not to."""
    tale = Tale(step("a"), step("b"), step("c", retry_policy=RetryPolicy(2)), step("yes", "approval"), step("d"))
    tale.done("a")
    tale.attempt("b", "c")
    tale.error("c", final=False, delay=9.0)
    tale.put(Kind.ASKED, "yes", question="approve", deadline=60.0)
    tale.put(Kind.CANCEL, reason="enough", by="ada", rollback=rollback)
    assert tale.moves() == [Stop("b", "cancelled"), Fail("c", "stopped"), Fail("yes", "stopped")]
    for step_id in ("b", "c", "yes"):
        tale.error(step_id, stopped=True)
    if rollback:
        assert tale.turn_back() == ("a",)
        tale.undo("a")
    assert tale.end() is Status.CANCELLED
    assert tale.progress.ended.data["error"] == "cancelled by ada: enough"


def test_what_finishes_although_it_was_cancelled_is_undone():
    """A step that completes after the cancellation has happened, and is undone like the others."""
    tale = Tale(step("a"))
    tale.attempt("a")
    tale.put(Kind.CANCEL, rollback=True)
    tale.put(Kind.DONE, "a", attempt=1, output=None)
    assert tale.turn_back() == ("a",)


def test_a_cancellation_does_not_change_the_way_back():
    """Once the way back has begun, a cancellation changes neither what is undone nor how the execution ends."""
    tale = Tale(step("a"), step("b"))
    tale.done("a")
    tale.attempt("b")
    tale.error("b")
    assert tale.turn_back() == ("a",)
    tale.put(Kind.CANCEL, reason="", by="", rollback=True)
    tale.undo("a")
    assert tale.end() is Status.ROLLED_BACK


def test_a_cancellation_without_rollback_stops_the_way_back():
    """A way back that hangs can be stopped: what is left of it counts as failed."""
    tale = Tale(step("a"), step("b"), step("c"))
    tale.done("a")
    tale.done("b")
    tale.attempt("c")
    tale.error("c")
    assert tale.turn_back() == ("b", "a")
    tale.put(Kind.UNDO, "b", attempt=1)
    tale.put(Kind.CANCEL, reason="", by="", rollback=False)
    assert tale.moves() == [Stop("b", "cancelled", undo=True)]
    tale.put(Kind.UNDO_ERROR, "b", attempt=1, error="stopped", final=True)
    assert tale.moves() == [Fail("a", "stopped", undo=True)]
    tale.put(Kind.UNDO_ERROR, "a", attempt=0, error="stopped", final=True)
    assert tale.end() is Status.ROLLBACK_FAILED


# The way back


def test_the_way_back_is_the_way_forward_backwards():
    """What completed last is undone first, one after the other; what cannot be undone or never happened is left."""
    tale = Tale(step("a"), step("b"), step("c"), step("d"), step("e"))
    tale.undoable.remove("c")
    tale.attempt("a", "b", "c", "d")
    for step_id in ("c", "b", "a"):
        tale.put(Kind.DONE, step_id, attempt=1, output=None)
    tale.error("d")
    assert tale.turn_back() == ("a", "b")
    tale.undo("a")
    tale.undo("b")
    assert tale.end() is Status.ROLLED_BACK


def test_a_failing_rollback_does_not_keep_others_from_theirs():
    """What cannot be undone is noted with its error, the others are undone, and the end tells of it."""
    tale = Tale(step("a"), step("b"), step("c"))
    tale.done("a", "b")
    tale.attempt("c")
    tale.error("c")
    assert tale.turn_back() == ("b", "a")
    tale.put(Kind.UNDO, "b", attempt=1)
    tale.put(Kind.UNDO_ERROR, "b", attempt=1, error="OSError: stuck", final=True)
    tale.undo("a")
    assert tale.end() is Status.ROLLBACK_FAILED
    assert "rollback of 'b': OSError: stuck" in tale.progress.ended.data["error"]


def test_the_rollback_step_has_its_own_limits():
    """A rollback is retried and limited by the settings of the step that undoes: the rollback step, if there is one."""
    undo = step("undo-a", timeout=3.0)
    tale = Tale(step("a", timeout=100.0, rollback_step_id="undo-a"), step("b"), rollback_steps=[undo])
    tale.done("a")
    tale.attempt("b")
    tale.error("b")
    tale.turn_back()
    tale.put(Kind.UNDO, "a", attempt=1)
    assert tale.progress.due() == 3.0
    tale.now = 3.0
    assert tale.moves() == [Stop("a", "timeout", undo=True)]


def test_a_step_that_went_too_far_is_undone_first():
    """What happened although it counts as failed is undone before what completed."""
    tale = Tale(step("a"), step("b"))
    tale.attempt("b")
    tale.done("a")
    tale.error("b", happened=True)
    assert tale.turn_back() == ("b", "a")


@pytest.mark.parametrize(("policy", "targets"), [("rerun", ("a",)), ("rollback", ("b", "a")), ("ask", ("b", "a"))])
def test_in_doubt_after_a_timeout(policy, targets):
    """What was stopped half-way is undone only if its `in_doubt` says so, and with "ask" only if a person does."""
    tale = Tale(step("a"), step("b", in_doubt=policy))
    tale.done("a")
    tale.attempt("b")
    tale.error("b", in_doubt=True, timed_out=True)
    assert tale.turn_back() == targets
    if policy == "ask":
        assert tale.moves() == [Ask("b", "undo")]
        tale.put(Kind.ASKED, "b", question="undo")
        assert tale.progress.status() is Status.WAITING_APPROVAL
        tale.put(Kind.ANSWERED, "b", approved=True, by="ada")
    elif policy == "rollback":
        tale.undo("b")
    tale.undo("a")
    assert tale.end() is Status.ROLLED_BACK


# After a crash


def test_completed_steps_do_not_begin_again():
    """After a crash what was done stays done, and what had not begun begins."""
    tale = Tale(step("a"), step("b"), dependencies={"b": ["a"]})
    tale.done("a")
    tale.die()
    assert tale.moves() == [Begin("b", 1)]


@pytest.mark.parametrize(
    ("policy", "move"), [("rerun", Begin("a", 2)), ("rollback", Fail("a", "died")), ("ask", Ask("a", "rerun"))]
)
def test_in_doubt_after_a_crash(policy, move):
    """What was under way follows its `in_doubt`; a repetition is the same attempt."""
    tale = Tale(step("a", in_doubt=policy, retry_policy=RetryPolicy(2)))
    tale.attempt("a")
    tale.error("a", final=False, delay=0.0)
    tale.attempt("a", number=2)
    tale.die()
    assert tale.moves() == [move]


def test_a_person_lets_it_run_again():
    """An approved repetition begins; another crash in it asks again."""
    tale = Tale(step("a", in_doubt="ask"))
    tale.attempt("a")
    for _ in range(2):
        tale.die()
        tale.put(Kind.ASKED, "a", question="rerun")
        assert tale.moves() == []
        tale.put(Kind.ANSWERED, "a", approved=True, by="ada")
        assert tale.moves() == [Begin("a", 1)]
        tale.attempt("a")


def test_an_approval_outlives_the_crash():
    """A decision to run it again that was taken before a second crash is not asked for a second time."""
    tale = Tale(step("a", in_doubt="ask"))
    tale.attempt("a")
    tale.die()
    tale.put(Kind.ASKED, "a", question="rerun")
    tale.put(Kind.ANSWERED, "a", approved=True, by="ada")
    tale.die()
    assert tale.moves() == [Begin("a", 1)]


def test_a_refused_repetition_is_undone():
    """Whoever refuses that it runs again has it undone without another question, and the execution fails by it."""
    tale = Tale(step("a", in_doubt="ask", on_failure="continue", critical=False))
    tale.attempt("a")
    tale.die()
    tale.put(Kind.ASKED, "a", question="rerun")
    tale.put(Kind.ANSWERED, "a", approved=False, by="ada", note="too risky")
    assert tale.turn_back() == ("a",)
    tale.undo("a")
    assert tale.end() is Status.ROLLED_BACK
    assert tale.progress.ended.data["error"].endswith("not to be run again, by ada: too risky")


def test_a_repetition_waits_for_a_place():
    """A step that a person lets run again does not run beside more than `max_parallel` allows."""
    tale = Tale(step("a", in_doubt="ask"), step("b"), max_parallel=1)
    tale.attempt("a")
    tale.die()
    tale.put(Kind.ASKED, "a", question="rerun")
    assert tale.moves() == [Begin("b", 1)]
    tale.attempt("b")
    tale.put(Kind.ANSWERED, "a", approved=True, by="ada")
    assert tale.moves() == []
    tale.put(Kind.DONE, "b", attempt=1, output=None)
    assert tale.moves() == [Begin("a", 1)]


def test_the_way_back_goes_on_after_a_crash():
    """What was undone is not undone again, what was being undone is, and the order stays."""
    tale = Tale(step("a"), step("b"), step("c"), step("d"))
    tale.done("a", "b", "c")
    tale.attempt("d")
    tale.error("d")
    assert tale.turn_back() == ("c", "b", "a")
    tale.undo("c")
    tale.put(Kind.UNDO, "b", attempt=1)
    tale.die()
    tale.undo("b")
    tale.undo("a")
    assert tale.end() is Status.ROLLED_BACK


def test_the_attempts_at_an_undoing_are_counted_on():
    """An undoing that was under way is repeated as the same attempt, so its process' death costs it none."""
    tale = Tale(step("a", retry_policy=RetryPolicy(3)), step("b"), dependencies={"b": ["a"]})
    tale.done("a")
    tale.attempt("b")
    tale.error("b")
    tale.turn_back()
    tale.put(Kind.UNDO, "a", attempt=1)
    tale.put(Kind.UNDO_ERROR, "a", attempt=1, error="OSError: busy", final=False, delay=0.0)
    assert tale.moves() == [Begin("a", 2, undo=True)]
    tale.put(Kind.UNDO, "a", attempt=2)
    tale.die()
    assert tale.moves() == [Begin("a", 2, undo=True)]


def test_the_time_away_is_not_the_steps():
    """A timeout begins anew with the process that goes on; the deadline of an approval and the plan's time do not."""
    tale = Tale(step("a", timeout=10.0), step("yes", "approval"), timeout=200)
    tale.attempt("a")
    tale.put(Kind.ASKED, "yes", question="approve", deadline=60.0)
    tale.die(away=50.0)
    assert tale.moves() == [Begin("a", 1)]
    tale.attempt("a")
    assert tale.progress.due() == 60.0
    tale.now = 59.0
    assert tale.moves() == []
    tale.die(away=141.0)
    assert tale.moves() == [Expire(), Fail("yes", "deadline")]


def test_a_cancellation_before_the_crash_still_holds():
    """A step under way in a cancelled execution is not run again after a crash, whatever its `in_doubt`."""
    tale = Tale(step("a", in_doubt="rerun"))
    tale.attempt("a")
    tale.put(Kind.CANCEL, rollback=True)
    tale.die()
    assert tale.moves() == [Fail("a", "stopped")]


def test_a_crash_between_the_records_of_one_moment():
    """An expiry, or a turn of the way, that was written before the crash is not written a second time."""
    tale = Tale(step("a"), timeout=5)
    tale.done("a")
    tale.now = 9.0
    tale.put(Kind.EXPIRED)
    tale.die()
    assert tale.turn_back() == ("a",)
    tale.die()
    tale.undo("a")
    tale.die()
    assert tale.end() is Status.ROLLED_BACK
    tale.die()
    assert tale.moves() == []


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_nothing_begins_beside_what_turns_back(order):
    """Where one step in doubt has everything undone, no other runs again only to be undone."""
    policies = {"a": "rerun", "b": "rollback"}
    tale = Tale(*(step(name, in_doubt=policies[name]) for name in order), step("c"), max_parallel=3)
    tale.attempt(*order)
    tale.die()
    assert tale.moves() == [Fail("b", "died")]
