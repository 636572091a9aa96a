"""Degrade: which fallback is served for which error, and what the cache remembers."""

import asyncio

import pytest

from resilient import DegradationError, degrade

from .helpers import Failing, Inside, aeventually, in_threads, outcome, revived, run

# The fallback

SPARE = object()


@pytest.mark.parametrize("value", [None, 0, "", (), [], {}, [1, 2], {"a": []}, SPARE], ids=repr)
def test_fallback_value(face, value):
    """Any value, an empty list and None included, is served, and to every caller alike."""
    guarded = degrade(fallback=value)(face.function(Failing()))
    for _ in range(2):
        served = face.call(guarded)
        assert (type(served), served) == (type(value), value)


def test_good_calls_are_not_touched(face):
    """When the call works its answer passes and the fallback is not asked."""
    spare = Failing(None)
    answer = object()
    assert face.call(degrade(fallback=spare)(face.function(lambda: answer))) is answer
    assert spare.calls == 0


def test_fallback_callable_gets_the_arguments(face):
    """A callable fallback is given the call's own arguments."""
    guarded = degrade(fallback=lambda *args, **kwargs: (args, kwargs))(face.function(Failing()))
    assert face.call(guarded, 1, 2, x=3) == ((1, 2), {"x": 3})


def test_fallback_callable_gets_the_error_if_it_takes_it(face):
    """A fallback with a parameter `error` is given the error too."""
    raised = ConnectionError("mine")
    guarded = degrade(fallback=lambda x, *, error: (x, error))(face.function(Failing(raised)))
    assert face.call(guarded, 1) == (1, raised)


def test_fallback_with_an_error_parameter_of_its_own(face):
    """A function whose own keyword is `error` keeps what the caller gave it."""
    guarded = degrade(fallback=lambda **kwargs: sorted(kwargs))(face.function(Failing()))
    assert "x" in face.call(guarded, x=1)


def test_fallback_of_a_method_gets_the_instance(face):
    """On a method the fallback is given the instance first, like the method."""

    class Host:
        name = "host"
        get = degrade(fallback=lambda self, x: (self.name, x))(face.function(Failing()))

    assert face.call(Host().get, 1) == ("host", 1)


def test_async_fallback_is_awaited():
    """An async fallback of an async function is awaited, also as a partial, object or lambda."""

    async def spare(x, prefix="spare"):
        await asyncio.sleep(0)
        return (prefix, x)

    class Spare:
        async def __call__(self, x):
            return await spare(x)

    for fallback in (spare, Spare(), lambda x: spare(x)):  # noqa: PLW0108 - the lambda is the point
        guarded = degrade(fallback=fallback)(_afailing)
        assert run(guarded(1)) == ("spare", 1)


async def _afailing(*args, **kwargs):
    raise ConnectionError("down")


def test_async_fallback_on_a_sync_function_is_refused():
    """An async fallback on a sync function raises TypeError at decoration, alone or in a chain."""

    async def spare(*args):
        return 1

    for fallback in (spare, [spare], [lambda: 1, spare]):
        with pytest.raises(TypeError, match=r"\w"):
            degrade(fallback=fallback)(Failing().__call__)


def test_list_with_a_callable_is_a_chain(face):
    """A list with a callable is tried in order until one works; a plain value in it ends the chain."""
    first, second = Failing(KeyError), Failing(None)
    assert face.call(degrade(fallback=[first, second, "never"])(face.function(Failing()))) == "ok"
    assert (first.calls, second.calls) == (1, 1)
    assert face.call(degrade(fallback=[first, "value"])(face.function(Failing()))) == "value"


def test_all_fallbacks_failed(face):
    """When every fallback fails, DegradationError comes from the first error."""
    raised = ConnectionError("first")
    guarded = degrade(fallback=[Failing(KeyError), Failing(ValueError)], name="d")(face.function(Failing(raised)))
    error = outcome(face.call, guarded)
    assert isinstance(error, DegradationError)
    assert error.__cause__ is raised
    clone = revived(error)
    assert (type(clone), str(clone)) == (DegradationError, str(error))


@pytest.mark.parametrize("on", [KeyError, (KeyError, IndexError), lambda error: isinstance(error, KeyError)])
def test_on_selects(face, on):
    """An error outside `on` passes as itself; one inside is answered by the fallback."""
    raised = ValueError("outside")
    policy = degrade(fallback="spare", on=on)
    assert outcome(face.via, policy, face.function(Failing(raised))) is raised
    assert face.via(policy, face.function(Failing(KeyError))) == "spare"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
def test_stop_signals_pass(error):
    """KeyboardInterrupt, SystemExit, GeneratorExit and cancellation are never answered by a fallback."""
    raised = error("stop")
    assert outcome(degrade(fallback="spare").call, Failing(raised)) is raised


def test_cancelled_call_stays_cancelled():
    """A cancelled task is not given a fallback."""

    async def go():
        task = asyncio.ensure_future(degrade(fallback="spare").acall(asyncio.sleep, 5))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(go())


def test_fallback_limit_bounds_the_fallbacks(face):
    """At most `fallback_limit` fallbacks run at once; beyond it the original error passes, later it is free again."""
    inside, raised = Inside(), ConnectionError("original")
    spare = inside.aenter if face.is_async else inside.enter

    guarded = degrade(fallback=spare, fallback_limit=2)(face.function(Failing(raised)))
    if face.is_async:

        async def go():
            calls = [asyncio.ensure_future(guarded()) for _ in range(6)]
            await aeventually(lambda: sum(call.done() for call in calls) == 4)
            inside.release.set()
            return await asyncio.gather(*calls, return_exceptions=True)

        results = run(go())
    else:
        done = []

        def work(index):
            try:
                return guarded()
            finally:
                done.append(index)
                inside.release.set() if len(done) >= 4 else None

        results = in_threads(6, work)
    assert inside.peak == 2
    assert sum(result is raised for result in results) == 4
    assert face.call(guarded) is None
