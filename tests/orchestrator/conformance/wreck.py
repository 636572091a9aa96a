"""What a dead process left behind, and what must be true when another has gone on with it."""

import warnings
from collections import Counter

from resilient.orchestrator import ExecutionStatus

from .helpers import until
from .plans import PLANS, Log, Workshop
from .programs import settled

LEASE = 0.2
FORWARD = ("attempt", ("done", "error", "answered"))
INTENTS = ("attempt", "undo")
BACKWARD = ("undo", ("undone", "undo_error"))


class Wrecks:
    """Makes processes that die, each in a folder of its own."""

    def __init__(self, nursery, durable, folder):
        self.nursery = nursery
        self.durable = durable
        self.folder = folder

    def start(self, name, program, plan, **job):
        """A process under way, what it shares with others, and its folder."""
        folder = self.folder / name
        kit = self.durable(folder)
        return self.another(kit, folder, program, plan, **job), kit, folder

    def another(self, kit, folder, program, plan, **job):
        """One more process on a state that is there."""
        log = str(folder / "log")
        job = {"lease": LEASE, **job}
        return self.nursery.start(program, folder, address=kit.address, log=log, plan=plan, **job)

    def run(self, name, program, plan, **job):
        """The same when it has ended."""
        child, kit, folder = self.start(name, program, plan, **job)
        child.wait()
        return child, kit, folder


class Wreck:
    """The state that a dead process left in a folder: what the journal says, and what its executors wrote."""

    def __init__(self, kit, folder):
        self.kit = kit
        self.log = Log(folder / "log")
        self.observer = kit.orchestrator()
        self.lines = self.log.lines()
        found = self.observer.history()
        self.execution_id = found[0].execution_id if found else None
        self.entries = list(self.observer.entries(self.execution_id)) if found else []

    def of(self, what):
        return [one.step_id for one in self.entries if one.what == what]

    def under_way(self, kinds):
        """Steps with an intent and no result after it."""
        begin, ends = kinds
        last = {one.step_id: one.what for one in self.entries if one.what in (begin, *ends)}
        return {step_id for step_id, what in last.items() if what == begin}

    def finish(self, plan, *arguments):
        """Take over what is there until everything has ended, as another process would; the picture at the end."""
        orchestrator = self.kit.orchestrator()
        Workshop(orchestrator, self.log)
        orchestrator.register_plan(PLANS[plan](*arguments))
        if self.execution_id is None:
            assert orchestrator.resume_pending() == []
            self.execution_id = orchestrator.start_plan(plan)
        elif not self.ended:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                taken = until(orchestrator.resume_pending, "taking over")
            assert taken == [self.execution_id]
        return settled(orchestrator, self.execution_id)

    @property
    def ended(self):
        return bool(self.of("ended"))

    def check(self, found, status):
        """Everything that holds however the process died."""
        story = self.observer.entries(self.execution_id)
        lines = self.log.lines()
        assert found.status is status, found
        assert [one.what for one in story][-1] == "ended"
        assert list(story)[: len(self.entries)] == self.entries, "what was written stays as it was"
        self._check_keys(lines)
        self._check_intents()
        self._check_forward(lines[len(self.lines) :])
        self._check_backward(story, lines, status)

    def _check_keys(self, lines):
        for one in lines:
            suffix = ":rollback" if one.phase.startswith("undo") else ""
            assert one.key == f"{self.execution_id}:{one.step}{suffix}"

    def _check_intents(self):
        """Nothing had begun that was not in the journal before."""
        written = {(one.what, one.step_id, one.data["attempt"]) for one in self.entries if one.what in INTENTS}
        begun = {"begin": "attempt", "undo-begin": "undo"}
        assert {(begun[one.phase], one.step, one.attempt) for one in self.lines if one.phase in begun} <= written

    def _check_forward(self, later):
        """Completed steps do not run again; each in doubt begins again, with the attempt it was at."""
        begun = [one for one in later if one.phase == "begin"]
        assert not {one.step for one in begun} & set(self.of("done"))
        for step_id in self.under_way(FORWARD):
            attempts = [one.data["attempt"] for one in self.entries if one.what == "attempt" and one.step_id == step_id]
            first = next(one for one in begun if one.step == step_id)
            assert first.attempt == attempts[-1]

    def _check_backward(self, story, lines, status):
        """What completed is undone in the reverse order, each once; twice only what was being undone at the death."""
        done = [one.step_id for one in story if one.what == "done"]
        undone = [one.step_id for one in story if one.what == "undone"]
        assert undone == (done[::-1] if status is ExecutionStatus.ROLLED_BACK else [])
        assert len(set(done)) == len(done)
        times = Counter(one.step for one in lines if one.phase == "undo-end")
        twice = self.under_way(BACKWARD)
        assert set(times) == set(undone)
        assert all(number == 1 or (number == 2 and step_id in twice) for step_id, number in times.items()), times
