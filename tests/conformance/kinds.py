"""Every kind of callable a policy may meet, and the two faces (sync and async) of one test."""

import dataclasses
import functools
import inspect
import threading
from collections.abc import Callable
from typing import Any

from .helpers import gathered, in_threads, run


class Script:
    """What a callable does when called: count, run `during`, fail `failures` times, then answer."""

    def __init__(self, failures=0, error=ConnectionError, answer="ok"):
        self.calls = 0
        self.failures = failures
        self.error = error
        self.answer = answer
        self.during: Callable[[], Any] = lambda: None
        self.lock = threading.Lock()

    def finish(self, number):
        if number <= self.failures:
            raise self.error(f"call {number} fails")
        return self.answer

    def count(self):
        with self.lock:
            self.calls += 1
            return self.calls

    def step(self):
        number = self.count()
        self.during()
        return self.finish(number)

    async def astep(self):
        number = self.count()
        result = self.during()
        if inspect.isawaitable(result):
            await result
        return self.finish(number)


# The four flavours, each as a plain function and as one that is given `self` or `cls` first.


def _sync(script):
    def guarded(x: int = 0) -> str:
        """Answer."""
        return script.step()

    def bound(self, x: int = 0) -> str:
        """Answer."""
        return script.step()

    return guarded, bound


def _async(script):
    async def guarded(x: int = 0) -> str:
        """Answer."""
        return await script.astep()

    async def bound(self, x: int = 0) -> str:
        """Answer."""
        return await script.astep()

    return guarded, bound


def _generator(script):
    def guarded(x: int = 0):
        """Yield the answer, then the end."""
        yield script.step()
        yield "end"

    def bound(self, x: int = 0):
        """Yield the answer, then the end."""
        yield script.step()
        yield "end"

    return guarded, bound


def _async_generator(script):
    async def guarded(x: int = 0):
        """Yield the answer, then the end."""
        yield await script.astep()
        yield "end"

    async def bound(self, x: int = 0):
        """Yield the answer, then the end."""
        yield await script.astep()
        yield "end"

    return guarded, bound


FLAVOURS = {"sync": _sync, "async": _async, "generator": _generator, "async_generator": _async_generator}


# The shapes: how a function becomes the thing that is decorated.


def _function(plain, bound, decorate):
    return decorate(plain)


def _host(attribute):
    return type("Host", (), {"guarded": attribute})()


def _method(plain, bound, decorate):
    return _host(decorate(bound)).guarded


def _classmethod_outside(plain, bound, decorate):
    return _host(classmethod(decorate(bound))).guarded


def _classmethod_inside(plain, bound, decorate):
    return _host(decorate(classmethod(bound))).guarded


def _staticmethod_outside(plain, bound, decorate):
    return _host(staticmethod(decorate(plain))).guarded


def _staticmethod_inside(plain, bound, decorate):
    return _host(decorate(staticmethod(plain))).guarded


def _partial(plain, bound, decorate):
    return decorate(functools.partial(plain, 1))


def _callable_object(plain, bound, decorate):
    return decorate(type("Caller", (), {"__call__": bound})())


def _bound_method(plain, bound, decorate):
    return decorate(_host(bound).guarded)


def _lambda(plain, bound, decorate):
    return decorate(lambda *args: plain(*args))  # noqa: PLW0108 - the lambda is the point


SHAPES = {
    "function": _function,
    "method": _method,
    "classmethod_outside": _classmethod_outside,
    "classmethod_inside": _classmethod_inside,
    "staticmethod_outside": _staticmethod_outside,
    "staticmethod_inside": _staticmethod_inside,
    "partial": _partial,
    "callable_object": _callable_object,
    "bound_method": _bound_method,
    "lambda": _lambda,
}


@dataclasses.dataclass(frozen=True)
class Kind:
    """One flavour in one shape."""

    flavour: str
    shape: str

    def __str__(self):
        return f"{self.flavour}-{self.shape}"

    @property
    def streams(self):
        return "generator" in self.flavour

    def build(self, script, decorate):
        """Return the decorated thing, ready to be called with no argument."""
        return SHAPES[self.shape](*FLAVOURS[self.flavour](script), decorate)

    def start(self, target):
        """Call the target to its end; for the async flavours, return the awaitable that does so."""
        if self.flavour == "sync":
            return target()
        if self.flavour == "generator":
            return list(target())

        async def finish():
            if self.flavour == "async":
                return await target()
            return [item async for item in target()]

        return finish()

    def drive(self, target):
        """Call the target to its end and return what it gave."""
        result = self.start(target)
        return run(result) if inspect.isawaitable(result) else result


# A lambda over a generator function is a plain function that hands out an iterator: not a kind of its own.
KINDS = [Kind(f, s) for f in FLAVOURS for s in SHAPES if not (s == "lambda" and "generator" in f)]
CALL_KINDS = [kind for kind in KINDS if not kind.streams]
STREAM_KINDS = [kind for kind in KINDS if kind.streams]


class Sync:
    """The sync face: functions, `.call`, `with`."""

    name = "sync"
    is_async = False

    def function(self, body, **names):
        """Make a new function that does what `body` does."""

        def guarded(*args, **kwargs):
            return body(*args, **kwargs)

        for name, value in names.items():
            setattr(guarded, name, value)
        return guarded

    def call(self, guarded, *args, **kwargs):
        return guarded(*args, **kwargs)

    def via(self, policy, function, *args, **kwargs):
        return policy.call(function, *args, **kwargs)

    def block(self, policy, body):
        with policy:
            return body()

    def loop(self, policy, body):
        answer = None
        for attempt in policy.attempts():
            with attempt:
                answer = body()
        return answer

    def together(self, guarded, count, **options):
        return in_threads(count, lambda index: guarded(), **options)


class Async:
    """The async face: coroutine functions, `.acall`, `async with`."""

    name = "async"
    is_async = True

    def function(self, body, **names):
        async def guarded(*args, **kwargs):
            result = body(*args, **kwargs)
            return await result if inspect.isawaitable(result) else result

        for name, value in names.items():
            setattr(guarded, name, value)
        return guarded

    def call(self, guarded, *args, **kwargs):
        async def go():
            return await guarded(*args, **kwargs)

        return run(go())

    def via(self, policy, function, *args, **kwargs):
        return run(policy.acall(function, *args, **kwargs))

    def block(self, policy, body):
        async def go():
            async with policy:
                return body()

        return run(go())

    def loop(self, policy, body):
        async def go():
            answer = None
            async for attempt in policy.attempts():
                with attempt:
                    answer = body()
            return answer

        return run(go())

    def together(self, guarded, count):
        return run(gathered(guarded, count))


SYNC, ASYNC = Sync(), Async()
