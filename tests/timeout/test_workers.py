"""Workers: who gets one, what becomes of an abandoned call, and when a thread leaves."""

import contextlib
import gc
import threading
import weakref

import pytest

from resilient import CallTimeoutError, deadline, remaining_time, timeout
from resilient.timeout import workers
from resilient.timeout.workers import AbandonedCall, Worker, hire

WAIT = 5.0


@pytest.fixture(autouse=True)
def _nobody_idle():
    """Begin with no idle worker, so that a test knows which it gets."""
    workers._idle.clear()
    yield
    workers._idle.clear()


def eventually(condition):
    for _ in range(1000):
        if condition():
            return
        threading.Event().wait(0.005)
    raise AssertionError("the condition never became true")


def test_workers_are_used_again():
    """Calls one after another share one thread, also when they fail."""
    policy, threads = timeout(WAIT), set()

    def work():
        threads.add(threading.get_ident())
        raise LookupError

    for _ in range(20):
        with pytest.raises(LookupError):
            policy.call(work)
    assert len(threads) == 1


def test_abandoned_worker_comes_back():
    """A call that passes its limit keeps its thread until it ends; then both are free, and its answer is dropped."""
    policy, go = timeout(0.02), threading.Event()
    with pytest.raises(CallTimeoutError) as caught:
        policy.call(go.wait, WAIT)
    assert (policy.abandoned, len(workers._idle)) == (1, 0)
    assert caught.value._worker[0].done is False
    go.set()
    eventually(lambda: policy.abandoned == 0)
    assert len(workers._idle) == 1
    assert policy.call(int) == 0


def test_too_many_abandoned():
    """At `max_abandoned` new calls fail at once, without being made, until one has ended."""
    policy, go, made = timeout(0.02, max_abandoned=1), threading.Event(), []
    with pytest.raises(CallTimeoutError):
        policy.call(go.wait, WAIT)
    with pytest.raises(CallTimeoutError, match="1 earlier calls"):
        policy.call(made.append, 1)
    assert made == []
    go.set()
    eventually(lambda: policy.abandoned == 0)
    policy.call(made.append, 2)
    assert made == [2]


def test_call_that_ends_at_the_last_moment():
    """When a call ends while its caller gives up, exactly one of the two wins, and the answer is not lost."""
    worker = hire()
    worker.begin(lambda args, kwargs: "late", (), {}, float("inf"))
    eventually(lambda: not worker._claim)
    assert worker.abandon() is None
    assert worker.collect() == "late"
    assert hire() is worker


def test_interrupted_wait(monkeypatch):
    """Ctrl-C while waiting ends the wait at once; the call goes on as an abandoned one."""
    policy, go = timeout(WAIT), threading.Event()

    class Interrupted:
        def acquire(self, *_):
            raise KeyboardInterrupt

        def release(self):
            pass

    worker = Worker()
    worker.finished = Interrupted()
    workers._idle.append(worker)
    with pytest.raises(KeyboardInterrupt):
        policy.call(go.wait, WAIT)
    assert policy.abandoned == 1
    go.set()
    eventually(lambda: policy.abandoned == 0)


def test_idle_workers_leave(monkeypatch):
    """A worker that nobody wants for a while ends its thread."""
    monkeypatch.setattr(workers, "IDLE_SECONDS", 0.02)
    threads = []
    timeout(WAIT).call(lambda: threads.append(threading.current_thread()))
    threads[0].join(WAIT)
    assert not threads[0].is_alive()
    assert len(workers._idle) == 0


def test_worker_hired_while_leaving(monkeypatch):
    """A worker that is hired in the moment it wants to leave stays and makes the call."""
    monkeypatch.setattr(workers, "IDLE_SECONDS", 0.1)
    worker = hire()  # and so not in the list of the idle, from which it would take itself
    threading.Event().wait(0.13)
    worker.begin(lambda args, kwargs: args[0], ("ok",), {}, float("inf"))
    assert worker.finished.acquire(timeout=WAIT)
    assert worker.collect() == "ok"


def test_idle_workers_keep_nothing_alive():
    """Arguments, answer and exception of a call die with its caller, though the worker lives on."""

    class Thing(Exception):
        pass

    def work(thing, fails):
        if fails:
            raise thing
        return thing

    for fails in (False, True):
        thing = Thing()
        gone = weakref.ref(thing)
        with contextlib.suppress(Thing):
            timeout(WAIT).call(work, thing, fails)
        del thing
        gc.collect()
        assert gone() is None


def test_listeners_of_an_abandoned_call():
    """Who asks before the end is told at the end, who asks after it at once, each once."""
    call, told = AbandonedCall(), []
    call.when_done(lambda: told.append("before"))
    assert told == []
    call.end()
    call.when_done(lambda: told.append("after"))
    call.end()
    assert told == ["before", "after"]


@pytest.mark.parametrize("method", ["thread", "cooperative"])
def test_limit_is_a_deadline_inside(method):
    """What is called sees the limit as its remaining time, and the nearer of limit and deadline counts."""
    assert 0 < timeout(2, method=method).call(remaining_time) <= 2
    with deadline(1):
        assert 0 < timeout(2, method=method).call(remaining_time) <= 1
    assert remaining_time() is None


@pytest.mark.parametrize("method", ["thread", "signal", "cooperative"])
def test_deadline_that_has_passed(method, clock):
    """A call is not made after the deadline."""
    made = []
    with deadline(1):
        clock.tick(2)
        with pytest.raises(CallTimeoutError):
            timeout(5, method=method).call(made.append, 1)
    assert made == []


def test_cooperative(clock):
    """The cooperative method looks when the call returns, and passes its errors on."""
    policy = timeout(1, method="cooperative")
    assert policy.call(lambda: clock.tick(0.5)) is not None
    with pytest.raises(CallTimeoutError):
        policy.call(lambda: clock.tick(2))
    with pytest.raises(LookupError):
        policy.call({}.__getitem__, "key")
    assert policy.get_metrics().timed_out == 1


def test_who_tells_of_a_shared_limit():
    """When an inner timeout stops at the outer one's deadline, only the outer one counts it and gives its name."""
    inner = timeout(5, name="inner")
    outer = timeout(0.03, method="cooperative", name="outer")
    with pytest.raises(CallTimeoutError) as caught:
        outer.call(inner.call, threading.Event().wait, 0.2)
    assert caught.value.name == "outer"
    assert (outer.get_metrics().timed_out, inner.get_metrics().timed_out) == (1, 0)


def test_error_of_an_inner_timeout():
    """An inner timeout's own error passes the outer one as it is."""
    for method in ("thread", "cooperative"):
        with pytest.raises(CallTimeoutError) as caught:
            timeout(5, method=method).call(timeout(0, name="inner").call, int)
        assert caught.value.name == "inner"


def test_after_fork():
    """A forked child has no abandoned calls and a free lock."""
    policy, go = timeout(0.02), threading.Event()
    with pytest.raises(CallTimeoutError):
        policy.call(go.wait, WAIT)
    policy._lock.acquire()
    held, policy._abandoned = policy._lock, 1
    policy.after_fork()
    assert policy.abandoned == 0
    assert policy.call(int) == 0
    held.release()
    go.set()
