"""Nothing of a scenario is left behind, however it ends, and nothing of it is in production."""

import asyncio
import contextlib
import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref

import pytest

from resilient import CircuitState, circuit_breaker, registry, retry
from resilient.events import HUB
from resilient.testing import (
    ErrorInjectionConfig,
    ErrorInjectionType,
    FaultProxy,
    InjectionRefusedError,
    RecoveryTestFramework,
    TestStatus,
    VirtualClock,
)
from resilient.testing.injection import ACTIVE
from resilient.wrapping import STAND_INS, Guarded

from .proxy_helpers import eventually
from .recovery_helpers import refused, scenario

ROOT = os.path.dirname(os.path.dirname(__import__("resilient").__file__))


def entry(guarded):
    """The compiled chain of a guarded function."""
    return Guarded.__dict__["__call__"].__get__(guarded)


def shape(function, depth=0):
    """What a chain consists of: the code of each layer it reaches."""
    cells = [one.cell_contents for one in getattr(function, "__closure__", None) or ()]
    inner = [shape(one, depth + 1) for one in cells if hasattr(one, "__code__") and depth < 8]
    return (getattr(function, "__code__", None), tuple(inner))


@pytest.fixture(autouse=True)
def nothing_left():
    """Fail the test that leaves anything behind: a fault, a clock, a subscription, a thread, a patched function."""
    import json

    dumps, threads, types = json.dumps, set(threading.enumerate()), _subscriptions()
    yield
    assert ACTIVE == []
    assert STAND_INS.find is None
    assert VirtualClock.in_use() is None
    assert _subscriptions() == types
    assert json.dumps is dumps
    assert eventually(lambda: set(threading.enumerate()) <= threads), threading.enumerate()


def _subscriptions():
    return {kind: len(handlers) for kind, handlers in HUB.by_type.items() if handlers}


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("outcome", ["returns", "raises", "exits", "interrupts"])
@pytest.mark.parametrize("drive", ["run", "arun"])
def test_chains_are_compiled_as_before(kind, outcome, drive):
    """Whatever the workload does, its policies are what they were, and work; what crashed it comes out itself."""
    crash = {"returns": None, "raises": ValueError, "exits": SystemExit, "interrupts": KeyboardInterrupt}[outcome]
    policy = retry(max_attempts=2, base_delay=0.0, on=OSError)
    state = {"calls": 0, "crash": crash}

    def answer():
        state["calls"] += 1
        if state["calls"] > 5 and state["crash"] is not None:
            raise state["crash"]("of the workload")
        return "answer"

    async def aanswer():
        return answer()

    call = policy(aanswer if kind == "async" else answer)
    asyncio.run(call()) if kind == "async" else call()  # the first call tells what a plain function is
    before = shape(entry(call))
    made = scenario(call, [refused(call), refused("json:dumps")])

    async def main():
        try:
            return await RecoveryTestFramework().arun_test_scenario(made)
        finally:
            assert asyncio.all_tasks() == {asyncio.current_task()}

    run = (
        (lambda: asyncio.run(main())) if drive == "arun" else (lambda: RecoveryTestFramework().run_test_scenario(made))
    )
    if outcome in ("exits", "interrupts"):
        with pytest.raises(crash):
            run()
    else:
        assert run().status is TestStatus.INCONCLUSIVE
    assert shape(entry(call)) == before
    state["crash"] = None
    assert (asyncio.run(call()) if kind == "async" else call()) == "answer"


@pytest.mark.parametrize("drive", ["run", "arun"])
@pytest.mark.parametrize("crash", [False, True])
def test_breaker_is_usable_afterwards(drive, crash):
    """A breaker that a scenario in a time of its own left open is closed: in real time it would be open for long."""
    call = circuit_breaker("payments", failure_threshold=5, recovery_timeout=3600)(lambda: "paid")
    rejected = []

    def workload():
        try:
            return call()
        except Exception as error:
            rejected.append(type(error).__name__)
            if crash and rejected.count("CircuitOpenError") > 3:
                raise SystemExit(1) from None
            raise

    framework, made = RecoveryTestFramework(), scenario(workload, refused(call))
    with pytest.raises(SystemExit) if crash else contextlib.nullcontext():
        if drive == "run":
            framework.run_test_scenario(made)
        else:
            asyncio.run(framework.arun_test_scenario(made))
    assert "CircuitOpenError" in rejected
    assert registry.circuit_breakers["payments"].state is CircuitState.CLOSED
    assert call() == "paid"


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("virtual", [True, False])
@pytest.mark.parametrize("hooks", [True, False])
def test_cancellation(kind, virtual, hooks):
    """A cancelled `arun` ends at once, its tasks and threads with it, and what was broken is mended, once."""
    told, began = [], threading.Event()
    guarded = circuit_breaker(failure_threshold=1_000_000)(lambda: "answer")

    def workload():
        if not hooks and ACTIVE:
            began.set()
        guarded()

    async def aworkload():
        workload()

    def begin():
        told.append("begin")
        began.set()

    parameters = {"begin": begin, "end": lambda: told.append("end")}
    breaking = ErrorInjectionConfig(ErrorInjectionType.CUSTOM, parameters=parameters, during=(0, 500_000))
    lasting = ErrorInjectionConfig(ErrorInjectionType.NETWORK_FAILURE, guarded, during=(0, 500_000), seed=1)
    made = scenario(
        aworkload if kind == "async" else workload,
        breaking if hooks else lasting,
        virtual_time=virtual,
        baseline=0.05,
        load=100,
        concurrency=4,
        timeout=900_000,
    )

    async def main():
        task = asyncio.create_task(RecoveryTestFramework().arun_test_scenario(made))
        await asyncio.to_thread(began.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() == {asyncio.current_task()}

    start = time.monotonic()
    asyncio.run(main())
    assert time.monotonic() - start < 10
    assert told == (["begin", "end"] if hooks else [])


def test_cancelled_while_a_fault_begins():
    """A cancellation while `begin` is at work waits for it, and then mends what it broke."""
    told, began = [], threading.Event()

    def begin():
        began.set()
        time.sleep(0.1)
        told.append("broken")

    async def workload():
        pass

    parameters = {"begin": begin, "end": lambda: told.append("mended")}
    config = ErrorInjectionConfig(ErrorInjectionType.CUSTOM, parameters=parameters)

    async def main():
        made = scenario(workload, config, virtual_time=False, baseline=0.02, load=100)
        task = asyncio.create_task(RecoveryTestFramework().arun_test_scenario(made))
        await asyncio.to_thread(began.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert told == ["broken", "mended"]


def test_results_keep_nothing_alive():
    """What a failing workload had in its frames is gone after the run, though the result is kept."""

    class Big:
        """Something that has to go."""

    seen = []

    @circuit_breaker(failure_threshold=1_000_000)
    def call():
        return None

    def workload():
        big = Big()
        seen.append(weakref.ref(big))
        call()

    result = RecoveryTestFramework().run_test_scenario(scenario(workload, refused(call)))
    gc.collect()
    assert sum(not one.ok for one in result.operations) == 10
    assert [one for one in seen if one() is not None] == []


# Real signals


SIGINT = """
import asyncio, json, sys
from resilient import circuit_breaker
from resilient.testing import *
from resilient.testing.injection import ACTIVE
from resilient.wrapping import STAND_INS

call = circuit_breaker(failure_threshold=1_000_000)(lambda: "answer")
state = {"broken": 0, "told": False}
dumps = json.dumps

def workload():
    if state["broken"] and not state["told"]:
        state["told"] = True
        print("broken", flush=True)
    call()

async def aworkload():
    workload()

hooks = {"begin": lambda: state.update(broken=1), "end": lambda: state.update(broken=2)}
configs = [
    ErrorInjectionConfig(ErrorInjectionType.CUSTOM, parameters=hooks, during=(0, 60)),
    ErrorInjectionConfig(ErrorInjectionType.NETWORK_FAILURE, call, during=(0, 60)),
    ErrorInjectionConfig(ErrorInjectionType.LATENCY, "json:dumps", during=(0, 60), parameters={"seconds": 1}),
]
kind, drive = sys.argv[1:]
made = RecoveryTestScenario(
    "x", "x", "", aworkload if kind == "async" else workload, configs, ExpectedRecoveryBehavior(),
    timeout=120, baseline=0.05, load=50, concurrency=3,
)
try:
    if drive == "run":
        made.run()
    else:
        asyncio.run(made.arun())
finally:
    clean = (ACTIVE, STAND_INS.find, json.dumps is dumps, call(), state["broken"])
    print(clean == ([], None, True, "answer", 2), clean, flush=True)
"""


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("drive", ["run", "arun"])
def test_real_interrupt(tmp_path, kind, drive):
    """Ctrl-C in the middle of a fault: all is as it was when the interrupt comes out, and the process ends by it."""
    (tmp_path / "program.py").write_text(SIGINT, "utf-8")
    command = [sys.executable, "program.py", kind, drive]
    environment = {**os.environ, "PYTHONPATH": ROOT}
    with subprocess.Popen(  # noqa: S603 - our own
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "broken\n", process.stderr.read()
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=30)
    assert out.startswith("True "), (out, errors)
    assert "KeyboardInterrupt" in errors
    assert process.returncode in (-signal.SIGINT, 130)


# Production


def test_production_is_refused_unless_said_twice(monkeypatch):
    """Where the environment says production a scenario does not run; `allow_in_production=True` means it."""
    monkeypatch.setenv("RESILIENT_ENV", "production")
    calls = []
    call = circuit_breaker(failure_threshold=1_000_000)(lambda: calls.append(1))
    made = scenario(call, refused(call))
    for run in (RecoveryTestFramework().run_test_scenario, lambda made: made.run(), lambda made: made.assert_ok()):
        with pytest.raises(InjectionRefusedError, match="allow_in_production=True"):
            run(made)
    with pytest.raises(InjectionRefusedError):
        asyncio.run(RecoveryTestFramework().arun_test_scenario(made))
    assert calls == []
    assert RecoveryTestFramework(allow_in_production=True).run_test_scenario(made).passed


def test_hooks_are_refused_in_production_too(monkeypatch):
    """Functions of the user's that break something are not called there either, nor is a proxy made."""
    monkeypatch.setenv("RESILIENT_ENV", "production")
    told = []
    config = ErrorInjectionConfig(ErrorInjectionType.CUSTOM, parameters={"begin": lambda: told.append(1)})
    with pytest.raises(InjectionRefusedError):
        RecoveryTestFramework().run_test_scenario(scenario(lambda: None, config))
    with pytest.raises(InjectionRefusedError, match="allow_in_production=True"):
        FaultProxy("127.0.0.1", 1)
    assert FaultProxy("127.0.0.1", 1, allow_in_production=True).faults == ()
    assert told == []


@pytest.mark.parametrize("asked", ["", ", allow_in_production=True"])
def test_plugin_in_production(tmp_path, asked):
    """The plugin's `chaos.inject` refuses there as well, and takes the same permission."""
    (tmp_path / "test_it.py").write_text(
        "from resilient import circuit_breaker\nfrom resilient.testing import faults\n"
        "def test_it(chaos):\n"
        "    call = circuit_breaker()(lambda: 1)\n"
        f"    chaos.inject(call, faults.Latency(0){asked})\n"
        "    assert call() == 1\n",
        "utf-8",
    )
    environment = {
        **os.environ,
        "PYTHONPATH": ROOT,
        "RESILIENT_ENV": "production",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "resilient.testing.plugin", "-p", "no:cacheprovider"]
    done = subprocess.run(  # noqa: S603 - our own
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == (0 if asked else 1), done.stdout
    assert asked or "InjectionRefusedError" in done.stdout


@pytest.mark.parametrize("code", ["import resilient", "decorated", "everything"])
def test_nothing_is_imported_in_production(code):
    """Neither the import of the package nor calls of decorated functions, sync and async, import any of this."""
    decorated = (
        "import asyncio, resilient\n"
        "from resilient import *\n"
        "call = retry(circuit_breaker('x')(timeout(1)(bulkhead(degrade(lambda: 1, fallback=2)))))\n"
        "assert call() == 1\n"
        "@retry\n@circuit_breaker('y')\n@timeout(1)\n@bulkhead\nasync def acall():\n    return 1\n"
        "assert asyncio.run(acall()) == 1\n"
        "registry.snapshot()\n"
    )
    everything = decorated + "import resilient.degradation, resilient.orchestrator, resilient.strategies\n"
    program = {"import resilient": "import resilient\n", "decorated": decorated, "everything": everything}[code]
    program += "import sys\nprint([name for name in sys.modules if name.startswith('resilient.testing')])"
    done = subprocess.run(  # noqa: S603 - our own
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")
