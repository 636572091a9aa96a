"""The proxy: what it learns from the first call, how it binds, copies and shows itself."""

import asyncio
import copy
import functools
import inspect
import pickle
from unittest import mock

import pytest

from resilient import circuit_breaker, registry, retry, timeout
from resilient.wrapping import Guarded, GuardedObject, Kind

from .helpers import fail, outcome, run

ANSWERS = []


async def answer(x=1):
    ANSWERS.append(x)
    return x


def hidden(fails=0, function=answer):
    """Make a plain function that returns a coroutine, after so many failures."""
    left = [fails]

    def plain(*args):
        if left[0]:
            left[0] -= 1
            raise ConnectionError
        return function(*args)

    return plain


def test_learning_async():
    """A plain function that returns a coroutine is guarded as async from its first call on, which is made once."""
    breaker = circuit_breaker("b")
    guarded = breaker(hidden())
    ANSWERS.clear()
    assert run(guarded(7)) == 7
    assert (ANSWERS, guarded.settled) == ([7], Kind.ASYNC)
    assert breaker.get_metrics().success_count == 1
    assert [run(guarded(8)), breaker.get_metrics().success_count] == [8, 2]


def test_learning_sync():
    """A plain function that answers is guarded as sync from then on."""
    guarded = circuit_breaker("b")(lambda: 1)
    assert guarded.settled is None
    assert (guarded(), guarded.settled) == (1, Kind.SYNC)


def test_learning_after_a_failure():
    """A plain function that fails first and then returns a coroutine is guarded as async from then on."""
    guarded = circuit_breaker("b")(hidden(fails=1))
    with pytest.raises(ConnectionError):
        guarded()
    assert guarded.settled is None
    assert run(guarded(5)) == 5
    assert guarded.settled is Kind.ASYNC


def test_learning_sync_after_a_failure():
    """A plain function that fails first and then answers is sync from then on."""
    guarded = circuit_breaker("b")(hidden(fails=1, function=int))
    assert isinstance(outcome(guarded), ConnectionError)
    assert (guarded(), guarded.settled) == (0, Kind.SYNC)


def test_learning_what_cannot_be_guarded():
    """When the first call shows that a policy cannot guard the function, that says so, and leaks no coroutine."""
    guarded = timeout(5, method="cooperative")(hidden())
    with pytest.raises(TypeError, match="method='cooperative'"):
        guarded()


class Host:
    """Methods of all kinds."""

    @retry
    def method(self, x=0):
        return self, x

    @classmethod
    @retry
    def of(cls):
        return cls

    partial = retry(functools.partial(int, "7"))


def test_binding():
    """Functions bind as methods do, other callables do not, and from the class the proxy itself is seen."""
    host = Host()
    assert host.method(3) == (host, 3)
    assert isinstance(Host.method, Guarded)
    assert inspect.ismethod(host.method)
    assert (Host.of(), host.of()) == (Host, Host)
    assert host.partial() == 7
    assert isinstance(Host.partial, GuardedObject)


def test_guarding_a_bound_method():
    """Around the bound method of a guarded one, the new policy becomes the outermost of one proxy."""
    host, breaker = Host(), circuit_breaker("b")
    guarded = breaker(host.method)
    assert guarded(2) == (host, 2)
    assert [policy.kind for policy in guarded.policies] == ["circuit_breaker", "retry"]
    assert not isinstance(guarded.__wrapped__.__func__, Guarded)


def test_copies():
    """Copies are the proxy itself, as with functions; pickling goes by name."""
    assert copy.copy(Host.method) is copy.deepcopy(Host.method) is Host.method
    guarded = retry(answer)
    assert (guarded.__reduce__(), guarded.__reduce_ex__(4)) == ("answer", "answer")
    with pytest.raises(pickle.PicklingError, match="no name"):
        pickle.dumps(Host.partial)


def test_repr():
    """A guarded function shows its name and its policies."""
    assert repr(circuit_breaker("b")(fail)).endswith("helpers.fail guarded by <circuit_breaker b>>")


def test_one_proxy_for_many_policies():
    """Decorating a guarded function makes one proxy over the original, and leaves the first one as it is."""
    inner = circuit_breaker("b")(fail)
    outer = retry(base_delay=0)(inner)
    assert outer.__wrapped__ is inner.__wrapped__ is fail
    assert (len(outer.policies), len(inner.policies)) == (2, 1)


def test_decorated_while_disabled():
    """What cannot be guarded is refused also while everything is disabled."""
    with registry.disabled(), pytest.raises(TypeError):
        timeout(1)(_items)


def _items():
    yield 1


@pytest.mark.parametrize(
    "thing",
    [property(fail), functools.cached_property(fail), functools.singledispatchmethod(fail), 3, None, "name", [fail]],
    ids=lambda thing: type(thing).__name__,
)
def test_what_cannot_be_guarded(thing):
    """Descriptors that hide their function, and what cannot be called, are refused with what to do instead."""
    with pytest.raises(TypeError, match="cannot guard"):
        circuit_breaker("b").__call__(thing)


def test_partialmethods():
    """A partialmethod is refused with what to do instead."""
    with pytest.raises(TypeError, match="decorate the method it calls"):
        retry(functools.partialmethod(fail))


@pytest.mark.parametrize("face", ["sync", "async"])
def test_mocks(face):
    """A mock in place of a function is guarded like one, and still a mock."""
    double = mock.Mock(return_value=1) if face == "sync" else mock.AsyncMock(return_value=1)
    guarded = retry(double)
    result = guarded(5) if face == "sync" else asyncio.run(guarded(5))
    assert result == 1
    guarded.assert_called_once_with(5)
