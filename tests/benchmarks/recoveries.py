"""What the journal of a recovery costs: time for each step beside DBOS on SQLite, and memory when all is over."""

from __future__ import annotations

import gc
import logging
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from resilient.orchestrator import MemoryJournal, RecoveryOrchestrator, RecoveryPlan, RecoveryStep, SqliteJournal

from .harness import Row, paired

PATTERN = "20 steps in a chain, journal on SQLite"
KEPT = "a finished execution of 3 steps"
STEPS = 20
RIVAL = "dbos"

Run = Callable[[], object]


def chain(steps: int) -> RecoveryPlan:
    """Steps that do nothing, one after the other."""
    ids = [f"step-{number}" for number in range(steps)]
    needs = dict(zip(ids[1:], ([one] for one in ids), strict=False))
    return RecoveryPlan("chain", "A chain", [RecoveryStep(one, one, "nothing") for one in ids], dependencies=needs)


def orchestrator(journal: Any, steps: int) -> RecoveryOrchestrator:
    made = RecoveryOrchestrator(journal)
    made.register_step_executor("nothing", lambda step, context: None)
    made.register_plan(chain(steps))
    return made


@contextmanager
def ours(folder: Path) -> Iterator[Run]:
    """Our engine, with its journal in a file."""
    with orchestrator(SqliteJournal(folder / "recovery.db"), STEPS) as made:
        yield lambda: made.execute_plan("chain")


@contextmanager
def dbos(folder: Path) -> Iterator[Run]:
    """The same with DBOS, as its documentation sets it up for SQLite."""
    lib: Any = import_module("dbos")
    logging.getLogger("dbos").setLevel(logging.CRITICAL)
    config = {
        "name": "benchmark",
        "system_database_url": f"sqlite:///{folder / 'dbos.sqlite'}",
        "run_admin_server": False,
    }
    lib.DBOS(config=config | {"log_level": "CRITICAL"})

    @lib.DBOS.step()  # type: ignore[untyped-decorator]
    def nothing(number: int) -> None:
        return None

    @lib.DBOS.workflow()  # type: ignore[untyped-decorator]
    def flow() -> None:
        for number in range(STEPS):
            nothing(number)

    lib.DBOS.launch()
    try:
        yield flow
    finally:
        lib.DBOS.destroy()


def measure(judged: str, rounds: int, executions: int, wanted: Callable[[str], bool]) -> list[Row]:
    """A row of time for each that is installed, and one of memory for each journal of ours."""
    rows = []
    if wanted(f"recovery/{PATTERN}/{judged}"):
        rows += _overhead(judged, rounds)
    for name, limit in (("MemoryJournal", 16 * 1024), ("SqliteJournal", 128)):
        pattern = f"{KEPT}, {name}"
        if wanted(f"memory/{pattern}/{judged}"):
            size = kept(name, executions)
            rows.append(Row("memory", pattern, judged, f"{executions:,} executions", size, limit, unit="B"))
    return rows


def _overhead(judged: str, rounds: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        runs = {judged: stack.enter_context(ours(Path(place)))}
        try:
            runs[RIVAL] = stack.enter_context(dbos(Path(place)))
        except ImportError:
            logging.getLogger(__name__).warning("dbos is not installed")
        times: dict[str, list[float]] = {name: [] for name in runs}
        for number in range(rounds + 2):
            for name in sorted(runs, reverse=bool(number % 2)):
                start = perf_counter()
                runs[name]()
                if number >= 2:  # the first ones warm up
                    times[name].append(perf_counter() - start)
    reference = times.get(RIVAL, times[judged])
    rows = []
    for name, spent in times.items():
        low, middle, high = paired(spent, reference)
        limit = 1.0 if name == judged and RIVAL in times else None
        step = median(spent) / STEPS * 1e6
        against = RIVAL if RIVAL in times else name
        row = Row(
            "recovery",
            PATTERN,
            name,
            against,
            middle,
            limit,
            low=low,
            high=high,
            absolute=step,
            absolute_unit="us a step",
        )
        rows.append(row)
    return rows


def kept(journal: str, executions: int) -> float:
    """Bytes that stay for each execution that has ended."""
    with tempfile.TemporaryDirectory() as place:
        made = MemoryJournal() if journal == "MemoryJournal" else SqliteJournal(Path(place) / "recovery.db")
        with orchestrator(made, 3) as engine:
            for _ in range(20):
                engine.execute_plan("chain")
            tracemalloc.start()
            try:
                gc.collect()
                before = tracemalloc.get_traced_memory()[0]
                for _ in range(executions):
                    engine.execute_plan("chain")
                gc.collect()
                return (tracemalloc.get_traced_memory()[0] - before) / executions
            finally:
                tracemalloc.stop()
