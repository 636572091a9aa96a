"""What policies and registry do not keep alive, do not leave behind, and do not block."""

import asyncio
import gc
import weakref

import pytest

from resilient import bulkhead, circuit_breaker, degrade, retry, timeout

from .helpers import Failing, eventually, outcome, run

POLICIES = {
    "retry": lambda: retry(name="n", base_delay=0),
    "circuit_breaker": lambda: circuit_breaker("n"),
    "bulkhead": lambda: bulkhead("n"),
    "timeout": lambda: timeout(5, name="n"),
    "degrade": lambda: degrade(fallback=1, cache={}, name="n"),
    "unnamed": circuit_breaker,
}
every_policy = pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES.keys())


def dies(reference):
    def gone():
        gc.collect()
        return reference() is None

    eventually(gone, limit=1)


@every_policy
def test_guarded_functions_are_not_kept_alive(policy, face):
    """Policy and registry live on; the guarded function, called or not, dies with its last user."""
    policy = policy()
    function = face.function(lambda: "ok")
    reference = weakref.ref(function)
    guarded = policy(function)
    assert face.call(guarded) == "ok"
    del function, guarded
    dies(reference)
    assert policy.name


@every_policy
def test_functions_given_to_call_are_not_kept_alive(policy, face):
    """A function given to `.call` or `.acall` is not remembered, whether it answers or fails."""
    policy = policy()
    for error in (None, ConnectionError):
        function = face.function(Failing(error))
        reference = weakref.ref(function)
        outcome(face.via, policy, function)
        del function
        dies(reference)


@every_policy
def test_instances_are_not_kept_alive(policy, face):
    """Instances whose guarded methods were called die as usual, and so do their arguments."""

    class Thing:
        pass

    class Host:
        method = policy()(face.function(lambda self, thing: "answer"))

    host, thing = Host(), Thing()
    references = [weakref.ref(host), weakref.ref(thing)]
    assert face.call(host.method, thing) == "answer"
    del host, thing
    for reference in references:
        dies(reference)


def test_event_loops_are_not_kept_alive():
    """No policy keeps an event loop alive in which it was used."""
    policies = [timeout(5, name="t"), bulkhead("b"), circuit_breaker("c"), retry(name="r")]
    references = []

    async def use():
        references.append(weakref.ref(asyncio.get_running_loop()))
        for policy in policies:
            await policy.acall(asyncio.sleep, 0)

    run(use())
    dies(references[0])


# Warnings


@pytest.mark.filterwarnings("error")
def test_rejections_leave_no_coroutine_unawaited(recwarn):
    """A rejected async call never makes a coroutine that nobody awaits."""
    breaker = circuit_breaker("b")
    breaker.isolate()
    closed = bulkhead("h")
    closed.close()
    body = Failing(None)

    async def guarded():
        return body()

    for policy in (breaker, closed, timeout(0, name="t")):
        for function in (guarded, lambda: guarded()):  # noqa: PLW0108 - the lambda is the point
            assert isinstance(outcome(run, policy.acall(function)), Exception)
            assert isinstance(outcome(run, _awaited(policy(function))), Exception)
    gc.collect()
    assert body.calls == 0
    assert [str(warning.message) for warning in recwarn] == []


async def _awaited(function):
    return await function()


def test_running_event_loop_is_never_blocked():
    """While an async call waits for a place, a delay or its limit, the event loop goes on."""
    bulk = bulkhead("b", max_concurrent=1)
    beats = []

    async def heart():
        while True:
            beats.append(1)
            await asyncio.sleep(0.002)

    async def main():
        beating = asyncio.ensure_future(heart())
        async with bulk:
            waiter = asyncio.ensure_future(bulk.acall(asyncio.sleep, 0))
            await asyncio.sleep(0.03)
        await waiter
        before = len(beats)
        with pytest.raises(ConnectionError):
            await retry(base_delay=0.03, max_attempts=2).acall(_failing)
        assert len(beats) > before
        beating.cancel()

    run(main())
    assert len(beats) >= 4


async def _failing():
    raise ConnectionError
