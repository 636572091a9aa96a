"""What injected faults cost: nothing where there are none, and some time on every call where there are."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from contextlib import ExitStack
from types import FrameType
from typing import Any

from resilient.testing import faults, inject

from . import loops
from .candidates import four
from .harness import Case, Effort, Row
from .harness import measure as run

SECTION = "testing"
OFF = "faults injected before, none now: instructions more than without"
ON = "faults may be injected, 10 % of calls are drawn"


def instructions(function: Callable[[], object]) -> int:
    """How many instructions of the interpreter a call executes; exact, unlike a time."""
    count = 0

    def step(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return step

    before = sys.gettrace()
    sys.settrace(step)
    try:
        function()
    finally:
        sys.settrace(before)
    return count


def difference() -> int:
    """How many more instructions a call executes after faults have been injected and taken away again."""
    guarded = four()(loops.bare())
    for _ in range(100):  # the first calls compile and specialise
        guarded(1)
    instructions(lambda: guarded(1))  # CPython 3.12 counts too few the first time, after another tracer
    never = instructions(lambda: guarded(1))
    with inject(guarded, faults.Latency(0), rate=0.5, seed=1):
        guarded(1)
    for _ in range(100):
        guarded(1)
    instructions(lambda: guarded(1))
    return instructions(lambda: guarded(1)) - never


def measure(judged: str, effort: Effort, rng: random.Random, wanted: Callable[[str], bool]) -> list[Row]:
    """The two rows."""
    rows = []
    if wanted(f"{SECTION}/{OFF}/{judged}"):
        rows.append(Row(SECTION, OFF, judged, "calls never injected", difference(), 0, unit="instructions"))
    if wanted(f"{SECTION}/{ON}/{judged}"):
        with ExitStack() as stack:
            on, off = four()(loops.bare()), four()(loops.bare())
            stack.enter_context(inject(on, faults.Latency(0), rate=0.1, seed=1))
            case = Case(SECTION, ON, judged, loops.call(on), lambda: on(1), 1, {"the same without": None})
            rows += run([case], {"the same without": loops.call(off)}, effort, rng)
    return rows
