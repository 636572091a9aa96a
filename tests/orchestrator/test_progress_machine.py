"""Random plans under random fates: whatever happens, and wherever the process dies, the state follows from the records.

The machine does what a run does with each move, but nothing is carried out: outcomes, answers, cancellations, time and
crashes come as hypothesis likes. What has happened is kept a second time in plain lists, and compared.
"""

import hypothesis.strategies as st
from hypothesis import assume, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from resilient.orchestrator.model import RecoveryPlan, RecoveryStep, RetryPolicy
from resilient.orchestrator.progress import Ask, Begin, End, Expire, Fail, Progress, Stop, TurnBack, replayed
from resilient.orchestrator.records import Kind, Record
from resilient.orchestrator.steps import Phase, UndoPhase
from resilient.orchestrator.stories import ending, pictured


@st.composite
def plans(draw):
    """Up to six steps of all kinds, with dependencies on earlier ones, in an order that says nothing."""
    count = draw(st.integers(1, 6))
    names = [f"s{number}" for number in range(count)]
    steps = [
        RecoveryStep(
            name,
            name,
            "approval" if draw(st.integers(0, 4)) == 0 else "custom",
            timeout=draw(st.sampled_from([None, 5.0])),
            retry_policy=RetryPolicy(draw(st.integers(1, 3))),
            on_failure=draw(st.sampled_from(["rollback", "rollback", "stop", "continue"])),
            critical=draw(st.integers(0, 3)) > 0,
            in_doubt=draw(st.sampled_from(["rerun", "rollback", "ask"])),
        )
        for name in names
    ]
    needs = {name: draw(st.lists(st.sampled_from(names[:at]), unique=True)) if at else [] for at, name in
             enumerate(names)}  # fmt: skip
    return RecoveryPlan(
        "plan",
        "Plan",
        draw(st.permutations(steps)),
        dependencies={name: needed for name, needed in needs.items() if needed},
        timeout=draw(st.sampled_from([None, None, 12.0])),
        max_parallel=draw(st.integers(1, 3)),
    )


_WHOLE = ("started_at", "ended", "cause", "cancelled", "hurry", "targets", "applied", "results")


def picture(progress):
    """Everything a progress knows, but for what belongs to the process that runs it."""
    steps = {}
    for step_id, state in progress.steps.items():
        known = {name: value for name, value in vars(state).items() if name not in ("stopping", "undo", "step")}
        undo = state.undo
        known["undo"] = undo and {name: getattr(undo, name) for name in undo.__slots__ if name != "stopping"}
        steps[step_id] = known
    whole = {name: getattr(progress, name) for name in _WHOLE}
    ordered = {"plan": {"id": progress.plan.id}, "parameters": {}}
    return whole, steps, pictured("id", ordered, progress), progress.blocked, progress.due()


class Fates(RuleBasedStateMachine):
    """One execution, and what the world does to it."""

    @initialize(plan=plans(), data=st.data())
    def begin(self, plan, data):
        self.plan = plan
        self.undoable = data.draw(st.sets(st.sampled_from([step.id for step in plan.steps])))
        self.progress = Progress(plan)
        self.records = []
        self.now = 0.0
        self.running = {}  # (step, undo) -> why it was stopped
        self.completed = []  # step ids, in order
        self.doubtful = []
        self.undone = []
        self.began = {}  # step id -> how often its first attempt began
        self.put(Kind.SUBMITTED, None, {})
        self.put(Kind.STARTED, None, {})
        self.drive()

    # What a run does

    def put(self, kind, step_id, data):
        record = Record(kind, step_id, 1e9 + self.now, self.now, data)
        self.records.append(record)
        self.progress.apply(record)

    def drive(self):
        """Do everything that is to be done now; it must come to an end by itself."""
        for _ in range(20 + 10 * len(self.plan.steps)):
            moves = self.progress.moves(self.now, self.undoable)
            if not moves:
                return
            for move in moves:
                self.make(move)
        raise AssertionError(f"there is no end of moves at one moment: {moves}")

    def make(self, move):
        match move:
            case Begin(step_id, attempt, undo):
                self.make_attempt(step_id, attempt, undo)
            case Ask(step_id, question):
                limit = self.plan.step(step_id).timeout if question == "approve" else None
                self.put(Kind.ASKED, step_id, {"question": question, "deadline": limit and self.now + limit})
            case Stop(step_id, why, undo):
                assert self.running[step_id, undo] is None, "what was stopped is stopped again"
                self.running[step_id, undo] = why
                state = self.progress.steps[step_id]
                (state.undo if undo else state).stopping = True
            case Fail(step_id, why, undo):
                self.make_failure(step_id, why, undo)
            case Expire():
                self.put(Kind.EXPIRED, None, {})
            case TurnBack(targets):
                assert not self.running, "the way back begins while something runs"
                wanted = [*reversed(self.doubtful), *reversed(self.completed)]
                assert list(targets) == [one for one in wanted if one in self.undoable]
                self.put(Kind.ROLLBACK, None, {"targets": list(targets)})
            case End(status):
                assert not self.running, "the end comes while something runs"
                self.put(Kind.ENDED, None, ending(self.progress, status))

    def make_attempt(self, step_id, attempt, undo):
        step, state = self.plan.step(step_id), self.progress.steps[step_id]
        assert (step_id, undo) not in self.running, "it runs already"
        assert 1 <= attempt <= step.retry_policy.max_attempts
        if undo:
            assert not self.running, "the way back goes step by step"
            assert not self.progress.halted, "an undoing begins although the way back was stopped"
            assert step_id not in self.undone
        else:
            assert self.progress.targets is None
            assert step_id not in self.completed, "a completed step begins again"
            assert all(self.progress.steps[one].settled for one in self.plan.needs(step_id))
            assert self.progress.cause is None, "something begins although the execution is to end"
            assert state.phase in (Phase.WAITING, Phase.PAUSED, Phase.DOUBT)
        self.running[step_id, undo] = None
        assert undo or len(self.running) <= self.plan.max_parallel, "more run side by side than may"
        self.put(Kind.UNDO if undo else Kind.ATTEMPT, step_id, {"attempt": attempt})

    def make_failure(self, step_id, why, undo):
        state = self.progress.steps[step_id]
        if undo:
            assert why == "stopped"
            assert self.progress.halted, "an undoing is given up although nobody has stopped the way back"
            data = {"final": True, "attempt": state.undo.attempt, "error": state.undo.error or why}
            self.put(Kind.UNDO_ERROR, step_id, data)
            return
        data = {"final": True, "attempt": state.attempt, "error": state.error or why}
        data |= {
            "deadline": {"timed_out": True},
            "died": {"in_doubt": True, "must_undo": True},
            "stopped": {"in_doubt": state.in_doubt, "stopped": True},
        }[why]
        if why == "died" or (why == "stopped" and state.in_doubt and state.step.in_doubt != "rerun"):
            self.doubtful.append(step_id)
        self.put(Kind.ERROR, step_id, data)

    # What the world does

    def attempt_number(self, key):
        state = self.progress.steps[key[0]]
        return state.undo.attempt if key[1] else state.attempt

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def something_succeeds(self, data):
        self.succeed(data.draw(st.sampled_from(sorted(self.running))))
        self.drive()

    def succeed(self, key):
        (step_id, undo), why = key, self.running.pop(key)
        number = self.progress.steps[step_id].attempt
        if undo:
            self.undone.append(step_id)
            self.put(Kind.UNDONE, step_id, {"attempt": number})
        elif why in (None, "cancelled"):
            self.completed.append(step_id)
            self.put(Kind.DONE, step_id, {"attempt": number, "output": {"n": len(self.records)}})
        else:  # too late: it has happened all the same
            self.doubtful.append(step_id)
            data = {"final": True, "happened": True, "timed_out": why == "timeout", "stopped": why == "expired"}
            self.put(Kind.ERROR, step_id, {"attempt": number, "error": why, **data})

    @precondition(lambda self: self.running)
    @rule(data=st.data(), kind=st.sampled_from(["retry", "final", "happened", "doubt"]))
    def something_fails(self, data, kind):
        key = data.draw(st.sampled_from(sorted(self.running)))
        (step_id, undo), why = key, self.running[key]
        attempts = self.plan.step(step_id).retry_policy.max_attempts
        assume(kind != "retry" or (why is None and self.attempt_number(key) < attempts))
        assume(kind != "happened" or not undo)
        del self.running[key]
        said = {"attempt": self.attempt_number(key), "error": kind}
        if kind == "retry":
            said |= {"final": False, "delay": data.draw(st.sampled_from([0.0, 1.0, 4.0]))}
        else:
            in_doubt = kind == "doubt" or (why is not None and kind == "final")
            said |= {"final": True, "in_doubt": in_doubt, "happened": kind == "happened"}
            said |= {"timed_out": why == "timeout", "stopped": why in ("cancelled", "expired")}
            policy = self.plan.step(step_id).in_doubt
            if not undo and (kind == "happened" or (in_doubt and policy != "rerun")):
                self.doubtful.append(step_id)
        self.put(Kind.UNDO_ERROR if undo else Kind.ERROR, step_id, said)
        self.drive()

    def asking(self):
        return [step_id for step_id, state in self.progress.steps.items() if state.is_asking]

    @precondition(lambda self: self.asking())
    @rule(data=st.data(), approved=st.booleans())
    def somebody_decides(self, data, approved):
        self.decide(data.draw(st.sampled_from(self.asking())), approved)
        self.drive()

    def decide(self, step_id, approved):
        state = self.progress.steps[step_id]
        if state.undo is None and state.question == "approve" and approved:
            self.completed.append(step_id)
        if state.undo is None and state.question == "rerun" and not approved:
            self.doubtful.append(step_id)
        self.put(Kind.ANSWERED, step_id, {"approved": approved, "by": "ada", "note": ""})

    @precondition(lambda self: self.progress.ended is None)
    @rule(rollback=st.booleans())
    def somebody_cancels(self, rollback):
        self.put(Kind.CANCEL, None, {"reason": "", "by": "ada", "rollback": rollback})
        self.drive()

    @rule(seconds=st.sampled_from([0.5, 1.0, 5.0, 12.0]))
    def time_passes(self, seconds):
        self.now += seconds
        self.drive()

    @precondition(lambda self: self.progress.ended is None)
    @rule()
    def the_process_dies(self):
        self.progress = replayed(self.plan, self.records)
        self.running = {}
        self.put(Kind.RESUMED, None, {})
        self.drive()

    # What must be true

    @invariant()
    def the_records_tell_everything(self):
        """Whoever reads the records knows what the one knows who has lived through it, and would do the same."""
        other = replayed(self.plan, self.records)
        assert picture(other) == picture(self.progress) or self.stops_under_way()
        for step_id, state in self.progress.steps.items():
            other.steps[step_id].stopping = state.stopping
            if state.undo is not None:
                other.steps[step_id].undo.stopping = state.undo.stopping
        assert picture(other) == picture(self.progress)
        for later in (0.0, 1.0, 100.0):
            at = self.now + later
            assert other.moves(at, self.undoable) == self.progress.moves(at, self.undoable)

    @invariant()
    def the_results_are_those_of_the_steps_that_ended(self):
        settled = {step_id: state.result() for step_id, state in self.progress.steps.items() if state.settled}
        assert self.progress.results == settled

    def stops_under_way(self):
        """Only when something is due depends on what was told to end already."""
        return any(why is not None for why in self.running.values())

    @invariant()
    def something_will_happen(self):
        """Before its end, an execution works, asks, or knows when to go on."""
        if self.progress.ended is None:
            assert self.running or self.asking() or self.progress.due() is not None
        phases = [state.phase for state in self.progress.steps.values()]
        undos = [state.undo.phase for state in self.progress.steps.values() if state.undo is not None]
        assert phases.count(Phase.RUNNING) + undos.count(UndoPhase.RUNNING) == len(self.running)

    def teardown(self):
        """From wherever it is, the execution ends, as long as attempts end and people decide."""
        if not hasattr(self, "progress"):
            return
        for _ in range(40 * (1 + len(self.plan.steps))):
            if self.progress.ended is not None:
                break
            for key in list(self.running):
                self.succeed(key)
            for step_id in self.asking():
                self.decide(step_id, True)
            self.drive()
            if not self.running and not self.asking() and self.progress.ended is None:
                self.now = max(self.now, self.progress.due())
                self.drive()
        assert self.progress.ended is not None
        assert self.progress.moves(self.now + 1e6, self.undoable) == []
        if self.progress.targets is not None:
            left = [one for one in self.progress.targets if self.progress.steps[one].undo.phase not in _OVER]
            assert not left, "something that is to be undone was forgotten"


_OVER = (UndoPhase.DONE, UndoPhase.FAILED, UndoPhase.SPARED)

TestFates = Fates.TestCase
TestFates.settings = settings(max_examples=150, stateful_step_count=30)
