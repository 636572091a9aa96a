"""Monitoring: a task inside a running loop, a daemon thread elsewhere, which come and go as they should."""

import asyncio
import gc
import logging
import threading
import weakref

import pytest

from resilient import registry
from resilient.degradation import DegradationManager, DegradationMode, DegradationModeChanged

from .manager_helpers import (
    WAIT,
    AsyncService,
    Guarded,
    Service,
    Sync,
    aeventually,
    eventually,
    in_threads,
    interpreter,
    run,
)

NORMAL, PARTIAL, FULL = DegradationMode.NORMAL, DegradationMode.PARTIAL, DegradationMode.FULL


def threads():
    """The threads of monitors."""
    return [thread for thread in threading.enumerate() if thread.name == "resilient-degradation"]


def tasks():
    """The tasks of monitors in this loop."""
    return [task for task in asyncio.all_tasks() if task.get_name() == "resilient-degradation"]


@pytest.fixture
def manager():
    """Return a manager that looks often; its monitor ends with the test."""
    manager = DegradationManager(monitoring_interval=0.02, minimum_calls=2)
    yield manager
    manager.stop_monitoring()
    del manager
    gc.collect()
    eventually(lambda: not threads())


class Both:
    """The body of a test in both worlds: with a thread, and with a task in a loop."""

    def __init__(self, is_async):
        self.is_async, self.service = is_async, AsyncService if is_async else Service

    def __call__(self, body):
        """Run an async body, in a loop where monitors are tasks, or as if it were sync."""
        if self.is_async:
            return run(body(aeventually))

        async def wait(condition):
            eventually(condition)

        try:
            body(wait).send(None)
        except StopIteration as end:
            return end.value
        raise AssertionError("the body waited")

    def running(self):
        return len(tasks()) if self.is_async else len(threads())


@pytest.fixture(params=[Both(False), Both(True)], ids=["thread", "task"])
def world(request):
    """Return the world of threads and that of tasks."""
    return request.param


def test_no_need_to_monitor(manager, face):
    """Without monitoring, measurement and modes work, with each call."""
    guarded = Guarded(face, manager, "s")
    guarded.outcomes("xxx")
    assert manager.get_current_mode() is FULL
    assert not manager.monitoring
    assert not threads()


def test_opinions_without_traffic(manager, world):
    """The monitor asks services whether they want to be spared, and mode and gates follow, without any call."""
    services = [world.service(), world.service()]
    for number, service in enumerate(services):
        manager.register_service(str(number), service)

    async def body(wait):
        manager.start_monitoring()
        assert manager.monitoring
        assert world.running() == 1
        for wishes, mode in [
            ((True, False), PARTIAL),
            ((True, True), FULL),
            ((False, True), PARTIAL),
            ((0, 0), NORMAL),
        ]:
            for service, wish in zip(services, wishes, strict=True):
                service.wish = wish
            await wait(lambda mode=mode: manager.get_current_mode() is mode)
            assert [manager.is_degraded(str(number)) for number in range(2)] == [bool(wish) for wish in wishes]
        manager.stop_monitoring()

    world(body)
    assert services[0].full == 0


def test_sync_services_in_a_loop(manager):
    """The task asks sync services, too."""
    manager.register_service("s", service := Service())

    async def main():
        manager.start_monitoring()
        service.wish = True
        await aeventually(lambda: manager.is_degraded("s"))

    run(main())


def test_stop(manager, world):
    """After `stop_monitoring` nobody is asked any more; stopping twice, or without a start, is harmless."""
    manager.register_service("s", service := world.service())

    async def body(wait):
        manager.stop_monitoring()
        manager.start_monitoring()
        await wait(lambda: service.asked > 2)
        manager.stop_monitoring()
        assert not manager.monitoring
        manager.stop_monitoring()
        await wait(lambda: world.running() == 0)
        asked = service.asked
        if world.is_async:
            await asyncio.sleep(0.06)
        else:
            threading.Event().wait(0.06)
        assert service.asked == asked

    world(body)


def test_start_twice(manager, world):
    """Starting twice is starting once; after a stop it can be started again, at once."""
    manager.register_service("s", service := world.service())

    async def body(wait):
        for _ in range(3):
            manager.start_monitoring()
        assert world.running() == 1
        for _ in range(5):
            manager.stop_monitoring()
            manager.start_monitoring()
        assert manager.monitoring
        await wait(lambda: world.running() == 1)
        asked = service.asked
        await wait(lambda: service.asked > asked + 2)
        manager.stop_monitoring()
        await wait(lambda: world.running() == 0)

    world(body)


def test_start_from_many_threads(manager):
    """Sixteen threads that start and stop leave at most one monitor, and none after the last stop."""
    assert in_threads(16, lambda _: manager.start_monitoring()) == [None] * 16
    assert len(threads()) == 1

    def back_and_forth(index):
        for _ in range(20):
            manager.start_monitoring()
            manager.stop_monitoring()

    assert in_threads(16, back_and_forth) == [None] * 16
    manager.stop_monitoring()
    eventually(lambda: not threads())


def test_task_stopped_from_another_thread(manager):
    """A thread can stop the monitor of a loop, and cannot start a second one beside it."""

    async def main():
        manager.start_monitoring()
        await asyncio.to_thread(manager.start_monitoring)
        assert (len(tasks()), len(threads())) == (1, 0)
        await asyncio.to_thread(manager.stop_monitoring)
        assert not manager.monitoring
        await aeventually(lambda: not tasks())

    run(main())


def test_thread_stopped_from_a_loop(manager):
    """A loop can stop the thread of a monitor, and cannot start a second one beside it."""

    async def main():
        manager.start_monitoring()
        assert (len(tasks()), len(threads())) == (0, 1)
        manager.stop_monitoring()
        await aeventually(lambda: not threads())

    manager.start_monitoring()
    run(main())
    assert not manager.monitoring


def test_after_the_loop(manager):
    """A monitor ends with its loop; then it can be started in another loop, or as a thread."""
    manager.register_service("s", service := Service())

    async def main():
        assert not manager.monitoring
        manager.start_monitoring()
        asked = service.asked
        await aeventually(lambda: service.asked > asked)

    for _ in range(2):
        run(main())
        assert not manager.monitoring
    manager.stop_monitoring()
    run(main())
    asked = service.asked
    manager.start_monitoring()
    assert manager.monitoring
    eventually(lambda: service.asked > asked)


def test_stop_after_a_loop_that_was_only_closed(manager):
    """Stopping is harmless where the loop was closed without ending its tasks."""
    loop = asyncio.new_event_loop()

    async def main():
        manager.start_monitoring()

    loop.run_until_complete(main())
    task = next(iter(asyncio.all_tasks(loop)))
    loop.close()
    assert not manager.monitoring
    manager.stop_monitoring()
    manager.start_monitoring()
    assert manager.monitoring
    task._log_destroy_pending = False  # it was left behind on purpose
    task.get_coro().close()


def test_loop_that_goes_on_later(manager):
    """A monitor begun while the loop of another one stands still takes its place, also when that loop goes on."""
    manager.register_service("s", service := Service())
    loop = asyncio.new_event_loop()

    async def start():
        manager.start_monitoring()

    async def look():
        await asyncio.sleep(0.06)
        return len(tasks())

    loop.run_until_complete(start())
    manager.start_monitoring()
    eventually(lambda: service.asked)
    monitors = loop.run_until_complete(look())
    manager.stop_monitoring()
    loop.run_until_complete(asyncio.sleep(0.03))
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert (monitors, left) == (0, set())


def test_opinion_that_fails(manager, world, caplog):
    """A `should_degrade` that raises is logged; monitoring, and the opinions of others, go on."""
    broken, other = world.service(wish=ValueError("no idea")), world.service()
    manager.register_service("broken", broken)
    manager.register_service("other", other)

    async def body(wait):
        manager.start_monitoring()
        await wait(lambda: broken.asked > 2)
        other.wish = True
        await wait(lambda: manager.is_degraded("other"))
        broken.wish = True
        await wait(lambda: manager.is_degraded("broken"))
        assert manager.monitoring
        manager.stop_monitoring()

    world(body)
    failures = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert failures
    assert all(record.name == "resilient.degradation" and "no idea" in str(record.exc_info) for record in failures)


class Neither:
    """What has no truth value."""

    def __bool__(self):
        raise ValueError("neither yes nor no")


def test_opinion_without_truth(manager, world, caplog):
    """An opinion without a truth value does not keep others from being asked."""
    manager.register_service("broken", broken := world.service(wish=Neither()))
    manager.register_service("other", other := world.service(wish=True))

    async def body(wait):
        manager.start_monitoring()
        await wait(lambda: broken.asked > 3)
        manager.stop_monitoring()

    world(body)
    assert other.asked
    assert manager.is_degraded("other")


def test_cancelled_opinion(manager):
    """A `should_degrade` that ends as cancelled, for a task it waited for was, does not end monitoring."""

    class Waits(AsyncService):
        async def should_degrade(self):
            self.asked += 1
            task = asyncio.ensure_future(asyncio.sleep(60))
            task.cancel()
            await task

    manager.register_service("waits", service := Waits())

    async def main():
        manager.start_monitoring()
        await aeventually(lambda: service.asked)
        await asyncio.sleep(0.05)
        assert manager.monitoring
        await aeventually(lambda: service.asked > 2)

    run(main())


def test_stop_from_within(manager, world):
    """A service may stop the monitor that asks it."""
    manager.register_service("s", service := world.service())
    seen = []

    class Stops:
        def __bool__(self):
            seen.append(None)
            manager.stop_monitoring()
            return False

    service.wish = Stops()

    async def body(wait):
        manager.start_monitoring()
        await wait(lambda: seen)
        await wait(lambda: world.running() == 0)
        assert not manager.monitoring

    world(body)


def test_force_holds(manager, world):
    """A forced mode holds while the monitor looks, and what it has heard counts afterwards."""
    manager.register_service("s", service := world.service(wish=True))
    manager.register_service("t", world.service())

    async def body(wait):
        manager.start_monitoring()
        for mode in (NORMAL, FULL):
            manager.force_degradation(mode)
            asked = service.asked
            await wait(lambda asked=asked: service.asked > asked + 2)
            assert manager.get_current_mode() is mode
        manager.force_degradation(None)
        assert manager.get_current_mode() is PARTIAL
        manager.stop_monitoring()

    world(body)


def test_looking_changes_nothing_by_itself(manager, world):
    """Looks at services whose health does not change are no events."""
    services = [Guarded(Sync(), manager, name) for name in "abc"]
    services[0].outcomes("xxx")
    manager.register_service("d", asked := world.service())
    events = []

    async def body(wait):
        manager.start_monitoring()
        await wait(lambda: asked.asked > 5)
        manager.stop_monitoring()

    manager.evaluate()
    with registry.subscribe(events.append):
        world(body)
    assert events == []


def test_handler_may_call_back(manager, world):
    """A handler of an event that the monitor causes may use the manager from another thread."""
    manager.register_service("s", world.service(wish=True))
    ended = []

    def handler(event):
        thread = threading.Thread(target=lambda: (manager.get_metrics(), manager.stop_monitoring()), daemon=True)
        thread.start()
        thread.join(WAIT)
        ended.append(not thread.is_alive())

    async def body(wait):
        manager.start_monitoring()
        await wait(lambda: ended)

    with registry.subscribe(handler, DegradationModeChanged):
        world(body)
    assert ended == [True]


def test_changed_interval(manager):
    """A changed interval holds from the next look on."""
    manager.register_service("s", service := Service())
    manager.start_monitoring()
    eventually(lambda: service.asked)
    manager.configure(monitoring_interval=3600)
    threading.Event().wait(0.06)
    asked = service.asked
    threading.Event().wait(0.1)
    assert service.asked == asked


def test_shorter_interval_at_once(manager):
    """A shorter interval does not wait for the longer one to pass."""
    manager.configure(monitoring_interval=3600)
    manager.register_service("s", service := Service())
    manager.start_monitoring()
    manager.configure(monitoring_interval=0.02)
    asked = threading.Event()
    service.should_degrade = asked.set
    assert asked.wait(1)


def test_collected_manager(world):
    """A manager that nobody uses any more is collected in spite of its monitor, which ends."""

    async def body(wait):
        manager = DegradationManager(monitoring_interval=0.02)
        manager.register_service("s", world.service())
        Guarded(Sync(), manager, "t")()
        manager.start_monitoring()
        reference = weakref.ref(manager)
        assert world.running() == 1
        del manager

        def gone():
            gc.collect()
            return reference() is None

        await wait(gone)
        await wait(lambda: world.running() == 0)

    world(body)


def test_collected_manager_with_a_long_interval():
    """The thread of a collected manager ends soon, and not after its interval."""
    manager = DegradationManager(monitoring_interval=2)
    manager.start_monitoring()
    (thread,) = threads()
    del manager
    gc.collect()
    thread.join(0.5)
    alive = thread.is_alive()
    thread.join(WAIT)
    assert not alive


@pytest.mark.parametrize(
    "code",
    [
        "manager.start_monitoring()",
        "threading.Thread(target=manager.start_monitoring).start()",
        """
        async def main():
            manager.start_monitoring()
            await asyncio.sleep(0.05)
        asyncio.run(main())
        """,
        """
        class Slow(Service):
            def should_degrade(self):
                asked.set()
                time.sleep(60)
        asked = threading.Event()
        manager.configure(monitoring_interval=0.01)
        manager.register_service("slow", Slow())
        manager.start_monitoring()
        assert asked.wait(5)
        """,
        """
        manager.configure(monitoring_interval=0.001)
        manager.start_monitoring()
        time.sleep(0.1)
        """,
    ],
    ids=["thread", "from a thread", "task", "while it asks", "busy"],
)
def test_interpreter_exit(code):
    """An interpreter with a monitor at work ends promptly and silently."""
    code = "\n".join(line.removeprefix("        ") for line in code.splitlines())
    out, err, status = interpreter(
        f"manager = DegradationManager()\nmanager.register_service('s', Service())\n{code}\nprint('end')", limit=10
    )
    assert (out, err, status) == ("end", "", 0)
