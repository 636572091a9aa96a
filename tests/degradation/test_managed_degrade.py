"""Functions decorated with `@degrade(manager=..., service=...)`."""

import asyncio
import contextlib
import gc
import itertools
import weakref

import pytest

from resilient import DegradationError, Pipeline, circuit_breaker, degrade, registry, retry
from resilient.degradation import DegradationManager, DegradationMode, ServiceHealthChanged

from .manager_helpers import Guarded, Sync, drive, outcome, run

NORMAL, PARTIAL, FULL = DegradationMode.NORMAL, DegradationMode.PARTIAL, DegradationMode.FULL
QUICK = {"minimum_calls": 2, "window_size": 10}


@pytest.fixture
def manager():
    """Return a manager that degrades after few errors."""
    return DegradationManager(**QUICK)


def break_service(guarded, calls=5):
    for _ in range(calls):
        guarded(ConnectionError())


# Names


def test_service_name(manager, face):
    """The service is known by the name given, else by the policy's, else by the function's."""
    degrade(fallback=1, manager=manager, service="given")(face.function(lambda: 1))
    degrade(fallback=1, manager=manager, name="policy")(face.function(lambda: 1))

    def function():
        """A function with a name."""

    degrade(fallback=1, manager=manager)(function)
    assert manager.services[:2] == ("given", "policy")
    assert manager.services[2].endswith("function")


def test_functions_share_a_service(manager, face):
    """Functions that name the same service are measured and spared together; others are not."""
    one, two, other = (Guarded(face, manager, name) for name in ("same", "same", "other"))
    break_service(one)
    assert two() == "spared"
    assert other() == "real"
    assert manager.get_current_mode() is PARTIAL


def test_decorated_function_is_not_executed_by_name(manager, face):
    """`execute_service` refuses the name of a decorated function, saying what to do."""
    Guarded(face, manager, "s")
    with pytest.raises(TypeError, match="call the function"):
        manager.execute_service("s")
    with pytest.raises(TypeError, match="call the function"):
        drive(manager.aexecute_service("s"))


def test_function_and_object_share_a_service(manager, face):
    """A decorated function and a registered object of one name are one service."""
    service, guarded = face.service(), Guarded(face, manager, "s")
    manager.register_service("s", service)
    break_service(guarded)
    assert face.execute(manager, "s")[0] == "degraded"
    assert manager.services == ("s",)


# Calls


def test_sparing(manager, face, virtual):
    """A failed call is answered by the fallback; a degraded service is spared; a healthy one is not."""
    guarded = Guarded(face, manager, "s")
    assert guarded.outcomes("..xx") == ["real", "real", "spared", "spared"]
    guarded.outcomes("xxx")
    real = guarded.real
    assert guarded() == "spared"
    assert guarded.real == real
    for _ in range(500):
        virtual.now += 0.1
        guarded()
    assert [guarded() for _ in range(20)] == ["real"] * 20


def test_fallback_of_a_spared_call(manager, face):
    """A fallback for a spared call gets the arguments, and None as error, for there was none."""
    seen = []

    def fallback(*args, error, **kwargs):
        seen.append((args, kwargs, error))
        return "spared"

    guarded = degrade(fallback=fallback, manager=manager, service="s")(face.function(lambda *args, **kwargs: 1 // 0))
    assert face.call(guarded, 1, two=2) == "spared"
    assert seen[0][:2] == ((1,), {"two": 2})
    assert type(seen[0][2]) is ZeroDivisionError
    manager.force_degradation(FULL)
    assert face.call(guarded, 1, two=2) == "spared"
    assert seen[1] == ((1,), {"two": 2}, None)


def test_cached_answer_of_a_spared_call(manager, face):
    """A spared call gets the last good answer from the cache, and only then the fallback."""
    calls = itertools.count()
    guarded = degrade(fallback="spared", cache={}, manager=manager, service="s")(face.function(lambda of: next(calls)))
    assert face.call(guarded, "a") == 0
    manager.force_degradation(FULL)
    assert face.call(guarded, "a") == 0
    assert face.call(guarded, "b") == "spared"
    assert next(calls) == 1


def test_without_any_answer(manager, face):
    """With nothing to answer with, an error arrives itself, and is counted all the same."""
    guarded, error = Guarded(face, manager, "s", fallback=...), ConnectionError()
    assert outcome(guarded, error) is error
    assert manager.get_metrics().services["s"].calls == 1


def test_both_ways_failed(manager, face):
    """When the fallback of a spared call fails, DegradationError says so."""
    guarded = Guarded(face, manager, "s", fallback=lambda: 1 // 0)
    manager.force_degradation(FULL)
    with pytest.raises(DegradationError) as caught:
        guarded()
    assert type(caught.value.__cause__) is ZeroDivisionError
    assert guarded.real == 0


def test_forced_full_with_every_place_for_fallbacks_taken(manager):
    """Full by force means no real call, also where `fallback_limit` leaves no place for a fallback."""
    calls, inner = [], []

    def fallback():
        if not inner:
            inner.append(None)
            inner.append(outcome(guarded))
        return "spared"

    guarded = degrade(fallback=fallback, fallback_limit=1, manager=manager, service="s")(lambda: calls.append(None))
    manager.force_degradation(FULL)
    assert guarded() == "spared"
    assert calls == []


# What counts


def test_errors_outside_on_count_as_nothing(manager, face):
    """An error outside `on=` passes and is neither an error nor a success of the service."""
    guarded = Guarded(face, manager, "s", on=ConnectionError)
    for _ in range(10):
        assert type(outcome(guarded, LookupError())) is LookupError
    assert manager.get_metrics().services["s"].calls == 0
    break_service(guarded)
    calls = manager.get_metrics().services["s"].calls
    for _ in range(10):
        outcome(guarded, LookupError())
    assert manager.get_metrics().services["s"].calls == calls


@pytest.mark.parametrize("error", [asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_cancellation_counts_as_nothing(manager, face, error):
    """Cancellation and interrupts pass, and say nothing about the service, whatever `on=` says."""
    for on in (Exception, BaseException, lambda _: True):
        guarded = Guarded(face, manager, "s", on=on)
        for _ in range(5):
            assert type(outcome(guarded, error())) is error
    assert manager.get_metrics().services["s"].calls == 0
    assert not manager.is_degraded("s")


def test_cancelled_task(manager):
    """A task cancelled while its call runs counts as nothing and ends as cancelled."""
    guarded = degrade(fallback="spared", manager=manager, service="s")(asyncio.sleep)

    async def main():
        tasks = [asyncio.ensure_future(guarded(60)) for _ in range(10)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(one) for one in run(main())] == [asyncio.CancelledError] * 10
    assert manager.get_metrics().services["s"].calls == 0


def test_predicate_that_raises(manager, face):
    """A predicate for `on=` that raises leaves the manager as it was."""

    def on(error):
        raise ValueError("predicate")

    guarded = Guarded(face, manager, "s", on=on)
    assert type(outcome(guarded, ConnectionError())) is ValueError
    assert manager.get_metrics().services["s"].calls == 0
    assert guarded() == "real"


class Late:
    """Calls of one service that have begun, and end when told how."""

    def __init__(self, manager):
        @degrade(fallback="spared", manager=manager, service="s")
        async def function():
            await self._pause()

        self.function = function

    class _Pause:
        def __await__(self):
            yield

    _pause = _Pause

    def begin(self, count):
        calls = [self.function() for _ in range(count)]
        for call in calls:
            call.send(None)
        return calls

    def end(self, calls, error=None):
        for call in calls:
            with contextlib.suppress(StopIteration):
                call.send(None) if error is None else call.throw(error)


def test_late_successes_are_dropped(manager):
    """Successes of calls that began before the service was degraded change neither rates nor health."""
    late = Late(manager)
    calls = late.begin(100)
    late.end(late.begin(5), ConnectionError())
    before = manager.get_metrics().services["s"]
    assert before.degraded
    late.end(calls)
    assert manager.get_metrics().services["s"] == before


def test_late_errors_are_dropped(manager, virtual):
    """Errors of calls that began before the service was degraded and recovered do not degrade it again."""
    late, steady = Late(manager), Guarded(Sync(), manager, "s")
    calls = late.begin(100)
    break_service(steady)
    assert manager.is_degraded("s")
    before = manager.get_metrics().services["s"]
    late.end(calls[:50], ConnectionError())
    assert manager.get_metrics().services["s"] == before
    for _ in range(500):
        virtual.now += 0.1
        steady()
    before = manager.get_metrics().services["s"]
    assert not before.degraded
    late.end(calls[50:], ConnectionError())
    assert manager.get_metrics().services["s"] == before


def test_late_successes_do_not_recover(manager, face, virtual):
    """After many late successes a service that still fails stays degraded at its next real call."""
    late, steady = Late(manager), Guarded(face, manager, "s")
    calls = late.begin(100)
    break_service(steady)
    late.end(calls)
    real = steady.real
    while steady.real == real:
        virtual.now += 1
        steady()
    assert manager.is_degraded("s"), "healthy after one success"


def test_streams(manager, face):
    """A generator that fails before its first item is an error of its service, and spared like any call."""

    @degrade(fallback=["spared"], manager=manager, service="sync")
    def stream(fails):
        if fails:
            raise ConnectionError
        yield "real"

    @degrade(fallback=["spared"], manager=manager, service="async")
    async def astream(fails):
        if fails:
            raise ConnectionError
        yield "real"

    async def items(fails):
        return [item async for item in astream(fails)]

    for name, read in (("sync", lambda fails: list(stream(fails))), ("async", lambda fails: drive(items(fails)))):
        assert read(False) == ["real"]
        assert [read(True) for _ in range(5)] == [["spared"]] * 5
        assert manager.is_degraded(name)
        assert read(False) == ["spared"]


def test_methods(manager, face):
    """Instances share the service of their method, and none is kept alive."""

    class Client:
        @degrade(fallback="spared", manager=manager, service="s")
        def get(self, fails):
            if fails:
                raise ConnectionError
            return "real"

    one, two = Client(), Client()
    for _ in range(5):
        one.get(True)
    assert two.get(False) == "spared"
    reference = weakref.ref(one)
    del one
    gc.collect()
    assert reference() is None


def test_among_other_policies(manager, face):
    """Around a retry and a breaker, the whole call counts once."""
    pipeline = Pipeline(
        degrade(fallback="spared", manager=manager, service="s"),
        retry(max_attempts=3, base_delay=0),
        circuit_breaker("b", failure_threshold=100),
    )
    calls = []

    def body():
        calls.append(None)
        raise ConnectionError

    guarded = pipeline(face.function(body))
    assert face.call(guarded) == "spared"
    assert len(calls) == 3
    assert manager.get_metrics().services["s"].calls == 1


def test_call_through_the_policy(manager, face):
    """`policy.call` and `policy.acall` are measured and spared like decorated functions."""
    policy = degrade(fallback="spared", manager=manager, service="s")

    def fail():
        raise ConnectionError

    def call(body):
        if isinstance(face, Sync):
            return policy.call(body)
        return drive(policy.acall(face.function(body)))

    assert [call(fail) for _ in range(5)] == ["spared"] * 5
    assert manager.is_degraded("s")
    assert call(lambda: "real") == "spared"


# Living with the registry


def test_disabled(manager, face):
    """Inside `registry.disabled()` calls pass through, unmeasured and unspared; afterwards the health is as before."""
    guarded = Guarded(face, manager, "s")
    break_service(guarded)
    before, error = manager.get_metrics(), ConnectionError()
    with registry.disabled():
        assert [guarded() for _ in range(5)] == ["real"] * 5
        assert outcome(guarded, error) is error
    assert manager.get_metrics() == before
    assert guarded() == "spared"


def test_reconfigured(manager, face):
    """A live change of the policy keeps the health of its service."""
    guarded = Guarded(face, manager, "s", name="policy")
    break_service(guarded)
    before = manager.get_metrics()
    registry.configure("degrade", "policy", fallback="otherwise")
    assert manager.get_metrics() == before
    assert guarded() == "otherwise"


def test_unregistered_while_degraded(manager, face, virtual):
    """A function whose service was forgotten while degraded is not spared for ever: when it works, it is called."""
    guarded = Guarded(face, manager, "s")
    break_service(guarded)
    manager.unregister_service("s")
    for _ in range(1000):
        virtual.now += 0.1
        guarded()
    assert [guarded() for _ in range(20)] == ["real"] * 20


def test_unregistered_under_force(manager, face):
    """A function whose service was forgotten under force is not spared after the force has ended."""
    guarded = Guarded(face, manager, "s")
    manager.force_degradation(FULL)
    manager.unregister_service("s")
    manager.force_degradation(None)
    assert [guarded() for _ in range(20)] == ["real"] * 20


def test_errors_are_not_kept_alive(manager, face):
    """Neither the manager nor its service keeps an exception of a call."""

    class Marked(Exception):
        pass

    guarded, references = Guarded(face, manager, "s"), []
    for _ in range(5):
        error = Marked()
        references.append(weakref.ref(error))
        guarded(error)
    guarded()
    del error
    gc.collect()
    assert [reference() for reference in references] == [None] * 5


# Managers of others


class Foreign:
    """A manager that has nothing but the two methods."""

    def __init__(self):
        self.degraded, self.records = False, []

    def is_degraded(self, service):
        return self.degraded

    def record(self, service, ok):
        self.records.append((service, ok))


class Failing(Foreign):
    """One whose bookkeeping is down."""

    def is_degraded(self, service):
        raise OSError("the manager is down")

    def record(self, service, ok):
        raise OSError("the manager is down")


def test_foreign_manager_that_fails(face, caplog):
    """What a foreign manager raises is logged, and does not break a good call."""
    guarded = Guarded(face, Failing(), "s")
    assert guarded.outcomes(".x") == ["real", "spared"]
    assert "the manager is down" in caplog.text


class Unrelated(Foreign):
    """One with something else that is called `health`."""

    health = "fine"


@pytest.mark.parametrize("kind", [Foreign, Unrelated])
def test_foreign_manager(face, kind):
    """Any object with `is_degraded` and `record` is asked before each call, and told of each outcome."""
    foreign = kind()
    guarded = Guarded(face, foreign, "s", on=ConnectionError)
    assert guarded.outcomes(".x") == ["real", "spared"]
    assert type(outcome(guarded, LookupError())) is LookupError
    assert foreign.records == [("s", True), ("s", False)]
    foreign.degraded = True
    assert guarded() == "spared"
    assert guarded.real == 3
    assert len(foreign.records) == 2


def test_foreign_manager_in_front_of_ours(manager, face):
    """Our manager behind somebody's two methods works the same: `is_degraded` and `record` are enough."""

    class Front:
        def is_degraded(self, service):
            return manager.is_degraded(service)

        def record(self, service, ok):
            manager.record(service, ok)

    guarded, events = Guarded(face, Front(), "s"), []
    with registry.subscribe(events.append, ServiceHealthChanged):
        break_service(guarded)
    assert [event.degraded for event in events] == [True]
    assert guarded() == "spared"


@pytest.mark.parametrize("broken", [object(), type("Half", (), {"record": lambda *_: None})()])
def test_what_is_no_manager(broken):
    """An object without the two methods is refused, naming the missing one."""
    with pytest.raises(TypeError, match="is_degraded"):
        degrade(fallback=1, manager=broken)
