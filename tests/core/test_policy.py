"""What all policies have in common: calls, blocks, plain pictures of options, and the warning about blocked loops."""

import asyncio
import enum
import functools
import threading
import warnings
from datetime import timedelta

import pytest

from resilient import bulkhead, circuit_breaker, degrade, registry, retry, timeout
from resilient.policy import BlockPolicy, Composable, Policy, plain, warn_if_loop_blocked
from resilient.wrapping import Kind, describe, kind_of

from .helpers import afail, fail, outcome, run


def items():
    yield from (1, 2)


async def aitems():
    yield 1


async def answer():
    return 1


class Colour(enum.Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "picture"),
    [
        (None, None),
        (True, True),
        (3, 3),
        (2.5, 2.5),
        (float("inf"), None),
        (float("nan"), None),
        ("text", "text"),
        (Colour.RED, "red"),
        (timedelta(minutes=1), 60.0),
        ((1, (2, float("inf"))), [1, [2, None]]),
        (ValueError, "builtins.ValueError"),
        (fail, "core.helpers.fail"),
        ({"secret": 1}, "<dict>"),
        (b"secret", "<bytes>"),
    ],
    ids=str,
)
def test_plain(value, picture):
    """Options become what JSON knows, by name where they are things, and never show what they hold."""
    assert plain(value) == picture or plain(value) == describe(value)
    assert plain(circuit_breaker("b")) == "b"


@pytest.mark.parametrize(
    ("fn", "kind"),
    [
        (fail, Kind.SYNC),
        (afail, Kind.ASYNC),
        (items, Kind.GENERATOR),
        (aitems, Kind.ASYNC_GENERATOR),
        (functools.partial(functools.partial(afail)), Kind.ASYNC),
        (lambda: 1, None),
        (print, Kind.SYNC),
        (int, Kind.SYNC),
    ],
    ids=lambda thing: getattr(thing, "__name__", str(thing)[:20]),
)
def test_kind_of(fn, kind):
    """What calling something gives is known before the call, but for lambdas."""
    assert kind_of(fn) is kind


def test_describe():
    """Callables of all sorts have a name to be told by."""
    assert describe(functools.partial(functools.partial(fail))).endswith("helpers.fail")
    assert describe([].append) == "list.append"
    assert describe(retry()) == "resilient.retry.policy.RetryPolicy"


def test_call_refuses_async_functions():
    """`call` of an async function says what to use, also where only the result shows that it is one."""
    for function in (answer, lambda: answer()):  # noqa: PLW0108 - the lambda hides that it is async
        with pytest.raises(TypeError, match="acall"):
            retry(base_delay=0, max_attempts=1).call(function)


@pytest.mark.parametrize("function", [items, aitems])
def test_acall_refuses_generators(function):
    """`acall` of a generator function says what to do instead."""
    with pytest.raises(TypeError, match="iterate over"):
        run(retry().acall(function))


def test_acall_of_a_plain_function():
    """`acall` takes a plain function too, and a function that returns something to await."""
    assert run(retry().acall(int)) == 0
    assert run(retry().acall(lambda: answer())) == 1  # noqa: PLW0108 - the lambda hides that it is async


@pytest.mark.parametrize("face", ["sync", "async"])
def test_disabled_calls(face):
    """While everything is disabled, `call` and `acall` call the function and nothing else."""
    policy = retry(base_delay=0)
    with registry.disabled():
        assert (policy.call(int) if face == "sync" else run(policy.acall(answer))) in (0, 1)
    assert policy.get_metrics().calls == 0


@pytest.mark.parametrize("make", [retry, circuit_breaker, bulkhead, lambda: degrade(fallback=[3])])
def test_call_of_a_generator_function(make):
    """`call` of a generator function gives a guarded stream."""
    assert list(make().call(items)) == [1, 2]


def test_what_a_policy_must_bring():
    """A policy without layers or numbers of its own says so when used, and guards no generators."""
    bare = Policy(None, "bare")
    for missing in (bare.sync_layer, bare.async_layer):
        with pytest.raises(NotImplementedError):
            missing(fail, None)
    with pytest.raises(NotImplementedError):
        bare.get_metrics()
    with pytest.raises(NotImplementedError):
        Composable().parts  # noqa: B018 - asking is the point
    block = BlockPolicy(None, "block")
    with pytest.raises(NotImplementedError), block:
        pass
    with pytest.raises(NotImplementedError):
        run(block.aenter())
    with pytest.raises(NotImplementedError):
        block.leave(None, None)
    bare.kind = "bare"
    for missing in (bare.generator_layer, bare.async_generator_layer):
        with pytest.raises(TypeError, match="@bare cannot guard"):
            missing(fail, None)


@pytest.mark.parametrize("make", [circuit_breaker, bulkhead])
def test_blocks_left_elsewhere(make):
    """A block entered in one thread and left in another gives its permit back."""
    policy = make()
    entered = threading.Thread(target=policy.__enter__, daemon=True)
    entered.start()
    entered.join(5)
    policy.__exit__(None, None, None)
    assert policy._blocks == []
    if policy.kind == "bulkhead":
        assert policy.active_requests == 0


def test_blocks_in_tasks():
    """Blocks of several tasks on one policy each give back their own permit."""
    policy = bulkhead("h", max_concurrent=5)

    async def block(turns):
        async with policy:
            for _ in range(turns):
                await asyncio.sleep(0)

    async def main():
        await asyncio.gather(*(block(turns) for turns in (5, 1, 3)))

    run(main())
    assert (policy.active_requests, policy._blocks) == (0, [])


def test_block_disabled_between():
    """A block entered while everything is disabled has no permit to give back."""
    breaker = circuit_breaker("b")
    with registry.disabled():
        breaker.__enter__()
    breaker.__exit__(None, None, None)
    assert breaker.get_metrics().success_count == 0


def test_warning_of_a_blocked_loop():
    """A sync wait inside a running loop warns at the caller's line; outside it is silent."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_loop_blocked("something waits")

    async def main():
        with pytest.warns(RuntimeWarning, match="retry .* sleeps inside a running event loop") as caught:
            outcome(retry(base_delay=0.001, max_attempts=2).call, fail)
        return caught[0].filename

    assert run(main()).endswith("helpers.py")


def test_timeouts_describe_themselves():
    """A policy's picture has its kind, name, numbers and options."""
    picture = timeout(5, name="t").describe()
    assert (picture["kind"], picture["name"], picture["limit"]) == ("timeout", "t", 5.0)
    assert picture["config"] == {"limit": 5.0, "method": "thread", "max_abandoned": 64}
