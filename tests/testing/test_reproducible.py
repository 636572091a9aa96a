"""The same seed hits the same calls, under threads and tasks, and by the command that a failure tells."""

import os
import re
import shlex
import subprocess
import sys

import pytest

from resilient import circuit_breaker, registry
from resilient.clock import CLOCK
from resilient.testing import (
    ErrorInjectionConfig,
    ErrorInjectionType,
    ExpectedRecoveryBehavior,
    RecoveryTestFramework,
    RecoveryTestScenario,
    injection,
)

ROOT = os.path.dirname(os.path.dirname(__import__("resilient").__file__))


@pytest.fixture
def decided(monkeypatch):
    """For each place, the numbers of the calls that were drawn to be hit."""
    found = {}
    real = injection.Injection._drawn

    def spy(self, site, number):
        hit = real(self, site, number)
        if hit:
            found.setdefault(site, set()).add(number)
        return hit

    monkeypatch.setattr(injection.Injection, "_drawn", spy)
    return found


def run(kind, seed, *, virtual):
    """The result of one scenario: 8 threads or 50 tasks, whose calls take a while and overlap."""

    @circuit_breaker("sync", failure_threshold=1_000_000)
    def call():
        return "answer"

    @circuit_breaker("async", failure_threshold=1_000_000)
    async def acall():
        return "answer"

    def workload():
        CLOCK.sleep(0.02)
        return call()

    async def aworkload():
        await CLOCK.asleep(0.02)
        return await acall()

    times = {"baseline": 0.5, "fault": 2.0, "load": 100} if virtual else {"baseline": 0.05, "fault": 0.3}
    target = acall if kind == "tasks" else call
    config = ErrorInjectionConfig(ErrorInjectionType.NETWORK_FAILURE, target, error_rate=0.3)
    made = RecoveryTestScenario(
        "one",
        "a scenario",
        "",
        aworkload if kind == "tasks" else workload,
        config,
        ExpectedRecoveryBehavior(),
        concurrency=50 if kind == "tasks" else 8,
        virtual_time=virtual,
        timeout=100,
        **times,
    )
    return RecoveryTestFramework().run_test_scenario(made, seed=seed)


@pytest.mark.parametrize("kind", ["threads", "tasks"])
def test_twenty_of_twenty(kind, decided):
    """Twenty runs hit the same calls of the same places, and the same operations at the same times fail."""
    patterns, outcomes = set(), set()
    for _ in range(20):
        decided.clear()
        with registry.scoped():
            result = run(kind, 7, virtual=True)
        patterns.add(str(sorted((site, sorted(numbers)) for site, numbers in decided.items())))
        outcomes.add(tuple((one.started, one.ok) for one in result.operations))
        assert result.fired > 30
    assert len(patterns) == 1
    assert len(outcomes) == 1


@pytest.mark.parametrize("kind", ["threads", "tasks"])
def test_real_time_draws_the_same(kind, decided):
    """In real time too: whatever order threads and tasks come in, the hit numbers are those of the seed."""
    patterns = []
    for _ in range(3):
        decided.clear()
        with registry.scoped():
            result = run(kind, 7, virtual=False)
        ((_, numbers),) = decided.items()
        patterns.append((result.faults[0].calls, numbers))
    least = min(calls for calls, _ in patterns) // 2
    assert least > 10
    assert len({frozenset(one for one in numbers if one < least) for _, numbers in patterns}) == 1


def test_other_seed_other_calls(decided):
    """Two seeds hit different calls."""
    patterns = []
    for seed in (7, 8):
        decided.clear()
        with registry.scoped():
            run("threads", seed, virtual=True)
        patterns.append({site: frozenset(numbers) for site, numbers in decided.items()})
    assert patterns[0] != patterns[1]


PROGRAM = """
import sys
from resilient import circuit_breaker
from resilient.testing import *
from resilient.testing import faults, injection

hits = []
real = injection.Injection._drawn
def spy(self, site, number):
    hit = real(self, site, number)
    if hit:
        hits.append((self.seed, site, number))
    return hit
injection.Injection._drawn = spy

def scenario(name):
    one = circuit_breaker(name + " one", failure_threshold=10**6)(lambda: 1)
    two = circuit_breaker(name + " two", failure_threshold=10**6)(lambda: 2)
    configs = [
        ErrorInjectionConfig(ErrorInjectionType.NETWORK_FAILURE, call.policies[0].name, error_rate=0.3)
        for call in (one, two)
    ]
    return RecoveryTestScenario(
        name, name, "", lambda: one() + two(), configs, ExpectedRecoveryBehavior(
            success_criteria=SuccessCriteria(1.0, baseline_threshold=0.5)),
        virtual_time=True, concurrency=8, load=50, timeout=100,
    )

framework = RecoveryTestFramework()
for name in ("first", "second"):
    framework.add_scenario(scenario(name))
report = framework.run_all_tests()
with inject("first one", faults.Latency(0), rate=0.5) as alone:
    pass
hits.append(alone.seed)
print(sorted(map(str, hits)))
report.results[-1].assert_ok()
"""


def _start(folder, command):
    environment = {name: value for name, value in os.environ.items() if name != "RESILIENT_SEED"}
    done = subprocess.run(  # noqa: S602 - as a user types it into a shell
        command,
        shell=True,
        cwd=folder,
        env={**environment, "PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "AssertionError: second (second): FAILED" in done.stderr, done.stderr
    return done.stdout, done.stderr


@pytest.mark.skipif(os.name == "nt", reason="the command is one for a POSIX shell")
def test_told_command_repeats_the_failure(tmp_path):
    """A script fails and tells a command; typed into a shell, that hits the same calls of the same functions.

    So it is for the second of two scenarios with two faults each, and for an injection without any scenario.
    """
    (tmp_path / "program.py").write_text(PROGRAM, "utf-8")
    python = shlex.quote(sys.executable)
    first, errors = _start(tmp_path, f"{python} program.py 'an argument'")
    told = re.search(r"the same again: (.*)", errors).group(1)
    assert re.fullmatch(r"RESILIENT_SEED=\d+ python[\d.]* program.py 'an argument'", told)
    # The very interpreter of this test, which need not be the first on the path.
    again = re.sub(r" python[\d.]* ", lambda _: f" {python} ", told, count=1)
    seen = {_start(tmp_path, again)[0] for _ in range(2)}
    assert seen == {first}
    other, _ = _start(tmp_path, f"{python} program.py")
    assert other != first
