"""Plans of any shape: order, limits, attempts, ends and ways back are those of a model that knows no engine."""

import tempfile
from pathlib import Path

from hypothesis import given, settings

from .helpers import caught, story
from .kits import memory_kit, sqlite_kit
from .model import COMPLETED, Judge, Watch, plans, predicted


def carried_out(kit, drawn, times=1):
    """What was seen, the picture at the end and the story, for each time."""
    with kit.orchestrator() as orchestrator:
        for _ in range(times):
            watch = Watch(orchestrator)
            orchestrator.register_plan(drawn.plan())
            error = caught(orchestrator.execute_plan, "drawn")
            found = orchestrator.history(limit=1)[0]
            assert (error is None) == (found.status is COMPLETED)
            yield watch, found, story(orchestrator, found.execution_id)


def judged(kit, drawn):
    for watch, found, told in carried_out(kit, drawn):
        Judge(drawn, watch.seen, watch.most, found, told).all()


def as_predicted(kit, drawn):
    expected, status = predicted(drawn)
    for watch, found, told in carried_out(kit, drawn, times=2):
        assert watch.seen == expected
        assert found.status is status
        Judge(drawn, watch.seen, watch.most, found, told).all()


@given(plans())
@settings(max_examples=200)
def test_in_memory(drawn):
    """200 plans, up to four steps side by side: everything that can be said without knowing the timing holds."""
    judged(memory_kit(None), drawn)


@given(plans())
@settings(max_examples=40)
def test_on_sqlite(drawn):
    """The same where every step is written to a disk."""
    with tempfile.TemporaryDirectory() as folder:
        judged(sqlite_kit(Path(folder)), drawn)


@given(plans(most_parallel=1))
@settings(max_examples=100)
def test_one_at_a_time_in_memory(drawn):
    """With one step at a time everything is known beforehand: what is done and undone, in which order, and how often;
    and it is the same every time."""
    as_predicted(memory_kit(None), drawn)


@given(plans(most_parallel=1))
@settings(max_examples=20)
def test_one_at_a_time_on_sqlite(drawn):
    """The same where every step is written to a disk."""
    with tempfile.TemporaryDirectory() as folder:
        as_predicted(sqlite_kit(Path(folder)), drawn)
