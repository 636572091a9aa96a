"""RecoveryTestFramework with async workloads, within event loops and without: the same verdicts as with sync ones."""

import asyncio
import functools
import threading
import time
import warnings

import pytest

from resilient import circuit_breaker, registry
from resilient.clock import CLOCK
from resilient.testing import (
    ErrorInjectionConfig,
    ErrorInjectionType,
    FaultProxy,
    RecoveryMode,
    RecoveryTestFramework,
    RecoveryTestScenario,
    SuccessCriteria,
    TestStatus,
)

from .recovery_helpers import REFUSED, refused, run, scenario


def arun(made, **options):
    """Its result, from within an event loop."""

    async def main():
        result = await RecoveryTestFramework().arun_test_scenario(made, **options)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return result

    return asyncio.run(main())


def plain():
    """An async function that some policy guards, and that is well."""

    @circuit_breaker(failure_threshold=1_000_000)
    async def call():
        return "answer"

    return call


def payments(recovery_timeout=30):
    """An async function behind a breaker."""

    @circuit_breaker("payments", failure_threshold=5, recovery_timeout=recovery_timeout)
    async def call():
        return "paid"

    return call


both = pytest.mark.parametrize("drive", [run, arun], ids=["run", "arun"])


@both
def test_recovery_time_is_exact(drive):
    """A breaker that opens at 1.4 s lets a probe through 30 s later, 29.4 s after the fault's end, in every run."""
    seen = set()
    for _ in range(5):
        with registry.scoped():
            call = payments()
            result = drive(scenario(call, refused(call)))
        assert result.passed, result.explain()
        seen.add((result.recovery_time, result.recovery_time_from_start, len(result.operations), result.fired))
    (found,) = seen
    assert found == (pytest.approx(29.4, abs=1e-6), pytest.approx(30.4, abs=1e-6), 317, 5)


@both
def test_sync_workload(drive):
    """A sync workload runs in threads, and leaves an event loop around it free."""
    threads = set()

    @circuit_breaker(failure_threshold=1_000_000)
    def call():
        threads.add(threading.get_ident())

    result = drive(scenario(call, refused(call)))
    assert result.passed, result.explain()
    assert threading.get_ident() not in threads


@both
@pytest.mark.parametrize("kind", ["lambda", "partial", "object"])
def test_what_only_turns_out_async(drive, kind):
    """Whatever returns a coroutine is awaited: a lambda, a partial, an object that is called. Nothing warns."""
    call = plain()

    class Caller:
        async def __call__(self):
            return await call()

    as_lambda = lambda: call()  # noqa: E731, PLW0108 - not known to be async
    workload = {"lambda": as_lambda, "partial": functools.partial(call), "object": Caller()}[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = drive(scenario(workload, refused(call), concurrency=3))
    assert result.passed, result.explain()
    assert {one.value for one in result.operations} == {"answer", None}
    assert (result.fired, len(result.operations)) == (10, len({one.number for one in result.operations}))


@pytest.mark.parametrize("kind", ["async", "lambda"])
def test_run_inside_a_loop_says_what_to_do(kind):
    """`run` of an async workload where a loop is running already raises, and names what to await."""
    call = plain()
    workload = call if kind == "async" else lambda: call()  # noqa: PLW0108 - not known to be async

    async def main():
        with pytest.raises(RuntimeError, match=r"await arun_test_scenario"):
            run(scenario(workload, refused(call)))

    asyncio.run(main())


@both
@pytest.mark.parametrize("virtual", [True, False])
@pytest.mark.parametrize("within", [0.05, 100.0])
def test_hung_workload_times_out(drive, virtual, within):
    """A call that never returns makes it TIMEOUT, and is cancelled."""
    call, ended = plain(), []

    async def workload():
        try:
            return await call()
        except ConnectionRefusedError:
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                ended.append("cancelled")
                raise

    made = scenario(workload, refused(call), virtual_time=virtual, within=within)
    made = RecoveryTestScenario(
        **{**_fields(made), "baseline": 0.05, "fault": 0.1, "load": 100, "timeout": 0.5},
    )
    began = time.monotonic()
    result = drive(made)
    assert time.monotonic() - began < 10
    assert result.status is TestStatus.TIMEOUT
    assert "timeout=0.5 s, 1 operation had not ended" in result.reasons[0]
    assert ended == ["cancelled"]


def _fields(made):
    import dataclasses

    return {one.name: getattr(made, one.name) for one in dataclasses.fields(made) if one.name != "_"}


def test_hung_sync_workload_times_out_in_a_loop():
    """A sync call that never returns does not keep `arun` either."""
    release = threading.Event()
    call = circuit_breaker(failure_threshold=1_000_000)(lambda: "answer")

    def workload():
        try:
            call()
        except ConnectionRefusedError:
            release.wait(30)

    made = scenario(workload, refused(call), virtual_time=False, load=100, baseline=0.1, fault=0.1, timeout=0.3)
    began = time.monotonic()
    result = arun(made)
    release.set()
    assert time.monotonic() - began < 10
    assert result.status is TestStatus.TIMEOUT


@both
def test_fifty_tasks(drive):
    """Fifty tasks share the load; slow calls of several overlap, and no operation is lost."""
    made = plain()

    async def slow():
        await CLOCK.asleep(0.9)
        return await made()

    result = drive(scenario(slow, refused(made), load=50, concurrency=50, observe=2.0))
    starts = [one.started for one in result.operations]
    assert starts == pytest.approx([n / 50 for n in range(200)], abs=1e-6)
    assert {one.number for one in result.operations} == set(range(200))


@both
@pytest.mark.parametrize("mode", [RecoveryMode.MANUAL, RecoveryMode.HYBRID])
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_recover_is_called(drive, mode, kind):
    """Somebody mends it, sync or async: at the fault's end, or by half of the time if it has not mended itself."""
    call = payments(recovery_timeout=1000)
    breaker = call.policies[0]

    async def areset():
        await asyncio.sleep(0.01)
        breaker.reset()

    recover = areset if kind == "async" else breaker.reset
    result = drive(scenario(call, refused(call), mode=mode, within=20.0, recover=recover))
    assert result.passed, result.explain()
    expected = 0.0 if mode is RecoveryMode.MANUAL else 10.0
    assert result.recovery_time == pytest.approx(expected, abs=0.200001)
    assert [one.kind for one in result.events].count("help") == 1


@both
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_failing_recover_fails(drive, kind):
    """Help that fails itself is told, and the scenario FAILED."""

    async def afail():
        raise ValueError("no spare part")

    def fail():
        raise ValueError("no spare part")

    call = payments(recovery_timeout=1000)
    recover = afail if kind == "async" else fail
    result = drive(scenario(call, refused(call), mode=RecoveryMode.MANUAL, within=5.0, recover=recover))
    assert result.status is TestStatus.FAILED
    assert "ValueError: no spare part (1 x)" in result.error_logs


@both
def test_hung_recover_times_out(drive):
    """Help that never returns is given up when the time is over."""
    call = payments(recovery_timeout=1000)

    async def recover():
        await asyncio.get_running_loop().create_future()

    result = drive(scenario(call, refused(call), mode=RecoveryMode.MANUAL, recover=recover, timeout=10))
    assert result.status is TestStatus.TIMEOUT
    assert any("recover() had not returned" in one for one in result.error_logs)


@both
def test_own_cancellation_is_a_failure(drive):
    """A workload that raises CancelledError of its own has failed, and nobody else is cancelled."""
    call = plain()

    async def workload():
        try:
            return await call()
        except ConnectionRefusedError:
            raise asyncio.CancelledError from None

    result = drive(scenario(workload, refused(call)))
    assert result.passed, result.explain()
    assert sum(isinstance(one.error, asyncio.CancelledError) for one in result.operations) == 10


def test_run_all_in_a_loop():
    """All scenarios run within the loop that is there, sync and async workloads alike."""
    framework = RecoveryTestFramework()
    one, two = plain(), circuit_breaker(failure_threshold=1_000_000)(lambda: "answer")
    for name, call in (("async", one), ("sync", two)):
        framework.add_scenario(RecoveryTestScenario(**{**_fields(scenario(call, refused(call))), "id": name}))

    async def main():
        report = await framework.arun_all_tests(seed=3)
        some = await framework.arun_test_scenarios(["sync"])
        alone = await framework.scenarios[0].arun(seed=4)
        return [(made.scenario_id, made.passed, made.seed) for made in (*report.results, *some.results, alone)]

    expected = [("async", True, 3), ("sync", True, 3), ("sync", True, 1), ("async", True, 4)]
    assert asyncio.run(main()) == expected


@pytest.mark.parametrize("kind", ["reset", "refused", "blackhole", "latency"])
def test_network(kind):
    """A proxy in the very loop of the scenario: its clients are hit in the fault phase, and nothing is left of it."""
    options = {"latency": 0.05} if kind == "latency" else {"kind": kind}
    injection_type = ErrorInjectionType.LATENCY if kind == "latency" else REFUSED

    async def main():
        server = await asyncio.start_server(_echo, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, FaultProxy("127.0.0.1", port, seed=1) as proxy:

            async def workload():
                async with asyncio.timeout(0.3):
                    reader, writer = await asyncio.open_connection(*proxy.address)
                    try:
                        writer.write(b"hello")
                        assert await reader.readexactly(5) == b"hello"
                    finally:
                        writer.close()

            config = ErrorInjectionConfig(injection_type, proxy, parameters=options)
            times = {"baseline": 0.4, "fault": 0.6, "timeout": 20, "within": 5.0}
            # A machine that is busy may be late now and then; that is not what is looked at here.
            criteria = SuccessCriteria(baseline_threshold=0.5)
            made = scenario(workload, config, criteria=criteria, virtual_time=None, load=50, **times)
            result = await RecoveryTestFramework().arun_test_scenario(made)
            assert proxy.faults == ()
            return result

    result = asyncio.run(main())
    assert result.passed, result.explain()
    hit = [one for one in result.operations if one.phase == "fault"]
    if kind == "latency":
        assert max(one.duration for one in hit) >= 0.05
    else:
        assert any(not one.ok for one in hit)


async def _echo(reader, writer):
    while data := await reader.read(100):
        writer.write(data)
    writer.close()


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_real_sockets_find_real_time(kind):
    """A workload that turns out to use real sockets is run again in real time, where that was left open."""
    import socket

    call = plain() if kind == "async" else circuit_breaker(failure_threshold=1_000_000)(lambda: "answer")

    def touch():
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))

    async def aworkload():
        touch()
        return await call()

    def workload():
        touch()
        return call()

    chosen = aworkload if kind == "async" else workload
    times = {"baseline": 0.1, "fault": 0.1, "load": 100, "timeout": 10}
    made = scenario(chosen, refused(call), virtual_time=None, within=5.0, **times)
    began = time.monotonic()
    result = run(made)
    assert result.passed, result.explain()
    assert time.monotonic() - began >= 0.2
    forced = run(RecoveryTestScenario(**{**_fields(made), "virtual_time": True}))
    assert forced.status is TestStatus.INCONCLUSIVE
