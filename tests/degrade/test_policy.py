"""Fallbacks and the manager: who answers when, what is counted, what passes."""

import asyncio
import functools

import pytest

from resilient import DegradationError, degrade
from resilient.degrade.fallbacks import Fallback, fallbacks

FACES = ["sync", "async"]


def fail(*args, **kwargs):
    raise ConnectionError


def ask(policy, face, body, *args, **kwargs):
    """Make one guarded call, in the way of the face."""

    async def abody(*args, **kwargs):
        return body(*args, **kwargs)

    if face == "sync":
        return policy.call(body, *args, **kwargs)
    return asyncio.run(asyncio.wait_for(policy.acall(abody, *args, **kwargs), 5))


class Manager:
    """Spares the service while told to, and notes what it hears."""

    def __init__(self, degraded=False):
        self.degraded, self.heard = degraded, []

    def is_degraded(self, service):
        self.asked = service
        return self.degraded

    def record(self, service, ok):
        self.heard.append((service, ok))


@pytest.mark.parametrize("face", FACES)
def test_manager_hears_of_outcomes(face):
    """The manager is told of each call that was made, by the service's name."""
    manager = Manager()
    policy = degrade(fallback="spare", manager=manager, service="payments")
    assert [ask(policy, face, int), ask(policy, face, fail)] == [0, "spare"]
    assert manager.heard == [("payments", True), ("payments", False)]


@pytest.mark.parametrize("face", FACES)
def test_degraded_service_is_spared(face):
    """While the manager says so, the answer comes without a call, and nothing is recorded."""
    manager, made = Manager(degraded=True), []
    policy = degrade(fallback="spare", manager=manager, name="d")
    assert ask(policy, face, made.append, 1) == "spare"
    assert (made, manager.heard, manager.asked) == ([], [], "d")
    assert policy.get_metrics().served_fallback == 1


@pytest.mark.parametrize("face", FACES)
def test_degraded_service_without_an_answer(face):
    """A service with nothing in the cache and no fallback is called all the same."""
    manager, cache = Manager(degraded=True), {}
    policy = degrade(cache=cache, manager=manager, name="d")
    assert ask(policy, face, int) == 0
    assert policy.get_metrics() == (1, 0, 0, 0, 0)


@pytest.mark.parametrize("face", FACES)
def test_degraded_service_whose_fallbacks_fail(face):
    """Where the service is spared and the fallbacks fail, their first error is the cause."""
    policy = degrade(fallback=[fail], manager=Manager(degraded=True))
    with pytest.raises(DegradationError) as caught:
        ask(policy, face, int)
    assert isinstance(caught.value.__cause__, ConnectionError)
    assert len(caught.value.errors) == 1


def items(start):
    if start < 0:
        raise ConnectionError
    yield start


async def aitems(start):
    if start < 0:
        raise ConnectionError
    yield start


async def aspare(start):
    yield "async spare"


def collected(function, *args):
    async def acollected():
        return [item async for item in function(*args)]

    return list(function(*args)) if function.__wrapped__ is items else asyncio.run(acollected())


@pytest.mark.parametrize("function", [items, aitems])
@pytest.mark.parametrize("degraded", [False, True])
def test_streams(function, degraded):
    """A stream that fails before its first item, or whose service is spared, gives the fallback's items."""
    guarded = degrade(fallback=["spare"], manager=Manager(degraded))(function)
    assert collected(guarded, -1) == ["spare"]
    assert collected(guarded, 1) == (["spare"] if degraded else [1])


def test_async_streams_fall_back_on_async_streams():
    """An async generator function may be the fallback of one."""
    assert collected(degrade(fallback=aspare)(aitems), -1) == ["async spare"]


@pytest.mark.parametrize("function", [items, aitems])
@pytest.mark.parametrize(("options", "told"), [({"cache": {}}, "cache="), ({"fallback": 3}, "fallback=3")], ids=str)
def test_what_cannot_serve_streams(function, options, told):
    """A cache, or a value that is no iterable, is refused over a generator function."""
    with pytest.raises(TypeError, match=told):
        degrade(**options)(function)


async def aanswer():
    return "spare"


class AsyncCache:
    """Looks like a cache, and is awaited."""

    async def get(self, key): ...

    async def set(self, key, value): ...

    async def delete(self, key): ...


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"fallback": aanswer}, "fallback=.*aanswer"),
        ({"fallback": [1, aspare, print]}, "fallback=.*aspare"),
        ({"cache": AsyncCache()}, "cache="),
    ],
    ids=str,
)
def test_async_helpers_of_sync_functions(options, told):
    """An async fallback or cache is refused over a sync function."""
    with pytest.raises(TypeError, match=told):
        degrade(**options)(items.__get__)


@pytest.mark.parametrize("face", FACES)
def test_fallback_that_returns_a_coroutine(face):
    """A plain fallback that returns a coroutine is awaited over an async function, and has failed over a sync one."""
    policy = degrade(fallback=lambda: aanswer())  # noqa: PLW0108 - the lambda hides that it is async
    if face == "async":
        assert ask(policy, face, fail) == "spare"
        return
    with pytest.raises(DegradationError) as caught:
        ask(policy, face, fail)
    assert [type(error) for error in caught.value.errors] == [ConnectionError, TypeError]


@pytest.mark.parametrize("face", FACES)
def test_fallback_limit(face):
    """While so many fallbacks run, another failed call gets its own error; afterwards they serve again."""
    policy = degrade(fallback=lambda: seen.append(_inner(policy, face)) or "spare", fallback_limit=1)
    seen = []
    assert ask(policy, "sync", fail) == "spare"
    assert seen == [ConnectionError]
    assert ask(degrade(fallback="spare", fallback_limit=1), face, fail) == "spare"
    assert policy.get_metrics().fallbacks_running == 0


def _inner(policy, face):
    try:
        return policy.call(fail)
    except ConnectionError as error:
        return type(error)


@pytest.mark.parametrize("face", FACES)
def test_errors_outside_on(face):
    """An error outside `on` passes, is counted, and asks no fallback."""
    policy = degrade(fallback="spare", on=lambda error: isinstance(error, OSError))
    assert ask(policy, face, fail) == "spare"
    with pytest.raises(KeyError):
        ask(policy, face, {}.__getitem__, 1)
    assert policy.get_metrics() == (0, 0, 1, 1, 0)


def given_error(x, *, error):
    return x, type(error)


@pytest.mark.parametrize(
    ("answer", "takes"),
    [
        (given_error, True),
        (functools.partial(given_error, 1), True),
        (lambda error: error, True),
        (lambda error, /: error, False),
        (lambda **error: error, False),
        (print, False),
        (dict.fromkeys, False),
        (range, False),
        (3, False),
    ],
    ids=lambda thing: getattr(thing, "__name__", str(thing)[:30]),
)
def test_who_takes_the_error(answer, takes):
    """A fallback is given the error only where it can be given by that name."""
    assert Fallback(answer).takes_error is takes


def test_error_is_also_an_argument():
    """Where the call itself has an argument named `error`, the fallback gets that one."""
    fallback = Fallback(lambda error: error)
    assert fallback(ValueError(), (), {"error": "mine"}) == "mine"


@pytest.mark.parametrize(
    ("given", "callables"), [(..., []), ([], [False]), ([1, 2], [False]), ([print, 2], [True, False]), (None, [False])]
)
def test_lists(given, callables):
    """A list with a callable in it is a chain, every other value one answer, and nothing is nothing."""
    assert [fallback.is_callable for fallback in fallbacks(given)] == callables
