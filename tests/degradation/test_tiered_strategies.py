"""What a tiered timeout does when the last try has failed: each strategy, sync and async."""

import asyncio
import gc
import socket
import threading
import weakref

import pytest

from resilient import CircuitOpenError, ConfigurationError, DegradationError, circuit_breaker, degrade, registry, retry
from resilient.degradation.events import CallQueued
from resilient.degradation.queues import MemoryQueue, QueuedCall, QueueFullError, Receipt, RedisQueue, SqliteQueue
from resilient.degradation.tiered import FallbackStrategy, TieredTimeout, TimeoutTier
from resilient.events import FallbackFailed, FallbackServed

from .queue_helpers import WAIT, eventually, jobs

SMALL = TimeoutTier("small", 5, 1, 1.0)


def tiered(strategy, **options):
    return TieredTimeout(strategy, **options).add_tier(SMALL)


class Face:
    """Both ways to guard a body: `guard(tiers, body)` gives a sync function to call."""

    def __init__(self, is_async):
        self.is_async = is_async

    def guard(self, policy, body):
        if not self.is_async:

            @policy
            def call(*args, **kwargs):
                return body(*args, **kwargs)

            return call

        @policy
        async def acall(*args, **kwargs):
            return body(*args, **kwargs)

        return lambda *args, **kwargs: asyncio.run(_await(acall(*args, **kwargs)))

    def path(self, body):
        """A degraded path of the same colour."""
        if not self.is_async:
            return body

        async def path(*args, **kwargs):
            return body(*args, **kwargs)

        return path


async def _await(awaitable):
    return await asyncio.wait_for(awaitable, WAIT)


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def face(request):
    """Return the sync or the async face."""
    return Face(request.param)


class Body:
    """Answer with its arguments, or fail while `down`."""

    def __init__(self, down=False):
        self.down, self.made = down, 0

    def __call__(self, *args, **kwargs):
        self.made += 1
        if self.down:
            raise ConnectionError(self.made)
        return (*args, *kwargs.items())


# Best effort


def test_best_known_answer(face):
    """BEST_EFFORT serves the last good answer of the same call, and else lets the last error pass."""
    body, told = Body(), []
    call = face.guard(tiered(FallbackStrategy.BEST_EFFORT)("small"), body)
    assert (call(1), call(2, x=3)) == ((1,), (2, ("x", 3)))
    body.down = True
    with registry.subscribe(told.append, FallbackServed):
        assert (call(1), call(2, x=3)) == ((1,), (2, ("x", 3)))
    assert [event.source for event in told] == ["cache", "cache"]
    for args in ((True,), (1.0,), (3,)):
        with pytest.raises(ConnectionError):
            call(*args)


def test_default_is_not_remembered(face):
    """A default is served where there is no good answer, None too, and is never remembered as one."""
    body = Body(down=True)
    tiers = tiered(FallbackStrategy.BEST_EFFORT, default=None)
    call = face.guard(tiers("small"), body)
    assert call(1) is None
    assert len(tiers.answers) == 0
    body.down = False
    assert call(1) == (1,)
    body.down = True
    assert (call(1), call(2)) == ((1,), None)


def test_answers_are_bounded(face):
    """So many answers are remembered, over all functions, the latest used ones."""
    body = Body()
    tiers = tiered(FallbackStrategy.BEST_EFFORT, max_answers=2)
    call, other = face.guard(tiers("small"), body), face.guard(tiers("small"), body)
    for made in (call(1), call(2), other(1)):
        assert made
    assert len(tiers.answers) == 2
    body.down = True
    assert (call(2), other(1)) == ((2,), (1,))
    with pytest.raises(ConnectionError):
        call(1)


@pytest.mark.parametrize(
    "around",
    [lambda: tiered(FallbackStrategy.BEST_EFFORT)("small"), lambda: degrade(cache={})],
    ids=["tiers", "degrade"],
)
@pytest.mark.parametrize(
    "within",
    [
        lambda: degrade(fallback="spare"),
        lambda: tiered(FallbackStrategy.BEST_EFFORT, default="spare")("small"),
        lambda: tiered(FallbackStrategy.GRACEFUL_DEGRADATION, degraded=lambda: "spare")("small"),
        lambda: tiered(FallbackStrategy.QUEUE_AND_RETRY, queue=Spare())("small"),
    ],
    ids=["degrade", "best effort", "graceful", "queue"],
)
def test_answers_of_others_are_not_remembered(around, within, face):
    """What a fallback, a default, a degraded path or a queue gives is not taken for an answer further out."""
    body, switch = Body(down=True), circuit_breaker("switch")
    call = face.guard(lambda fn: around()(switch(within()(fn))), body)
    assert call() == "spare"
    switch.isolate()
    with pytest.raises(CircuitOpenError):
        call()
    switch.reset()
    body.down = False
    assert call() == ()
    switch.isolate()
    assert call() == ()


def test_answers_of_others_are_not_remembered_across_tiers(face):
    """What is further in tells the next cache, and that one the next; a function executed may be guarded itself."""
    body, switch = Body(down=True), circuit_breaker("switch")

    def stack(fn):
        best = tiered(FallbackStrategy.BEST_EFFORT)("small")
        return degrade(cache={})(switch(best(degrade(fallback="spare")(fn))))

    call = face.guard(stack, body)
    assert call() == "spare"
    switch.isolate()
    with pytest.raises(CircuitOpenError):
        call()


def test_executed_fallbacks_are_not_remembered(face):
    """What a guarded function answers with when it fails is not taken for its answer by `execute`."""
    tiers, body = tiered(FallbackStrategy.BEST_EFFORT, default="default"), Body(down=True)

    class Service:
        @degrade(fallback="spare", on=ConnectionError)
        def call(self):
            return body()

        @degrade(fallback="spare", on=ConnectionError)
        async def acall(self):
            return body()

    service = Service()

    def execute():
        if face.is_async:
            return asyncio.run(_await(tiers.aexecute("small", service.acall)))
        return tiers.execute("small", service.call)

    assert execute() == "spare"
    assert len(tiers.answers) == 0
    body.down = False
    assert execute() == ()
    assert len(tiers.answers) == 1


class Spare:
    """A queue that gives no receipts."""

    def put(self, call):
        return "spare"


def test_best_effort_of_executed_methods():
    """`execute` knows a bound method again, and keeps its object alive no longer than others do."""

    class Service:
        down = False

        def load(self, key):
            if self.down:
                raise ConnectionError
            return [key]

    tiers, service, other = tiered(FallbackStrategy.BEST_EFFORT), Service(), Service()
    assert tiers.execute("small", service.load, 1) == [1]
    Service.down = True
    assert tiers.execute("small", service.load, 1) == [1]
    with pytest.raises(ConnectionError):
        tiers.execute("small", other.load, 1)
    gone = weakref.ref(service)
    del service
    gc.collect()
    assert gone() is None


# Graceful degradation


def test_degraded_paths(face):
    """The decorator's degraded path goes before the tier's, that before the general one; it gets the arguments."""
    general, own, here = (face.path(lambda *args, name=name: (name, *args)) for name in ("general", "own", "here"))
    tiers = TieredTimeout(degraded=general).add_tier(SMALL).add_tier(TimeoutTier("own", 5, 1, 1), degraded=own)
    body = Body(down=True)
    assert face.guard(tiers("small"), body)(7) == ("general", 7)
    assert face.guard(tiers("own"), body)(7) == ("own", 7)
    assert face.guard(tiers("own", degraded=here), body)(7) == ("here", 7)
    assert body.made == 6


def test_degraded_path_takes_the_error():
    """A degraded path with a parameter `error` gets the last error; events and metrics tell of it."""
    tiers, told = tiered(FallbackStrategy.GRACEFUL_DEGRADATION), []

    @tiers("small", degraded=lambda number, error: (number, error.args))
    def call(number):
        return body(number)

    body = Body(down=True)
    with registry.subscribe(told.append, FallbackServed):
        assert call(7) == (7, (2,))
    assert [(event.source, event.error.args) for event in told] == [("fallback", (2,))]
    assert call.policies[0].get_metrics()._asdict() == {
        "limit": 5.0,
        "calls": 1,
        "succeeded": 0,
        "timed_out": 0,
        "retried": 1,
        "degraded": 1,
        "queued": 0,
        "failed": 0,
        "abandoned": 0,
    }


def test_no_degraded_path(face):
    """Without a degraded path the last error passes."""
    with pytest.raises(ConnectionError) as caught:
        face.guard(tiered(FallbackStrategy.GRACEFUL_DEGRADATION)("small"), Body(down=True))()
    assert caught.value.args == (2,)


def test_degraded_path_fails(face):
    """When the degraded path fails too, DegradationError comes from the call's error and holds both."""

    def path():
        raise KeyError("spare")

    told = []
    call = face.guard(tiered(FallbackStrategy.GRACEFUL_DEGRADATION)("small", degraded=face.path(path)), Body(down=True))
    with registry.subscribe(told.append, FallbackFailed), pytest.raises(DegradationError) as caught:
        call()
    assert [type(error) for error in caught.value.errors] == [ConnectionError, KeyError]
    assert caught.value.__cause__ is caught.value.errors[0]
    assert len(told) == 1


def test_failed_degradation_leaves_no_garbage():
    """The error of a failed degraded path goes with its last reference."""

    @tiered(FallbackStrategy.GRACEFUL_DEGRADATION)("small", degraded=lambda: 1 / 0)
    def call():
        raise ConnectionError

    def once():
        try:
            call()
        except DegradationError as error:
            return weakref.ref(error)

    once()
    gc.collect()
    gc.disable()
    try:
        assert once()() is None
    finally:
        gc.enable()


def test_async_path_on_a_sync_function():
    """An async degraded path is refused on a sync function; one that turns out to be async fails."""
    tiers = tiered(FallbackStrategy.GRACEFUL_DEGRADATION, degraded=_await)
    with pytest.raises(TypeError, match="is async and cannot serve a sync function"):
        tiers("small")(divmod)
    sneaky = tiered(FallbackStrategy.GRACEFUL_DEGRADATION)("small", degraded=lambda *_: _await(None))
    with pytest.raises(DegradationError) as caught:
        sneaky.call(divmod, 1, 0)
    assert isinstance(caught.value.errors[1], TypeError)
    tiered(FallbackStrategy.IMMEDIATE_ERROR, degraded=_await)("small")(divmod)


class Service:
    """What a manager calls a DegradableService."""

    def execute_full(self, request):
        raise ConnectionError(request)

    def execute_degraded(self, request):
        return f"little {request}"

    def should_degrade(self):
        return False


class AsyncService:
    """The same, async."""

    async def execute_full(self, request):
        raise ConnectionError(request)

    async def execute_degraded(self, request):
        return f"little {request}"


def test_services():
    """A service, or a method of one, is answered for by its `execute_degraded`; a given path goes before that."""
    tiers = tiered(FallbackStrategy.GRACEFUL_DEGRADATION)
    assert tiers.execute("small", Service(), "x") == "little x"
    assert tiers.execute("small", Service().execute_full, "x") == "little x"
    for fn in (AsyncService(), AsyncService().execute_full):
        assert asyncio.run(tiers.aexecute("small", fn, "x")) == "little x"
    tiers.add_tier(SMALL, degraded=lambda request: f"own {request}")
    assert tiers.execute("small", Service(), "x") == "own x"
    assert TieredTimeout(degraded=Service()).execute("database_query", divmod, 3, 2) == (1, 1)


def test_decorated_methods_of_services():
    """A decorated method of a class with `execute_degraded` is answered for by that, with its own object."""
    tiers = tiered(FallbackStrategy.GRACEFUL_DEGRADATION)

    class Mine(Service):
        @tiers("small")
        def execute_full(self, request):
            raise ConnectionError

        @tiers("small")
        def execute_degraded(self, request):
            if request == "y":
                raise ValueError
            return self, request

    mine = Mine()
    assert mine.execute_full("x") == (mine, "x")
    with pytest.raises(ValueError, match=r"^$"):
        mine.execute_degraded("y")
    assert tiers("small").call(lambda service: service, mine) is mine


# Queue and retry


@pytest.fixture
def queue():
    """Return a queue with short waits."""
    made = MemoryQueue(base_delay=0.01, max_delay=0.02)
    yield made
    assert made.stop(WAIT)


def test_queued(face, queue):
    """The call goes on the queue, the caller gets a receipt, and the same call is made later."""
    body, told = Body(down=True), []
    call = face.guard(tiered(FallbackStrategy.QUEUE_AND_RETRY, queue=queue)("small"), body)
    with registry.subscribe(told.append, CallQueued):
        receipt = call(7, x=1)
    assert isinstance(receipt, Receipt)
    assert [event.id for event in told] == [receipt.id]
    body.down = False
    assert receipt.result(WAIT) == (7, ("x", 1))
    assert call(8) == (8,)


def test_queued_from_a_running_loop(queue):
    """An async call is made later in the loop that it came from, and its receipt is awaited there."""
    tiers, loops, body = tiered(FallbackStrategy.QUEUE_AND_RETRY, queue=queue), [], Body(down=True)

    @tiers("small")
    async def call(number):
        loops.append(asyncio.get_running_loop())
        return body(number)

    async def main():
        receipt = await call(7)
        body.down = False
        return await receipt

    assert asyncio.run(_await(main())) == (7,)
    assert len(set(map(id, loops))) == 1
    assert len(loops) >= 3


def test_queue_limits_each_attempt(queue):
    """An attempt from the queue has the limit of the last try, and its abandoned threads are counted."""
    tiers = tiered(FallbackStrategy.QUEUE_AND_RETRY, queue=queue).add_tier(TimeoutTier("tiny", 0.01, 1, 3.0))
    gate, made = threading.Event(), []

    @tiers("tiny")
    def call():
        made.append(1)
        return len(made) > 4 or gate.wait(WAIT)

    assert call().result(WAIT) is True
    assert call.policies[0].get_metrics().abandoned == 4
    gate.set()


def test_queue_and_other_policies(queue):
    """Attempts from the queue go through the inner policies, and not through the outer ones."""
    tiers, body = tiered(FallbackStrategy.QUEUE_AND_RETRY, queue=queue), Body(down=True)

    @circuit_breaker("out")
    @tiers("small")
    @circuit_breaker("in", failure_threshold=100)
    def call():
        return body()

    receipt = call()
    body.down = False
    assert receipt.result(WAIT) == ()
    metrics = [registry.circuit_breakers[name].get_metrics() for name in ("out", "in")]
    assert [(one.success_count, one.failure_count >= 2) for one in metrics] == [(1, False), (1, True)]


def test_full_queue(face):
    """A full queue is the caller's error, then and there, from the call's own."""
    tiers = tiered(FallbackStrategy.QUEUE_AND_RETRY, queue=MemoryQueue(max_size=1))
    tiers.queue.stop()
    call = face.guard(tiers("small"), Body(down=True))
    assert isinstance(call(), Receipt)
    with pytest.raises(QueueFullError) as caught:
        call()
    assert isinstance(caught.value.__cause__, ConnectionError)


@pytest.mark.parametrize("problem", ["full", "pickling"])
def test_refusals_of_durable_queues(face, tmp_path, problem):
    """What a durable queue refuses with is raised from the call's own error, too."""
    queue = SqliteQueue(tmp_path / "calls.db", max_size=1)
    queue.stop()
    tiers = tiered(FallbackStrategy.QUEUE_AND_RETRY, queue=queue)
    if problem == "full":
        queue.put(QueuedCall.of(int))
        sync, coro, args = socket.create_connection, asyncio.open_connection, (("127.0.0.1", 1),)
    else:
        sync = Body(down=True)
        args = (threading.Lock(),)

        async def coro(*args):
            return sync(*args)

    def refused():
        if not face.is_async:
            return tiers.execute("small", sync, *args)
        return asyncio.run(_await(tiers.aexecute("small", coro, *(args[0] if problem == "full" else args))))

    with pytest.raises(QueueFullError if problem == "full" else ConfigurationError) as caught:
        refused()
    assert isinstance(caught.value.__cause__, ConnectionError)
    assert registry.timeouts["tiers.small"].get_metrics().failed == 1


def test_what_is_not_queued(queue):
    """An error that says it is not retryable passes; `queue=None` means a MemoryQueue of its own."""
    tiers = tiered(FallbackStrategy.QUEUE_AND_RETRY, queue=queue)
    with pytest.raises(ConfigurationError):
        tiers.execute("small", jobs.TIERS.execute, "no such tier", print)
    assert len(queue) == 0
    own = tiered(FallbackStrategy.QUEUE_AND_RETRY)
    assert isinstance(own.queue, MemoryQueue)
    assert own.queue is own.queue


# Durable queues and decorated functions


@pytest.fixture
def durable(tmp_path, monkeypatch):
    """Let the tiers of the jobs use a durable queue, stopped at first, with the jobs' service being down."""
    made = SqliteQueue(tmp_path / "calls.db", **jobs.OPTIONS)
    made.stop()
    monkeypatch.setattr(jobs.TIERS, "_queue", made)
    monkeypatch.setattr(jobs, "DOWN", [1])
    yield made
    assert made.stop(WAIT)


async def _call(fn, *args):
    answer = fn(*args)
    return await answer if asyncio.iscoroutine(answer) else answer


@pytest.mark.parametrize(
    ("make", "answer"),
    [
        (lambda: jobs.guarded, "did x"),
        (lambda: jobs.Service().method, "did x"),
        (lambda: jobs.Service.of, "did x by Service"),
        (lambda: jobs.Service.plain, "did x"),
        (lambda: lambda *args: jobs.TIERS.execute("short", jobs.guarded_body, *args), "did x"),
        (lambda: lambda *args: jobs.TIERS.aexecute("short", jobs.guarded_body, *args), "did x"),
    ],
    ids=["function", "async method", "classmethod", "staticmethod", "execute", "aexecute"],
)
def test_durable_guarded_functions(durable, tmp_path, make, answer):
    """What is decorated is found again by its name, and made with its inner policies only."""
    log = str(tmp_path / "log")
    receipt = asyncio.run(_call(make(), log, "x"))
    assert isinstance(receipt, Receipt)
    made = len(jobs.notes(log))
    jobs.DOWN.clear()
    durable.start()
    assert receipt.result(WAIT) == answer
    assert len(jobs.notes(log)) == made + 1
    assert len(durable) == 0


def test_durable_inner_policies(durable, tmp_path):
    """An attempt from the queue goes through the inner retry, not through the tier or the outer retry."""
    log = str(tmp_path / "log")
    receipt = jobs.guarded(log, "x")
    assert len(jobs.notes(log)) == 2
    durable.start()
    eventually(lambda: receipt.attempts >= 2)
    jobs.DOWN.clear()
    assert receipt.result(WAIT) == "did x"
    assert len(jobs.notes(log)) in range(2 * receipt.attempts + 1, 2 * receipt.attempts + 3)


def test_durable_without_a_name(durable):
    """A function that no name leads to is refused then and there, with the remedy."""

    @jobs.TIERS("short")
    def local():
        raise ConnectionError

    def fail(log, tag):
        raise ConnectionError

    other = retry(max_attempts=1)(jobs.TIERS("short")(jobs.guarded_body))
    fail.__module__, fail.__qualname__ = "queue_jobs", "guarded"
    impostor = jobs.TIERS("short")(fail)
    for call in (local, lambda: other("/dev/null", "x"), lambda: impostor("", "")):
        with pytest.raises(ConfigurationError, match=r"could not find it by its name.*MemoryQueue"):
            call()
    assert len(durable) == 0


def test_durable_function_that_is_not_guarded_any_more(durable, tmp_path, monkeypatch):
    """A call whose function has lost its tier ends as failed, saying so."""
    monkeypatch.setattr(durable.pace, "give_up_after", 0.1)
    receipt = jobs.guarded(str(tmp_path / "log"), "x")
    monkeypatch.setattr(jobs, "guarded", jobs.guarded_body)
    durable.start()
    with pytest.raises(ConfigurationError, match=r"queue_jobs\.guarded is not guarded"):
        receipt.result(WAIT)


def test_lazy_queue_classes():
    """The queue classes can be named without huey's being imported; `RedisQueue` says what a URL is missing."""
    assert issubclass(RedisQueue, object)
    with pytest.raises(ValueError, match="scheme"):
        RedisQueue("localhost")
