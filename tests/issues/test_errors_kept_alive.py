"""Our own errors used to be part of a reference cycle, which kept them and the call's arguments until a collection."""

import gc
import threading
import weakref

import pytest

from resilient import (
    CallTimeoutError,
    CircuitOpenError,
    ResilienceError,
    RetriesExhaustedError,
    bulkhead,
    circuit_breaker,
    retry,
    timeout,
)

from .helpers import eventually, run


@pytest.fixture(autouse=True)
def _without_collections():
    """Only what is no part of a cycle goes."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Argument:
    """Something that can be referred to weakly."""


def check_gone(call, expected):
    """Call with an argument, handle the error, and see that both are gone."""

    def handled():
        argument = Argument()
        try:
            call(argument)
        except ResilienceError as error:
            return type(error), weakref.ref(error), weakref.ref(argument)
        raise AssertionError("no error")

    kind, error, argument = handled()
    assert kind is expected
    assert error() is None, "the error is kept alive"
    assert argument() is None, "the argument is kept alive"


async def acheck_gone(call, expected):
    """Await a call with an argument, handle the error, and see that both are gone."""

    async def handled():
        argument = Argument()
        try:
            await call(argument)
        except ResilienceError as error:
            return type(error), weakref.ref(error), weakref.ref(argument)
        raise AssertionError("no error")

    kind, error, argument = await handled()
    assert kind is expected
    assert error() is None, "the error is kept alive"
    assert argument() is None, "the argument is kept alive"


def opened(**options):
    breaker = circuit_breaker(failure_threshold=1, **options)
    with pytest.raises(ZeroDivisionError):
        breaker.call(divmod, 1, 0)
    return breaker


BREAKERS = [opened, lambda: opened(window_duration=60), lambda: opened(slow_call_duration=5)]
KINDS = ["plain", "time window", "slow calls"]


@pytest.mark.parametrize("make", BREAKERS, ids=KINDS)
def test_circuit_open(make):
    """A rejection by an open circuit goes as soon as it is handled: decorated, `call`, generator."""
    breaker = make()
    check_gone(breaker(lambda argument: argument), CircuitOpenError)
    check_gone(lambda argument: breaker.call(id, argument), CircuitOpenError)

    @breaker
    def stream(argument):
        yield argument

    check_gone(lambda argument: next(stream(argument)), CircuitOpenError)


@pytest.mark.parametrize("make", BREAKERS, ids=KINDS)
def test_circuit_open_async(make):
    """A rejection by an open circuit goes as soon as it is handled: decorated, `acall`, async generator."""
    breaker = make()

    @breaker
    async def answer(argument):
        return argument

    async def plain(argument):
        return argument

    @breaker
    async def stream(argument):
        yield argument

    async def go():
        await acheck_gone(answer, CircuitOpenError)
        await acheck_gone(lambda argument: breaker.acall(plain, argument), CircuitOpenError)
        await acheck_gone(lambda argument: stream(argument).__anext__(), CircuitOpenError)

    run(go())


def test_circuit_open_block():
    """A rejection by an open circuit goes as soon as it is handled: `with` and `async with`."""
    breaker = opened()

    def block(argument):
        with breaker:
            pass

    async def ablock(argument):
        async with breaker:
            pass

    check_gone(block, CircuitOpenError)
    run(acheck_gone(ablock, CircuitOpenError))


def test_circuit_open_in_a_bulkhead():
    """A rejection by the breaker that is built into a bulkhead goes too."""
    policy = bulkhead(circuit_breaker=opened())

    @policy
    async def answer(argument):
        return argument

    check_gone(policy(lambda argument: argument), CircuitOpenError)
    run(acheck_gone(answer, CircuitOpenError))


def test_call_timeout():
    """A timeout's error goes as soon as it is handled, and the argument when the abandoned call ends."""
    policy, ended = timeout(0.01), threading.Event()

    @policy
    def work(argument):
        ended.wait(5)

    def handled():
        argument = Argument()
        try:
            work(argument)
        except CallTimeoutError as error:
            return weakref.ref(error), weakref.ref(argument)

    error, argument = handled()
    assert error() is None, "the error is kept alive"
    ended.set()
    eventually(lambda: policy.abandoned == 0)
    eventually(lambda: argument() is None, 1)


@pytest.mark.parametrize("around", [retry(base_delay=0, max_attempts=2), bulkhead(), circuit_breaker()], ids=repr)
def test_call_timeout_through_others(around):
    """It goes as well when it has passed through another policy."""
    ended = threading.Event()

    @around
    @timeout(0.01)
    def work(argument):
        ended.wait(5)

    def handled():
        try:
            work(1)
        except CallTimeoutError as error:
            return weakref.ref(error)

    error = handled()
    assert error() is None, "the error is kept alive"
    ended.set()
    eventually(lambda: not any(getattr(policy, "abandoned", 0) for policy in work.policies))


def test_call_timeout_of_the_other_methods():
    """The errors of `method="cooperative"` and of a limit of 0 go too."""
    check_gone(timeout(0)(lambda argument: argument), CallTimeoutError)
    ended = threading.Event()
    check_gone(timeout(0.005, method="cooperative")(lambda argument: ended.wait(0.01)), CallTimeoutError)


def test_retries_exhausted():
    """The error of a result that stays poor goes as soon as it is handled, sync, async, and in the loop form."""
    policy = retry(retry_on_result=lambda result: True, base_delay=0)

    @policy
    async def answer(argument):
        return argument

    def loop(argument):
        for attempt in policy.attempts():
            with attempt:
                attempt.result = argument

    check_gone(policy(lambda argument: argument), RetriesExhaustedError)
    check_gone(lambda argument: policy.call(lambda: argument), RetriesExhaustedError)
    check_gone(loop, RetriesExhaustedError)
    run(acheck_gone(answer, RetriesExhaustedError))
