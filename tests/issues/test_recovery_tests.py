"""Recovery tests and injections: what was found wrong with them, each defect as the claim that holds now."""

import asyncio
import contextlib
import sys
import threading
import time
import types
from collections import Counter

import pytest
from freezegun import freeze_time

from resilient import ConfigurationError, circuit_breaker, retry
from resilient.clock import CLOCK
from resilient.retry import RetryBudget
from resilient.testing import (
    ErrorInjectionConfig,
    ErrorInjectionType,
    ExpectedRecoveryBehavior,
    RecoveryMode,
    RecoveryTestScenario,
    TestStatus,
    faults,
    inject,
)
from resilient.testing.injection import ACTIVE

REFUSED = ErrorInjectionType.NETWORK_FAILURE


def scenario(workload, config, *, mode=RecoveryMode.AUTOMATIC, within=5.0, **options):
    """A scenario with load 20."""
    expected = ExpectedRecoveryBehavior(mode, within)
    return RecoveryTestScenario("s", "s", "", workload, config, expected, **{"timeout": 60, "load": 20, **options})


def guarded():
    """A sync function and its async twin behind breakers that never open."""

    @circuit_breaker(failure_threshold=10_000)
    def call():
        return 1

    @circuit_breaker(failure_threshold=10_000)
    async def acall():
        return 1

    return call, acall


def test_an_injection_that_has_ended_hits_nobody():
    """Whoever took the function inside the block keeps a stand-in, which does nothing any more when it has ended."""
    shop = types.ModuleType("shop_of_a_test")
    exec("def price():\n    return 5", shop.__dict__)  # noqa: S102 - a module of our own
    sys.modules["shop_of_a_test"] = shop
    try:
        with inject("shop_of_a_test:price", faults.NetworkFailure()) as injection:
            taken = shop.price
            with pytest.raises(ConnectionRefusedError):
                taken()
        assert taken() == 5
        assert (injection.calls, injection.fired) == (1, 1)
    finally:
        del sys.modules["shop_of_a_test"]


def test_retries_under_way_recover_when_the_block_ends():
    """A call whose retries outlast the block meets no fault after it."""
    begun = threading.Event()

    @retry(max_attempts=100, base_delay=0.01, jitter=False, backoff="linear", max_delay=0.02)
    def call():
        return "answer"

    answers = []
    with inject(call, faults.NetworkFailure()) as injection:
        thread = threading.Thread(target=lambda: (begun.set(), answers.append(call())))
        thread.start()
        begun.wait(5)
        while injection.fired < 2:
            time.sleep(0.001)
    fired = injection.fired
    thread.join(5)
    assert answers == ["answer"]
    assert injection.fired == fired < 100


def test_what_ends_in_the_fault_is_no_bad_baseline():
    """Operations that began before the fault and met it do not make the baseline a bad one."""

    @retry(max_attempts=2, on=OSError, base_delay=0.1, name="fetch of an issue")
    def fetch():
        return 1

    def work():
        CLOCK.sleep(0.2)
        return fetch()

    config = ErrorInjectionConfig(REFUSED, "fetch of an issue", during=(0, 2))
    made = scenario(work, config, concurrency=4, baseline=1, observe=5, virtual_time=True)
    assert made.run(seed=7).status is TestStatus.PASSED


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_recover_that_hangs(kind):
    """A recover() that does not return makes it a TIMEOUT when the time is up, in both worlds."""
    call = guarded()[kind == "async"]
    release = threading.Event()
    config = ErrorInjectionConfig(REFUSED, call, max_count=2)
    made = scenario(
        call, config, mode=RecoveryMode.MANUAL, recover=lambda: release.wait(30), timeout=1, load=50, baseline=0.1
    )
    began = time.monotonic()
    result = made.run(seed=1)
    release.set()
    assert time.monotonic() - began < 15
    assert result.status is TestStatus.TIMEOUT
    assert any("recover() had not returned" in one for one in result.error_logs)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_begin_that_hangs(kind):
    """A fault whose beginning does not return makes it a TIMEOUT, and is ended all the same."""
    call = guarded()[kind == "async"]
    release, ended = threading.Event(), []
    hooks = {"begin": lambda: release.wait(30), "end": lambda: ended.append(True)}
    config = ErrorInjectionConfig(ErrorInjectionType.CUSTOM, parameters=hooks)
    began = time.monotonic()
    result = scenario(call, config, timeout=0.5, load=50, baseline=0.1).run(seed=1)
    release.set()
    assert time.monotonic() - began < 15
    assert result.status is TestStatus.TIMEOUT
    assert ended


def test_errors_that_cannot_say_what_they_are():
    """An error whose text cannot be made is a failed operation like others."""

    class BadError(Exception):
        def __str__(self):
            return self.args[0].upper()

    call, _ = guarded()

    def work():
        if call() != 1:
            return 1
        raise BadError(3)

    result = scenario(work, ErrorInjectionConfig(REFUSED, call), virtual_time=True).run(seed=1)
    assert any("BadError: (it cannot say what it is)" in one for one in result.error_logs)


def test_one_virtual_time_at_once():
    """A second scenario that would meet the virtual time of the first in another thread is refused, with the reason."""
    call, _ = guarded()
    inside, go_on = threading.Event(), threading.Event()

    def slow():
        inside.set()
        go_on.wait(20)
        return call()

    first = scenario(slow, ErrorInjectionConfig(REFUSED, call), virtual_time=True)
    results = []
    thread = threading.Thread(target=lambda: results.append(first.run(seed=1)))
    thread.start()
    assert inside.wait(10)
    with pytest.raises(RuntimeError, match="one in virtual time has to run alone"):
        scenario(call, ErrorInjectionConfig(REFUSED, call), virtual_time=True).run(seed=1)
    go_on.set()
    thread.join(30)
    assert len(results) == 1


def test_frozen_time_is_refused():
    """In time that stands still a scenario in real time would never end; it is refused, with what to do."""
    call, _ = guarded()
    made = scenario(call, ErrorInjectionConfig(REFUSED, call))
    with freeze_time("2026-01-01"), pytest.raises(ConfigurationError, match="time stands still"):
        made.run(seed=1)


def test_tasks_that_ignore_their_cancellation():
    """A workload that swallows its cancellation keeps nobody waiting, and the reasons tell of it."""
    _, acall = guarded()

    async def work():
        try:
            return await acall()
        except OSError:
            while True:
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(3600)

    began = time.monotonic()
    result = scenario(work, ErrorInjectionConfig(REFUSED, acall), timeout=1, baseline=0.2).run(seed=1)
    assert time.monotonic() - began < 20
    assert result.status is TestStatus.TIMEOUT
    assert any("ignored their cancellation" in one for one in result.reasons)


def test_the_loop_of_the_thread_stays():
    """Running an async scenario from sync code leaves the thread's own event loop where it was."""
    _, acall = guarded()
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        scenario(acall, ErrorInjectionConfig(REFUSED, acall, max_count=2), virtual_time=True).run(seed=1)
        assert asyncio.get_event_loop() is loop
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def test_missed_calls_are_left_out():
    """After a call that took long, the load goes on as it was, without all those that could not be made meanwhile."""
    call, _ = guarded()
    config = ErrorInjectionConfig(ErrorInjectionType.LATENCY, call, max_count=1, parameters={"seconds": 20})
    result = scenario(call, config, virtual_time=True, load=10, baseline=1, observe=5, within=30).run(seed=1)
    assert max(Counter(one.started for one in result.operations).values()) <= 2


def test_a_function_that_cannot_change_a_result():
    """CorruptResult never raises: where its function does, the result is what it was."""
    call, _ = guarded()
    with inject(call, faults.CorruptResult(fn=lambda value: value["missing"])):
        assert call() == 1


def test_a_block_around_what_the_fixture_injects(chaos):
    """What the fixture has put in force can be used as a block, too, which ends it."""
    call, _ = guarded()
    with (
        chaos.inject(call, faults.Custom(callable=lambda: 1 / 0), seed=7) as injection,
        pytest.raises(ZeroDivisionError),
    ):
        call()
    assert call() == 1
    assert (injection.fired, injection.seed) == (1, 7)


def test_a_budget_after_virtual_time():
    """A retry budget begins each run in virtual time as it was before, so that each run is the same."""
    budget = RetryBudget(ratio=0.1, min_per_second=0)

    @retry(max_attempts=2, on=OSError, base_delay=0.01, name="budgeted", budget=budget)
    def call():
        return 1

    config = ErrorInjectionConfig(REFUSED, "budgeted", during=(0, 20), error_rate=0.5)
    made = scenario(call, config, baseline=5, observe=25, virtual_time=True)
    results = [made.run(seed=1) for _ in range(3)]
    assert len({(one.success_rate, one.fired) for one in results}) == 1


def test_a_cancelled_error_of_a_sync_workload():
    """A CancelledError that a sync workload raises is a failed operation, as in an async one."""
    call, _ = guarded()

    def work():
        try:
            return call()
        except OSError:
            raise asyncio.CancelledError from None

    result = scenario(work, ErrorInjectionConfig(REFUSED, call), virtual_time=True).run(seed=1)
    assert sum(isinstance(one.error, asyncio.CancelledError) for one in result.operations) == result.fired > 0


def test_cancelled_twice():
    """A sync scenario in a loop that is cancelled again and again leaves no fault in force."""
    call, _ = guarded()

    def work():
        time.sleep(0.1)
        return call()

    async def main():
        task = asyncio.create_task(scenario(work, ErrorInjectionConfig(REFUSED, call), baseline=0.1).arun(seed=1))
        await asyncio.sleep(0.15)
        for _ in range(5):
            task.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert ACTIVE == []
    assert call() == 1


def test_threads_and_tasks_see_the_same():
    """The same scenario has the same operations at the same moments in threads and in tasks."""

    def seen(call):
        config = ErrorInjectionConfig(ErrorInjectionType.LATENCY, call, during=(0, 2), parameters={"seconds": 0.1})
        result = scenario(call, config, virtual_time=True, baseline=1, observe=3).run(seed=1)
        return [(one.started, one.ended) for one in result.operations]

    call, acall = guarded()
    assert seen(call) == seen(acall)


def test_somebody_else_puts_back(monkeypatch):
    """An injection that ends leaves alone what somebody else has put in the function's place meanwhile."""
    shop = types.ModuleType("shop_of_two")
    exec("def price():\n    return 5", shop.__dict__)  # noqa: S102 - a module of our own
    monkeypatch.setitem(sys.modules, "shop_of_two", shop)
    original = shop.price
    with pytest.MonkeyPatch.context() as other:
        other.setattr(shop, "price", lambda: 2)
        injection = inject("shop_of_two:price", faults.NetworkFailure())
        injection.__enter__()
    injection.remove()
    assert shop.price is original
