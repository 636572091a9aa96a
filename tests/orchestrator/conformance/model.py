"""Random plans, carried out by executors that watch, and what must be true of them, told in the plainest way.

A step fails at its first `fails` attempts. Nothing of the engine's own thinking is in here: the rules are those of the
reference, and what cannot be known beforehand, as steps run side by side, is checked against what was seen.
"""

import asyncio
import threading
import time
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

from hypothesis import strategies as st

from resilient.orchestrator import ExecutionStatus, RecoveryPlan, RecoveryStep, RetryPolicy

COMPLETED, FAILED, ROLLED_BACK = ExecutionStatus.COMPLETED, ExecutionStatus.FAILED, ExecutionStatus.ROLLED_BACK


class Spec(NamedTuple):
    """A step as it was drawn."""

    id: str
    kind: str
    fails: int
    attempts: int
    on_failure: str
    critical: bool
    pause: float

    @property
    def works(self):
        return self.fails < self.attempts

    @property
    def turns(self):
        """How often it is tried if nothing else comes in between."""
        return min(self.fails + 1, self.attempts)

    @property
    def stops(self):
        """Whether its failure ends the whole."""
        return not self.works and self.critical and self.on_failure != "continue"

    @property
    def can_be_undone(self):
        return not self.kind.endswith("final")


@dataclass
class Drawn:
    """A plan as it was drawn: specs in the plan's order, and who needs whom."""

    specs: list[Spec]
    needs: dict[str, list[str]]
    max_parallel: int

    def plan(self):
        steps = [
            RecoveryStep(
                one.id,
                one.id,
                one.kind,
                {"fails": one.fails, "pause": one.pause},
                on_failure=one.on_failure,
                critical=one.critical,
                retry_policy=RetryPolicy(one.attempts, base_delay=0.001, backoff_multiplier=1.0),
            )
            for one in self.specs
        ]
        return RecoveryPlan("drawn", "Drawn", steps, dependencies=self.needs, max_parallel=self.max_parallel)

    def spec(self, step_id):
        return next(one for one in self.specs if one.id == step_id)


@st.composite
def plans(draw, most_parallel=4):
    number = draw(st.integers(1, 7))
    ids = [f"s{one}" for one in range(number)]
    needs = {}
    for at, step_id in enumerate(ids):
        needed = draw(st.lists(st.sampled_from(ids[:at]), unique=True, max_size=3)) if at else []
        if needed:
            needs[step_id] = needed
    specs = [
        Spec(
            step_id,
            draw(st.sampled_from(["work", "awork", "final", "afinal"])),
            draw(st.sampled_from([0, 0, 0, 0, 1, 2, 9])),
            draw(st.integers(1, 3)),
            draw(st.sampled_from(["rollback", "rollback", "stop", "continue"])),
            draw(st.sampled_from([True, True, False])),
            draw(st.sampled_from([0.0, 0.0, 0.001, 0.002])),
        )
        for step_id in ids
    ]
    return Drawn(draw(st.permutations(specs)), needs, draw(st.integers(1, most_parallel)))


class Watch:
    """Executors that note what they see: `(phase, step, attempt)`, phase is begin, good, bad or undo."""

    def __init__(self, orchestrator):
        self.seen = []
        self.most = self._inside = 0
        self._lock = threading.Lock()
        register = orchestrator.register_step_executor
        register("work", self.work, rollback=self.undo)
        register("awork", self.awork, rollback=self.aundo)
        register("final", self.work)
        register("afinal", self.awork)

    def begin(self, context):
        with self._lock:
            self._inside += 1
            self.most = max(self.most, self._inside)
            self.seen.append(("begin", context.step_id, context.attempt))

    def end(self, step, context):
        bad = context.attempt <= step.parameters["fails"]
        with self._lock:
            self._inside -= 1
            self.seen.append(("bad" if bad else "good", context.step_id, context.attempt))
        if bad:
            raise RuntimeError("as drawn")
        return context.attempt

    def work(self, step, context):
        self.begin(context)
        time.sleep(step.parameters["pause"])
        return self.end(step, context)

    async def awork(self, step, context):
        self.begin(context)
        await asyncio.sleep(step.parameters["pause"])
        return self.end(step, context)

    def undo(self, step, context):
        with self._lock:
            self.seen.append(("undo", context.step_id, context.attempt))

    async def aundo(self, step, context):
        self.undo(step, context)


class Judge:
    """Compares what was seen with what was drawn. `story` are pairs of what the journal says, and of which step."""

    def __init__(self, drawn, seen, most, found, story):
        self.drawn = drawn
        self.seen = seen
        self.most = most
        self.found = found
        self.story = story
        self.begun = {one.id: sum(what == "begin" and step == one.id for what, step, _ in seen) for one in drawn.specs}
        self.over = [(what, step) for what, step in story if what in ("done", "error") and self._is_last(what, step)]

    def _is_last(self, what, step_id):
        """Whether it was the end of the step, and not of an attempt that others followed."""
        return what == "done" or self.begun[step_id] == self.drawn.spec(step_id).turns

    def all(self):
        self.attempts()
        self.order()
        self.side_by_side()
        self.how_it_ended()
        self.way_back()

    def attempts(self):
        """Attempts are numbered, one after the other, and never more than allowed; results count them."""
        for one in self.drawn.specs:
            mine = [(what, number) for what, step, number in self.seen if step == one.id and what != "undo"]
            expected = []
            for number in range(1, self.begun[one.id] + 1):
                expected += [("begin", number), ("bad" if number <= one.fails else "good", number)]
            assert mine == expected
            assert self.begun[one.id] <= one.turns
            result = self.found.step_results.get(one.id)
            assert (0 if result is None else result.attempts) == self.begun[one.id]

    def order(self):
        """No step begins before everything it needs is over."""
        for one, needed in self.drawn.needs.items():
            if self.begun[one]:
                begin = self.seen.index(("begin", one, 1))
                for other in needed:
                    assert self.begun[other] == self.drawn.spec(other).turns
                    last = max(at for at, (what, step, _) in enumerate(self.seen) if step == other and what != "undo")
                    assert last < begin

    def side_by_side(self):
        """Never more than allowed are under way, those that wait for their next attempt included."""
        assert self.most <= self.drawn.max_parallel
        under_way = set()
        for what, step_id, number in self.seen:
            if what == "begin":
                under_way.add(step_id)
                assert len(under_way) <= self.drawn.max_parallel
            elif what == "good" or (what == "bad" and number == self.drawn.spec(step_id).turns):
                under_way.discard(step_id)

    def stopper(self):
        """The step whose failure ended the whole: the first of those that do."""
        failed = [step for what, step in self.story if what == "error"]
        last = {step: at for at, (what, step) in enumerate(self.story) if what == "error"}
        able = [one for one in failed if self.drawn.spec(one).stops and self.begun[one] == self.drawn.spec(one).turns]
        return min(able, key=last.__getitem__, default=None)

    def how_it_ended(self):
        stopper = self.stopper()
        if stopper is None:
            assert all(self.begun[one.id] == one.turns for one in self.drawn.specs)
            broken = any(not one.works and one.critical for one in self.drawn.specs)
            assert self.found.status is (FAILED if broken else COMPLETED)
            return
        back = self.drawn.spec(stopper).on_failure == "rollback"
        assert self.found.status is (ROLLED_BACK if back else FAILED)
        at = max(at for at, pair in enumerate(self.story) if pair == ("error", stopper))
        assert "attempt" not in [what for what, _ in self.story[at:]], "nothing begins after the failure"

    def way_back(self):
        """What completed is undone in the reverse order of completion, and nothing else."""
        done = [step for what, step in self.story if what == "done"]
        assert set(done) == {step for what, step, _ in self.seen if what == "good"}
        for first, second in combinations(done, 2):
            began = self.seen.index(("begin", first, 1))
            ended = self.seen.index(("good", second, self.begun[second]))
            assert began < ended, "what ended before the other began completed first"
        undone = [step for what, step, _ in self.seen if what == "undo"]
        able = [one for one in done if self.drawn.spec(one).can_be_undone]
        assert undone == (able[::-1] if self.found.status is ROLLED_BACK else [])


def predicted(drawn):
    """What is seen of a plan of which one step runs at a time: the first in the plan's order that may."""
    seen, settled, done, stopper = [], set(), [], None
    while stopper is None:
        able = (one for one in drawn.specs if one.id not in settled and settled >= set(drawn.needs.get(one.id, ())))
        one = next(able, None)
        if one is None:
            break
        for number in range(1, one.turns + 1):
            seen += [("begin", one.id, number), ("bad" if number <= one.fails else "good", one.id, number)]
        settled.add(one.id)
        done += [one] if one.works else []
        stopper = one if one.stops else None
    if stopper is None:
        broken = any(not one.works and one.critical for one in drawn.specs)
        return seen, FAILED if broken else COMPLETED
    if stopper.on_failure == "stop":
        return seen, FAILED
    return seen + [("undo", one.id, 1) for one in done[::-1] if one.can_be_undone], ROLLED_BACK
