"""A policy whose class has a `call` and `acall` of its own guards by them wherever it stands among others."""

import asyncio

import pytest

from resilient import Pipeline, retry, timeout
from resilient.retry import RetryPolicy
from resilient.testing import simulate


def twice(seen):
    """A retry that makes every call twice."""

    class Twice(RetryPolicy):
        def call(self, fn, /, *args, **kwargs):
            seen.append("call")
            super().call(fn, *args, **kwargs)
            return super().call(fn, *args, **kwargs)

        async def acall(self, fn, /, *args, **kwargs):
            seen.append("acall")
            await super().acall(fn, *args, **kwargs)
            return await super().acall(fn, *args, **kwargs)

    made = retry(max_attempts=3, base_delay=0.01)
    made.__class__ = Twice
    return made


@pytest.mark.parametrize("place", ["alone", "pipeline", "decorator", "stack"])
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_own_methods_are_used(kind, place):
    """In a pipeline, as a decorator and in a stack of decorators, as alone."""
    seen, calls = [], []
    policy = twice(seen)

    def work(x):
        calls.append(x)
        return x

    async def awork(x):
        return work(x)

    fn = work if kind == "sync" else awork
    guarded = {
        "alone": lambda: lambda x: policy.call(fn, x) if kind == "sync" else policy.acall(fn, x),
        "pipeline": lambda: (
            Pipeline(timeout(5, method="cooperative"), policy)(fn)
            if kind == "sync"
            else Pipeline(timeout(5), policy)(fn)
        ),
        "decorator": lambda: policy(fn),
        "stack": lambda: retry(max_attempts=2)(policy(fn)),
    }[place]()
    answer = guarded(7) if kind == "sync" else asyncio.run(guarded(7))
    assert answer == 7
    assert calls == [7, 7]
    assert seen == ["call" if kind == "sync" else "acall"]


def test_a_simulation_uses_them():
    """A simulation of a pipeline with such a policy is another one than without it."""
    seen = []
    simulation = simulate(Pipeline(twice(seen)), outage=(5, 10), load=10, duration=20, seed=1)
    plain = simulate(Pipeline(retry(max_attempts=3, base_delay=0.01)), outage=(5, 10), load=10, duration=20, seed=1)
    assert len(seen) == simulation.calls
    assert simulation.dependency_calls > plain.dependency_calls


def test_half_of_them_is_refused():
    """A pipeline that overrides `call` alone would not be simulated as it is, and is refused."""

    class Own(Pipeline):
        def call(self, fn, /, *args, **kwargs):
            return super().call(fn, *args, **kwargs)

    with pytest.raises(TypeError, match="add an `acall`"):
        simulate(Own(retry()), outage=(5, 10), load=10, duration=20, seed=1)
